//! Losses: how far predictions are from targets, as the mean over all rows, and the gradient of that.
//!
//! With p a prediction, t its target, and l a logit (p = sigmoid(l), or p = softmax(l)):
//!
//! | loss | of one element | gradient |
//! | --- | --- | --- |
//! | binary cross-entropy | -t ln p - (1 - t) ln(1 - p) | (p - t) / (p (1 - p)) |
//! | the same on logits | max(l, 0) - t l + ln(1 + e^-abs(l)) | sigmoid(l) - t |
//! | categorical cross-entropy | -sum over classes of t ln p | as of p over its sum |
//! | the same on logits | -sum over classes of t ln softmax(l) | softmax(l) sum(t) - t |
//! | mean squared error | (p - t)^2 | 2 (p - t) |
//! | mean absolute error | abs(p - t) | sign(p - t) |
//! | hinge | max(1 - t p, 0), t in {-1, 1} | -t where t p < 1 |
//!
//! Probabilities are kept within [1e-7, 1 - 1e-7] before a logarithm, as in Keras; beyond, their gradient is 0.
//! Hinge takes targets 0 for -1, as in Keras. Label smoothing s moves targets to t (1 - s) + s / 2 (binary) or
//! t (1 - s) + s / classes (categorical).

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Tensor, View, sigmoid, softplus, sum};

use crate::error::check_setting;
use crate::{Activation, Error, Result};

