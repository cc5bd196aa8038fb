//! Optimizers: how parameters follow their gradients.
//!
//! With g the gradient, p the parameter and t the number of the step, from 1, in Keras' forms:
//!
//! | optimizer | update | reference |
//! | --- | --- | --- |
//! | Adam | m += (1 - b1) (g - m); v += (1 - b2) (g^2 - v); p -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon) | Kingma and Ba, 2015 |
//! | with AMSGrad | the largest v so far in the place of v | Reddi et al., 2018 |
//! | AdamW | p -= rate decay p, then Adam | Loshchilov and Hutter, 2019 |
//! | SGD | m = momentum m - rate g; p += m, or with Nesterov p += momentum m - rate g | Sutskever et al., 2013 |
//! | RMSprop | v = rho v + (1 - rho) g^2; p -= rate g / sqrt(v + epsilon) | Hinton, 2012 |

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Tensor, View, map_slice, update};

use crate::error::check_setting;
use crate::{Error, Parameter, Result};

/// An optimizer with its settings. What it remembers is in an [`OptimizerState`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Optimizer {
    /// Adam, with or without AMSGrad.
    Adam(Adam),
    /// Adam with weight decay.
    #[serde(rename = "adamw")]
    AdamW(AdamW),
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// RMSprop.
    #[serde(rename = "rmsprop")]
    RmsProp(RmsProp),
}

/// Settings of Adam.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adam {
    /// How far a step goes, at least 0.
    pub learning_rate: f64,
    /// How much of the first moment is kept in each step, in [0, 1).
    pub beta_1: f64,
    /// How much of the second moment is kept in each step, in [0, 1).
    pub beta_2: f64,
    /// Keeps the quotient finite, above 0.
    pub epsilon: f64,
    /// Whether to divide by the largest second moment so far.
    pub amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: false }
    }
}

/// Settings of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// How far a step goes, at least 0.
    pub learning_rate: f64,
    /// How much of the first moment is kept in each step, in [0, 1).
    pub beta_1: f64,
    /// How much of the second moment is kept in each step, in [0, 1).
    pub beta_2: f64,
    /// Keeps the quotient finite, above 0.
    pub epsilon: f64,
    /// The share of a parameter, times the learning rate, that is taken away in each step, at least 0.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        let Adam { learning_rate, beta_1, beta_2, epsilon, .. } = Adam::default();
        Self { learning_rate, beta_1, beta_2, epsilon, weight_decay: 0.004 }
    }
}

/// Settings of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// How far a step goes, at least 0.
    pub learning_rate: f64,
    /// How much of the last step is kept, in [0, 1).
    pub momentum: f64,
    /// Whether to look ahead along the last step.
    pub nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { learning_rate: 0.01, momentum: 0.0, nesterov: false }
    }
}

/// Settings of RMSprop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RmsProp {
    /// How far a step goes, at least 0.
    pub learning_rate: f64,
    /// How much of the second moment is kept in each step, in [0, 1).
    pub rho: f64,
    /// Keeps the quotient finite, above 0.
    pub epsilon: f64,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { learning_rate: 1e-3, rho: 0.9, epsilon: 1e-7 }
    }
}

impl Optimizer {
    /// Adam with Keras' settings but for the learning rate.
    #[must_use]
    pub fn adam(learning_rate: f64) -> Self {
        Self::Adam(Adam { learning_rate, ..Adam::default() })
    }

