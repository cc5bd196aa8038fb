//! What can go wrong: shapes that do not fit, and a thread pool that does not start.

use crate::Shape;

/// The result of a tensor operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that could not be done; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operand's shape does not fit the operation.
    #[error("{operation}: expected {expected}, found {found}")]
    Shape {
        /// The operation, by its function's name.
        operation: &'static str,
        /// What would have fitted.
        expected: String,
        /// The shape that was given.
        found: Shape,
    },
    /// A shape that no tensor can have.
    #[error("shape {dims:?}: {problem}")]
    InvalidShape {
        /// The sizes that were given.
        dims: Vec<usize>,
        /// Why no tensor can have them.
        problem: &'static str,
    },
    /// A shape and a number of elements that do not belong together.
    #[error("shape {shape} holds {} elements, found {found}", shape.len())]
    Length {
        /// The shape.
        shape: Shape,
        /// The number of elements given.
        found: usize,
    },
    /// The thread pool could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
}
