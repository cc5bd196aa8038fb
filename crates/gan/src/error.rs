//! What can go wrong in a run.

use std::path::{Path, PathBuf};

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a run could not be started, continued or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A network failed; `place` says which.
    #[error("{place}: {source}")]
    Network {
        /// `generator`, `discriminator` or the like.
        place: &'static str,
        /// What it said.
        source: nn::Error,
    },
    /// A configuration cannot be read. The line is counted from 1.
    #[error("{}{message}", line.map(|n| format!("line {n}: ")).unwrap_or_default())]
    Syntax {
        /// Where, if it is known.
        line: Option<usize>,
        /// What was expected and found.
        message: String,
    },
    /// A setting has a value that it cannot have.
    #[error("{field}: expected {expected}, found {found}")]
    Setting {
        /// The setting's path in the configuration.
        field: &'static str,
        /// The values that it can have.
        expected: String,
        /// The value that it has.
        found: String,
    },
    /// A run was begun by another configuration.
    #[error(
        "the run's configuration has changed: {}; only train.epochs, evaluate.require and [output] may",
        differences.join("; ")
    )]
    Changed {
        /// The settings that differ: what the run was begun with, and what was found.
        differences: Vec<String>,
    },
    /// Training produced a number that is NaN or infinite.
    #[error(
        "epoch {epoch}, {step}: {what} is {value}: expected a finite number; a lower learning rate may help"
    )]
    NotFinite {
        /// The epoch, from 1.
        epoch: u64,
        /// Which step of the epoch.
        step: String,
        /// What the number is.
        what: String,
        /// The number.
        value: f64,
    },
    /// A checkpoint, or another file of a run, does not hold what it should.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// The system refused to read or write.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn network(place: &'static str) -> impl Fn(nn::Error) -> Self {
        move |source| Self::Network { place, source }
    }

    pub(crate) fn io(path: &Path, action: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), message: message.into() }
    }
}
