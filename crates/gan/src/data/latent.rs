//! The generator's input.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tensor_ops::Scalar;

use super::Distribution;

/// The generator's input: rows of `dim` independent numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "distribution", rename_all = "snake_case", deny_unknown_fields)]
pub enum Latent {
    /// From a normal distribution.
    Normal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation, above 0.
        std: f64,
        /// How many numbers a latent has.
        dim: usize,
    },
    /// From a uniform distribution on [low, high).
    Uniform {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
        /// How many numbers a latent has.
        dim: usize,
    },
}

impl Latent {
    /// The distribution of one number.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        match *self {
            Self::Normal { mean, std, .. } => Distribution::Normal { mean, std },
            Self::Uniform { low, high, .. } => Distribution::Uniform { low, high },
        }
    }

    /// How many numbers a latent has.
    #[must_use]
    pub fn dim(&self) -> usize {
        match *self {
            Self::Normal { dim, .. } | Self::Uniform { dim, .. } => dim,
        }
    }

    /// Draws each number anew that is more than `most` standard deviations away from the mean, from what is nearer: the
    /// truncation trick (Brock et al., 2019), which gives up variety for typical samples. Uniform numbers stay.
    pub fn truncate<T: Scalar>(&self, rng: &mut impl Rng, latents: &mut [T], most: f64) {
        let Self::Normal { mean, std, .. } = *self else { return };
        let normal = self.distribution();
        let (low, high) = (normal.cdf(mean - most * std), normal.cdf(mean + most * std));
        for x in latents.iter_mut().filter(|x| (x.as_f64() - mean).abs() > most * std) {
            *x = T::from_f64(normal.quantile(low + (high - low) * rng.random::<f64>()));
        }
    }

    /// The latent at a place, from 0 to 1, on the way from one to another: along an arc around the mean for normal
    /// numbers, where what is drawn lies far away from it (White, 2016), and along a line for uniform ones.
    #[must_use]
    pub fn between<T: Scalar>(&self, from: &[T], to: &[T], place: f64) -> Vec<T> {
        let middle = if let Self::Normal { mean, .. } = *self { mean } else { 0.0 };
        let [from, to] = [from, to].map(|z| z.iter().map(|x| x.as_f64() - middle).collect::<Vec<f64>>());
        let [first, second] = self.shares(&from, &to, place);
        from.iter().zip(&to).map(|(a, b)| T::from_f64(middle + first * a + second * b)).collect()
    }

    /// How much of each end there is at a place between them.
    fn shares(&self, from: &[f64], to: &[f64], place: f64) -> [f64; 2] {
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let lengths = (product(from, from) * product(to, to)).sqrt();
        let angle = (product(from, to) / lengths).clamp(-1.0, 1.0).acos();
        // Ends on one line around the mean have no arc between them.
        if matches!(self, Self::Uniform { .. }) || !(1e-6..std::f64::consts::PI - 1e-6).contains(&angle) {
            return [1.0 - place, place];
        }
        [1.0 - place, place].map(|share| (share * angle).sin() / angle.sin())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const NORMAL: Latent = Latent::Normal { mean: 1.0, std: 2.0, dim: 2 };

    #[track_caller]
    fn check(latent: Latent, from: [f64; 2], to: [f64; 2], place: f64, expected: [f64; 2]) {
        let found = latent.between(&from, &to, place);
        assert_eq!(found.len(), 2);
        found.iter().zip(expected).for_each(|(a, b)| approx::assert_abs_diff_eq!(*a, b, epsilon = 1e-12));
    }

    #[test]
    fn the_way_between_normal_latents_is_an_arc_around_the_mean() {
        let half = 0.5_f64.sqrt();
        check(NORMAL, [2.0, 1.0], [1.0, 2.0], 0.5, [1.0 + half, 1.0 + half]);
        check(NORMAL, [2.0, 1.0], [1.0, 2.0], 0.0, [2.0, 1.0]);
        check(NORMAL, [2.0, 1.0], [1.0, 2.0], 1.0, [1.0, 2.0]);
        check(NORMAL, [2.0, 1.0], [5.0, 1.0], 0.5, [3.5, 1.0]);
        check(NORMAL, [1.0, 1.0], [1.0, 1.0], 0.5, [1.0, 1.0]);
        check(NORMAL, [2.0, 1.0], [0.0, 1.0], 0.25, [1.5, 1.0]);
        // An angle of 60 degrees, ends of lengths 1 and 2: sin 30 / sin 60 of each.
        let (y, share) = (3.0_f64.sqrt(), 3.0_f64.sqrt() / 3.0);
        check(NORMAL, [2.0, 1.0], [2.0, 1.0 + y], 0.5, [1.0 + 2.0 * share, 1.0 + share * y]);
        let uniform = Latent::Uniform { low: 0.0, high: 1.0, dim: 2 };
        check(uniform, [1.0, 0.0], [0.0, 1.0], 0.25, [0.75, 0.25]);
    }

    #[test]
    fn truncation_draws_anew_what_is_far_away() {
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let mut drawn = vec![0.0_f64; 20_000];
        NORMAL.distribution().fill(rng, &mut drawn);
        let mut truncated = drawn.clone();
        NORMAL.truncate(rng, &mut truncated, 0.5);
        assert!(truncated.iter().all(|x| (x - 1.0).abs() <= 1.0 + 1e-9));
        let kept = drawn.iter().zip(&truncated).filter(|(a, b)| a == b).count();
        // 38.3 % of a normal distribution lie within half a standard deviation.
        assert!((kept as f64 / 20_000.0 - 0.383).abs() < 0.01, "{kept}");
        let (mean, std) = crate::evaluate::mean_std(&truncated);
        assert!((mean - 1.0).abs() < 0.02 && (std - 0.5675).abs() < 0.01, "{mean} {std}");
    }
}
