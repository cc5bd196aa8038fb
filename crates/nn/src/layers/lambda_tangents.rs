//! How the values and gradients of a Lambda's nodes change as its input moves along a direction.

#![expect(clippy::indexing_slicing, reason = "as in `lambda`, which checks the shapes of all buffers")]

use tensor_ops::{Scalar, Tensor, View, sigmoid};

use super::expression::{Binary, Node, Unary};
use super::lambda::{add_terms, evaluate, for_each_pair, slope};
use crate::Result;

/// Computes the tangent of one node, whose value is `value`, from the `values` and tangents of those before it.
pub(super) fn evaluate_tangent<T: Scalar>(
    node: &Node,
    input: View<'_, T>,
    values: &[Tensor<T>],
    value: &Tensor<T>,
    before: &[Tensor<T>],
    tangent: &mut Tensor<T>,
) -> Result<()> {
    match node {
        Node::Constant(_) => tangent.fill(T::zero()),
        Node::Unary(function, a) => {
            let points = values[*a].data().iter().zip(value.data());
            for ((t, &moved), (&x, &y)) in tangent.data_mut().iter_mut().zip(before[*a].data()).zip(points) {
                *t = slope(*function, x, y) * moved;
            }
        }
        Node::Power(a, exponent) => {
            let exponent = T::from_f64(*exponent);
            let x = values[*a].data();
            for ((t, &moved), &x) in tangent.data_mut().iter_mut().zip(before[*a].data()).zip(x) {
                *t = exponent * x.powf(exponent - T::one()) * moved;
            }
        }
        Node::Binary(operator @ (Binary::Multiply | Binary::Divide), a, b) => {
            let (x, y, quotient) = (values[*a].data(), values[*b].data(), value.data());
            let (x_moved, y_moved) = (before[*a].data(), before[*b].data());
            let shape = tangent.shape();
            let t = tangent.data_mut();
            for_each_pair(shape, values[*a].shape(), values[*b].shape(), |place, i, j| {
                t[place] = match operator {
                    Binary::Divide => (x_moved[i] - quotient[place] * y_moved[j]) / y[j],
                    _ => x_moved[i] * y[j] + x[i] * y_moved[j],
                };
            });
        }
        // What is linear does to tangents what it does to values.
        Node::Input | Node::Binary(..) | Node::Reduce(..) | Node::Concat(..) => {
            evaluate(node, input, before, tangent)?;
        }
    }
    Ok(())
}

/// Adds to the tangents of the gradients of a node's operands what comes from the change of its slopes, given its
/// gradient, and the `values` and tangents of the nodes before it.
pub(super) fn propagate_tangent<T: Scalar>(
    node: &Node,
    gradient: View<'_, T>,
    value: &Tensor<T>,
    values: &[Tensor<T>],
    tangents: &[Tensor<T>],
    sums: &mut [Tensor<T>],
) {
    let g = gradient.data();
    match node {
        Node::Unary(function, a) => {
            let (x, moved, y) = (values[*a].data(), tangents[*a].data(), value.data());
            for (place, sum) in sums[*a].data_mut().iter_mut().enumerate() {
                *sum += g[place] * curvature(*function, x[place], y[place]) * moved[place];
            }
        }
        Node::Power(a, exponent) => {
            let (exponent, one) = (T::from_f64(*exponent), T::one());
            let (x, moved) = (values[*a].data(), tangents[*a].data());
            for (place, sum) in sums[*a].data_mut().iter_mut().enumerate() {
                let curvature = exponent * (exponent - one) * x[place].powf(exponent - one - one);
                *sum += g[place] * curvature * moved[place];
            }
        }
        Node::Binary(operator @ (Binary::Multiply | Binary::Divide), a, b) => {
            let (a_shape, b_shape) = (values[*a].shape(), values[*b].shape());
            let (x, y) = (values[*a].data(), values[*b].data());
            let (x_moved, y_moved) = (tangents[*a].data(), tangents[*b].data());
            let shape = value.shape();
            if *operator == Binary::Multiply {
                add_terms(&mut sums[*a], shape, b_shape, |place, _, j| g[place] * y_moved[j]);
                add_terms(&mut sums[*b], shape, a_shape, |place, _, i| g[place] * x_moved[i]);
            } else {
                let square = |j: usize| y[j] * y[j];
                add_terms(&mut sums[*a], shape, b_shape, |place, _, j| -g[place] * y_moved[j] / square(j));
                add_terms(&mut sums[*b], shape, a_shape, |place, j, i| {
                    let twice = (x[i] + x[i]) * y_moved[j] / y[j];
                    g[place] * (twice - x_moved[i]) / square(j)
                });
            }
        }
        Node::Input | Node::Constant(_) | Node::Binary(..) | Node::Reduce(..) | Node::Concat(..) => {}
    }
}

/// The second derivative of a function at x, where its value is y.
fn curvature<T: Scalar>(function: Unary, x: T, y: T) -> T {
    let (zero, one) = (T::zero(), T::one());
    let two = one + one;
    match function {
        Unary::Negate | Unary::Abs | Unary::Relu => zero,
        Unary::Square => two,
        Unary::Sqrt => -one / (two * two * y * y * y),
        Unary::Exp => y,
        Unary::Log => -one / (x * x),
        Unary::Sin | Unary::Cos => -y,
        Unary::Sigmoid => y * (one - y) * (one - two * y),
        Unary::Tanh => -two * y * (one - y * y),
        Unary::Softplus => {
            let s = sigmoid(x);
            s * (one - s)
        }
        Unary::Silu => {
            let s = sigmoid(x);
            s * (one - s) * (two + x * (one - two * s))
        }
    }
}
