//! Whatever a caller passes is computed or refused: no panic, whatever the shapes, settings and numbers.
//!
//! Shapes may be those of no tensor that memory could hold, as long as an axis of 0 leaves them empty.

use proptest::collection::vec;
use proptest::prelude::*;
use tensor_ops::{
    Convolution, DualNumber, Error, MAX_RANK, Scalar, Shape, Tensor, View, add_matmul_tn, add_rows,
    all_finite, for_each_shard, map, map_in_place, map_slice, matmul, matmul_nt, matmul_then, sum, sum_axis,
    symmetric_eigen, update, with_threads, zip, zip_in_place,
};

/// The most elements of a tensor here.
const MOST: usize = 600;
const HUGE: [usize; 3] = [usize::MAX, 1 << 40, 1 << 31];

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![10 => 1..5_usize, 2 => Just(0), 1 => prop::sample::select(HUGE.to_vec()), 1 => 5..70_usize]
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(size(), 0..=MAX_RANK)
}

/// Without the check of `Shape::new`.
fn shape(sizes: &[usize]) -> Shape {
    match *sizes {
        [a] => [a].into(),
        [a, b] => [a, b].into(),
        [a, b, c] => [a, b, c].into(),
        [a, b, c, d] => [a, b, c, d].into(),
        [a, b, c, d, e] => [a, b, c, d, e].into(),
        [a, b, c, d, e, f, ..] => [a, b, c, d, e, f].into(),
        [] => [].into(),
    }
}

/// A tensor of a shape, of numbers in turns; smaller where it would be large.
fn tensor_of<T: Scalar>(sizes: &[usize], numbers: &[f64]) -> Tensor<T> {
    let mut shape = shape(sizes);
    (0..shape.rank()).filter(|axis| shape[*axis] > 4).collect::<Vec<_>>().into_iter().for_each(|axis| {
        if shape.len() > MOST {
            shape = shape.with_axis(axis, 2);
        }
    });
    let mut numbers = numbers.iter().cycle();
    Tensor::from_fn(shape, || T::from_f64(*numbers.next().unwrap()))
}

fn tensor<T: Scalar>() -> impl Strategy<Value = Tensor<T>> {
    (sizes(), vec(prop::num::f64::ANY, 1..9)).prop_map(|(sizes, numbers)| tensor_of(&sizes, &numbers))
}

/// Three operands, often of shapes that fit a product.
fn operands<T: Scalar>() -> impl Strategy<Value = [Tensor<T>; 3]> {
    let fitting = ([size(), size(), size()], 0..4_usize, vec(prop::num::f64::ANY, 1..9)).prop_map(
        |([m, k, n], kind, numbers)| {
            let shapes = match kind {
                0 => [[m, k], [k, n], [m, n]],
                1 => [[k, m], [k, n], [m, n]],
                2 => [[m, k], [n, k], [m, n]],
                _ => [[m, n], [m, n], [1, n]],
            };
            shapes.map(|sizes| tensor_of(&sizes, &numbers))
        },
    );
    prop_oneof![fitting, [tensor(), tensor(), tensor()]]
}

fn pair() -> impl Strategy<Value = [usize; 2]> {
    let extreme = prop::sample::select(vec![0, 5, (1 << 31) - 1, 1 << 31, usize::MAX]);
    let size = prop_oneof![12 => 1..4_usize, 1 => extreme];
    [size.clone(), size]
}

fn convolution() -> impl Strategy<Value = Convolution> {
    let padding = prop_oneof![4 => Just([0, 0]), 1 => pair()];
    (pair(), pair(), pair(), pair(), pair(), padding).prop_map(
        |(image, places, kernel, strides, dilation, padding)| Convolution {
            image,
            places,
            kernel,
            strides,
            dilation,
            padding,
        },
    )
}

/// All operations of two or three operands.
fn operate<T: Scalar>([a, b, c]: &[Tensor<T>; 3]) {
    let (x, y, z) = (a.view(), b.view(), &mut c.clone());
    let _ = matmul(x, y, z);
    let _ = matmul_then(x, y, None, z, |values| values.fill(T::one()));
    let _ = matmul_then(x, y, Some(c.view()), z, |_| {});
    let _ = add_matmul_tn(x, y, z);
    let _ = matmul_nt(x, y, z);
    let _ = add_rows(x, z);
    let _ = zip_in_place(z, x, |x, y| x - y);
    let _ = update([z, &mut b.clone()], x, |[p, q], g| [p + g, q * g]);
    let _ = zip(x, y, z, |x, y| x / y);
    map(y, z, T::sqrt);
    map_in_place(z, T::ln);
    map_slice(z.data_mut(), T::abs);
    let _ = sum(z.data());
    let _ = all_finite(z.data());
    for axis in 0..=MAX_RANK {
        // Sums of nothing may be more than there is memory for.
        let sums = a.shape().with_axis(axis, 1).len();
        if sums <= MOST || sums == usize::MAX {
            assert!(sum_axis(x, axis, z).is_err() || axis < a.shape().rank() && sums <= MOST);
        }
    }
}

