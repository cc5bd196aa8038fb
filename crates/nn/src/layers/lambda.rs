//! A layer that computes an expression, and, from the same expression, its gradient.
//!
//! ```
//! use nn::{Network, layers::Lambda};
//! use rand::SeedableRng;
//!
//! let lambda = Lambda::new("concat([x, square(x - mean(x, axis=1))], axis=1)")?;
//! let network =
//!     Network::<f64>::new([3], vec![Box::new(lambda)], &mut rand_chacha::ChaCha8Rng::seed_from_u64(1))?;
//! let x = tensor_ops::Tensor::from_vec([1, 3], vec![1.0, 2.0, 6.0])?;
//! assert_eq!(network.predict(x.view())?.data(), [1.0, 2.0, 6.0, 4.0, 1.0, 9.0]);
//! # Ok::<(), nn::Error>(())
//! ```

#![expect(
    clippy::indexing_slicing,
    reason = "nodes refer to earlier ones, and each pass checks that its buffers have the shapes that follow from the nodes"
)]

use serde::{Deserialize, Serialize};
use tensor_ops::{
    MAX_RANK, Scalar, Shape, Tensor, View, exp, map, sigmoid, softplus, sum_axis, tanh, zip_in_place,
};

use super::expression::{Binary, Expression, Node, Reduction, Unary};
use super::lambda_tangents::{evaluate_tangent, propagate_tangent};
use super::{check_shape, check_tangent, missing_pass, unexpected};
use crate::{Dual, Layer, Parameter, Result, Wanted, Workspace};

/// Computes an [`Expression`] of each row. Has no parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lambda {
    /// What the layer is for, in the reader's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it computes.
    pub expression: Expression,
}

impl Lambda {
    /// A layer that computes `expression`.
    ///
    /// # Errors
    /// [`Error::Expression`](crate::Error::Expression) where it cannot be read.
    pub fn new(expression: &str) -> Result<Self> {
        Ok(Self { name: None, expression: expression.parse()? })
    }

    /// The shapes of all nodes, given the input's with the batch.
    fn node_shapes(&self, input: Shape) -> Result<Vec<Shape>> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.expression.nodes.len());
        for node in &self.expression.nodes {
            shapes.push(node_shape(node, input, |place| shapes[place])?);
        }
        Ok(shapes)
    }

    /// Refuses values that are not those of a forward pass of this input, and, with them, all places that follow from it.
    fn check<T: Scalar>(&self, input: Shape, scratch: &[Tensor<T>]) -> Result<()> {
        let nodes = &self.expression.nodes;
        let fits = |(node, value): (&Node, &Tensor<T>)| {
            node_shape(node, input, |place| scratch[place].shape()).is_ok_and(|shape| shape == value.shape())
        };
        let all = input.rank() > 0 && scratch.len() >= 2 * nodes.len() && nodes.iter().zip(scratch).all(fits);
        if all { Ok(()) } else { missing_pass("lambda") }
    }
}

/// The shape of a node, given the input's and those of the nodes before it.
fn node_shape(node: &Node, input: Shape, before: impl Fn(usize) -> Shape) -> Result<Shape> {
    Ok(match node {
        Node::Input => input,
        Node::Constant(_) => (0..input.rank()).fold(input, |shape, axis| shape.with_axis(axis, 1)),
        Node::Unary(_, a) | Node::Power(a, _) => before(*a),
        Node::Binary(_, a, b) => broadcast(before(*a), before(*b))?,
        Node::Reduce(_, a, axis) => before(*a).with_axis(place_of(*axis, before(*a))?, 1),
        Node::Concat(parts, axis) => concat_shape(parts, *axis, before)?,
    })
}

/// The place of an axis that may count from the end.
fn place_of(axis: isize, shape: Shape) -> Result<usize> {
    let place = if axis < 0 { shape.rank().checked_add_signed(axis) } else { axis.try_into().ok() };
    match place {
        Some(place) if (1..shape.rank()).contains(&place) => Ok(place),
        _ => unexpected("lambda", format!("a tensor with an axis {axis} beside the batch"), shape),
    }
}

