//! What D and G strive for.
//!
//! With r and f D's logits of a real and of a fake row, and means over the batch:
//!
//! | objective | D's loss | G's loss | reference |
//! | --- | --- | --- | --- |
//! | `non_saturating` | (softplus(-r) + softplus(f)) / 2 | softplus(-f) | Goodfellow et al., 2014 |
//! | `minimax` | the same | -softplus(f) | Goodfellow et al., 2014 |
//! | `least_squares` | ((r - 1)^2 + f^2) / 2 | (f - 1)^2 | Mao et al., 2017 |
//! | `hinge` | (max(1 - r, 0) + max(1 + f, 0)) / 2 | -f | Lim and Ye, 2017 |
//! | `wasserstein` | f - r | -f | Arjovsky et al., 2017 |
//! | `relativistic_paired` | softplus(f - r) | softplus(r - f) | Jolicoeur-Martineau, 2019; Huang et al., 2024 |
//!
//! softplus(-r) is the binary cross-entropy of the logit r with target 1. Label smoothing s makes that target 1 - s, for
//! D alone (one-sided: Salimans et al., 2016): s softplus(r) + (1 - s) softplus(-r).

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Tensor, View, sigmoid, softplus};

use crate::{Error, Result};

/// What D and G strive for: see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Objective {
    /// Binary cross-entropy, with targets 1 for real and 0 for fake rows, and 1 for G.
    NonSaturating {
        /// How far D's target of real rows lies below 1, from 0 to below 1.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// The same for D; G raises D's loss.
    Minimax {
        /// As in [`Objective::NonSaturating`].
        #[serde(default)]
        label_smoothing: f64,
    },
    /// Squared distances from 1 and 0.
    LeastSquares {},
    /// D's logits are pushed beyond 1 and -1.
    Hinge {},
    /// The difference of D's means. D has to be kept smooth: by a penalty, or by spectral normalisation.
    Wasserstein {},
    /// D tells which of two rows is the real one.
    RelativisticPaired {},
}

impl Default for Objective {
    fn default() -> Self {
        Self::NonSaturating { label_smoothing: 0.0 }
    }
}

/// A batch's, or a shard's, loss and how many rows D puts on the right side.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Judgement {
    /// What the rows bring to the mean loss of the whole batch.
    pub loss: f64,
    /// How many rows are on the right side.
    pub right: usize,
}

