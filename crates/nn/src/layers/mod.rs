//! The layers, a file each, and [`LayerConfig`], which names them in configurations.

mod activation;
mod batch_normalization;
mod branches;
mod conv1d;
mod conv2d;
mod conv2d_transpose;
mod dense;
mod dropout;
mod embedding;
mod expression;
mod group_normalization;
mod labels;
mod lambda;
mod lambda_tangents;
mod layer_normalization;
mod linear_map;
mod minibatch_std;
mod normalization;
mod pooling;
mod product;
mod reshape;
mod sequential;
mod spectral_normalization;
mod up_sampling2d;
mod window;

pub use activation::{ActivationLayer, LeakyReLU};
pub use batch_normalization::BatchNormalization;
pub use branches::Branches;
pub use conv1d::{Conv1D, Padding};
pub use conv2d::Conv2D;
pub use conv2d_transpose::Conv2DTranspose;
pub use dense::Dense;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use expression::Expression;
pub use group_normalization::GroupNormalization;
pub use labels::{LabelEmbedding, Projection};
pub use lambda::Lambda;
pub use layer_normalization::LayerNormalization;
pub use minibatch_std::MinibatchStd;
pub use pooling::{AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D};
pub use reshape::{Flatten, Reshape};
pub use sequential::Sequential;
pub(crate) use sequential::least_common_multiple;
pub use spectral_normalization::SpectralNormalization;
pub use up_sampling2d::{Interpolation, UpSampling2D};

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use crate::{Dual, Layer, Parameter, Result};

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
    /// [`MaxPooling2D`].
    #[serde(rename = "max_pooling2d")]
    MaxPooling2D(MaxPooling2D),
    /// [`AveragePooling2D`].
    #[serde(rename = "average_pooling2d")]
    AveragePooling2D(AveragePooling2D),
    /// [`GlobalAveragePooling2D`].
    #[serde(rename = "global_average_pooling2d")]
    GlobalAveragePooling2D(GlobalAveragePooling2D),
    /// [`UpSampling2D`].
    #[serde(rename = "up_sampling2d")]
    UpSampling2D(UpSampling2D),
    /// [`Embedding`].
    Embedding(Embedding),
    /// [`LabelEmbedding`].
    LabelEmbedding(LabelEmbedding),
    /// [`Projection`].
    Projection(Projection),
    /// [`SpectralNormalization`].
    SpectralNormalization(SpectralNormalization),
    /// Layers one after the other, as one.
    Sequential {
        /// The layers inside.
        layers: Vec<LayerConfig>,
    },
    /// Several stacks of layers that see the same input, whose outputs are added up: see [`Branches`].
    Add {
        /// The stacks; one without layers passes its input on.
        branches: Vec<Vec<LayerConfig>>,
    },
    /// The same, whose outputs are joined along the last axis.
    Concatenate {
        /// The stacks; one without layers passes its input on.
        branches: Vec<Vec<LayerConfig>>,
    },
}

impl LayerConfig {
    /// Whether the layer, or one inside, needs [`Workspace::labels`](crate::Workspace::labels).
    #[must_use]
    pub fn wants_labels(&self) -> bool {
        match self {
            Self::LabelEmbedding(_) | Self::Projection(_) => true,
            Self::Sequential { layers } => layers.iter().any(Self::wants_labels),
            Self::Add { branches } | Self::Concatenate { branches } => {
                branches.iter().flatten().any(Self::wants_labels)
            }
            _ => false,
        }
    }

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
            Self::MaxPooling2D(layer) => Box::new(layer),
            Self::AveragePooling2D(layer) => Box::new(layer),
            Self::GlobalAveragePooling2D(layer) => Box::new(layer),
            Self::UpSampling2D(layer) => Box::new(layer),
            Self::Embedding(layer) => Box::new(layer),
            Self::LabelEmbedding(layer) => Box::new(layer),
            Self::Projection(layer) => Box::new(layer),
            Self::SpectralNormalization(layer) => layer.build(),
            Self::Sequential { layers } => Box::new(stack(&layers)),
            Self::Add { branches } => Box::new(Branches::add(branches.iter().map(|b| stack(b)).collect())),
            Self::Concatenate { branches } => {
                Box::new(Branches::concatenate(branches.iter().map(|b| stack(b)).collect()))
            }
        }
    }
}

fn stack<T: Scalar>(layers: &[LayerConfig]) -> Sequential<T> {
    Sequential::new(layers.iter().map(LayerConfig::build).collect())
}