    /// The name in configurations.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adam(_) => "adam",
            Self::AdamW(_) => "adamw",
            Self::Sgd(_) => "sgd",
            Self::RmsProp(_) => "rmsprop",
        }
    }

    /// What is remembered for each parameter, by the names that files use.
    #[must_use]
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            Self::Adam(Adam { amsgrad: true, .. }) => {
                &["first_moment", "second_moment", "largest_second_moment"]
            }
            Self::Adam(_) | Self::AdamW(_) => &["first_moment", "second_moment"],
            Self::Sgd(_) => &["momentum"],
            Self::RmsProp(_) => &["second_moment"],
        }
    }

    /// The same optimizer with its learning rate times `factor`.
    #[must_use]
    pub fn at_rate(mut self, factor: f64) -> Self {
        let rate = match &mut self {
            Self::Adam(adam) => &mut adam.learning_rate,
            Self::AdamW(adamw) => &mut adamw.learning_rate,
            Self::Sgd(sgd) => &mut sgd.learning_rate,
            Self::RmsProp(rmsprop) => &mut rmsprop.learning_rate,
        };
        *rate *= factor;
        self
    }

    /// Refuses settings out of their range.
    ///
    /// # Errors
    /// [`Error::Setting`], which names the first of them.
    pub fn check(&self) -> Result<()> {
        let share = |setting, value: f64| {
            check_setting(
                (0.0..1.0).contains(&value),
                self.name(),
                setting,
                "a number from 0 to below 1",
                value,
            )
        };
        let at_least_0 = |setting, value: f64| {
            check_setting(value >= 0.0 && value.is_finite(), self.name(), setting, "a number >= 0", value)
        };
        let above_0 = |setting, value: f64| {
            check_setting(value > 0.0 && value.is_finite(), self.name(), setting, "a number > 0", value)
        };
        match *self {
            Self::Adam(Adam { learning_rate, beta_1, beta_2, epsilon, .. })
            | Self::AdamW(AdamW { learning_rate, beta_1, beta_2, epsilon, .. }) => {
                at_least_0("learning_rate", learning_rate)?;
                share("beta_1", beta_1)?;
                share("beta_2", beta_2)?;
                above_0("epsilon", epsilon)?;
            }
            Self::Sgd(Sgd { learning_rate, momentum, .. }) => {
                at_least_0("learning_rate", learning_rate)?;
                share("momentum", momentum)?;
            }
            Self::RmsProp(RmsProp { learning_rate, rho, epsilon }) => {
                at_least_0("learning_rate", learning_rate)?;
                share("rho", rho)?;
                above_0("epsilon", epsilon)?;
            }
        }
        if let Self::AdamW(AdamW { weight_decay, .. }) = *self {
            at_least_0("weight_decay", weight_decay)?;
        }
        Ok(())
    }
}

/// Scales the gradients of all parameters that are trainable so that, taken together as one vector, they are no longer
/// than `most` (Pascanu et al., 2013). Returns how long they were.
pub fn clip_norm<T: Scalar>(parameters: &[Parameter<T>], gradients: &mut [Tensor<T>], most: f64) -> f64 {
    let trainable = parameters.iter().zip(&*gradients).filter(|(parameter, _)| parameter.trainable);
    let square =
        |sum, gradient: &Tensor<T>| gradient.data().iter().fold(sum, |sum, x| sum + x.as_f64() * x.as_f64());
    let norm = trainable.fold(0.0, |sum, (_, gradient)| square(sum, gradient)).sqrt();
    if norm > most {
        let scale = T::from_f64(most / norm);
        let trainable = parameters.iter().zip(gradients).filter(|(parameter, _)| parameter.trainable);
        trainable.for_each(|(_, gradient)| map_slice(gradient.data_mut(), |x| x * scale));
    }
    norm
}

/// What an optimizer remembers from step to step.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerState<T> {
    /// How many steps were taken.
    pub step: u64,
    /// For each parameter a tensor for each of [`Optimizer::slots`].
    pub slots: Vec<Vec<Tensor<T>>>,
}

impl<T: Scalar> OptimizerState<T> {
    /// The state before the first step.
    #[must_use]
    pub fn new(optimizer: &Optimizer, parameters: &[Parameter<T>]) -> Self {
        let zeros =
            |p: &Parameter<T>| optimizer.slots().iter().map(|_| Tensor::zeros(p.value.shape())).collect();
        Self { step: 0, slots: parameters.iter().map(zeros).collect() }
    }

