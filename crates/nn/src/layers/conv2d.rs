//! Convolution over images, as Keras defines it, channels last.
//!
//! With stride s, dilation d and p rows and q columns of zeros above and left of the image:
//!
//! `y[b, t, u, o] = f(bias[o] + sum over i, j, c of x[b, s t + d i - p, s u + d j - q, c] kernel[i, j, c, o])`
//!
//! `valid` takes no zeros and as many places as fit, floor((size - d (k - 1) - 1) / s) + 1 along an axis. `same` gives
//! ceil(size / s) places and divides the zeros it needs evenly, the odd one after the image.
//!
//! ```
//! use nn::{Network, layers::{Conv2D, Padding}};
//! use rand::SeedableRng;
//!
//! let layer = Conv2D { strides: [2, 2], padding: Padding::Same, ..Conv2D::new(64, [4, 4]) };
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let network = Network::<f32>::new([28, 28, 1], vec![Box::new(layer)], rng)?;
//! assert_eq!(&*network.output_shape(), &[14, 14, 64]);
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::{Convolution, Shape};

use super::Padding;
use super::product::{Product, kernel_layer, one_pair, yes, zeros};
use super::unexpected;
use super::window::{pair, windows};
use crate::error::check_setting;
use crate::{Activation, Initializer, Result};

/// A convolution over images.
///
/// # Shapes
/// input `[batch, height, width, channels]`, kernel `[..kernel_size, channels, filters]`, bias `[filters]`, output
/// `[batch, .., .., filters]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2D {
    /// The number of output channels.
    pub filters: usize,
    /// The kernel's height and width; a number stands for both, here and below.
    #[serde(deserialize_with = "pair")]
    pub kernel_size: [usize; 2],
    /// How far the kernel moves from one place to the next.
    #[serde(default = "one_pair", deserialize_with = "pair")]
    pub strides: [usize; 2],
    /// The distance between the pixels that the kernel touches.
    #[serde(default = "one_pair", deserialize_with = "pair")]
    pub dilation_rate: [usize; 2],
    /// What lies beyond the sides of the image.
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

impl Conv2D {
    /// A layer of stride 1, dilation 1, `valid`, with a bias and no activation.
    #[must_use]
    pub fn new(filters: usize, kernel_size: [usize; 2]) -> Self {
        Self {
            filters,
            kernel_size,
            strides: [1, 1],
            dilation_rate: [1, 1],
            padding: Padding::Valid,
            activation: Activation::Linear,
            use_bias: true,
            kernel_initializer: Initializer::GlorotUniform,
            bias_initializer: Initializer::Zeros,
        }
    }

    fn product(&self, input: Shape) -> Result<(Product, Shape)> {
        let settings = [self.kernel_size, self.strides, self.dilation_rate];
        let image = check_image("conv2d", self.filters, settings, input)?;
        let [(down, above), (right, left)] = windows("conv2d", image, settings, self.padding)?;
        let convolution = Convolution {
            image,
            places: [down, right],
            kernel: self.kernel_size,
            strides: self.strides,
            dilation: self.dilation_rate,
            padding: [above, left],
        };
        Ok((Product::Convolution(convolution), Shape::from([down, right, self.filters])))
    }

    fn kernel_shape(&self, input: Shape) -> Result<Shape> {
        let [down, right] = self.kernel_size;
        Ok(Shape::new(&[down, right, input.last_dim(), self.filters])?)
    }
}

kernel_layer!(Conv2D, "conv2d");

/// Checks the settings of a convolution, and that rows are images; the size of these.
pub(super) fn check_image(
    layer: &'static str,
    filters: usize,
    settings: [[usize; 2]; 3],
    input: Shape,
) -> Result<[usize; 2]> {
    check_setting(filters > 0, layer, "filters", "at least 1", filters)?;
    for (setting, sizes) in ["kernel_size", "strides", "dilation_rate"].into_iter().zip(settings) {
        let [down, right] = sizes;
        check_setting(down > 0 && right > 0, layer, setting, "at least 1", format!("{sizes:?}"))?;
    }
    match *input {
        [height, width, _] if !input.contains(&0) => Ok([height, width]),
        _ => unexpected(layer, "rows of [height, width, channels]", input),
    }
}
