//! A run of a whole configuration: its networks, its random streams and its place.

mod checkpoint;
mod comparison;
mod functions;

use nn::layers::LayerConfig;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor};

pub use comparison::Comparison;

use crate::evaluate::{self, Classifier, Floor};
use crate::memory::is_there;
use crate::{Config, Distribution, Error, Result, Source, StepScore, Trainer};

/// How many rows are generated at a time, which bounds the memory of a large sample.
const SAMPLE_ROWS: usize = 1024;

/// The streams of random numbers, all from one seed, none of which disturbs another.
const NETWORK_STREAM: u64 = 0;
const DATA_STREAM: u64 = 1;
const LATENT_STREAM: u64 = 2;
const EVALUATION_STREAM: u64 = 3;
const SAMPLE_STREAM: u64 = 4;
const FLOOR_STREAM: u64 = 5;

/// A run in progress.
#[derive(Debug)]
pub struct Session<T> {
    config: Config,
    source: Source,
    floor: Option<Floor>,
    trainer: Trainer<T>,
    data_stream: ChaCha8Rng,
    latent_stream: ChaCha8Rng,
    evaluation_stream: ChaCha8Rng,
    epoch: u64,
    step: usize,
    sums: StageSums,
    real: Tensor<T>,
    latent: Tensor<T>,
    mixing: Tensor<T>,
    labels: Vec<usize>,
    classifier: Option<Classifier>,
}

/// What a stage gave.
#[derive(Debug, Clone)]
pub struct StageResult {
    /// The stage's number, from 1.
    pub stage: u64,
    /// D's mean loss over the stage's steps, each taken before its update.
    pub d_loss: f64,
    /// D's mean accuracy over the stage's steps, from 0 to 1.
    pub d_accuracy: f64,
    /// G's mean loss over the stage's steps.
    pub g_loss: f64,
    /// What G makes at the end of the stage.
    pub comparison: Comparison,
}

/// Sums over the steps of a stage so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct StageSums {
    d_loss: f64,
    d_accuracy: f64,
    d_steps: u64,
    g_loss: f64,
    g_steps: u64,
}

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

impl<T: Scalar> Session<T> {
    /// The start of a run.
    ///
    /// # Errors
    /// Where the configuration's networks cannot work or do not fit, and where its data cannot be read.
    pub fn new(config: Config) -> Result<Self> {
        config.check()?;
        config.check_memory::<T>()?;
        let source = config.data.open()?;
        Self::with_source(config, source)
    }

