//! Layers that know the class of each row, for networks that make or judge rows of several classes.
//!
//! The classes are [`Workspace::labels`], which whoever starts a pass sets. [`LabelEmbedding`] appends a learned vector of
//! the row's class to its features: `y = [x, embeddings[label]]`. [`Projection`] ends a discriminator:
//!
//! `y = x . kernel + bias + x . embeddings[label]`
//!
//! Reference for the latter: Miyato and Koyama, 2018.
//!
//! ```
//! use nn::{Network, Tensor, Workspace, layers::LabelEmbedding};
//! use rand::SeedableRng;
//!
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let network = Network::<f64>::new([2], vec![Box::new(LabelEmbedding::new(10, 3))], rng)?;
//! let latent = Tensor::full([1, 2], 0.5);
//! let mut workspace = Workspace { labels: vec![7], ..Workspace::default() };
//! let y = network.forward(latent.view(), &mut workspace)?;
//! assert_eq!(y.data()[..2], [0.5, 0.5]);
//! assert_eq!(y.data()[2..], network.parameters()[0].value.data()[21..24]);
//! let error = network.predict(latent.view()).unwrap_err().to_string();
//! assert_eq!(error, "label_embedding: expected a label for each of 1 rows, found none");
//! # Ok::<(), nn::Error>(())
//! ```

#![expect(
    clippy::indexing_slicing,
    reason = "each pass checks that there is a label below `classes` for each row, and parameters and gradients for all classes"
)]

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use super::embedding::uniform;
use super::{
    check_gradient, check_gradients, check_tangent, gradient, output_of, parameter, unexpected, vector,
    vector_mut,
};
use crate::error::check_setting;
use crate::{Dual, Error, Initializer, Layer, Parameter, ParameterSpec, Result, Wanted, Workspace};

/// Appends a vector of the row's class to the last axis, at each place.
///
/// # Shapes
/// input `[batch, .., features]`, embeddings `[classes, units]`, output `[batch, .., features + units]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelEmbedding {
    /// How many classes there are.
    pub classes: usize,
    /// The size of their vectors.
    pub units: usize,
    /// Where the vectors start.
    #[serde(default = "uniform")]
    pub embeddings_initializer: Initializer,
}

/// One logit: a dense layer's, and how well features and class go together.
///
/// # Shapes
/// input `[batch, features]`, kernel `[features, 1]`, bias `[1]`, embeddings `[classes, features]`, output `[batch, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// How many classes there are.
    pub classes: usize,
    /// Where the kernel starts.
    #[serde(default)]
    pub kernel_initializer: Initializer,
    /// Where the classes' vectors start.
    #[serde(default)]
    pub embeddings_initializer: Initializer,
}

impl LabelEmbedding {
    /// So many vectors of such a size.
    #[must_use]
    pub fn new(classes: usize, units: usize) -> Self {
        Self { classes, units, embeddings_initializer: uniform() }
    }

    /// Calls `f(label, numbers of a place in the input, numbers of the same place in the output)` for each place.
    fn for_each_place(
        &self,
        output: Shape,
        labels: &[usize],
        mut f: impl FnMut(usize, std::ops::Range<usize>, std::ops::Range<usize>),
    ) {
        let width = output.last_dim();
        let (features, places) = (width - self.units, output.without_first().len() / width.max(1));
        for (row, &label) in labels.iter().enumerate() {
            for place in row * places..(row + 1) * places {
                f(label, place * features..(place + 1) * features, place * width..(place + 1) * width);
            }
        }
    }

    /// The gradients, or their tangents: both are the same function of the output's.
    fn share_out<T: Scalar>(
        &self,
        grad_output: View<'_, T>,
        labels: &[usize],
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        grad_input: &mut Tensor<T>,
    ) -> Result<()> {
        let shape = grad_output.shape();
        grad_input.resize(shape.with_last(shape.last_dim() - self.units));
        let size = self.classes.saturating_mul(self.units);
        let gradient = wanted.parameters.then(|| gradient("label_embedding", gradients, 0, size));
        let mut gradient = gradient.transpose()?;
        self.for_each_place(shape, labels, |label, from, to| {
            let (own, of_label) = grad_output.data()[to].split_at(from.len());
            grad_input.data_mut()[from].copy_from_slice(own);
            if let Some(gradient) = &mut gradient {
                add_times(vector_mut(gradient, label, self.units), of_label, T::one());
            }
        });
        Ok(())
    }
}

impl Projection {
    /// So many classes.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        let initializer = Initializer::GlorotUniform;
        Self { classes, kernel_initializer: initializer, embeddings_initializer: initializer }
    }
}