/// The shape of an element-wise operation: sizes of 1 are repeated.
fn broadcast(a: Shape, b: Shape) -> Result<Shape> {
    let mut shape = a;
    for (axis, (&a_size, &b_size)) in a.iter().zip(&*b).enumerate() {
        if a_size != b_size && a_size != 1 && b_size != 1 {
            return unexpected("lambda", format!("a right side that fits {a}"), b);
        }
        shape = shape.with_axis(axis, if a_size == 1 { b_size } else { a_size });
    }
    Ok(shape)
}

fn concat_shape(parts: &[usize], axis: isize, before: impl Fn(usize) -> Shape) -> Result<Shape> {
    let first = before(parts[0]);
    let place = place_of(axis, first)?;
    let mut total = 0;
    for part in parts {
        let shape = before(*part);
        if shape.with_axis(place, 1) != first.with_axis(place, 1) {
            return unexpected("lambda", format!("parts of concat like {first} but for axis {axis}"), shape);
        }
        total += shape[place];
    }
    Ok(first.with_axis(place, total))
}

impl<T: Scalar> Layer<T> for Lambda {
    fn name(&self) -> &'static str {
        "lambda"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        // A batch of 2: were it 1, it could be taken for a size that repeats.
        let shapes = self.node_shapes(input.with_first(2)?)?;
        match shapes.last() {
            Some(shape) if shape.first() == Some(&2) => Ok(shape.without_first()),
            _ => unexpected("lambda", "an expression that depends on x", input),
        }
    }

    fn forward(
        &self,
        _parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        if input.shape().rank() == 0 {
            return unexpected("lambda", "a batch of rows", input.shape());
        }
        let nodes = &self.expression.nodes;
        workspace.input_shape = input.shape();
        workspace.scratch(2 * nodes.len());
        for (place, node) in nodes.iter().enumerate() {
            let (before, after) = workspace.scratch.split_at_mut(place);
            after[0].resize(node_shape(node, input.shape(), |place| before[place].shape())?);
            evaluate(node, input, before, &mut after[0])?;
        }
        Ok(())
    }

    fn backward(
        &self,
        _parameters: &[Parameter<T>],
        input: View<'_, T>,
        grad_output: View<'_, T>,
        wanted: Wanted,
        _gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        if !wanted.input {
            return Ok(());
        }
        let nodes = &self.expression.nodes;
        let Workspace { scratch, grad_input, .. } = workspace;
        self.check(input.shape(), scratch)?;
        let (values, gradients) = scratch.split_at_mut(nodes.len());
        check_shape("lambda", "a gradient", values[nodes.len() - 1].shape(), grad_output.shape())?;
        start_backward(grad_output, values, gradients, input.shape(), grad_input);
        for (place, node) in nodes.iter().enumerate().rev() {
            let (operands, rest) = gradients.split_at_mut(place);
            let gradient = rest[0].view();
            if *node == Node::Input {
                zip_in_place(grad_input, gradient, |sum, g| sum + g)?;
            } else {
                propagate(node, gradient, &values[place], values, operands)?;
            }
        }
        Ok(())
    }

    fn forward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        let nodes = &self.expression.nodes;
        self.check(input.value.shape(), &workspace.scratch)?;
        check_tangent("lambda", input)?;
        let values = &workspace.scratch[..nodes.len()];
        tangents.input_shape = input.value.shape();
        tangents.scratch(2 * nodes.len());
        for (place, node) in nodes.iter().enumerate() {
            let (before, after) = tangents.scratch.split_at_mut(place);
            after[0].resize(values[place].shape());
            evaluate_tangent(node, input.tangent, values, &values[place], before, &mut after[0])?;
        }
        Ok(())
    }

    fn backward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        grad_output: Dual<'_, T>,
        wanted: Wanted,
        _gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        if !wanted.input {
            return Ok(());
        }
        let nodes = &self.expression.nodes;
        self.check(input.value.shape(), &workspace.scratch)?;
        self.check(input.value.shape(), &tangents.scratch)?;
        let (values, value_gradients) = workspace.scratch.split_at(nodes.len());
        let same = |(value, gradient): (&Tensor<T>, &Tensor<T>)| value.shape() == gradient.shape();
        if !values.iter().zip(value_gradients).all(same) {
            return missing_pass("lambda");
        }
        check_shape("lambda", "a gradient", values[nodes.len() - 1].shape(), grad_output.value.shape())?;
        check_tangent("lambda", grad_output)?;
        let Workspace { scratch, grad_input, .. } = tangents;
        let (moved, gradients) = scratch.split_at_mut(nodes.len());
        start_backward(grad_output.tangent, values, gradients, input.value.shape(), grad_input);
        for (place, node) in nodes.iter().enumerate().rev() {
            let (operands, rest) = gradients.split_at_mut(place);
            let gradient = Dual { value: value_gradients[place].view(), tangent: rest[0].view() };
            if *node == Node::Input {
                zip_in_place(grad_input, gradient.tangent, |sum, g| sum + g)?;
            } else {
                propagate(node, gradient.tangent, &values[place], values, operands)?;
                propagate_tangent(node, gradient.value, &values[place], values, moved, operands);
            }
        }
        Ok(())
    }

    fn output<'a>(&self, _input: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        let last = workspace.scratch.get(self.expression.nodes.len() - 1);
        last.unwrap_or(&workspace.output).view()
    }
}

