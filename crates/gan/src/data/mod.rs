//! Where real rows and latents come from.

mod distribution;
mod points;
mod table;

use std::path::PathBuf;

use rand::Rng;
use serde::{Deserialize, Serialize};
use tensor_ops::Scalar;

pub(crate) use distribution::normal;
pub use distribution::{Component, Distribution};
pub use points::{Modes, Points};
pub use table::{Column, ColumnName, Table};

use crate::{Error, Result};

/// Real data. The one-dimensional kinds give rows of any number of independent numbers; the others give points, as many
/// numbers to a row as they have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Data {
    /// [`Distribution::Normal`].
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation, above 0.
        std: f64,
    },
    /// [`Distribution::Uniform`].
    Uniform {
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// [`Distribution::Exponential`].
    Exponential {
        /// One over the mean, above 0.
        rate: f64,
    },
    /// [`Distribution::LogNormal`].
    LogNormal {
        /// The mean of the logarithm.
        mu: f64,
        /// The standard deviation of the logarithm, above 0.
        sigma: f64,
    },
    /// [`Distribution::StudentT`].
    StudentT {
        /// Degrees of freedom, above 0.
        degrees: f64,
        /// The middle.
        #[serde(default)]
        location: f64,
        /// The unit, above 0.
        #[serde(default = "one")]
        scale: f64,
    },
    /// [`Distribution::Laplace`].
    Laplace {
        /// The middle.
        location: f64,
        /// The mean distance from the middle, above 0.
        scale: f64,
    },
    /// Normal distributions, of numbers or of points.
    Mixture {
        /// The distributions.
        components: Vec<MixtureComponent>,
    },
    /// Modes on a circle around 0.
    Ring {
        /// How many.
        #[serde(default = "eight")]
        modes: usize,
        /// The circle's radius.
        #[serde(default = "one")]
        radius: f64,
        /// The standard deviation of each mode, above 0.
        std: f64,
    },
    /// Modes on a square grid around 0.
    Grid {
        /// How many in a row.
        #[serde(default = "five")]
        side: usize,
        /// The distance between neighbours.
        #[serde(default = "two")]
        spacing: f64,
        /// The standard deviation of each mode, above 0.
        std: f64,
    },
    /// [`Points::SwissRoll`].
    SwissRoll {
        /// The standard deviation of the noise, at least 0.
        noise: f64,
    },
    /// [`Points::TwoMoons`].
    TwoMoons {
        /// The standard deviation of the noise, at least 0.
        noise: f64,
    },
    /// Numeric columns of a CSV file, each standardised for the networks and mapped back in samples.
    Csv {
        /// The file; relative to the folder that the program runs in.
        path: PathBuf,
        /// Whether its first line names the columns.
        #[serde(default = "yes")]
        header: bool,
        /// The columns to learn, by name or by number from 1; all unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        columns: Option<Vec<ColumnName>>,
    },
}

/// A normal distribution in a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureComponent {
    /// How often it is drawn, above 0, relative to the sum of all weights.
    pub weight: f64,
    /// Its mean: a number, or a list of numbers for points.
    pub mean: Place,
    /// Its standard deviation in each direction, above 0.
    pub std: f64,
}

/// A number or a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or a list of numbers")]
pub enum Place {
    /// A number.
    Number(f64),
    /// A point.
    Point(Vec<f64>),
}

fn one() -> f64 {
    1.0
}

fn two() -> f64 {
    2.0
}

fn five() -> usize {
    5
}

fn eight() -> usize {
    8
}

fn yes() -> bool {
    true
}

/// Real data, ready to be drawn from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Single numbers; a row holds any number of them.
    Numbers(Distribution),
    /// Points.
    Points(Points),
    /// Rows of a table.
    Table(Table),
}

impl Data {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for one out of its range.
    pub(crate) fn check(&self) -> Result<()> {
        if let Self::Csv { .. } = self { Ok(()) } else { self.open().map(drop) }
    }

