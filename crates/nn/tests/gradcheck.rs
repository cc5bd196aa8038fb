//! Gradients of every layer and loss against finite differences, over random shapes, settings and values.
//!
//! Usage: `gradcheck [--cases N] [NAME]`. Prints a line for each layer and loss; fails if any relative error is
//! above `nn::gradcheck::TOLERANCE`.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::process::ExitCode;

use nn::gradcheck::{Report, check_loss, check_network};
use nn::layers::{ActivationLayer, Conv1D, Dense, Flatten, Lambda, LayerConfig, LeakyReLU, Padding, Reshape};
use nn::{Activation, Loss, Network, Shape, Tensor, Workspace};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How near to a kink a value may come.
const MARGIN: f64 = 1e-2;

/// One check with everything drawn from a seed. `Ok(None)`: the draw came too near to a kink to count.
type Check = fn(&mut ChaCha8Rng) -> nn::Result<Option<Report>>;

const CHECKS: &[(&str, Check)] = &[
    ("dense", dense),
    ("conv1d", conv1d),
    ("activation", activation),
    ("leaky_relu", leaky_relu),
    ("reshape", reshape),
    ("flatten", flatten),
    ("lambda", lambda),
    ("lambda add_decorate", add_decorate),
    ("sequential", sequential),
    ("binary_crossentropy", binary_crossentropy),
    ("binary_crossentropy on logits", binary_crossentropy_logits),
    ("categorical_crossentropy", categorical_crossentropy),
    ("categorical_crossentropy on logits", categorical_crossentropy_logits),
    ("mean_squared_error", mean_squared_error),
    ("mean_absolute_error", mean_absolute_error),
    ("hinge", hinge),
];