/// Zeros all sums but the gradient of the last node, which is that of the output.
fn start_backward<T: Scalar>(
    grad_output: View<'_, T>,
    values: &[Tensor<T>],
    gradients: &mut [Tensor<T>],
    input: Shape,
    grad_input: &mut Tensor<T>,
) {
    for (gradient, value) in gradients.iter_mut().zip(values) {
        gradient.resize(value.shape());
        gradient.fill(T::zero());
    }
    gradients[values.len() - 1].copy_from(grad_output);
    grad_input.resize(input);
    grad_input.fill(T::zero());
}

/// Computes one node from those before it.
pub(super) fn evaluate<T: Scalar>(
    node: &Node,
    input: View<'_, T>,
    before: &[Tensor<T>],
    value: &mut Tensor<T>,
) -> Result<()> {
    match node {
        Node::Input => value.copy_from(input),
        Node::Constant(constant) => value.fill(T::from_f64(*constant)),
        Node::Unary(function, a) => unary(*function, before[*a].view(), value),
        Node::Power(a, exponent) => {
            let exponent = T::from_f64(*exponent);
            map(before[*a].view(), value, |x| x.powf(exponent));
        }
        Node::Binary(operator, a, b) => {
            let (a, b) = (&before[*a], &before[*b]);
            let (x, y) = (a.data(), b.data());
            let f = match operator {
                Binary::Add => |x: T, y: T| x + y,
                Binary::Subtract => |x: T, y: T| x - y,
                Binary::Multiply => |x: T, y: T| x * y,
                Binary::Divide => |x: T, y: T| x / y,
            };
            let shape = value.shape();
            let value = value.data_mut();
            for_each_pair(shape, a.shape(), b.shape(), |place, i, j| value[place] = f(x[i], y[j]));
        }
        Node::Reduce(reduction, a, axis) => {
            let a = &before[*a];
            let axis = place_of(*axis, a.shape())?;
            sum_axis(a.view(), axis, value)?;
            if *reduction == Reduction::Mean {
                let scale = T::one() / T::from_f64(a.shape()[axis] as f64);
                value.data_mut().iter_mut().for_each(|x| *x *= scale);
            }
        }
        Node::Concat(parts, axis) => {
            let axis = place_of(*axis, value.shape())?;
            let line: usize = value.shape()[axis..].iter().product();
            let mut start = 0;
            for part in parts.iter().map(|part| &before[*part]) {
                let width: usize = part.shape()[axis..].iter().product();
                let lines = value.data_mut().chunks_exact_mut(line.max(1));
                for (line, part) in lines.zip(part.data().chunks_exact(width.max(1))) {
                    line[start..start + width].copy_from_slice(part);
                }
                start += width;
            }
        }
    }
    Ok(())
}

