//! D, G and GD, and the steps in which they learn.

use nn::{Loss, Network, Optimizer, OptimizerState, Shards, Wanted, Workspace, metrics};
use tensor_ops::{Scalar, Tensor, View};

use crate::{Error, Result};

/// GD: G followed by a frozen D. A view that borrows both and owns nothing.
#[derive(Debug, Clone, Copy)]
pub struct Combined<'n, T> {
    /// G.
    pub generator: &'n Network<T>,
    /// D. It passes the gradient on to G and gets none itself.
    pub discriminator: &'n Network<T>,
}

impl<T: Scalar> Combined<'_, T> {
    /// D's output for G's output for a batch of latents.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn forward<'a>(
        &self,
        latent: View<'a, T>,
        generator: &'a mut Workspace<T>,
        discriminator: &'a mut Workspace<T>,
    ) -> nn::Result<View<'a, T>> {
        let fake = self.generator.forward(latent, generator)?;
        self.discriminator.forward(fake, discriminator)
    }

    /// After a forward pass with the same workspaces: adds to the gradients of G's parameters that are trainable.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn backward(
        &self,
        latent: View<'_, T>,
        grad_output: View<'_, T>,
        gradients: &mut [Tensor<T>],
        generator: &mut Workspace<T>,
        discriminator: &mut Workspace<T>,
    ) -> nn::Result<()> {
        let fake = nn::Layer::output(self.generator.layers(), latent, generator);
        let through = Wanted { input: true, parameters: false };
        let grad_fake = self.discriminator.backward(fake, grad_output, through, &mut [], discriminator)?;
        let learn = Wanted { input: false, parameters: true };
        self.generator.backward(latent, grad_fake, learn, gradients, generator)?;
        Ok(())
    }
}

/// What a step saw before it changed anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepScore {
    /// The mean loss over the batch.
    pub loss: f64,
    /// The share of rows that D puts on their target's side, from 0 to 1.
    pub accuracy: f64,
}

/// A network that learns: with its gradients, and an optimizer with moments of its own.
#[derive(Debug)]
pub struct Learner<T> {
    /// The network.
    pub network: Network<T>,
    /// How it learns.
    pub optimizer: Optimizer,
    /// What the optimizer remembers.
    pub state: OptimizerState<T>,
    gradients: Vec<Tensor<T>>,
}

impl<T: Scalar> Learner<T> {
    fn new(network: Network<T>, optimizer: Optimizer) -> Self {
        let state = OptimizerState::new(&optimizer, network.parameters());
        Self { gradients: network.gradients(), network, optimizer, state }
    }

    fn update(&mut self) -> nn::Result<()> {
        self.state.update(&self.optimizer, self.network.parameters_mut(), &self.gradients)
    }
}

/// D and G in training. Which of their layers learn is read from `trainable` at every step.
#[derive(Debug)]
pub struct Trainer<T> {
    generator: Learner<T>,
    discriminator: Learner<T>,
    shards: Shards<T, Pass<T>>,
    /// Whether D's sigmoid is left to the loss.
    logits: bool,
}

impl<T: Scalar> Trainer<T> {
    /// Joins G and D with an optimizer each.
    ///
    /// # Errors
    /// [`Error::Network`] for an optimizer's setting out of range.
    pub fn new(generator: (Network<T>, Optimizer), discriminator: (Network<T>, Optimizer)) -> Result<Self> {
        generator.1.check().map_err(Error::network("optimizer.generator"))?;
        discriminator.1.check().map_err(Error::network("optimizer.discriminator"))?;
        let (_, logits) = Loss::BINARY_CROSSENTROPY.fused_with(discriminator.0.final_activation());
        Ok(Self {
            generator: Learner::new(generator.0, generator.1),
            discriminator: Learner::new(discriminator.0, discriminator.1),
            shards: Shards::default(),
            logits,
        })
    }

    /// G.
    #[must_use]
    pub fn generator(&self) -> &Network<T> {
        &self.generator.network
    }

    /// D.
    #[must_use]
    pub fn discriminator(&self) -> &Network<T> {
        &self.discriminator.network
    }

    /// G and D, to set what is trainable or to load weights.
    pub fn networks_mut(&mut self) -> (&mut Network<T>, &mut Network<T>) {
        (&mut self.generator.network, &mut self.discriminator.network)
    }

