//! `gan evaluate`, `gan plot`, `gan inspect` and `gan presets`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gan::{Comparison, Config, Evaluation, PRESETS, Precision, RunDirectory};
use nn::weights::Reader;
use serde_json::json;
use tensor_ops::Scalar;

use crate::failure::Failure;
use crate::train::{open_session, stage_histogram};
use crate::{print, tell};

/// What a run's generator makes now, compared with as many rows of data as the configuration says.
fn comparison_of(run: &RunDirectory, config: Config) -> Result<Comparison, Failure> {
    match config.train.precision {
        Precision::F32 => compare::<f32>(run, config),
        Precision::F64 => compare::<f64>(run, config),
    }
}

fn compare<T: Scalar>(run: &RunDirectory, config: Config) -> Result<Comparison, Failure> {
    let (rows, seed) = (config.evaluate.rows, config.train.seed);
    open_session::<T>(run, config)?.evaluate(rows, seed).map_err(Failure::running)
}

pub(crate) fn evaluate(path: &Path, as_json: bool) -> Result<ExitCode, Failure> {
    let (run, config) = RunDirectory::open(path).map_err(Failure::input)?;
    let result = comparison_of(&run, config)?;
    let evaluation = result.evaluation;
    if as_json {
        let mut object = json!({ "epoch": result.epoch, "numbers": result.real.len() });
        if let (Some(object), Ok(serde_json::Value::Object(figures))) =
            (object.as_object_mut(), serde_json::to_value(evaluation))
        {
            object.extend(figures);
        }
        return print(&format!("{object}\n"));
    }
    let Evaluation { real_mean, real_std, generated_mean, generated_std, ks, wasserstein_1 } = evaluation;
    let numbers = result.real.len();
    print(&format!(
        "epoch {}, {numbers} numbers each\n\n\
         {:<20}{:>10}{:>12}\n\
         {:<20}{real_mean:>10.4}{generated_mean:>12.4}\n\
         {:<20}{real_std:>10.4}{generated_std:>12.4}\n\n\
         Kolmogorov-Smirnov distance  {ks:.4}\n\
         Wasserstein-1 distance       {wasserstein_1:.4}\n",
        result.epoch, "", "real", "generated", "mean", "standard deviation",
    ))
}

pub(crate) fn plot(path: &Path, out: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let (run, config) = RunDirectory::open(path).map_err(Failure::input)?;
    if let Some(out) = &out
        && !["svg", "png"].contains(&crate::plot::ending(out).as_str())
    {
        let problem = "expected a name that ends in .svg or .png";
        return Err(Failure::input(format!("--out {}: {problem}", out.display())));
    }
    let result = comparison_of(&run, config)?;
    let out = match out {
        Some(out) => out,
        None => run.file_in("plots", "histogram.png").map_err(Failure::running)?,
    };
    stage_histogram(&out, &result).map_err(Failure::running)?;
    tell(&format!("{}: histogram of epoch {}", out.display(), result.epoch));
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
    let bytes = std::fs::read(path).map_err(|error| failed(format!("cannot read: {error}")))?;
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
