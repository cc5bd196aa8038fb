//! A run of a whole configuration: its networks, its random streams and its place.

use nn::weights;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor};

use crate::{Config, Distribution, Error, Evaluation, Learner, Result, StepScore, Trainer};

/// The version of checkpoints that this library writes.
const FORMAT: u32 = 1;
/// The key of a checkpoint's metadata.
const METADATA: &str = "gan";
/// How many rows are generated at a time, which bounds the memory of a large sample.
const SAMPLE_ROWS: usize = 1024;

/// The streams of random numbers, all from one seed, none of which disturbs another.
const NETWORK_STREAM: u64 = 0;
const DATA_STREAM: u64 = 1;
const LATENT_STREAM: u64 = 2;
const EVALUATION_STREAM: u64 = 3;
const SAMPLE_STREAM: u64 = 4;

/// A run in progress.
#[derive(Debug)]
pub struct Session<T> {
    config: Config,
    trainer: Trainer<T>,
    data_stream: ChaCha8Rng,
    latent_stream: ChaCha8Rng,
    evaluation_stream: ChaCha8Rng,
    epoch: u64,
    sums: StageSums,
    real: Tensor<T>,
    latent: Tensor<T>,
    mixing: Tensor<T>,
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

/// What G makes, beside real data.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The epochs that G had learned.
    pub epoch: u64,
    /// Generated against real numbers.
    pub evaluation: Evaluation,
    /// The real numbers.
    pub real: Vec<f64>,
    /// The generated rows.
    pub generated: Tensor<f64>,
    /// The latents that they were generated from.
    pub latent: Vec<f64>,
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

/// What a checkpoint holds beside tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    format: u32,
    epoch: u64,
    stage_sums: StageSums,
    data_stream: u64,
    latent_stream: u64,
    evaluation_stream: u64,
    generator_steps: u64,
    discriminator_steps: u64,
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
    /// Where the configuration's networks cannot work or do not fit.
    pub fn new(config: Config) -> Result<Self> {
        config.check()?;
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
        let shape = |row: Shape| row.with_first(config.train.batch).map_err(nn::Error::from);
        let real = shape(trainer.generator().output_shape()).map_err(Error::network("train.batch"))?;
        let latent = shape(trainer.generator().input_shape()).map_err(Error::network("train.batch"))?;
        Ok(Self {
            trainer,
            data_stream: stream(seed, DATA_STREAM),
            latent_stream: stream(seed, LATENT_STREAM),
            evaluation_stream: stream(seed, EVALUATION_STREAM),
            epoch: 0,
            sums: StageSums::default(),
            real: Tensor::zeros(real),
            mixing: Tensor::zeros([config.train.batch / config.train.packing]),
            latent: Tensor::zeros(latent),
            config,
        })
    }

    /// What defines the run.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
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

