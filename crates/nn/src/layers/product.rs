//! What Dense and the convolutions have in common: `y = f(z)` and `z = input * kernel + bias`, with a product `*` that is
//! linear in both of its sides.

use tensor_ops::{Convolution, Scalar, Shape, Tensor, View, add_matmul_tn, add_rows, matmul_nt, matmul_then};

use super::{missing_pass, unexpected};
use crate::{Activation, Dual, Initializer, Parameter, ParameterSpec, Result, Workspace};

/// A product of an input with a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Product {
    /// Of matrices.
    Matmul,
    /// A convolution.
    Convolution(Convolution),
    /// The transposed one: its input is what the convolution puts out.
    Transposed(Convolution),
}

impl Product {
    /// `z = then(input * kernel + bias)`.
    fn forward<T: Scalar>(
        self,
        input: View<'_, T>,
        kernel: View<'_, T>,
        bias: Option<View<'_, T>>,
        z: &mut Tensor<T>,
        then: impl Fn(&mut [T]) + Sync,
    ) -> tensor_ops::Result<()> {
        match self {
            Self::Matmul => matmul_then(input, kernel, bias, z, then),
            Self::Convolution(convolution) => convolution.forward(input, kernel, bias, z, then),
            Self::Transposed(convolution) => convolution.transposed(input, kernel, bias, z, then),
        }
    }

    /// `gradient += ` that of the kernel.
    fn add_kernel_gradient<T: Scalar>(
        self,
        input: View<'_, T>,
        grad_z: View<'_, T>,
        gradient: &mut Tensor<T>,
    ) -> tensor_ops::Result<()> {
        match self {
            Self::Matmul => add_matmul_tn(input, grad_z, gradient),
            Self::Convolution(convolution) => convolution.add_kernel_gradient(input, grad_z, gradient),
            Self::Transposed(convolution) => convolution.add_kernel_gradient(grad_z, input, gradient),
        }
    }

    /// The gradient of the input, whose shape `grad_input` has.
    fn input_gradient<T: Scalar>(
        self,
        grad_z: View<'_, T>,
        kernel: View<'_, T>,
        grad_input: &mut Tensor<T>,
    ) -> tensor_ops::Result<()> {
        match self {
            Self::Matmul => {
                let features = kernel.shape().as_matrix().0;
                matmul_nt(grad_z, kernel.reshape([features, grad_z.shape().last_dim()])?, grad_input)
            }
            Self::Convolution(convolution) => {
                convolution.transposed(grad_z, kernel, None, grad_input, |_| {})
            }
            Self::Transposed(convolution) => convolution.forward(grad_z, kernel, None, grad_input, |_| {}),
        }
    }
}

/// The scratch: z, where the gradient of the activation needs it, and the gradient of z.
const LINEAR_SCRATCH: usize = 2;

/// The parameters: a kernel, and a bias with a number for each output feature.
pub(super) fn linear_parameters(
    kernel: Shape,
    features: usize,
    initializer: Initializer,
    bias_initializer: Option<Initializer>,
) -> Vec<ParameterSpec> {
    let bias = Shape::from([features]);
    let kernel = ParameterSpec::new("kernel", kernel, initializer);
    let bias = bias_initializer.map(|initializer| ParameterSpec::new("bias", bias, initializer));
    [kernel].into_iter().chain(bias).collect()
}

fn kernel_of<T: Scalar>(parameters: &[Parameter<T>]) -> Result<View<'_, T>> {
    match parameters.first() {
        Some(kernel) => Ok(kernel.value.view()),
        None => unexpected("linear layer", "a kernel", Shape::from([0])),
    }
}

