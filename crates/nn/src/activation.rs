//! Activation functions, as layers have them built in.
//!
//! With x the input, y = f(x) the output and g = dL/dy, each gives dL/dx. All but SiLU need only y for it:
//!
//! | name | y | dL/dx |
//! | --- | --- | --- |
//! | `linear` | x | g |
//! | `relu` | max(x, 0) | g where x > 0 |
//! | `leaky_relu` | x, or slope x where x < 0 | g, or slope g |
//! | `elu` | x, or alpha (e^x - 1) where x < 0 | g, or g (y + alpha) |
//! | `sigmoid` | 1 / (1 + e^-x) | g y (1 - y) |
//! | `tanh` | tanh x | g (1 - y^2) |
//! | `softplus` | ln(1 + e^x) | g (1 - e^-y) |
//! | `silu` | x sigmoid(x) | g (s + y (1 - s)), s = sigmoid(x) |
//! | `softmax` | e^x over its sum along the last axis | y (g - sum(g y)) |
//!
//! The gradient changes, as x moves along a tangent and g along its own, by the tangent of g in the place of g, and by
//! g times the tangent of x times the second derivative: 0 for the first three, 2 s (1 - s) + x s (1 - s) (1 - 2 s) for
//! SiLU, and y' (1 - 2 y), -2 y y', y' (1 - y') and y + alpha below 0, with y' the first, for sigmoid, tanh, softplus
//! and ELU.

use serde::{Deserialize, Serialize};
use tensor_ops::{
    Scalar, Tensor, View, exp, exp_m1_of_negative, map, map_slice, sigmoid, softplus, tanh, zip, zip_in_place,
};

use crate::error::check_setting;
use crate::{Dual, Result};

/// An activation function. In a configuration: its name, or `{ leaky_relu = { negative_slope = 0.1 } }`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "ActivationText", into = "ActivationText")]
pub enum Activation {
    /// x.
    #[default]
    Linear,
    /// max(x, 0).
    Relu,
    /// x where positive, else `negative_slope` x.
    LeakyRelu {
        /// The slope for negative x; 0.2 unless given, as in Keras.
        negative_slope: f64,
    },
    /// x where positive, else `alpha` (e^x - 1).
    Elu {
        /// The limit at minus infinity, negated; 1 unless given.
        alpha: f64,
    },
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// ln(1 + e^x).
    Softplus,
    /// x sigmoid(x), also called swish.
    Silu,
    /// e^x over its sum along the last axis.
    Softmax,
}

