//! D, G and GD, and the steps in which they learn.

use std::ops::Range;

use nn::{Activation, Mode, Network, Optimizer, OptimizerState, Shards, Wanted, Workspace, check_parameters};
use rand::Rng;
use tensor_ops::{Scalar, Shape, Tensor, View, zip_in_place};

use crate::augment::{self, Change, Changed};
use crate::penalty::{PenaltyPass, Punished};
use crate::score::{check_rows, culprit};
use crate::{Error, Penalty, Result, Rules, StepScore};

/// GD: G followed by a frozen D, which may see several of G's rows as one. A view that borrows both and owns nothing.
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
        self.discriminator.forward(self.as_seen(fake)?, discriminator)
    }

    /// G's rows as D sees them: the same, or several as one.
    fn as_seen<'a>(&self, fake: View<'a, T>) -> nn::Result<View<'a, T>> {
        let seen = self.discriminator.input_shape();
        let rows = fake.shape().len() / seen.len().max(1);
        Ok(fake.reshape(seen.with_first(rows)?)?)
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
        let seen = self.as_seen(fake)?;
        let grad_seen = self.discriminator.backward(seen, grad_output, through, &mut [], discriminator)?;
        let grad_fake = grad_seen.reshape(fake.shape())?;
        let learn = Wanted { input: false, parameters: true };
        self.generator.backward(latent, grad_fake, learn, gradients, generator)?;
        Ok(())
    }
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

    /// Takes a step. `name` is the network's.
    fn update(&mut self, name: &str, rate: f64, clip_norm: Option<f64>) -> nn::Result<()> {
        if let Some(most) = clip_norm {
            nn::clip_norm(self.network.parameters(), &mut self.gradients, most);
        }
        let optimizer = self.optimizer.at_rate(rate);
        self.network.update(name, &optimizer, &mut self.state, &self.gradients)
    }
}

/// A network that follows G at a distance, each of its weights by (1 - decay) of the difference a step.
#[derive(Debug)]
pub struct Average<T> {
    /// The network.
    pub network: Network<T>,
    decay: f64,
}

impl<T: Scalar> Average<T> {
    fn follow(&mut self, leader: &Network<T>) -> nn::Result<()> {
        let share = T::from_f64(1.0 - self.decay);
        for (own, leader) in self.network.parameters_mut().iter_mut().zip(leader.parameters()) {
            zip_in_place(&mut own.value, leader.value.view(), |own, leader| own + (leader - own) * share)?;
        }
        check_parameters("ema.generator", self.network.parameters())
    }
}

/// The steps and the passes in them, each with noise of its own.
const DISCRIMINATOR_STEP: u64 = 0;
const GENERATOR_STEP: u64 = 1;
const GENERATOR_PASS: u64 = 0;
const DISCRIMINATOR_PASS: u64 = 1;
const REAL_PASS: u64 = 2;
const PENALTY_PASS: u64 = 3;

/// D and G in training. Which of their layers learn is read from `trainable` at every step.
#[derive(Debug)]
pub struct Trainer<T> {
    generator: Learner<T>,
    discriminator: Learner<T>,
    average: Option<Average<T>>,
    rules: Rules,
    /// How the next step changes images: the real ones, then the fake ones.
    changes: Vec<Change>,
    rate: f64,
    labels: Vec<usize>,
    shards: Shards<T, Pass<T>, 3>,
    /// Whether D's sigmoid is left to the objective.
    logits: bool,
}

impl<T: Scalar> Trainer<T> {
    /// Joins G and D with an optimizer each.
    ///
    /// # Errors
    /// [`Error::Network`] for an optimizer's setting out of range, [`Error::Setting`] for a rule.
    pub fn new(
        generator: (Network<T>, Optimizer),
        discriminator: (Network<T>, Optimizer),
        rules: Rules,
    ) -> Result<Self> {
        generator.1.check().map_err(Error::network("optimizer.generator"))?;
        discriminator.1.check().map_err(Error::network("optimizer.discriminator"))?;
        rules.check(generator.0.output_shape(), discriminator.0.input_shape())?;
        let logits = leaves_sigmoid_off(&discriminator.0);
        Ok(Self {
            generator: Learner::new(generator.0, generator.1),
            discriminator: Learner::new(discriminator.0, discriminator.1),
            average: None,
            rules,
            changes: Vec::new(),
            rate: 1.0,
            labels: Vec::new(),
            shards: Shards::default(),
            logits,
        })
    }