/// Computes `output = f(input * kernel + bias)` in one pass, or, where the activation's gradient needs z or f needs
/// whole rows, in two.
pub(super) fn linear_forward<T: Scalar>(
    product: Product,
    parameters: &[Parameter<T>],
    input: View<'_, T>,
    output_shape: Shape,
    activation: Activation,
    workspace: &mut Workspace<T>,
) -> Result<()> {
    let kernel = kernel_of(parameters)?;
    let bias = parameters.get(1).map(|bias| bias.value.view());
    workspace.scratch(LINEAR_SCRATCH);
    let Workspace { output, scratch, .. } = workspace;
    if activation.is_elementwise() && !activation.needs_input() {
        output.resize(output_shape);
        return Ok(product.forward(input, kernel, bias, output, |values| activation.apply(values))?);
    }
    let [z, ..] = &mut scratch[..] else { return missing_pass("linear layer") };
    z.resize(output_shape);
    product.forward(input, kernel, bias, z, |_| {})?;
    activation.forward(z.view(), output);
    Ok(())
}

/// Adds to the `gradients` of kernel and bias, if there are any, and computes `grad_input`, if it is there.
#[allow(clippy::too_many_arguments, reason = "what a backward pass of a linear layer depends on")]
pub(super) fn linear_backward<T: Scalar>(
    product: Product,
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
        product.add_kernel_gradient(input, grad, kernel)?;
        bias.first_mut().map_or(Ok(()), |bias| add_rows(grad, bias))?;
    }
    let Some(grad_input) = grad_input else { return Ok(()) };
    grad_input.resize(input.shape());
    Ok(product.input_gradient(grad, kernel_of(parameters)?, grad_input)?)
}

/// Computes the tangent of the output: that of z = input kernel, by the activation's slope.
pub(super) fn linear_forward_tangent<T: Scalar>(
    product: Product,
    parameters: &[Parameter<T>],
    input: View<'_, T>,
    activation: Activation,
    workspace: &Workspace<T>,
    tangents: &mut Workspace<T>,
) -> Result<()> {
    tangents.scratch(LINEAR_SCRATCH);
    let Workspace { output, scratch, .. } = tangents;
    let ([z, ..], [z_moved, ..]) = (&workspace.scratch[..], &mut scratch[..]) else {
        return missing_pass("linear layer");
    };
    let kernel = kernel_of(parameters)?;
    if activation == Activation::Linear {
        output.resize(workspace.output.shape());
        return Ok(product.forward(input, kernel, None, output, |_| {})?);
    }
    z_moved.resize(workspace.output.shape());
    product.forward(input, kernel, None, z_moved, |_| {})?;
    // The slopes of each activation are symmetric, also those of softmax: forwards they do what they do backwards.
    activation.backward(z.view(), workspace.output.view(), z_moved.view(), output)
}

/// The tangent of [`linear_backward`], whose gradient of z is the product of two things that change: the slope of the
/// activation, and the gradient of the output.
#[allow(clippy::too_many_arguments, reason = "what the tangents of a linear layer depend on")]
pub(super) fn linear_backward_tangent<T: Scalar>(
    product: Product,
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
        product.add_kernel_gradient(input.value, grad.tangent, kernel)?;
        product.add_kernel_gradient(input.tangent, grad.value, kernel)?;
        bias.first_mut().map_or(Ok(()), |bias| add_rows(grad.tangent, bias))?;
    }
    let Some(grad_input) = grad_input else { return Ok(()) };
    grad_input.resize(input.value.shape());
    Ok(product.input_gradient(grad.tangent, kernel_of(parameters)?, grad_input)?)
}