/// Adds to the gradients of a node's operands what its own gradient brings them.
fn propagate<T: Scalar>(
    node: &Node,
    gradient: View<'_, T>,
    value: &Tensor<T>,
    values: &[Tensor<T>],
    gradients: &mut [Tensor<T>],
) -> Result<()> {
    match node {
        Node::Input | Node::Constant(_) => {}
        Node::Unary(function, a) => {
            let x = values[*a].data();
            let sums = gradients[*a].data_mut().iter_mut().zip(gradient.data());
            for ((sum, &g), (&x, &y)) in sums.zip(x.iter().zip(value.data())) {
                *sum += g * slope(*function, x, y);
            }
        }
        Node::Power(a, exponent) => {
            let (exponent, x) = (T::from_f64(*exponent), values[*a].data());
            for ((sum, &g), &x) in gradients[*a].data_mut().iter_mut().zip(gradient.data()).zip(x) {
                *sum += g * exponent * x.powf(exponent - T::one());
            }
        }
        Node::Binary(operator, a, b) => {
            let (a_shape, b_shape) = (values[*a].shape(), values[*b].shape());
            let (x, y, g) = (values[*a].data(), values[*b].data(), gradient.data());
            let shape = value.shape();
            let sums = &mut gradients[*a];
            match operator {
                Binary::Add | Binary::Subtract => add_terms(sums, shape, b_shape, |place, _, _| g[place]),
                Binary::Multiply => add_terms(sums, shape, b_shape, |place, _, j| g[place] * y[j]),
                Binary::Divide => add_terms(sums, shape, b_shape, |place, _, j| g[place] / y[j]),
            }
            let sums = &mut gradients[*b];
            match operator {
                Binary::Add => add_terms(sums, shape, a_shape, |place, _, _| g[place]),
                Binary::Subtract => add_terms(sums, shape, a_shape, |place, _, _| -g[place]),
                Binary::Multiply => add_terms(sums, shape, a_shape, |place, _, i| g[place] * x[i]),
                Binary::Divide => {
                    add_terms(sums, shape, a_shape, |place, j, i| -g[place] * x[i] / (y[j] * y[j]));
                }
            }
        }
        Node::Reduce(reduction, a, axis) => {
            let shape = values[*a].shape();
            let axis = place_of(*axis, shape)?;
            let scale = match reduction {
                Reduction::Mean => T::one() / T::from_f64(shape[axis] as f64),
                Reduction::Sum => T::one(),
            };
            let (sums, g) = (gradients[*a].data_mut(), gradient.data());
            for_each_pair(shape, gradient.shape(), gradient.shape(), |place, i, _| {
                sums[place] += g[i] * scale
            });
        }
        Node::Concat(parts, axis) => {
            let axis = place_of(*axis, value.shape())?;
            let line: usize = value.shape()[axis..].iter().product();
            let mut start = 0;
            for part in parts {
                let width: usize = values[*part].shape()[axis..].iter().product();
                let lines = gradient.data().chunks_exact(line.max(1));
                for (sums, line) in gradients[*part].data_mut().chunks_exact_mut(width.max(1)).zip(lines) {
                    sums.iter_mut().zip(&line[start..start + width]).for_each(|(sum, &g)| *sum += g);
                }
                start += width;
            }
        }
    }
    Ok(())
}

