//! Gradients checked in `f64`, against finite differences and against exact derivatives.
//!
//! Differences need nothing but the layer. Each element of the input and of each parameter is moved by h to both sides. Two central differences, of h
//! and h / 2, are joined so that the error falls with h^4 (Richardson's extrapolation). Where the result differs
//! from what `backward` says, smaller steps are tried, since a kink, like ReLU's at 0, may lie within h; a
//! gradient that is wrong is wrong at any h. The README of this crate shows a check of a layer of one's own.
//!
//! Exact derivatives are what a forward pass of [dual numbers](tensor_ops::DualNumber) gives as an element is moved: [`check_exact`],
//! [`check_exact_tangents`] and [`check_exact_loss`] show errors five digits smaller. They share nothing with `backward`.

#![expect(
    clippy::indexing_slicing,
    reason = "there is a tensor for each parameter, and `check_tensor` refuses one of another shape"
)]

mod exact;

pub use exact::{check_exact, check_exact_loss, check_exact_tangents};

use rand::{Rng, RngExt};
use tensor_ops::{Scalar, Shape, Tensor, View};

use crate::layers::check_shape;
use crate::{Dual, Error, Layer, Loss, Network, Parameter, Result, Wanted, Workspace};

/// The largest relative error that passes: the difference over the largest magnitude in the same gradient.
pub const TOLERANCE: f64 = 1e-7;

/// The same against exact derivatives.
pub const EXACT_TOLERANCE: f64 = 1e-12;

const STEPS: [f64; 3] = [1e-3, 1e-4, 1e-5];

/// What gradients are compared with.
#[derive(Clone, Copy)]
struct Reference {
    name: &'static str,
    tolerance: f64,
    /// Below this, the largest magnitude in a gradient does not count as its scale: it may be all rounding.
    smallest_scale: f64,
    /// What is tried until the error is small enough.
    steps: &'static [f64],
}

const DIFFERENCES: Reference =
    Reference { name: "finite differences", tolerance: TOLERANCE, smallest_scale: 1e-4, steps: &STEPS };
/// A gradient that is 0 because terms of the size of 1 cancel, such as that of a bias before a batch normalisation, has
/// their rounding errors left, 1e-16 each: of up to a hundred of them the scale has to make no more than the tolerance.
const EXACT: Reference =
    Reference { name: "dual numbers", tolerance: EXACT_TOLERANCE, smallest_scale: 1e-2, steps: &[0.0] };

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// The number of elements that were moved.
    pub elements: usize,
    /// The largest relative error among them.
    pub worst: f64,
}

impl Report {
    /// The report on two checks.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { elements: self.elements + other.elements, worst: self.worst.max(other.worst) }
    }
}

/// Checks the gradients of a layer's input and of all its parameters, for a random gradient of the output, and that
/// those of the parameters are added to what is there. All passes have the mode and the labels of `start`.
///
/// # Errors
/// [`Error::Gradient`] for an error above [`TOLERANCE`]; what the layer refuses.
pub fn check_layer(
    layer: &dyn Layer<f64>,
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
    let once = gradients.clone();
    layer.backward(parameters, input.view(), grad_output.view(), ALL, &mut gradients, &mut workspace)?;
    let twice = std::mem::replace(&mut gradients, once);

    let mut output = |parameters: &[Parameter<f64>], input: &Tensor<f64>| {
        layer.forward(parameters, input.view(), &mut workspace)?;
        Ok(layer.output(input.view(), &workspace).to_tensor())
    };
    let mut moved = input.clone();
    let tensor = format!("{}, input", layer.name());
    let mut report = check_tensor(DIFFERENCES, &tensor, &grad_input, input.shape(), |index, step| {
        let value = moved.data()[index];
        let result = difference(&grad_output, step, |offset| {
            moved.data_mut()[index] = value + offset;
            output(parameters, &moved)
        });
        moved.data_mut()[index] = value;
        result
    })?;
    let mut moved = parameters.to_vec();
    let learned = |place: &usize| parameters[*place].learned;
    for (place, gradient) in gradients.iter().enumerate().filter(|(place, _)| learned(place)) {
        let tensor = parameter_name(layer, parameters, place);
        let shape = parameters[place].value.shape();
        let of_parameter = check_tensor(DIFFERENCES, &tensor, gradient, shape, |index, step| {
            let value = parameters[place].value.data()[index];
            let result = difference(&grad_output, step, |offset| {
                moved[place].value.data_mut()[index] = value + offset;
                output(&moved, input)
            });
            moved[place].value.data_mut()[index] = value;
            result
        })?;
        report = report.and(of_parameter);
    }
    for (place, (once, twice)) in gradients.iter().zip(&twice).enumerate() {
        check_added(&parameter_name(layer, parameters, place), once, twice)?;
    }
    Ok(report)
}

