//! Several stacks of layers that all see the same input, as one layer: their outputs are added up, or joined.
//!
//! A stack without layers passes its input on, so `add` of one such and another is a residual connection:
//! `y = x + layers(x)`. `concatenate` joins the outputs along their last axis.
//!
//! Reference for the former: He et al., 2016.
//!
//! ```
//! use nn::layers::LayerConfig;
//! use nn::{Network, Tensor};
//! use rand::SeedableRng;
//!
//! let json = r#"{ "layer": "add", "branches": [[], [{ "layer": "lambda", "expression": "2 * x" }]] }"#;
//! let layer: LayerConfig = serde_json::from_str(json).unwrap();
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let network = Network::<f64>::new([2], vec![layer.build()], rng)?;
//! let y = network.predict(Tensor::from_vec([1, 2], vec![1.0, -2.0])?.view())?;
//! assert_eq!(y.data(), [3.0, -6.0]);
//! # Ok::<(), nn::Error>(())
//! ```

use std::ops::Range;

use tensor_ops::{Scalar, Shape, Tensor, View, zip_in_place};

use super::sequential::advance_children;
use super::{Sequential, unexpected};
use crate::layer::learns;
use crate::{Dual, Layer, Parameter, ParameterSpec, Result, Wanted, Workspace};

/// Stacks of layers side by side.
///
/// # Shapes
/// input: what each stack takes; output: what each gives, all of the same shape, or, joined, with a last axis as long as
/// all of theirs.
#[derive(Debug)]
pub struct Branches<T> {
    branches: Vec<Box<dyn Layer<T>>>,
    join: Join,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Add,
    Concatenate,
}

impl<T: Scalar> Branches<T> {
    /// Adds up the outputs.
    #[must_use]
    pub fn add(branches: Vec<Sequential<T>>) -> Self {
        Self::new(branches, Join::Add)
    }

    /// Joins the outputs along the last axis.
    #[must_use]
    pub fn concatenate(branches: Vec<Sequential<T>>) -> Self {
        Self::new(branches, Join::Concatenate)
    }

    fn new(branches: Vec<Sequential<T>>, join: Join) -> Self {
        let branches = branches.into_iter().map(|branch| Box::new(branch) as Box<dyn Layer<T>>).collect();
        Self { branches, join }
    }

    /// Puts the outputs of all branches together.
    fn join(&self, input: View<'_, T>, children: &[Workspace<T>], output: &mut Tensor<T>) -> Result<()> {
        let outputs =
            || self.branches.iter().zip(children).map(|(branch, child)| branch.output(input, child));
        let width = outputs().map(|part| part.shape().last_dim()).sum();
        let mut first = 0;
        for part in outputs() {
            let own = part.shape().last_dim();
            match self.join {
                Join::Concatenate => {
                    output.resize(part.shape().with_last(width));
                    let rows = output.data_mut().chunks_exact_mut(width).zip(part.data().chunks_exact(own));
                    rows.for_each(|(row, part)| row[first..first + own].copy_from_slice(part));
                }
                Join::Add if first == 0 => output.copy_from(part),
                Join::Add => zip_in_place(output, part, |sum, x| sum + x)?,
            }
            first += own;
        }
        Ok(())
    }

    /// What of the gradient of the output belongs to the branch whose output is at `columns` of the joined one.
    fn part<'a>(&self, grad: View<'a, T>, columns: Range<usize>, buffer: &'a mut Tensor<T>) -> View<'a, T> {
        if self.join == Join::Add {
            return grad;
        }
        let (shape, own) = (grad.shape(), columns.len());
        buffer.resize(shape.with_last(own));
        let rows = buffer.data_mut().chunks_exact_mut(own).zip(grad.data().chunks_exact(shape.last_dim()));
        rows.for_each(|(part, row)| part.copy_from_slice(&row[columns.clone()]));
        buffer.view()
    }
}

