//! Wrong gradients, planted one at a time, and each caught by both gradient checks.

use nn::gradcheck::{
    EXACT_TOLERANCE, TOLERANCE, check_exact, check_exact_tangents, check_layer, check_network, check_tangents,
};
use nn::layers::{
    AveragePooling2D, BatchNormalization, Conv1D, Conv2D, Dense, Dropout, GroupNormalization, Interpolation,
    MaxPooling2D, Padding, Sequential, UpSampling2D,
};
use nn::{
    Activation, Dual, DualNumber, Error, Layer, Mode, Network, Parameter, ParameterSpec, Result, Shape,
    Tensor, View, Wanted, Workspace,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Given the parameters and the gradient of the output: changes the gradients of the parameters or the input.
type Spoil = fn(&[Parameter<f64>], View<'_, f64>, &mut [Tensor<f64>], &mut Tensor<f64>);

/// A layer whose gradients are spoiled after the right layer inside has computed them.
#[derive(Debug)]
struct Spoiled<L> {
    inner: L,
    spoil: Spoil,
    /// The layer whose backward is used in the place of the inner one's.
    backward: Option<L>,
    /// Whether what was in the gradients is lost.
    overwrites: bool,
}

impl<L: Layer<f64>> Layer<f64> for Spoiled<L> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.inner.output_shape(input)
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        self.inner.parameters(input)
    }

    fn parameter_count(&self) -> usize {
        self.inner.parameter_count()
    }

    fn forward(&self, p: &[Parameter<f64>], x: View<'_, f64>, workspace: &mut Workspace<f64>) -> Result<()> {
        self.inner.forward(p, x, workspace)
    }

    fn backward(
        &self,
        parameters: &[Parameter<f64>],
        input: View<'_, f64>,
        grad_output: View<'_, f64>,
        wanted: Wanted,
        gradients: &mut [Tensor<f64>],
        workspace: &mut Workspace<f64>,
    ) -> Result<()> {
        if self.overwrites {
            gradients.iter_mut().for_each(|gradient| gradient.fill(0.0));
        }
        if let Some(wrong) = &self.backward {
            let mut own = Workspace::default();
            wrong.forward(parameters, input, &mut own)?;
            wrong.backward(parameters, input, grad_output, wanted, gradients, &mut own)?;
            workspace.grad_input = own.grad_input;
        } else {
            self.inner.backward(parameters, input, grad_output, wanted, gradients, workspace)?;
        }
        (self.spoil)(parameters, grad_output, gradients, &mut workspace.grad_input);
        Ok(())
    }
}

/// The spoiled layer is caught, in the tensor it was spoiled in; unspoiled it passes.
#[track_caller]
fn caught<L: Layer<f64> + Layer<DualNumber> + Clone + 'static>(
    layer: L,
    row: impl Into<Shape>,
    mut spoiled: Spoiled<L>,
    tensor: &str,
) {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let start = Workspace { mode: Mode::Training { noise: 1 }, ..Workspace::default() };
    let row = row.into();
    let network = Network::<f64>::new(row, vec![Box::new(layer.clone())], rng).unwrap();
    let mut next = 0.0;
    let input = Tensor::from_fn(row.with_first(2).unwrap(), || {
        next += 0.37;
        f64::sin(next)
    });
    let report = check_layer(network.layers(), network.parameters(), &input, &start, rng).unwrap();
    assert!(report.worst <= TOLERANCE);

    let error = check_layer(&spoiled, network.parameters(), &input, &start, rng).unwrap_err();
    let Error::Gradient { tensor: found, index, analytic, by, numeric, relative_error } = &error else {
        panic!("{error}")
    };
    assert_eq!(found, tensor);
    assert!(*relative_error > TOLERANCE);
    let text = format!(
        "gradient of {tensor} at {index:?}: backward gives {analytic:e}, {by} {numeric:e}, \
         relative error {relative_error:e}"
    );
    assert_eq!(error.to_string(), text);
    assert_eq!(*by, if spoiled.overwrites { "the first pass" } else { "finite differences" });
    // That gradients are added to what is there, no derivative tells.
    if !spoiled.overwrites {
        let error = check_exact(&spoiled, &layer, network.parameters(), &input, &start, rng).unwrap_err();
        assert!(error.to_string().starts_with(&format!("gradient of {tensor} at [")), "{error}");
        assert!(error.to_string().contains(", dual numbers "), "{error}");
    }

    spoiled.spoil = |_, _, _, _| {};
    spoiled.backward = None;
    spoiled.overwrites = false;
    check_layer(&spoiled, network.parameters(), &input, &start, rng).unwrap();
    let report = check_exact(&spoiled, &layer, network.parameters(), &input, &start, rng).unwrap();
    assert!(report.worst <= EXACT_TOLERANCE);
}