/// Checks the tangents of a layer: input and gradient of the output are moved along random directions, and the output,
/// the gradient of the input and those of the parameters that are learned watched. All passes have the mode and the labels
/// of `start`.
///
/// # Errors
/// [`Error::Gradient`] for an error above [`TOLERANCE`]; what the layer refuses.
pub fn check_tangents(
    layer: &dyn Layer<f64>,
    parameters: &[Parameter<f64>],
    input: &Tensor<f64>,
    start: &Workspace<f64>,
    rng: &mut impl Rng,
) -> Result<Report> {
    let motion = Motion::new(layer, parameters, input, start, rng)?;
    let found = motion.tangents(layer, parameters, start, 1)?;
    let twice = motion.tangents(layer, parameters, start, 2)?;
    let along = |[start, direction]: &[Tensor<f64>; 2], offset: f64| {
        let mut moved = start.clone();
        moved.data_mut().iter_mut().zip(direction.data()).for_each(|(x, d)| *x += offset * d);
        moved
    };
    let mut moved = start.clone();
    let mut at = |offset: f64| -> Result<Vec<Tensor<f64>>> {
        let (input, grad) = (along(&motion.input, offset), along(&motion.grad_output, offset));
        let mut gradients = zeros(parameters);
        layer.forward(parameters, input.view(), &mut moved)?;
        let output = layer.output(input.view(), &moved).to_tensor();
        layer.backward(parameters, input.view(), grad.view(), ALL, &mut gradients, &mut moved)?;
        let grad_input = layer.grad_input(grad.view(), &moved).to_tensor();
        Ok([output, grad_input].into_iter().chain(gradients).collect())
    };
    let numeric = STEPS.iter().map(|&step| slopes(&mut at, step)).collect::<Result<Vec<_>>>()?;
    let step_of = |step: f64| STEPS.iter().position(|&known| known == step).unwrap_or(0);
    let mut report = Report::default();
    let learned = [true, true].into_iter().chain(parameters.iter().map(|p| p.learned));
    let all = tangent_names(layer, parameters).into_iter().zip(&found).zip(learned).enumerate();
    for (place, ((name, tangent), _)) in all.filter(|(_, (_, learned))| *learned) {
        let shape = numeric[0][place].shape();
        report = report.and(check_tensor(DIFFERENCES, &name, tangent, shape, |index, step| {
            // A layer may make less of its input at the next pass.
            Ok(numeric[step_of(step)][place].data().get(index).copied().unwrap_or(f64::NAN))
        })?);
    }
    for (place, (once, twice)) in found[2..].iter().zip(&twice[2..]).enumerate() {
        check_added(&(parameter_name(layer, parameters, place) + ", tangent"), once, twice)?;
    }
    Ok(report)
}

/// Where a layer is, and how it moves: its input and the gradient of its output, each with its direction.
struct Motion {
    input: [Tensor<f64>; 2],
    grad_output: [Tensor<f64>; 2],
}

impl Motion {
    /// Draws all but the input.
    fn new(
        layer: &dyn Layer<f64>,
        parameters: &[Parameter<f64>],
        input: &Tensor<f64>,
        start: &Workspace<f64>,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let mut random = |shape| Tensor::from_fn(shape, || rng.random_range(-1.0..1.0));
        let mut workspace = start.clone();
        let direction = random(input.shape());
        layer.forward(parameters, input.view(), &mut workspace)?;
        let shape = layer.output(input.view(), &workspace).shape();
        Ok(Self { input: [input.clone(), direction], grad_output: [random(shape), random(shape)] })
    }

    /// What the layer says of the tangents of its output, of the gradient of its input and of those of its parameters,
    /// which so many passes backwards have added up.
    fn tangents(
        &self,
        layer: &dyn Layer<f64>,
        parameters: &[Parameter<f64>],
        start: &Workspace<f64>,
        passes: usize,
    ) -> Result<Vec<Tensor<f64>>> {
        let (mut workspace, mut tangents) = (start.clone(), Workspace::default());
        let [input, grad] = [&self.input, &self.grad_output]
            .map(|[value, tangent]| Dual { value: value.view(), tangent: tangent.view() });
        layer.forward(parameters, input.value, &mut workspace)?;
        layer.backward(parameters, input.value, grad.value, ALL, &mut zeros(parameters), &mut workspace)?;
        layer.forward_tangent(parameters, input, &workspace, &mut tangents)?;
        let mut gradients = zeros(parameters);
        for _ in 0..passes {
            layer.backward_tangent(
                parameters,
                input,
                grad,
                ALL,
                &mut gradients,
                &workspace,
                &mut tangents,
            )?;
        }
        let output = layer.output(input.tangent, &tangents).to_tensor();
        let grad_input = layer.grad_input(grad.tangent, &tangents).to_tensor();
        // What a layer has forgotten to write has another shape.
        let [of_output, of_input] = [grad.value.shape(), input.value.shape()];
        check_shape(layer.name(), "tangents of the output of the shape", of_output, output.shape())?;
        let what = "tangents of the gradient of the input of the shape";
        check_shape(layer.name(), what, of_input, grad_input.shape())?;
        Ok([output, grad_input].into_iter().chain(gradients).collect())
    }
}

