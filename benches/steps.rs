//! Training the notebook preset: a D step, a G step, and an epoch of 1 D step and 5 G steps, in f32.
//!
//! Each at batch 1, 64 and 1,024, on one thread and on two. The throughput is in samples, the rows that G makes:
//! one batch in a step, six in an epoch. An epoch also draws its data and latents; steps are given theirs.

mod threads;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use gan::{Config, Distribution, Session, Source, preset};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tensor_ops::{Shape, Tensor};

const BATCHES: [usize; 3] = [1, 64, 1_024];
const THREADS: [usize; 2] = [1, 2];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500))
        .nresamples(10_000)
        .configure_from_args();
    discriminator_steps(&mut criterion.benchmark_group("D step, samples"));
    penalised_steps(&mut criterion.benchmark_group("D step with penalty, samples"));
    generator_steps(&mut criterion.benchmark_group("G step, samples"));
    let mut group = criterion.benchmark_group("epoch, samples");
    epochs(group.measurement_time(Duration::from_secs(6)));
    group.finish();
    criterion.final_summary();
}

/// The start of a run of the notebook preset.
fn session(batch: usize) -> Session<f32> {
    let text = preset("notebook").expect("the notebook preset");
    let config = Config::parse(text, &[format!("train.batch={batch}")]);
    config.and_then(Session::new).expect("a configuration that fits")
}

/// A batch of rows, all numbers drawn from one distribution.
fn drawn(distribution: Distribution, row: Shape, batch: usize) -> Tensor<f32> {
    let mut rows = Tensor::zeros(row.with_first(batch).expect("a shape of a few elements"));
    distribution.fill(&mut ChaCha8Rng::seed_from_u64(1), rows.data_mut());
    rows
}

fn discriminator_steps(group: &mut BenchmarkGroup<'_, WallTime>) {
    for batch in BATCHES {
        let mut session = session(batch);
        let (source, latent) = (session.source().clone(), session.config().latent);
        let trainer = session.trainer_mut();
        let Source::Numbers(data) = source else { return };
        let real = drawn(data, trainer.discriminator().input_shape(), batch);
        let latent = drawn(latent.distribution(), trainer.generator().input_shape(), batch);
        measure(group, batch, batch, || {
            trainer.discriminator_step(real.view(), latent.view(), None).expect("a step")
        });
    }
}

/// A D step without and with penalties, in turns: their cost is the ratio.
fn penalised_steps(group: &mut BenchmarkGroup<'_, WallTime>) {
    let penalties =
        [("none", ""), ("r1", "r1=1.0"), ("r1 + r2", "r1=1.0,r2=1.0"), ("wgan_gp", "wgan_gp=1.0")];
    for (name, settings) in penalties {
        let batch = 64;
        let text = preset("notebook").expect("the notebook preset");
        let mut changes = vec![format!("train.batch={batch}"), "train.generator_steps=0".to_owned()];
        changes.extend(settings.split(',').filter(|s| !s.is_empty()).map(|s| format!("penalty.{s}")));
        let config = Config::parse(text, &changes);
        let mut session: Session<f32> = config.and_then(Session::new).expect("a configuration that fits");
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new(name, batch), |bencher| {
            bencher.iter(|| session.run_epoch().expect("a D step"));
        });
    }
}

fn generator_steps(group: &mut BenchmarkGroup<'_, WallTime>) {
    for batch in BATCHES {
        let mut session = session(batch);
        let latent = session.config().latent.distribution();
        let trainer = session.trainer_mut();
        let latent = drawn(latent, trainer.generator().input_shape(), batch);
        measure(group, batch, batch, || trainer.generator_step(latent.view(), None).expect("a step"));
    }
}

fn epochs(group: &mut BenchmarkGroup<'_, WallTime>) {
    for batch in BATCHES {
        let mut session = session(batch);
        let train = &session.config().train;
        let steps = train.discriminator_steps + train.generator_steps;
        measure(group, batch, steps * batch, || session.run_epoch().expect("an epoch"));
    }
}

/// Measures `work`, which makes so many samples, on each number of threads.
fn measure<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    batch: usize,
    samples: usize,
    mut work: impl FnMut() -> R + Send,
) {
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(samples as u64));
    for threads in THREADS {
        let id = BenchmarkId::new(format!("batch {batch}"), format!("threads {threads}"));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|iterations| threads::timed(threads, iterations, &mut work));
        });
    }
}