fn dense() -> Dense {
    Dense { activation: Activation::Tanh, ..Dense::new(3) }
}

fn spoiled_dense(spoil: Spoil) -> Spoiled<Dense> {
    Spoiled { inner: dense(), spoil, backward: None, overwrites: false }
}

fn scale(tensor: &mut Tensor<f64>, factor: f64) {
    tensor.data_mut().iter_mut().for_each(|x| *x *= factor);
}

#[test]
fn gradients_that_overwrite_are_caught() {
    let spoiled = Spoiled { overwrites: true, ..spoiled_dense(|_, _, _, _| {}) };
    caught(dense(), [4], spoiled, "dense, kernel, added to what was there");
}

#[test]
fn a_flipped_sign_is_caught() {
    caught(dense(), [4], spoiled_dense(|_, _, _, grad_input| scale(grad_input, -1.0)), "dense, input");
    caught(dense(), [4], spoiled_dense(|_, _, gradients, _| scale(&mut gradients[0], -1.0)), "dense, kernel");
}

#[test]
fn a_factor_near_1_is_caught() {
    caught(dense(), [4], spoiled_dense(|_, _, _, grad_input| scale(grad_input, 1.001)), "dense, input");
    caught(dense(), [4], spoiled_dense(|_, _, gradients, _| scale(&mut gradients[1], 1.001)), "dense, bias");
    caught(
        dense(),
        [4],
        spoiled_dense(|_, _, gradients, _| scale(&mut gradients[0], 1.0 + 1e-6)),
        "dense, kernel",
    );
}

#[test]
fn a_factor_that_differences_do_not_see_is_caught() {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let network = Network::<f64>::new([4], vec![Box::new(dense())], rng).unwrap();
    let (parameters, start) = (network.parameters(), Workspace::default());
    let input = Tensor::from_fn([2, 4], || rng.random_range(-1.0..1.0));
    let factors: [Spoil; 3] = [
        |_, _, _, grad_input| scale(grad_input, 1.0 + 1e-8),
        |_, _, gradients, _| scale(&mut gradients[0], 1.0 + 1e-9),
        |_, _, gradients, _| scale(&mut gradients[1], 1.0 - 1e-11),
    ];
    for (spoil, tensor) in factors.into_iter().zip(["input", "kernel", "bias"]) {
        let spoiled = spoiled_dense(spoil);
        check_layer(&spoiled, parameters, &input, &start, rng).unwrap();
        let error = check_exact(&spoiled, &dense(), parameters, &input, &start, rng).unwrap_err().to_string();
        assert!(error.starts_with(&format!("gradient of dense, {tensor} at [")), "{error}");
    }
}

#[test]
fn a_transposed_kernel_is_caught() {
    // Square, so that nothing but the numbers gives it away.
    let layer = Dense::new(3);
    let spoil =
        |parameters: &[Parameter<f64>], grad: View<'_, f64>, _: &mut [Tensor<f64>], out: &mut Tensor<f64>| {
            tensor_ops::matmul(grad, parameters[0].value.view(), out).unwrap();
        };
    caught(
        layer.clone(),
        [3],
        Spoiled { inner: layer, spoil, backward: None, overwrites: false },
        "dense, input",
    );
}

#[test]
fn a_kernel_with_swapped_axes_is_caught() {
    let layer = Conv2D { padding: Padding::Same, ..Conv2D::new(1, [3, 3]) };
    let spoil =
        |_: &[Parameter<f64>], _: View<'_, f64>, gradients: &mut [Tensor<f64>], _: &mut Tensor<f64>| {
            let kernel = gradients[0].data_mut();
            [(1, 3), (2, 6), (5, 7)].into_iter().for_each(|(a, b)| kernel.swap(a, b));
        };
    let spoiled = Spoiled { inner: layer.clone(), spoil, backward: None, overwrites: false };
    caught(layer, [4, 5, 1], spoiled, "conv2d, kernel");
}

#[test]
fn padding_on_the_other_side_is_caught() {
    // Before the first step, where it belongs behind the last one.
    let layer = Conv1D { padding: Padding::Same, ..Conv1D::new(2, 2) };
    let spoil = |_: &[Parameter<f64>], _: View<'_, f64>, _: &mut [Tensor<f64>], out: &mut Tensor<f64>| {
        let row = out.shape().without_first().len();
        out.data_mut().chunks_exact_mut(row).for_each(|row| row.rotate_right(2));
    };
    let spoiled = Spoiled { inner: layer.clone(), spoil, backward: None, overwrites: false };
    caught(layer, [5, 2], spoiled, "conv1d, input");
}