/// The names of tangents, in the order of [`Motion::tangents`].
fn tangent_names(layer: &dyn Layer<f64>, parameters: &[Parameter<f64>]) -> Vec<String> {
    let own = ["output", "grad_input"].map(|what| format!("{}, tangent of {what}", layer.name()));
    let names = (0..parameters.len()).map(|place| parameter_name(layer, parameters, place) + ", tangent");
    own.into_iter().chain(names).collect()
}

const ALL: Wanted = Wanted { input: true, parameters: true };

fn zeros<T: Scalar>(parameters: &[Parameter<T>]) -> Vec<Tensor<T>> {
    parameters.iter().map(|p| Tensor::zeros(p.value.shape())).collect()
}

/// The derivatives of tensors at offset 0, by central differences as in [`difference`].
fn slopes(at: &mut impl FnMut(f64) -> Result<Vec<Tensor<f64>>>, step: f64) -> Result<Vec<Tensor<f64>>> {
    let mut central = |h: f64| -> Result<Vec<Tensor<f64>>> {
        let (mut above, below) = (at(h)?, at(-h)?);
        for (above, below) in above.iter_mut().zip(&below) {
            above.data_mut().iter_mut().zip(below.data()).for_each(|(a, b)| *a = (*a - b) / (2.0 * h));
        }
        Ok(above)
    };
    let (mut fine, coarse) = (central(step / 2.0)?, central(step)?);
    for (fine, coarse) in fine.iter_mut().zip(&coarse) {
        fine.data_mut().iter_mut().zip(coarse.data()).for_each(|(f, c)| *f = (4.0 * *f - c) / 3.0);
    }
    Ok(fine)
}

/// Checks a whole network in inference, as [`check_layer`] does a layer.
///
/// # Errors
/// As there.
pub fn check_network(network: &Network<f64>, input: &Tensor<f64>, rng: &mut impl Rng) -> Result<Report> {
    check_layer(network.layers(), network.parameters(), input, &Workspace::default(), rng)
}

/// Checks the gradient of a loss with respect to its predictions.
///
/// # Errors
/// [`Error::Gradient`] for an error above [`TOLERANCE`]; what the loss refuses.
pub fn check_loss(loss: Loss, prediction: &Tensor<f64>, target: View<'_, f64>) -> Result<Report> {
    let mut gradient = Tensor::default();
    loss.value_and_gradient(prediction.view(), target, &mut gradient)?;
    let unit = Tensor::full([1], 1.0);
    let (mut moved, mut unused) = (prediction.clone(), Tensor::default());
    check_tensor(DIFFERENCES, loss.name(), &gradient, prediction.shape(), |index, step| {
        let value = moved.data()[index];
        let result = difference(&unit, step, |offset| {
            moved.data_mut()[index] = value + offset;
            let value = loss.value_and_gradient(moved.view(), target, &mut unused)?;
            Ok(Tensor::full([1], value))
        });
        moved.data_mut()[index] = value;
        result
    })
}

/// The name of a parameter after that of its layer; in a container, its key, which tells layers apart.
fn parameter_name(layer: &dyn Layer<f64>, parameters: &[Parameter<f64>], place: usize) -> String {
    let parameter = &parameters[place];
    if layer.children().is_empty() {
        return format!("{}, {}", layer.name(), parameter.name);
    }
    format!("{}, {}", owner(layer, place).name(), parameter.key())
}

/// The layer inside a container that has the parameter at `place`.
fn owner(layer: &dyn Layer<f64>, mut place: usize) -> &dyn Layer<f64> {
    for child in layer.children() {
        if place < child.parameter_count() {
            return owner(child.as_ref(), place);
        }
        place -= child.parameter_count();
    }
    layer
}

/// Refuses a gradient that a second backward pass has not added to once more: a batch that is cut into shards would
/// lose all of them but the last.
fn check_added(tensor: &str, once: &Tensor<f64>, twice: &Tensor<f64>) -> Result<()> {
    let largest = once.data().iter().fold(DIFFERENCES.smallest_scale, |a, x| a.max(x.abs()));
    for (index, (&numeric, &twice)) in once.data().iter().zip(twice.data()).enumerate() {
        let analytic = twice - numeric;
        let relative_error = (analytic - numeric).abs() / largest;
        if relative_error > TOLERANCE || relative_error.is_nan() {
            let (tensor, index) = (format!("{tensor}, added to what was there"), index_of(once, index));
            let by = "the first pass";
            return Err(Error::Gradient { tensor, index, analytic, by, numeric, relative_error });
        }
    }
    Ok(())
}