/// What layers refuse about their input.
fn unexpected<R>(layer: &str, expected: impl Into<String>, found: Shape) -> Result<R> {
    Err(crate::Error::Shape { place: layer.to_owned(), expected: expected.into(), found })
}

/// The shape of the output for a batch of inputs.
fn output_of<T: Scalar>(layer: &dyn Layer<T>, input: Shape) -> Result<Shape> {
    match Shape::new(&input)?.first() {
        Some(&batch) => Ok(layer.output_shape(input.without_first())?.with_first(batch)?),
        None => unexpected(layer.name(), "a batch of rows", input),
    }
}

/// Refuses what has another shape than it should.
pub(crate) fn check_shape(layer: &str, what: &str, expected: Shape, found: Shape) -> Result<()> {
    if found == expected { Ok(()) } else { unexpected(layer, format!("{what} {expected}"), found) }
}

/// Refuses a gradient of another shape than the output for this input has.
fn check_gradient<T: Scalar>(
    layer: &dyn Layer<T>,
    input: View<'_, T>,
    grad_output: View<'_, T>,
) -> Result<()> {
    check_shape(layer.name(), "a gradient", output_of(layer, input.shape())?, grad_output.shape())
}

/// Refuses a tangent of another shape than its value has.
fn check_tangent<T: Scalar>(layer: &str, dual: Dual<'_, T>) -> Result<()> {
    check_shape(layer, "a tangent", dual.value.shape(), dual.tangent.shape())
}

/// [`check_gradient`] and [`check_tangent`] of both.
fn check_gradients<T: Scalar>(
    layer: &dyn Layer<T>,
    input: Dual<'_, T>,
    grad_output: Dual<'_, T>,
) -> Result<()> {
    check_gradient(layer, input.value, grad_output.value)?;
    check_tangent(layer.name(), input)?;
    check_tangent(layer.name(), grad_output)
}

/// A parameter's value, of so many numbers.
fn parameter<'a, T: Scalar>(
    layer: &str,
    parameters: &'a [Parameter<T>],
    place: usize,
    len: usize,
) -> Result<&'a Tensor<T>> {
    let found = parameters.get(place).map(|parameter| &parameter.value);
    match found.filter(|value| value.shape().len() == len) {
        Some(value) => Ok(value),
        None => unexpected(layer, format!("a parameter of {len} numbers"), shape_of(found)),
    }
}

/// The gradient of a parameter, of so many numbers.
fn gradient<'a, T: Scalar>(
    layer: &str,
    gradients: &'a mut [Tensor<T>],
    place: usize,
    len: usize,
) -> Result<&'a mut Tensor<T>> {
    match gradients.get_mut(place) {
        Some(gradient) if gradient.shape().len() == len => Ok(gradient),
        found => unexpected(layer, format!("a gradient of {len} numbers"), shape_of(found.as_deref())),
    }
}

fn shape_of<T: Scalar>(found: Option<&Tensor<T>>) -> Shape {
    found.map_or(Shape::from([0]), Tensor::shape)
}

/// What a pass before has left: the first tensors of the scratch, or workspaces of the layers inside.
fn kept<'a, K, const N: usize>(layer: &str, all: &'a [K]) -> Result<&'a [K; N]> {
    all.first_chunk().map_or_else(|| missing_pass(layer), Ok)
}

/// What a pass before has left, or this one has made room for.
fn kept_mut<'a, K, const N: usize>(layer: &str, all: &'a mut [K]) -> Result<&'a mut [K; N]> {
    all.first_chunk_mut().map_or_else(|| missing_pass(layer), Ok)
}

fn missing_pass<R>(layer: &str) -> Result<R> {
    unexpected(layer, "the workspace of the pass before", Shape::from([0]))
}

/// The vector of this number among those of so many numbers each.
#[expect(clippy::indexing_slicing, reason = "whoever numbers vectors has checked how many there are")]
fn vector<T: Scalar>(vectors: &Tensor<T>, index: usize, width: usize) -> &[T] {
    &vectors.data()[index * width..][..width]
}

/// The same, to be changed.
#[expect(clippy::indexing_slicing, reason = "whoever numbers vectors has checked how many there are")]
fn vector_mut<T: Scalar>(vectors: &mut Tensor<T>, index: usize, width: usize) -> &mut [T] {
    &mut vectors.data_mut()[index * width..][..width]
}
