//! Penalties on the gradient of D with respect to its input, which keep D smooth.
//!
//! With g = dD/dx, D without its last sigmoid, and means over the rows:
//!
//! | penalty | added to D's loss | rows | reference |
//! | --- | --- | --- | --- |
//! | `r1` | weight / 2 mean(abs(g)^2) | real | Mescheder et al., 2018 |
//! | `r2` | weight / 2 mean(abs(g)^2) | fake | Mescheder et al., 2018 |
//! | `wgan_gp` | weight mean((abs(g) - 1)^2) | a random point between a real and a fake one | Gulrajani et al., 2017 |
//!
//! Their gradient with respect to D's parameters is exact. With v = dP/dg it is that of the sum of v g over all rows,
//! and v g is how much D changes as x moves along v. So x is moved along v, and the tangent of D's backward pass is what
//! is added to the gradients: two passes more, forwards and backwards.

use nn::{Dual, Network, Schedule, Wanted, Workspace};
use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Tensor, View};

use crate::trainer::leaves_sigmoid_off;
use crate::{Error, Result};

/// The weights of the penalties, each at least 0; 0 leaves it out.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Penalty {
    /// On real rows.
    pub r1: f64,
    /// On fake rows.
    pub r2: f64,
    /// Between real and fake rows.
    pub wgan_gp: f64,
    /// How all weights change while a run goes on. A strong penalty holds D and G together while they are far apart; a
    /// weak one lets D see fine structure (Huang et al., 2024).
    pub schedule: Schedule,
}

impl Penalty {
    pub(crate) fn check(self) -> Result<()> {
        let weights = [("penalty.r1", self.r1), ("penalty.r2", self.r2), ("penalty.wgan_gp", self.wgan_gp)];
        for (field, weight) in weights {
            if !(weight.is_finite() && weight >= 0.0) {
                let expected = "a number >= 0".to_owned();
                return Err(Error::Setting { field, expected, found: weight.to_string() });
            }
        }
        self.schedule.check().map_err(Error::network("penalty"))
    }

    /// The penalty after a share of a run, from 0 to 1.
    #[must_use]
    pub(crate) fn at(self, progress: f64) -> Self {
        let factor = self.schedule.factor(progress);
        let Self { r1, r2, wgan_gp, schedule } = self;
        Self { r1: r1 * factor, r2: r2 * factor, wgan_gp: wgan_gp * factor, schedule }
    }

    /// Whether it is on real and on fake rows: then one pass does for both.
    pub(crate) fn is_on_both(self) -> bool {
        self.r1 > 0.0 && self.r2 > 0.0
    }

    /// The penalty on a discriminator, and its gradient with respect to all parameters that are trainable, which is
    /// added to `gradients`.
    ///
    /// # Shapes
    /// `real` and `fake` `[rows, ..D's input]`; `mixing [rows]`, read where `wgan_gp` is above 0: the place of each
    /// point on the way from the fake row to the real one.
    ///
    /// # Errors
    /// Where shapes do not fit; [`nn::Error::NoTangents`] for a layer that has none.
    pub fn value_and_gradient<T: Scalar>(
        self,
        discriminator: &Network<T>,
        [real, fake]: [View<'_, T>; 2],
        mixing: View<'_, T>,
        gradients: &mut [Tensor<T>],
    ) -> nn::Result<f64> {
        let rows = real.shape().first_dim();
        if real.shape() != fake.shape() || (self.wgan_gp > 0.0 && mixing.shape().len() != rows) {
            let expected = format!("fake rows and mixing for real rows {}", real.shape());
            return Err(nn::Error::Shape { place: "penalty".to_owned(), expected, found: fake.shape() });
        }
        let mut pass = PenaltyPass::default();
        pass.workspace.logits = leaves_sigmoid_off(discriminator);
        self.add(discriminator, [real, fake], mixing.data(), rows, gradients, &mut pass)
    }

    /// As [`Penalty::value_and_gradient`], for rows that are some of `all`.
    pub(crate) fn add<T: Scalar>(
        self,
        discriminator: &Network<T>,
        [real, fake]: [View<'_, T>; 2],
        mixing: &[T],
        all: usize,
        gradients: &mut [Tensor<T>],
        pass: &mut PenaltyPass<T>,
    ) -> nn::Result<f64> {
        let mut sum = 0.0;
        for (weight, points) in [(self.r1, real), (self.r2, fake)] {
            if weight > 0.0 {
                sum += pass.add_at(discriminator, points, (|_| Punished::Length(weight), all), gradients)?;
            }
        }
        if self.wgan_gp > 0.0 {
            let rule = |_| Punished::DistanceFromUnit(self.wgan_gp);
            let mut points = std::mem::take(&mut pass.points);
            mix(real, fake, mixing, &mut points);
            sum += pass.add_at(discriminator, points.view(), (rule, all), gradients)?;
            pass.points = points;
        }
        Ok(sum)
    }
}

/// Points on the way from fake rows to real ones, each at its own place.
fn mix<T: Scalar>(real: View<'_, T>, fake: View<'_, T>, places: &[T], points: &mut Tensor<T>) {
    points.resize(real.shape());
    let width = real.shape().without_first().len().max(1);
    let rows = real.data().chunks_exact(width).zip(fake.data().chunks_exact(width)).zip(places);
    for (row, ((real, fake), &place)) in points.data_mut().chunks_exact_mut(width).zip(rows) {
        for (x, (&real, &fake)) in row.iter_mut().zip(real.iter().zip(fake)) {
            *x = place * real + (T::one() - place) * fake;
        }
    }
}

/// How the gradient of a row is punished.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Punished {
    /// By weight / 2 abs(g)^2.
    Length(f64),
    /// By weight (abs(g) - 1)^2.
    DistanceFromUnit(f64),
}

impl Punished {
    /// The penalty of a gradient, and the factor by which dP/dg is longer than g.
    fn of(self, square: f64) -> (f64, f64) {
        match self {
            Self::Length(weight) => (weight / 2.0 * square, weight),
            Self::DistanceFromUnit(weight) => {
                let length = square.sqrt();
                let excess = length - 1.0;
                // The length has no gradient at 0; there, 0 is as good as any.
                let factor = if length > 0.0 { 2.0 * weight * excess / length } else { 0.0 };
                (weight * excess * excess, factor)
            }
        }
    }
}

/// What a penalty's passes remember.
#[derive(Debug)]
pub(crate) struct PenaltyPass<T> {
    /// D's at points that its loss does not see.
    pub(crate) workspace: Workspace<T>,
    /// Points between real and fake rows.
    points: Tensor<T>,
    tangents: Workspace<T>,
    ones: Tensor<T>,
    zeros: Tensor<T>,
    direction: Tensor<T>,
}

impl<T> Default for PenaltyPass<T> {
    fn default() -> Self {
        Self {
            workspace: Workspace::default(),
            points: Tensor::default(),
            tangents: Workspace::default(),
            ones: Tensor::default(),
            zeros: Tensor::default(),
            direction: Tensor::default(),
        }
    }
}

impl<T: Scalar> PenaltyPass<T> {
    /// As [`PenaltyPass::add`], for points that D has not seen yet.
    fn add_at(
        &mut self,
        discriminator: &Network<T>,
        points: View<'_, T>,
        rule: (impl Fn(usize) -> Punished, usize),
        gradients: &mut [Tensor<T>],
    ) -> nn::Result<f64> {
        let mut workspace = std::mem::take(&mut self.workspace);
        discriminator.forward(points, &mut workspace)?;
        let penalty = self.add(discriminator, points, &mut workspace, None, rule, gradients)?;
        self.workspace = workspace;
        Ok(penalty)
    }

