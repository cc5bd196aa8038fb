//! Where real rows and latents come from.

mod distribution;
mod folder;
mod idx;
mod images;
mod latent;
mod npy;
mod points;
mod table;

use std::path::PathBuf;

use rand::Rng;
use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape};

pub(crate) use distribution::normal;
pub use distribution::{Component, Distribution};
pub use images::{ImageFacts, Images};
pub use latent::Latent;
pub use npy::read_npy;
pub use points::{Modes, Points};
pub use table::{Column, ColumnName, Table};

use crate::{Error, Result};

/// Real data. The one-dimensional kinds give rows of any number of independent numbers; the others give points, as many
/// numbers to a row as they have, or images, rows of the shape height, width, channels.
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
    /// [`Images::digits`].
    Digits {},
    /// [`Images::read_idx`].
    Idx {
        /// The file of images; relative to the folder that the program runs in.
        images: PathBuf,
        /// The file of their labels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        labels: Option<PathBuf>,
    },
    /// [`Images::read_folder`].
    Folder {
        /// The folder; relative to the one that the program runs in.
        path: PathBuf,
        /// The height and the width that pictures are brought to.
        size: [usize; 2],
        /// 1 for grey, 3 for colour.
        #[serde(default = "grey")]
        channels: usize,
        /// Whether each folder in it is a class.
        #[serde(default)]
        labels: bool,
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

fn grey() -> usize {
    1
}

fn yes() -> bool {
    true
}

/// Real data, ready to be drawn from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Single numbers; a row holds any number of them.
    Numbers(Distribution),
    /// Points.
    Points(Points),
    /// Rows of a table.
    Table(Table),
    /// Images.
    Images(Images),
}

/// The most modes of a ring.
const MOST_MODES: usize = 1_000_000;
/// The longest side that pictures of a folder can be brought to.
const LONGEST_SIDE: usize = 4096;

impl Data {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for one out of its range.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            &Self::Folder { size, channels, .. } => check_pictures(size, channels),
            Self::Csv { .. } | Self::Digits {} | Self::Idx { .. } => Ok(()),
            _ => self.open().map(drop),
        }
    }

    /// The data itself: for a table or images, files are read.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting out of its range, what [`Table::read`] and [`Images`] refuse.
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
                let finite = radius.is_finite() && std.is_finite();
                if !((1..=MOST_MODES).contains(&modes) && finite && std > 0.0) {
                    let found = format!("modes {modes}, radius {radius}, std {std}");
                    let expected = format!("1 to {MOST_MODES} modes, a finite radius and a std > 0");
                    return refuse(&expected, found);
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
            Self::Digits {} => Ok(Source::Images(Images::digits())),
            Self::Idx { ref images, ref labels } => {
                Images::read_idx(images, labels.as_deref()).map(Source::Images)
            }
            Self::Folder { ref path, size, channels, labels } => {
                Images::read_folder(path, size, channels, labels).map(Source::Images)
            }
        }
    }

    /// The data for mapping samples back alone: no file is read. What only files tell comes from the checkpoint.
    pub(crate) fn without_rows(&self) -> Result<Source> {
        match self {
            Self::Csv { .. } => Ok(Source::Table(Table::without_rows(Vec::new()))),
            Self::Idx { .. } | Self::Folder { .. } => {
                Ok(Source::Images(Images::without_rows(ImageFacts::default())))
            }
            data => data.open(),
        }
    }
}

/// Refuses a size of pictures, or a number of channels, that they cannot be brought to.
fn check_pictures(size: [usize; 2], channels: usize) -> Result<()> {
    let refuse = |field, expected: String, found: String| Err(Error::Setting { field, expected, found });
    if !size.iter().all(|side| (1..=LONGEST_SIDE).contains(side)) {
        let expected = format!("a height and a width from 1 to {LONGEST_SIDE}");
        return refuse("data.size", expected, format!("{size:?}"));
    }
    if ![1, 3].contains(&channels) {
        return refuse("data.channels", "1 (grey) or 3 (colour)".to_owned(), channels.to_string());
    }
    Ok(())
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
    let fit =
        |mean: &Vec<f64>| means.first().is_some_and(|first| mean.len() == first.len()) && !mean.is_empty();
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
            Self::Images(images) => Some(images.width()),
        }
    }

    /// Whether it is known what a row is: from the data, or from a checkpoint.
    pub(crate) fn is_known(&self) -> bool {
        self.width() != Some(0)
    }

    /// The shape of a row, where it has more than one axis.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        if let Self::Images(images) = self { images.shape() } else { None }
    }

    /// How many classes the rows are of; `None` for data without labels.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        let Self::Images(images) = self else { return None };
        images.facts().classes.as_ref().map(Vec::len)
    }

    /// The number of a class, by its name.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is none of that name.
    pub fn class(&self, name: &str) -> Result<usize> {
        let classes = if let Self::Images(images) = self { images.facts().classes.as_deref() } else { None };
        let place = classes.and_then(|classes| classes.iter().position(|known| known == name));
        place.ok_or_else(|| {
            let expected =
                classes.map_or("none: the data have no classes".to_owned(), |classes| classes.join(", "));
            Error::Setting { field: "label", expected, found: name.to_owned() }
        })
    }

    /// Fills `out` with rows, as the networks see them.
    ///
    /// # Errors
    /// As [`Images::fill`].
    pub fn fill<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T]) -> Result<()> {
        match self {
            Self::Numbers(distribution) => distribution.fill(rng, out),
            Self::Points(points) => points.fill(rng, out),
            Self::Table(table) => table.fill(rng, out),
            Self::Images(images) => images.fill(rng, out)?,
        }
        Ok(())
    }

    /// As [`Source::fill`], from the same random numbers the same rows; their classes, counted from 0, become `labels`,
    /// which stays empty for data without.
    ///
    /// # Errors
    /// As [`Images::fill`].
    pub fn fill_labelled<T: Scalar>(
        &self,
        rng: &mut impl Rng,
        out: &mut [T],
        labels: &mut Vec<usize>,
    ) -> Result<()> {
        labels.clear();
        match self {
            Self::Images(images) => images.fill_labelled(rng, out, labels),
            _ => self.fill(rng, out),
        }
    }

    /// Maps rows as the networks see them to the data's units.
    pub fn restore<T: Scalar>(&self, rows: &mut [T]) {
        match self {
            Self::Table(table) => table.restore(rows),
            Self::Images(images) => images.restore(rows),
            Self::Numbers(_) | Self::Points(_) => {}
        }
    }

    /// Maps rows in the data's units to what the networks see.
    pub fn standardise<T: Scalar>(&self, rows: &mut [T]) {
        match self {
            Self::Table(table) => table.standardise(rows),
            Self::Images(images) => images.standardise(rows),
            Self::Numbers(_) | Self::Points(_) => {}
        }
    }

    /// The names of the columns, where they have any.
    #[must_use]
    pub fn header(&self) -> Option<Vec<&str>> {
        if let Self::Table(table) = self { table.header() } else { None }
    }
}