    /// The data itself: for a table, its file is read.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of its range, what [`Table::read`] refuses.
    pub fn open(&self) -> Result<Source> {
        let numbers = |distribution: Distribution| {
            distribution.check("data")?;
            Ok(Source::Numbers(distribution))
        };
        let refuse = |expected: &str, found: String| {
            Err(Error::Setting { field: "data", expected: expected.to_owned(), found })
        };
        match *self {
            Self::Normal { mean, std } => numbers(Distribution::Normal { mean, std }),
            Self::Uniform { low, high } => numbers(Distribution::Uniform { low, high }),
            Self::Exponential { rate } => numbers(Distribution::Exponential { rate }),
            Self::LogNormal { mu, sigma } => numbers(Distribution::LogNormal { mu, sigma }),
            Self::StudentT { degrees, location, scale } => {
                numbers(Distribution::StudentT { degrees, location, scale })
            }
            Self::Laplace { location, scale } => numbers(Distribution::Laplace { location, scale }),
            Self::Mixture { ref components } => mixture(components),
            Self::Ring { modes, radius, std } => {
                if modes == 0 || !(radius.is_finite() && std.is_finite() && std > 0.0) {
                    let found = format!("modes {modes}, radius {radius}, std {std}");
                    return refuse("at least 1 mode, a finite radius and a std > 0", found);
                }
                Ok(Source::Points(Points::Modes(Modes::ring(modes, radius, std))))
            }
            Self::Grid { side, spacing, std } => {
                let finite = spacing.is_finite() && std.is_finite();
                if !(finite && (1..=1000).contains(&side) && std > 0.0) {
                    let found = format!("side {side}, spacing {spacing}, std {std}");
                    return refuse("a side from 1 to 1000, a finite spacing and a std > 0", found);
                }
                Ok(Source::Points(Points::Modes(Modes::grid(side, spacing, std))))
            }
            Self::SwissRoll { noise } | Self::TwoMoons { noise } if !noise.is_finite() || noise < 0.0 => {
                refuse("a noise >= 0", format!("noise {noise}"))
            }
            Self::SwissRoll { noise } => Ok(Source::Points(Points::SwissRoll { noise })),
            Self::TwoMoons { noise } => Ok(Source::Points(Points::TwoMoons { noise })),
            Self::Csv { ref path, header, ref columns } => {
                Table::read(path, header, columns.as_deref()).map(Source::Table)
            }
        }
    }
}

fn mixture(components: &[MixtureComponent]) -> Result<Source> {
    let number = |c: &MixtureComponent| match c.mean {
        Place::Number(mean) => Some(Component { weight: c.weight, mean, std: c.std }),
        Place::Point(_) => None,
    };
    if let Some(components) = components.iter().map(number).collect::<Option<Vec<_>>>() {
        let distribution = Distribution::Mixture(components);
        distribution.check("data.components")?;
        return Ok(Source::Numbers(distribution));
    }
    let point = |c: &MixtureComponent| match &c.mean {
        Place::Point(mean) => Some(mean.clone()),
        Place::Number(_) => None,
    };
    let means = components.iter().map(point).collect::<Option<Vec<_>>>().unwrap_or_default();
    let fit = |mean: &Vec<f64>| mean.len() == means[0].len() && !mean.is_empty();
    let right =
        |c: &MixtureComponent| c.weight > 0.0 && c.std > 0.0 && c.weight.is_finite() && c.std.is_finite();
    let finite = means.iter().flatten().all(|x| x.is_finite());
    if means.is_empty() || !means.iter().all(fit) || !components.iter().all(right) || !finite {
        let expected = "components of weight > 0 and std > 0 whose means are finite and all of one length";
        let found = format!("{components:?}");
        return Err(Error::Setting { field: "data.components", expected: expected.to_owned(), found });
    }
    let total: f64 = components.iter().map(|component| component.weight).sum();
    let weights = components.iter().map(|component| component.weight / total).collect();
    let stds = components.iter().map(|component| component.std).collect();
    Ok(Source::Points(Points::Modes(Modes { weights, means, stds })))
}

impl Source {
    /// How many numbers a row has; `None` for any.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::Numbers(_) => None,
            Self::Points(points) => Some(points.width()),
            Self::Table(table) => Some(table.width()),
        }
    }

    /// Fills `out` with rows, as the networks see them.
    pub fn fill<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T]) {
        match self {
            Self::Numbers(distribution) => distribution.fill(rng, out),
            Self::Points(points) => points.fill(rng, out),
            Self::Table(table) => table.fill(rng, out),
        }
    }

    /// Maps rows as the networks see them to the data's units.
    pub fn restore<T: Scalar>(&self, rows: &mut [T]) {
        if let Self::Table(table) = self {
            table.restore(rows);
        }
    }

    /// Maps rows in the data's units to what the networks see.
    pub fn standardise<T: Scalar>(&self, rows: &mut [T]) {
        if let Self::Table(table) = self {
            table.standardise(rows);
        }
    }

    /// The names of the columns, where they have any.
    #[must_use]
    pub fn header(&self) -> Option<Vec<&str>> {
        if let Self::Table(table) = self { table.header() } else { None }
    }
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