#[test]
fn a_missing_bias_gradient_is_caught() {
    caught(dense(), [4], spoiled_dense(|_, _, gradients, _| gradients[1].fill(0.0)), "dense, bias");
}

#[test]
fn a_mean_in_the_place_of_a_sum_is_caught() {
    caught(dense(), [4], spoiled_dense(|_, _, gradients, _| scale(&mut gradients[0], 0.5)), "dense, kernel");
}

#[test]
fn a_gradient_that_is_no_number_is_caught() {
    caught(dense(), [4], spoiled_dense(|_, _, gradients, _| gradients[0].fill(f64::NAN)), "dense, kernel");
    caught(
        dense(),
        [4],
        spoiled_dense(|_, _, _, grad_input| grad_input.data_mut()[7] = f64::NAN),
        "dense, input",
    );
}

#[test]
fn a_stride_off_by_one_is_caught() {
    // Strides 2 and 3 give as many output steps here.
    let layer = Conv1D { strides: 3, ..Conv1D::new(2, 2) };
    let wrong = Conv1D { strides: 2, ..layer.clone() };
    let spoiled =
        Spoiled { inner: layer.clone(), spoil: |_, _, _, _| {}, backward: Some(wrong), overwrites: false };
    caught(layer, [5, 2], spoiled, "conv1d, input");
}

/// A layer whose gradients are those of another of the same kind, or of the same one in inference.
fn with_backward_of<L: Clone>(layer: &L, wrong: L) -> Spoiled<L> {
    Spoiled { inner: layer.clone(), spoil: |_, _, _, _| {}, backward: Some(wrong), overwrites: false }
}

#[test]
fn statistics_that_are_taken_to_stand_still_are_caught() {
    let layer = BatchNormalization::default();
    caught(layer.clone(), [4, 3], with_backward_of(&layer, layer.clone()), "batch_normalization, input");
}

#[test]
fn a_forgotten_mask_is_caught() {
    let layer = Dropout { rate: 0.5 };
    caught(layer.clone(), [9], with_backward_of(&layer, layer.clone()), "dropout, input");
}

#[test]
fn groups_of_other_channels_are_caught() {
    let layer = GroupNormalization::new(2);
    let wrong = GroupNormalization::new(1);
    caught(layer.clone(), [2, 4], with_backward_of(&layer, wrong), "group_normalization, input");
}

#[test]
fn windows_of_another_size_are_caught() {
    // Both have 2 x 2 windows.
    let layer = AveragePooling2D::new([2, 2]);
    let wrong = AveragePooling2D { strides: Some([1, 1]), ..AveragePooling2D::new([3, 3]) };
    caught(layer.clone(), [4, 4, 2], with_backward_of(&layer, wrong), "average_pooling2d, input");
    let layer = MaxPooling2D::new([2, 2]);
    let wrong = MaxPooling2D { strides: Some([1, 1]), ..MaxPooling2D::new([3, 3]) };
    caught(layer.clone(), [4, 4, 2], with_backward_of(&layer, wrong), "max_pooling2d, input");
}

#[test]
fn another_interpolation_is_caught() {
    let layer = UpSampling2D { size: [2, 2], interpolation: Interpolation::Bilinear };
    let wrong = UpSampling2D { interpolation: Interpolation::Nearest, ..layer.clone() };
    caught(layer.clone(), [3, 2, 1], with_backward_of(&layer, wrong), "up_sampling2d, input");
}

#[test]
fn a_wrong_dilation_is_caught() {
    // With padding the output is as large as before.
    let layer = Conv2D { padding: Padding::Same, ..Conv2D::new(2, [3, 3]) };
    let wrong = Conv2D { dilation_rate: [1, 2], ..layer.clone() };
    let spoiled =
        Spoiled { inner: layer.clone(), spoil: |_, _, _, _| {}, backward: Some(wrong), overwrites: false };
    caught(layer, [5, 4, 2], spoiled, "conv2d, input");
}

#[test]
fn in_a_network_the_failure_names_the_layer() {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let spoiled = spoiled_dense(|_, _, gradients, _| scale(&mut gradients[0], -1.0));
    let inner = Sequential::new(vec![Box::new(dense()), Box::new(spoiled)]);
    let network = Network::<f64>::new([3], vec![Box::new(inner)], rng).unwrap();
    let error = check_network(&network, &Tensor::full([1, 3], 0.5), rng).unwrap_err().to_string();
    assert!(error.starts_with("gradient of dense, 1.kernel at [0, "), "{error}");
}

