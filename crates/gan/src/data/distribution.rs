//! Distributions of single numbers: draws, distribution functions and quantiles.

use rand::{Rng, RngExt};
use rand_distr::{Exp1, StandardNormal, StudentT};
use statrs::distribution::{Continuous, ContinuousCDF, Normal};
use tensor_ops::Scalar;

use crate::{Error, Result};

/// A distribution of single numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// `mean + std` times a standard normal number.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std: f64,
    },
    /// Uniform on [low, high).
    Uniform {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// Exponential: density `rate e^(-rate x)` for x >= 0.
    Exponential {
        /// One over the mean.
        rate: f64,
    },
    /// The exponential of a normal number.
    LogNormal {
        /// The mean of the logarithm.
        mu: f64,
        /// The standard deviation of the logarithm.
        sigma: f64,
    },
    /// `location + scale` times a number of Student's t distribution.
    StudentT {
        /// Degrees of freedom: the fewer, the heavier the tails.
        degrees: f64,
        /// The middle.
        location: f64,
        /// The unit.
        scale: f64,
    },
    /// Laplace: density `e^(-abs(x - location) / scale) / (2 scale)`.
    Laplace {
        /// The middle.
        location: f64,
        /// The mean distance from the middle.
        scale: f64,
    },
    /// A normal distribution out of several, each as often as its weight says.
    Mixture(Vec<Component>),
}

/// A normal distribution in a mixture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component {
    /// How often it is drawn, above 0, relative to the sum of all weights.
    pub weight: f64,
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation.
    pub std: f64,
}

/// How many uniform numbers are drawn at a time.
const UNIFORM_CHUNK: usize = 512;

