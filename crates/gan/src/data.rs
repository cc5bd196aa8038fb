//! Where real rows and latents come from.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use tensor_ops::Scalar;

use crate::{Error, Result};

/// Real data: rows of independent numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Data {
    /// From a normal distribution.
    Normal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation, above 0.
        std: f64,
    },
    /// From a uniform distribution on [low, high).
    Uniform {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
}

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

/// A distribution of single numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
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
}

impl Data {
    /// The distribution of one number.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        match *self {
            Self::Normal { mean, std } => Distribution::Normal { mean, std },
            Self::Uniform { low, high } => Distribution::Uniform { low, high },
        }
    }
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
}

/// How many uniform numbers are drawn at a time.
const UNIFORM_CHUNK: usize = 512;

impl Distribution {
    /// Fills `out` with independent draws.
    pub fn fill<T: Scalar>(self, rng: &mut impl Rng, out: &mut [T]) {
        match self {
            Self::Normal { mean, std } => {
                out.iter_mut()
                    .for_each(|x| *x = T::from_f64(mean + std * rng.sample::<f64, _>(StandardNormal)));
            }
            Self::Uniform { low, high } => {
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
        }
    }

    pub(crate) fn check(self, field: &'static str) -> Result<()> {
        let (ok, expected, found) = match self {
            Self::Normal { mean, std } => {
                let ok = mean.is_finite() && std.is_finite() && std > 0.0;
                (ok, "a finite mean and a std > 0", format!("mean {mean}, std {std}"))
            }
            Self::Uniform { low, high } => {
                let ok = (high - low).is_finite() && low < high;
                (ok, "a finite low below high", format!("low {low}, high {high}"))
            }
        };
        if ok { Ok(()) } else { Err(Error::Setting { field, expected: expected.to_owned(), found }) }
    }
}