impl Objective {
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::NonSaturating { label_smoothing } | Self::Minimax { label_smoothing }
                if !(0.0..1.0).contains(&label_smoothing) =>
            {
                Err(Error::Setting {
                    field: "objective.label_smoothing",
                    expected: "a number from 0 to below 1".to_owned(),
                    found: label_smoothing.to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether G's loss depends on real rows.
    #[must_use]
    pub fn is_relative(self) -> bool {
        matches!(self, Self::RelativisticPaired {})
    }

    /// D's loss on `logits`, those of real rows and then those of as many fake ones, and its gradient.
    ///
    /// Right are, for the relativistic and the Wasserstein objective, which give a logit no meaning by itself, both
    /// rows of a pair in which the real one has the larger logit; else real rows above the middle (0, or 1/2 for
    /// `least_squares`) and fake ones that are not.
    ///
    /// # Shapes
    /// `logits [2 rows, 1]`, `gradient` the same. The loss is a mean over `all` pairs, of which these are some.
    pub fn judge_discriminator<T: Scalar>(
        self,
        logits: View<'_, T>,
        all: usize,
        gradient: &mut Tensor<T>,
    ) -> Judgement {
        gradient.resize(logits.shape());
        let half = logits.data().len() / 2;
        let (real, fake) = logits.data().split_at(half);
        let (real_slopes, fake_slopes) = gradient.data_mut().split_at_mut(half);
        let share = T::one() / T::from_f64(all as f64);
        let middle = self.middle();
        let pairs = matches!(self, Self::RelativisticPaired {} | Self::Wasserstein {});
        let mut judgement = Judgement::default();
        let slopes = real_slopes.iter_mut().zip(fake_slopes);
        for ((&r, &f), (real_slope, fake_slope)) in real.iter().zip(fake).zip(slopes) {
            let (loss, slopes) = self.of_pair(r, f);
            *real_slope = slopes[0] * share;
            *fake_slope = slopes[1] * share;
            judgement.loss += loss.as_f64();
            judgement.right += match pairs {
                true => 2 * usize::from(r > f),
                false => usize::from(r > middle) + usize::from(f <= middle),
            };
        }
        judgement.loss /= all as f64;
        judgement
    }

    /// G's loss on the logits of `fake` rows, and its gradient. Right are those that fool D: that have the larger
    /// logit of a pair (relativistic), or lie above the middle.
    ///
    /// # Shapes
    /// `fake [rows, 1]`, `gradient` the same, and `real` too where [`Objective::is_relative`]; else it is not read.
    /// The loss is a mean over `all` rows, of which these are some.
    pub fn judge_generator<T: Scalar>(
        self,
        real: View<'_, T>,
        fake: View<'_, T>,
        all: usize,
        gradient: &mut Tensor<T>,
    ) -> Judgement {
        gradient.resize(fake.shape());
        let share = T::one() / T::from_f64(all as f64);
        let mut judgement = Judgement::default();
        for (row, (&f, slope)) in fake.data().iter().zip(gradient.data_mut()).enumerate() {
            let r = if self.is_relative() { real.data().get(row).copied() } else { Some(self.middle()) };
            let r = r.unwrap_or_else(T::nan);
            let (loss, of_fake) = self.of_generated(r, f);
            *slope = of_fake * share;
            judgement.loss += loss.as_f64();
            judgement.right += usize::from(f > r);
        }
        judgement.loss /= all as f64;
        judgement
    }

    /// The logit between a real and a fake row.
    fn middle<T: Scalar>(self) -> T {
        T::from_f64(if matches!(self, Self::LeastSquares {}) { 0.5 } else { 0.0 })
    }

    /// D's loss of a pair, and its derivatives with respect to both logits.
    fn of_pair<T: Scalar>(self, r: T, f: T) -> (T, [T; 2]) {
        let (zero, one, half) = (T::zero(), T::one(), T::from_f64(0.5));
        match self {
            Self::NonSaturating { label_smoothing } | Self::Minimax { label_smoothing } => {
                let target = T::from_f64(1.0 - label_smoothing);
                // s softplus(r) + (1 - s) softplus(-r), since softplus(r) = softplus(-r) + r.
                let of_real = softplus(-r) + (one - target) * r;
                (half * (of_real + softplus(f)), [half * (sigmoid(r) - target), half * sigmoid(f)])
            }
            Self::LeastSquares {} => (half * ((r - one) * (r - one) + f * f), [r - one, f]),
            Self::Hinge {} => {
                let (of_real, of_fake) = ((one - r).max(zero), (one + f).max(zero));
                let slope = |loss: T, slope: T| if loss > zero { slope } else { zero };
                (half * (of_real + of_fake), [slope(of_real, -half), slope(of_fake, half)])
            }
            Self::Wasserstein {} => (f - r, [-one, one]),
            Self::RelativisticPaired {} => {
                let slope = sigmoid(f - r);
                (softplus(f - r), [-slope, slope])
            }
        }
    }

    /// G's loss of a fake row, beside a real one, and its derivative with respect to the fake row's logit.
    fn of_generated<T: Scalar>(self, r: T, f: T) -> (T, T) {
        let one = T::one();
        match self {
            Self::NonSaturating { .. } => (softplus(-f), -sigmoid(-f)),
            Self::Minimax { .. } => (-softplus(f), -sigmoid(f)),
            Self::LeastSquares {} => ((f - one) * (f - one), (f - one) + (f - one)),
            Self::Hinge {} | Self::Wasserstein {} => (-f, -one),
            Self::RelativisticPaired {} => (softplus(r - f), -sigmoid(r - f)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of which some are at the middle, and some equal to those they face.
    #[test]
    fn rows_on_the_right_side_are_counted() {
        let logits = [[2.0, 0.5, 0.25, 0.0, 1.0, -1.0], [1.0, 0.0, -1.0, 0.5, 1.0, -2.0]];
        let logits = Tensor::from_vec([12, 1], logits.concat()).unwrap();
        let [real, fake] = [0..6, 6..12].map(|rows| logits.view().rows(rows).unwrap());
        for (objective, of_discriminator, of_generator) in [
            (Objective::default(), 7, 3),
            (Objective::Hinge {}, 7, 3),
            (Objective::LeastSquares {}, 6, 2),
            (Objective::Wasserstein {}, 8, 3),
            (Objective::RelativisticPaired {}, 8, 1),
        ] {
            let gradient = &mut Tensor::default();
            let right = [
                objective.judge_discriminator(logits.view(), 6, gradient).right,
                objective.judge_generator(real, fake, 6, gradient).right,
            ];
            assert_eq!(right, [of_discriminator, of_generator], "{objective:?}");
        }
    }
}