/// A loss with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loss", rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// For targets that are probabilities, one by one.
    BinaryCrossentropy {
        /// Whether predictions are logits.
        #[serde(default)]
        from_logits: bool,
        /// How far targets are moved towards 1/2, from 0 to 1.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// For targets that are probabilities of classes along the last axis.
    CategoricalCrossentropy {
        /// Whether predictions are logits.
        #[serde(default)]
        from_logits: bool,
        /// How far targets are moved towards equal probabilities, from 0 to 1.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// The mean of squared differences.
    MeanSquaredError,
    /// The mean of absolute differences.
    MeanAbsoluteError,
    /// For targets -1 and 1.
    Hinge,
}

/// How near to 0 and 1 a probability may come before its logarithm is taken.
const SMALLEST_PROBABILITY: f64 = 1e-7;

impl Loss {
    /// Binary cross-entropy on probabilities.
    pub const BINARY_CROSSENTROPY: Self =
        Self::BinaryCrossentropy { from_logits: false, label_smoothing: 0.0 };
    /// Categorical cross-entropy on probabilities.
    pub const CATEGORICAL_CROSSENTROPY: Self =
        Self::CategoricalCrossentropy { from_logits: false, label_smoothing: 0.0 };

    /// The name in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BinaryCrossentropy { .. } => "binary_crossentropy",
            Self::CategoricalCrossentropy { .. } => "categorical_crossentropy",
            Self::MeanSquaredError => "mean_squared_error",
            Self::MeanAbsoluteError => "mean_absolute_error",
            Self::Hinge => "hinge",
        }
    }

    /// This loss for a network that ends in `activation`: if the two belong together (sigmoid and binary,
    /// softmax and categorical cross-entropy), the same loss on the logits, and `true` for leaving the
    /// activation off. That is exact where probabilities have long been rounded to 0 or 1.
    #[must_use]
    pub fn fused_with(self, activation: Activation) -> (Self, bool) {
        match (self, activation) {
            (Self::BinaryCrossentropy { from_logits: false, label_smoothing }, Activation::Sigmoid) => {
                (Self::BinaryCrossentropy { from_logits: true, label_smoothing }, true)
            }
            (Self::CategoricalCrossentropy { from_logits: false, label_smoothing }, Activation::Softmax) => {
                (Self::CategoricalCrossentropy { from_logits: true, label_smoothing }, true)
            }
            _ => (self, false),
        }
    }

    /// The prediction above which a single number counts as 1 rather than 0, for accuracy.
    #[must_use]
    pub fn threshold<T: Scalar>(self) -> T {
        match self {
            Self::BinaryCrossentropy { from_logits: true, .. } | Self::Hinge => T::zero(),
            _ => T::from_f64(0.5),
        }
    }

    /// The value, and the gradient of it with respect to the predictions.
    ///
    /// # Shapes
    /// `prediction` and `target` the same; `gradient` takes it too.
    ///
    /// # Errors
    /// [`Error::Shape`] where they differ or hold nothing, [`Error::Setting`] for a label smoothing outside
    /// [0, 1].
    pub fn value_and_gradient<T: Scalar>(
        self,
        prediction: View<'_, T>,
        target: View<'_, T>,
        gradient: &mut Tensor<T>,
    ) -> Result<T> {
        self.share_of_value_and_gradient(prediction, target, 1.0, gradient, &mut Tensor::default())
    }

    /// As [`Loss::value_and_gradient`], for rows that are a `share`, from 0 to 1, of a larger batch: what they bring to
    /// its mean. `values` is a buffer for the loss of each element.
    ///
    /// # Errors
    /// As there.
    pub fn share_of_value_and_gradient<T: Scalar>(
        self,
        prediction: View<'_, T>,
        target: View<'_, T>,
        share: f64,
        gradient: &mut Tensor<T>,
        values: &mut Tensor<T>,
    ) -> Result<T> {
        self.check(prediction, target)?;
        gradient.resize(prediction.shape());
        values.resize(prediction.shape());
        let (rows, columns) = prediction.shape().as_matrix();
        let count = match self {
            Self::CategoricalCrossentropy { .. } => rows,
            _ => rows * columns,
        };
        let scale = T::from_f64(share / count as f64);
        if let Self::CategoricalCrossentropy { from_logits, label_smoothing } = self {
            let smoothing = Smoothing::new(label_smoothing, 1.0 / columns as f64);
            let inputs = prediction.data().chunks_exact(columns).zip(target.data().chunks_exact(columns));
            let outputs = gradient.data_mut().chunks_exact_mut(columns);
            let outputs = outputs.zip(values.data_mut().chunks_exact_mut(columns));
            for ((prediction, target), (gradient, values)) in inputs.zip(outputs) {
                let target = || target.iter().map(|&t| smoothing.apply(t));
                categorical(from_logits, prediction, target, gradient, values);
            }
        } else {
            let element = self.element();
            let outputs = gradient.data_mut().iter_mut().zip(values.data_mut());
            for ((g, value), (&p, &t)) in outputs.zip(prediction.data().iter().zip(target.data())) {
                (*value, *g) = element(p, t);
            }
        }
        gradient.data_mut().iter_mut().for_each(|g| *g *= scale);
        Ok(sum(values.data()) * scale)
    }

    /// The loss and gradient of one element, where elements stand by themselves.
    fn element<T: Scalar>(self) -> impl Fn(T, T) -> (T, T) {
        let (zero, one) = (T::zero(), T::one());
        let smoothing = match self {
            Self::BinaryCrossentropy { label_smoothing, .. } => Smoothing::new(label_smoothing, 0.5),
            _ => Smoothing::new(0.0, 0.0),
        };
        move |p, t| match self {
            Self::BinaryCrossentropy { from_logits: true, .. } => {
                let t = smoothing.apply(t);
                // For a target of 0 or 1 this is softplus of the logit turned away from it: no cancellation.
                let value = if t == one { softplus(-p) } else { softplus(p) - t * p };
                (value, if t == one { -sigmoid(-p) } else { sigmoid(p) - t })
            }
            Self::BinaryCrossentropy { .. } => {
                let t = smoothing.apply(t);
                let (q, inside) = clip(p);
                let value = -(t * q.ln() + (one - t) * (one - q).ln());
                (value, if inside { (q - t) / (q * (one - q)) } else { zero })
            }
            Self::MeanAbsoluteError => {
                let difference = p - t;
                (difference.abs(), if difference == zero { zero } else { difference.signum() })
            }
            Self::Hinge => {
                let t = if t == zero { -one } else { t };
                let margin = one - t * p;
                if margin <= zero { (zero, zero) } else { (margin, -t) }
            }
            Self::MeanSquaredError | Self::CategoricalCrossentropy { .. } => {
                let difference = p - t;
                (difference * difference, difference + difference)
            }
        }
    }

    fn check<T: Scalar>(self, prediction: View<'_, T>, target: View<'_, T>) -> Result<()> {
        if let Self::BinaryCrossentropy { label_smoothing, .. }
        | Self::CategoricalCrossentropy { label_smoothing, .. } = self
        {
            let ok = (0.0..=1.0).contains(&label_smoothing);
            check_setting(ok, self.name(), "label_smoothing", "a number from 0 to 1", label_smoothing)?;
        }
        if prediction.shape() == target.shape() && !prediction.data().is_empty() {
            return Ok(());
        }
        let expected = format!("targets like the predictions {}, at least one", prediction.shape());
        Err(Error::Shape { place: self.name().to_owned(), expected, found: target.shape() })
    }
}