/// Implements [`Layer`](crate::Layer) for a type with the fields `activation`, `use_bias`, `kernel_initializer` and
/// `bias_initializer`, and three functions of the shape of a row of the input:
///
/// * `product` checks it and gives the [`Product`] and the shape of a row of the output,
/// * `kernel_shape` gives that of the kernel.
macro_rules! kernel_layer {
    ($layer:ty, $name:literal) => {
        impl<T: tensor_ops::Scalar> crate::Layer<T> for $layer {
            fn name(&self) -> &'static str {
                $name
            }

            fn output_shape(&self, input: tensor_ops::Shape) -> crate::Result<tensor_ops::Shape> {
                self.activation.check($name)?;
                Ok(self.product(input)?.1)
            }

            fn parameters(&self, input: tensor_ops::Shape) -> crate::Result<Vec<crate::ParameterSpec>> {
                let features = self.product(input)?.1.last_dim();
                let bias = self.use_bias.then_some(self.bias_initializer);
                let kernel = self.kernel_shape(input)?;
                Ok($crate::layers::product::linear_parameters(
                    kernel,
                    features,
                    self.kernel_initializer,
                    bias,
                ))
            }

            fn parameter_count(&self) -> usize {
                1 + usize::from(self.use_bias)
            }

            fn forward(
                &self,
                parameters: &[crate::Parameter<T>],
                input: tensor_ops::View<'_, T>,
                workspace: &mut crate::Workspace<T>,
            ) -> crate::Result<()> {
                let (product, row) = self.product(input.shape().without_first())?;
                let output = row.with_first(input.shape().first_dim())?;
                let activation = workspace.activation(self.activation);
                $crate::layers::product::linear_forward(
                    product, parameters, input, output, activation, workspace,
                )
            }

            fn backward(
                &self,
                parameters: &[crate::Parameter<T>],
                input: tensor_ops::View<'_, T>,
                grad_output: tensor_ops::View<'_, T>,
                wanted: crate::Wanted,
                gradients: &mut [tensor_ops::Tensor<T>],
                workspace: &mut crate::Workspace<T>,
            ) -> crate::Result<()> {
                let activation = workspace.activation(self.activation);
                let crate::Workspace { output, grad_input, scratch, .. } = workspace;
                $crate::layers::product::linear_backward(
                    self.product(input.shape().without_first())?.0,
                    activation,
                    parameters,
                    input,
                    output,
                    grad_output,
                    if wanted.parameters { gradients } else { &mut [] },
                    wanted.input.then_some(grad_input),
                    scratch,
                )
            }

            fn forward_tangent(
                &self,
                parameters: &[crate::Parameter<T>],
                input: crate::Dual<'_, T>,
                workspace: &crate::Workspace<T>,
                tangents: &mut crate::Workspace<T>,
            ) -> crate::Result<()> {
                let activation = workspace.activation(self.activation);
                let (product, _) = self.product(input.value.shape().without_first())?;
                $crate::layers::product::linear_forward_tangent(
                    product,
                    parameters,
                    input.tangent,
                    activation,
                    workspace,
                    tangents,
                )
            }

            fn backward_tangent(
                &self,
                parameters: &[crate::Parameter<T>],
                input: crate::Dual<'_, T>,
                grad_output: crate::Dual<'_, T>,
                wanted: crate::Wanted,
                gradients: &mut [tensor_ops::Tensor<T>],
                workspace: &crate::Workspace<T>,
                tangents: &mut crate::Workspace<T>,
            ) -> crate::Result<()> {
                let crate::Workspace { grad_input, scratch, .. } = tangents;
                $crate::layers::product::linear_backward_tangent(
                    self.product(input.value.shape().without_first())?.0,
                    workspace.activation(self.activation),
                    parameters,
                    input,
                    grad_output,
                    if wanted.parameters { gradients } else { &mut [] },
                    wanted.input.then_some(grad_input),
                    workspace,
                    scratch,
                )
            }

            fn multiply_adds(&self, input: tensor_ops::Shape) -> crate::Result<usize> {
                let (product, output) = self.product(input)?;
                let kernel = self.kernel_shape(input)?.len();
                // Each number of the kernel takes part once in each place that it is multiplied from.
                let places = match product {
                    $crate::layers::product::Product::Transposed(_) => input,
                    _ => output,
                };
                Ok((places.len() / places.last_dim().max(1)).saturating_mul(kernel))
            }

            fn final_activation(&self) -> crate::Activation {
                self.activation
            }
        }
    };
}
pub(super) use kernel_layer;

pub(super) fn one_pair() -> [usize; 2] {
    [1, 1]
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn zeros() -> Initializer {
    Initializer::Zeros
}
