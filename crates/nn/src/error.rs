//! What can go wrong in a network.

use tensor_ops::Shape;

/// The result of an operation on a network.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a network could not be built, run, trained, read or written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on tensors failed.
    #[error(transparent)]
    Tensor(#[from] tensor_ops::Error),
    /// Something was given a shape that it cannot take.
    #[error("{place}: expected {expected}, found {found}")]
    Shape {
        /// The layer, loss or method.
        place: String,
        /// What would have fitted.
        expected: String,
        /// The shape that was given.
        found: Shape,
    },
    /// A setting is out of its range.
    #[error("{place}: {setting}: expected {expected}, found {found}")]
    Setting {
        /// The layer, loss or optimizer.
        place: String,
        /// The setting's name.
        setting: &'static str,
        /// The values that it can have.
        expected: &'static str,
        /// The value that it was given.
        found: String,
    },
    /// An expression of a Lambda layer cannot be read.
    #[error("expression `{source_text}`: at column {column}: expected {expected}, found {found}")]
    Expression {
        /// The whole expression.
        source_text: String,
        /// Where, counted in characters from 1.
        column: usize,
        /// What could have stood there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A number that stands for one of several things stands for none of them, or is missing.
    #[error("{place}: expected {expected}, found {found}")]
    Index {
        /// The layer.
        place: &'static str,
        /// The numbers that there can be.
        expected: String,
        /// The number that was given.
        found: String,
    },
    /// A number is NaN or infinite where none may be.
    #[error("{what} is {value}: expected a finite number")]
    NotFinite {
        /// What the number is.
        what: String,
        /// The number.
        value: f64,
    },
    /// A file of weights does not fit the network, or is none.
    #[error("weights: {tensor}: expected {expected}, found {found}")]
    Weights {
        /// The tensor, or the file's header.
        tensor: String,
        /// What would have fitted.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A gradient penalty reached a layer that does not say how its gradient changes.
    #[error("{layer}: expected a layer with tangents, which gradient penalties need, found none")]
    NoTangents {
        /// The layer's name.
        layer: &'static str,
    },
    /// A gradient is wrong.
    #[error(
        "gradient of {tensor} at {index:?}: backward gives {analytic:e}, {by} {numeric:e}, \
         relative error {relative_error:e}"
    )]
    Gradient {
        /// The layer and the input or parameter.
        tensor: String,
        /// The element's place.
        index: Vec<usize>,
        /// What `backward` gave.
        analytic: f64,
        /// What it was compared with.
        by: &'static str,
        /// What that gave.
        numeric: f64,
        /// Their difference over the largest magnitude in that gradient.
        relative_error: f64,
    },
}

/// Refuses a setting unless `ok`.
pub(crate) fn check_setting(
    ok: bool,
    place: &str,
    setting: &'static str,
    expected: &'static str,
    found: impl ToString,
) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Setting { place: place.to_owned(), setting, expected, found: found.to_string() })
}
