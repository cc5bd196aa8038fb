//! What a person sees while a run trains: on a terminal a bar with the current figures and a histogram below it,
//! otherwise a plain line for each stage.

use std::fmt::Write;
use std::time::Duration;

use gan::{Comparison, StageRecord, StageResult};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::plot::{Series, terminal_histogram};
use crate::tell;

/// Narrower terminals get no histogram.
const HISTOGRAM_WIDTH: usize = 60;
/// Wider ones get none that is wider than this.
const WIDEST_HISTOGRAM: usize = 110;

/// The display of one run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// A display for a run that has `done` of `epochs` behind it.
    pub(crate) fn new(quiet: bool, epochs: u64, done: u64) -> Self {
        let terminal = !quiet && console_width().is_some();
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(epochs), ProgressDrawTarget::stderr_with_hz(10));
            let template =
                "{bar:30} {percent:>3} %  epoch {human_pos} of {human_len}  {rate}  {eta} left\n{msg}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0} epochs/s", state.per_sec());
            }));
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        Self { bar, quiet }
    }

    /// Says something that stays on the screen.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(line)),
            None if !self.quiet => tell(line),
            None => {}
        }
    }

    /// Shows how far the run is.
    pub(crate) fn epoch(&self, epoch: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(epoch);
        }
    }

    /// Shows what a stage gave.
    pub(crate) fn stage(&self, result: &StageResult, record: &StageRecord, stages: u64) {
        let line = stage_line(record, stages);
        match (&self.bar, console_width()) {
            // A histogram says something of single numbers alone.
            (Some(bar), Some(width)) if width >= HISTOGRAM_WIDTH && record.measures.contains_key("ks") => {
                let fits = line.chars().count() < width;
                let line = if fits { line } else { line.replace("  D loss", "\nD loss") };
                bar.set_message(format!("{line}\n\n{}", histogram(&result.comparison, width)));
            }
            (Some(bar), _) => bar.set_message(line),
            _ => self.say(&line),
        }
    }

    /// Takes the bar away and leaves the last figures on the screen.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            let message = bar.message();
            bar.finish_and_clear();
            if !message.is_empty() {
                tell(&message);
            }
        }
    }
}

/// The terminal's width in columns, where stderr is one.
fn console_width() -> Option<usize> {
    let terminal = console::Term::stderr();
    terminal.is_term().then(|| usize::from(terminal.size().1))
}

fn histogram(result: &Comparison, width: usize) -> String {
    let series = [
        Series { name: "real", values: &result.real },
        Series { name: "generated", values: result.generated.data() },
    ];
    terminal_histogram(&series, (width - 1).min(WIDEST_HISTOGRAM), true)
}

/// The figures of a stage in one line.
pub(crate) fn stage_line(record: &StageRecord, stages: u64) -> String {
    let digits = stages.to_string().len();
    let mut line = format!("stage {:>digits$}/{stages}  epoch {:>6}", record.stage, record.epoch);
    let has = |name: &str| record.measures.contains_key(name);
    if has("generated_mean") {
        let [mean, std, made_mean, made_std] =
            ["real_mean", "real_std", "generated_mean", "generated_std"].map(|name| record.figure(name));
        let _ = write!(line, "  real {mean:.3} ± {std:.3}  generated {made_mean:.3} ± {made_std:.3}");
    }
    for (name, short, digits) in [
        ("ks", "KS", 3),
        ("wasserstein_1", "W1", 3),
        ("modes", "modes", 0),
        ("high_quality", "high quality", 3),
        ("reverse_kl", "KL", 3),
        ("sliced_wasserstein", "sliced W1", 3),
        ("coverage", "coverage", 3),
        ("generated_nearest_distance", "nearest", 2),
        ("real_nearest_distance", "of real", 2),
    ] {
        if has(name) {
            let _ = write!(line, "  {short} {:.digits$}", record.figure(name));
        }
    }
    let StageRecord { d_loss, d_accuracy, g_loss, .. } = record;
    let _ = write!(line, "  D loss {d_loss:.3}  D accuracy {d_accuracy:.2}  G loss {g_loss:.3}");
    line
}

/// A duration as people say it.
pub(crate) fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}