/// Compares a gradient, which must have this shape, with `numeric(index, step)`.
fn check_tensor(
    reference: Reference,
    tensor: &str,
    gradient: &Tensor<f64>,
    shape: Shape,
    mut numeric: impl FnMut(usize, f64) -> Result<f64>,
) -> Result<Report> {
    check_shape(tensor, "a gradient of the shape", shape, gradient.shape())?;
    let largest = gradient.data().iter().fold(reference.smallest_scale, |a, x| a.max(x.abs()));
    let mut report = Report::default();
    for (index, &analytic) in gradient.data().iter().enumerate() {
        let mut best = (f64::INFINITY, 0.0);
        for &step in reference.steps {
            let numeric = numeric(index, step)?;
            let error = (analytic - numeric).abs() / largest.max(numeric.abs());
            // A NaN on either side is an error that no step can mend.
            let error = if error.is_nan() { f64::INFINITY } else { error };
            if error <= best.0 {
                best = (error, numeric);
            }
            if error < reference.tolerance / 100.0 {
                break;
            }
        }
        let (relative_error, numeric) = best;
        if relative_error > reference.tolerance {
            let (tensor, index, by) = (tensor.to_owned(), index_of(gradient, index), reference.name);
            return Err(Error::Gradient { tensor, index, analytic, by, numeric, relative_error });
        }
        report = report.and(Report { elements: 1, worst: relative_error });
    }
    Ok(report)
}

/// The derivative of the sum of `weights output(offset)` at offset 0. Outputs are subtracted one by one, before
/// they are added up, so that those that do not move bring no rounding error.
fn difference(
    weights: &Tensor<f64>,
    step: f64,
    mut output: impl FnMut(f64) -> Result<Tensor<f64>>,
) -> Result<f64> {
    let mut central = |h: f64| -> Result<f64> {
        let (above, below) = (output(h)?, output(-h)?);
        let moves = above.data().iter().zip(below.data()).zip(weights.data());
        Ok(moves.map(|((above, below), weight)| weight * (above - below)).sum::<f64>() / (2.0 * h))
    };
    Ok((4.0 * central(step / 2.0)? - central(step)?) / 3.0)
}

/// The place of an element, axis by axis.
fn index_of(tensor: &Tensor<f64>, mut flat: usize) -> Vec<usize> {
    let mut index: Vec<_> = tensor
        .shape()
        .iter()
        .rev()
        .map(|&size| {
            let place = flat % size;
            flat /= size;
            place
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_cubes_are_exact() {
        let cube = |offset: f64| Ok(Tensor::full([1], (2.0 + offset).powi(3)));
        let found = difference(&Tensor::full([1], 2.0), 0.5, cube).unwrap();
        assert!((found - 24.0).abs() < 1e-12, "{found}");
        let found = slopes(&mut |offset| Ok(vec![cube(offset)?]), 0.5).unwrap()[0].data()[0];
        assert!((found - 12.0).abs() < 1e-12, "{found}");
    }

    #[test]
    fn what_is_added_is_compared_relative_to_its_size() {
        for (once, twice, passes) in [(1e3, 2e3 + 1e-5, true), (1e-3, 2e-3 + 1e-9, false)] {
            let [once, twice] = [once, twice].map(|x| Tensor::full([1], x));
            assert_eq!(check_added("a", &once, &twice).is_ok(), passes);
        }
    }

    #[test]
    fn what_has_another_shape_is_refused() {
        let check = |shape: Shape| check_shape("flatten", "a", shape, Shape::from([2]));
        assert!(check([2].into()).is_ok() && check([2, 1].into()).is_err());
    }

    #[test]
    fn places_are_told_axis_by_axis() {
        let tensor = Tensor::zeros([2, 3, 4]);
        assert_eq!([0, 7, 23].map(|flat| index_of(&tensor, flat)), [[0, 0, 0], [0, 1, 3], [1, 2, 3]]);
    }

    #[test]
    fn every_prediction_is_moved() {
        let (prediction, target) = (Tensor::full([2, 3], 0.4), Tensor::full([2, 3], 0.6));
        let loss = Loss::MeanSquaredError;
        let found = check_loss(loss, &prediction, target.view()).unwrap().elements;
        let exact = check_exact_loss(loss, &prediction, target.view()).unwrap().elements;
        assert_eq!([found, exact], [6, 6]);
    }
}
