//! Gradients and tangents against the exact derivatives that passes of dual numbers give.

#![expect(clippy::indexing_slicing, reason = "as in `gradcheck`")]

use rand::{Rng, RngExt};
use tensor_ops::{DualNumber, Tensor, View};

use super::{ALL, EXACT, Motion, Reference, Report, check_tensor, parameter_name, tangent_names, zeros};
use crate::{Layer, Loss, Parameter, Result, Workspace};

/// As [`check_layer`](super::check_layer), against the exact derivative along each element: `dual` is the same layer, of
/// dual numbers.
///
/// # Errors
/// [`Error::Gradient`](crate::Error::Gradient) for an error above [`EXACT_TOLERANCE`](super::EXACT_TOLERANCE); what the
/// layer refuses.
pub fn check_exact(
    layer: &dyn Layer<f64>,
    dual: &dyn Layer<DualNumber>,
    parameters: &[Parameter<f64>],
    input: &Tensor<f64>,
    start: &Workspace<f64>,
    rng: &mut impl Rng,
) -> Result<Report> {
    let mut workspace = start.clone();
    layer.forward(parameters, input.view(), &mut workspace)?;
    let shape = layer.output(input.view(), &workspace).shape();
    let grad_output = Tensor::from_fn(shape, || rng.random_range(-1.0..1.0));
    let mut gradients = zeros(parameters);
    layer.backward(parameters, input.view(), grad_output.view(), ALL, &mut gradients, &mut workspace)?;
    let grad_input = layer.grad_input(grad_output.view(), &workspace).to_tensor();

    let slopes = |by: f64| {
        let (mut input, mut own) = (near(input, by), dual_parameters(parameters, by));
        let mut workspace = dual_workspace(start);
        let mut slope = |parameters: &[Parameter<DualNumber>], input: &Tensor<DualNumber>| {
            dual.forward(parameters, input.view(), &mut workspace)?;
            let output = dual.output(input.view(), &workspace);
            Ok(output.data().iter().zip(grad_output.data()).map(|(y, g)| g * y.tangent).sum())
        };
        let mut exact = vec![along_each(&mut input, |input| slope(&own, input))?];
        for place in 0..own.len() {
            let mut value = std::mem::take(&mut own[place].value);
            exact.push(along_each(&mut value, |value| {
                own[place].value.copy_from(value.view());
                slope(&own, &input)
            })?);
            own[place].value = value;
        }
        Ok(exact)
    };
    let names = (0..parameters.len()).map(|place| parameter_name(layer, parameters, place));
    let names: Vec<_> = [format!("{}, input", layer.name())].into_iter().chain(names).collect();
    let found: Vec<_> = [grad_input].into_iter().chain(gradients).collect();
    compare(&names, &found, parameters, slopes)
}

/// As [`check_tangents`](super::check_tangents), against what passes of dual numbers, forwards and backwards, give: `dual` is
/// the same layer, of dual numbers. That its gradients are right is what [`check_exact`] shows.
///
/// # Errors
/// As there.
pub fn check_exact_tangents(
    layer: &dyn Layer<f64>,
    dual: &dyn Layer<DualNumber>,
    parameters: &[Parameter<f64>],
    input: &Tensor<f64>,
    start: &Workspace<f64>,
    rng: &mut impl Rng,
) -> Result<Report> {
    let motion = Motion::new(layer, parameters, input, start, rng)?;
    let found = motion.tangents(layer, parameters, start, 1)?;
    let passes = |by: f64| {
        let [input, grad] =
            [&motion.input, &motion.grad_output].map(|[value, tangent]| moving(value, tangent, by));
        let own = dual_parameters(parameters, by);
        let (mut gradients, mut workspace) = (zeros(&own), dual_workspace(start));
        dual.forward(&own, input.view(), &mut workspace)?;
        let output = dual.output(input.view(), &workspace).to_tensor();
        dual.backward(&own, input.view(), grad.view(), ALL, &mut gradients, &mut workspace)?;
        let grad_input = dual.grad_input(grad.view(), &workspace).to_tensor();
        Ok([output, grad_input].iter().chain(&gradients).map(tangents).collect())
    };
    compare(&tangent_names(layer, parameters), &found, parameters, passes)
}

