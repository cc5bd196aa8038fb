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

    /// Takes a step with each parameter that is trainable.
    ///
    /// # Errors
    /// [`Error::Shape`] where a gradient does not have its parameter's shape.
    pub fn update(
        &mut self,
        optimizer: &Optimizer,
        parameters: &mut [Parameter<T>],
        gradients: &[Tensor<T>],
    ) -> Result<()> {
        self.step += 1;
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
            step(optimizer, self.step, &mut parameter.value, gradient.view(), slots)?;
        }
        Ok(())
    }
}

/// One step of one parameter.
fn step<T: Scalar>(
    optimizer: &Optimizer,
    number: u64,
    parameter: &mut Tensor<T>,
    gradient: View<'_, T>,
    slots: &mut [Tensor<T>],
) -> Result<()> {
    match (optimizer, slots) {
        (Optimizer::Adam(adam), [m, v]) => {
            let adam = AdamStep::new(adam, 0.0, number);
            update([parameter, m, v], gradient, |[p, m, v], g| {
                let (m, v) = adam.moments(m, v, g);
                [adam.apply(p, m, v), m, v]
            })?;
        }
        (Optimizer::Adam(adam), [m, v, largest]) => {
            let adam = AdamStep::new(adam, 0.0, number);
            update([parameter, m, v, largest], gradient, |[p, m, v, largest], g| {
                let (m, v) = adam.moments(m, v, g);
                let largest = largest.max(v);
                [or_nan(adam.apply(p, m, largest), v), m, v, largest]
            })?;
        }
        (Optimizer::AdamW(adamw), [m, v]) => {
            let AdamW { learning_rate, beta_1, beta_2, epsilon, weight_decay } = *adamw;
            let adam = Adam { learning_rate, beta_1, beta_2, epsilon, amsgrad: false };
            let adam = AdamStep::new(&adam, weight_decay, number);
            update([parameter, m, v], gradient, |[p, m, v], g| {
                let (m, v) = adam.moments(m, v, g);
                [adam.apply(p - p * adam.decay, m, v), m, v]
            })?;
        }
        (Optimizer::Sgd(sgd), [m]) => {
            let (rate, momentum) = (T::from_f64(sgd.learning_rate), T::from_f64(sgd.momentum));
            let ahead = if sgd.nesterov { (momentum, rate) } else { (T::one(), T::zero()) };
            update([parameter, m], gradient, |[p, m], g| {
                let m = momentum * m - rate * g;
                [p + (ahead.0 * m - ahead.1 * g), m]
            })?;
        }
        (Optimizer::RmsProp(rmsprop), [v]) => {
            let (rate, rho) = (T::from_f64(rmsprop.learning_rate), T::from_f64(rmsprop.rho));
            let epsilon = T::from_f64(rmsprop.epsilon);
            update([parameter, v], gradient, |[p, v], g| {
                let v = rho * v + (T::one() - rho) * (g * g);
                [or_nan(p - rate * g / (v + epsilon).sqrt(), v), v]
            })?;
        }
        _ => {}
    }
    Ok(())
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
