//! Gradients of every layer and loss against finite differences and exact derivatives, over random shapes, settings and
//! values.
//!
//! Usage: `gradcheck [--cases N] [NAME]`. Prints a line for each layer and loss whose name contains NAME, with the
//! worst relative error against each; fails with the smallest case it can find if any is above
//! `nn::gradcheck::TOLERANCE` or, against exact derivatives, `EXACT_TOLERANCE`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::cell::Cell;
use std::process::ExitCode;

use nn::gradcheck::{
    Report, check_exact, check_exact_loss, check_exact_tangents, check_layer, check_loss, check_tangents,
};
use nn::layers::{
    ActivationLayer, AveragePooling2D, BatchNormalization, Conv1D, Conv2D, Conv2DTranspose, Dense, Dropout,
    Embedding, Flatten, GlobalAveragePooling2D, GroupNormalization, Interpolation, LabelEmbedding, Lambda,
    LayerConfig, LayerNormalization, LeakyReLU, MaxPooling2D, MinibatchStd, Padding, Projection, Reshape,
    SpectralNormalization, UpSampling2D,
};
use nn::{Activation, DualNumber, Loss, Mode, Network, Result, Scalar, Shape, Tensor, Workspace};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// How near to its kink the input of an activation may come. The check's steps of 1e-3 move it by less, since
/// parameters are at most 1 and inputs at most 2.
const ACTIVATION_MARGIN: f64 = 2.5e-3;
/// How many classes the rows of all checks are of.
const CLASSES: usize = 3;
/// How near to each other numbers may come of which a layer takes the largest: the smallest of the check's steps, twice.
const POOLING_MARGIN: f64 = 2e-5;
/// How near to each other all rows of a group may come whose standard deviation is taken.
const STD_MARGIN: f64 = 2e-3;
/// How small the product of a kernel and a unit vector may be by which the kernel is divided.
const NORM_MARGIN: f64 = 0.3;
/// How near to its kink the prediction of a loss may come.
const LOSS_MARGIN: f64 = 1e-2;

fn main() -> ExitCode {
    let (cases, filter) = arguments();
    let mut worst = Found::default();
    let [mut passed, mut failed, mut filtered_out] = [0; 3];
    println!("{:<36} {:>6} {:>10}  differences    exact", "layer or loss, worst error", "cases", "elements");
    for (name, strategy) in rows() {
        if !name.contains(&filter) {
            filtered_out += 1;
            continue;
        }
        match check_all(&strategy, cases) {
            Ok(found) => {
                let Report { elements, worst: error } = found.differences;
                println!("{name:<36} {cases:>6} {elements:>10}  {error:>11.1e}  {:.1e}", found.exact.worst);
                worst = worst.and(found);
                passed += 1;
            }
            Err(problem) => {
                println!("{name:<36} FAILED: {problem}");
                failed += 1;
            }
        }
    }
    println!("worst of all: {:.1e}, exact {:.1e}\n", worst.differences.worst, worst.exact.worst);
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         {filtered_out} filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was found of one case, or many.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    differences: Report,
    exact: Report,
}

impl Found {
    fn and(self, other: Self) -> Self {
        Self { differences: self.differences.and(other.differences), exact: self.exact.and(other.exact) }
    }
}

/// `--cases N` and a part of a name; flags of the usual test harness are passed over.
fn arguments() -> (u32, String) {
    let mut arguments = std::env::args().skip(1);
    let (mut cases, mut filter) = (100, String::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--cases" => {
                cases = arguments.next().and_then(|n| n.parse().ok()).expect("--cases takes a number");
            }
            "--test-threads" | "--skip" | "--color" | "--format" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            _ => filter = argument,
        }
    }
    (cases, filter)
}