    /// Lets a network follow G from here on: its weights become the exponential moving average of G's, over about
    /// 1 / (1 - decay) of G's steps.
    ///
    /// # Errors
    /// [`Error::Setting`] for a decay outside [0, 1) or a network unlike G.
    pub fn keep_average(&mut self, mut network: Network<T>, decay: f64) -> Result<()> {
        let refuse = |expected: &str, found: String| {
            Err(Error::Setting { field: "train.ema_decay", expected: expected.to_owned(), found })
        };
        if !(0.0..1.0).contains(&decay) {
            return refuse("a number from 0 to below 1", decay.to_string());
        }
        let shapes =
            |network: &Network<T>| network.parameters().iter().map(|p| p.value.shape()).collect::<Vec<_>>();
        if shapes(&network) != shapes(self.generator()) {
            return refuse("a network with G's parameters", "another".to_owned());
        }
        for (own, leader) in network.parameters_mut().iter_mut().zip(self.generator().parameters()) {
            own.value.copy_from(leader.value.view());
        }
        self.average = Some(Average { network, decay });
        Ok(())
    }

    /// The moving average of G, if one is kept.
    #[must_use]
    pub fn average(&self) -> Option<&Network<T>> {
        self.average.as_ref().map(|average| &average.network)
    }

    /// The moving average of G, to be restored.
    pub fn average_mut(&mut self) -> Option<&mut Network<T>> {
        self.average.as_mut().map(|average| &mut average.network)
    }

    /// The network to sample from: the moving average of G, or G itself.
    #[must_use]
    pub fn sampler(&self) -> &Network<T> {
        self.average().unwrap_or(self.generator())
    }

    /// Sets the classes of the rows that the next steps see, the same for real and fake ones; none for rows without.
    pub fn set_labels(&mut self, labels: &[usize]) {
        self.labels.clear();
        self.labels.extend_from_slice(labels);
    }

    /// Sets the factor on both learning rates, from here on.
    pub fn set_rate(&mut self, factor: f64) {
        self.rate = factor;
    }

    /// Sets how strong the penalty is, from here on.
    pub fn set_penalty(&mut self, penalty: Penalty) {
        self.rules.penalty = penalty;
    }

    /// Draws how the next step, of so many rows, changes images, where [`Rules::augment`] says so: to be called before
    /// each step.
    pub fn draw_changes(&mut self, batch: usize, rng: &mut impl Rng) {
        self.changes.clear();
        let (augment, image) = (self.rules.augment, self.generator.network.output_shape());
        if augment.is_on() {
            self.changes.extend((0..batch.saturating_mul(2)).map(|_| augment.draw(image, rng)));
        }
    }

    /// How steps are taken.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
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

    /// What the passes of the next step are for. A run that is resumed has the same noise as one that goes on.
    fn mode(&self, kind: u64) -> Mode {
        let steps = self.learners().map(|(_, learner)| learner.state.step);
        let mode = Mode::Training { noise: self.rules.noise }.within(kind);
        steps.into_iter().fold(mode, Mode::within)
    }

