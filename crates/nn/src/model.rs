//! A network with a loss and an optimizer: what Keras calls a compiled model.

use rand::Rng;
use rand::seq::SliceRandom;
use tensor_ops::{Scalar, Tensor, View};

use crate::{
    Error, Loss, Mode, Network, Optimizer, OptimizerState, Result, Shards, Wanted, Workspace, metrics,
};

/// A network that can be trained.
#[derive(Debug)]
pub struct Model<T> {
    network: Network<T>,
    loss: Loss,
    optimizer: Optimizer,
    state: OptimizerState<T>,
    gradients: Vec<Tensor<T>>,
    shards: Shards<T, Pass<T>, 2>,
    noise: u64,
}

/// What a shard's pass needs.
#[derive(Debug)]
struct Pass<T> {
    workspace: Workspace<T>,
    grad_output: Tensor<T>,
    loss_values: Tensor<T>,
}

impl<T> Default for Pass<T> {
    fn default() -> Self {
        let (grad_output, loss_values) = (Tensor::default(), Tensor::default());
        Self { workspace: Workspace::default(), grad_output, loss_values }
    }
}

/// What a batch, or a whole data set, gave: means over its rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The loss.
    pub loss: f64,
    /// The share of predictions that are right, from 0 to 1.
    pub accuracy: f64,
}

/// What an epoch of [`Model::fit`] gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// The mean over the batches, each scored before its step.
    pub training: Score,
    /// On the validation data after the epoch, if there is any.
    pub validation: Option<Score>,
}

/// How [`Model::fit`] trains.
#[derive(Debug, Clone, Copy)]
pub struct Fit<'a, T> {
    /// How often it goes through the data.
    pub epochs: usize,
    /// How many rows one step sees; the last step of an epoch may see fewer.
    pub batch: usize,
    /// Inputs and targets to score after each epoch.
    pub validation: Option<(View<'a, T>, View<'a, T>)>,
}

impl<T: Scalar> Model<T> {
    /// Joins a network, a loss and an optimizer. Where the network ends in the activation that belongs to the
    /// loss, the two are computed together, from the logit.
    ///
    /// # Errors
    /// [`Error::Setting`] for an optimizer's setting out of range.
    pub fn new(network: Network<T>, loss: Loss, optimizer: Optimizer) -> Result<Self> {
        optimizer.check()?;
        let state = OptimizerState::new(&optimizer, network.parameters());
        let gradients = network.gradients();
        Ok(Self { network, loss, optimizer, state, gradients, shards: Shards::default(), noise: 0 })
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network<T> {
        &self.network
    }

    /// The network, to set what is trainable or to load weights.
    pub fn network_mut(&mut self) -> &mut Network<T> {
        &mut self.network
    }

    /// Sets where the random numbers of layers such as [`Dropout`](crate::layers::Dropout) start; 0 unless set.
    pub fn set_noise(&mut self, noise: u64) {
        self.noise = noise;
    }

    /// One step of the optimizer on a batch. The score is that of before the step.
    ///
    /// # Shapes
    /// `input [batch, ..]`, `target` like the network's output.
    ///
    /// # Errors
    /// Where shapes do not fit; [`Error::NotFinite`] for a loss that is NaN or infinite, before anything is changed, and
    /// for a gradient or a parameter, when all have changed.
    pub fn train_on_batch(&mut self, input: View<'_, T>, target: View<'_, T>) -> Result<Score> {
        let score = self.pass(input, target, true)?;
        if !score.loss.is_finite() {
            return Err(Error::NotFinite { what: "the loss".to_owned(), value: score.loss });
        }
        self.network.update("network", &self.optimizer, &mut self.state, &self.gradients)?;
        Ok(score)
    }

    /// The score of a batch, without learning from it.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn test_on_batch(&mut self, input: View<'_, T>, target: View<'_, T>) -> Result<Score> {
        self.pass(input, target, false)
    }