/// Checks as many cases, always the same ones; those too near to a kink do not count.
fn check_all(strategy: &BoxedStrategy<Case>, cases: u32) -> std::result::Result<Found, String> {
    let config = Config {
        cases,
        max_global_rejects: cases.saturating_mul(4).max(1000),
        max_shrink_iters: 10_000,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let total = Cell::new(Found::default());
    let result = TestRunner::new_with_rng(config, rng).run(strategy, |case| match case.check() {
        Ok(Some(found)) => {
            total.set(total.get().and(found));
            Ok(())
        }
        Ok(None) => Err(TestCaseError::reject("too near to a kink")),
        Err(error) => Err(TestCaseError::fail(error.to_string())),
    });
    match result {
        Ok(()) => Ok(total.get()),
        Err(TestError::Fail(reason, case)) => Err(format!("{reason}\nsmallest case: {case:?}")),
        Err(TestError::Abort(reason)) => Err(reason.to_string()),
    }
}

/// Everything that one check depends on.
#[derive(Debug, Clone)]
enum Case {
    Layers { row: Vec<usize>, layers: Vec<LayerConfig>, parameters: Vec<f64>, input: Vec<f64>, seed: u64 },
    Loss { loss: Loss, prediction: Tensor<f64>, target: Tensor<f64> },
}

impl Case {
    /// `None` where a kink is too near.
    fn check(&self) -> Result<Option<Found>> {
        match self {
            Self::Layers { row, layers, parameters, input, seed } => {
                let rng = &mut ChaCha8Rng::seed_from_u64(*seed);
                let dual = network::<DualNumber>(row, layers)?;
                let mut network = network(row, layers)?;
                let places = network.parameters_mut().iter_mut().flat_map(|p| {
                    let name = p.name;
                    p.value.data_mut().iter_mut().map(move |place| (name, place))
                });
                for ((name, place), &value) in places.zip(parameters) {
                    *place = if name == "moving_variance" { value.abs() } else { value };
                }
                let row = network.input_shape();
                let input = Tensor::from_vec(row.with_first(input.len() / row.len())?, input.clone())?;
                let start = start(*seed, input.shape()[0]);
                let near_pole = is_near_pole(&layers[0], &input);
                if is_near_kink(&network, &input, &start)? || has_small_norm(&layers[0], &network) {
                    return Ok(None);
                }
                let (layers, parameters) = (network.layers(), network.parameters());
                let differences = if near_pole {
                    Report::default()
                } else {
                    let first_order = check_layer(layers, parameters, &input, &start, rng)?;
                    first_order.and(check_tangents(layers, parameters, &input, &start, rng)?)
                };
                let dual = dual.layers();
                let exact = check_exact(layers, dual, parameters, &input, &start, rng)?;
                let exact_tangents = check_exact_tangents(layers, dual, parameters, &input, &start, rng)?;
                Ok(Some(Found { differences, exact: exact.and(exact_tangents) }))
            }
            Self::Loss { loss, prediction, target } => {
                let is_near_kink = |(&p, &t): (&f64, &f64)| match loss {
                    Loss::MeanAbsoluteError => (p - t).abs() < LOSS_MARGIN,
                    Loss::Hinge => (1.0 - if t == 0.0 { -p } else { t * p }).abs() < LOSS_MARGIN,
                    _ => false,
                };
                if prediction.data().iter().zip(target.data()).any(is_near_kink) {
                    return Ok(None);
                }
                let differences = check_loss(*loss, prediction, target.view())?;
                let exact = check_exact_loss(*loss, prediction, target.view())?;
                Ok(Some(Found { differences, exact }))
            }
        }
    }
}

fn network<T: Scalar>(row: &[usize], layers: &[LayerConfig]) -> Result<Network<T>> {
    let layers = layers.iter().map(LayerConfig::build).collect();
    Network::new(Shape::new(row)?, layers, &mut ChaCha8Rng::seed_from_u64(0))
}

/// What a check's passes have in common: half of them are in training, and their rows have labels.
fn start(seed: u64, rows: usize) -> Workspace<f64> {
    let mode = if seed.is_multiple_of(2) { Mode::Inference } else { Mode::Training { noise: seed } };
    let labels = (0..rows).map(|row| (seed as usize / 2 + row) % CLASSES).collect();
    Workspace { mode, labels, ..Workspace::default() }
}

/// Whether anything that goes into the last activation comes near to where it has a kink.
fn is_near_kink(network: &Network<f64>, input: &Tensor<f64>, start: &Workspace<f64>) -> Result<bool> {
    let has_kink = matches!(
        network.final_activation(),
        Activation::Relu | Activation::LeakyRelu { .. } | Activation::Elu { .. }
    );
    let mut workspace = Workspace { logits: true, ..start.clone() };
    let logits = network.forward(input.view(), &mut workspace)?;
    Ok(has_kink && logits.data().iter().any(|x| x.abs() < ACTIVATION_MARGIN))
}

/// Whether a kernel is nearly 0 where it is divided by its spectral norm: w / abs(w) has a kink there, and its slope comes
/// from terms of the size of 1 / abs(w) that cancel.
fn has_small_norm(layer: &LayerConfig, network: &Network<f64>) -> bool {
    let (LayerConfig::SpectralNormalization(_), [kernel, .., u]) = (layer, network.parameters()) else {
        return false;
    };
    let u = u.value.data();
    let product = |row: &[f64]| row.iter().zip(u).map(|(w, u)| w * u).sum::<f64>();
    let norm: f64 = kernel.value.data().chunks_exact(u.len()).map(|row| product(row).powi(2)).sum();
    norm.sqrt() < NORM_MARGIN * u.iter().map(|u| u * u).sum::<f64>().sqrt()
}

/// Whether a layer is where differences are of no use: its slopes jump or grow without bound within the smallest steps.
fn is_near_pole(layer: &LayerConfig, input: &Tensor<f64>) -> bool {
    let width = input.shape().without_first().len();
    let rows: Vec<_> = input.data().chunks_exact(width).collect();
    match layer {
        LayerConfig::MaxPooling2D(_) => rows.iter().any(|row| {
            let mut sorted = row.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted.windows(2).any(|pair| pair[1] - pair[0] < POOLING_MARGIN)
        }),
        LayerConfig::MinibatchStd(MinibatchStd { group }) => rows.chunks(*group).any(|group| {
            let all_near = |place: usize| {
                let near_first = |row: &&[f64]| (row[place] - group[0][place]).abs() < STD_MARGIN;
                group.len() > 1 && group.iter().all(near_first)
            };
            (0..width).any(all_near)
        }),
        _ => false,
    }
}

/// What is checked, by name.
fn rows() -> Vec<(String, BoxedStrategy<Case>)> {
    let layers = [
        ("dense", dense()),
        ("conv1d", conv1d()),
        ("conv2d", conv2d()),
        ("conv2d_transpose", conv2d_transpose()),
        ("leaky_relu layer", leaky_relu_layer()),
        ("reshape", reshape()),
        ("flatten", flatten()),
        ("minibatch_std", minibatch_std()),
        ("batch_normalization", batch_normalization()),
        ("layer_normalization", layer_normalization()),
        ("group_normalization", group_normalization()),
        ("dropout", dropout()),
        ("max_pooling2d", max_pooling2d()),
        ("average_pooling2d", average_pooling2d()),
        ("global_average_pooling2d", global_average_pooling2d()),
        ("up_sampling2d", up_sampling2d()),
        ("embedding", embedding()),
        ("label_embedding", label_embedding()),
        ("projection", projection()),
        ("add", branches(false)),
        ("concatenate", branches(true)),
        ("spectral_normalization", spectral_normalization()),
        ("lambda", lambda(select(EXPRESSIONS).prop_map(str::to_owned))),
        ("lambda, random expressions", lambda(expression())),
        ("sequential", sequential()),
    ];
    let losses = [
        ("binary_crossentropy", binary_crossentropy(false, 0.05..0.95)),
        ("binary_crossentropy, logits", binary_crossentropy(true, -3.0..3.0)),
        ("binary_crossentropy, large logits", binary_crossentropy(true, -30.0..30.0)),
        ("categorical_crossentropy", categorical_crossentropy(false, 0.1..1.0)),
        ("categorical_crossentropy, logits", categorical_crossentropy(true, -5.0..5.0)),
        ("mean_squared_error", loss(Just(Loss::MeanSquaredError), -2.0..2.0, number())),
        ("mean_absolute_error", loss(Just(Loss::MeanAbsoluteError), -2.0..2.0, number())),
        ("hinge", loss(Just(Loss::Hinge), -2.0..2.0, select(&[-1.0, 0.0, 1.0][..]).boxed())),
    ];
    let activations = activations().map(|(name, strategy)| (name, activation_layer(strategy)));
    let named = |(name, strategy): (&str, _)| (name.to_owned(), strategy);
    layers.into_iter().chain(activations).chain(losses).map(named).collect()
}

fn activations() -> [(&'static str, BoxedStrategy<Activation>); 9] {
    let leaky_relu = (0.0..1.0).prop_map(|negative_slope| Activation::LeakyRelu { negative_slope });
    [
        ("linear", Just(Activation::Linear).boxed()),
        ("relu", Just(Activation::Relu).boxed()),
        ("leaky_relu", leaky_relu.boxed()),
        ("elu", (0.1..2.0).prop_map(|alpha| Activation::Elu { alpha }).boxed()),
        ("sigmoid", Just(Activation::Sigmoid).boxed()),
        ("tanh", Just(Activation::Tanh).boxed()),
        ("softplus", Just(Activation::Softplus).boxed()),
        ("silu", Just(Activation::Silu).boxed()),
        ("softmax", Just(Activation::Softmax).boxed()),
    ]
}

fn any_activation() -> impl Strategy<Value = Activation> {
    proptest::strategy::Union::new(activations().map(|(_, strategy)| strategy))
}

/// Activations without a kink, for layers that are not the last.
fn smooth_activation() -> impl Strategy<Value = Activation> {
    use Activation::{Linear, Sigmoid, Silu, Softmax, Softplus, Tanh};
    select(&[Linear, Sigmoid, Tanh, Softplus, Silu, Softmax][..])
}

/// Sizes of as many axes.
fn sizes(axes: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<usize>> {
    vec(1..6_usize, axes)
}

/// Draws parameters and a batch of inputs for layers that take rows of a shape.
fn stack(drawn: impl Strategy<Value = (Vec<usize>, Vec<LayerConfig>)> + 'static) -> BoxedStrategy<Case> {
    stack_of(drawn, 1..5, (-2.0..2.0).boxed())
}

/// The same with so many rows of such numbers.
fn stack_of(
    drawn: impl Strategy<Value = (Vec<usize>, Vec<LayerConfig>)> + 'static,
    batch: std::ops::Range<usize>,
    numbers: BoxedStrategy<f64>,
) -> BoxedStrategy<Case> {
    let with_values = move |((row, layers), batch): ((Vec<usize>, Vec<LayerConfig>), usize)| {
        let network = network::<f64>(&row, &layers).unwrap();
        let parameters: usize = network.parameters().iter().map(|p| p.value.shape().len()).sum();
        let inputs = batch * network.input_shape().len();
        (Just((row, layers)), vec(-1.0..1.0, parameters), vec(numbers.clone(), inputs), any::<u64>())
    };
    let case =
        |((row, layers), parameters, input, seed)| Case::Layers { row, layers, parameters, input, seed };
    (drawn, batch).prop_flat_map(with_values).prop_map(case).boxed()
}

fn dense() -> BoxedStrategy<Case> {
    let drawn = (sizes(1..=2), 1..8_usize, any_activation(), any::<bool>());
    stack(drawn.prop_map(|(row, units, activation, use_bias)| {
        (row, vec![LayerConfig::Dense(Dense { activation, use_bias, ..Dense::new(units) })])
    }))
}

fn conv1d() -> BoxedStrategy<Case> {
    let kernel = (1..6_usize, 1..5_usize, 1..4_usize, select(&[Padding::Valid, Padding::Same][..]));
    let others = (0..7_usize, 1..5_usize, 1..5_usize, any_activation(), any::<bool>());
    stack((kernel, others).prop_map(|(kernel, (more_steps, channels, filters, activation, use_bias))| {
        let (kernel_size, strides, dilation_rate, padding) = kernel;
        let reach = if padding == Padding::Same { 1 } else { dilation_rate * (kernel_size - 1) + 1 };
        let layer = Conv1D {
            strides,
            dilation_rate,
            padding,
            activation,
            use_bias,
            ..Conv1D::new(filters, kernel_size)
        };
        (vec![reach + more_steps, channels], vec![LayerConfig::Conv1D(layer)])
    }))
}

/// A size of 1 to below `limit` along each of two axes.
fn pair(limit: usize) -> impl Strategy<Value = [usize; 2]> {
    [1..limit, 1..limit]
}

/// Kernel size, strides and dilation, padding, filters, activation, and whether there is a bias.
type Window = ([[usize; 2]; 3], Padding, usize, Activation, bool);

fn window() -> impl Strategy<Value = Window> {
    let padding = select(&[Padding::Valid, Padding::Same][..]);
    ([pair(4), pair(4), pair(3)], padding, 1..7_usize, any_activation(), any::<bool>())
}

fn conv2d() -> BoxedStrategy<Case> {
    stack((window(), pair(4), 1..4_usize).prop_map(|(window, more, channels)| {
        let ([kernel_size, strides, dilation_rate], padding, filters, activation, use_bias) = window;
        let reach = |axis: usize| match padding {
            Padding::Same => 0,
            Padding::Valid => dilation_rate[axis] * (kernel_size[axis] - 1),
        };
        let layer = Conv2D {
            strides,
            dilation_rate,
            padding,
            activation,
            use_bias,
            ..Conv2D::new(filters, kernel_size)
        };
        (vec![reach(0) + more[0], reach(1) + more[1], channels], vec![LayerConfig::Conv2D(layer)])
    }))
}

fn conv2d_transpose() -> BoxedStrategy<Case> {
    stack((window(), pair(4), 1..4_usize).prop_map(|(window, [height, width], channels)| {
        let ([kernel_size, strides, dilation_rate], padding, filters, activation, use_bias) = window;
        let layer = Conv2DTranspose {
            strides,
            dilation_rate,
            padding,
            activation,
            use_bias,
            ..Conv2DTranspose::new(filters, kernel_size)
        };
        (vec![height, width, channels], vec![LayerConfig::Conv2DTranspose(layer)])
    }))
}

fn activation_layer(activation: BoxedStrategy<Activation>) -> BoxedStrategy<Case> {
    stack(
        (sizes(1..=2), activation).prop_map(|(row, activation)| {
            (row, vec![LayerConfig::Activation(ActivationLayer { activation })])
        }),
    )
}

fn leaky_relu_layer() -> BoxedStrategy<Case> {
    stack(
        (sizes(1..=2), 0.0..1.0).prop_map(|(row, negative_slope)| {
            (row, vec![LayerConfig::LeakyRelu(LeakyReLU { negative_slope })])
        }),
    )
}

fn minibatch_std() -> BoxedStrategy<Case> {
    let drawn = (sizes(1..=3), 2..6_usize);
    stack(drawn.prop_map(|(row, group)| (row, vec![LayerConfig::MinibatchStd(MinibatchStd { group })])))
}

fn batch_normalization() -> BoxedStrategy<Case> {
    let drawn = (sizes(1..=3), 0.01..1.0, any::<bool>(), any::<bool>());
    let layers = drawn.prop_map(|(row, epsilon, center, scale)| {
        let layer = BatchNormalization { epsilon, center, scale, ..BatchNormalization::default() };
        (row, vec![LayerConfig::BatchNormalization(layer)])
    });
    stack_of(layers, 2..6, number())
}

fn layer_normalization() -> BoxedStrategy<Case> {
    let drawn = (sizes(1..=3), 0.01..1.0, any::<bool>(), any::<bool>());
    stack(drawn.prop_map(|(row, epsilon, center, scale)| {
        (row, vec![LayerConfig::LayerNormalization(LayerNormalization { epsilon, center, scale })])
    }))
}

fn group_normalization() -> BoxedStrategy<Case> {
    let drawn = (sizes(0..=2), 1..4_usize, 1..4_usize, 0.01..1.0, any::<bool>(), any::<bool>());
    stack(drawn.prop_map(|(mut row, groups, width, epsilon, center, scale)| {
        row.push(groups * width);
        let layer = GroupNormalization { groups, epsilon, center, scale };
        (row, vec![LayerConfig::GroupNormalization(layer)])
    }))
}

/// Images, with windows that they are large enough for.
fn windows() -> impl Strategy<Value = (Vec<usize>, [usize; 2], Option<[usize; 2]>, Padding)> {
    let two = || [1..4_usize, 1..4_usize];
    let padding = select(&[Padding::Valid, Padding::Same][..]);
    let more = (two(), 1..4_usize);
    (two(), proptest::option::of(two()), padding, more).prop_map(
        |(size, strides, padding, (more, channels))| {
            (vec![size[0] + more[0] - 1, size[1] + more[1] - 1, channels], size, strides, padding)
        },
    )
}

fn max_pooling2d() -> BoxedStrategy<Case> {
    stack(windows().prop_map(|(row, pool_size, strides, padding)| {
        (row, vec![LayerConfig::MaxPooling2D(MaxPooling2D { pool_size, strides, padding })])
    }))
}

fn average_pooling2d() -> BoxedStrategy<Case> {
    stack(windows().prop_map(|(row, pool_size, strides, padding)| {
        (row, vec![LayerConfig::AveragePooling2D(AveragePooling2D { pool_size, strides, padding })])
    }))
}

fn global_average_pooling2d() -> BoxedStrategy<Case> {
    stack(
        sizes(3).prop_map(|row| (row, vec![LayerConfig::GlobalAveragePooling2D(GlobalAveragePooling2D {})])),
    )
}

fn up_sampling2d() -> BoxedStrategy<Case> {
    let interpolation = select(&[Interpolation::Nearest, Interpolation::Bilinear][..]);
    let drawn = (vec(1..4_usize, 3), [1..4_usize, 1..4_usize], interpolation);
    stack(drawn.prop_map(|(row, size, interpolation)| {
        (row, vec![LayerConfig::UpSampling2D(UpSampling2D { size, interpolation })])
    }))
}

fn embedding() -> BoxedStrategy<Case> {
    let drawn = (sizes(1..=3), 1..5_usize);
    let layers =
        drawn.prop_map(|(row, units)| (row, vec![LayerConfig::Embedding(Embedding::new(CLASSES, units))]));
    // Away from where a number counts as the next.
    let numbers = (0..CLASSES, 0.1..0.9).prop_map(|(whole, rest)| whole as f64 + rest);
    stack_of(layers, 1..5, numbers.boxed())
}

fn label_embedding() -> BoxedStrategy<Case> {
    let drawn = (sizes(1..=3), 1..5_usize);
    stack(drawn.prop_map(|(row, units)| {
        (row, vec![LayerConfig::LabelEmbedding(LabelEmbedding::new(CLASSES, units))])
    }))
}

fn projection() -> BoxedStrategy<Case> {
    stack(sizes(1).prop_map(|row| (row, vec![LayerConfig::Projection(Projection::new(CLASSES))])))
}

/// A branch that passes its input on, one that reads labels, and one of layers that depend on the mode.
fn branches(joined: bool) -> BoxedStrategy<Case> {
    let drawn = (2..4_usize, 1..4_usize, smooth_activation(), any::<bool>(), 0.5..1.0);
    stack(drawn.prop_map(move |(places, features, activation, first, epsilon)| {
        let dense = LayerConfig::Dense(Dense { activation, ..Dense::new(features) });
        let normalization = BatchNormalization { epsilon, ..BatchNormalization::default() };
        let random = vec![
            LayerConfig::Dropout(Dropout { rate: 0.3 }),
            dense.clone(),
            LayerConfig::BatchNormalization(normalization),
        ];
        let labelled = vec![LayerConfig::LabelEmbedding(LabelEmbedding::new(CLASSES, 2)), dense.clone()];
        let mut branches = vec![vec![], random, labelled];
        branches.rotate_left(usize::from(first));
        let branches =
            if joined { LayerConfig::Concatenate { branches } } else { LayerConfig::Add { branches } };
        (vec![places, features], vec![dense, branches])
    }))
}

fn dropout() -> BoxedStrategy<Case> {
    let drawn = (sizes(1..=3), 0.0..0.9);
    stack(drawn.prop_map(|(row, rate)| (row, vec![LayerConfig::Dropout(Dropout { rate })])))
}

fn spectral_normalization() -> BoxedStrategy<Case> {
    let dense = (sizes(1..=2), 1..6_usize, any_activation(), any::<bool>()).prop_map(
        |(row, units, activation, use_bias)| {
            (row, LayerConfig::Dense(Dense { activation, use_bias, ..Dense::new(units) }))
        },
    );
    let conv1d = (3..7_usize, 1..4_usize, 1..4_usize, any_activation()).prop_map(
        |(steps, channels, filters, activation)| {
            (vec![steps, channels], LayerConfig::Conv1D(Conv1D { activation, ..Conv1D::new(filters, 3) }))
        },
    );
    let conv2d =
        (pair(5), 1..4_usize, any_activation()).prop_map(|([height, width], filters, activation)| {
            let layer = Conv2D { activation, ..Conv2D::new(filters, [2, 2]) };
            (vec![height + 1, width + 1, 2], LayerConfig::Conv2D(layer))
        });
    stack(prop_oneof![dense, conv1d, conv2d].prop_map(|(row, inner)| {
        (row, vec![LayerConfig::SpectralNormalization(SpectralNormalization::new(inner))])
    }))
}

fn reshape() -> BoxedStrategy<Case> {
    stack(sizes(2..=3).prop_map(|target_shape| {
        (vec![target_shape.iter().product()], vec![LayerConfig::Reshape(Reshape { target_shape })])
    }))
}

fn flatten() -> BoxedStrategy<Case> {
    stack(sizes(1..=3).prop_map(|row| (row, vec![LayerConfig::Flatten(Flatten {})])))
}

/// Expressions that between them use all that there is, with no kink and nothing undefined for x in [-2, 2].
const EXPRESSIONS: &[&str] = &[
    "concat([x, square(x - mean(x, axis=1))], axis=1)",
    "concat([x, square(x - mean(x, axis=2)), sin(x) * cos(x)], axis=-1)",
    "exp(-x^2 / 2) - tanh(x) / (1 + sigmoid(x))",
    "sqrt(x + 3) * log(x + 3) + (x + 3)^-1.5",
    "softplus(x) + silu(x) - sum(x, axis=-1) * mean(x, axis=1)",
    "mean(x, axis=1) - sum(square(x), axis=2) * x",
    "concat([x, mean(x, axis=1)], axis=1) * 0.5 - 2",
    "relu(x + 3) * abs(x - 3) + relu(x - 3) + x * abs(x + 3)",
    "x^3 - (-x)^2 + 2 * (x - 1) / (4 - x)",
];

fn lambda(expression: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Case> {
    stack(
        (sizes(2), expression).prop_map(|(row, expression)| {
            (row, vec![LayerConfig::Lambda(Lambda::new(&expression).unwrap())])
        }),
    )
}

/// Expressions put together at random from what is smooth and of moderate size.
fn expression() -> impl Strategy<Value = String> {
    const UNARY: &[&str] = &[
        "(-@)",
        "sin(@)",
        "cos(@)",
        "tanh(@)",
        "sigmoid(@)",
        "softplus(@)",
        "silu(@)",
        "square(tanh(@))",
        "exp(sin(@))",
        "sqrt(square(@) + 1)",
        "log(square(@) + 2)",
        "(square(@) + 1)^-1.5",
        "mean(@, axis=1)",
        "mean(@, axis=-1)",
        "sum(@, axis=2)",
    ];
    const BINARY: &[&str] = &["(@ + $)", "(@ - $)", "(@ * $)", "(@ / (square($) + 1))"];
    const ROOTS: &[&str] = &[
        "x + @",
        "mean(x * @, axis=1)",
        "sum(x - @, axis=2)",
        "concat([x, x * @], axis=1)",
        "concat([@ + x, x, sum(x, axis=2)], axis=-1)",
    ];
    let leaf = select(&["x", "x", "x", "0.5", "1.5"][..]).prop_map(str::to_owned);
    let inner = leaf.prop_recursive(3, 12, 2, |inner| {
        let unary = (select(UNARY), inner.clone()).prop_map(|(text, a)| text.replace('@', &a));
        let binary = (select(BINARY), inner.clone(), inner)
            .prop_map(|(text, a, b)| text.replace('@', &a).replace('$', &b));
        prop_oneof![unary, binary]
    });
    (select(ROOTS), inner).prop_map(|(root, a)| root.replace('@', &a))
}

/// Layers of all kinds, nested, without kinks inside.
fn sequential() -> BoxedStrategy<Case> {
    let dense = |units: std::ops::Range<usize>| {
        (units, smooth_activation())
            .prop_map(|(units, activation)| LayerConfig::Dense(Dense { activation, ..Dense::new(units) }))
    };
    let last =
        any_activation().prop_map(|activation| LayerConfig::Dense(Dense { activation, ..Dense::new(2) }));
    let drawn = (1..5_usize, 1..3_usize, smooth_activation(), vec(dense(1..4), 0..3), last);
    stack(drawn.prop_map(|(features, kernel_size, activation, dense, last)| {
        let inner = vec![
            LayerConfig::Reshape(Reshape { target_shape: vec![2 * features, 1] }),
            LayerConfig::Conv1D(Conv1D { activation, ..Conv1D::new(3, kernel_size) }),
            LayerConfig::Sequential { layers: vec![LayerConfig::Flatten(Flatten {})] },
        ];
        let lambda = Lambda::new("concat([x, square(x - mean(x, axis=1))], axis=1)").unwrap();
        let layers = vec![
            LayerConfig::Lambda(lambda),
            LayerConfig::Sequential { layers: inner },
            LayerConfig::Sequential { layers: dense },
            last,
        ];
        (vec![features], layers)
    }))
}

type Range = std::ops::Range<f64>;

/// Draws predictions from a range, and targets, for a loss.
fn loss(
    loss: impl Strategy<Value = Loss> + 'static,
    predictions: Range,
    target: BoxedStrategy<f64>,
) -> BoxedStrategy<Case> {
    let with_values = move |(loss, shape): (Loss, Vec<usize>)| {
        let count: usize = shape.iter().product();
        (Just((loss, shape)), vec(predictions.clone(), count), vec(target.clone(), count))
    };
    let case = |((loss, shape), prediction, target): ((Loss, Vec<usize>), _, _)| {
        let tensor = |data| Tensor::from_vec(Shape::new(&shape).unwrap(), data).unwrap();
        Case::Loss { loss, prediction: tensor(prediction), target: tensor(target) }
    };
    (loss, sizes(2..=3)).prop_flat_map(with_values).prop_map(case).boxed()
}

fn number() -> BoxedStrategy<f64> {
    (-2.0..2.0).boxed()
}

/// 0, 1, or between.
fn probability() -> BoxedStrategy<f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0].boxed()
}

/// None, or from all that there is.
fn label_smoothing() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..1.0]
}

fn binary_crossentropy(from_logits: bool, predictions: Range) -> BoxedStrategy<Case> {
    let kind = move |label_smoothing| Loss::BinaryCrossentropy { from_logits, label_smoothing };
    loss(label_smoothing().prop_map(kind), predictions, probability())
}

fn categorical_crossentropy(from_logits: bool, predictions: Range) -> BoxedStrategy<Case> {
    let kind = move |label_smoothing| Loss::CategoricalCrossentropy { from_logits, label_smoothing };
    loss(label_smoothing().prop_map(kind), predictions, probability())
}
