//! How close single numbers are to others.

use super::{Kind, Value};

/// The quantiles that are compared.
const QUANTILES: [(&str, f64); 9] = [
    ("quantile_0.001", 0.001),
    ("quantile_0.01", 0.01),
    ("quantile_0.05", 0.05),
    ("quantile_0.25", 0.25),
    ("quantile_0.5", 0.5),
    ("quantile_0.75", 0.75),
    ("quantile_0.95", 0.95),
    ("quantile_0.99", 0.99),
    ("quantile_0.999", 0.999),
];

/// The statistics of both samples, and their distances.
pub(super) fn measure(real: &[f64], generated: &[f64]) -> Vec<Value> {
    let (real, generated) = (sorted(real), sorted(generated));
    let statistic = |name, f: &dyn Fn(&[f64]) -> f64| Value {
        name,
        kind: Kind::Statistic(f(&real)),
        value: f(&generated),
    };
    let mut values = vec![
        statistic("mean", &|sample| mean_std(sample).0),
        statistic("std", &|sample| mean_std(sample).1),
        statistic("skewness", &skewness),
    ];
    values.extend(QUANTILES.iter().map(|&(name, p)| statistic(name, &|sample| quantile(sample, p))));
    let distance = |name, value| Value { name, kind: Kind::Distance, value };
    let steps = Steps::between(&real, &generated);
    values.push(distance("ks", steps.largest));
    values.push(distance("wasserstein_1", steps.area));
    values.push(distance("energy_distance", (2.0 * steps.area_of_squares).sqrt()));
    values
}

/// The skewness: the mean cube of deviations from the mean, in standard deviations. NaN where they are all the same.
#[must_use]
pub fn skewness(values: &[f64]) -> f64 {
    let (mean, std) = mean_std(values);
    let cubes: Vec<f64> = values.iter().map(|x| ((x - mean) / std).powi(3)).collect();
    tensor_ops::sum(&cubes) / values.len() as f64
}

/// The number that a share `p` of a sorted sample does not exceed, between neighbours by interpolation (type 7 of Hyndman
/// and Fan, 1996). NaN for an empty sample.
#[must_use]
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    let place = p * sorted.len().saturating_sub(1) as f64;
    let at = |place: f64| sorted.get(place as usize).copied().unwrap_or(f64::NAN);
    let (low, high) = (at(place.floor()), at(place.ceil()));
    low + (high - low) * (place - place.floor())
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
    Steps::between(&sorted(a), &sorted(b)).largest
}

/// The Wasserstein-1 distance: the area between the two empirical distribution functions. NaN where a sample is
/// empty.
#[must_use]
pub fn wasserstein_1(a: &[f64], b: &[f64]) -> f64 {
    Steps::between(&sorted(a), &sorted(b)).area
}

/// The energy distance: the root of twice the integral of the squared difference of the two empirical distribution
/// functions (Szekely and Rizzo, 2013). NaN where a sample is empty.
#[must_use]
pub fn energy_distance(a: &[f64], b: &[f64]) -> f64 {
    (2.0 * Steps::between(&sorted(a), &sorted(b)).area_of_squares).sqrt()
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

pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The difference of two empirical distribution functions, between all their steps.
pub(super) struct Steps {
    pub(super) largest: f64,
    pub(super) area: f64,
    area_of_squares: f64,
}

impl Steps {
    /// Of sorted samples. All NaN where one is empty, or has a NaN.
    pub(super) fn between(a: &[f64], b: &[f64]) -> Self {
        let nothing = if a.is_empty() || b.is_empty() { f64::NAN } else { 0.0 };
        let mut steps = Self { largest: nothing, area: nothing, area_of_squares: nothing };
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            let next = |i: usize, j: usize| match (a.get(i), b.get(j)) {
                (Some(&x), Some(&y)) => f64::min(x, y),
                (Some(&x), None) | (None, Some(&x)) => x,
                (None, None) => f64::NAN,
            };
            let from = next(i, j);
            if from.is_nan() {
                return Self { largest: from, area: from, area_of_squares: from };
            }
            while a.get(i).is_some_and(|&x| x <= from) {
                i += 1;
            }
            while b.get(j).is_some_and(|&x| x <= from) {
                j += 1;
            }
            let to = if i < a.len() || j < b.len() { next(i, j) } else { from };
            let difference = (i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs();
            steps.largest = steps.largest.max(difference);
            steps.area += (to - from) * difference;
            steps.area_of_squares += (to - from) * difference * difference;
        }
        steps
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
        assert_eq!(ks_normal(&[4.0, 4.0], 4.0, 1.25), 0.5);
        assert!((ks_normal(&[5.0], 4.0, 1.0) - 0.841_344_746).abs() < 1e-9);
        assert!((ks_normal(&[-1.0, 3.0], 0.0, 1.0) - 0.498_650_102).abs() < 1e-9);
        assert!(ks_normal(&[], 4.0, 1.25).is_nan());
        // The samples end one after the other; which comes first makes no difference.
        let (a, b) = ([0.0, 1.0, 5.0], [0.0, 2.0]);
        for (a, b) in [(&a[..], &b[..]), (&b, &a)] {
            approx::assert_relative_eq!(ks_two_sample(a, b), 1.0 / 3.0, max_relative = 1e-12);
            approx::assert_relative_eq!(wasserstein_1(a, b), 4.0 / 3.0, max_relative = 1e-12);
        }
    }

    /// The mean of squares is so large there that the square of the mean says nothing beside it.
    #[test]
    fn numbers_far_from_0_have_their_deviation() {
        let (mean, std) = mean_std(&[1e9, 1e9 + 1.0, 1e9 + 3.0]);
        assert!(
            (mean - 1e9 - 4.0 / 3.0).abs() < 1e-6 && (std - 14.0_f64.sqrt() / 3.0).abs() < 1e-6,
            "{mean} {std}"
        );
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let sample = [1.0, 2.0, 4.0, 8.0, 16.0];
        assert_eq!([0.0, 0.25, 0.3, 0.875, 1.0].map(|p| quantile(&sample, p)), [1.0, 2.0, 2.4, 12.0, 16.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn skewness_of_known_samples() {
        assert_eq!(skewness(&[1.0, 2.0, 3.0]), 0.0);
        // Deviations -1, -1, 2 with variance 2.
        approx::assert_relative_eq!(
            skewness(&[0.0, 0.0, 3.0]),
            std::f64::consts::FRAC_1_SQRT_2,
            max_relative = 1e-12
        );
    }

    #[test]
    fn every_measure_names_which_sample_is_which() {
        let values = measure(&[1.0, 3.0], &[5.0, 5.0]);
        let find = |name| values.iter().find(|value| value.name == name).unwrap();
        assert_eq!((find("mean").kind, find("mean").value), (Kind::Statistic(2.0), 5.0));
        assert_eq!((find("std").kind, find("std").value), (Kind::Statistic(1.0), 0.0));
        assert_eq!((find("ks").value, find("wasserstein_1").value), (1.0, 3.0));
        assert_eq!(find("energy_distance").value, (2.0_f64 * (2.0 * 0.25 + 2.0)).sqrt());
    }
}
