//! Layers without parameters that are linear: how the output moves with the input is the layer itself.

/// A layer, given `row_shape(row)`, `apply(input, output)` and `transpose(grad_output, grad_input)`, which find the shapes of
/// their results set.
macro_rules! linear_map {
    ($layer:ty, $name:literal) => {
        impl<T: tensor_ops::Scalar> crate::Layer<T> for $layer {
            fn name(&self) -> &'static str {
                $name
            }

            fn output_shape(&self, input: Shape) -> Result<Shape> {
                self.row_shape(input)
            }

            fn forward(
                &self,
                _parameters: &[crate::Parameter<T>],
                input: View<'_, T>,
                workspace: &mut crate::Workspace<T>,
            ) -> Result<()> {
                workspace.output.resize($crate::layers::output_of::<T>(self, input.shape())?);
                self.apply(input, &mut workspace.output)
            }

            fn backward(
                &self,
                _parameters: &[crate::Parameter<T>],
                input: View<'_, T>,
                grad_output: View<'_, T>,
                wanted: crate::Wanted,
                _gradients: &mut [Tensor<T>],
                workspace: &mut crate::Workspace<T>,
            ) -> Result<()> {
                if !wanted.input {
                    return Ok(());
                }
                $crate::layers::check_gradient(self, input, grad_output)?;
                workspace.grad_input.resize(input.shape());
                self.transpose(grad_output, &mut workspace.grad_input)
            }

            fn forward_tangent(
                &self,
                _parameters: &[crate::Parameter<T>],
                input: crate::Dual<'_, T>,
                _workspace: &crate::Workspace<T>,
                tangents: &mut crate::Workspace<T>,
            ) -> Result<()> {
                $crate::layers::check_tangent($name, input)?;
                tangents.output.resize($crate::layers::output_of::<T>(self, input.value.shape())?);
                self.apply(input.tangent, &mut tangents.output)
            }

            fn backward_tangent(
                &self,
                _parameters: &[crate::Parameter<T>],
                input: crate::Dual<'_, T>,
                grad_output: crate::Dual<'_, T>,
                wanted: crate::Wanted,
                _gradients: &mut [Tensor<T>],
                _workspace: &crate::Workspace<T>,
                tangents: &mut crate::Workspace<T>,
            ) -> Result<()> {
                if !wanted.input {
                    return Ok(());
                }
                $crate::layers::check_gradients(self, input, grad_output)?;
                tangents.grad_input.resize(input.value.shape());
                self.transpose(grad_output.tangent, &mut tangents.grad_input)
            }
        }
    };
}
pub(super) use linear_map;