/// The labels of a pass, a class for each row.
fn labels_of<'a, T: Scalar>(
    place: &'static str,
    workspace: &'a Workspace<T>,
    input: Shape,
    classes: usize,
) -> Result<&'a [usize]> {
    let (labels, rows) = (&workspace.labels, input.first_dim());
    let refuse = |expected, found: String| Err(Error::Index { place, expected, found });
    if labels.len() != rows {
        let found = if labels.is_empty() { "none".to_owned() } else { labels.len().to_string() };
        return refuse(format!("a label for each of {rows} rows"), found);
    }
    match labels.iter().find(|&&label| label >= classes) {
        Some(label) => refuse(format!("labels from 0 to below {classes}"), label.to_string()),
        None => Ok(labels),
    }
}

/// `sums += factor values`.
fn add_times<T: Scalar>(sums: &mut [T], values: &[T], factor: T) {
    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value * factor);
}

impl<T: Scalar> Layer<T> for LabelEmbedding {
    fn name(&self) -> &'static str {
        "label_embedding"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        for (setting, size) in [("classes", self.classes), ("units", self.units)] {
            check_setting(size > 0, "label_embedding", setting, "at least 1", size)?;
        }
        if input.rank() == 0 {
            return unexpected("label_embedding", "rows with features", input);
        }
        Ok(input.with_last(input.last_dim().saturating_add(self.units)))
    }

    fn parameters(&self, _input: Shape) -> Result<Vec<ParameterSpec>> {
        let shape = Shape::new(&[self.classes, self.units])?;
        Ok(vec![ParameterSpec::new("embeddings", shape, self.embeddings_initializer)])
    }

    fn parameter_count(&self) -> usize {
        1
    }

    fn forward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let shape = output_of::<T>(self, input.shape())?;
        labels_of("label_embedding", workspace, shape, self.classes)?;
        let embeddings =
            parameter("label_embedding", parameters, 0, self.classes.saturating_mul(self.units))?;
        workspace.output.resize(shape);
        let Workspace { output, labels, .. } = workspace;
        self.for_each_place(shape, labels, |label, from, to| {
            let (own, of_label) = output.data_mut()[to].split_at_mut(from.len());
            own.copy_from_slice(&input.data()[from]);
            of_label.copy_from_slice(vector(embeddings, label, self.units));
        });
        Ok(())
    }

    fn backward(
        &self,
        _parameters: &[Parameter<T>],
        input: View<'_, T>,
        grad_output: View<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        check_gradient(self, input, grad_output)?;
        labels_of("label_embedding", workspace, input.shape(), self.classes)?;
        let Workspace { grad_input, labels, .. } = workspace;
        self.share_out(grad_output, labels, wanted, gradients, grad_input)
    }

    fn forward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_tangent("label_embedding", input)?;
        let (shape, output) = (output_of::<T>(self, input.value.shape())?, &mut tangents.output);
        labels_of("label_embedding", workspace, shape, self.classes)?;
        output.resize(shape);
        self.for_each_place(shape, &workspace.labels, |_, from, to| {
            let (own, of_label) = output.data_mut()[to].split_at_mut(from.len());
            own.copy_from_slice(&input.tangent.data()[from]);
            of_label.fill(T::zero());
        });
        Ok(())
    }

    fn backward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        grad_output: Dual<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_gradients(self, input, grad_output)?;
        let labels = labels_of("label_embedding", workspace, input.value.shape(), self.classes)?;
        self.share_out(grad_output.tangent, labels, wanted, gradients, &mut tangents.grad_input)
    }
}

/// The parameters of [`Projection`], in their order.
const KERNEL: usize = 0;
const BIAS: usize = 1;
const EMBEDDINGS: usize = 2;

impl Projection {
    /// Refuses labels, parameters and gradients that do not belong to this input.
    fn check<T: Scalar>(
        &self,
        parameters: &[Parameter<T>],
        input: Shape,
        mut gradients: Option<&mut [Tensor<T>]>,
        workspace: &Workspace<T>,
    ) -> Result<()> {
        output_of::<T>(self, input)?;
        labels_of("projection", workspace, input, self.classes)?;
        let features = input.last_dim();
        for (place, len) in [features, 1, self.classes.saturating_mul(features)].into_iter().enumerate() {
            parameter("projection", parameters, place, len)?;
            if let Some(gradients) = &mut gradients {
                gradient("projection", gradients, place, len)?;
            }
        }
        Ok(())
    }
}