    /// Whether all epochs are done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.epoch >= self.config.train.epochs
    }

    /// Whether a stage ends with the last epoch.
    #[must_use]
    pub fn stage_is_due(&self) -> bool {
        self.sums != StageSums::default()
            && (self.epoch.is_multiple_of(self.config.train.stage) || self.is_done())
    }

    /// An epoch: D's steps, then G's.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for the step whose loss is NaN or infinite, before it changes anything.
    pub fn run_epoch(&mut self) -> Result<()> {
        let progress = (self.epoch + 1) as f64 / self.config.train.epochs as f64;
        self.trainer.set_rate(self.config.train.schedule.factor(progress));
        for step in 1..=self.config.train.discriminator_steps {
            self.draw_real();
            self.draw_latent();
            let mixing = (self.config.penalty.wgan_gp > 0.0).then(|| {
                let unit = Distribution::Uniform { low: 0.0, high: 1.0 };
                unit.fill(&mut self.data_stream, self.mixing.data_mut());
                self.mixing.view()
            });
            let result = self.trainer.discriminator_step(self.real.view(), self.latent.view(), mixing);
            let score = self.at_step(result, "D step", "D's loss", step)?;
            self.sums.d_loss += score.loss;
            self.sums.d_accuracy += score.accuracy;
            self.sums.d_steps += 1;
        }
        for step in 1..=self.config.train.generator_steps {
            let relative = self.config.objective.is_relative();
            if relative {
                self.draw_real();
            }
            self.draw_latent();
            let result = self.trainer.generator_step(self.latent.view(), relative.then(|| self.real.view()));
            let score = self.at_step(result, "G step", "G's loss", step)?;
            self.sums.g_loss += score.loss;
            self.sums.g_steps += 1;
        }
        self.epoch += 1;
        Ok(())
    }

    fn draw_real(&mut self) {
        self.config.data.distribution().fill(&mut self.data_stream, self.real.data_mut());
    }

    fn draw_latent(&mut self) {
        self.config.latent.distribution().fill(&mut self.latent_stream, self.latent.data_mut());
    }

    fn at_step(
        &self,
        result: nn::Result<StepScore>,
        kind: &str,
        what: &'static str,
        step: usize,
    ) -> Result<StepScore> {
        result.map_err(|error| match error {
            nn::Error::NotFinite { value, .. } => {
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
        let mut evaluation_stream = self.evaluation_stream.clone();
        let comparison = self.compare(rows, &mut evaluation_stream)?;
        self.evaluation_stream = evaluation_stream;
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

    /// Compares what G makes with real data, all drawn anew from `seed`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where G's output is not finite.
    pub fn evaluate(&self, rows: usize, seed: u64) -> Result<Comparison> {
        self.compare(rows, &mut stream(seed, EVALUATION_STREAM))
    }

    fn compare(&self, rows: usize, rng: &mut ChaCha8Rng) -> Result<Comparison> {
        let width = self.trainer.generator().output_shape().len();
        let mut real = vec![T::zero(); rows * width];
        self.config.data.distribution().fill(rng, &mut real);
        let mut latent = Tensor::zeros(self.batch_of(rows)?);
        self.config.latent.distribution().fill(rng, latent.data_mut());
        let generated = self.generate(&latent)?.cast::<f64>();
        if let Some(&value) = generated.data().iter().find(|x| !x.is_finite()) {
            let step = "evaluation".to_owned();
            return Err(Error::NotFinite { epoch: self.epoch, step, what: "G's output", value });
        }
        let numbers = |values: &[T]| -> Vec<f64> { values.iter().map(|x| x.as_f64()).collect() };
        let (real, latent) = (numbers(&real), numbers(latent.data()));
        let evaluation = Evaluation::new(&real, generated.data());
        Ok(Comparison { epoch: self.epoch, evaluation, real, generated, latent })
    }

    /// `count` rows from fresh latents.
    ///
    /// # Errors
    /// Where there are more than memory can hold.
    pub fn sample(&self, count: usize, seed: u64) -> Result<Tensor<T>> {
        let mut latent = Tensor::zeros(self.batch_of(count)?);
        self.config.latent.distribution().fill(&mut stream(seed, SAMPLE_STREAM), latent.data_mut());
        self.generate(&latent)
    }

    /// What G makes of latents.
    ///
    /// # Shapes
    /// `latent [count, dim]` or `[count, ..G's input]`, result `[count, ..D's input]`.
    ///
    /// # Errors
    /// Where the latents have another size.
    pub fn generate(&self, latent: &Tensor<T>) -> Result<Tensor<T>> {
        let generator = self.trainer.sampler();
        let failed = |error: tensor_ops::Error| Error::network("generator")(error.into());
        let count = latent.shape().first().copied().unwrap_or(0);
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
            let part = latent.rows(start..(start + SAMPLE_ROWS).min(count)).map_err(failed)?;
            let made = generator.forward(part, &mut workspace).map_err(Error::network("generator"))?;
            rows.extend_from_slice(made.data());
        }
        Tensor::from_vec(output, rows).map_err(failed)
    }

    fn batch_of(&self, rows: usize) -> Result<Shape> {
        let shape = self.trainer.generator().input_shape().with_first(rows);
        shape.map_err(|error| Error::network("latents")(error.into()))
    }

    /// All that resuming needs, as the bytes of a safetensors file. The same state gives the same bytes.
    ///
    /// # Errors
    /// Where the format cannot hold it.
    pub fn to_checkpoint(&self) -> Result<Vec<u8>> {
        let learners = self.trainer.learners();
        let [generator_steps, discriminator_steps] = learners.map(|(_, learner)| learner.state.step);
        // The streams' positions fit: 2^64 words would take centuries to draw.
        let place = Place {
            format: FORMAT,
            epoch: self.epoch,
            stage_sums: self.sums,
            data_stream: self.data_stream.get_word_pos() as u64,
            latent_stream: self.latent_stream.get_word_pos() as u64,
            evaluation_stream: self.evaluation_stream.get_word_pos() as u64,
            generator_steps,
            discriminator_steps,
        };
        let place = serde_json::to_string(&place).unwrap_or_default();
        let mut tensors = Vec::new();
        for (prefix, Learner { network, optimizer, state, .. }) in learners {
            for (parameter, slots) in network.parameters().iter().zip(&state.slots) {
                tensors.push((format!("{prefix}.{}", parameter.key()), &parameter.value));
                for (name, slot) in optimizer.slots().iter().zip(slots) {
                    tensors.push((format!("optimizer.{prefix}.{}.{name}", parameter.key()), slot));
                }
            }
        }
        let averages = self.trainer.average().map_or(&[][..], |network| network.parameters());
        tensors.extend(averages.iter().map(|p| (format!("ema.generator.{}", p.key()), &p.value)));
        weights::write(tensors, Some((METADATA.to_owned(), place))).map_err(Error::network("checkpoint"))
    }

    /// Puts the run where a checkpoint of the same configuration left it. On an error nothing has changed.
    ///
    /// # Errors
    /// [`Error::Network`] where the bytes are no such checkpoint; the message names the tensor.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = Error::network("checkpoint");
        let file = weights::Reader::new(bytes).map_err(&failed)?;
        let broken = |expected: &str, found: &str| {
            failed(nn::Error::Weights {
                tensor: format!("metadata `{METADATA}`"),
                expected: expected.to_owned(),
                found: found.to_owned(),
            })
        };
        let text = file.metadata(METADATA).ok_or_else(|| broken("the place of a run", "none"))?;
        let place: Place =
            serde_json::from_str(text).map_err(|e| broken("the place of a run", &e.to_string()))?;
        if place.format != FORMAT {
            return Err(broken(&format!("format {FORMAT}"), &place.format.to_string()));
        }
        if place.epoch > self.config.train.epochs {
            return Err(broken(
                &format!("at most {} epochs", self.config.train.epochs),
                &place.epoch.to_string(),
            ));
        }
        let mut restored = Vec::new();
        for (prefix, Learner { network, optimizer, .. }) in self.trainer.learners() {
            for parameter in network.parameters() {
                let (key, shape) = (parameter.key(), parameter.value.shape());
                let value = file.tensor::<T>(&format!("{prefix}.{key}"), shape).map_err(&failed)?;
                let slot = |name: &&str| file.tensor(&format!("optimizer.{prefix}.{key}.{name}"), shape);
                let slots = optimizer.slots().iter().map(slot).collect::<nn::Result<Vec<_>>>();
                restored.push((value, slots.map_err(&failed)?));
            }
        }
        let averages = self.trainer.average().map_or(&[][..], |network| network.parameters());
        let average =
            |p: &nn::Parameter<T>| file.tensor::<T>(&format!("ema.generator.{}", p.key()), p.value.shape());
        let averages = averages.iter().map(average).collect::<nn::Result<Vec<_>>>().map_err(&failed)?;
        if let Some(network) = self.trainer.average_mut() {
            network.parameters_mut().iter_mut().zip(averages).for_each(|(own, value)| own.value = value);
        }
        let mut restored = restored.into_iter();
        let steps = [place.generator_steps, place.discriminator_steps];
        for (learner, step) in self.trainer.learners_mut().into_iter().zip(steps) {
            let parameters = learner.network.parameters_mut();
            learner.state.slots.clear();
            for (parameter, (value, slots)) in parameters.iter_mut().zip(restored.by_ref()) {
                parameter.value = value;
                learner.state.slots.push(slots);
            }
            learner.state.step = step;
        }
        self.epoch = place.epoch;
        self.sums = place.stage_sums;
        self.data_stream.set_word_pos(u128::from(place.data_stream));
        self.latent_stream.set_word_pos(u128::from(place.latent_stream));
        self.evaluation_stream.set_word_pos(u128::from(place.evaluation_stream));
        Ok(())
    }
}