/// Checks the gradient of a loss with respect to its predictions, as [`check_exact`] does a layer's.
///
/// # Errors
/// As there; what the loss refuses.
pub fn check_exact_loss(loss: Loss, prediction: &Tensor<f64>, target: View<'_, f64>) -> Result<Report> {
    let mut gradient = Tensor::default();
    loss.value_and_gradient(prediction.view(), target, &mut gradient)?;
    let (target, mut unused) = (near(&target.to_tensor(), 0.0), Tensor::default());
    let slopes = |by: f64| {
        let slope = |prediction: &Tensor<DualNumber>| {
            Ok(loss.value_and_gradient(prediction.view(), target.view(), &mut unused)?.tangent)
        };
        Ok(vec![along_each(&mut near(prediction, by), slope)?])
    };
    compare(&[loss.name().to_owned()], &[gradient], &[], slopes)
}

/// How far numbers are moved, as a share of them, to see how much exact derivatives depend on their rounding.
const MOVE: f64 = 1e-6;

/// Compares tensors, the last of which belong to the parameters, with those that `exact(0.0)` gives. What is too far off is
/// compared once more relative to how `exact` changes as all numbers that it depends on do: a derivative near a pole, such as
/// that of a standard deviation near 0, has no more digits than those leave it.
fn compare(
    names: &[String],
    found: &[Tensor<f64>],
    parameters: &[Parameter<f64>],
    mut exact: impl FnMut(f64) -> Result<Vec<Tensor<f64>>>,
) -> Result<Report> {
    let derivatives = exact(0.0)?;
    let first = found.len() - parameters.len();
    let mut report = Report::default();
    for (place, (name, found)) in names.iter().zip(found).enumerate() {
        if place >= first && !parameters[place - first].learned {
            continue;
        }
        let derivative = &derivatives[place];
        let check = |reference| {
            check_tensor(reference, name, found, derivative.shape(), |index, _| Ok(derivative.data()[index]))
        };
        let of_tensor = check(EXACT).or_else(|_| {
            let moved = exact(MOVE)?;
            let changes =
                derivative.data().iter().zip(moved[place].data()).map(|(a, b)| (a - b).abs() / MOVE);
            check(Reference { smallest_scale: changes.fold(EXACT.smallest_scale, f64::max), ..EXACT })
        });
        report = report.and(of_tensor?);
    }
    Ok(report)
}

/// `f` of a tensor that moves along each of its elements, one at a time.
fn along_each(
    tensor: &mut Tensor<DualNumber>,
    mut f: impl FnMut(&Tensor<DualNumber>) -> Result<f64>,
) -> Result<Tensor<f64>> {
    let mut slopes = Tensor::zeros(tensor.shape());
    for index in 0..slopes.data().len() {
        tensor.data_mut()[index].tangent = 1.0;
        slopes.data_mut()[index] = f(tensor)?;
        tensor.data_mut()[index].tangent = 0.0;
    }
    Ok(slopes)
}

/// A tensor that moves along a direction, from near where it is: each number changed by a share of up to `by`.
fn moving(values: &Tensor<f64>, direction: &Tensor<f64>, by: f64) -> Tensor<DualNumber> {
    let numbers = values.data().iter().zip(direction.data()).enumerate();
    let mut numbers = numbers.map(|(place, (&x, &tangent))| {
        // As good as random.
        DualNumber { value: x + x * by * (1.0 + 7.0 * place as f64).sin(), tangent }
    });
    Tensor::from_fn(values.shape(), || numbers.next().unwrap_or_default())
}

/// The same, standing still.
fn near(values: &Tensor<f64>, by: f64) -> Tensor<DualNumber> {
    moving(values, &Tensor::zeros(values.shape()), by)
}

fn tangents(tensor: &Tensor<DualNumber>) -> Tensor<f64> {
    let mut numbers = tensor.data().iter().map(|number| number.tangent);
    Tensor::from_fn(tensor.shape(), || numbers.next().unwrap_or_default())
}

fn dual_parameters(parameters: &[Parameter<f64>], by: f64) -> Vec<Parameter<DualNumber>> {
    let dual = |parameter: &Parameter<f64>| {
        let &Parameter { layer, name, ref value, trainable, learned } = parameter;
        Parameter { layer, name, value: near(value, by), trainable, learned }
    };
    parameters.iter().map(dual).collect()
}

/// What the passes have in common.
fn dual_workspace(start: &Workspace<f64>) -> Workspace<DualNumber> {
    let &Workspace { logits, mode, ref labels, .. } = start;
    Workspace { logits, mode, labels: labels.clone(), ..Workspace::default() }
}
