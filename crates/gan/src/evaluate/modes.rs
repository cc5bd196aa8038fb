//! How well known modes are captured, by the protocol of VEEGAN (Srivastava et al., 2017) and PacGAN (Lin et al., 2018).

use super::{Kind, Value};
use crate::{Component, Modes};

/// A point at most so many standard deviations away from a mode is of high quality.
const HIGH_QUALITY: f64 = 3.0;

/// Modes captured, those with at least one point of high quality; the share of such points; and the reverse KL
/// divergence: that of the shares of points nearest to each mode from the modes' weights.
pub(super) fn measure(modes: &Modes, generated: &[f64]) -> Vec<Value> {
    let width = modes.width();
    // How many points are nearest to each mode, and whether one of them is of high quality.
    let mut seen = vec![(0_u64, false); modes.means.len()];
    let mut good = 0_u64;
    for point in generated.chunks_exact(width.max(1)) {
        let (mode, distance) = modes.nearest(point);
        let is_near = distance <= HIGH_QUALITY;
        good += u64::from(is_near);
        if let Some((count, captured)) = seen.get_mut(mode) {
            *count += 1;
            *captured |= is_near;
        }
    }
    let total = seen.iter().map(|(count, _)| count).sum::<u64>() as f64;
    let divergence = |(&(count, _), weight): (&(u64, bool), &f64)| {
        let share = count as f64 / total;
        if count == 0 { 0.0 } else { share * (share / weight).ln() }
    };
    let reverse_kl = seen.iter().zip(&modes.weights).map(divergence).sum();
    vec![
        Value {
            name: "modes",
            kind: Kind::Score,
            value: seen.iter().filter(|(_, captured)| *captured).count() as f64,
        },
        Value { name: "high_quality", kind: Kind::Score, value: good as f64 / total },
        Value { name: "reverse_kl", kind: Kind::Distance, value: reverse_kl },
    ]
}

/// The largest error of a component's weight. A number counts for each component by the probability that it came from
/// it, so that the expected count of a perfect sampler is the weight.
pub(super) fn weight_error(components: &[Component], generated: &[f64]) -> f64 {
    let total: f64 = components.iter().map(|component| component.weight).sum();
    let mut counts = vec![0.0; components.len()];
    for x in generated {
        let log_density = |c: &Component| (c.weight / c.std).ln() - ((x - c.mean) / c.std).powi(2) / 2.0;
        let logs: Vec<f64> = components.iter().map(log_density).collect();
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let densities: Vec<f64> = logs.iter().map(|log| (log - largest).exp()).collect();
        let sum: f64 = densities.iter().sum();
        counts.iter_mut().zip(densities).for_each(|(count, density)| *count += density / sum);
    }
    let error = |(count, component): (&f64, &Component)| {
        (count / generated.len() as f64 - component.weight / total).abs()
    };
    counts.iter().zip(components).map(error).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes() -> Modes {
        Modes {
            weights: vec![0.25, 0.75],
            means: vec![vec![0.0, 0.0], vec![10.0, 0.0]],
            stds: vec![1.0, 0.5],
        }
    }

    fn values(points: &[[f64; 2]]) -> [f64; 3] {
        let values = measure(&modes(), points.as_flattened());
        [0, 1, 2].map(|i| values[i].value)
    }

    #[test]
    fn a_mode_counts_with_a_point_within_three_of_its_deviations() {
        assert_eq!(values(&[[3.0, 0.0]])[..2], [1.0, 1.0]);
        assert_eq!(values(&[[3.01, 0.0]])[..2], [0.0, 0.0]);
        assert_eq!(values(&[[0.0, 2.0], [10.0, 1.6]])[..2], [1.0, 0.5]);
        assert_eq!(values(&[[0.0, 2.0], [10.0, 1.4]])[..2], [2.0, 1.0]);
    }

    #[test]
    fn reverse_kl_is_that_of_the_shares() {
        let mut points = vec![[0.0, 0.0]; 1];
        points.extend([[10.0, 0.0]; 3]);
        assert_eq!(values(&points)[2], 0.0);
        approx::assert_relative_eq!(values(&[[10.0, 0.0]])[2], (1.0_f64 / 0.75).ln(), max_relative = 1e-12);
    }

    #[test]
    fn weights_are_counted_by_probability() {
        let component = |weight, mean| Component { weight, mean, std: 1.0 };
        let components = [component(1.0, -50.0), component(1.0, 50.0)];
        assert_eq!(weight_error(&components, &[-50.0, -51.0, -49.0, 50.0]), 0.25);
        // From either with the same probability.
        assert_eq!(weight_error(&components, &[0.0]), 0.0);
        // From the first with the probabilities that Bayes's rule gives.
        let wide =
            [Component { weight: 1.0, mean: 0.0, std: 1.0 }, Component { weight: 3.0, mean: 1.0, std: 2.0 }];
        let first = |x: f64| {
            let [a, b] = [(-x * x / 2.0).exp(), 1.5 * (-(x - 1.0) * (x - 1.0) / 8.0).exp()];
            a / (a + b)
        };
        let expected = ((first(0.5) + first(-1.0)) / 2.0 - 0.25).abs();
        approx::assert_relative_eq!(weight_error(&wide, &[0.5, -1.0]), expected, max_relative = 1e-12);
        // So far away that both densities are 0.
        assert_eq!(weight_error(&wide, &[1e3]), 0.25);
    }
}
