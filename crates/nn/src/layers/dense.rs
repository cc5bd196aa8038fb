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
use tensor_ops::{Scalar, Shape, Tensor, View, add_matmul_tn, add_rows, matmul_nt, matmul_then};

use super::unexpected;
use crate::error::check_setting;
use crate::{Activation, Dual, Initializer, Layer, Parameter, ParameterSpec, Result, Wanted, Workspace};

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
        let output = input.shape().with_last(self.units);
        linear_forward(parameters, input, output, workspace.activation(self.activation), workspace)
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
        let activation = workspace.activation(self.activation);
        let Workspace { output, grad_input, scratch, .. } = workspace;
        let grad_input = wanted.input.then_some(grad_input);
        let gradients = if wanted.parameters { gradients } else { &mut [] };
        linear_backward(activation, parameters, input, output, grad_output, gradients, grad_input, scratch)
    }

    fn forward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        linear_forward_tangent(
            parameters,
            input.tangent,
            workspace.activation(self.activation),
            workspace,
            tangents,
        )
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
        let activation = workspace.activation(self.activation);
        let Workspace { grad_input, scratch, .. } = tangents;
        let grad_input = wanted.input.then_some(grad_input);
        let gradients = if wanted.parameters { gradients } else { &mut [] };
        linear_backward_tangent(
            activation,
            parameters,
            input,
            grad_output,
            gradients,
            grad_input,
            workspace,
            scratch,
        )
    }

    fn final_activation(&self) -> Activation {
        self.activation
    }
}

/// What Dense and the convolutions keep in their scratch: z = x kernel + bias where the activation's gradient needs it,
/// and the gradient of z.
const Z: usize = 0;
/// How many scratch tensors that is.
pub(super) const LINEAR_SCRATCH: usize = 2;

/// The parameters of a layer `x kernel + bias`, where the bias has one number for each output feature.
pub(super) fn linear_parameters(
    kernel: Shape,
    initializer: Initializer,
    bias_initializer: Option<Initializer>,
) -> Vec<ParameterSpec> {
    let bias = Shape::from([kernel.last_dim()]);
    let kernel = ParameterSpec::new("kernel", kernel, initializer);
    let bias = bias_initializer.map(|initializer| ParameterSpec::new("bias", bias, initializer));
    [kernel].into_iter().chain(bias).collect()
}

/// Computes `output = f(input kernel + bias)` in one pass, or, where the activation's gradient needs z or f needs
/// whole rows, in two.
pub(super) fn linear_forward<T: Scalar>(
    parameters: &[Parameter<T>],
    input: View<'_, T>,
    output_shape: Shape,
    activation: Activation,
    workspace: &mut Workspace<T>,
) -> Result<()> {
    let kernel = parameters[0].value.view();
    let bias = parameters.get(1).map(|bias| bias.value.view());
    workspace.scratch(LINEAR_SCRATCH);
    let Workspace { output, scratch, .. } = workspace;
    if activation.is_elementwise() && !activation.needs_input() {
        output.resize(output_shape);
        return Ok(matmul_then(input, kernel, bias, output, |values| activation.apply(values))?);
    }
    let z = &mut scratch[Z];
    z.resize(output_shape);
    matmul_then(input, kernel, bias, z, |_| {})?;
    activation.forward(z.view(), output);
    Ok(())
}

