//! `gan sample`.

use std::path::Path;
use std::process::ExitCode;

use gan::{Config, Latent, Precision, RunDirectory, Session, Source, read_npy};
use npyz::WriterBuilder;
use tensor_ops::{Scalar, Tensor};

use crate::arguments::SampleArguments;
use crate::failure::Failure;
use crate::pictures::save_samples;
use crate::plot::ending;
use crate::tell;
use crate::train::open_sampler;

pub(crate) fn sample(arguments: &SampleArguments) -> Result<ExitCode, Failure> {
    if !["csv", "npy", "png"].contains(&ending(&arguments.out).as_str()) {
        let path = arguments.out.display();
        return Err(Failure::input(format!("--out {path}: expected a name that ends in .csv, .npy or .png")));
    }
    if arguments.count == Some(0) {
        return Err(Failure::input("--count: expected at least 1, found 0"));
    }
    if let Some(few) = arguments.interpolate.filter(|&count| count < 2) {
        return Err(Failure::input(format!("--interpolate: expected at least 2, found {few}")));
    }
    if let Some(most) = arguments.truncation.filter(|most| !(*most > 0.0 && most.is_finite())) {
        return Err(Failure::input(format!("--truncation: expected a number > 0, found {most}")));
    }
    let (run, config) = RunDirectory::open(&arguments.run).map_err(Failure::input)?;
    match config.train.precision {
        Precision::F32 => draw::<f32>(arguments, &run, config),
        Precision::F64 => draw::<f64>(arguments, &run, config),
    }
}

fn draw<T: Scalar + npyz::AutoSerialize>(
    arguments: &SampleArguments,
    run: &RunDirectory,
    config: Config,
) -> Result<ExitCode, Failure> {
    let seed = arguments.seed.unwrap_or(config.train.seed);
    let session = open_sampler::<T>(run, config)?;
    let label = arguments.label.as_deref().map(|name| session.class(name)).transpose();
    let label = label.map_err(|error| Failure::input(format!("--{error}")))?;
    // A way between latents is of one class.
    let (steps, classes) = (arguments.interpolate.unwrap_or(1), session.source().classes().unwrap_or(1));
    let class = |row: usize| label.unwrap_or(row / steps % classes);
    let samples = match (&arguments.latent, arguments.count) {
        (Some(path), count) => {
            let latent = read_npy(path).map_err(Failure::input)?;
            let found = latent.shape().first_dim();
            if let Some(count) = count.filter(|&count| count != found) {
                let problem = format!("expected {count} latents, as --count says, found {found}");
                return Err(Failure::input(format!("{}: {problem}", path.display())));
            }
            let failed = |error| Failure::input(format!("{}: {error}", path.display()));
            session.generate(&latent, class).map_err(failed)?
        }
        (None, count) => {
            let latent = fresh_latents(arguments, &session, count.unwrap_or_default(), seed)?;
            session.generate(&latent, class).map_err(Failure::input)?
        }
    };
    write_samples(&arguments.out, &samples, session.source(), arguments.interpolate)
        .map_err(Failure::of_files)?;
    let written = arguments.out.display();
    tell(&format!("{written}: {} samples of epoch {}", samples.shape().first_dim(), session.epoch()));
    Ok(ExitCode::SUCCESS)
}

/// Latents drawn from the seed: `count` of them, or the way between as many pairs.
fn fresh_latents<T: Scalar>(
    arguments: &SampleArguments,
    session: &Session<T>,
    count: usize,
    seed: u64,
) -> Result<Tensor<T>, Failure> {
    let (latent, truncation) = (session.config().latent, arguments.truncation);
    if let (Some(_), Latent::Uniform { .. }) = (truncation, latent) {
        return Err(Failure::input("--truncation: expected a run with normal latents, found uniform ones"));
    }
    let Some(steps) = arguments.interpolate else {
        return session.latents(count, seed, truncation).map_err(Failure::input);
    };
    session.check_room(count.saturating_mul(steps)).map_err(Failure::input)?;
    let ends = session.latents(count.saturating_mul(2), seed, truncation).map_err(Failure::input)?;
    let mut ways = Vec::new();
    for pair in ends.data().chunks_exact(2 * latent.dim()) {
        let (from, to) = pair.split_at(latent.dim());
        let place = |step: usize| step as f64 / (steps - 1) as f64;
        ways.extend((0..steps).flat_map(|step| latent.between(from, to, place(step))));
    }
    Tensor::from_vec([ways.len() / latent.dim(), latent.dim()], ways).map_err(Failure::input)
}

fn write_samples<T: Scalar + npyz::AutoSerialize>(
    path: &Path,
    samples: &Tensor<T>,
    source: &Source,
    in_row: Option<usize>,
) -> gan::Result<()> {
    match ending(path).as_str() {
        "csv" => gan::write_atomically(path, &csv(source.header(), samples)),
        "npy" => gan::write_atomically(path, &npy(path, samples)?),
        _ => save_samples(path, source, &samples.cast(), in_row),
    }
}

/// A line for each sample, its numbers separated by commas, each with as many digits as it takes to read the
/// same number again; before them the header, if there is one.
pub(crate) fn csv<T: Scalar>(header: Option<Vec<&str>>, samples: &Tensor<T>) -> Vec<u8> {
    let row = samples.shape().without_first().len().max(1);
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing into memory cannot fail, and all lines have as many fields.
    if let Some(header) = header {
        let _ = writer.write_record(header);
    }
    for line in samples.data().chunks_exact(row) {
        let _ = writer.write_record(line.iter().map(ToString::to_string));
    }
    writer.into_inner().unwrap_or_default()
}

fn npy<T: Scalar + npyz::AutoSerialize>(path: &Path, samples: &Tensor<T>) -> gan::Result<Vec<u8>> {
    let shape: Vec<u64> = samples.shape().iter().map(|&size| size as u64).collect();
    let mut bytes = Vec::new();
    let mut write = || -> std::io::Result<()> {
        let mut writer =
            npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd()?;
        writer.extend(samples.data().iter().copied())?;
        writer.finish()
    };
    let action = "encode the samples";
    write().map_err(|source| gan::Error::Io { path: path.to_owned(), action, source })?;
    Ok(bytes)
}