    /// The score of a batch, and, if wanted, the gradients.
    fn pass(&mut self, input: View<'_, T>, target: View<'_, T>, learn: bool) -> Result<Score> {
        let Self { network, gradients, shards, .. } = self;
        let noise = Mode::Training { noise: self.noise }.within(self.state.step);
        let mode = if learn { noise } else { Mode::Inference };
        let (loss, logits) = self.loss.fused_with(network.final_activation());
        let rows = rows_of(input, target)?;
        let [loss, right] = shards.run(network.load(), rows, gradients, |range, pass, gradients| {
            let share = range.len() as f64 / rows as f64;
            let Pass { workspace, grad_output, loss_values } = pass;
            workspace.logits = logits;
            workspace.mode = mode.within(range.start as u64);
            let (input, target) = (input.rows(range.clone())?, target.rows(range)?);
            let prediction = network.forward(input, workspace)?;
            let value =
                loss.share_of_value_and_gradient(prediction, target, share, grad_output, loss_values)?;
            let right = metrics::count_right(prediction, target, loss.threshold()) as f64;
            if learn {
                let wanted = Wanted { input: false, parameters: true };
                network.backward(input, grad_output.view(), wanted, gradients, workspace)?;
            }
            Ok([value.as_f64(), right])
        })?;
        Ok(Score { loss, accuracy: right / rows as f64 })
    }

    /// The network's output for a batch.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn predict(&self, input: View<'_, T>) -> Result<Tensor<T>> {
        self.network.predict(input)
    }

    /// The score of a whole data set, taken in batches.
    ///
    /// # Errors
    /// Where shapes do not fit, and [`Error::Setting`] for a batch of 0.
    pub fn evaluate(&mut self, input: View<'_, T>, target: View<'_, T>, batch: usize) -> Result<Score> {
        let rows = rows_of(input, target)?;
        check_batch(batch)?;
        let mut total = Total::default();
        for start in (0..rows).step_by(batch) {
            let range = start..(start + batch).min(rows);
            let score = self.test_on_batch(input.rows(range.clone())?, target.rows(range.clone())?)?;
            total.add(score, range.len());
        }
        Ok(total.mean())
    }

    /// Trains on a data set, in a new order each epoch.
    ///
    /// # Errors
    /// As [`Model::train_on_batch`] and [`Model::evaluate`].
    pub fn fit(
        &mut self,
        input: View<'_, T>,
        target: View<'_, T>,
        settings: Fit<'_, T>,
        rng: &mut impl Rng,
    ) -> Result<Vec<Epoch>> {
        let rows = rows_of(input, target)?;
        check_batch(settings.batch)?;
        let mut order: Vec<usize> = (0..rows).collect();
        let (mut batch_input, mut batch_target) = (Tensor::default(), Tensor::default());
        let mut history = Vec::new();
        for _ in 0..settings.epochs {
            order.shuffle(rng);
            let mut total = Total::default();
            for chosen in order.chunks(settings.batch) {
                gather(input, chosen, &mut batch_input)?;
                gather(target, chosen, &mut batch_target)?;
                let score = self.train_on_batch(batch_input.view(), batch_target.view())?;
                total.add(score, chosen.len());
            }
            let validation = match settings.validation {
                Some((input, target)) => Some(self.evaluate(input, target, settings.batch)?),
                None => None,
            };
            history.push(Epoch { training: total.mean(), validation });
        }
        Ok(history)
    }

    /// A table of the layers: see [`Network::summary`].
    #[must_use]
    pub fn summary(&self) -> String {
        self.network.summary()
    }
}

/// A sum of scores, each as often as it has rows.
#[derive(Default)]
struct Total {
    loss: f64,
    accuracy: f64,
    rows: usize,
}

impl Total {
    fn add(&mut self, score: Score, rows: usize) {
        self.loss += score.loss * rows as f64;
        self.accuracy += score.accuracy * rows as f64;
        self.rows += rows;
    }

    fn mean(&self) -> Score {
        let rows = self.rows as f64;
        Score { loss: self.loss / rows, accuracy: self.accuracy / rows }
    }
}

fn rows_of<T>(input: View<'_, T>, target: View<'_, T>) -> Result<usize> {
    match (input.shape().first(), target.shape().first()) {
        (Some(&rows), Some(&targets)) if rows == targets && rows > 0 => Ok(rows),
        _ => Err(Error::Shape {
            place: "data set".to_owned(),
            expected: format!("a target for each row of the inputs {}, at least one", input.shape()),
            found: target.shape(),
        }),
    }
}

fn check_batch(batch: usize) -> Result<()> {
    crate::error::check_setting(batch > 0, "model", "batch", "at least 1", batch)
}

/// Copies the chosen rows.
fn gather<T: Scalar>(source: View<'_, T>, chosen: &[usize], batch: &mut Tensor<T>) -> Result<()> {
    let row = source.shape().without_first().len();
    batch.resize(source.shape().with_axis(0, chosen.len()));
    for (target, &index) in batch.data_mut().chunks_exact_mut(row.max(1)).zip(chosen) {
        target.copy_from_slice(source.rows(index..index + 1)?.data());
    }
    Ok(())
}
