//! Convolution over the steps of a sequence, as Keras defines it.
//!
//! With stride s, dilation d, kernel size k and p steps of zeros before the input:
//!
//! `y[b, t, o] = f(bias[o] + sum over j, c of x[b, s t + d j - p, c] kernel[j, c, o])`
//!
//! `valid` takes p = 0 and as many output steps as fit, floor((steps - d (k - 1) - 1) / s) + 1. `same` gives
//! ceil(steps / s) output steps and divides the zeros it needs evenly, the odd one after the input.

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use super::dense::{
    LINEAR_SCRATCH, linear_backward, linear_backward_tangent, linear_forward, linear_forward_tangent,
    linear_parameters, yes, zeros,
};
use super::unexpected;
use super::window::window;
use crate::error::check_setting;
use crate::{Activation, Dual, Initializer, Layer, Parameter, ParameterSpec, Result, Wanted, Workspace};

/// What lies beyond the ends of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Nothing: the kernel stays inside.
    #[default]
    Valid,
    /// Zeros, so that with stride 1 the output is as long as the input.
    Same,
}

/// A convolution over one axis.
///
/// # Shapes
/// input `[batch, steps, channels]`, kernel `[kernel_size, channels, filters]`, bias `[filters]`, output
/// `[batch, output steps, filters]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv1D {
    /// The number of output channels.
    pub filters: usize,
    /// The number of input steps that an output step sees.
    pub kernel_size: usize,
    /// How far the kernel moves from one output step to the next.
    #[serde(default = "one")]
    pub strides: usize,
    /// The distance between the input steps that the kernel touches.
    #[serde(default = "one")]
    pub dilation_rate: usize,
    /// What lies beyond the ends of the input.
    #[serde(default)]
    pub padding: Padding,
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

fn one() -> usize {
    1
}

/// The scratch tensors that hold the patches, for each output step the input that its kernel sees, and their gradient.
const PATCHES: usize = LINEAR_SCRATCH;
const GRAD_PATCHES: usize = LINEAR_SCRATCH + 1;

impl Conv1D {
    /// A layer of stride 1, dilation 1, `valid`, with a bias and no activation.
    #[must_use]
    pub fn new(filters: usize, kernel_size: usize) -> Self {
        Self {
            filters,
            kernel_size,
            strides: 1,
            dilation_rate: 1,
            padding: Padding::Valid,
            activation: Activation::Linear,
            use_bias: true,
            kernel_initializer: Initializer::GlorotUniform,
            bias_initializer: Initializer::Zeros,
        }
    }

    /// The number of output steps and of zeros before the input.
    fn output_steps(&self, steps: usize) -> Result<(usize, usize)> {
        for (setting, value) in [
            ("filters", self.filters),
            ("kernel_size", self.kernel_size),
            ("strides", self.strides),
            ("dilation_rate", self.dilation_rate),
        ] {
            check_setting(value > 0, "conv1d", setting, "at least 1", value)?;
        }
        window("conv1d", steps, self.kernel_size, self.strides, self.dilation_rate, self.padding)
    }

    /// Whether every output step sees just the input step of its own number: then the input is its patches.
    fn is_pointwise(&self) -> bool {
        self.kernel_size == 1 && self.strides == 1
    }

    /// Calls `f(patch, step)` with each place of the patches `[batch, output steps, kernel_size]` and the row
    /// of the input `[batch, steps]` that stands there; `None` where that is padding.
    fn for_each_patch_row(&self, input: Shape, mut f: impl FnMut(usize, Option<usize>)) -> Result<()> {
        let (batch, steps) = (input[0], input[1]);
        let (output_steps, padding) = self.output_steps(steps)?;
        for row in 0..batch * output_steps {
            let (sequence, t) = (row / output_steps, row % output_steps);
            for j in 0..self.kernel_size {
                let step = (t * self.strides + j * self.dilation_rate).checked_sub(padding);
                let step = step.filter(|&step| step < steps).map(|step| sequence * steps + step);
                f(row * self.kernel_size + j, step);
            }
        }
        Ok(())
    }

    fn write_patches<T: Scalar>(&self, input: View<'_, T>, patches: &mut Tensor<T>) -> Result<()> {
        let [batch, steps, channels] = *input.shape() else {
            return unexpected("conv1d", "an input [batch, steps, channels]", input.shape());
        };
        let (output_steps, _) = self.output_steps(steps)?;
        patches.resize([batch, output_steps, self.kernel_size * channels]);
        let patches = patches.data_mut();
        self.for_each_patch_row(input.shape(), |place, step| {
            let patch = &mut patches[place * channels..][..channels];
            match step {
                Some(step) => patch.copy_from_slice(&input.data()[step * channels..][..channels]),
                None => patch.fill(T::zero()),
            }
        })
    }

