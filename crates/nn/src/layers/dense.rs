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
use tensor_ops::{Scalar, Shape, Tensor, View, add_row, matmul, matmul_nt, matmul_tn, sum_axis};

use super::unexpected;
use crate::error::check_setting;
use crate::{Activation, Initializer, Layer, Parameter, ParameterSpec, Result, Wanted, Workspace};

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
}

impl<T: Scalar> Layer<T> for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        check_setting(self.units > 0, "dense", "units", "at least 1", self.units)?;
        self.activation.check("dense")?;
        if input.rank() == 0 || input.last_dim() == 0 {
            return unexpected("dense", "rows with at least 1 feature", input);
        }
        Ok(input.with_last(self.units))
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        let kernel = Shape::new(&[input.last_dim(), self.units])?;
        Ok(linear_parameters(kernel, self.kernel_initializer, self.use_bias.then_some(self.bias_initializer)))
    }

    fn parameter_count(&self) -> usize {
        1 + usize::from(self.use_bias)
    }

    fn forward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        linear_forward(
            parameters,
            workspace.activation(self.activation),
            |z| {
                z.resize(input.shape().with_last(self.units));
                Ok(matmul(input, parameters[0].value.view(), z)?)
            },
            workspace,
        )
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
        let grad_z = linear_backward(workspace.activation(self.activation), grad_output, workspace)?;
        if wanted.parameters {
            matmul_tn(input, grad_z.view(), &mut gradients[0])?;
            bias_gradient(&grad_z, gradients)?;
        }
        if wanted.input {
            workspace.grad_input.resize(input.shape());
            matmul_nt(grad_z.view(), parameters[0].value.view(), &mut workspace.grad_input)?;
        }
        workspace.scratch[GRAD_Z] = grad_z;
        Ok(())
    }

    fn final_activation(&self) -> Activation {
        self.activation
    }
}

/// What Dense and the convolutions keep in their scratch: z = x kernel + bias where the activation's gradient
/// needs it, and the gradient of z.
const Z: usize = 0;
pub(super) const GRAD_Z: usize = 1;

/// The parameters of a layer `x kernel + bias`, where the bias has one number for each output feature.
pub(super) fn linear_parameters(
    kernel: Shape,
    initializer: Initializer,
    bias_initializer: Option<Initializer>,
) -> Vec<ParameterSpec> {
    let bias = Shape::from([kernel.last_dim()]);
    let kernel = ParameterSpec { name: "kernel", shape: kernel, initializer };
    let bias = bias_initializer.map(|initializer| ParameterSpec { name: "bias", shape: bias, initializer });
    [kernel].into_iter().chain(bias).collect()
}

/// Computes `output = f(z + bias)`, where `product` writes z.
pub(super) fn linear_forward<T: Scalar>(
    parameters: &[Parameter<T>],
    activation: Activation,
    product: impl FnOnce(&mut Tensor<T>) -> Result<()>,
    workspace: &mut Workspace<T>,
) -> Result<()> {
    workspace.scratch(2);
    let Workspace { output, scratch, .. } = workspace;
    let in_place = activation == Activation::Linear;
    let z = if in_place { output } else { &mut scratch[Z] };
    product(z)?;
    if let Some(bias) = parameters.get(1) {
        add_row(z, bias.value.view())?;
    }
    if !in_place {
        activation.forward(scratch[Z].view(), &mut workspace.output);
    }
    Ok(())
}

/// Computes the gradient of z, in the scratch tensor that it takes out of the workspace.
pub(super) fn linear_backward<T: Scalar>(
    activation: Activation,
    grad_output: View<'_, T>,
    workspace: &mut Workspace<T>,
) -> Result<Tensor<T>> {
    workspace.scratch(2);
    let mut grad_z = std::mem::take(&mut workspace.scratch[GRAD_Z]);
    let input = workspace.scratch[Z].view();
    activation.backward(input, workspace.output.view(), grad_output, &mut grad_z)?;
    Ok(grad_z)
}

/// The gradient of the bias, where there is one: the sum of the gradient of z over all rows.
pub(super) fn bias_gradient<T: Scalar>(grad_z: &Tensor<T>, gradients: &mut [Tensor<T>]) -> Result<()> {
    if let Some(gradient) = gradients.get_mut(1) {
        let (rows, units) = grad_z.shape().as_matrix();
        sum_axis(grad_z.view().reshape([rows, units])?, 0, gradient)?;
        gradient.resize([units]);
    }
    Ok(())
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn zeros() -> Initializer {
    Initializer::Zeros
}
