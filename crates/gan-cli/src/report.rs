//! `gan evaluate`, `gan plot`, `gan inspect` and `gan presets`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gan::{
    Comparison, Config, Evaluation, Kind, Measure, PRESETS, Precision, RunDirectory, Session, figures,
    read_npy,
};
use nn::weights::Reader;
use serde_json::json;
use tensor_ops::Scalar;

use crate::failure::Failure;
use crate::pictures::{endings, save_main, write_all};
use crate::train::{open_session, prepare_classifier};
use crate::{print, tell};

/// The exit code of an evaluation that misses what the configuration requires.
const MISSED: u8 = 3;

/// A run's session, and what its generator makes now, compared with as many rows of data as the configuration says; or, in
/// the place of those, samples from a file.
fn compare<T: Scalar>(
    run: &RunDirectory,
    config: Config,
    samples: Option<&Path>,
) -> Result<(Session<T>, Comparison), Failure> {
    let (rows, seed) = (config.evaluate.rows, config.train.seed);
    let from_file = samples.map(|path| Ok((path, read_npy(path).map_err(Failure::input)?))).transpose()?;
    let mut session = open_session::<T>(run, config)?;
    prepare_classifier(run, &mut session, tell).map_err(Failure::of_files)?;
    let result = match from_file {
        Some((path, samples)) => {
            let failed = |error| match error {
                gan::Error::Setting { .. } => Failure::input(format!("{}: {error}", path.display())),
                other => Failure::of_files(other),
            };
            session.evaluate_samples(samples, seed).map_err(failed)?
        }
        None => session.evaluate(rows, seed).map_err(Failure::of_files)?,
    };
    Ok((session, result))
}

pub(crate) fn evaluate(path: &Path, samples: Option<&Path>, as_json: bool) -> Result<ExitCode, Failure> {
    let (run, config) = RunDirectory::open(path).map_err(Failure::input)?;
    let bounds = config.evaluate.require.clone();
    let result = match config.train.precision {
        Precision::F32 => compare::<f32>(&run, config, samples)?.1,
        Precision::F64 => compare::<f64>(&run, config, samples)?.1,
    };
    let evaluation = &result.evaluation;
    let missed = missed(evaluation, &bounds);
    if as_json {
        let mut object = json!({ "epoch": result.epoch, "count": evaluation.count });
        if let Some(object) = object.as_object_mut() {
            object.extend(figures(evaluation));
            let found = |name: &String| Some((name.clone(), json!(evaluation.get(name)?.shown())));
            let found: serde_json::Map<_, _> = bounds.keys().filter_map(found).collect();
            object.insert("required".to_owned(), json!(bounds));
            object.insert("found".to_owned(), json!(found));
            object.insert("missed".to_owned(), json!(missed.iter().map(|(m, _)| m.name).collect::<Vec<_>>()));
        }
        print(&format!("{object}\n"))?;
    } else {
        print(&table(result.epoch, evaluation, &missed))?;
    }
    if missed.is_empty() { Ok(ExitCode::SUCCESS) } else { Ok(ExitCode::from(MISSED)) }
}

/// The measures that miss their bounds, with those.
fn missed<'a>(evaluation: &'a Evaluation, bounds: &BTreeMap<String, f64>) -> Vec<(&'a Measure, f64)> {
    let bounds = bounds.iter().filter_map(|(name, &bound)| Some((evaluation.get(name)?, bound)));
    bounds.filter(|(measure, bound)| !measure.reaches(*bound)).collect()
}

/// The measures of an evaluation, statistics first, and what fell short.
fn table(epoch: u64, evaluation: &Evaluation, missed: &[(&Measure, f64)]) -> String {
    let mut text = format!("epoch {epoch}, {} samples beside real data\n", evaluation.count);
    let (statistics, others): (Vec<_>, Vec<_>) =
        evaluation.measures.iter().partition(|measure| matches!(measure.kind, Kind::Statistic(_)));
    if !statistics.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<24}{:>12}{:>12}{:>12}{:>12}",
            "statistic", "real", "generated", "difference", "floor"
        );
    }
    for measure in statistics {
        let Measure { name, kind, value, floor } = measure;
        let real = if let Kind::Statistic(real) = kind { *real } else { f64::NAN };
        let [real, value, difference, floor] = [real, *value, measure.shown(), *floor].map(rounded);
        let _ = writeln!(text, "{name:<24}{real:>12.4}{value:>12.4}{difference:>12.4}{floor:>12.4}");
    }
    let _ = writeln!(text, "\n{:<24}{:>12}{:>12}  better", "measure", "value", "floor");
    for Measure { name, kind, value, floor } in others {
        let [value, floor] = [*value, *floor].map(rounded);
        let better = if *kind == Kind::Score { "higher" } else { "lower" };
        let _ = writeln!(text, "{name:<24}{value:>12.4}{floor:>12.4}  {better}");
    }
    text += "\nfloor: what a perfect sampler shows on average at this sample size\n";
    if !missed.is_empty() {
        let _ = writeln!(text, "\n{:<24}{:>12}{:>12}", "fell short", "found", "required");
    }
    for (measure, bound) in missed {
        let sign = if measure.kind == Kind::Score { ">=" } else { "<=" };
        let required = format!("{sign} {bound}");
        let _ = writeln!(text, "{:<24}{:>12.4}{required:>12}", measure.name, measure.shown());
    }
    text
}

