//! How close generated numbers are to real ones.

use serde::Serialize;

/// The comparison of generated with real numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// The mean of the real numbers.
    pub real_mean: f64,
    /// Their standard deviation (with divisor n).
    pub real_std: f64,
    /// The mean of the generated numbers.
    pub generated_mean: f64,
    /// Their standard deviation (with divisor n).
    pub generated_std: f64,
    /// The Kolmogorov-Smirnov distance of the two samples, from 0 to 1.
    pub ks: f64,
    /// The Wasserstein-1 distance of the two samples, in the data's unit.
    pub wasserstein_1: f64,
}

impl Evaluation {
    /// Compares two samples.
    #[must_use]
    pub fn new(real: &[f64], generated: &[f64]) -> Self {
        let ((real_mean, real_std), (generated_mean, generated_std)) = (mean_std(real), mean_std(generated));
        let (ks, wasserstein_1) = (ks_two_sample(real, generated), wasserstein_1(real, generated));
        Self { real_mean, real_std, generated_mean, generated_std, ks, wasserstein_1 }
    }
}

/// The mean, and the standard deviation with divisor n; NaN for an empty sample.
#[must_use]
pub fn mean_std(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = tensor_ops::sum(values) / n;
    let squares: Vec<f64> = values.iter().map(|x| (x - mean) * (x - mean)).collect();
    (mean, (tensor_ops::sum(&squares) / n).sqrt())
}

/// The Kolmogorov-Smirnov distance: the largest difference of the two empirical distribution functions. NaN
/// where a sample is empty.
#[must_use]
pub fn ks_two_sample(a: &[f64], b: &[f64]) -> f64 {
    let mut largest = if a.is_empty() || b.is_empty() { f64::NAN } else { 0.0 };
    for_each_step(a, b, |_, _, difference| largest = f64::max(largest, difference));
    largest
}

/// The Wasserstein-1 distance: the area between the two empirical distribution functions. NaN where a sample is
/// empty.
#[must_use]
pub fn wasserstein_1(a: &[f64], b: &[f64]) -> f64 {
    let mut area = if a.is_empty() || b.is_empty() { f64::NAN } else { 0.0 };
    for_each_step(a, b, |from, to, difference| area += (to - from) * difference);
    area
}

/// The Kolmogorov-Smirnov distance of a sample from the normal distribution. NaN for an empty sample.
#[must_use]
pub fn ks_normal(values: &[f64], mean: f64, std: f64) -> f64 {
    let sorted = sorted(values);
    let n = sorted.len() as f64;
    let mut largest = if values.is_empty() { f64::NAN } else { 0.0 };
    for (rank, x) in sorted.iter().enumerate() {
        let expected = 0.5 * libm::erfc(-(x - mean) / (std * std::f64::consts::SQRT_2));
        let (before, after) = (rank as f64 / n, (rank + 1) as f64 / n);
        largest = f64::max(largest, f64::max(expected - before, after - expected));
    }
    largest
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Calls `f(from, to, |F_a - F_b|)` for each stretch between neighbouring values of both samples together. The
/// last one, from the largest value to itself, has difference 0.
fn for_each_step(a: &[f64], b: &[f64], mut f: impl FnMut(f64, f64, f64)) {
    let (a, b) = (sorted(a), sorted(b));
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let next = |i: usize, j: usize| match (a.get(i), b.get(j)) {
            (Some(&x), Some(&y)) => f64::min(x, y),
            (Some(&x), None) | (None, Some(&x)) => x,
            (None, None) => f64::NAN,
        };
        let from = next(i, j);
        while a.get(i).is_some_and(|&x| x <= from) {
            i += 1;
        }
        while b.get(j).is_some_and(|&x| x <= from) {
            j += 1;
        }
        let to = if i < a.len() || j < b.len() { next(i, j) } else { from };
        f(from, to, (i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
        if from.is_nan() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_known_samples() {
        assert_eq!(ks_two_sample(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
        assert_eq!(wasserstein_1(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
        assert_eq!(ks_two_sample(&[0.0, 1.0], &[5.0, 6.0]), 1.0);
        assert_eq!(wasserstein_1(&[0.0, 1.0], &[5.0, 6.0]), 5.0);
        assert_eq!(ks_two_sample(&[0.0, 1.0, 2.0, 3.0], &[1.0]), 0.5);
        assert_eq!(wasserstein_1(&[0.0, 1.0, 3.0], &[5.0, 6.0, 8.0]), 5.0);
        assert!(ks_two_sample(&[], &[1.0]).is_nan() && wasserstein_1(&[1.0], &[]).is_nan());
        assert_eq!(ks_normal(&[4.0], 4.0, 1.25), 0.5);
    }

    #[test]
    fn evaluation_names_which_is_which() {
        let evaluation = Evaluation::new(&[1.0, 3.0], &[5.0, 5.0]);
        assert_eq!((evaluation.real_mean, evaluation.real_std), (2.0, 1.0));
        assert_eq!((evaluation.generated_mean, evaluation.generated_std), (5.0, 0.0));
        assert_eq!((evaluation.ks, evaluation.wasserstein_1), (1.0, 3.0));
    }
}
