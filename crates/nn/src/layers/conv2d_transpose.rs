//! Transposed convolution over images, as Keras defines it, channels last: the gradient of a [`Conv2D`](super::Conv2D)
//! with respect to its input, as a layer.
//!
//! Each pixel of the input adds its multiple of the kernel to the output: with stride s, dilation d and p rows and q
//! columns cut off above and left,
//!
//! `y[b, s t + d i - p, s u + d j - q, o] += x[b, t, u, c] kernel[i, j, o, c]`, then the bias and f.
//!
//! Along an axis `same` gives s size pixels, `valid` s size + max(d (k - 1) + 1 - s, 0).
//!
//! ```
//! use nn::{Network, layers::{Conv2DTranspose, Padding}};
//! use rand::SeedableRng;
//!
//! let layer = Conv2DTranspose { strides: [2, 2], padding: Padding::Same, ..Conv2DTranspose::new(64, [4, 4]) };
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let network = Network::<f32>::new([7, 7, 128], vec![Box::new(layer)], rng)?;
//! assert_eq!(&*network.output_shape(), &[14, 14, 64]);
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::{Convolution, Shape};

use super::Padding;
use super::conv2d::check_image;
use super::product::{Product, kernel_layer, one_pair, yes, zeros};
use super::window::{pair, window};
use crate::{Activation, Error, Initializer, Result};

/// A transposed convolution over images.
///
/// # Shapes
/// input `[batch, height, width, channels]`, kernel `[..kernel_size, filters, channels]`, bias `[filters]`, output
/// `[batch, .., .., filters]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2DTranspose {
    /// The number of output channels.
    pub filters: usize,
    /// The kernel's height and width; a number stands for both, here and below.
    #[serde(deserialize_with = "pair")]
    pub kernel_size: [usize; 2],
    /// How far neighbouring pixels of the input lie apart in the output.
    #[serde(default = "one_pair", deserialize_with = "pair")]
    pub strides: [usize; 2],
    /// The distance between the pixels that the kernel touches.
    #[serde(default = "one_pair", deserialize_with = "pair")]
    pub dilation_rate: [usize; 2],
    /// Whether the output is cut to a multiple of the input.
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

impl Conv2DTranspose {
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
        let name = "conv2d_transpose";
        let settings = [self.kernel_size, self.strides, self.dilation_rate];
        let places = check_image(name, self.filters, settings, input)?;
        let axis = |places: usize, kernel: usize, stride: usize, dilation: usize| {
            let reach = dilation.saturating_mul(kernel - 1).saturating_add(1);
            let more = if self.padding == Padding::Valid { reach.saturating_sub(stride) } else { 0 };
            let size = places.saturating_mul(stride).saturating_add(more);
            let (_, cut) = window(name, size, kernel, stride, dilation, self.padding)?;
            Ok::<_, Error>((size, cut))
        };
        let [down, right] = places;
        let (kernel, strides, dilation) = (self.kernel_size, self.strides, self.dilation_rate);
        let (height, above) = axis(down, kernel[0], strides[0], dilation[0])?;
        let (width, left) = axis(right, kernel[1], strides[1], dilation[1])?;
        let convolution = Convolution {
            image: [height, width],
            places,
            kernel: self.kernel_size,
            strides: self.strides,
            dilation: self.dilation_rate,
            padding: [above, left],
        };
        Ok((Product::Transposed(convolution), Shape::new(&[height, width, self.filters])?))
    }

    fn kernel_shape(&self, input: Shape) -> Result<Shape> {
        let [down, right] = self.kernel_size;
        Ok(Shape::new(&[down, right, self.filters, input.last_dim()])?)
    }
}

kernel_layer!(Conv2DTranspose, "conv2d_transpose");
