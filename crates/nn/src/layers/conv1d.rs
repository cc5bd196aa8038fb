//! Convolution over the steps of a sequence, as Keras defines it.
//!
//! With stride s, dilation d, kernel size k and p steps of zeros before the input:
//!
//! `y[b, t, o] = f(bias[o] + sum over j, c of x[b, s t + d j - p, c] kernel[j, c, o])`
//!
//! `valid` takes p = 0 and as many output steps as fit, floor((steps - d (k - 1) - 1) / s) + 1. `same` gives
//! ceil(steps / s) output steps and divides the zeros it needs evenly, the odd one after the input.

use serde::{Deserialize, Serialize};
use tensor_ops::{Convolution, Shape};

use super::product::{Product, kernel_layer, yes, zeros};
use super::unexpected;
use super::window::window;
use crate::error::check_setting;
use crate::{Activation, Initializer, Result};

/// What lies beyond the ends of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Nothing: the kernel stays inside.
    #[default]
    Valid,
    /// Zeros, so that with stride 1 the output is as long as the input.
    Same,
}

/// A convolution over one axis.
///
/// # Shapes
/// input `[batch, steps, channels]`, kernel `[kernel_size, channels, filters]`, bias `[filters]`, output
/// `[batch, output steps, filters]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv1D {
    /// The number of output channels.
    pub filters: usize,
    /// The number of input steps that an output step sees.
    pub kernel_size: usize,
    /// How far the kernel moves from one output step to the next.
    #[serde(default = "one")]
    pub strides: usize,
    /// The distance between the input steps that the kernel touches.
    #[serde(default = "one")]
    pub dilation_rate: usize,
    /// What lies beyond the ends of the input.
    #[serde(default)]
    pub padding: Padding,
    /// Applied to the output.
    #[serde(default)]
    pub activation: Activation,
    /// Whether a bias is added.
    #[serde(default = "yes")]
    pub use_bias: bool,
    /// Where the kernel starts.
    #[serde(default)]
    pub kernel_initializer: Initializer,
    /// Where the bias starts.
    #[serde(default = "zeros")]
    pub bias_initializer: Initializer,
}

fn one() -> usize {
    1
}

impl Conv1D {
    /// A layer of stride 1, dilation 1, `valid`, with a bias and no activation.
    #[must_use]
    pub fn new(filters: usize, kernel_size: usize) -> Self {
        Self {
            filters,
            kernel_size,
            strides: 1,
            dilation_rate: 1,
            padding: Padding::Valid,
            activation: Activation::Linear,
            use_bias: true,
            kernel_initializer: Initializer::GlorotUniform,
            bias_initializer: Initializer::Zeros,
        }
    }

    /// A convolution over images of one line. Where every output step sees just the input step of its own number, it is a
    /// product of matrices.
    fn product(&self, input: Shape) -> Result<(Product, Shape)> {
        let Self { filters, kernel_size, strides, dilation_rate, padding, .. } = *self;
        for (setting, value) in [
            ("filters", filters),
            ("kernel_size", kernel_size),
            ("strides", strides),
            ("dilation_rate", dilation_rate),
        ] {
            check_setting(value > 0, "conv1d", setting, "at least 1", value)?;
        }
        let [steps, channels] = *input else {
            return unexpected("conv1d", "rows of [steps, channels]", input);
        };
        if steps == 0 || channels == 0 {
            return unexpected("conv1d", "rows of [steps, channels] with at least 1 of each", input);
        }
        let (output_steps, before) = window("conv1d", steps, kernel_size, strides, dilation_rate, padding)?;
        let convolution = Convolution {
            image: [1, steps],
            places: [1, output_steps],
            kernel: [1, kernel_size],
            strides: [1, strides],
            dilation: [1, dilation_rate],
            padding: [0, before],
        };
        let pointwise = kernel_size == 1 && strides == 1;
        let product = if pointwise { Product::Matmul } else { Product::Convolution(convolution) };
        Ok((product, Shape::from([output_steps, filters])))
    }

    fn kernel_shape(&self, input: Shape) -> Result<Shape> {
        Ok(Shape::new(&[self.kernel_size, input.last_dim(), self.filters])?)
    }
}

kernel_layer!(Conv1D, "conv1d");
