//! Each layer of `nn` in f32, forward and backward, on one thread, at the sizes of the notebook preset, convolutions over
//! images at those of the mnist preset.
//!
//! An id is `LAYER INPUT/batch N`, where INPUT is the shape of one row. Backward computes the gradients of the
//! input and of all parameters. The throughput is in samples, the rows of a batch.

mod threads;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use nn::layers::{ActivationLayer, Conv1D, Conv2D, Conv2DTranspose, Dense, Lambda, Padding, Reshape};
use nn::{Activation, Layer, Network, Wanted, Workspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tensor_ops::{Shape, Tensor};

const BATCHES: [usize; 2] = [1, 64];

/// D's first layer in the notebook preset.
const ADD_DECORATE: &str = "concat([x, square(x - mean(x, axis=1))], axis=1)";

/// A layer, what to call it, and the shape of one row of its input.
struct Case {
    name: &'static str,
    layer: Box<dyn Layer<f32>>,
    input: Shape,
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .nresamples(10_000)
        .configure_from_args();
    forward(&mut criterion.benchmark_group("forward, samples"));
    backward(&mut criterion.benchmark_group("backward, samples"));
    criterion.final_summary();
}

/// Every layer at a size of the notebook preset, or of the mnist preset.
fn cases() -> Vec<Case> {
    let case = |name, layer, input: &[usize]| Case {
        name,
        layer,
        input: Shape::new(input).expect("a shape of a few elements"),
    };
    let same = Conv1D { padding: Padding::Same, ..Conv1D::new(50, 3) };
    let down = |filters| Conv2D { strides: [2, 2], padding: Padding::Same, ..Conv2D::new(filters, [4, 4]) };
    let up = |filters| Conv2DTranspose {
        strides: [2, 2],
        padding: Padding::Same,
        ..Conv2DTranspose::new(filters, [4, 4])
    };
    let lambda = Lambda::new(ADD_DECORATE).expect("an expression that can be read");
    let mut cases = vec![
        case("dense 50", Box::new(Dense::new(50)), &[200]),
        case("conv1d 50 k1", Box::new(Conv1D::new(50, 1)), &[100, 50]),
        case("conv1d 50 k3", Box::new(same), &[100, 50]),
        case("conv2d 64 k4 s2", Box::new(down(64)), &[28, 28, 1]),
        case("conv2d 128 k4 s2", Box::new(down(128)), &[14, 14, 64]),
        case("conv2d_transpose 64 k4 s2", Box::new(up(64)), &[7, 7, 128]),
        case("conv2d_transpose 1 k4 s2", Box::new(up(1)), &[14, 14, 64]),
        case("lambda add_decorate", Box::new(lambda), &[100]),
        case("reshape", Box::new(Reshape { target_shape: vec![100, 1] }), &[100]),
    ];
    for activation in [
        Activation::Linear,
        Activation::Relu,
        Activation::LeakyRelu { negative_slope: 0.2 },
        Activation::Elu { alpha: 1.0 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Softplus,
        Activation::Silu,
        Activation::Softmax,
    ] {
        cases.push(case(activation.name(), Box::new(ActivationLayer { activation }), &[100, 50]));
    }
    cases
}

/// A layer as a network of its own, with a batch for it.
struct Prepared {
    id: BenchmarkId,
    network: Network<f32>,
    input: Tensor<f32>,
    workspace: Workspace<f32>,
    rng: ChaCha8Rng,
}

impl Prepared {
    fn new(case: Case, batch: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let id = BenchmarkId::new(format!("{} {}", case.name, case.input), format!("batch {batch}"));
        let shape = case.input.with_first(batch).expect("a shape of a few elements");
        let network = Network::new(case.input, vec![case.layer], &mut rng).expect("a layer that fits");
        let input = random(shape, &mut rng);
        Self { id, network, input, workspace: Workspace::default(), rng }
    }
}

fn random(shape: Shape, rng: &mut ChaCha8Rng) -> Tensor<f32> {
    Tensor::from_fn(shape, || 2.0 * rng.random::<f32>() - 1.0)
}

fn forward(group: &mut BenchmarkGroup<'_, WallTime>) {
    for batch in BATCHES {
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(batch as u64));
        for case in cases() {
            let Prepared { id, network, input, mut workspace, .. } = Prepared::new(case, batch);
            let mut work = || network.forward(input.view(), &mut workspace).expect("the shapes fit").shape();
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| threads::timed(1, iterations, &mut work));
            });
        }
    }
}

fn backward(group: &mut BenchmarkGroup<'_, WallTime>) {
    let wanted = Wanted { input: true, parameters: true };
    for batch in BATCHES {
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(batch as u64));
        for case in cases() {
            let Prepared { id, network, input, mut workspace, mut rng } = Prepared::new(case, batch);
            let output = network.forward(input.view(), &mut workspace).expect("the shapes fit").shape();
            let grad_output = random(output, &mut rng);
            let mut gradients = network.gradients();
            let mut work = || {
                let (input, grad_output) = (input.view(), grad_output.view());
                let grad_input = network.backward(input, grad_output, wanted, &mut gradients, &mut workspace);
                grad_input.expect("the shapes fit").shape()
            };
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| threads::timed(1, iterations, &mut work));
            });
        }
    }
}
