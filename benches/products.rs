//! Matrix products in f32, at the shapes that the notebook preset multiplies.
//!
//! An id `100x50x50` is M x K x N: an output of M rows and N columns, K products in each element. The
//! throughput is in FLOP: 2 M K N for a product.

mod threads;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tensor_ops::{Result, Tensor, View, add_matmul_tn, matmul, matmul_nt};

/// Rows, inner size and columns: `[m, k, n]`.
type Size = [usize; 3];
/// One of the three products.
type Product = fn(View<'_, f32>, View<'_, f32>, &mut Tensor<f32>) -> Result<()>;

/// Forward: G's convolutions at batch 1, D's dense layers in a D step of batch 1, then G's at batch 64 and 1,024.
const FORWARD: [Size; 10] = [
    [100, 1, 50],
    [100, 50, 50],
    [100, 50, 1],
    [2, 200, 50],
    [2, 50, 50],
    [2, 50, 1],
    [6_400, 50, 50],
    [102_400, 50, 50],
    [256, 256, 256],
    [512, 512, 512],
];

/// The gradients of the kernels of the same layers, in the same order.
const KERNELS: [Size; 10] = [
    [1, 100, 50],
    [50, 100, 50],
    [50, 100, 1],
    [200, 2, 50],
    [50, 2, 50],
    [50, 2, 1],
    [50, 6_400, 50],
    [50, 102_400, 50],
    [256, 256, 256],
    [512, 512, 512],
];

/// The gradients of the inputs of the same layers, in the same order.
const INPUTS: [Size; 10] = [
    [100, 50, 1],
    [100, 50, 50],
    [100, 1, 50],
    [2, 50, 200],
    [2, 50, 50],
    [2, 1, 50],
    [6_400, 50, 50],
    [102_400, 50, 50],
    [256, 256, 256],
    [512, 512, 512],
];

/// From this many multiply-adds on a product is measured on two threads too.
const LARGE: usize = 1 << 20;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .nresamples(10_000)
        .configure_from_args();
    measure(&mut criterion, "matmul, FLOP", matmul, &FORWARD, |[m, k, n]| ([m, k], [k, n]));
    measure(&mut criterion, "add_matmul_tn, FLOP", add_matmul_tn, &KERNELS, |[m, k, n]| ([k, m], [k, n]));
    measure(&mut criterion, "matmul_nt, FLOP", matmul_nt, &INPUTS, |[m, k, n]| ([m, k], [n, k]));
    criterion.final_summary();
}

/// Measures one product at all its sizes. `operands` gives the shapes of both sides.
fn measure(
    criterion: &mut Criterion,
    group: &str,
    product: Product,
    sizes: &[Size],
    operands: fn(Size) -> ([usize; 2], [usize; 2]),
) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut random = |shape: [usize; 2]| Tensor::from_fn(shape, || rng.random::<f32>() - 0.5);
    let mut group = criterion.benchmark_group(group);
    group.sampling_mode(SamplingMode::Flat);
    for &[m, k, n] in sizes {
        let (lhs, rhs) = operands([m, k, n]);
        let (lhs, rhs) = (random(lhs), random(rhs));
        let mut output = Tensor::zeros([m, n]);
        group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
        let threads: &[usize] = if m * k * n < LARGE { &[1] } else { &[1, 2] };
        for &threads in threads {
            let id = BenchmarkId::new(format!("{m}x{k}x{n}"), format!("threads {threads}"));
            let mut work = || product(lhs.view(), rhs.view(), &mut output).expect("the shapes fit");
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| threads::timed(threads, iterations, &mut work));
            });
        }
    }
    group.finish();
}
