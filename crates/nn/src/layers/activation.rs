//! Activations as layers of their own.

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use crate::{Activation, Dual, Layer, Parameter, Result, Wanted, Workspace};

/// Applies an activation function. Output and input have the same shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationLayer {
    /// The function.
    pub activation: Activation,
}

/// Leaky ReLU: x where positive, else `negative_slope` x.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeakyReLU {
    /// The slope for negative x; 0.3 unless given, as in Keras' layer of that name.
    #[serde(default = "keras_negative_slope")]
    pub negative_slope: f64,
}

fn keras_negative_slope() -> f64 {
    0.3
}

macro_rules! activation_layer {
    ($layer:ty, $name:literal, $activation:expr) => {
        impl<T: Scalar> Layer<T> for $layer {
            fn name(&self) -> &'static str {
                $name
            }

            fn output_shape(&self, input: Shape) -> Result<Shape> {
                let activation: Activation = $activation(self);
                activation.check($name).map(|()| input)
            }

            fn forward(
                &self,
                _parameters: &[Parameter<T>],
                input: View<'_, T>,
                workspace: &mut Workspace<T>,
            ) -> Result<()> {
                let activation = workspace.activation($activation(self));
                activation.forward(input, &mut workspace.output);
                Ok(())
            }

            fn backward(
                &self,
                _parameters: &[Parameter<T>],
                input: View<'_, T>,
                grad_output: View<'_, T>,
                _wanted: Wanted,
                _gradients: &mut [Tensor<T>],
                workspace: &mut Workspace<T>,
            ) -> Result<()> {
                let activation = workspace.activation($activation(self));
                let Workspace { output, grad_input, .. } = workspace;
                activation.backward(input, output.view(), grad_output, grad_input)
            }

            fn forward_tangent(
                &self,
                _parameters: &[Parameter<T>],
                input: Dual<'_, T>,
                workspace: &Workspace<T>,
                tangents: &mut Workspace<T>,
            ) -> Result<()> {
                // The slopes are symmetric, also those of softmax: forwards they do what they do backwards.
                let activation = workspace.activation($activation(self));
                activation.backward(input.value, workspace.output.view(), input.tangent, &mut tangents.output)
            }

            fn backward_tangent(
                &self,
                _parameters: &[Parameter<T>],
                input: Dual<'_, T>,
                grad_output: Dual<'_, T>,
                _wanted: Wanted,
                _gradients: &mut [Tensor<T>],
                workspace: &Workspace<T>,
                tangents: &mut Workspace<T>,
            ) -> Result<()> {
                let activation = workspace.activation($activation(self));
                let (output, result) = (workspace.output.view(), &mut tangents.grad_input);
                activation.backward_tangent(input.value, output, input.tangent, grad_output, result)
            }

            fn final_activation(&self) -> Activation {
                $activation(self)
            }
        }
    };
}

activation_layer!(ActivationLayer, "activation", |layer: &ActivationLayer| layer.activation);
activation_layer!(LeakyReLU, "leaky_relu", |layer: &LeakyReLU| {
    Activation::LeakyRelu { negative_slope: layer.negative_slope }
});