/// To the four places that a table shows, so that what is nearly 0 has no sign.
fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4 + 0.0
}

pub(crate) fn plot(path: &Path, out: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let (run, config) = RunDirectory::open(path).map_err(Failure::input)?;
    if let Some(out) = &out
        && !["svg", "png"].contains(&crate::plot::ending(out).as_str())
    {
        let problem = "expected a name that ends in .svg or .png";
        return Err(Failure::input(format!("--out {}: {problem}", out.display())));
    }
    match config.train.precision {
        Precision::F32 => draw::<f32>(&run, config, out),
        Precision::F64 => draw::<f64>(&run, config, out),
    }
}

/// Draws one picture into a file, or all into the run's folder.
fn draw<T: Scalar>(run: &RunDirectory, config: Config, out: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let (session, result) = compare::<T>(run, config, None)?;
    let written = match out {
        Some(out) if !endings(session.source()).contains(&crate::plot::ending(&out).as_str()) => {
            let problem = "expected a name that ends in .png, for images";
            return Err(Failure::input(format!("--out {}: {problem}", out.display())));
        }
        Some(out) => {
            let written = vec![out];
            save_main(&written, &session, &result).map_err(Failure::running)?;
            written
        }
        None => {
            let records = run.records().map_err(Failure::input)?;
            write_all(run, &session, &result, &records).map_err(Failure::of_files)?
        }
    };
    for path in written {
        tell(&format!("{}: epoch {}", path.display(), result.epoch));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn inspect(path: &Path, as_json: bool) -> Result<ExitCode, Failure> {
    if !path.is_dir() {
        return inspect_file(path, as_json);
    }
    let (run, config) = RunDirectory::open(path).map_err(Failure::input)?;
    match config.train.precision {
        Precision::F32 => inspect_run::<f32>(&run, config, as_json),
        Precision::F64 => inspect_run::<f64>(&run, config, as_json),
    }
}

fn inspect_run<T: Scalar>(run: &RunDirectory, config: Config, as_json: bool) -> Result<ExitCode, Failure> {
    let session = open_session::<T>(run, config)?;
    let checkpoints = run.checkpoint_epochs().map_err(Failure::input)?;
    let record = run.records().map_err(Failure::input)?.pop();
    if as_json {
        let config = serde_json::to_value(session.config()).unwrap_or_default();
        let object = json!({
            "epoch": session.epoch(),
            "checkpoints": checkpoints,
            "last_stage": record,
            "config": config,
        });
        return print(&format!("{object}\n"));
    }
    let mut text = format!("epoch {} of {}\n", session.epoch(), session.config().train.epochs);
    let names: Vec<String> = checkpoints.iter().map(u64::to_string).collect();
    let _ = writeln!(text, "checkpoints: {}", names.join(", "));
    if let Some(record) = record {
        let _ = writeln!(text, "{}", crate::progress::stage_line(&record, session.config().stages()));
    }
    let trainer = session.trainer();
    let _ = write!(text, "\ngenerator\n{}", trainer.generator().summary());
    let _ = write!(text, "\ndiscriminator\n{}", trainer.discriminator().summary());
    print(&text)
}

fn inspect_file(path: &Path, as_json: bool) -> Result<ExitCode, Failure> {
    let failed = |problem: String| Failure::input(format!("{}: {problem}", path.display()));
    let bytes = gan::read(path, u64::MAX).map_err(Failure::input)?;
    let tensors = Reader::new(&bytes).map_err(|error| failed(error.to_string()))?.tensors();
    if as_json {
        let list: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape)| json!({ "name": name, "dtype": dtype, "shape": shape }))
            .collect();
        return print(&format!("{}\n", json!(list)));
    }
    let width = tensors.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let lines = tensors.iter().map(|(name, dtype, shape)| format!("{name:<width$}  {dtype}  {shape:?}\n"));
    print(&lines.collect::<String>())
}

/// The TOML of a preset.
pub(crate) fn preset(name: &str) -> Result<&'static str, Failure> {
    gan::preset(name).ok_or_else(|| {
        let known: Vec<&str> = PRESETS.iter().map(|(name, ..)| *name).collect();
        Failure::input(format!("preset {name}: expected one of {}, found no such preset", known.join(", ")))
    })
}

pub(crate) fn presets(name: Option<&str>) -> Result<ExitCode, Failure> {
    match name {
        Some(name) => print(preset(name)?),
        None => {
            let lines = PRESETS.iter().map(|(name, what, _)| format!("{name:<12} {what}\n"));
            print(&lines.collect::<String>())
        }
    }
}