    /// The other way round: adds what belongs to an input step up from all patches that it stands in.
    fn add_patches<T: Scalar>(&self, patches: &Tensor<T>, input: &mut Tensor<T>) -> Result<()> {
        input.fill(T::zero());
        let (shape, channels) = (input.shape(), input.shape().last_dim());
        let input = input.data_mut();
        self.for_each_patch_row(shape, |place, step| {
            if let Some(step) = step {
                let patch = &patches.data()[place * channels..][..channels];
                input[step * channels..][..channels].iter_mut().zip(patch).for_each(|(x, &y)| *x += y);
            }
        })
    }
}

impl<T: Scalar> Layer<T> for Conv1D {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.activation.check("conv1d")?;
        let [steps, channels] = *input else {
            return unexpected("conv1d", "rows of [steps, channels]", input);
        };
        if channels == 0 {
            return unexpected("conv1d", "rows of [steps, channels] with at least 1 channel", input);
        }
        let (output_steps, _) = self.output_steps(steps)?;
        Ok(Shape::from([output_steps, self.filters]))
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        let kernel = Shape::new(&[self.kernel_size, input.last_dim(), self.filters])?;
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
        let mut patches = std::mem::take(&mut workspace.scratch(LINEAR_SCRATCH + 2)[PATCHES]);
        let patch_view = if self.is_pointwise() {
            input
        } else {
            self.write_patches(input, &mut patches)?;
            patches.view()
        };
        let activation = workspace.activation(self.activation);
        let output = patch_view.shape().with_last(self.filters);
        linear_forward(parameters, patch_view, output, activation, workspace)?;
        workspace.scratch[PATCHES] = patches;
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
        let activation = workspace.activation(self.activation);
        let Workspace { output, grad_input, scratch, .. } = workspace;
        let (scratch, patches) = scratch.split_at_mut(PATCHES);
        let (patches, grad_patches) = patches.split_at_mut(GRAD_PATCHES - PATCHES);
        let gradients = if wanted.parameters { gradients } else { &mut [] };
        let mut backward = |input, grad_input| {
            linear_backward(
                activation,
                parameters,
                input,
                output,
                grad_output,
                gradients,
                grad_input,
                scratch,
            )
        };
        if self.is_pointwise() {
            return backward(input, wanted.input.then_some(grad_input));
        }
        backward(patches[0].view(), wanted.input.then_some(&mut grad_patches[0]))?;
        if wanted.input {
            grad_input.resize(input.shape());
            self.add_patches(&grad_patches[0], grad_input)?;
        }
        Ok(())
    }

    fn forward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        let activation = workspace.activation(self.activation);
        if self.is_pointwise() {
            return linear_forward_tangent(parameters, input.tangent, activation, workspace, tangents);
        }
        let mut patches = std::mem::take(&mut tangents.scratch(LINEAR_SCRATCH + 2)[PATCHES]);
        self.write_patches(input.tangent, &mut patches)?;
        linear_forward_tangent(parameters, patches.view(), activation, workspace, tangents)?;
        tangents.scratch[PATCHES] = patches;
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
        let activation = workspace.activation(self.activation);
        let Workspace { grad_input, scratch, .. } = tangents;
        let gradients = if wanted.parameters { gradients } else { &mut [] };
        let grad_input = wanted.input.then_some(grad_input);
        if self.is_pointwise() {
            return linear_backward_tangent(
                activation,
                parameters,
                input,
                grad_output,
                gradients,
                grad_input,
                workspace,
                scratch,
            );
        }
        let (scratch, patches) = scratch.split_at_mut(PATCHES);
        let (patches, grad_patches) = patches.split_at_mut(GRAD_PATCHES - PATCHES);
        let dual = Dual { value: workspace.scratch[PATCHES].view(), tangent: patches[0].view() };
        let mut grad_patches = wanted.input.then_some(&mut grad_patches[0]);
        linear_backward_tangent(
            activation,
            parameters,
            dual,
            grad_output,
            gradients,
            grad_patches.as_deref_mut(),
            workspace,
            scratch,
        )?;
        if let (Some(grad_input), Some(grad_patches)) = (grad_input, grad_patches) {
            grad_input.resize(input.value.shape());
            self.add_patches(grad_patches, grad_input)?;
        }
        Ok(())
    }

    fn final_activation(&self) -> Activation {
        self.activation
    }
}