fn convolve<T: Scalar>(convolution: Convolution, [a, b, c, d]: [View<'_, T>; 4]) {
    for bias in [None, Some(d)] {
        let _ = convolution.forward(a, b, bias, &mut c.to_tensor(), |_| {});
        let _ = convolution.transposed(c, b, bias, &mut a.to_tensor(), |_| {});
    }
    let _ = convolution.add_kernel_gradient(a, c, &mut b.to_tensor());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn shapes(sizes in vec(size(), 0..=MAX_RANK + 2), size in size(), axis in 0..9_usize) {
        let checked = Shape::new(&sizes);
        prop_assert!(sizes.len() <= MAX_RANK || checked.is_err());
        let shape = shape(&sizes);
        let _ = (shape.len(), shape.last_dim(), shape.as_matrix(), shape.without_first(), shape.with_last(size));
        let _ = (shape.with_axis(axis, size).len(), shape.with_first(size), format!("{shape} {shape:?}"));
        if let Ok(shape) = checked {
            // What is left when axes of 0 are taken away is what memory can hold, too.
            prop_assert!(shape.iter().filter(|&&size| size > 0).try_fold(1_usize, |n, &size| n.checked_mul(size)).is_some());
        }
    }

    #[test]
    fn views(sizes in sizes(), other in sizes(), start in size(), end in size()) {
        let (shape, data) = (shape(&sizes), [0.0_f32; 100]);
        for length in [0, 1, 100, shape.len().min(100)] {
            let view = View::new(shape, &data[..length]);
            prop_assert_eq!(view.is_ok(), shape.len() == length);
            prop_assert_eq!(Tensor::from_vec(shape, vec![0.0_f64; length]).is_ok(), view.is_ok());
            if let Ok(view) = view {
                let rows = view.rows(start..end);
                prop_assert_eq!(rows.is_ok(), start <= end && end <= shape.first_dim());
                let _ = view.reshape(self::shape(&other)).map(|view| view.to_tensor());
            }
        }
    }

    #[test]
    fn operations(single in operands::<f32>(), double in operands::<f64>(), dual in operands::<DualNumber>()) {
        operate(&single);
        operate(&double);
        operate(&dual);
    }

    #[test]
    fn convolutions(
        convolution in convolution(),
        [batch, channels, filters] in [0..3_usize, 0..9_usize, 0..5_usize],
        any in [tensor::<f64>(), tensor(), tensor(), tensor()],
    ) {
        convolve(convolution, any.each_ref().map(Tensor::view));
        let Convolution { image, places, kernel, .. } = convolution;
        let fitting = [
            [batch, image[0], image[1], channels],
            [kernel[0], kernel[1], channels, filters],
            [batch, places[0], places[1], filters],
            [1, 1, 1, filters],
        ];
        if fitting.iter().all(|sizes| shape(sizes).len() <= MOST) {
            let operands = fitting.map(|sizes| tensor_of::<f32>(&sizes, &[0.5, -2.0]));
            convolve(convolution, operands.each_ref().map(Tensor::view));
        }
    }

    #[test]
    fn eigenvalues(matrix in tensor::<f64>(), n in 0..6_usize, numbers in vec(prop::num::f64::ANY, 1..36)) {
        let _ = symmetric_eigen(matrix.view());
        prop_assert_eq!(symmetric_eigen(tensor_of(&[n, n], &numbers).view()).unwrap().0.len(), n);
    }
}

#[test]
fn threads() {
    for threads in [1025, usize::MAX] {
        assert!(matches!(with_threads(threads, || ()), Err(Error::Threads { .. })));
    }
    assert_eq!(with_threads(0, || with_threads(3, || 7).unwrap()).unwrap(), 7);
    for_each_shard::<()>(&mut [], |_, ()| {});
}

#[test]
fn a_buffer_that_cannot_grow_stays_as_it_was() {
    let mut buffer = Tensor::full([2], 1.0_f32);
    let grown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| buffer.resize([usize::MAX])));
    assert!(grown.is_err());
    assert_eq!(buffer, Tensor::full([2], 1.0));
}
