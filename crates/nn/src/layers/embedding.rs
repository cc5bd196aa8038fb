//! A learned vector for each of several things, which are numbered.
//!
//! `y[..] = embeddings[x[..]]`. Numbers count as their whole part; below 0 and from `input_dim` on they are refused. As what
//! follows does not move with x, the gradient of the input is 0.
//!
//! ```
//! use nn::{Network, Tensor, layers::Embedding};
//! use rand::SeedableRng;
//!
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let network = Network::<f64>::new([3], vec![Box::new(Embedding::new(10, 4))], rng)?;
//! let y = network.predict(Tensor::from_vec([1, 3], vec![7.0, 0.0, 7.0])?.view())?;
//! assert_eq!(&*y.shape(), &[1, 3, 4]);
//! assert_eq!(y.data()[..4], network.parameters()[0].value.data()[28..32]);
//! assert_eq!(y.data()[..4], y.data()[8..]);
//! let error = network.predict(Tensor::full([1, 3], 10.0).view()).unwrap_err().to_string();
//! assert_eq!(error, "embedding: expected numbers from 0 to below 10, found 10");
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::{MAX_RANK, Scalar, Shape, Tensor, View};

use super::{check_gradient, check_gradients, gradient, output_of, parameter, vector, vector_mut};
use crate::error::check_setting;
use crate::{Dual, Error, Initializer, Layer, Parameter, ParameterSpec, Result, Wanted, Workspace};

/// Takes numbers to vectors.
///
/// # Shapes
/// input `[batch, ..]`, embeddings `[input_dim, output_dim]`, output `[batch, .., output_dim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// How many things there are.
    pub input_dim: usize,
    /// The size of their vectors.
    pub output_dim: usize,
    /// Where the vectors start.
    #[serde(default = "uniform")]
    pub embeddings_initializer: Initializer,
}

/// Where Keras starts embeddings.
pub(super) fn uniform() -> Initializer {
    Initializer::RandomUniform(-0.05, 0.05)
}

impl Embedding {
    /// So many vectors of such a size.
    #[must_use]
    pub fn new(input_dim: usize, output_dim: usize) -> Self {
        Self { input_dim, output_dim, embeddings_initializer: uniform() }
    }

    /// The shape of a vector for each number.
    fn vectors_of(&self, numbers: Shape) -> Result<Shape> {
        let mut sizes = [self.output_dim; MAX_RANK + 1];
        sizes.iter_mut().zip(&*numbers).for_each(|(size, &number)| *size = number);
        Ok(Shape::new(sizes.get(..=numbers.rank()).unwrap_or(&sizes))?)
    }

    /// The vector's number.
    fn index<T: Scalar>(&self, x: T) -> Result<usize> {
        let value = x.as_f64();
        if value >= 0.0 && value < self.input_dim as f64 {
            return Ok(value as usize);
        }
        let expected = format!("numbers from 0 to below {}", self.input_dim);
        Err(Error::Index { place: "embedding", expected, found: value.to_string() })
    }

    /// Adds `vectors` to the gradients of the embeddings that stand in their places.
    fn add<T: Scalar>(
        &self,
        input: View<'_, T>,
        vectors: View<'_, T>,
        gradients: &mut [Tensor<T>],
    ) -> Result<()> {
        let width = self.output_dim;
        let gradient = gradient("embedding", gradients, 0, self.input_dim.saturating_mul(width))?;
        for (&x, vector) in input.data().iter().zip(vectors.data().chunks_exact(width)) {
            let sums = vector_mut(gradient, self.index(x)?, width);
            sums.iter_mut().zip(vector).for_each(|(sum, &g)| *sum += g);
        }
        Ok(())
    }
}

impl<T: Scalar> Layer<T> for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        for (setting, size) in [("input_dim", self.input_dim), ("output_dim", self.output_dim)] {
            check_setting(size > 0, "embedding", setting, "at least 1", size)?;
        }
        self.vectors_of(input)
    }

    fn parameters(&self, _input: Shape) -> Result<Vec<ParameterSpec>> {
        let shape = Shape::new(&[self.input_dim, self.output_dim])?;
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
        let width = self.output_dim;
        workspace.output.resize(output_of::<T>(self, input.shape())?);
        let embeddings = parameter("embedding", parameters, 0, self.input_dim.saturating_mul(width))?;
        for (&x, own) in input.data().iter().zip(workspace.output.data_mut().chunks_exact_mut(width)) {
            own.copy_from_slice(vector(embeddings, self.index(x)?, width));
        }
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
        workspace.grad_input.resize(input.shape());
        workspace.grad_input.fill(T::zero());
        if wanted.parameters { self.add(input, grad_output, gradients) } else { Ok(()) }
    }

    fn forward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        _workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        tangents.output.resize(output_of::<T>(self, input.value.shape())?);
        tangents.output.fill(T::zero());
        Ok(())
    }

    fn backward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        grad_output: Dual<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        _workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_gradients(self, input, grad_output)?;
        tangents.grad_input.resize(input.value.shape());
        tangents.grad_input.fill(T::zero());
        if wanted.parameters { self.add(input.value, grad_output.tangent, gradients) } else { Ok(()) }
    }
}