/// Moves targets towards the middle.
#[derive(Clone, Copy)]
struct Smoothing {
    keep: f64,
    add: f64,
}

impl Smoothing {
    fn new(smoothing: f64, middle: f64) -> Self {
        Self { keep: 1.0 - smoothing, add: smoothing * middle }
    }

    fn apply<T: Scalar>(self, target: T) -> T {
        if self.add == 0.0 { target } else { target * T::from_f64(self.keep) + T::from_f64(self.add) }
    }
}

/// A probability kept away from 0 and 1, and whether it was away already.
fn clip<T: Scalar>(p: T) -> (T, bool) {
    let smallest = T::from_f64(SMALLEST_PROBABILITY);
    let largest = T::one() - smallest;
    if p < smallest {
        (smallest, false)
    } else if p > largest {
        (largest, false)
    } else {
        (p, true)
    }
}

/// The categorical cross-entropy of one row: its terms into `values`, its gradient into `gradient`.
fn categorical<T: Scalar, I: Iterator<Item = T>>(
    from_logits: bool,
    prediction: &[T],
    target: impl Fn() -> I,
    gradient: &mut [T],
    values: &mut [T],
) {
    let target_sum: T = target().sum();
    let classes = prediction.iter().zip(target()).zip(gradient.iter_mut().zip(values));
    if from_logits {
        let largest = prediction.iter().copied().fold(T::neg_infinity(), T::max);
        let total: T = prediction.iter().map(|&l| (l - largest).exp()).sum();
        let log_total = total.ln();
        for ((&logit, t), (gradient, value)) in classes {
            let log_p = logit - largest - log_total;
            *value = if t == T::zero() { T::zero() } else { -t * log_p };
            *gradient = log_p.exp() * target_sum - t;
        }
        return;
    }
    let total: T = prediction.iter().copied().sum();
    let mut pull = T::zero();
    for ((&p, t), (gradient, value)) in classes {
        let (q, inside) = clip(p / total);
        *value = -t * q.ln();
        *gradient = if inside { -t / q } else { T::zero() };
        pull += *gradient * p / total;
    }
    gradient.iter_mut().for_each(|g| *g = (*g - pull) / total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(loss: Loss, prediction: f64, target: f64, value: f64, gradient: f64) {
        let (p, t) = (Tensor::full([1, 1], prediction), Tensor::full([1, 1], target));
        let mut g = Tensor::default();
        let found = loss.value_and_gradient(p.view(), t.view(), &mut g).unwrap();
        approx::assert_relative_eq!(found, value, max_relative = 1e-14);
        approx::assert_relative_eq!(g.data()[0], gradient, max_relative = 1e-14);
    }

    #[test]
    fn numbers_count_as_1_from_the_middle_on() {
        let logits = Loss::BinaryCrossentropy { from_logits: true, label_smoothing: 0.0 };
        let losses = [logits, Loss::Hinge, Loss::BINARY_CROSSENTROPY, Loss::MeanSquaredError];
        assert_eq!(losses.map(Loss::threshold::<f64>), [0.0, 0.0, 0.5, 0.5]);
    }

    #[test]
    fn logits_are_exact_far_out() {
        let loss = Loss::BinaryCrossentropy { from_logits: true, label_smoothing: 0.0 };
        check(loss, 1000.0, 1.0, 0.0, 0.0);
        check(loss, 1000.0, 0.0, 1000.0, 1.0);
        check(loss, -1000.0, 0.0, 0.0, 0.0);
        check(loss, -1000.0, 1.0, 1000.0, -1.0);
        check(loss, 40.0, 1.0, (-40.0_f64).exp(), -(-40.0_f64).exp());
        check(loss, f64::MAX, 0.0, f64::MAX, 1.0);
        check(loss, 0.0, 0.5, 2.0_f64.ln(), 0.0);
    }

    #[test]
    fn probabilities_never_give_nan() {
        let largest = -(SMALLEST_PROBABILITY.ln());
        check(Loss::BINARY_CROSSENTROPY, 0.0, 1.0, largest, 0.0);
        check(Loss::BINARY_CROSSENTROPY, 0.25, 1.0, 4.0_f64.ln(), -4.0);
        check(Loss::Hinge, 2.0, 0.0, 3.0, 1.0);
        check(Loss::Hinge, 2.0, 1.0, 0.0, 0.0);
        check(Loss::MeanAbsoluteError, 1.0, 1.0, 0.0, 0.0);
    }

    /// Value and gradient of two rows of three classes, or numbers, in one tensor.
    #[track_caller]
    fn check_rows(loss: Loss, prediction: [f64; 6], target: [f64; 6], value: f64, gradient: [f64; 6]) {
        let [p, t] = [prediction, target].map(|x| Tensor::from_vec([2, 3], x.to_vec()).unwrap());
        let mut g = Tensor::default();
        let found = loss.value_and_gradient(p.view(), t.view(), &mut g).unwrap();
        approx::assert_relative_eq!(found, value, max_relative = 1e-14);
        approx::assert_relative_eq!(g.data(), &gradient[..], epsilon = 1e-14);
        // Of rows that are a quarter of a batch, a quarter.
        let (mut quarter, mut values) = (Tensor::default(), Tensor::default());
        let found =
            loss.share_of_value_and_gradient(p.view(), t.view(), 0.25, &mut quarter, &mut values).unwrap();
        approx::assert_relative_eq!(found, 0.25 * value, max_relative = 1e-14);
        approx::assert_relative_eq!(quarter.data(), &gradient.map(|g| 0.25 * g)[..], epsilon = 1e-14);
    }

    #[test]
    fn numbers_by_themselves_are_averaged_over_all() {
        let (p, t) = ([1.0, -2.0, 0.5, 3.0, 0.0, 0.25], [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        let d = [1.0, -3.0, -0.5, 2.0, 0.0, 0.25];
        let squares = (1.0 + 9.0 + 0.25 + 4.0 + 0.0625) / 6.0;
        check_rows(Loss::MeanSquaredError, p, t, squares, d.map(|d| 2.0 * d / 6.0));
        let signs = [1.0, -1.0, -1.0, 1.0, 0.0, 1.0].map(|sign| sign / 6.0);
        check_rows(Loss::MeanAbsoluteError, p, t, 6.75 / 6.0, signs);
        let slopes = [1.0, -1.0, -1.0, 0.0, 1.0, 1.0].map(|slope| slope / 6.0);
        check_rows(Loss::Hinge, p, t, (2.0 + 3.0 + 0.5 + 1.0 + 1.25) / 6.0, slopes);
    }

    #[test]
    fn smoothing_moves_targets_towards_the_middle() {
        let smoothed = Loss::BinaryCrossentropy { from_logits: false, label_smoothing: 0.2 };
        let value = -(0.9 * 0.25_f64.ln() + 0.1 * 0.75_f64.ln());
        check(smoothed, 0.25, 1.0, value, (0.25 - 0.9) / (0.25 * 0.75));
        let on_logits = Loss::BinaryCrossentropy { from_logits: true, label_smoothing: 0.2 };
        check(on_logits, -(3.0_f64.ln()), 1.0, value, 0.25 - 0.9);

        let (p, t) = ([0.2, 0.3, 0.5, 0.125, 0.625, 0.25], [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
        let moved = [0.1, 0.8, 0.1, 0.8, 0.1, 0.1];
        let terms = p.iter().zip(moved).map(|(p, t): (&f64, f64)| -t * p.ln());
        let (value, log_p) = (terms.sum::<f64>() / 2.0, p.map(f64::ln));
        let on_logits = Loss::CategoricalCrossentropy { from_logits: true, label_smoothing: 0.3 };
        check_rows(on_logits, log_p, t, value, std::array::from_fn(|i| (p[i] - moved[i]) / 2.0));
        // Twice the probabilities are the same ones: only their shares count.
        let smoothed = Loss::CategoricalCrossentropy { from_logits: false, label_smoothing: 0.3 };
        for factor in [1.0, 2.0] {
            let slopes = std::array::from_fn(|i| (1.0 - moved[i] / p[i]) / (2.0 * factor));
            check_rows(smoothed, p.map(|p| factor * p), t, value, slopes);
        }
    }

    #[test]
    fn probabilities_are_kept_from_0_and_1() {
        let largest = 1.0 - SMALLEST_PROBABILITY;
        check(Loss::BINARY_CROSSENTROPY, 1.0, 1.0, -largest.ln(), 0.0);
        check(Loss::BINARY_CROSSENTROPY, 1.0, 0.0, -(1.0 - largest).ln(), 0.0);
        // At the edge itself the slope is still there.
        check(Loss::BINARY_CROSSENTROPY, largest, 1.0, -largest.ln(), -1.0 / largest);
    }

    #[test]
    fn losses_that_belong_to_an_activation_take_its_logits() {
        for (loss, activation, other) in [
            (Loss::BINARY_CROSSENTROPY, Activation::Sigmoid, Activation::Softmax),
            (Loss::CATEGORICAL_CROSSENTROPY, Activation::Softmax, Activation::Sigmoid),
        ] {
            let (fused, leave_off) = loss.fused_with(activation);
            assert!(leave_off && fused != loss && fused.name() == loss.name());
            assert_eq!(loss.fused_with(other), (loss, false));
            assert_eq!(fused.fused_with(activation), (fused, false));
        }
    }

    #[test]
    fn smoothing_out_of_range_is_refused() {
        let (p, mut g) = (Tensor::full([1, 1], 0.5), Tensor::default());
        for label_smoothing in [-0.1, 1.1] {
            let loss = Loss::BinaryCrossentropy { from_logits: false, label_smoothing };
            let error = loss.value_and_gradient(p.view(), p.view(), &mut g).unwrap_err().to_string();
            let place = "binary_crossentropy: label_smoothing: expected a number from 0 to 1";
            assert_eq!(error, format!("{place}, found {label_smoothing}"));
        }
        let error = Loss::Hinge.value_and_gradient(g.view(), g.view(), &mut Tensor::default());
        assert!(error.is_err(), "a loss of nothing");
    }

    #[test]
    fn mismatched_targets_are_refused() {
        let (p, t) = (Tensor::<f32>::zeros([2, 1]), Tensor::zeros([1, 2]));
        let error = Loss::Hinge.value_and_gradient(p.view(), t.view(), &mut Tensor::default()).unwrap_err();
        let message = "hinge: expected targets like the predictions [2, 1], at least one, found [1, 2]";
        assert_eq!(error.to_string(), message);
    }
}