impl<T: Scalar> Layer<T> for Branches<T> {
    fn name(&self) -> &'static str {
        match self.join {
            Join::Add => "add",
            Join::Concatenate => "concatenate",
        }
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let name = Layer::<T>::name(self);
        let Some((first, others)) = self.branches.split_first() else {
            return unexpected(name, "at least 1 branch", input);
        };
        let mut joined = first.output_shape(input)?;
        for other in others {
            let output = other.output_shape(input)?;
            let (fits, width) = match self.join {
                Join::Add => (output == joined, output.last_dim()),
                Join::Concatenate => {
                    let width = joined.last_dim().saturating_add(output.last_dim());
                    (output.with_last(joined.last_dim()) == joined, width)
                }
            };
            if !fits || output.rank() == 0 {
                return unexpected(
                    name,
                    format!("branches with outputs like that of the first, {joined}"),
                    output,
                );
            }
            joined = joined.with_last(width);
        }
        Ok(joined)
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        let specs = self.branches.iter().map(|branch| branch.parameters(input));
        Ok(specs.collect::<Result<Vec<_>>>()?.concat())
    }

    fn parameter_count(&self) -> usize {
        self.branches.iter().map(|branch| branch.parameter_count()).sum()
    }

    fn advance(
        &self,
        parameters: &mut [Parameter<T>],
        gradients: &[Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        advance_children(&self.branches, parameters, gradients, workspace)
    }

    fn forward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let mut rest = parameters;
        for (branch, child) in self.branches.iter().zip(workspace.children(self.branches.len())) {
            let own;
            (own, rest) = rest.split_at(branch.parameter_count());
            branch.forward(own, input, child)?;
        }
        self.join(input, &workspace.children, &mut workspace.output)
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
        workspace.scratch(self.branches.len());
        let Workspace { children, scratch, grad_input, .. } = workspace;
        let (mut column, mut parameter) = (0, 0);
        for ((branch, child), buffer) in self.branches.iter().zip(children).zip(scratch) {
            let first = column == 0;
            let columns = columns_of(branch.as_ref(), input, child, &mut column);
            let own = parameters_of(branch.as_ref(), &mut parameter);
            let part = self.part(grad_output, columns, buffer);
            let wanted = wanted_of(wanted, &parameters[own.clone()]);
            if wanted.input || wanted.parameters {
                let gradients = gradients.get_mut(own.clone()).unwrap_or_default();
                branch.backward(&parameters[own], input, part, wanted, gradients, child)?;
            }
            if wanted.input {
                add_to(grad_input, branch.grad_input(part, child), first)?;
            }
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
        tangents.children.resize_with(self.branches.len(), Workspace::default);
        let mut rest = parameters;
        let children = workspace.children.iter().zip(&mut tangents.children);
        for (branch, (child, tangents)) in self.branches.iter().zip(children) {
            let own;
            (own, rest) = rest.split_at(branch.parameter_count());
            branch.forward_tangent(own, input, child, tangents)?;
        }
        self.join(input.tangent, &tangents.children, &mut tangents.output)
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
        tangents.scratch(2 * self.branches.len());
        let Workspace { children, scratch, grad_input, .. } = tangents;
        let (mut column, mut parameter) = (0, 0);
        let branches = self.branches.iter().zip(&workspace.children).zip(children).zip(scratch.chunks_mut(2));
        for (((branch, child), tangents), buffers) in branches {
            let (first, (of_values, of_tangents)) = (column == 0, buffers.split_at_mut(1));
            let columns = columns_of(branch.as_ref(), input.value, child, &mut column);
            let own = parameters_of(branch.as_ref(), &mut parameter);
            let part = Dual {
                value: self.part(grad_output.value, columns.clone(), &mut of_values[0]),
                tangent: self.part(grad_output.tangent, columns, &mut of_tangents[0]),
            };
            let wanted = wanted_of(wanted, &parameters[own.clone()]);
            if wanted.input || wanted.parameters {
                let gradients = gradients.get_mut(own.clone()).unwrap_or_default();
                branch.backward_tangent(&parameters[own], input, part, wanted, gradients, child, tangents)?;
            }
            if wanted.input {
                add_to(grad_input, branch.grad_input(part.tangent, tangents), first)?;
            }
        }
        Ok(())
    }

    fn children(&self) -> &[Box<dyn Layer<T>>] {
        &self.branches
    }
}

/// The columns of the joined output that are a branch's, of which the first is `next`, which moves on.
fn columns_of<T: Scalar>(
    branch: &dyn Layer<T>,
    input: View<'_, T>,
    child: &Workspace<T>,
    next: &mut usize,
) -> Range<usize> {
    let first = *next;
    *next += branch.output(input, child).shape().last_dim();
    first..*next
}

/// The places of a branch's parameters, of which the first is `next`, which moves on.
fn parameters_of<T: Scalar>(branch: &dyn Layer<T>, next: &mut usize) -> Range<usize> {
    let first = *next;
    *next += branch.parameter_count();
    first..*next
}

/// What is wanted of a branch with such parameters.
fn wanted_of<T>(wanted: Wanted, own: &[Parameter<T>]) -> Wanted {
    Wanted { input: wanted.input, parameters: wanted.parameters && learns(own) }
}

/// Starts or continues a sum.
fn add_to<T: Scalar>(sum: &mut Tensor<T>, part: View<'_, T>, first: bool) -> Result<()> {
    if first {
        sum.copy_from(part);
        return Ok(());
    }
    Ok(zip_in_place(sum, part, |sum, x| sum + x)?)
}
