//! Matrix products against a naive triple loop, over random shapes, tails and degenerate sizes.

use proptest::prelude::*;
use tensor_ops::{
    Result, Scalar, Tensor, View, add_matmul_tn, add_rows, matmul, matmul_nt, matmul_then, with_threads,
};

/// `add_matmul_tn` onto zeros.
fn matmul_tn<T: Scalar>(lhs: View<'_, T>, rhs: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
    output.fill(T::zero());
    add_matmul_tn(lhs, rhs, output)
}

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
fn hold_where_sides_are_packed_and_where_nalgebra_multiplies() {
    // Right sides that are packed as a whole, or for each block; left sides whose lines lie far apart; many inner blocks.
    for (m, k, n) in
        [(30, 70, 90), (30, 600, 70), (200, 300, 140), (5, 300, 300), (400, 257, 130), (20, 128, 256)]
    {
        check::<f32>(m, k, n);
        check::<f64>(m, k, n);
    }
    check::<f64>(513, 512, 515);
}

#[test]
fn add_a_row_and_do_what_follows() {
    for (m, k, n) in
        [(1, 3, 1), (7, 5, 1), (30, 4, 50), (30, 70, 90), (16, 64, 900), (300, 200, 300), (520, 512, 512)]
    {
        let (lhs, rhs, row) = (integers::<f64>(m, k, 1), integers::<f64>(k, n, 2), integers(1, n, 3));
        let (mut plain, mut found) = (Tensor::zeros([m, n]), Tensor::full([m, n], f64::NAN));
        matmul(lhs.view(), rhs.view(), &mut plain).unwrap();
        let then = |values: &mut [f64]| values.iter_mut().for_each(|x| *x *= 2.0);
        matmul_then(lhs.view(), rhs.view(), Some(row.view()), &mut found, then).unwrap();
        let rows = found.data().chunks_exact(n).zip(plain.data().chunks_exact(n));
        for (found, plain) in rows {
            for j in 0..n {
                assert_eq!(found[j], 2.0 * (plain[j] + row.data()[j]), "{m}x{k}x{n}");
            }
        }
    }
}

#[test]
fn gradients_are_added_to() {
    let (input, grad) = (integers::<f64>(9, 4, 1), integers::<f64>(9, 3, 2));
    let (mut once, mut twice) = (Tensor::zeros([4, 3]), Tensor::zeros([4, 3]));
    add_matmul_tn(input.view(), grad.view(), &mut once).unwrap();
    for _ in 0..2 {
        add_matmul_tn(input.view(), grad.view(), &mut twice).unwrap();
    }
    assert!(once.data().iter().zip(twice.data()).all(|(once, twice)| *twice == 2.0 * once));

    for (rows, columns) in [(0, 3), (1, 1), (9, 3), (500, 130)] {
        let input = integers::<f32>(rows, columns, 3);
        let mut sums = Tensor::full([columns], 1.0);
        add_rows(input.view(), &mut sums).unwrap();
        for (j, &sum) in sums.data().iter().enumerate() {
            assert_eq!(sum, 1.0 + (0..rows).map(|i| input.data()[i * columns + j]).sum::<f32>());
        }
    }
    let error = add_rows(input.view(), &mut Tensor::zeros([5])).unwrap_err().to_string();
    assert_eq!(error, "add_rows: expected an output of 4 elements, found [5]");
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
        for (m, k, n) in
            [(517, 130, 93), (100, 50, 50), (640, 600, 640), (200, 300, 300), (64, 2, 1), (16, 64, 900)]
        {
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
fn a_row_to_add_has_a_number_for_each_column() {
    let (lhs, rhs) = (integers::<f64>(2, 3, 0), integers::<f64>(3, 4, 0));
    let row = Some(lhs.view());
    let error = matmul_then(lhs.view(), rhs.view(), row, &mut Tensor::zeros([2, 4]), |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "matmul_then: expected a row of 4 elements, found [2, 3]");
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