    /// One step of D on as many real rows as fake ones. G stays as it is.
    ///
    /// `mixing` is what [`Penalty::wgan_gp`] needs: for each row that D sees, its place on the way from a fake row to a
    /// real one, drawn from [0, 1).
    ///
    /// # Shapes
    /// `real [batch, ..G's output]`, `latent [batch, ..G's input]`, `mixing [batch / packing]`.
    ///
    /// # Errors
    /// Where shapes do not fit; [`nn::Error::NotFinite`] for rows or a loss with a NaN or infinity, before D is changed, and
    /// for a gradient or a weight, when it has changed; [`nn::Error::NoTangents`] for a penalty on a D with a layer that has none.
    pub fn discriminator_step(
        &mut self,
        real: View<'_, T>,
        latent: View<'_, T>,
        mixing: Option<View<'_, T>>,
    ) -> nn::Result<StepScore> {
        let mode = self.mode(DISCRIMINATOR_STEP);
        let Self { generator, discriminator, rules, changes, shards, logits, labels, .. } = self;
        let (g, d) = (&generator.network, &discriminator.network);
        let Rules { objective, penalty, packing, .. } = *rules;
        let load = rules.load(g, d);
        check_rows(latent, Some(real))?;
        let rows = rules.rows_of("discriminator step", latent, load)?;
        let real = rules.packed("discriminator step", real, d, rows)?;
        let changes = rules.changes("discriminator step", changes, rows)?;
        let mixing = match mixing.filter(|_| penalty.wgan_gp > 0.0) {
            Some(mixing) if mixing.shape().len() == rows => Some(mixing.data()),
            None if penalty.wgan_gp == 0.0 => None,
            other => {
                let found = other.map(|mixing| mixing.shape()).unwrap_or_default();
                let expected = format!("mixing of {rows} numbers for wgan_gp");
                return Err(nn::Error::Shape { place: "discriminator step".to_owned(), expected, found });
            }
        };
        let sums = shards.run(load, rows, &mut discriminator.gradients, |range, pass, gradients| {
            let count = range.len();
            let real = real.rows(range.clone())?;
            let latent = latent.rows(range.start * packing..range.end * packing)?;
            let mode = mode.within(range.start as u64);
            let Pass { generator, discriminator, batch, grad_output, penalty: penalised, .. } = pass;
            generator.mode = mode.within(GENERATOR_PASS);
            discriminator.mode = mode.within(DISCRIMINATOR_PASS);
            penalised.workspace.mode = mode.within(PENALTY_PASS);
            let labels = labels_of(labels, &range);
            set(&mut generator.labels, &[labels]);
            set(&mut discriminator.labels, &[labels, labels]);
            set(&mut penalised.workspace.labels, &[labels]);
            let fake = g.forward(latent, generator)?.reshape(real.shape())?;
            batch.resize(real.shape().with_axis(0, 2 * count));
            let (first, second) = batch.data_mut().split_at_mut(real.shape().len());
            augment::apply(changes(0, &range), real, first);
            augment::apply(changes(rows, &range), fake, second);

            discriminator.logits = *logits;
            let output = d.forward(batch.view(), discriminator)?;
            let judgement = objective.judge_discriminator(output, rows, grad_output);
            let (batch, loss) = (batch.view(), grad_output.view());
            let (real, fake) = (batch.rows(0..count)?, batch.rows(count..2 * count)?);
            let (mut sum, mut rest) = (0.0, penalty);
            if penalty.is_on_both() && !d.load().whole_batch {
                // Of the very rows that the loss is of: one pass for all. Not where real rows depend on fake ones.
                rest = Penalty { r1: 0.0, r2: 0.0, ..penalty };
                let by_row = |row| Punished::Length(if row < count { penalty.r1 } else { penalty.r2 });
                sum += penalised.add(d, batch, discriminator, Some(loss), (by_row, rows), gradients)?;
            } else {
                let learn = Wanted { input: false, parameters: true };
                d.backward(batch, loss, learn, gradients, discriminator)?;
            }
            penalised.workspace.logits = *logits;
            let mixing = mixing.and_then(|mixing| mixing.get(range)).unwrap_or_default();
            sum += rest.add(d, [real, fake], mixing, rows, gradients, penalised)?;
            Ok([judgement.loss, judgement.right as f64, sum])
        })?;
        let score = StepScore::new("D", sums, 2 * rows)
            .map_err(|error| culprit(Combined { generator: g, discriminator: d }, error))?;
        discriminator.update("discriminator", self.rate, rules.clip_norm)?;
        Ok(score)
    }