impl Activation {
    /// The function's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Relu => "relu",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Elu { .. } => "elu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Silu => "silu",
            Self::Softmax => "softmax",
        }
    }

    /// Whether the gradient needs the input beside the output.
    #[must_use]
    pub fn needs_input(self) -> bool {
        self == Self::Silu
    }

    pub(crate) fn check(self, place: &str) -> Result<()> {
        let (setting, value) = match self {
            Self::LeakyRelu { negative_slope } => ("negative_slope", negative_slope),
            Self::Elu { alpha } => ("alpha", alpha),
            _ => return Ok(()),
        };
        // A negative slope would make the output ambiguous: which side it came from could not be told.
        check_setting(value.is_finite() && value >= 0.0, place, setting, "a number >= 0", value)
    }

    /// Whether each number is computed from one number alone: all but softmax.
    #[must_use]
    pub fn is_elementwise(self) -> bool {
        self != Self::Softmax
    }

    /// `output = f(input)`; `output` takes the shape of `input`.
    pub fn forward<T: Scalar>(self, input: View<'_, T>, output: &mut Tensor<T>) {
        match self {
            Self::Linear => output.copy_from(input),
            Self::Relu => map(input, output, relu),
            Self::LeakyRelu { negative_slope } => map(input, output, leaky_relu(negative_slope)),
            Self::Elu { alpha } => map(input, output, elu(alpha)),
            Self::Sigmoid => map(input, output, sigmoid),
            Self::Tanh => map(input, output, tanh),
            Self::Softplus => map(input, output, softplus),
            Self::Silu => map(input, output, silu),
            Self::Softmax => {
                output.copy_from(input);
                let columns = output.shape().last_dim().max(1);
                for row in output.data_mut().chunks_exact_mut(columns) {
                    let largest = row.iter().copied().fold(T::neg_infinity(), T::max);
                    map_slice(row, |x| exp(x - largest));
                    let scale = T::one() / row.iter().copied().sum::<T>();
                    map_slice(row, |x| x * scale);
                }
            }
        }
    }

    /// `values[i] = f(values[i])`, where [`Activation::is_elementwise`]; softmax leaves them as they are.
    pub fn apply<T: Scalar>(self, values: &mut [T]) {
        match self {
            Self::Linear | Self::Softmax => {}
            Self::Relu => map_slice(values, relu),
            Self::LeakyRelu { negative_slope } => map_slice(values, leaky_relu(negative_slope)),
            Self::Elu { alpha } => map_slice(values, elu(alpha)),
            Self::Sigmoid => map_slice(values, sigmoid),
            Self::Tanh => map_slice(values, tanh),
            Self::Softplus => map_slice(values, softplus),
            Self::Silu => map_slice(values, silu),
        }
    }

    /// `grad_input = grad_output f'`, from the `input` (read only where [`Activation::needs_input`]) and the
    /// `output` of the forward pass.
    ///
    /// # Errors
    /// Where the shapes differ.
    pub fn backward<T: Scalar>(
        self,
        input: View<'_, T>,
        output: View<'_, T>,
        grad_output: View<'_, T>,
        grad_input: &mut Tensor<T>,
    ) -> Result<()> {
        let (zero, one) = (T::zero(), T::one());
        match self {
            Self::Linear => grad_input.copy_from(grad_output),
            Self::Relu => zip(grad_output, output, grad_input, |g, y| if y > zero { g } else { zero })?,
            Self::LeakyRelu { negative_slope } => {
                let slope = T::from_f64(negative_slope);
                zip(grad_output, output, grad_input, |g, y| g * if y > zero { one } else { slope })?;
            }
            Self::Elu { alpha } => {
                let alpha = T::from_f64(alpha);
                zip(grad_output, output, grad_input, |g, y| g * if y > zero { one } else { y + alpha })?;
            }
            Self::Sigmoid => zip(grad_output, output, grad_input, |g, y| g * (y * (one - y)))?,
            Self::Tanh => zip(grad_output, output, grad_input, |g, y| g * (one - y * y))?,
            Self::Softplus => zip(grad_output, output, grad_input, |g, y| -g * exp_m1_of_negative(-y))?,
            Self::Silu => {
                map(input, grad_input, |x| {
                    let s = sigmoid(x);
                    s + x * s * (one - s)
                });
                zip_in_place(grad_input, grad_output, |slope, g| slope * g)?;
            }
            Self::Softmax => {
                zip(grad_output, output, grad_input, |g, y| g * y)?;
                let columns = output.shape().last_dim().max(1);
                let rows = grad_input.data_mut().chunks_exact_mut(columns);
                for (row, y) in rows.zip(output.data().chunks_exact(columns)) {
                    let mean = row.iter().copied().sum::<T>();
                    row.iter_mut().zip(y).for_each(|(x, &y)| *x -= y * mean);
                }
            }
        }
        Ok(())
    }

    /// How the `grad_input` of [`Activation::backward`] changes as the input moves along `tangent` and the gradient of
    /// the output along its own.
    ///
    /// # Errors
    /// Where the shapes differ.
    pub fn backward_tangent<T: Scalar>(
        self,
        input: View<'_, T>,
        output: View<'_, T>,
        tangent: View<'_, T>,
        grad_output: Dual<'_, T>,
        result: &mut Tensor<T>,
    ) -> Result<()> {
        self.backward(input, output, grad_output.tangent, result)?;
        let (zero, one) = (T::zero(), T::one());
        let two = one + one;
        // Most second derivatives need y alone, whose place the input takes where it was not kept.
        let input = if self.needs_input() { input } else { output };
        let curved = [grad_output.value, tangent, input, output];
        match self {
            Self::Linear | Self::Relu | Self::LeakyRelu { .. } => {}
            Self::Elu { alpha } => {
                let alpha = T::from_f64(alpha);
                add_curved(result, curved, |_, y| if y > zero { zero } else { y + alpha });
            }
            Self::Sigmoid => add_curved(result, curved, |_, y| y * (one - y) * (one - two * y)),
            Self::Tanh => add_curved(result, curved, |_, y| -two * y * (one - y * y)),
            Self::Softplus => add_curved(result, curved, |_, y| {
                let slope = -exp_m1_of_negative(-y);
                slope * (one - slope)
            }),
            Self::Silu => add_curved(result, curved, |x, _| {
                let s = sigmoid(x);
                s * (one - s) * (two + x * (one - two * s))
            }),
            Self::Softmax => {
                // y (g - sum(g y)): y moves by y (t - sum(t y)).
                let columns = output.shape().last_dim().max(1);
                let lines = output.data().chunks_exact(columns).zip(tangent.data().chunks_exact(columns));
                let lines = lines.zip(grad_output.value.data().chunks_exact(columns));
                for (sums, ((y, t), g)) in result.data_mut().chunks_exact_mut(columns).zip(lines) {
                    let mean = |values: &[T]| values.iter().zip(y).map(|(&v, &y)| v * y).sum::<T>();
                    let (mean_t, mean_g) = (mean(t), mean(g));
                    let moved = |(&y, &t): (&T, &T)| y * (t - mean_t);
                    let mean_moved: T = y.iter().zip(t).zip(g).map(|(yt, &g)| moved(yt) * g).sum();
                    for ((sum, yt), &g) in sums.iter_mut().zip(y.iter().zip(t)).zip(g) {
                        *sum += moved(yt) * (g - mean_g) - *yt.0 * mean_moved;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Adds to each sum the product of a gradient, a tangent and a second derivative, by `f` of x and y.
fn add_curved<T: Scalar>(
    sums: &mut Tensor<T>,
    [gradient, tangent, x, y]: [View<'_, T>; 4],
    f: impl Fn(T, T) -> T,
) {
    let terms = gradient.data().iter().zip(tangent.data()).zip(x.data().iter().zip(y.data()));
    for (sum, ((&g, &t), (&x, &y))) in sums.data_mut().iter_mut().zip(terms) {
        *sum += g * t * f(x, y);
    }
}

#[inline(always)]
fn relu<T: Scalar>(x: T) -> T {
    if x <= T::zero() { T::zero() } else { x }
}

fn leaky_relu<T: Scalar>(negative_slope: f64) -> impl Fn(T) -> T {
    let slope = T::from_f64(negative_slope);
    move |x| x * if x <= T::zero() { slope } else { T::one() }
}

fn elu<T: Scalar>(alpha: f64) -> impl Fn(T) -> T {
    let alpha = T::from_f64(alpha);
    move |x| {
        let below = alpha * exp_m1_of_negative(if x <= T::zero() { x } else { T::zero() });
        if x <= T::zero() { below } else { x }
    }
}

#[inline(always)]
fn silu<T: Scalar>(x: T) -> T {
    x * sigmoid(x)
}

/// How a configuration writes an activation.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected linear, relu, leaky_relu, elu, sigmoid, tanh, softplus, silu or softmax, or a table \
                 like { leaky_relu = { negative_slope = 0.1 } }"
)]
enum ActivationText {
    Name(ActivationName),
    WithSetting(ActivationWithSetting),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActivationName {
    Linear,
    Relu,
    LeakyRelu,
    Elu,
    Sigmoid,
    Tanh,
    Softplus,
    Silu,
    Softmax,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ActivationWithSetting {
    LeakyRelu { negative_slope: f64 },
    Elu { alpha: f64 },
}

impl From<ActivationText> for Activation {
    fn from(text: ActivationText) -> Self {
        match text {
            ActivationText::WithSetting(ActivationWithSetting::LeakyRelu { negative_slope }) => {
                Self::LeakyRelu { negative_slope }
            }
            ActivationText::WithSetting(ActivationWithSetting::Elu { alpha }) => Self::Elu { alpha },
            ActivationText::Name(name) => match name {
                ActivationName::Linear => Self::Linear,
                ActivationName::Relu => Self::Relu,
                ActivationName::LeakyRelu => Self::LeakyRelu { negative_slope: 0.2 },
                ActivationName::Elu => Self::Elu { alpha: 1.0 },
                ActivationName::Sigmoid => Self::Sigmoid,
                ActivationName::Tanh => Self::Tanh,
                ActivationName::Softplus => Self::Softplus,
                ActivationName::Silu => Self::Silu,
                ActivationName::Softmax => Self::Softmax,
            },
        }
    }
}

impl From<Activation> for ActivationText {
    fn from(activation: Activation) -> Self {
        Self::Name(match activation {
            Activation::LeakyRelu { negative_slope } => {
                return Self::WithSetting(ActivationWithSetting::LeakyRelu { negative_slope });
            }
            Activation::Elu { alpha } => {
                return Self::WithSetting(ActivationWithSetting::Elu { alpha });
            }
            Activation::Linear => ActivationName::Linear,
            Activation::Relu => ActivationName::Relu,
            Activation::Sigmoid => ActivationName::Sigmoid,
            Activation::Tanh => ActivationName::Tanh,
            Activation::Softplus => ActivationName::Softplus,
            Activation::Silu => ActivationName::Silu,
            Activation::Softmax => ActivationName::Softmax,
        })
    }
}