    /// A run that is to be restored from a checkpoint and then sampled from, but not to go on: a file that the data is
    /// in is not read.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn without_data(config: Config) -> Result<Self> {
        config.check()?;
        config.check_memory::<T>()?;
        let source = config.data.without_rows()?;
        Self::with_source(config, source)
    }

    fn with_source(config: Config, source: Source) -> Result<Self> {
        let seed = config.train.seed;
        let (generator, discriminator) = config.build(&mut stream(seed, NETWORK_STREAM))?;
        let optimizer = config.optimizer;
        let mut trainer = Trainer::new(
            (generator, optimizer.generator),
            (discriminator, optimizer.discriminator),
            config.rules(),
        )?;
        if let Some(decay) = config.train.ema_decay {
            let (generator, _) = config.build(&mut stream(seed, NETWORK_STREAM))?;
            trainer.keep_average(generator, decay)?;
        }
        check_data(&config, &source, trainer.generator().output_shape())?;
        let shape = |row: Shape| row.with_first(config.train.batch).map_err(nn::Error::from);
        let real = shape(trainer.generator().output_shape()).map_err(Error::network("train.batch"))?;
        let latent = shape(trainer.generator().input_shape()).map_err(Error::network("train.batch"))?;
        Ok(Self {
            source,
            floor: None,
            trainer,
            data_stream: stream(seed, DATA_STREAM),
            latent_stream: stream(seed, LATENT_STREAM),
            evaluation_stream: stream(seed, EVALUATION_STREAM),
            epoch: 0,
            step: 0,
            sums: StageSums::default(),
            real: Tensor::zeros(real),
            mixing: Tensor::zeros([config.train.batch / config.train.packing]),
            latent: Tensor::zeros(latent),
            labels: Vec::new(),
            classifier: None,
            config,
        })
    }

    /// What defines the run.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where real rows come from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// D and G.
    #[must_use]
    pub fn trainer(&self) -> &Trainer<T> {
        &self.trainer
    }

    /// D and G, to set what is trainable.
    pub fn trainer_mut(&mut self) -> &mut Trainer<T> {
        &mut self.trainer
    }

    /// How many epochs are done.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many steps of the next epoch are done.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// Whether all epochs are done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.epoch >= self.config.train.epochs
    }

    /// Whether a stage ends with the last epoch.
    #[must_use]
    pub fn stage_is_due(&self) -> bool {
        self.step == 0
            && self.sums != StageSums::default()
            && (self.epoch.is_multiple_of(self.config.train.stage) || self.is_done())
    }

    /// What is left of an epoch: D's steps, then G's.
    ///
    /// # Errors
    /// As [`Session::run_step`].
    pub fn run_epoch(&mut self) -> Result<()> {
        loop {
            self.run_step()?;
            if self.step == 0 {
                return Ok(());
            }
        }
    }

    /// The next step of the epoch.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a number that is NaN or infinite: in the rows, the loss, a gradient or a weight. The last two
    /// are found when the weights have changed: the session is then of no more use. As [`Images::fill`](crate::Images::fill).
    pub fn run_step(&mut self) -> Result<()> {
        let progress = (self.epoch + 1) as f64 / self.config.train.epochs as f64;
        self.trainer.set_rate(self.config.train.schedule.factor(progress));
        self.trainer.set_penalty(self.config.penalty.at(progress));
        if self.step < self.config.train.discriminator_steps {
            self.discriminator_step()?;
        } else {
            self.generator_step()?;
        }
        self.step += 1;
        if self.step == self.steps() {
            self.step = 0;
            self.epoch += 1;
        }
        Ok(())
    }

    /// How many steps an epoch has.
    fn steps(&self) -> usize {
        self.config.train.discriminator_steps + self.config.train.generator_steps
    }

    fn discriminator_step(&mut self) -> Result<()> {
        self.draw_real()?;
        self.draw_latent();
        let mixing = (self.config.penalty.wgan_gp > 0.0).then(|| {
            let unit = Distribution::Uniform { low: 0.0, high: 1.0 };
            unit.fill(&mut self.data_stream, self.mixing.data_mut());
            self.mixing.view()
        });
        self.trainer.draw_changes(self.config.train.batch, &mut self.data_stream);
        let result = self.trainer.discriminator_step(self.real.view(), self.latent.view(), mixing);
        let score = self.at_step(result, "D step", self.step + 1)?;
        self.sums.d_loss += score.loss;
        self.sums.d_accuracy += score.accuracy;
        self.sums.d_steps += 1;
        Ok(())
    }

    fn generator_step(&mut self) -> Result<()> {
        let relative = self.config.objective.is_relative();
        // A G that makes rows of a class needs classes that occur.
        if relative || self.source.classes().is_some() {
            self.draw_real()?;
        }
        self.draw_latent();
        self.trainer.draw_changes(self.config.train.batch, &mut self.data_stream);
        let result = self.trainer.generator_step(self.latent.view(), relative.then(|| self.real.view()));
        let step = self.step + 1 - self.config.train.discriminator_steps;
        let score = self.at_step(result, "G step", step)?;
        self.sums.g_loss += score.loss;
        self.sums.g_steps += 1;
        Ok(())
    }

    fn draw_real(&mut self) -> Result<()> {
        self.source.fill_labelled(&mut self.data_stream, self.real.data_mut(), &mut self.labels)?;
        self.trainer.set_labels(&self.labels);
        Ok(())
    }

    fn draw_latent(&mut self) {
        self.config.latent.distribution().fill(&mut self.latent_stream, self.latent.data_mut());
    }

    fn at_step(&self, result: nn::Result<StepScore>, kind: &str, step: usize) -> Result<StepScore> {
        result.map_err(|error| match error {
            nn::Error::NotFinite { what, value } => {
                Error::NotFinite { epoch: self.epoch + 1, step: format!("{kind} {step}"), what, value }
            }
            other => Error::network("training")(other),
        })
    }

    /// Ends a stage: evaluates G and starts new means.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where G's output is not finite.
    pub fn finish_stage(&mut self) -> Result<StageResult> {
        let rows = self.config.evaluate.rows;
        let floor = match self.floor.take() {
            Some(floor) => floor,
            None => self.floor_of(rows, self.config.train.seed)?,
        };
        let mut evaluation_stream = self.evaluation_stream.clone();
        let comparison = self.compare(rows, &floor, &mut evaluation_stream)?;
        self.evaluation_stream = evaluation_stream;
        self.floor = Some(floor);
        let StageSums { d_loss, d_accuracy, d_steps, g_loss, g_steps } = std::mem::take(&mut self.sums);
        let mean = |sum: f64, steps: u64| if steps == 0 { 0.0 } else { sum / steps as f64 };
        Ok(StageResult {
            stage: self.epoch.div_ceil(self.config.train.stage),
            d_loss: mean(d_loss, d_steps),
            d_accuracy: mean(d_accuracy, d_steps),
            g_loss: mean(g_loss, g_steps),
            comparison,
        })
    }

    /// `count` rows from fresh latents, in the data's units; of one class, or, where rows have classes and none is given,
    /// of all of them in turn.
    ///
    /// # Errors
    /// [`Error::Network`] for a class that there is not, and where there are more rows than memory can hold.
    pub fn sample(&self, count: usize, seed: u64, label: Option<usize>) -> Result<Tensor<T>> {
        let classes = self.source.classes().unwrap_or(1);
        self.generate(&self.latents(count, seed, None)?, |row| label.unwrap_or(row % classes))
    }

    /// The number of a class, by its name, for G to make.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is none of that name, and where G takes no labels.
    pub fn class(&self, name: &str) -> Result<usize> {
        if self.takes_labels() {
            return self.source.class(name);
        }
        let expected = "none: this generator takes no labels".to_owned();
        Err(Error::Setting { field: "label", expected, found: name.to_owned() })
    }

    /// Whether G is told of which class each row is to be.
    fn takes_labels(&self) -> bool {
        self.config.generator.layers.iter().any(LayerConfig::wants_labels)
    }

    /// `count` fresh latents, with none of their numbers more than `truncation` standard deviations away from the mean,
    /// where that is given: see [`Latent::truncate`](crate::Latent::truncate).
    ///
    /// # Errors
    /// As [`Session::sample`].
    pub fn latents(&self, count: usize, seed: u64, truncation: Option<f64>) -> Result<Tensor<T>> {
        self.check_room(count)?;
        let mut latents = Tensor::zeros(self.batch_of(count)?);
        let rng = &mut stream(seed, SAMPLE_STREAM);
        self.config.latent.distribution().fill(rng, latents.data_mut());
        if let Some(most) = truncation {
            self.config.latent.truncate(rng, latents.data_mut(), most);
        }
        Ok(latents)
    }

    /// What G makes of latents, in the data's units; where rows have classes, each row is of the one that `class` gives.
    ///
    /// # Shapes
    /// `latent [count, dim]` or `[count, ..G's input]`, result `[count, ..D's input]`.
    ///
    /// # Errors
    /// Where the latents have another size, and for a class that there is not.
    pub fn generate(&self, latent: &Tensor<T>, class: impl Fn(usize) -> usize) -> Result<Tensor<T>> {
        // A latent has a number at least: rows of none, of which there may be any number, are refused below.
        let count = latent.shape().first_dim().min(latent.data().len());
        let labelled = if self.source.classes().is_some() { count } else { 0 };
        let labels: Vec<usize> = (0..labelled).map(class).collect();
        let mut rows = self.network_output(latent, &labels)?;
        self.source.restore(rows.data_mut());
        Ok(rows)
    }

    /// What G makes of latents, as the networks see it.
    fn network_output(&self, latent: &Tensor<T>, labels: &[usize]) -> Result<Tensor<T>> {
        let generator = self.trainer.sampler();
        let failed = |error: tensor_ops::Error| Error::network("generator")(error.into());
        let count = latent.shape().first_dim();
        let expected = self.batch_of(count)?;
        if latent.shape().rank() < 2 || latent.shape().len() != expected.len() {
            let expected = format!("latents of {} numbers each", generator.input_shape().len());
            return Err(Error::Setting { field: "latent", expected, found: latent.shape().to_string() });
        }
        let latent = latent.view().reshape(expected).map_err(failed)?;
        let output = generator.output_shape().with_first(count).map_err(failed)?;
        let mut rows = Vec::with_capacity(output.len());
        let mut workspace = nn::Workspace::default();
        for start in (0..count).step_by(SAMPLE_ROWS) {
            let rows_here = start..(start + SAMPLE_ROWS).min(count);
            workspace.labels.clear();
            workspace.labels.extend_from_slice(labels.get(rows_here.clone()).unwrap_or_default());
            let part = latent.rows(rows_here).map_err(failed)?;
            let made = generator.forward(part, &mut workspace).map_err(Error::network("generator"))?;
            rows.extend_from_slice(made.data());
        }
        Tensor::from_vec(output, rows).map_err(failed)
    }

    /// Refuses more rows, with their latents, than there is memory for.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check_room(&self, rows: usize) -> Result<()> {
        let generator = self.trainer.generator();
        let numbers = generator.input_shape().len().saturating_add(generator.output_shape().len());
        let bytes = numbers.saturating_mul(size_of::<f64>()).saturating_mul(rows);
        if is_there(bytes) {
            return Ok(());
        }
        let (expected, found) =
            ("what fits into memory".to_owned(), format!("{rows}, which take {bytes} bytes"));
        Err(Error::Setting { field: "rows", expected, found })
    }

    fn batch_of(&self, rows: usize) -> Result<Shape> {
        let shape = self.trainer.generator().input_shape().with_first(rows);
        shape.map_err(|error| Error::network("latents")(error.into()))
    }
}

/// Refuses rows that the networks cannot take, and bounds on measures that there are not.
fn check_data(config: &Config, source: &Source, row: Shape) -> Result<()> {
    // What is not known yet is that of the checkpoint.
    if !source.is_known() {
        return Ok(());
    }
    let expected = match (source.shape(), source.width()) {
        (Some(shape), _) if shape != row => Some(shape.to_string()),
        (None, Some(width)) if width != row.len() => Some(format!("of {width} numbers")),
        _ => None,
    };
    if let Some(expected) = expected {
        let expected = format!("an output {expected}, a row of the data");
        return Err(Error::Setting { field: "generator.layers", expected, found: row.to_string() });
    }
    if config.evaluate.require.is_empty() {
        return Ok(());
    }
    let known = evaluate::names(source);
    match config.evaluate.require.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let expected = format!("names of measures: {}", known.join(", "));
            Err(Error::Setting { field: "evaluate.require", expected, found: name.clone() })
        }
        None => Ok(()),
    }
}