    /// Takes a step with each parameter that is trainable. Returns whether all that it changed is finite.
    ///
    /// # Errors
    /// [`Error::Shape`] where a gradient does not have its parameter's shape.
    pub fn update(
        &mut self,
        optimizer: &Optimizer,
        parameters: &mut [Parameter<T>],
        gradients: &[Tensor<T>],
    ) -> Result<bool> {
        self.step = self.step.saturating_add(1);
        let mut finite = true;
        for ((parameter, gradient), slots) in parameters.iter_mut().zip(gradients).zip(&mut self.slots) {
            if !parameter.trainable {
                continue;
            }
            if parameter.value.shape() != gradient.shape() {
                let expected = format!("a gradient of {} like {}", parameter.value.shape(), parameter.key());
                return Err(Error::Shape {
                    place: optimizer.name().to_owned(),
                    expected,
                    found: gradient.shape(),
                });
            }
            finite &= step(optimizer, self.step, &mut parameter.value, gradient.view(), slots)?;
        }
        Ok(finite)
    }
}

/// One step of one parameter. Returns whether it is finite.
fn step<T: Scalar>(
    optimizer: &Optimizer,
    number: u64,
    parameter: &mut Tensor<T>,
    gradient: View<'_, T>,
    slots: &mut [Tensor<T>],
) -> Result<bool> {
    let finite = match (optimizer, slots) {
        (Optimizer::Adam(adam), [m, v]) => {
            let adam = AdamStep::new(adam, 0.0, number);
            update([parameter, m, v], gradient, |[p, m, v], g| {
                let (m, v) = adam.moments(m, v, g);
                [adam.apply(p, m, v), m, v]
            })
        }
        (Optimizer::Adam(adam), [m, v, largest]) => {
            let adam = AdamStep::new(adam, 0.0, number);
            update([parameter, m, v, largest], gradient, |[p, m, v, largest], g| {
                let (m, v) = adam.moments(m, v, g);
                let largest = largest.max(v);
                [or_nan(adam.apply(p, m, largest), v), m, v, largest]
            })
        }
        (Optimizer::AdamW(adamw), [m, v]) => {
            let AdamW { learning_rate, beta_1, beta_2, epsilon, weight_decay } = *adamw;
            let adam = Adam { learning_rate, beta_1, beta_2, epsilon, amsgrad: false };
            let adam = AdamStep::new(&adam, weight_decay, number);
            update([parameter, m, v], gradient, |[p, m, v], g| {
                let (m, v) = adam.moments(m, v, g);
                [adam.apply(p - p * adam.decay, m, v), m, v]
            })
        }
        (Optimizer::Sgd(sgd), [m]) => {
            let (rate, momentum) = (T::from_f64(sgd.learning_rate), T::from_f64(sgd.momentum));
            let ahead = if sgd.nesterov { (momentum, rate) } else { (T::one(), T::zero()) };
            update([parameter, m], gradient, |[p, m], g| {
                let m = momentum * m - rate * g;
                [p + (ahead.0 * m - ahead.1 * g), m]
            })
        }
        (Optimizer::RmsProp(rmsprop), [v]) => {
            let (rate, rho) = (T::from_f64(rmsprop.learning_rate), T::from_f64(rmsprop.rho));
            let epsilon = T::from_f64(rmsprop.epsilon);
            update([parameter, v], gradient, |[p, v], g| {
                let v = rho * v + (T::one() - rho) * (g * g);
                [or_nan(p - rate * g / (v + epsilon).sqrt(), v), v]
            })
        }
        _ => return Ok(true),
    };
    Ok(finite?)
}

/// The numbers of a step of Adam.
struct AdamStep<T> {
    rate: T,
    keep_1: T,
    keep_2: T,
    epsilon: T,
    decay: T,
}

impl<T: Scalar> AdamStep<T> {
    fn new(adam: &Adam, weight_decay: f64, number: u64) -> Self {
        let exponent = number as f64;
        let correction = (1.0 - adam.beta_2.powf(exponent)).sqrt() / (1.0 - adam.beta_1.powf(exponent));
        Self {
            rate: T::from_f64(adam.learning_rate * correction),
            keep_1: T::from_f64(1.0 - adam.beta_1),
            keep_2: T::from_f64(1.0 - adam.beta_2),
            epsilon: T::from_f64(adam.epsilon),
            decay: T::from_f64(adam.learning_rate * weight_decay),
        }
    }

