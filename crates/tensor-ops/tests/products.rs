//! Matrix products against a naive triple loop, over random shapes, tails and degenerate sizes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tensor_ops::{Result, Scalar, Tensor, View, matmul, matmul_nt, matmul_tn, with_threads};

type Product<T> = fn(View<'_, T>, View<'_, T>, &mut Tensor<T>) -> Result<()>;

/// The kinds of product: plain, left side transposed, right side transposed.
fn products<T: Scalar>() -> [(Product<T>, bool, bool); 3] {
    [(matmul, false, false), (matmul_tn, true, false), (matmul_nt, false, true)]
}

/// Small integers, so that every sum is exact and the comparison can be for equality.
fn integers<T: Scalar>(rows: usize, columns: usize, seed: usize) -> Tensor<T> {
    let mut state = seed as u64;
    Tensor::from_fn([rows, columns], || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::from_f64((state >> 60) as f64 - 8.0)
    })
}

fn at<T: Scalar>(matrix: &Tensor<T>, transposed: bool, row: usize, column: usize) -> T {
    let columns = matrix.shape()[1];
    let (row, column) = if transposed { (column, row) } else { (row, column) };
    matrix.data()[row * columns + column]
}

#[track_caller]
fn check<T: Scalar>(m: usize, k: usize, n: usize) {
    for (product, lhs_transposed, rhs_transposed) in products::<T>() {
        let lhs = if lhs_transposed { integers(k, m, 1) } else { integers(m, k, 1) };
        let rhs = if rhs_transposed { integers(n, k, 2) } else { integers(k, n, 2) };
        // A buffer full of NaN shows that what was in it does not matter.
        let mut output = Tensor::full([m, n], T::nan());
        product(lhs.view(), rhs.view(), &mut output).unwrap();
        for i in 0..m {
            for j in 0..n {
                let expected = (0..k).fold(T::zero(), |sum, l| {
                    sum + at(&lhs, lhs_transposed, i, l) * at(&rhs, rhs_transposed, l, j)
                });
                assert_eq!(output.data()[i * n + j], expected, "[{i}, {j}] of {m}x{k}x{n}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn match_the_triple_loop(m in 0_usize..40, k in 0_usize..40, n in 0_usize..40) {
        check::<f32>(m, k, n);
        check::<f64>(m, k, n);
    }
}

#[test]
fn hold_at_degenerate_and_blocked_sizes() {
    for size in [(0, 0, 0), (1, 1, 1), (1, 0, 1), (0, 3, 2), (2, 3, 0), (1, 200, 50), (2, 200, 50)] {
        check::<f64>(size.0, size.1, size.2);
    }
    for m in [127, 128, 129, 255, 257, 300] {
        check::<f32>(m, 70, 65);
    }
}

#[test]
fn have_the_same_bits_at_any_thread_count() {
    let mut state = 7_u64;
    let mut random = |rows, columns| {
        Tensor::<f32>::from_fn([rows, columns], || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
    };
    for (product, lhs_transposed, rhs_transposed) in products::<f32>() {
        let (m, k, n) = (517, 130, 93);
        let lhs = if lhs_transposed { random(k, m) } else { random(m, k) };
        let rhs = if rhs_transposed { random(n, k) } else { random(k, n) };
        let run = |threads| {
            let mut output = Tensor::zeros([m, n]);
            with_threads(threads, || product(lhs.view(), rhs.view(), &mut output)).unwrap().unwrap();
            output
        };
        let one = run(1);
        assert!([2, 3, 4, 8].into_iter().all(|threads| run(threads) == one));
    }
}

#[test]
fn name_the_shapes_that_do_not_fit() {
    let (lhs, rhs) = (integers::<f64>(2, 3, 0), integers::<f64>(4, 5, 0));
    let mut output = Tensor::zeros([2, 5]);
    let error = matmul(lhs.view(), rhs.view(), &mut output).unwrap_err().to_string();
    assert_eq!(error, "matmul: expected the inner size 3 of lhs [2, 3] in rhs, found [4, 5]");
    let rhs = integers::<f64>(3, 4, 0);
    let error = matmul(lhs.view(), rhs.view(), &mut output).unwrap_err().to_string();
    assert_eq!(error, "matmul: expected an output of 2 rows and 4 columns, found [2, 5]");
}

#[test]
fn read_leading_axes_as_rows() {
    let lhs = integers::<f64>(6, 4, 3);
    let rhs = integers::<f64>(4, 5, 4);
    let (mut flat, mut deep) = (Tensor::zeros([6, 5]), Tensor::zeros([2, 3, 5]));
    matmul(lhs.view(), rhs.view(), &mut flat).unwrap();
    matmul(lhs.view().reshape([2, 3, 4]).unwrap(), rhs.view(), &mut deep).unwrap();
    assert_eq!(flat.data(), deep.data());
}
