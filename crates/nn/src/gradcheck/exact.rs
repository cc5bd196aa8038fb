//! Gradients and tangents against the exact derivatives that passes of dual numbers give.

use rand::{Rng, RngExt};
use tensor_ops::{DualNumber, Tensor, View};

use super::{ALL, EXACT, Motion, Report, check_tensor, compare_tangents, parameter_name, zeros};
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

    let mut workspace = dual_workspace(start);
    let mut slope = |parameters: &[Parameter<DualNumber>], input: &Tensor<DualNumber>| {
        dual.forward(parameters, input.view(), &mut workspace)?;
        let output = dual.output(input.view(), &workspace);
        Ok(output.data().iter().zip(grad_output.data()).map(|(y, g)| g * y.tangent).sum())
    };
    let (mut parameters_dual, mut input) = (dual_parameters(parameters), fixed(input));
    let name = format!("{}, input", layer.name());
    let mut report = check_tensor(EXACT, &name, &grad_input, |index, _| {
        input.data_mut()[index].tangent = 1.0;
        let result = slope(&parameters_dual, &input);
        input.data_mut()[index].tangent = 0.0;
        result
    })?;
    for (place, gradient) in gradients.iter().enumerate().filter(|(place, _)| parameters[*place].learned) {
        let name = parameter_name(layer, parameters, place);
        report = report.and(check_tensor(EXACT, &name, gradient, |index, _| {
            parameters_dual[place].value.data_mut()[index].tangent = 1.0;
            let result = slope(&parameters_dual, &input);
            parameters_dual[place].value.data_mut()[index].tangent = 0.0;
            result
        })?);
    }
    Ok(report)
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
    let found = motion.tangents(layer, parameters, start)?;
    let [input, grad] = [&motion.input, &motion.grad_output].map(|[value, tangent]| moving(value, tangent));
    let parameters_dual = dual_parameters(parameters);
    let (mut gradients, mut workspace) = (zeros(&parameters_dual), dual_workspace(start));
    dual.forward(&parameters_dual, input.view(), &mut workspace)?;
    let output = dual.output(input.view(), &workspace).to_tensor();
    dual.backward(&parameters_dual, input.view(), grad.view(), ALL, &mut gradients, &mut workspace)?;
    let grad_input = dual.grad_input(grad.view(), &workspace).to_tensor();
    let exact: Vec<_> = [output, grad_input].into_iter().chain(gradients).collect();
    compare_tangents(EXACT, layer, parameters, &found, |place, index, _| exact[place].data()[index].tangent)
}

/// Checks the gradient of a loss with respect to its predictions, as [`check_exact`] does a layer's.
///
/// # Errors
/// As there; what the loss refuses.
pub fn check_exact_loss(loss: Loss, prediction: &Tensor<f64>, target: View<'_, f64>) -> Result<Report> {
    let mut gradient = Tensor::default();
    loss.value_and_gradient(prediction.view(), target, &mut gradient)?;
    let (mut moved, target, mut unused) = (fixed(prediction), fixed(&target.to_tensor()), Tensor::default());
    check_tensor(EXACT, loss.name(), &gradient, |index, _| {
        moved.data_mut()[index].tangent = 1.0;
        let value = loss.value_and_gradient(moved.view(), target.view(), &mut unused)?;
        moved.data_mut()[index].tangent = 0.0;
        Ok(value.tangent)
    })
}

/// A tensor that moves along a direction.
fn moving(values: &Tensor<f64>, direction: &Tensor<f64>) -> Tensor<DualNumber> {
    let mut numbers = values.data().iter().zip(direction.data()).map(|(&x, &t)| DualNumber::new(x, t));
    Tensor::from_fn(values.shape(), || numbers.next().unwrap_or_default())
}

/// One that stands still.
fn fixed(values: &Tensor<f64>) -> Tensor<DualNumber> {
    moving(values, &Tensor::zeros(values.shape()))
}

fn dual_parameters(parameters: &[Parameter<f64>]) -> Vec<Parameter<DualNumber>> {
    let dual = |parameter: &Parameter<f64>| {
        let &Parameter { layer, name, ref value, trainable, learned } = parameter;
        Parameter { layer, name, value: fixed(value), trainable, learned }
    };
    parameters.iter().map(dual).collect()
}

/// What the passes have in common.
fn dual_workspace(start: &Workspace<f64>) -> Workspace<DualNumber> {
    let &Workspace { logits, mode, ref labels, .. } = start;
    Workspace { logits, mode, labels: labels.clone(), ..Workspace::default() }
}