fn unary<T: Scalar>(function: Unary, x: View<'_, T>, y: &mut Tensor<T>) {
    match function {
        Unary::Negate => map(x, y, |x| -x),
        Unary::Square => map(x, y, |x| x * x),
        Unary::Sqrt => map(x, y, T::sqrt),
        Unary::Exp => map(x, y, exp),
        Unary::Log => map(x, y, T::ln),
        Unary::Abs => map(x, y, T::abs),
        Unary::Sin => map(x, y, T::sin),
        Unary::Cos => map(x, y, T::cos),
        Unary::Relu => map(x, y, |x| if x <= T::zero() { T::zero() } else { x }),
        Unary::Sigmoid => map(x, y, sigmoid),
        Unary::Tanh => map(x, y, tanh),
        Unary::Softplus => map(x, y, softplus),
        Unary::Silu => map(x, y, |x| x * sigmoid(x)),
    }
}

/// The derivative of a function at x, where its value is y.
pub(super) fn slope<T: Scalar>(function: Unary, x: T, y: T) -> T {
    let (zero, one) = (T::zero(), T::one());
    match function {
        Unary::Negate => -one,
        Unary::Square => x + x,
        Unary::Sqrt => one / (y + y),
        Unary::Exp => y,
        Unary::Log => one / x,
        Unary::Abs if x == zero => zero,
        Unary::Abs => x.signum(),
        Unary::Sin => x.cos(),
        Unary::Cos => -x.sin(),
        Unary::Relu if x > zero => one,
        Unary::Relu => zero,
        Unary::Sigmoid => y * (one - y),
        Unary::Tanh => one - y * y,
        Unary::Softplus => sigmoid(x),
        Unary::Silu => {
            let s = sigmoid(x);
            s + y * (one - s)
        }
    }
}

/// Adds to each element of `sums` the terms of all elements of `shape` that were computed from it. `term(place, own,
/// other)` is given the places of the element, of that in `sums`, and of that in the other operand.
pub(super) fn add_terms<T: Scalar>(
    sums: &mut Tensor<T>,
    shape: Shape,
    other: Shape,
    term: impl Fn(usize, usize, usize) -> T,
) {
    let columns = shape.last_dim();
    let own = sums.shape();
    let sums = sums.data_mut();
    for_each_row(shape, own, other, |place, (i, own_step), (j, other_step)| {
        if own_step == 0 {
            sums[i] += (0..columns).map(|column| term(place + column, i, j + column * other_step)).sum::<T>();
        } else {
            for (column, sum) in sums[i..i + columns].iter_mut().enumerate() {
                *sum += term(place + column, i + column, j + column * other_step);
            }
        }
    });
}

/// Calls `f(place, a, b)` for each element of `shape` with the places of the elements of two tensors of the
/// shapes `a` and `b` that stand there, whose sizes of 1 are repeated.
pub(super) fn for_each_pair(shape: Shape, a: Shape, b: Shape, mut f: impl FnMut(usize, usize, usize)) {
    let columns = shape.last_dim();
    for_each_row(shape, a, b, |place, (i, a_step), (j, b_step)| {
        for column in 0..columns {
            f(place + column, i + column * a_step, j + column * b_step);
        }
    });
}

/// Calls `f(place, a, b)` for each row of `shape` along its last axis, with the place of its first element, and, in
/// both other tensors, of the element that stands there and the distance to the next one.
fn for_each_row(shape: Shape, a: Shape, b: Shape, mut f: impl FnMut(usize, (usize, usize), (usize, usize))) {
    let (a_strides, b_strides) = (strides(a), strides(b));
    let last = shape.rank() - 1;
    for row in 0..shape[..last].iter().product() {
        let (mut rest, mut i, mut j) = (row, 0, 0);
        for axis in (0..last).rev() {
            let place = rest % shape[axis];
            rest /= shape[axis];
            i += place * a_strides[axis];
            j += place * b_strides[axis];
        }
        f(row * shape[last], (i, a_strides[last]), (j, b_strides[last]));
    }
}

/// The distance between neighbours along each axis, 0 along an axis of size 1, which is repeated.
fn strides(shape: Shape) -> [usize; MAX_RANK] {
    let mut strides = [0; MAX_RANK];
    let mut stride = 1;
    for axis in (0..shape.rank()).rev() {
        strides[axis] = if shape[axis] == 1 { 0 } else { stride };
        stride *= shape[axis];
    }
    strides
}
