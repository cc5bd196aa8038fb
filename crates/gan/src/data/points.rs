//! Distributions of points.

use std::f64::consts::{PI, TAU};

use rand::{Rng, RngExt};
use tensor_ops::Scalar;

use super::distribution::{normal, pick};

/// A distribution of points.
#[derive(Debug, Clone, PartialEq)]
pub enum Points {
    /// Normal distributions around known places.
    Modes(Modes),
    /// A roll in the plane: t (cos t, sin t) / 6 with t uniform on [1.5 pi, 4.5 pi), and noise.
    SwissRoll {
        /// The standard deviation of the noise.
        noise: f64,
    },
    /// Two half circles of radius 1, one upside down, that reach into each other, and noise.
    TwoMoons {
        /// The standard deviation of the noise.
        noise: f64,
    },
}

/// Round normal distributions around known places.
#[derive(Debug, Clone, PartialEq)]
pub struct Modes {
    /// How often each is drawn; they add up to 1.
    pub weights: Vec<f64>,
    /// Where they are, all with as many numbers.
    pub means: Vec<Vec<f64>>,
    /// Their standard deviations in each direction.
    pub stds: Vec<f64>,
}

impl Modes {
    /// How many numbers a point has.
    pub(crate) fn width(&self) -> usize {
        self.means.first().map_or(0, Vec::len)
    }

    /// As many modes on a circle around 0.
    pub(super) fn ring(modes: usize, radius: f64, std: f64) -> Self {
        let angles = (0..modes).map(|mode| TAU * mode as f64 / modes as f64);
        Self::equal(angles.map(|angle| vec![radius * angle.cos(), radius * angle.sin()]).collect(), std)
    }

    /// `side` times `side` modes around 0.
    pub(super) fn grid(side: usize, spacing: f64, std: f64) -> Self {
        let place = |i: usize| spacing * (i as f64 - (side as f64 - 1.0) / 2.0);
        Self::equal((0..side * side).map(|mode| vec![place(mode / side), place(mode % side)]).collect(), std)
    }

    fn equal(means: Vec<Vec<f64>>, std: f64) -> Self {
        let count = means.len();
        Self { weights: vec![1.0 / count as f64; count], stds: vec![std; count], means }
    }

    /// The mode whose mean is the fewest of its standard deviations away, and how many those are.
    #[must_use]
    pub fn nearest(&self, point: &[f64]) -> (usize, f64) {
        let mut nearest = (0, f64::INFINITY);
        for (mode, (mean, std)) in self.means.iter().zip(&self.stds).enumerate() {
            let square: f64 = mean.iter().zip(point).map(|(a, b)| (a - b) * (a - b)).sum();
            let distance = square.sqrt() / std;
            if distance < nearest.1 {
                nearest = (mode, distance);
            }
        }
        nearest
    }
}

impl Points {
    /// How many numbers a point has.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Modes(modes) => modes.width(),
            Self::SwissRoll { .. } | Self::TwoMoons { .. } => 2,
        }
    }

    /// Fills `out` with independent draws, point after point.
    pub fn fill<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T]) {
        for point in out.chunks_exact_mut(self.width().max(1)) {
            let mut put = |x: f64, y: f64| {
                point.iter_mut().zip([x, y]).for_each(|(number, value)| *number = T::from_f64(value));
            };
            match self {
                Self::Modes(Modes { weights, means, stds }) => {
                    let mode = pick(weights.iter().copied(), 1.0, rng);
                    let std = stds.get(mode).copied().unwrap_or(f64::NAN);
                    for (x, mean) in point.iter_mut().zip(means.get(mode).into_iter().flatten()) {
                        *x = T::from_f64(mean + std * normal(rng));
                    }
                }
                Self::SwissRoll { noise } => {
                    let t = PI * (1.5 + 3.0 * rng.random::<f64>());
                    let x = t * t.cos() / 6.0 + noise * normal(rng);
                    put(x, t * t.sin() / 6.0 + noise * normal(rng));
                }
                Self::TwoMoons { noise } => {
                    let (upper, angle) = (rng.random::<bool>(), PI * rng.random::<f64>());
                    let (x, y) = (angle.cos(), angle.sin());
                    let (x, y) = if upper { (x - 0.5, y - 0.25) } else { (0.5 - x, 0.25 - y) };
                    let x = x + noise * normal(rng);
                    put(x, y + noise * normal(rng));
                }
            }
        }
    }
}