impl Distribution {
    /// Fills `out` with independent draws.
    #[expect(clippy::indexing_slicing, reason = "chunks are no longer than the buffer")]
    pub fn fill<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T]) {
        match self {
            &Self::Normal { mean, std } => each(out, || mean + std * normal(rng)),
            &Self::Uniform { low, high } => {
                // In bulk, 24 bits a number: as many as an f32 can tell apart.
                let mut bytes = [0; 4 * UNIFORM_CHUNK];
                for chunk in out.chunks_mut(UNIFORM_CHUNK) {
                    let bytes = &mut bytes[..4 * chunk.len()];
                    rng.fill_bytes(bytes);
                    let scale = (high - low) / f64::from(1 << 24);
                    for (x, word) in chunk.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        *x = T::from_f64(low + scale * f64::from(u32::from_le_bytes(*word) >> 8));
                    }
                }
            }
            &Self::Exponential { rate } => each(out, || rng.sample::<f64, _>(Exp1) / rate),
            &Self::LogNormal { mu, sigma } => each(out, || (mu + sigma * normal(rng)).exp()),
            &Self::StudentT { degrees, location, scale } => {
                // Its degrees were checked to be above 0.
                if let Ok(t) = StudentT::new(degrees) {
                    each(out, || location + scale * rng.sample(t));
                }
            }
            &Self::Laplace { location, scale } => each(out, || {
                let distance = scale * rng.sample::<f64, _>(Exp1);
                if rng.random::<bool>() { location + distance } else { location - distance }
            }),
            Self::Mixture(components) => {
                let total: f64 = components.iter().map(|component| component.weight).sum();
                each(out, || {
                    let drawn = components.get(pick(components.iter().map(|c| c.weight), total, rng));
                    drawn.map_or(f64::NAN, |&Component { mean, std, .. }| mean + std * normal(rng))
                });
            }
        }
    }

    /// The share of numbers up to x.
    #[must_use]
    pub fn cdf(&self, x: f64) -> f64 {
        let unit = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        match self {
            Self::Normal { mean, std } => unit((x - mean) / std),
            Self::Uniform { low, high } => ((x - low) / (high - low)).clamp(0.0, 1.0),
            Self::Exponential { rate } => -(-rate * x.max(0.0)).exp_m1(),
            Self::LogNormal { mu, sigma } if x > 0.0 => unit((x.ln() - mu) / sigma),
            Self::LogNormal { .. } => 0.0,
            &Self::StudentT { degrees, location, scale } => {
                let x = (x - location) / scale;
                student(degrees).filter(|_| !x.is_nan()).map_or(f64::NAN, |t| t.cdf(x))
            }
            Self::Laplace { location, scale } => {
                let tail = 0.5 * (-(x - location).abs() / scale).exp();
                if x < *location { tail } else { 1.0 - tail }
            }
            Self::Mixture(components) => {
                let total: f64 = components.iter().map(|component| component.weight).sum();
                components.iter().map(|c| c.weight / total * unit((x - c.mean) / c.std)).sum()
            }
        }
    }

    /// The number that a share `p` of all, in (0, 1), does not exceed. NaN where `p` is not from 0 to 1.
    #[must_use]
    pub fn quantile(&self, p: f64) -> f64 {
        if !(0.0..=1.0).contains(&p) {
            return f64::NAN;
        }
        let unit = |p: f64| Normal::standard().inverse_cdf(p);
        match self {
            Self::Normal { mean, std } => mean + std * unit(p),
            Self::Uniform { low, high } => low + p * (high - low),
            Self::Exponential { rate } => -(-p).ln_1p() / rate,
            Self::LogNormal { mu, sigma } => (mu + sigma * unit(p)).exp(),
            &Self::StudentT { degrees, location, scale } => {
                student(degrees).map_or(f64::NAN, |t| location + scale * quantile_of(&t, p))
            }
            Self::Laplace { location, scale } if p < 0.5 => location + scale * (2.0 * p).ln(),
            Self::Laplace { location, scale } => location - scale * (2.0 - 2.0 * p).ln(),
            Self::Mixture(components) => {
                // Between the quantiles of the lowest and of the highest component.
                let ends = components.iter().map(|c| c.mean + c.std * unit(p));
                let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
                ends.for_each(|x| (low, high) = (low.min(x), high.max(x)));
                let total: f64 = components.iter().map(|component| component.weight).sum();
                let bell = |x: f64| Normal::standard().pdf(x);
                let density = |x: f64| {
                    components.iter().map(|c| c.weight / total * bell((x - c.mean) / c.std) / c.std).sum()
                };
                solve([low, high], |x| (self.cdf(x) - p, density(x)))
            }
        }
    }

    /// `count` quantiles in equal steps: the sample that is as near the distribution as one of that size can be.
    pub(crate) fn quantiles(&self, count: usize) -> Vec<f64> {
        (0..count).map(|place| self.quantile((place as f64 + 0.5) / count as f64)).collect()
    }

    pub(crate) fn check(&self, field: &'static str) -> Result<()> {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        let (ok, expected, found) = match self {
            &Self::Normal { mean, std } => (
                finite(&[mean, std]) && std > 0.0,
                "a finite mean and a std > 0",
                format!("mean {mean}, std {std}"),
            ),
            &Self::Uniform { low, high } => {
                let ok = (high - low).is_finite() && low < high;
                (ok, "a finite low below high", format!("low {low}, high {high}"))
            }
            &Self::Exponential { rate } => {
                (finite(&[rate]) && rate > 0.0, "a rate > 0", format!("rate {rate}"))
            }
            &Self::LogNormal { mu, sigma } => (
                finite(&[mu, sigma]) && sigma > 0.0,
                "a finite mu and a sigma > 0",
                format!("mu {mu}, sigma {sigma}"),
            ),
            &Self::StudentT { degrees, location, scale } => {
                let ok = finite(&[degrees, location, scale]) && degrees > 0.0 && scale > 0.0;
                let found = format!("degrees {degrees}, location {location}, scale {scale}");
                (ok, "degrees > 0, a finite location and a scale > 0", found)
            }
            &Self::Laplace { location, scale } => {
                let ok = finite(&[location, scale]) && scale > 0.0;
                (ok, "a finite location and a scale > 0", format!("location {location}, scale {scale}"))
            }
            Self::Mixture(components) => {
                let right =
                    |c: &Component| finite(&[c.weight, c.mean, c.std]) && c.weight > 0.0 && c.std > 0.0;
                let wrong = components.iter().find(|component| !right(component));
                let found = wrong.map_or("none".to_owned(), |Component { weight, mean, std }| {
                    format!("weight {weight}, mean {mean}, std {std}")
                });
                let ok = wrong.is_none() && !components.is_empty();
                (ok, "components of weight > 0, finite mean and std > 0", found)
            }
        };
        if ok { Ok(()) } else { Err(Error::Setting { field, expected: expected.to_owned(), found }) }
    }
}

fn each<T: Scalar>(out: &mut [T], mut draw: impl FnMut() -> f64) {
    out.iter_mut().for_each(|x| *x = T::from_f64(draw()));
}

pub(crate) fn normal(rng: &mut impl Rng) -> f64 {
    rng.sample(StandardNormal)
}

/// A place drawn by weights, whose sum is `total`.
pub(super) fn pick(weights: impl Iterator<Item = f64>, total: f64, rng: &mut impl Rng) -> usize {
    let mut rest = total * rng.random::<f64>();
    let mut last = 0;
    for (place, weight) in weights.enumerate() {
        last = place;
        rest -= weight;
        if rest < 0.0 {
            break;
        }
    }
    last
}

/// Student's t of location 0 and scale 1, for finite degrees that can be halved.
fn student(degrees: f64) -> Option<statrs::distribution::StudentsT> {
    let t = statrs::distribution::StudentsT::new(0.0, 1.0, degrees).ok();
    t.filter(|_| degrees.is_finite() && degrees / 2.0 > 0.0)
}

/// A quantile, between the logarithms of the smallest and the largest numbers: statrs' own search does not end for each share
/// and all degrees.
fn quantile_of(t: &statrs::distribution::StudentsT, p: f64) -> f64 {
    if p > 0.5 {
        return -quantile_of(t, 1.0 - p);
    }
    let rising = |log: f64| (p - t.cdf(-log.exp()), t.pdf(-log.exp()) * log.exp());
    -solve([-700.0, 700.0], rising).exp()
}

