//! Layer normalisation: the features at each place get mean 0 and variance 1 among themselves.
//!
//! `y = gamma (x - mean) / sqrt(variance + epsilon) + beta`, mean and variance over the last axis.
//!
//! Reference: Ba et al., 2016.
//!
//! ```
//! use nn::{Network, Tensor, layers::LayerNormalization};
//! use rand::SeedableRng;
//!
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let layer = LayerNormalization { epsilon: 1e-9, ..LayerNormalization::default() };
//! let network = Network::<f64>::new([2], vec![Box::new(layer)], rng)?;
//! let y = network.predict(Tensor::from_vec([1, 2], vec![3.0, 7.0])?.view())?;
//! assert!((y.data()[0] + 1.0).abs() < 1e-9 && (y.data()[1] - 1.0).abs() < 1e-9);
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::Shape;

use super::normalization::{Normalization, Settings, normalizing_layer, small};
use super::product::yes;
use crate::Result;

/// Normalises over the features of each place.
///
/// # Shapes
/// input and output `[batch, .., features]`; gamma and beta `[features]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNormalization {
    /// What is added to the variance.
    #[serde(default = "small")]
    pub epsilon: f64,
    /// Whether beta is added.
    #[serde(default = "yes")]
    pub center: bool,
    /// Whether gamma is multiplied by.
    #[serde(default = "yes")]
    pub scale: bool,
}

impl Default for LayerNormalization {
    fn default() -> Self {
        Self { epsilon: small(), center: true, scale: true }
    }
}

impl LayerNormalization {
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "called as that of groups is")]
    fn check(&self, _input: Shape) -> Result<()> {
        Ok(())
    }

    fn over(&self, input: Shape) -> Normalization {
        let (blocks, width) = input.as_matrix();
        Normalization { blocks, places: 1, groups: 1, width, settings: self.settings(), given: false }
    }
}

normalizing_layer!(LayerNormalization, "layer_normalization");