#[test]
fn the_failure_says_where_and_by_how_much() {
    let error = Error::Gradient {
        tensor: "dense, kernel".to_owned(),
        index: vec![1, 2],
        analytic: 0.5,
        by: "finite differences",
        numeric: 0.25,
        relative_error: 1.0,
    };
    let text = "gradient of dense, kernel at [1, 2]: backward gives 5e-1, finite differences 2.5e-1, relative error 1e0";
    assert_eq!(error.to_string(), text);
}

/// Given the tangents of a layer: changes them.
type SpoilTangents = fn(&mut [Tensor<f64>], &mut Workspace<f64>);

/// A layer whose tangents are spoiled after the right layer inside has computed them.
#[derive(Debug)]
struct SpoiledTangents {
    inner: Dense,
    forward: SpoilTangents,
    backward: SpoilTangents,
}

impl Layer<f64> for SpoiledTangents {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        Layer::<f64>::output_shape(&self.inner, input)
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        Layer::<f64>::parameters(&self.inner, input)
    }

    fn parameter_count(&self) -> usize {
        2
    }

    fn forward(&self, p: &[Parameter<f64>], x: View<'_, f64>, workspace: &mut Workspace<f64>) -> Result<()> {
        self.inner.forward(p, x, workspace)
    }

    fn backward(
        &self,
        parameters: &[Parameter<f64>],
        input: View<'_, f64>,
        grad_output: View<'_, f64>,
        wanted: Wanted,
        gradients: &mut [Tensor<f64>],
        workspace: &mut Workspace<f64>,
    ) -> Result<()> {
        self.inner.backward(parameters, input, grad_output, wanted, gradients, workspace)
    }

    fn forward_tangent(
        &self,
        parameters: &[Parameter<f64>],
        input: Dual<'_, f64>,
        workspace: &Workspace<f64>,
        tangents: &mut Workspace<f64>,
    ) -> Result<()> {
        self.inner.forward_tangent(parameters, input, workspace, tangents)?;
        (self.forward)(&mut [], tangents);
        Ok(())
    }

    fn backward_tangent(
        &self,
        parameters: &[Parameter<f64>],
        input: Dual<'_, f64>,
        grad_output: Dual<'_, f64>,
        wanted: Wanted,
        gradients: &mut [Tensor<f64>],
        workspace: &Workspace<f64>,
        tangents: &mut Workspace<f64>,
    ) -> Result<()> {
        self.inner.backward_tangent(
            parameters,
            input,
            grad_output,
            wanted,
            gradients,
            workspace,
            tangents,
        )?;
        (self.backward)(gradients, tangents);
        Ok(())
    }
}

#[test]
fn wrong_tangents_are_caught() {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let network = Network::<f64>::new([4], vec![Box::new(dense())], rng).unwrap();
    let mut next = 0.0;
    let input = Tensor::from_fn([2, 4], || {
        next += 0.37;
        f64::sin(next)
    });
    let mut check = |forward: SpoilTangents, backward: SpoilTangents| {
        let (layer, start) = (SpoiledTangents { inner: dense(), forward, backward }, Workspace::default());
        let differences = check_tangents(&layer, network.parameters(), &input, &start, rng);
        (differences, check_exact_tangents(&layer, &dense(), network.parameters(), &input, &start, rng))
    };
    let right: SpoilTangents = |_, _| {};
    let (differences, exact) = check(right, right);
    assert!(differences.unwrap().worst <= TOLERANCE && exact.unwrap().worst <= EXACT_TOLERANCE);
    let (differences, exact) = check(right, |_, tangents| scale(&mut tangents.grad_input, 1.0 + 1e-9));
    assert!(differences.is_ok() && exact.is_err(), "differences do not see so little");
    let wrong: [(SpoilTangents, SpoilTangents, &str); 6] = [
        (|_, tangents| scale(&mut tangents.output, -1.0), right, "dense, tangent of output"),
        (right, |_, tangents| scale(&mut tangents.grad_input, 1.001), "dense, tangent of grad_input"),
        // What the activation's curvature was computed from.
        (|_, tangents| scale(&mut tangents.scratch[0], 1.001), right, "dense, tangent of grad_input"),
        (right, |gradients, _| scale(&mut gradients[0], 1.0 + 1e-6), "dense, kernel, tangent"),
        (right, |gradients, _| gradients[1].fill(0.0), "dense, bias, tangent"),
        (right, |gradients, _| gradients[1].fill(f64::NAN), "dense, bias, tangent"),
    ];
    for (forward, backward, tensor) in wrong {
        let (differences, exact) = check(forward, backward);
        for error in [differences.unwrap_err().to_string(), exact.unwrap_err().to_string()] {
            assert!(error.starts_with(&format!("gradient of {tensor} at [")), "{error}");
        }
    }
}