/// Adds to the `gradients` of kernel and bias, if there are any, and computes `grad_input`, if it is there.
#[allow(clippy::too_many_arguments, reason = "what a backward pass of a linear layer depends on")]
pub(super) fn linear_backward<T: Scalar>(
    activation: Activation,
    parameters: &[Parameter<T>],
    input: View<'_, T>,
    output: &Tensor<T>,
    grad_output: View<'_, T>,
    gradients: &mut [Tensor<T>],
    grad_input: Option<&mut Tensor<T>>,
    scratch: &mut [Tensor<T>],
) -> Result<()> {
    let [z, grad_z, ..] = scratch else {
        return unexpected("linear layer", "a forward pass before", grad_output.shape());
    };
    let grad = if activation == Activation::Linear {
        grad_output
    } else {
        activation.backward(z.view(), output.view(), grad_output, grad_z)?;
        grad_z.view()
    };
    if let Some((kernel, bias)) = gradients.split_first_mut() {
        add_matmul_tn(input, grad, kernel)?;
        bias.first_mut().map_or(Ok(()), |bias| add_rows(grad, bias))?;
    }
    grad_input
        .map_or(Ok(()), |grad_input| times_transposed_kernel(grad, parameters, input.shape(), grad_input))
}

/// Computes the tangent of the output: that of z = input kernel, by the activation's slope.
pub(super) fn linear_forward_tangent<T: Scalar>(
    parameters: &[Parameter<T>],
    input: View<'_, T>,
    activation: Activation,
    workspace: &Workspace<T>,
    tangents: &mut Workspace<T>,
) -> Result<()> {
    tangents.scratch(LINEAR_SCRATCH);
    let Workspace { output, scratch, .. } = tangents;
    let z = if activation == Activation::Linear { &mut *output } else { &mut scratch[Z] };
    z.resize(workspace.output.shape());
    matmul_then(input, parameters[0].value.view(), None, z, |_| {})?;
    if activation != Activation::Linear {
        // The slopes of each activation are symmetric, also those of softmax: forwards they do what they do backwards.
        let z = scratch[Z].view();
        activation.backward(workspace.scratch[Z].view(), workspace.output.view(), z, output)?;
    }
    Ok(())
}

/// The tangent of [`linear_backward`], whose gradient of z is the product of two things that change: the slope of the
/// activation, and the gradient of the output.
#[allow(clippy::too_many_arguments, reason = "what the tangents of a linear layer depend on")]
pub(super) fn linear_backward_tangent<T: Scalar>(
    activation: Activation,
    parameters: &[Parameter<T>],
    input: Dual<'_, T>,
    grad_output: Dual<'_, T>,
    gradients: &mut [Tensor<T>],
    grad_input: Option<&mut Tensor<T>>,
    workspace: &Workspace<T>,
    scratch: &mut [Tensor<T>],
) -> Result<()> {
    let ([z, grad_z, ..], [z_tangent, grad_tangent, ..]) = (&*workspace.scratch, scratch) else {
        return unexpected("linear layer", "tangents forward before", input.value.shape());
    };
    let grad = if activation == Activation::Linear {
        grad_output
    } else {
        let output = workspace.output.view();
        activation.backward_tangent(z.view(), output, z_tangent.view(), grad_output, grad_tangent)?;
        Dual { value: grad_z.view(), tangent: grad_tangent.view() }
    };
    if let Some((kernel, bias)) = gradients.split_first_mut() {
        add_matmul_tn(input.value, grad.tangent, kernel)?;
        add_matmul_tn(input.tangent, grad.value, kernel)?;
        bias.first_mut().map_or(Ok(()), |bias| add_rows(grad.tangent, bias))?;
    }
    grad_input.map_or(Ok(()), |grad_input| {
        times_transposed_kernel(grad.tangent, parameters, input.value.shape(), grad_input)
    })
}

/// From the gradient of z = input kernel, or its tangent, that of the input.
fn times_transposed_kernel<T: Scalar>(
    grad_z: View<'_, T>,
    parameters: &[Parameter<T>],
    input: Shape,
    grad_input: &mut Tensor<T>,
) -> Result<()> {
    grad_input.resize(input);
    let kernel = parameters[0].value.view();
    let features = kernel.shape().as_matrix().0;
    Ok(matmul_nt(grad_z, kernel.reshape([features, grad_z.shape().last_dim()])?, grad_input)?)
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn zeros() -> Initializer {
    Initializer::Zeros
}
