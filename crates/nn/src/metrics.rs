//! How often predictions are right.

use tensor_ops::{Scalar, View};

/// The share of right predictions, from 0 to 1; NaN where there are none.
///
/// With one number a row, each is right if it lies on its target's side: above `threshold` for a target above
/// 1/2. With more, a row is right if its largest number stands where its target's does, the first one counting
/// where several are equal.
///
/// # Shapes
/// `prediction [batch, .., classes]`, `target` the same.
#[must_use]
pub fn accuracy<T: Scalar>(prediction: View<'_, T>, target: View<'_, T>, threshold: T) -> f64 {
    let (rows, _) = prediction.shape().as_matrix();
    count_right(prediction, target, threshold) as f64 / rows as f64
}

/// How many predictions are right: [`accuracy`] times the number of rows.
///
/// # Shapes
/// As there.
#[must_use]
pub fn count_right<T: Scalar>(prediction: View<'_, T>, target: View<'_, T>, threshold: T) -> usize {
    let (_, columns) = prediction.shape().as_matrix();
    let half = T::from_f64(0.5);
    let lines =
        prediction.data().chunks_exact(columns.max(1)).zip(target.data().chunks_exact(columns.max(1)));
    let right = lines.filter(|(p, t)| match (p, t) {
        ([p], [t]) => (*p > threshold) == (*t > half),
        (p, t) => largest(p) == largest(t),
    });
    right.count()
}

fn largest<T: Scalar>(values: &[T]) -> usize {
    let first = (0, values.first().copied().unwrap_or_else(T::zero));
    let larger = |best: (usize, T), (place, &x): (usize, &T)| if x > best.1 { (place, x) } else { best };
    values.iter().enumerate().fold(first, larger).0
}

#[cfg(test)]
mod tests {
    use tensor_ops::Tensor;

    use super::*;

    #[test]
    fn counts_sides_and_largest() {
        let p = Tensor::from_vec([4, 1], vec![0.6, 0.4, 0.9, 0.5]).unwrap();
        let t = Tensor::from_vec([4, 1], vec![1.0, 0.0, 0.0, 0.0]).unwrap();
        assert_eq!(accuracy(p.view(), t.view(), 0.5), 0.75);
        // A target of 1/2 is on the lower side, as is a prediction at the threshold.
        let half = Tensor::full([2, 1], 0.5);
        assert_eq!(count_right(half.view(), half.view(), 0.5), 2);
        assert_eq!(count_right(half.view(), half.view(), 0.25), 0);
        let p = Tensor::from_vec([2, 3], vec![0.1, 0.7, 0.2, 0.3, 0.3, 0.4]).unwrap();
        let t = Tensor::from_vec([2, 3], vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
        assert_eq!(count_right(p.view(), t.view(), 0.5), 1);
        let p = Tensor::from_vec([4, 2], vec![0.1, 0.9, 0.5, 0.5, 0.7, 0.3, 0.2, 0.8]).unwrap();
        let t = Tensor::from_vec([4, 2], vec![0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]).unwrap();
        assert_eq!(accuracy(p.view(), t.view(), 0.5), 0.75);
    }
}
