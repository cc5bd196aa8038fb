//! Layers that give the same numbers another shape. They copy nothing: their output is a view of their input.

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use super::unexpected;
use crate::{Dual, Layer, Parameter, Result, Wanted, Workspace};

/// Gives each row another shape.
///
/// # Shapes
/// input `[batch, ..]`, output `[batch, ..target_shape]`, as many elements in each row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// The new shape of a row.
    pub target_shape: Vec<usize>,
}

/// Makes each row flat.
///
/// # Shapes
/// input `[batch, ..]`, output `[batch, features]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {}

/// The view of a batch that has another shape in each row. The shapes were checked when the network was built.
fn reshaped<T: Scalar>(view: View<'_, T>, row: Shape) -> View<'_, T> {
    let batch = view.shape().first().copied().unwrap_or(1);
    row.with_first(batch).and_then(|shape| view.reshape(shape)).unwrap_or(view)
}

macro_rules! reshaping_layer {
    ($layer:ty, $name:literal) => {
        impl<T: Scalar> Layer<T> for $layer {
            fn name(&self) -> &'static str {
                $name
            }

            fn output_shape(&self, input: Shape) -> Result<Shape> {
                self.row_shape(input)
            }

            fn forward(
                &self,
                _parameters: &[Parameter<T>],
                input: View<'_, T>,
                workspace: &mut Workspace<T>,
            ) -> Result<()> {
                self.row_shape(input.shape().without_first())?;
                workspace.input_shape = input.shape();
                Ok(())
            }

            fn backward(
                &self,
                _parameters: &[Parameter<T>],
                _input: View<'_, T>,
                _grad_output: View<'_, T>,
                _wanted: Wanted,
                _gradients: &mut [Tensor<T>],
                _workspace: &mut Workspace<T>,
            ) -> Result<()> {
                Ok(())
            }

            fn forward_tangent(
                &self,
                _parameters: &[Parameter<T>],
                input: Dual<'_, T>,
                _workspace: &Workspace<T>,
                tangents: &mut Workspace<T>,
            ) -> Result<()> {
                tangents.input_shape = input.value.shape();
                Ok(())
            }

            fn backward_tangent(
                &self,
                _parameters: &[Parameter<T>],
                _input: Dual<'_, T>,
                _grad_output: Dual<'_, T>,
                _wanted: Wanted,
                _gradients: &mut [Tensor<T>],
                _workspace: &Workspace<T>,
                _tangents: &mut Workspace<T>,
            ) -> Result<()> {
                Ok(())
            }

            fn output<'a>(&self, input: View<'a, T>, _workspace: &'a Workspace<T>) -> View<'a, T> {
                let row = input.shape().without_first();
                reshaped(input, self.row_shape(row).unwrap_or(row))
            }

            fn grad_input<'a>(&self, grad_output: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
                reshaped(grad_output, workspace.input_shape.without_first())
            }
        }
    };
}

reshaping_layer!(Reshape, "reshape");
reshaping_layer!(Flatten, "flatten");

impl Reshape {
    fn row_shape(&self, input: Shape) -> Result<Shape> {
        let target = Shape::new(&self.target_shape)?;
        if target.len() != input.len() {
            return unexpected("reshape", format!("rows of {} elements for {target}", target.len()), input);
        }
        Ok(target)
    }
}

impl Flatten {
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "called as Reshape's is")]
    fn row_shape(&self, input: Shape) -> Result<Shape> {
        Ok(Shape::from([input.len()]))
    }
}