    /// One step of G, through the frozen D. D stays as it is.
    ///
    /// # Shapes
    /// `latent [batch, ..G's input]`, and, where [`Objective::is_relative`](crate::Objective::is_relative), `real [batch, ..G's output]`.
    ///
    /// # Errors
    /// As [`Trainer::discriminator_step`].
    pub fn generator_step(
        &mut self,
        latent: View<'_, T>,
        real: Option<View<'_, T>>,
    ) -> nn::Result<StepScore> {
        let mode = self.mode(GENERATOR_STEP);
        let Self { generator, discriminator, average, rules, changes, shards, logits, labels, .. } = self;
        let combined = Combined { generator: &generator.network, discriminator: &discriminator.network };
        let d = combined.discriminator;
        let Rules { objective, packing, .. } = *rules;
        let load = rules.load(combined.generator, d);
        check_rows(latent, real)?;
        let rows = rules.rows_of("generator step", latent, load)?;
        let real = match (real, objective.is_relative()) {
            (Some(real), true) => Some(rules.packed("generator step", real, d, rows)?),
            (_, false) => None,
            (None, true) => {
                let (place, expected) =
                    ("generator step".to_owned(), "real rows, to which the objective compares");
                let found = Shape::default();
                return Err(nn::Error::Shape { place, expected: expected.to_owned(), found });
            }
        };
        let changes = rules.changes("generator step", changes, rows)?;
        let sums = shards.run(load, rows, &mut generator.gradients, |range, pass, gradients| {
            let latent = latent.rows(range.start * packing..range.end * packing)?;
            let mode = mode.within(range.start as u64);
            let Pass { generator, discriminator, real: real_pass, grad_output, batch, changed, .. } = pass;
            generator.mode = mode.within(GENERATOR_PASS);
            discriminator.mode = mode.within(DISCRIMINATOR_PASS);
            real_pass.mode = mode.within(REAL_PASS);
            for pass in [&mut *generator, &mut *discriminator, &mut *real_pass] {
                set(&mut pass.labels, &[labels_of(labels, &range)]);
            }
            discriminator.logits = *logits;
            real_pass.logits = *logits;
            let real = match real {
                Some(real) => {
                    let seen = augment::seen(changes(0, &range), real.rows(range.clone())?, batch);
                    d.forward(seen, real_pass)?
                }
                None => latent,
            };
            let changes = changes(rows, &range);
            let fake = match changes {
                [] => combined.forward(latent, generator, discriminator)?,
                _ => changed.forward(combined, changes, latent, [&mut *generator, &mut *discriminator])?,
            };
            let judgement = objective.judge_generator(real, fake, rows, grad_output);
            let grad = grad_output.view();
            match changes {
                [] => combined.backward(latent, grad, gradients, generator, discriminator)?,
                _ => changed.backward(
                    combined,
                    changes,
                    latent,
                    grad,
                    gradients,
                    [generator, discriminator],
                )?,
            }
            Ok([judgement.loss, judgement.right as f64, 0.0])
        })?;
        let score = StepScore::new("G", sums, rows).map_err(|error| culprit(combined, error))?;
        generator.update("generator", self.rate, rules.clip_norm)?;
        average.as_mut().map_or(Ok(()), |average| average.follow(&generator.network))?;
        Ok(score)
    }
}

/// The labels of some rows, where there are labels for all.
fn labels_of<'a>(labels: &'a [usize], rows: &Range<usize>) -> &'a [usize] {
    labels.get(rows.clone()).unwrap_or_default()
}

/// Makes a list of others, one after the other, in the memory it has.
fn set(labels: &mut Vec<usize>, parts: &[&[usize]]) {
    labels.clear();
    parts.iter().for_each(|part| labels.extend_from_slice(part));
}

/// Whether D's last activation is a sigmoid, which objectives and penalties, defined on logits, leave off.
pub(crate) fn leaves_sigmoid_off<T: Scalar>(discriminator: &Network<T>) -> bool {
    discriminator.final_activation() == Activation::Sigmoid
}

/// What a shard needs for a step of D or G.
#[derive(Debug)]
struct Pass<T> {
    generator: Workspace<T>,
    discriminator: Workspace<T>,
    /// D's on real rows in a step of G.
    real: Workspace<T>,
    batch: Tensor<T>,
    changed: Changed<T>,
    grad_output: Tensor<T>,
    penalty: PenaltyPass<T>,
}

impl<T> Default for Pass<T> {
    fn default() -> Self {
        Self {
            generator: Workspace::default(),
            discriminator: Workspace::default(),
            real: Workspace::default(),
            batch: Tensor::default(),
            changed: Changed::default(),
            grad_output: Tensor::default(),
            penalty: PenaltyPass::default(),
        }
    }
}
