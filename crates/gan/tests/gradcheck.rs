//! Gradients of every objective and penalty against the exact derivatives of their formulas, computed with dual numbers.
//!
//! Usage: `gradcheck [--cases N] [NAME]`. Prints a line for each objective and penalty whose name contains NAME, with the
//! worst relative error; fails if any is above [`TOLERANCE`], or if none would be were gradients [`SPOILT`]. The derivative of an objective is along random directions of
//! the logits, that of a penalty along random directions of D's parameters.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::process::ExitCode;

use gan::{Objective, Penalty};
use nn::layers::{Conv1D, Dense, Flatten, Lambda, LayerNormalization, LeakyReLU};
use nn::{Activation, Layer, Network, Wanted, Workspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tensor_ops::{DualNumber, Scalar, Tensor, softplus};

const TOLERANCE: f64 = 1e-12;
/// How near to its kink a logit may come: dual numbers are exact on both sides of it.
const KINK_MARGIN: f64 = 1e-9;

/// A factor that gradients must not have: the check proves itself by it.
const SPOILT: f64 = 1.0 + 1e-6;

/// The relative error of a case, and what it would be were the gradient [`SPOILT`].
type Errors = [f64; 2];

/// Takes a case from random numbers.
type Check = Box<dyn Fn(&mut ChaCha8Rng) -> Errors>;

fn main() -> ExitCode {
    let (cases, filter) = arguments();
    let rows: Vec<_> = rows().into_iter().filter(|(name, _)| name.contains(&filter)).collect();
    println!("{:<36} {:>6}  exact", "objective or penalty, worst error", "cases");
    let mut failed = 0;
    for (name, check) in &rows {
        let rng = &mut ChaCha8Rng::seed_from_u64(7);
        // NaN counts as the worst.
        let worse = |worst: f64, error: f64| if error <= worst { worst } else { error };
        let [worst, spoilt] = (0..cases)
            .map(|_| check(rng))
            .fold([0.0; 2], |worst, errors| [worse(worst[0], errors[0]), worse(worst[1], errors[1])]);
        let passed = worst <= TOLERANCE && spoilt > TOLERANCE;
        println!("{name:<36} {cases:>6}  {worst:.1e}{}", if passed { "" } else { " FAILED" });
        failed += usize::from(!passed);
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {} passed; {failed} failed", rows.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

fn rows() -> Vec<(String, Check)> {
    let smoothed = |rng: &mut ChaCha8Rng| rng.random_range(0.0..0.9);
    let mut rows: Vec<(String, Check)> = Vec::new();
    for kind in 0..6 {
        let objective = move |rng: &mut ChaCha8Rng| match kind {
            0 => Objective::NonSaturating { label_smoothing: smoothed(rng) },
            1 => Objective::Minimax { label_smoothing: smoothed(rng) },
            2 => Objective::LeastSquares {},
            3 => Objective::Hinge {},
            4 => Objective::Wasserstein {},
            _ => Objective::RelativisticPaired {},
        };
        let names =
            ["non_saturating", "minimax", "least_squares", "hinge", "wasserstein", "relativistic_paired"];
        rows.push((
            format!("{}, D", names[kind]),
            Box::new(move |rng| discriminator_error(objective(rng), rng)),
        ));
        rows.push((format!("{}, G", names[kind]), Box::new(move |rng| generator_error(objective(rng), rng))));
    }
    let penalty = |name: &str, weighted: fn(f64) -> Penalty| {
        let check: Check = Box::new(move |rng| penalty_error(weighted(rng.random_range(0.1..5.0)), rng));
        (name.to_owned(), check)
    };
    rows.push(penalty("r1", |r1| Penalty { r1, ..Penalty::default() }));
    rows.push(penalty("r2", |r2| Penalty { r2, ..Penalty::default() }));
    rows.push(penalty("wgan_gp", |wgan_gp| Penalty { wgan_gp, ..Penalty::default() }));
    rows.push(penalty("r1, r2 and wgan_gp", |r1| Penalty {
        r1,
        r2: 0.7,
        wgan_gp: 1.5,
        ..Penalty::default()
    }));
    rows
}

fn random(rng: &mut ChaCha8Rng, shape: impl Into<tensor_ops::Shape>, size: f64) -> Tensor<f64> {
    Tensor::from_fn(shape, || rng.random_range(-size..size))
}

/// The errors of the derivative that a gradient gives along a direction, whose terms are `found`. Relative to them, since
/// they may cancel.
fn errors(found: impl Iterator<Item = f64>, exact: f64) -> Errors {
    let (mut sum, mut size) = (0.0, exact.abs());
    for term in found {
        sum += term;
        size += f64::abs(term);
    }
    [sum, SPOILT * sum].map(|sum| if size == 0.0 { 0.0 } else { (sum - exact).abs() / size })
}

/// Logits that move along a direction.
fn logits(rng: &mut ChaCha8Rng, count: usize) -> (Tensor<f64>, Vec<DualNumber>) {
    let size = *[1.0, 3.0, 40.0].get(rng.random_range(0..3_usize)).unwrap();
    let mut values = random(rng, [count, 1], size);
    // Hinge has a kink at 1 and -1.
    for x in values.data_mut() {
        if (x.abs() - 1.0).abs() < KINK_MARGIN {
            *x += 1e-3;
        }
    }
    let moving = values.data().iter().map(|&x| DualNumber::new(x, rng.random_range(-1.0..1.0))).collect();
    (values, moving)
}

fn discriminator_error(objective: Objective, rng: &mut ChaCha8Rng) -> Errors {
    let pairs = rng.random_range(1..6);
    let (values, moving) = logits(rng, 2 * pairs);
    let mut gradient = Tensor::default();
    let judgement = objective.judge_discriminator(values.view(), pairs, &mut gradient);
    let [zero, one, half] = [0.0, 1.0, 0.5].map(DualNumber::from_f64);
    let (real, fake) = moving.split_at(pairs);
    let of_pair = |(&r, &f): (&DualNumber, &DualNumber)| match objective {
        Objective::NonSaturating { label_smoothing } | Objective::Minimax { label_smoothing } => {
            let s = DualNumber::from_f64(label_smoothing);
            half * (s * softplus(r) + (one - s) * softplus(-r) + softplus(f))
        }
        Objective::LeastSquares {} => half * ((r - one) * (r - one) + f * f),
        Objective::Hinge {} => half * (max(one - r, zero) + max(one + f, zero)),
        Objective::Wasserstein {} => f - r,
        Objective::RelativisticPaired {} => softplus(f - r),
    };
    let loss: DualNumber = real.iter().zip(fake).map(of_pair).sum();
    error_of_loss(&gradient, &moving, judgement.loss, loss, pairs)
}

fn generator_error(objective: Objective, rng: &mut ChaCha8Rng) -> Errors {
    let rows = rng.random_range(1..6);
    let (real, _) = logits(rng, rows);
    let (values, moving) = logits(rng, rows);
    let mut gradient = Tensor::default();
    let judgement = objective.judge_generator(real.view(), values.view(), rows, &mut gradient);
    let one = DualNumber::from_f64(1.0);
    let of_row = |(&r, &f): (&f64, &DualNumber)| match objective {
        Objective::NonSaturating { .. } => softplus(-f),
        Objective::Minimax { .. } => -softplus(f),
        Objective::LeastSquares {} => (f - one) * (f - one),
        Objective::Hinge {} | Objective::Wasserstein {} => -f,
        Objective::RelativisticPaired {} => softplus(DualNumber::from_f64(r) - f),
    };
    let loss: DualNumber = real.data().iter().zip(&moving).map(of_row).sum();
    error_of_loss(&gradient, &moving, judgement.loss, loss, rows)
}

fn max(a: DualNumber, b: DualNumber) -> DualNumber {
    if a.value > b.value { a } else { b }
}

/// The errors of the derivative of a mean loss, or that of the loss if it is larger.
fn error_of_loss(
    gradient: &Tensor<f64>,
    moving: &[DualNumber],
    found: f64,
    sum: DualNumber,
    rows: usize,
) -> Errors {
    let rows = rows as f64;
    let terms = gradient.data().iter().zip(moving).map(|(g, x)| g * x.tangent);
    let size = moving.iter().map(|x| x.value * x.value + 1.0).sum::<f64>() / rows;
    errors(terms, sum.tangent / rows).map(|error| error.max((found - sum.value / rows).abs() / size))
}

/// A small D of random sizes, with layers of all kinds of curvature.
fn discriminator<T: Scalar>(kind: u64, features: usize, rng: &mut ChaCha8Rng) -> Network<T> {
    use Activation::{Elu, Sigmoid, Silu, Softplus, Tanh};
    let activations = [Tanh, Silu, Softplus, Sigmoid, Elu { alpha: 0.7 }];
    let activation = activations[(kind / 4) as usize % activations.len()];
    let dense =
        |units, activation| -> Box<dyn Layer<T>> { Box::new(Dense { activation, ..Dense::new(units) }) };
    let mut layers: Vec<Box<dyn Layer<T>>> = match kind % 4 {
        0 => vec![dense(3, activation)],
        1 => vec![
            Box::new(Lambda::new("concat([x, square(x - mean(x, axis=1))], axis=1)").unwrap()),
            dense(4, activation),
            Box::new(LayerNormalization { epsilon: 0.1, ..LayerNormalization::default() }),
            dense(2, Tanh),
        ],
        2 => vec![
            Box::new(nn::layers::Reshape { target_shape: vec![features, 1] }),
            Box::new(Conv1D { activation, ..Conv1D::new(2, 2) }),
            Box::new(Flatten {}),
        ],
        _ => vec![dense(4, activation), Box::new(LeakyReLU { negative_slope: 0.2 }), dense(3, Silu)],
    };
    layers.push(dense(1, if kind.is_multiple_of(3) { Sigmoid } else { Activation::Linear }));
    Network::new([features], layers, rng).unwrap()
}

/// The errors of a penalty's derivative along a random direction of all of D's parameters.
fn penalty_error(penalty: Penalty, rng: &mut ChaCha8Rng) -> Errors {
    let (kind, features, rows) = (rng.random_range(0..60), rng.random_range(2..5), rng.random_range(1..5));
    let network = discriminator::<f64>(kind, features, rng);
    let mut dual = discriminator::<DualNumber>(kind, features, rng);
    for (dual, own) in dual.parameters_mut().iter_mut().zip(network.parameters()) {
        for (dual, &x) in dual.value.data_mut().iter_mut().zip(own.value.data()) {
            *dual = DualNumber::new(x, rng.random_range(-1.0..1.0));
        }
    }
    let (real, fake) = (random(rng, [rows, features], 2.0), random(rng, [rows, features], 2.0));
    let mixing = Tensor::from_fn([rows], || rng.random_range(0.0..1.0));
    let mut gradients = network.gradients();
    let found = penalty
        .value_and_gradient(&network, [real.view(), fake.view()], mixing.view(), &mut gradients)
        .unwrap();

    let places = mixing.data().iter().flat_map(|&place| std::iter::repeat_n(place, features));
    let pairs = real.data().iter().zip(fake.data()).zip(places);
    let mut between = pairs.map(|((&real, &fake), place)| place * real + (1.0 - place) * fake);
    let mixed = Tensor::from_fn([rows, features], || between.next().unwrap());
    let mut exact = DualNumber::default();
    for (weight, points, target) in
        [(penalty.r1 / 2.0, &real, 0.0), (penalty.r2 / 2.0, &fake, 0.0), (penalty.wgan_gp, &mixed, 1.0)]
    {
        if weight > 0.0 {
            exact += DualNumber::from_f64(weight) * mean_square(&dual, points, target);
        }
    }
    let terms = gradients.iter().zip(dual.parameters()).flat_map(|(gradient, parameter)| {
        let pairs = gradient.data().iter().zip(parameter.value.data());
        pairs.map(|(g, x)| g * x.tangent).collect::<Vec<_>>()
    });
    let of_value = (found - exact.value).abs() / (1.0 + found.abs());
    errors(terms, exact.tangent).map(|error| error.max(of_value))
}

/// The mean of (abs(dD/dx) - target)^2 over all rows, D without its sigmoid.
fn mean_square(dual: &Network<DualNumber>, points: &Tensor<f64>, target: f64) -> DualNumber {
    let rows = points.shape()[0];
    let mut numbers = points.data().iter().map(|&x| DualNumber::from_f64(x));
    let points = Tensor::from_fn(points.shape(), || numbers.next().unwrap());
    let ones = Tensor::full([rows, 1], DualNumber::from_f64(1.0));
    let logits = dual.final_activation() == Activation::Sigmoid;
    let mut workspace = Workspace { logits, ..Workspace::default() };
    dual.forward(points.view(), &mut workspace).unwrap();
    let through = Wanted { input: true, parameters: false };
    let gradient = dual.backward(points.view(), ones.view(), through, &mut [], &mut workspace).unwrap();
    let of_row = |row: &[DualNumber]| {
        let square: DualNumber = row.iter().map(|&g| g * g).sum();
        if target == 0.0 {
            return square;
        }
        let distance = root(square) - DualNumber::from_f64(target);
        distance * distance
    };
    let width = points.shape().last_dim();
    let sum: DualNumber = gradient.data().chunks_exact(width).map(of_row).sum();
    sum / DualNumber::from_f64(rows as f64)
}

fn root(square: DualNumber) -> DualNumber {
    let value = square.value.sqrt();
    DualNumber::new(value, square.tangent / (2.0 * value))
}