/// Calls `f(row, its label, its features, the numbers that they are multiplied by)` for each row; the latter are the kernel
/// and the class' vector together, one after the other.
fn for_each_row<'a, T: Scalar>(
    parameters: &'a [Parameter<T>],
    labels: &[usize],
    input: View<'a, T>,
    mut f: impl FnMut(usize, usize, &'a [T], [&'a [T]; 2]),
) {
    let features = input.shape().last_dim();
    for ((row, &label), x) in labels.iter().enumerate().zip(input.data().chunks_exact(features.max(1))) {
        let of_label = vector(&parameters[EMBEDDINGS].value, label, features);
        f(row, label, x, [parameters[KERNEL].value.data(), of_label]);
    }
}

/// `x . (kernel + vector)`.
fn product<T: Scalar>(x: &[T], [kernel, of_label]: [&[T]; 2]) -> T {
    x.iter().zip(kernel.iter().zip(of_label)).map(|(&x, (&v, &e))| x * (v + e)).sum()
}

/// Adds `factor x` to the gradients of the kernel and the class' vector.
fn add_gradients<T: Scalar>(gradients: &mut [Tensor<T>], label: usize, x: &[T], factor: T) {
    add_times(gradients[KERNEL].data_mut(), x, factor);
    add_times(vector_mut(&mut gradients[EMBEDDINGS], label, x.len()), x, factor);
}

/// `result = factor (kernel + vector)`.
fn write_times<T: Scalar>(result: &mut [T], factor: T, [kernel, of_label]: [&[T]; 2]) {
    result.iter_mut().zip(kernel.iter().zip(of_label)).for_each(|(y, (&v, &e))| *y = factor * (v + e));
}

impl<T: Scalar> Layer<T> for Projection {
    fn name(&self) -> &'static str {
        "projection"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        check_setting(self.classes > 0, "projection", "classes", "at least 1", self.classes)?;
        match *input {
            [features] if features > 0 => Ok(Shape::from([1])),
            _ => unexpected("projection", "rows of [features]", input),
        }
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        let features = input.last_dim();
        let vectors = Shape::new(&[self.classes, features])?;
        Ok(vec![
            ParameterSpec::new("kernel", Shape::from([features, 1]), self.kernel_initializer),
            ParameterSpec::new("bias", Shape::from([1]), Initializer::Zeros),
            ParameterSpec::new("embeddings", vectors, self.embeddings_initializer),
        ])
    }

    fn parameter_count(&self) -> usize {
        3
    }

    fn forward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        self.check(parameters, input.shape(), None, workspace)?;
        let Workspace { output, labels, .. } = workspace;
        output.resize([labels.len(), 1]);
        let bias = parameters[BIAS].value.data()[0];
        for_each_row(parameters, labels, input, |row, _, x, weights| {
            output.data_mut()[row] = product(x, weights) + bias;
        });
        Ok(())
    }

    fn backward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        grad_output: View<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        check_gradient(self, input, grad_output)?;
        self.check(parameters, input.shape(), wanted.parameters.then_some(&mut *gradients), workspace)?;
        let Workspace { grad_input, labels, .. } = workspace;
        grad_input.resize(input.shape());
        for_each_row(parameters, labels, input, |row, label, x, weights| {
            let grad = grad_output.data()[row];
            if wanted.parameters {
                add_gradients(gradients, label, x, grad);
                gradients[BIAS].data_mut()[0] += grad;
            }
            if wanted.input {
                write_times(vector_mut(grad_input, row, x.len()), grad, weights);
            }
        });
        Ok(())
    }

    fn forward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_tangent("projection", input)?;
        self.check(parameters, input.value.shape(), None, workspace)?;
        tangents.output.resize(output_of::<T>(self, input.value.shape())?);
        for_each_row(parameters, &workspace.labels, input.tangent, |row, _, x, weights| {
            tangents.output.data_mut()[row] = product(x, weights);
        });
        Ok(())
    }

    fn backward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        grad_output: Dual<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_gradients(self, input, grad_output)?;
        self.check(parameters, input.value.shape(), wanted.parameters.then_some(&mut *gradients), workspace)?;
        let grad_input = &mut tangents.grad_input;
        grad_input.resize(input.value.shape());
        for_each_row(parameters, &workspace.labels, input.value, |row, label, x, weights| {
            let (grad, grad_moved) = (grad_output.value.data()[row], grad_output.tangent.data()[row]);
            if wanted.parameters {
                let x_moved = &input.tangent.data()[row * x.len()..][..x.len()];
                add_gradients(gradients, label, x, grad_moved);
                add_gradients(gradients, label, x_moved, grad);
                gradients[BIAS].data_mut()[0] += grad_moved;
            }
            if wanted.input {
                write_times(vector_mut(grad_input, row, x.len()), grad_moved, weights);
            }
        });
        Ok(())
    }
}