    /// After a forward pass of D on `input` in `workspace`: the penalty on its rows, each by `punished(row)`, as a share
    /// of the mean over `all` rows. Adds its gradient to `gradients`, and with it, for no more than the penalty costs,
    /// that of a loss whose gradient with respect to the logits is `grad_loss`, if there is one.
    pub(crate) fn add(
        &mut self,
        discriminator: &Network<T>,
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
        grad_loss: Option<View<'_, T>>,
        (punished, all): (impl Fn(usize) -> Punished, usize),
        gradients: &mut [Tensor<T>],
    ) -> nn::Result<f64> {
        let Self { tangents, ones, zeros, direction, .. } = self;
        let rows = input.shape().first_dim();
        let logits = discriminator.output_shape().with_first(rows)?;
        for (tensor, value) in [(&mut *ones, T::one()), (&mut *zeros, T::zero())] {
            tensor.resize(logits);
            tensor.fill(value);
        }
        let through = Wanted { input: true, parameters: false };
        let gradient = discriminator.backward(input, ones.view(), through, &mut [], workspace)?;
        direction.copy_from(gradient);
        let width = input.shape().without_first().len().max(1);
        let mut penalty = 0.0;
        for (row, gradient) in direction.data_mut().chunks_exact_mut(width).enumerate() {
            let square: f64 = gradient.iter().map(|g| g.as_f64() * g.as_f64()).sum();
            let (value, factor) = punished(row).of(square);
            let factor = T::from_f64(factor / all as f64);
            penalty += value / all as f64;
            gradient.iter_mut().for_each(|g| *g *= factor);
        }
        let input = Dual { value: input, tangent: direction.view() };
        // The tangent of the backward pass is linear in that of the gradient it starts from: the loss rides along.
        let grad_output = Dual { value: ones.view(), tangent: grad_loss.unwrap_or(zeros.view()) };
        discriminator.forward_tangent(input, workspace, tangents)?;
        let learn = Wanted { input: false, parameters: true };
        discriminator.backward_tangent(input, grad_output, learn, gradients, workspace, tangents)?;
        Ok(penalty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_scales_every_weight() {
        let schedule = Schedule { shape: nn::ScheduleShape::Linear, end: 0.5, warm_up: 0.0 };
        let penalty = Penalty { r1: 1.0, r2: 2.0, wgan_gp: 4.0, schedule };
        assert_eq!(penalty.at(0.5), Penalty { r1: 0.75, r2: 1.5, wgan_gp: 3.0, schedule });
    }

    /// Where D does not change with its input, no direction is the one to go.
    #[test]
    fn a_gradient_of_zero_is_punished_and_has_no_gradient() {
        assert_eq!(Punished::DistanceFromUnit(2.0).of(0.0), (2.0, 0.0));
        assert_eq!(Punished::DistanceFromUnit(2.0).of(4.0), (2.0, 2.0));
        assert_eq!(Punished::Length(3.0).of(4.0), (6.0, 3.0));
    }
}
