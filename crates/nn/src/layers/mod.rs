//! The layers, a file each, and [`LayerConfig`], which names them in configurations.

mod activation;
mod batch_normalization;
mod conv1d;
mod conv2d;
mod conv2d_transpose;
mod dense;
mod dropout;
mod expression;
mod group_normalization;
mod lambda;
mod lambda_tangents;
mod layer_normalization;
mod linear;
mod minibatch_std;
mod normalization;
mod reshape;
mod sequential;
mod spectral_normalization;
mod window;

pub use activation::{ActivationLayer, LeakyReLU};
pub use batch_normalization::BatchNormalization;
pub use conv1d::{Conv1D, Padding};
pub use conv2d::Conv2D;
pub use conv2d_transpose::Conv2DTranspose;
pub use dense::Dense;
pub use dropout::Dropout;
pub use expression::Expression;
pub use group_normalization::GroupNormalization;
pub use lambda::Lambda;
pub use layer_normalization::LayerNormalization;
pub use minibatch_std::MinibatchStd;
pub use reshape::{Flatten, Reshape};
pub use sequential::Sequential;
pub(crate) use sequential::least_common_multiple;
pub use spectral_normalization::SpectralNormalization;

use serde::{Deserialize, Serialize};
use tensor_ops::Scalar;

use crate::{Layer, Result};

/// A layer as data: `{ layer = "dense", units = 50, activation = "relu" }` in TOML, with the names and
/// arguments of Keras in snake case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerConfig {
    /// [`Dense`].
    Dense(Dense),
    /// [`Conv1D`].
    #[serde(rename = "conv1d")]
    Conv1D(Conv1D),
    /// [`Conv2D`].
    #[serde(rename = "conv2d")]
    Conv2D(Conv2D),
    /// [`Conv2DTranspose`].
    #[serde(rename = "conv2d_transpose")]
    Conv2DTranspose(Conv2DTranspose),
    /// [`ActivationLayer`].
    Activation(ActivationLayer),
    /// [`LeakyReLU`].
    LeakyRelu(LeakyReLU),
    /// [`Reshape`].
    Reshape(Reshape),
    /// [`Flatten`].
    Flatten(Flatten),
    /// [`Lambda`].
    Lambda(Lambda),
    /// [`MinibatchStd`].
    MinibatchStd(MinibatchStd),
    /// [`BatchNormalization`].
    BatchNormalization(BatchNormalization),
    /// [`LayerNormalization`].
    LayerNormalization(LayerNormalization),
    /// [`GroupNormalization`].
    GroupNormalization(GroupNormalization),
    /// [`Dropout`].
    Dropout(Dropout),
    /// [`SpectralNormalization`].
    SpectralNormalization(SpectralNormalization),
    /// Layers one after the other, as one.
    Sequential {
        /// The layers inside.
        layers: Vec<LayerConfig>,
    },
}

impl LayerConfig {
    /// The layer itself.
    #[must_use]
    pub fn build<T: Scalar>(&self) -> Box<dyn Layer<T>> {
        match self.clone() {
            Self::Dense(layer) => Box::new(layer),
            Self::Conv1D(layer) => Box::new(layer),
            Self::Conv2D(layer) => Box::new(layer),
            Self::Conv2DTranspose(layer) => Box::new(layer),
            Self::Activation(layer) => Box::new(layer),
            Self::LeakyRelu(layer) => Box::new(layer),
            Self::Reshape(layer) => Box::new(layer),
            Self::Flatten(layer) => Box::new(layer),
            Self::Lambda(layer) => Box::new(layer),
            Self::MinibatchStd(layer) => Box::new(layer),
            Self::BatchNormalization(layer) => Box::new(layer),
            Self::LayerNormalization(layer) => Box::new(layer),
            Self::GroupNormalization(layer) => Box::new(layer),
            Self::Dropout(layer) => Box::new(layer),
            Self::SpectralNormalization(layer) => layer.build(),
            Self::Sequential { layers } => {
                Box::new(Sequential::new(layers.iter().map(Self::build).collect()))
            }
        }
    }
}

/// What layers refuse about their input.
fn unexpected<R>(layer: &str, expected: impl Into<String>, found: tensor_ops::Shape) -> Result<R> {
    Err(crate::Error::Shape { place: layer.to_owned(), expected: expected.into(), found })
}
