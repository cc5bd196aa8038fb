//! Group normalisation: each group of channels of a row gets mean 0 and variance 1.
//!
//! `y = gamma (x - mean) / sqrt(variance + epsilon) + beta`, mean and variance over all axes of a row but the last, and
//! over the channels of a group, which follow each other. With a group for each channel it is instance normalisation.
//!
//! Reference: Wu and He, 2018.
//!
//! ```
//! use nn::{Network, Tensor, layers::GroupNormalization};
//! use rand::SeedableRng;
//!
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let layer = GroupNormalization { epsilon: 1e-9, ..GroupNormalization::new(2) };
//! let network = Network::<f64>::new([2, 2], vec![Box::new(layer)], rng)?;
//! let y = network.predict(Tensor::from_vec([1, 2, 2], vec![3.0, 10.0, 7.0, 30.0])?.view())?;
//! let expected = [-1.0, -1.0, 1.0, 1.0];
//! assert!(y.data().iter().zip(expected).all(|(y, expected)| (y - expected).abs() < 1e-9));
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::Shape;

use super::normalization::{Normalization, Settings, normalizing_layer, small};
use super::product::yes;
use super::unexpected;
use crate::Result;
use crate::error::check_setting;

/// Normalises over groups of channels.
///
/// # Shapes
/// input and output `[batch, .., channels]`; gamma and beta `[channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNormalization {
    /// How many groups there are, which divides the number of channels.
    #[serde(default = "groups")]
    pub groups: usize,
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

fn groups() -> usize {
    32
}

impl GroupNormalization {
    /// A layer of so many groups, with gamma and beta.
    #[must_use]
    pub fn new(groups: usize) -> Self {
        Self { groups, epsilon: small(), center: true, scale: true }
    }

    fn check(&self, input: Shape) -> Result<()> {
        check_setting(self.groups > 0, "group_normalization", "groups", "at least 1", self.groups)?;
        if input.last_dim().is_multiple_of(self.groups) {
            return Ok(());
        }
        let expected = format!("a multiple of {} channels", self.groups);
        unexpected("group_normalization", expected, input)
    }

    fn over(&self, input: Shape) -> Normalization {
        let (places, channels) = input.without_first().as_matrix();
        let (blocks, groups) = (input.first_dim(), self.groups);
        let width = channels / groups.max(1);
        Normalization { blocks, places, groups, width, settings: self.settings(), given: false }
    }
}

normalizing_layer!(GroupNormalization, "group_normalization");