fn main() -> ExitCode {
    let (cases, name) = arguments();
    let chosen = CHECKS.iter().filter(|(known, _)| known.contains(&name));
    println!("{:<36} {:>6} {:>10}  worst relative error", "layer or loss", "cases", "elements");
    let (mut worst, mut passed, mut failed) = (0.0_f64, 0, 0);
    for (name, check) in chosen {
        match run(*check, cases) {
            Ok(report) => {
                println!("{name:<36} {cases:>6} {:>10}  {:.1e}", report.elements, report.worst);
                worst = worst.max(report.worst);
                passed += 1;
            }
            Err(problem) => {
                println!("{name:<36} FAIL  {problem}");
                failed += 1;
            }
        }
    }
    println!("worst of all: {worst:.1e}");
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `--cases N` and a part of a name; flags of the usual test harness are passed over.
fn arguments() -> (u32, String) {
    let mut arguments = std::env::args().skip(1);
    let (mut cases, mut name) = (100, String::new());
    while let Some(argument) = arguments.next() {
        if argument == "--cases" {
            cases = arguments.next().and_then(|n| n.parse().ok()).expect("--cases takes a number");
        } else if !argument.starts_with('-') {
            name = argument;
        }
    }
    (cases, name)
}

/// Draws seeds with proptest, always the same ones, until so many cases count.
fn run(check: Check, cases: u32) -> Result<Report, String> {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let total = Cell::new(Report::default());
    let result = TestRunner::new_with_rng(config, rng).run(&proptest::num::u64::ANY, |seed| {
        match check(&mut ChaCha8Rng::seed_from_u64(seed)) {
            Ok(Some(report)) => total.set(total.get().and(report)),
            Ok(None) => return Err(TestCaseError::reject("too near to a kink")),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
        Ok(())
    });
    match result {
        Ok(()) => Ok(total.get()),
        Err(TestError::Fail(reason, seed)) => Err(format!("seed {seed}: {reason}")),
        Err(TestError::Abort(reason)) => Err(reason.to_string()),
    }
}

fn draw(rng: &mut ChaCha8Rng, shape: impl Into<Shape>, low: f64, high: f64) -> Tensor<f64> {
    Tensor::from_fn(shape, || rng.random_range(low..high))
}

fn any_activation(rng: &mut ChaCha8Rng) -> Activation {
    match rng.random_range(0..9) {
        0 => Activation::Linear,
        1 => Activation::Relu,
        2 => Activation::LeakyRelu { negative_slope: rng.random_range(0.0..1.0) },
        3 => Activation::Elu { alpha: rng.random_range(0.1..2.0) },
        4 => Activation::Sigmoid,
        5 => Activation::Tanh,
        6 => Activation::Softplus,
        7 => Activation::Silu,
        _ => Activation::Softmax,
    }
}

/// Builds layers for rows of a shape with random parameters, biases too, and checks them on a random batch.
fn check(rng: &mut ChaCha8Rng, row: impl Into<Shape>, layers: &[LayerConfig]) -> nn::Result<Option<Report>> {
    let layers = layers.iter().map(LayerConfig::build).collect();
    let mut network = Network::<f64>::new(row, layers, rng)?;
    for parameter in network.parameters_mut() {
        parameter.value.data_mut().iter_mut().for_each(|x| *x = rng.random_range(-1.0..1.0));
    }
    let batch = rng.random_range(1..4);
    let input = draw(rng, network.input_shape().with_first(batch)?, -2.0, 2.0);
    if is_near_kink(&network, &input)? {
        return Ok(None);
    }
    check_network(&network, &input, rng).map(Some)
}

/// Whether what goes into a last activation with a kink comes near to it.
fn is_near_kink(network: &Network<f64>, input: &Tensor<f64>) -> nn::Result<bool> {
    let has_kink = matches!(
        network.final_activation(),
        Activation::Relu | Activation::LeakyRelu { .. } | Activation::Elu { .. }
    );
    let mut workspace = Workspace { logits: true, ..Workspace::default() };
    let logits = network.forward(input.view(), &mut workspace)?;
    Ok(has_kink && logits.data().iter().any(|x| x.abs() < MARGIN / 4.0))
}

fn dense(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let layer = Dense {
        activation: any_activation(rng),
        use_bias: rng.random(),
        ..Dense::new(rng.random_range(1..6))
    };
    let features = rng.random_range(1..6);
    let layers = [LayerConfig::Dense(layer)];
    if rng.random() { check(rng, [features], &layers) } else { check(rng, [2, features], &layers) }
}

fn conv1d(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let layer = Conv1D {
        strides: rng.random_range(1..5),
        dilation_rate: rng.random_range(1..4),
        padding: if rng.random() { Padding::Same } else { Padding::Valid },
        activation: any_activation(rng),
        use_bias: rng.random(),
        ..Conv1D::new(rng.random_range(1..4), rng.random_range(1..6))
    };
    let reach = layer.dilation_rate * (layer.kernel_size - 1) + 1;
    let least = if layer.padding == Padding::Same { 1 } else { reach };
    let (steps, channels) = (least + rng.random_range(0..5), rng.random_range(1..4));
    check(rng, [steps, channels], &[LayerConfig::Conv1D(layer)])
}

fn activation(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let (activation, features) = (any_activation(rng), rng.random_range(1..7));
    check(rng, [features], &[LayerConfig::Activation(ActivationLayer { activation })])
}

fn leaky_relu(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let layer = LeakyReLU { negative_slope: rng.random_range(0.0..1.0) };
    let features = rng.random_range(1..7);
    check(rng, [features], &[LayerConfig::LeakyRelu(layer)])
}

fn reshape(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let [a, b] = [rng.random_range(1..4), rng.random_range(1..4)];
    check(rng, [a * b], &[LayerConfig::Reshape(Reshape { target_shape: vec![a, 1, b] })])
}

fn flatten(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let [a, b] = [rng.random_range(1..4), rng.random_range(1..4)];
    check(rng, [a, b], &[LayerConfig::Flatten(Flatten {})])
}

/// Expressions that between them use all that there is, with no kink and nothing undefined for x in [-2, 2].
const EXPRESSIONS: &[&str] = &[
    "concat([x, square(x - mean(x, axis=1)), sin(x) * cos(x)], axis=-1)",
    "exp(-x^2 / 2) - tanh(x) / (1 + sigmoid(x))",
    "sqrt(x + 3) * log(x + 3) + (x + 3)^-1.5",
    "softplus(x) + silu(x) - sum(x, axis=-1) * mean(x, axis=1)",
    "mean(x, axis=1) - sum(square(x), axis=2) * x",
    "concat([x, mean(x, axis=1)], axis=1) * 0.5 - 2",
    "relu(x + 3) * abs(x - 3) + relu(x - 3)",
    "x^3 - (-x)^2 + 2 * (x - 1) / (4 - x)",
];

fn lambda(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let layer = Lambda::new(EXPRESSIONS[rng.random_range(0..EXPRESSIONS.len())])?;
    let [steps, channels] = [rng.random_range(1..4), rng.random_range(1..4)];
    check(rng, [steps, channels], &[LayerConfig::Lambda(layer)])
}

fn add_decorate(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let layer = Lambda::new("concat([x, square(x - mean(x, axis=1))], axis=1)")?;
    let features = rng.random_range(1..9);
    check(rng, [features], &[LayerConfig::Lambda(layer)])
}

/// Layers of all kinds, nested, without kinks inside.
fn sequential(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let features = rng.random_range(1..5);
    let inner = vec![
        LayerConfig::Reshape(Reshape { target_shape: vec![2 * features, 1] }),
        LayerConfig::Conv1D(Conv1D {
            activation: Activation::Sigmoid,
            ..Conv1D::new(3, rng.random_range(1..3))
        }),
        LayerConfig::Sequential { layers: vec![LayerConfig::Flatten(Flatten {})] },
    ];
    let layers = [
        LayerConfig::Lambda(Lambda::new("concat([x, square(x - mean(x, axis=1))], axis=1)")?),
        LayerConfig::Sequential { layers: inner },
        LayerConfig::Dense(Dense { activation: Activation::Tanh, ..Dense::new(rng.random_range(1..4)) }),
        LayerConfig::Dense(Dense { activation: any_activation(rng), ..Dense::new(2) }),
    ];
    check(rng, [features], &layers)
}

fn rows_and_columns(rng: &mut ChaCha8Rng) -> [usize; 2] {
    [rng.random_range(1..5), rng.random_range(1..5)]
}

fn smoothing(rng: &mut ChaCha8Rng) -> f64 {
    if rng.random() { 0.0 } else { rng.random_range(0.0..1.0) }
}

/// Checks a loss unless predictions and targets are `bad` together.
fn loss(
    rng: &mut ChaCha8Rng,
    loss: Loss,
    predictions: (f64, f64),
    targets: (f64, f64),
    bad: impl Fn(f64, f64) -> bool,
) -> nn::Result<Option<Report>> {
    let shape = rows_and_columns(rng);
    let prediction = draw(rng, shape, predictions.0, predictions.1);
    let mut target = draw(rng, shape, targets.0, targets.1);
    if rng.random() {
        target.data_mut().iter_mut().for_each(|t| *t = t.round());
    }
    if prediction.data().iter().zip(target.data()).any(|(&p, &t)| bad(p, t)) {
        return Ok(None);
    }
    check_loss(loss, &prediction, target.view()).map(Some)
}

fn binary_crossentropy(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let label_smoothing = smoothing(rng);
    let kind = Loss::BinaryCrossentropy { from_logits: false, label_smoothing };
    loss(rng, kind, (0.05, 0.95), (0.0, 1.0), |_, _| false)
}

fn binary_crossentropy_logits(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let label_smoothing = smoothing(rng);
    let kind = Loss::BinaryCrossentropy { from_logits: true, label_smoothing };
    let reach = if rng.random() { 3.0 } else { 30.0 };
    loss(rng, kind, (-reach, reach), (0.0, 1.0), |_, _| false)
}

fn categorical_crossentropy(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let label_smoothing = smoothing(rng);
    let kind = Loss::CategoricalCrossentropy { from_logits: false, label_smoothing };
    loss(rng, kind, (0.1, 1.0), (0.0, 1.0), |_, _| false)
}

fn categorical_crossentropy_logits(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    let label_smoothing = smoothing(rng);
    let kind = Loss::CategoricalCrossentropy { from_logits: true, label_smoothing };
    loss(rng, kind, (-5.0, 5.0), (0.0, 1.0), |_, _| false)
}

fn mean_squared_error(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    loss(rng, Loss::MeanSquaredError, (-2.0, 2.0), (-2.0, 2.0), |_, _| false)
}

fn mean_absolute_error(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    loss(rng, Loss::MeanAbsoluteError, (-2.0, 2.0), (-2.0, 2.0), |p, t| (p - t).abs() < MARGIN)
}

fn hinge(rng: &mut ChaCha8Rng) -> nn::Result<Option<Report>> {
    loss(rng, Loss::Hinge, (-2.0, 2.0), (-1.0, 1.0), |p, t| {
        let t = if t == 0.0 { -1.0 } else { t };
        (1.0 - t * p).abs() < MARGIN
    })
}
