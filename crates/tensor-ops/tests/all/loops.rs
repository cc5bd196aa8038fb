//! Reductions and element-wise operations against plain loops.

use approx::assert_relative_eq;
use proptest::prelude::*;
use tensor_ops::{Error, Tensor, map, map_in_place, sum, sum_axis, update, with_threads, zip, zip_in_place};

/// A tensor `[outer, n, inner]` whose elements are all different.
fn counting(outer: usize, n: usize, inner: usize) -> Tensor<f64> {
    let mut next = 0.0;
    Tensor::from_fn([outer, n, inner], || {
        next += 1.0;
        next
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sum_axis_matches_a_loop(outer in 0_usize..5, n in 0_usize..600, inner in 0_usize..40) {
        let input = counting(outer, n, inner);
        let mut sums = Tensor::full([3], f64::NAN);
        sum_axis(input.view(), 1, &mut sums).unwrap();
        prop_assert_eq!(&*sums.shape(), &[outer, 1, inner][..]);
        for o in 0..outer {
            for i in 0..inner {
                let expected: f64 = (0..n).map(|j| input.data()[(o * n + j) * inner + i]).sum();
                prop_assert_eq!(sums.data()[o * inner + i], expected);
            }
        }
    }
}

#[test]
fn sum_of_many_stays_exact() {
    let values = vec![0.1_f32; 1 << 20];
    assert_relative_eq!(sum(&values), 104_857.6, max_relative = 1e-6);
    assert_eq!(sum::<f32>(&[]), 0.0);
}

#[test]
fn elementwise_operations_reach_each_element() {
    // Larger than one chunk, with a tail, and large enough to be shared among threads.
    let input = counting(1, 1, 150_001);
    let mut output = Tensor::default();
    for threads in [1, 3] {
        with_threads(threads, || map(input.view(), &mut output, |x| x * 2.0)).unwrap();
        assert!(output.data().iter().zip(input.data()).all(|(y, x)| *y == 2.0 * x));
        let mut sums = Tensor::default();
        zip(input.view(), output.view().reshape([150_001, 1, 1]).unwrap(), &mut sums, |x, y| x + y).unwrap();
        assert!(sums.data().iter().zip(input.data()).all(|(sum, x)| *sum == 3.0 * x));
        zip_in_place(&mut output, input.view(), |y, x| y - x).unwrap();
        assert_eq!(output.data(), input.data());
        map_in_place(&mut output, |x| -x);
        assert!(output.data().iter().zip(input.data()).all(|(y, x)| *y == -x));
    }
}

#[test]
fn an_update_reaches_each_element_of_all_targets() {
    let source = counting(1, 1, 150_001);
    for threads in [1, 3] {
        let (mut a, mut b) = (source.clone(), Tensor::full(source.shape(), 2.0));
        let step = || update([&mut a, &mut b], source.view(), |[a, b], x| [a + b * x, x - b]);
        with_threads(threads, step).unwrap().unwrap();
        assert!(a.data().iter().zip(source.data()).all(|(a, x)| *a == 3.0 * x));
        assert!(b.data().iter().zip(source.data()).all(|(b, x)| *b == x - 2.0));
    }
}

#[test]
fn an_update_says_whether_the_first_target_is_finite() {
    for len in [0, 1, 15, 16, 40, 1 << 14, 50_001] {
        let mut source = Tensor::full([len], f64::MAX);
        let is_finite = |source: &Tensor<f64>| {
            let (mut a, mut b) = (Tensor::zeros([len]), Tensor::zeros([len]));
            let step = || update([&mut a, &mut b], source.view(), |_, x| [x, f64::NAN]);
            with_threads(3, step).unwrap().unwrap()
        };
        assert!(is_finite(&source), "{len}");
        for place in (0..len).step_by(len / 16 + 1).chain(len.checked_sub(1)) {
            for poison in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                source.data_mut()[place] = poison;
                assert!(!is_finite(&source), "{poison} at {place} of {len}");
            }
            source.data_mut()[place] = f64::MAX;
        }
    }
}

#[test]
fn sums_of_short_rows_are_those_of_all_rows() {
    let input = counting(2000, 30, 1);
    let mut sums = Tensor::default();
    sum_axis(input.view(), 1, &mut sums).unwrap();
    let expected = input.data().chunks_exact(30).map(|row| row.iter().sum::<f64>());
    assert!(sums.data().iter().copied().eq(expected));
}

#[test]
fn refuse_shapes_that_do_not_fit() {
    let (a, b) = (counting(1, 2, 3), counting(1, 1, 5));
    let mut output = Tensor::default();
    let expected = |operation, expected: &str| {
        Err(Error::Shape { operation, expected: expected.to_owned(), found: b.shape() })
    };
    assert_eq!(zip(a.view(), b.view(), &mut output, |x, _| x), expected("zip", "6 elements"));
    let update = update([&mut b.clone()], a.view(), |[x], _| [x]).map(|_| ());
    assert_eq!(update, expected("update", "6 elements"));
    assert_eq!(zip_in_place(&mut a.clone(), b.view(), |x, _| x), expected("zip_in_place", "6 elements"));
    assert_eq!(sum_axis(b.view(), 3, &mut output), expected("sum_axis", "an axis 3"));
}
