//! `cargo xtask reproduce`: trains the presets that require something with all their seeds, and writes the table that
//! the README quotes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::peers::median;
use crate::{Outcome, cargo, not_started, run};

/// The presets, each with how many seeds from 0.
const PRESETS: [(&str, u64); 8] = [
    ("normal", 20),
    ("normal-set", 10),
    ("mixture", 10),
    ("lognormal", 10),
    ("student-t", 10),
    ("ring", 10),
    ("grid", 10),
    ("digits", 10),
];
/// The exit code of `gan evaluate` for a run that misses a bound.
const MISSED: i32 = 3;

/// A bound on a measure.
#[derive(Debug, Clone, PartialEq)]
struct Bound {
    name: String,
    value: f64,
    found: Vec<f64>,
}

/// All runs of one preset.
#[derive(Default)]
struct Runs {
    bounds: Vec<Bound>,
    seconds: Vec<f64>,
    met: usize,
}

/// Runs the presets named, or all.
pub(crate) fn reproduce(target: &Path, names: &[String]) -> Outcome {
    if let Some(unknown) = names.iter().find(|name| PRESETS.iter().all(|(known, _)| known != *name)) {
        let known: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
        return Err(format!("reproduce: expected presets of {}, found `{unknown}`", known.join(", ")));
    }
    run("reproduce", &mut cargo(&["build", "--release", "--package", "gan-cli", "--locked"]))?;
    let program = target.join("release").join("gan");
    let folder = target.join("reproduce");
    let mut table = "| preset | seeds that meet it | required | worst | median | slowest run |\n\
                     | --- | ---: | --- | --- | --- | ---: |\n"
        .to_owned();
    let mut all_met = true;
    for (preset, seeds) in PRESETS {
        if !names.is_empty() && !names.iter().any(|name| name == preset) {
            continue;
        }
        let mut runs = Runs::default();
        for seed in 0..seeds {
            runs.add(&program, &folder.join(format!("{preset}-{seed}")), preset, seed)?;
        }
        all_met &= runs.met as u64 == seeds;
        table += &runs.row(preset, seeds);
    }
    let path = target.join("reproduce.md");
    fs::write(&path, &table).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("\n{table}\n{}", path.display());
    Ok(u8::from(!all_met))
}

impl Runs {
    /// Trains with one seed and measures.
    fn add(&mut self, program: &Path, folder: &Path, preset: &str, seed: u64) -> Result<(), String> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let begun = Instant::now();
        let seed = seed.to_string();
        let path = folder.to_string_lossy();
        let (status, _) =
            gan(program, &["train", "--quiet", "--preset", preset, "--seed", &seed, "--run", &path])?;
        if status != Some(0) {
            return Err(format!("reproduce: gan train --preset {preset} --seed {seed}: it failed"));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let (status, text) = gan(program, &["evaluate", "--json", &path])?;
        let (Some(required), Some(found), Some(0 | MISSED)) =
            (numbers(&text, "required"), numbers(&text, "found"), status)
        else {
            return Err(format!(
                "reproduce: gan evaluate --json {path}: expected what is required and found"
            ));
        };
        let mut report = format!("{preset:<12} seed {seed:>2}  {seconds:>6.1} s");
        for (place, ((name, value), (_, found))) in required.into_iter().zip(found).enumerate() {
            let _ = write!(report, "  {name} {found:.4}");
            if self.bounds.len() <= place {
                self.bounds.push(Bound { name, value, found: Vec::new() });
            }
            self.bounds[place].found.push(found);
        }
        let met = status == Some(0);
        self.met += usize::from(met);
        self.seconds.push(seconds);
        println!("{report}  {}", if met { "ok" } else { "MISSED" });
        Ok(())
    }

    /// The row of the table.
    fn row(&self, preset: &str, seeds: u64) -> String {
        let cells =
            |cell: &dyn Fn(&Bound) -> String| self.bounds.iter().map(cell).collect::<Vec<_>>().join("<br>");
        let required =
            cells(&|b| format!("{} {} {}", b.name, if b.is_score() { ">=" } else { "<=" }, b.value));
        let worst = cells(&|b| format!("{:.4}", b.sorted().last().copied().unwrap_or(f64::NAN)));
        let median = cells(&|b| format!("{:.4}", median(&b.found)));
        let slowest = self.seconds.iter().copied().fold(0.0, f64::max);
        format!(
            "| `{preset}` | {} of {seeds} | {required} | {worst} | {median} | {slowest:.1} s |\n",
            self.met
        )
    }
}

impl Bound {
    /// Whether more is better.
    fn is_score(&self) -> bool {
        ["modes", "high_quality", "precision", "recall", "density", "coverage"].contains(&self.name.as_str())
    }

    /// What was found, from the best to the worst.
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.found.clone();
        sorted.sort_by(f64::total_cmp);
        if self.is_score() {
            sorted.reverse();
        }
        sorted
    }
}

/// Runs `gan`: its exit code and what it prints.
fn gan(program: &Path, args: &[&str]) -> Result<(Option<i32>, String), String> {
    let mut command = Command::new(program);
    let output = command.args(args).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| not_started(&format!("gan {}", args.join(" ")), &error))?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The numbers of an object in JSON text, by its key.
fn numbers(text: &str, key: &str) -> Option<Vec<(String, f64)>> {
    let (_, rest) = text.split_once(&format!("\"{key}\":{{"))?;
    let entries = rest[..rest.find('}')?].split(',').filter(|entry| !entry.is_empty());
    let entry = |entry: &str| {
        let (name, value) = entry.split_once(':')?;
        Some((name.trim_matches('"').to_owned(), value.parse().ok()?))
    };
    entries.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_an_object() {
        let text = r#"{"ks":1,"required":{"ks":0.25,"modes":8.0},"found":{},"bad":{"ks":x}}"#;
        let expected = [("ks", 0.25), ("modes", 8.0)].map(|(name, value)| (name.to_owned(), value));
        assert_eq!(numbers(text, "required"), Some(expected.to_vec()));
        assert_eq!(
            [numbers(text, "found"), numbers(text, "bad"), numbers(text, "none")],
            [Some(Vec::new()), None, None]
        );
    }

    #[test]
    fn the_worst_of_a_score_is_the_least() {
        let bound = |name: &str| Bound { name: name.to_owned(), value: 0.0, found: vec![2.0, 3.0, 1.0] };
        assert_eq!(bound("ks").sorted(), [1.0, 2.0, 3.0]);
        assert_eq!(bound("modes").sorted(), [3.0, 2.0, 1.0]);
    }

    #[test]
    fn a_row_has_the_worst_and_the_median() {
        let bounds = vec![Bound { name: "ks".to_owned(), value: 0.01, found: vec![0.02, 0.004, 0.006] }];
        let runs = Runs { bounds, seconds: vec![1.0, 2.5, 2.0], met: 2 };
        let row = "| `normal` | 2 of 3 | ks <= 0.01 | 0.0200 | 0.0060 | 2.5 s |\n";
        assert_eq!(runs.row("normal", 3), row);
    }
}