    #[inline(always)]
    fn moments(&self, m: T, v: T, g: T) -> (T, T) {
        let m = without_subnormals(m + (g - m) * self.keep_1);
        (m, without_subnormals(v + (g * g - v) * self.keep_2))
    }

    #[inline(always)]
    fn apply(&self, p: T, m: T, v: T) -> T {
        or_nan(p - self.rate * m / (v.sqrt() + self.epsilon), v)
    }
}

/// The parameter `p`, or NaN where its second moment has overflowed: by that alone it would stand still unseen.
#[inline(always)]
fn or_nan<T: Scalar>(p: T, v: T) -> T {
    p - v * T::zero()
}

/// 0 for a number too small for full precision. Moments of a parameter without gradient decay into such numbers,
/// and processors take a hundred times as long with them.
fn without_subnormals<T: Scalar>(x: T) -> T {
    if x.abs() < T::min_positive_value() { T::zero() } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(values: &[f64]) -> Parameter<f64> {
        Parameter { layer: 0, name: "kernel", value: tensor(values), trainable: true, learned: true }
    }

    fn tensor(values: &[f64]) -> Tensor<f64> {
        Tensor::from_vec([values.len()], values.to_vec()).unwrap()
    }

    /// Three steps from 1 on are those of `follow`, which is told the number of the step, the parameter and the gradient.
    #[track_caller]
    fn check(optimizer: Optimizer, mut follow: impl FnMut(i32, f64, f64) -> f64) {
        let mut parameters = [parameter(&[1.0])];
        let mut state = OptimizerState::new(&optimizer, &parameters);
        let mut expected = 1.0;
        for (step, gradient) in (1..).zip([0.5, -1.0, 0.25]) {
            state.update(&optimizer, &mut parameters, &[tensor(&[gradient])]).unwrap();
            expected = follow(step, expected, gradient);
            approx::assert_relative_eq!(parameters[0].value.data()[0], expected, max_relative = 1e-14);
        }
    }

    /// Adam's step from the two moments, with rate 0.1, betas 0.8 and 0.9, epsilon 0.01.
    fn adam_step(step: i32, m: f64, v: f64) -> f64 {
        0.1 * (1.0 - 0.9_f64.powi(step)).sqrt() / (1.0 - 0.8_f64.powi(step)) * m / (v.sqrt() + 0.01)
    }

    #[test]
    fn steps_are_those_of_the_formulas() {
        let adam = Adam { learning_rate: 0.1, beta_1: 0.8, beta_2: 0.9, epsilon: 0.01, amsgrad: false };
        let moments = |m: &mut f64, v: &mut f64, g: f64| {
            (*m, *v) = (0.8 * *m + 0.2 * g, 0.9 * *v + 0.1 * g * g);
        };
        let (mut m, mut v) = (0.0, 0.0);
        check(Optimizer::Adam(adam), |step, p, g| {
            moments(&mut m, &mut v, g);
            p - adam_step(step, m, v)
        });
        let (mut m, mut v, mut largest) = (0.0, 0.0, 0.0_f64);
        check(Optimizer::Adam(Adam { amsgrad: true, ..adam }), |step, p, g| {
            moments(&mut m, &mut v, g);
            largest = largest.max(v);
            p - adam_step(step, m, largest)
        });
        assert!(largest > v, "the last second moment is not the largest");
        let Adam { learning_rate, beta_1, beta_2, epsilon, .. } = adam;
        let adamw = AdamW { learning_rate, beta_1, beta_2, epsilon, weight_decay: 0.3 };
        let (mut m, mut v) = (0.0, 0.0);
        check(Optimizer::AdamW(adamw), |step, p, g| {
            moments(&mut m, &mut v, g);
            p - 0.1 * 0.3 * p - adam_step(step, m, v)
        });
        for nesterov in [false, true] {
            let mut m = 0.0;
            check(Optimizer::Sgd(Sgd { learning_rate: 0.1, momentum: 0.7, nesterov }), |_, p, g| {
                m = 0.7 * m - 0.1 * g;
                p + if nesterov { 0.7 * m - 0.1 * g } else { m }
            });
        }
        let mut v = 0.0;
        check(Optimizer::RmsProp(RmsProp { learning_rate: 0.1, rho: 0.7, epsilon: 0.01 }), |_, p, g| {
            v = 0.7 * v + 0.3 * g * g;
            p - 0.1 * g / (v + 0.01_f64).sqrt()
        });
    }

    #[test]
    fn moments_do_not_become_subnormal() {
        let smallest = f64::MIN_POSITIVE;
        assert_eq!([smallest, -smallest, 0.5 * smallest].map(without_subnormals), [smallest, -smallest, 0.0]);
    }

    #[test]
    fn a_factor_changes_the_rate_of_each() {
        let at = |rate| {
            [
                Optimizer::adam(rate),
                Optimizer::AdamW(AdamW { learning_rate: rate, ..AdamW::default() }),
                Optimizer::Sgd(Sgd { learning_rate: rate, ..Sgd::default() }),
                Optimizer::RmsProp(RmsProp { learning_rate: rate, ..RmsProp::default() }),
            ]
        };
        assert_eq!(at(0.5).map(|optimizer| optimizer.at_rate(0.25)), at(0.125));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        #[track_caller]
        fn check(optimizer: Optimizer, expected: &str) {
            assert_eq!(optimizer.check().unwrap_err().to_string(), expected);
        }
        let (adam, adamw, sgd, rmsprop) =
            (Adam::default(), AdamW::default(), Sgd::default(), RmsProp::default());
        check(Optimizer::adam(-1.0), "adam: learning_rate: expected a number >= 0, found -1");
        check(Optimizer::adam(f64::INFINITY), "adam: learning_rate: expected a number >= 0, found inf");
        let beta_1 = "adam: beta_1: expected a number from 0 to below 1, found 1";
        check(Optimizer::Adam(Adam { beta_1: 1.0, ..adam }), beta_1);
        let beta_2 = "adam: beta_2: expected a number from 0 to below 1, found -0.5";
        check(Optimizer::Adam(Adam { beta_2: -0.5, ..adam }), beta_2);
        for (epsilon, found) in [(0.0, "0"), (f64::INFINITY, "inf")] {
            let expected = format!("adam: epsilon: expected a number > 0, found {found}");
            check(Optimizer::Adam(Adam { epsilon, ..adam }), &expected);
        }
        let decay = "adamw: weight_decay: expected a number >= 0, found -1";
        check(Optimizer::AdamW(AdamW { weight_decay: -1.0, ..adamw }), decay);
        let momentum = "sgd: momentum: expected a number from 0 to below 1, found 1";
        check(Optimizer::Sgd(Sgd { momentum: 1.0, ..sgd }), momentum);
        let rho = "rmsprop: rho: expected a number from 0 to below 1, found 2";
        check(Optimizer::RmsProp(RmsProp { rho: 2.0, ..rmsprop }), rho);
        for optimizer in [Optimizer::adam(0.0), Optimizer::Sgd(sgd), Optimizer::RmsProp(rmsprop)] {
            optimizer.check().unwrap();
        }
    }

    #[test]
    fn gradients_are_cut_to_one_length_where_they_are_longer() {
        let mut parameters = [parameter(&[0.0; 2]), parameter(&[0.0]), parameter(&[0.0])];
        parameters[1].trainable = false;
        let gradients = || [tensor(&[1.0, -2.0]), tensor(&[100.0]), tensor(&[2.0])];
        let clipped = |most| {
            let mut gradients = gradients();
            assert_eq!(clip_norm(&parameters, &mut gradients, most), 3.0);
            gradients
        };
        assert_eq!(clipped(3.0), gradients());
        assert_eq!(clipped(1.5), [tensor(&[0.5, -1.0]), tensor(&[100.0]), tensor(&[1.0])]);
    }
}
