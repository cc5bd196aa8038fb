//! The sizes of a tensor's axes.

#![expect(
    clippy::indexing_slicing,
    reason = "a shape has at most `MAX_RANK` axes: what makes one checks that"
)]

use std::fmt;
use std::ops::Deref;

use crate::{Error, Result};

/// The largest number of axes.
pub const MAX_RANK: usize = 6;

/// The sizes of a tensor's axes, outermost first. Small and `Copy`: passing one around allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// A shape from the sizes of its axes.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] for more than [`MAX_RANK`] axes, or more elements than memory can address, axes of 0 left
    /// aside.
    pub fn new(dims: &[usize]) -> Result<Self> {
        let invalid = |problem| Error::InvalidShape { dims: dims.to_vec(), problem };
        if dims.len() > MAX_RANK {
            return Err(invalid("expected at most 6 axes"));
        }
        // An axis of 0 is no leave for others that no memory holds: shapes are made of parts of others.
        let mut filled = dims.iter().filter(|&&dim| dim > 0);
        let elements = filled.try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        if elements.is_none_or(|n| n > isize::MAX as usize / 8) {
            return Err(invalid("expected no more elements than memory can hold"));
        }
        let mut shape = Self { dims: [0; MAX_RANK], rank: dims.len() };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// The number of elements; 1 for a shape without axes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "`is_empty` of the sizes, by Deref, would mean rank 0")]
    pub fn len(&self) -> usize {
        self.iter().fold(1, |product: usize, &dim| product.saturating_mul(dim))
    }

    /// The number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The size of the first axis, 0 for a shape without axes: how many rows a batch has.
    #[must_use]
    pub fn first_dim(&self) -> usize {
        self.first().copied().unwrap_or(0)
    }

    /// The size of the last axis, 1 for a shape without axes.
    #[must_use]
    pub fn last_dim(&self) -> usize {
        self.last().copied().unwrap_or(1)
    }

    /// This shape as a matrix `(rows, columns)`: the last axis is the columns, all others together the rows. Rows that cannot
    /// be counted, where there are no columns, are `usize::MAX`.
    #[must_use]
    pub fn as_matrix(&self) -> (usize, usize) {
        match self.split_last() {
            Some((&columns, outer)) => {
                (outer.iter().fold(1, |rows: usize, &dim| rows.saturating_mul(dim)), columns)
            }
            None => (1, 1),
        }
    }

    /// This shape with `size` put before its first axis: the shape of a batch of such rows.
    ///
    /// # Errors
    /// As [`Shape::new`].
    pub fn with_first(&self, size: usize) -> Result<Self> {
        let mut dims = [0; MAX_RANK + 1];
        dims[0] = size;
        dims[1..=self.rank].copy_from_slice(self);
        Self::new(&dims[..=self.rank])
    }

    /// This shape without its first axis: the shape of one row of a batch.
    #[must_use]
    pub fn without_first(&self) -> Self {
        let mut shape = Self { dims: [0; MAX_RANK], rank: self.rank.saturating_sub(1) };
        shape.dims[..shape.rank].copy_from_slice(self.get(1..).unwrap_or_default());
        shape
    }

    /// This shape with the last axis replaced by one of `size`.
    #[must_use]
    pub fn with_last(mut self, size: usize) -> Self {
        if let Some(last) = self.dims[..self.rank].last_mut() {
            *last = size;
        }
        self
    }

    /// This shape with axis `axis` replaced by one of `size`; unchanged where there is no such axis.
    #[must_use]
    pub fn with_axis(mut self, axis: usize, size: usize) -> Self {
        if let Some(dim) = self.dims[..self.rank].get_mut(axis) {
            *dim = size;
        }
        self
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Self {
        const { assert!(N <= MAX_RANK, "a tensor has at most 6 axes") };
        let mut dims = [0; MAX_RANK];
        dims[..N].copy_from_slice(&sizes);
        Self { dims, rank: N }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_collapses() {
        let shape = Shape::from([2, 3, 4]);
        assert_eq!((shape.len(), shape.rank(), shape.as_matrix()), (24, 3, (6, 4)));
        assert_eq!(shape.without_first(), Shape::from([3, 4]));
        assert_eq!(shape.with_first(5).unwrap(), Shape::from([5, 2, 3, 4]));
        assert_eq!(shape.with_last(1), Shape::from([2, 3, 1]));
        assert_eq!(shape.with_axis(1, 9), Shape::from([2, 9, 4]));
        let scalar = Shape::from([]);
        assert_eq!((shape.last_dim(), scalar.last_dim()), (4, 1));
        assert_eq!((scalar.len(), scalar.as_matrix(), scalar.without_first()), (1, (1, 1), scalar));
    }

    #[test]
    fn refuses_what_no_memory_holds() {
        let error = Shape::new(&[usize::MAX, 2]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("shape [{}, 2]: expected no more elements than memory can hold", usize::MAX)
        );
        let error = Shape::new(&[1; 7]).unwrap_err().to_string();
        assert_eq!(error, "shape [1, 1, 1, 1, 1, 1, 1]: expected at most 6 axes");
        assert!(Shape::from([1; 6]).with_first(1).is_err());
    }
}
