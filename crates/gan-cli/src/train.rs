//! `gan train` and `gan resume`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gan::{Config, Precision, RunDirectory, Session, Source, StageRecord, StageResult};
use tensor_ops::{Scalar, with_threads};

use crate::arguments::{ResumeArguments, Running, TrainArguments, interrupted};
use crate::failure::Failure;
use crate::gallery::save_stage;
use crate::pictures::{endings, paths, save_main, write_all};
use crate::progress::{Progress, spoken};
use crate::sample::csv;
use crate::{print, tell};

/// Set by the first Ctrl-C: save and leave. The second one leaves at once.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(crate) fn train(arguments: &TrainArguments) -> Result<ExitCode, Failure> {
    let (name, config) = configuration(arguments)?;
    match config.train.precision {
        Precision::F32 => start::<f32>(arguments, &name, config),
        Precision::F64 => start::<f64>(arguments, &name, config),
    }
}

/// The configuration that the arguments ask for, and what to call its runs.
fn configuration(arguments: &TrainArguments) -> Result<(String, Config), Failure> {
    let mut overrides = arguments.set.clone();
    overrides.extend(arguments.seed.map(|seed| format!("train.seed={seed}")));
    if let Some(path) = &arguments.config {
        let failed = |problem: String| Failure::input(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot read: {error}")))?;
        let config = Config::parse(&text, &overrides).map_err(|error| failed(error.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok((name, config));
    }
    let name = arguments.preset.as_deref().unwrap_or("notebook");
    let text = crate::report::preset(name)?;
    let config =
        Config::parse(text, &overrides).map_err(|error| Failure::input(format!("preset {name}: {error}")))?;
    Ok((name.to_owned(), config))
}

fn start<T: Scalar>(arguments: &TrainArguments, name: &str, config: Config) -> Result<ExitCode, Failure> {
    let session = Session::<T>::new(config).map_err(Failure::input)?;
    if arguments.dry_run {
        tell_note(session.source());
        return print(&description(&session));
    }
    let path = arguments.run.clone().unwrap_or_else(|| free_folder(name));
    let run = RunDirectory::create(&path, session.config()).map_err(|error| match error {
        gan::Error::File { .. } => Failure::input(error),
        _ => Failure::running(error),
    })?;
    if !arguments.running.quiet {
        tell(&format!("{name}: seed {}, into {}", session.config().train.seed, path.display()));
        tell_note(session.source());
    }
    Journey { session, run, seconds: 0.0, train_seconds: 0.0 }.run(&arguments.running)
}

/// Says what a person should know about the data.
fn tell_note(source: &Source) {
    if let Source::Images(images) = source
        && let Some(note) = images.note()
    {
        tell(&format!("data: {note}"));
    }
}

/// The first of runs/NAME-1, runs/NAME-2, ... that does not exist.
fn free_folder(name: &str) -> PathBuf {
    let numbered = (1..).map(|n: u64| Path::new("runs").join(format!("{name}-{n}")));
    let mut free = numbered.skip_while(|path| std::fs::symlink_metadata(path).is_ok());
    free.next().unwrap_or_default()
}

fn description<T: Scalar>(session: &Session<T>) -> String {
    let train = &session.config().train;
    let data = match session.source() {
        Source::Images(images) => {
            let classes = images.facts().classes.as_ref().map(|names| format!(", {} classes", names.len()));
            let (count, shape) = (images.facts().count, images.facts().shape);
            format!("data: {count} images {shape:?}{}\n", classes.unwrap_or_default())
        }
        _ => String::new(),
    };
    format!(
        "{data}generator\n{}\ndiscriminator\n{}\nepochs: {}, in each {} D and {} G steps of batch {}; stages: {}\n",
        session.trainer().generator().summary(),
        session.trainer().discriminator().summary(),
        train.epochs,
        train.discriminator_steps,
        train.generator_steps,
        train.batch,
        session.config().stages(),
    )
}

pub(crate) fn resume(arguments: &ResumeArguments) -> Result<ExitCode, Failure> {
    let (run, config) = RunDirectory::open(&arguments.run).map_err(Failure::input)?;
    match config.train.precision {
        Precision::F32 => continue_run::<f32>(run, config, &arguments.running),
        Precision::F64 => continue_run::<f64>(run, config, &arguments.running),
    }
}

fn continue_run<T: Scalar>(
    run: RunDirectory,
    config: Config,
    running: &Running,
) -> Result<ExitCode, Failure> {
    let session = open_session::<T>(&run, config)?;
    if session.is_done() {
        tell(&format!("{}: all {} epochs are done", run.path().display(), session.epoch()));
        return Ok(ExitCode::SUCCESS);
    }
    let records = run.rewind_records(session.epoch()).map_err(Failure::running)?;
    let (seconds, train_seconds) = records.last().map_or((0.0, 0.0), |r| (r.seconds, r.train_seconds));
    if !running.quiet {
        tell(&format!("{}: going on after epoch {}", run.path().display(), session.epoch()));
    }
    Journey { session, run, seconds, train_seconds }.run(running)
}

/// A run's session where its newest checkpoint left it.
pub(crate) fn open_session<T: Scalar>(run: &RunDirectory, config: Config) -> Result<Session<T>, Failure> {
    restored(run, Session::new(config).map_err(Failure::input)?)
}

/// The same, to draw samples from: the file that its data is in may be gone.
pub(crate) fn open_sampler<T: Scalar>(run: &RunDirectory, config: Config) -> Result<Session<T>, Failure> {
    restored(run, Session::without_data(config).map_err(Failure::input)?)
}

fn restored<T: Scalar>(run: &RunDirectory, mut session: Session<T>) -> Result<Session<T>, Failure> {
    let (path, bytes) = run.newest_checkpoint().map_err(Failure::input)?;
    let failed = |error| Failure::input(format!("{}: {error}", path.display()));
    session.restore(&bytes).map_err(failed)?;
    Ok(session)
}

/// Gives evaluations of labelled images their classifier: the one in the run's folder, or a new one, which is put there.
pub(crate) fn prepare_classifier<T: Scalar>(run: &RunDirectory, session: &mut Session<T>) -> gan::Result<()> {
    let path = run.path().join("classifier.safetensors");
    let known = std::fs::read(&path).ok();
    match session.prepare_classifier(known.as_deref())? {
        Some(weights) => gan::write_atomically(&path, &weights),
        None => Ok(()),
    }
}

/// A run under way: the session, its folder and its clock.
struct Journey<T> {
    session: Session<T>,
    run: RunDirectory,
    seconds: f64,
    train_seconds: f64,
}

impl<T: Scalar> Journey<T> {
    fn run(mut self, running: &Running) -> Result<ExitCode, Failure> {
        ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .map_err(|error| Failure::running(format!("cannot listen for Ctrl-C: {error}")))?;
        let progress = Progress::new(running.quiet, self.session.config().train.epochs, self.session.epoch());
        let outcome = with_threads(running.threads, || self.train(&progress)).map_err(Failure::input)?;
        progress.finish();
        let code = outcome.map_err(Failure::running)?;
        if !running.quiet {
            tell(&self.farewell());
        }
        Ok(code)
    }

    fn train(&mut self, progress: &Progress) -> gan::Result<ExitCode> {
        prepare_classifier(&self.run, &mut self.session)?;
        let stages = self.session.config().stages();
        let begun = Instant::now();
        let earlier = self.seconds;
        let mut trained_from = Instant::now();
        let mut last = None;
        while !self.session.is_done() {
            if INTERRUPTED.load(Ordering::SeqCst) {
                self.save()?;
                return Ok(interrupted());
            }
            self.session.run_epoch()?;
            progress.epoch(self.session.epoch());
            if self.session.stage_is_due() {
                self.train_seconds += trained_from.elapsed().as_secs_f64();
                let result = self.session.finish_stage()?;
                self.seconds = earlier + begun.elapsed().as_secs_f64();
                let record = StageRecord::new(&result, self.seconds, self.train_seconds);
                self.keep_stage(&result, &record)?;
                progress.stage(&result, &record, stages);
                last = Some(result.comparison);
                trained_from = Instant::now();
            }
        }
        if let Some(result) = last {
            write_all(&self.run, &self.session, &result, &self.run.records()?)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Writes what a stage leaves behind; the checkpoint last, so that it vouches for the rest.
    fn keep_stage(&self, result: &StageResult, record: &StageRecord) -> gan::Result<()> {
        let output = &self.session.config().output;
        let stage = format!("stage-{:04}", result.stage);
        if output.stage_plots {
            let paths = paths(&self.run, &stage, endings(self.session.source()))?;
            save_main(&paths, &self.session, &result.comparison)?;
        }
        if let Source::Images(images) = self.session.source()
            && output.stage_samples
        {
            let path = self.run.file_in("samples", &format!("{stage}.png"))?;
            save_stage(&path, &self.session, images)?;
        } else if output.stage_samples {
            let path = self.run.file_in("samples", &format!("{stage}.csv"))?;
            let header = self.session.source().header();
            gan::write_atomically(&path, &csv(header, &result.comparison.generated))?;
        }
        self.run.append_record(record)?;
        self.save()
    }

    fn save(&self) -> gan::Result<()> {
        let keep = self.session.config().output.checkpoints;
        self.run.save_checkpoint(self.session.epoch(), &self.session.to_checkpoint()?, keep)
    }

    fn farewell(&self) -> String {
        let run = self.run.path().display();
        let ending = if let Source::Images(_) = self.session.source() { "png" } else { "csv" };
        let time = spoken(Duration::from_secs_f64(self.seconds));
        if self.session.is_done() {
            format!(
                "done in {time}; pictures: {run}/plots\n\
                 draw samples: gan sample {run} --count 100 --out samples.{ending}"
            )
        } else {
            let epoch = self.session.epoch();
            format!("interrupted after epoch {epoch}, saved; go on: gan resume {run}")
        }
    }
}
