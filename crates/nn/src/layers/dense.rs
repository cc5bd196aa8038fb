//! A fully connected layer: `y = f(x kernel + bias)`.
//!
//! Works on the last axis; all axes before it are kept, as in Keras.
//!
//! ```
//! use nn::{Activation, Network, layers::Dense};
//! use rand::SeedableRng;
//!
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let dense = Dense { activation: Activation::Relu, ..Dense::new(50) };
//! let network = Network::<f32>::new([4], vec![Box::new(dense)], rng)?;
//! assert_eq!(&*network.output_shape(), &[50]);
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::Shape;

use super::product::{Product, kernel_layer, yes, zeros};
use super::unexpected;
use crate::error::check_setting;
use crate::{Activation, Initializer, Result};

/// A fully connected layer.
///
/// # Shapes
/// input `[batch, .., features]`, kernel `[features, units]`, bias `[units]`, output `[batch, .., units]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// The size of the output's last axis.
    pub units: usize,
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

impl Dense {
    /// A layer with a bias, Glorot-uniform kernel and no activation.
    #[must_use]
    pub fn new(units: usize) -> Self {
        Self {
            units,
            activation: Activation::Linear,
            use_bias: true,
            kernel_initializer: Initializer::GlorotUniform,
            bias_initializer: Initializer::Zeros,
        }
    }

    fn product(&self, input: Shape) -> Result<(Product, Shape)> {
        check_setting(self.units > 0, "dense", "units", "at least 1", self.units)?;
        if input.rank() == 0 || input.last_dim() == 0 {
            return unexpected("dense", "rows with at least 1 feature", input);
        }
        Ok((Product::Matmul, input.with_last(self.units)))
    }

    fn kernel_shape(&self, input: Shape) -> Result<Shape> {
        Ok(Shape::new(&[input.last_dim(), self.units])?)
    }
}

kernel_layer!(Dense, "dense");