    /// GD.
    #[must_use]
    pub fn combined(&self) -> Combined<'_, T> {
        Combined { generator: &self.generator.network, discriminator: &self.discriminator.network }
    }

    /// G and D with their optimizers, by the names that checkpoints give them.
    #[must_use]
    pub fn learners(&self) -> [(&'static str, &Learner<T>); 2] {
        [("generator", &self.generator), ("discriminator", &self.discriminator)]
    }

    /// G and D with their optimizers, to be restored: G, then D.
    pub fn learners_mut(&mut self) -> [&mut Learner<T>; 2] {
        [&mut self.generator, &mut self.discriminator]
    }

    /// One step of D on `[real; G(latent)]` with targets 1 and 0. G stays as it is.
    ///
    /// # Shapes
    /// `real [batch, ..D's input]`, `latent [batch, ..G's input]`.
    ///
    /// # Errors
    /// Where shapes do not fit; [`nn::Error::NotFinite`] for a loss that is NaN or infinite, before D is changed.
    pub fn discriminator_step(&mut self, real: View<'_, T>, latent: View<'_, T>) -> nn::Result<StepScore> {
        let Self { generator, discriminator, shards, logits } = self;
        let (g, d) = (&generator.network, &discriminator.network);
        let rows = rows_of("discriminator step", latent)?;
        if real.shape() != d.input_shape().with_first(rows)? {
            let (place, expected) =
                ("discriminator step".to_owned(), format!("{rows} real rows {}", d.input_shape()));
            return Err(nn::Error::Shape { place, expected, found: real.shape() });
        }
        let load = g.load().and(d.load());
        let sums = shards.run(load, rows, &mut discriminator.gradients, |range, pass, gradients| {
            let (real, latent) = (real.rows(range.clone())?, latent.rows(range.clone())?);
            let Pass { generator, discriminator, batch, judge } = pass;
            let fake = g.forward(latent, generator)?;
            batch.resize(real.shape().with_axis(0, 2 * range.len()));
            let (first, second) = batch.data_mut().split_at_mut(real.shape().len());
            first.copy_from_slice(real.data());
            second.copy_from_slice(fake.data());

            discriminator.logits = *logits;
            let output = d.forward(batch.view(), discriminator)?;
            let sums = judge.score(output, range.len(), 2 * rows)?;
            let wanted = Wanted { input: false, parameters: true };
            d.backward(batch.view(), judge.grad_output.view(), wanted, gradients, discriminator)?;
            Ok(sums)
        })?;
        let score = StepScore::new(sums, 2 * rows)?;
        discriminator.update()?;
        Ok(score)
    }

    /// One step of G, through the frozen D, with target 1. D stays as it is.
    ///
    /// # Shapes
    /// `latent [batch, ..G's input]`.
    ///
    /// # Errors
    /// Where shapes do not fit; [`nn::Error::NotFinite`] for a loss that is NaN or infinite, before G is changed.
    pub fn generator_step(&mut self, latent: View<'_, T>) -> nn::Result<StepScore> {
        let Self { generator, discriminator, shards, logits } = self;
        let combined = Combined { generator: &generator.network, discriminator: &discriminator.network };
        let rows = rows_of("generator step", latent)?;
        let load = combined.generator.load().and(combined.discriminator.load());
        let sums = shards.run(load, rows, &mut generator.gradients, |range, pass, gradients| {
            let latent = latent.rows(range.clone())?;
            let Pass { generator, discriminator, judge, .. } = pass;
            discriminator.logits = *logits;
            let output = combined.forward(latent, generator, discriminator)?;
            let sums = judge.score(output, range.len(), rows)?;
            combined.backward(latent, judge.grad_output.view(), gradients, generator, discriminator)?;
            Ok(sums)
        })?;
        let score = StepScore::new(sums, rows)?;
        generator.update()?;
        Ok(score)
    }
}

/// The number of rows of a batch, at least one.
fn rows_of<T>(place: &str, batch: View<'_, T>) -> nn::Result<usize> {
    match batch.shape().first() {
        Some(&rows) if rows > 0 => Ok(rows),
        _ => Err(nn::Error::Shape {
            place: place.to_owned(),
            expected: "at least one row".to_owned(),
            found: batch.shape(),
        }),
    }
}

impl StepScore {
    /// From the loss and the number of rows on the right side.
    fn new([loss, right]: [f64; 2], rows: usize) -> nn::Result<Self> {
        if !loss.is_finite() {
            return Err(nn::Error::NotFinite { what: "the loss".to_owned(), value: loss });
        }
        Ok(Self { loss, accuracy: right / rows as f64 })
    }
}

/// What a shard needs for a step of D or G.
#[derive(Debug)]
struct Pass<T> {
    generator: Workspace<T>,
    discriminator: Workspace<T>,
    batch: Tensor<T>,
    judge: Judge<T>,
}

impl<T> Default for Pass<T> {
    fn default() -> Self {
        Self {
            generator: Workspace::default(),
            discriminator: Workspace::default(),
            batch: Tensor::default(),
            judge: Judge::default(),
        }
    }
}

/// The binary cross-entropy on D's logits, with the buffers it needs.
#[derive(Debug)]
struct Judge<T> {
    target: Tensor<T>,
    grad_output: Tensor<T>,
    values: Tensor<T>,
}

impl<T> Default for Judge<T> {
    fn default() -> Self {
        Self { target: Tensor::default(), grad_output: Tensor::default(), values: Tensor::default() }
    }
}

impl<T: Scalar> Judge<T> {
    /// The loss and the number of rows on the right side, of logits with target 1 in the first `real` rows and 0 in
    /// the others. The loss and its gradient are shares of the mean over a batch of `all` rows.
    fn score(&mut self, logits: View<'_, T>, real: usize, all: usize) -> nn::Result<[f64; 2]> {
        let loss = Loss::BinaryCrossentropy { from_logits: true, label_smoothing: 0.0 };
        self.target.resize(logits.shape());
        let (ones, zeros) = self.target.data_mut().split_at_mut(real);
        ones.fill(T::one());
        zeros.fill(T::zero());
        let Self { target, grad_output, values } = self;
        let share = target.data().len() as f64 / all as f64;
        let value =
            loss.share_of_value_and_gradient(logits, target.view(), share, grad_output, values)?.as_f64();
        Ok([value, metrics::count_right(logits, target.view(), loss.threshold()) as f64])
    }
}