/// Where a function that rises is 0, between the two ends, given its value and its slope: by Newton's steps, or by halving
/// where one would lead out of the bracket.
fn solve([mut low, mut high]: [f64; 2], f: impl Fn(f64) -> (f64, f64)) -> f64 {
    let mut x = 0.5 * (low + high);
    for _ in 0..200 {
        let (value, slope) = f(x);
        if value < 0.0 {
            low = x
        } else {
            high = x
        }
        let step = x - value / slope;
        let next = if step > low && step < high { step } else { 0.5 * (low + high) };
        let moved = (next - x).abs();
        x = next;
        if moved <= f64::EPSILON * x.abs() {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn all() -> [Distribution; 7] {
        let component = |weight, mean, std| Component { weight, mean, std };
        [
            Distribution::Normal { mean: 4.0, std: 1.25 },
            Distribution::Uniform { low: -1.0, high: 3.0 },
            Distribution::Exponential { rate: 0.5 },
            Distribution::LogNormal { mu: 0.2, sigma: 0.7 },
            Distribution::StudentT { degrees: 3.0, location: 1.0, scale: 2.0 },
            Distribution::Laplace { location: -1.0, scale: 0.5 },
            Distribution::Mixture(vec![component(3.0, -2.0, 0.5), component(7.0, 3.0, 4.0)]),
        ]
    }

    #[test]
    fn draws_follow_the_distribution_function() {
        for distribution in all() {
            let mut draws = vec![0.0_f64; 20_000];
            distribution.fill(&mut ChaCha8Rng::seed_from_u64(5), &mut draws);
            draws.sort_unstable_by(f64::total_cmp);
            let n = draws.len() as f64;
            let distance = |(rank, &x): (usize, &f64)| (distribution.cdf(x) - (rank as f64 + 0.5) / n).abs();
            let ks = draws.iter().enumerate().map(distance).fold(0.0, f64::max);
            // Exceeded once in a million samples that are right.
            assert!(ks < 2.7 / n.sqrt(), "{distribution:?}: {ks}");
        }
    }

    #[test]
    fn numbers_that_are_never_drawn_are_below_or_above_all() {
        for (distribution, low, high) in
            [(&all()[1], -1.0, 3.0), (&all()[2], 0.0, f64::INFINITY), (&all()[3], 0.0, f64::INFINITY)]
        {
            let shares = [low - 1.0, low, high, high + 1.0].map(|x| distribution.cdf(x));
            assert_eq!(shares, [0.0, 0.0, 1.0, 1.0], "{distribution:?}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_from_is_refused() {
        let component = |weight, mean, std| Distribution::Mixture(vec![Component { weight, mean, std }]);
        for distribution in [
            Distribution::Normal { mean: 0.0, std: 0.0 },
            Distribution::Normal { mean: f64::NAN, std: 1.0 },
            Distribution::Uniform { low: 1.0, high: 1.0 },
            Distribution::Uniform { low: 2.0, high: 1.0 },
            // The range is as long as no number.
            Distribution::Uniform { low: -1e308, high: 1e308 },
            Distribution::Exponential { rate: 0.0 },
            Distribution::Exponential { rate: f64::INFINITY },
            Distribution::LogNormal { mu: 0.0, sigma: 0.0 },
            Distribution::LogNormal { mu: f64::NAN, sigma: 1.0 },
            Distribution::StudentT { degrees: 0.0, location: 0.0, scale: 1.0 },
            Distribution::StudentT { degrees: 1.0, location: 0.0, scale: 0.0 },
            Distribution::StudentT { degrees: 1.0, location: f64::NAN, scale: 1.0 },
            Distribution::Laplace { location: 0.0, scale: 0.0 },
            Distribution::Laplace { location: f64::NAN, scale: 1.0 },
            component(0.0, 0.0, 1.0),
            component(1.0, f64::NAN, 1.0),
            component(1.0, 0.0, 0.0),
        ] {
            assert!(distribution.check("data").is_err(), "{distribution:?}");
        }
    }

    #[test]
    fn quantiles_undo_the_distribution_function() {
        // Where the distribution function is flat, Newton's steps lead nowhere.
        let component = |mean| Component { weight: 1.0, mean, std: 0.01 };
        let apart = Distribution::Mixture(vec![component(-100.0), component(100.0)]);
        let heavy = Distribution::StudentT { degrees: 0.2, location: 0.0, scale: 1.0 };
        for distribution in all().into_iter().chain([apart, heavy]) {
            distribution.check("data").unwrap();
            for p in [0.001, 0.1, 0.29, 0.5, 0.9, 0.999] {
                let again = distribution.cdf(distribution.quantile(p));
                assert!((again - p).abs() < 1e-9, "{distribution:?} at {p}: {again}");
            }
        }
    }

    #[test]
    fn quantiles_in_equal_steps_are_as_near_as_a_sample_can_be() {
        for distribution in all() {
            let sample = distribution.quantiles(1000);
            for (place, &x) in sample.iter().enumerate() {
                let expected = (place as f64 + 0.5) / 1000.0;
                assert!((distribution.cdf(x) - expected).abs() < 1e-9, "{distribution:?}: {x} at {expected}");
            }
        }
    }
}
