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

use super::sequential::{advance_children, check_pass, own_parameters};
use super::{Sequential, check_gradient, check_gradients, output_of, unexpected};
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

    /// Puts the outputs of all branches together, which gives this shape.
    #[expect(clippy::indexing_slicing, reason = "`columns_of` gives columns of the output")]
    fn join(
        &self,
        input: View<'_, T>,
        children: &[Workspace<T>],
        joined: Shape,
        output: &mut Tensor<T>,
    ) -> Result<()> {
        output.resize(joined);
        let mut next = 0;
        for (branch, child) in self.branches.iter().zip(children) {
            let (first, part) = (next == 0, branch.output(input, child));
            let columns = self.columns_of(part.shape(), joined, &mut next)?;
            match self.join {
                Join::Concatenate => {
                    let rows = output.data_mut().chunks_exact_mut(joined.last_dim().max(1));
                    for (row, part) in rows.zip(part.data().chunks_exact(columns.len().max(1))) {
                        row[columns.clone()].copy_from_slice(part);
                    }
                }
                Join::Add if first => output.copy_from(part),
                Join::Add => zip_in_place(output, part, |sum, x| sum + x)?,
            }
        }
        Ok(())
    }

    /// What of the gradient of the output belongs to the branch whose output is at these columns of the joined one.
    #[expect(clippy::indexing_slicing, reason = "`columns_of` gives columns of the gradient")]
    fn part<'a>(&self, grad: View<'a, T>, columns: Range<usize>, buffer: &'a mut Tensor<T>) -> View<'a, T> {
        if self.join == Join::Add {
            return grad;
        }
        let (shape, own) = (grad.shape(), columns.len());
        buffer.resize(shape.with_last(own));
        let rows = grad.data().chunks_exact(shape.last_dim().max(1));
        for (part, row) in buffer.data_mut().chunks_exact_mut(own.max(1)).zip(rows) {
            part.copy_from_slice(&row[columns.clone()]);
        }
        buffer.view()
    }

    /// The columns of the joined output that are those of a branch, of which the first is `next`, which moves on.
    fn columns_of(&self, own: Shape, joined: Shape, next: &mut usize) -> Result<Range<usize>> {
        let columns = *next..*next + own.last_dim();
        *next = columns.end;
        let fits = match self.join {
            Join::Add => own == joined,
            Join::Concatenate => own == joined.with_last(columns.len()) && *next <= joined.last_dim(),
        };
        let name = Layer::<T>::name(self);
        if fits { Ok(columns) } else { unexpected(name, format!("what is a part of {joined}"), own) }
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
        let (joined, mut rest) = (output_of::<T>(self, input.shape())?, parameters);
        for (branch, child) in self.branches.iter().zip(workspace.children(self.branches.len())) {
            let own;
            (own, rest) = own_parameters(branch.as_ref(), rest)?;
            branch.forward(own, input, child)?;
        }
        self.join(input, &workspace.children, joined, &mut workspace.output)
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
        check_pass(self, parameters, &workspace.children)?;
        workspace.scratch(self.branches.len());
        let Workspace { children, scratch, grad_input, .. } = workspace;
        let (mut column, mut parameter) = (0, 0);
        for ((branch, child), buffer) in self.branches.iter().zip(children).zip(scratch) {
            let first = column == 0;
            let of_branch = branch.output(input, child).shape();
            let columns = self.columns_of(of_branch, grad_output.shape(), &mut column)?;
            let places = parameters_of(branch.as_ref(), &mut parameter);
            let own = parameters.get(places.clone()).unwrap_or_default();
            let part = self.part(grad_output, columns, buffer);
            let wanted = wanted_of(wanted, own);
            if wanted.input || wanted.parameters {
                let gradients = gradients.get_mut(places).unwrap_or_default();
                branch.backward(own, input, part, wanted, gradients, child)?;
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
        let (joined, mut rest) = (output_of::<T>(self, input.value.shape())?, parameters);
        let children = workspace.children.iter().zip(&mut tangents.children);
        for (branch, (child, tangents)) in self.branches.iter().zip(children) {
            let own;
            (own, rest) = own_parameters(branch.as_ref(), rest)?;
            branch.forward_tangent(own, input, child, tangents)?;
        }
        self.join(input.tangent, &tangents.children, joined, &mut tangents.output)
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
        check_pass(self, parameters, &workspace.children)?;
        check_pass(self, parameters, &tangents.children)?;
        tangents.scratch(2 * self.branches.len());
        let Workspace { children, scratch, grad_input, .. } = tangents;
        let (mut column, mut parameter) = (0, 0);
        let buffers = scratch.as_chunks_mut().0;
        let branches = self.branches.iter().zip(&workspace.children).zip(children).zip(buffers);
        for (((branch, child), tangents), [of_value, of_tangent]) in branches {
            let first = column == 0;
            let of_branch = branch.output(input.value, child).shape();
            let columns = self.columns_of(of_branch, grad_output.value.shape(), &mut column)?;
            let places = parameters_of(branch.as_ref(), &mut parameter);
            let own = parameters.get(places.clone()).unwrap_or_default();
            let part = Dual {
                value: self.part(grad_output.value, columns.clone(), of_value),
                tangent: self.part(grad_output.tangent, columns, of_tangent),
            };
            let wanted = wanted_of(wanted, own);
            if wanted.input || wanted.parameters {
                let gradients = gradients.get_mut(places).unwrap_or_default();
                branch.backward_tangent(own, input, part, wanted, gradients, child, tangents)?;
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
