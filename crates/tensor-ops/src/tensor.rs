//! Tensors that own their numbers, and views that borrow them.

use std::fmt;
use std::ops::Range;

use crate::elementwise::map_in_place;
use crate::{Error, Result, Scalar, Shape};

/// Numbers in row-major order, with a shape.
#[derive(Clone)]
pub struct Tensor<T> {
    shape: Shape,
    /// As many as the shape holds, or more: what a larger shape has left.
    data: Vec<T>,
}

/// A borrowed tensor: a slice in row-major order, with a shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View<'a, T> {
    shape: Shape,
    data: &'a [T],
}

impl<T> Default for Tensor<T> {
    /// A tensor without elements, `[0]`, that allocates nothing: the start of a buffer.
    fn default() -> Self {
        Self { shape: Shape::from([0]), data: Vec::new() }
    }
}

impl<T: Scalar> Tensor<T> {
    /// A tensor of zeros.
    ///
    /// # Panics
    /// As a [`Vec`] does, where it would take more bytes than memory can address.
    #[must_use]
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        Self::full(shape, T::zero())
    }

    /// A tensor whose elements are all `value`.
    ///
    /// # Panics
    /// As [`Tensor::zeros`].
    #[must_use]
    pub fn full(shape: impl Into<Shape>, value: T) -> Self {
        let shape = shape.into();
        Self { shape, data: vec![value; shape.len()] }
    }

    /// A tensor of the given elements, row by row.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are as many as `shape` holds.
    pub fn from_vec(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        check_length(shape, data.len())?;
        Ok(Self { shape, data })
    }

    /// A tensor whose elements are drawn from `next`, row by row.
    ///
    /// # Panics
    /// As [`Tensor::zeros`].
    #[must_use]
    pub fn from_fn(shape: impl Into<Shape>, mut next: impl FnMut() -> T) -> Self {
        let shape = shape.into();
        Self { shape, data: (0..shape.len()).map(|_| next()).collect() }
    }

    /// Gives the buffer another shape. Its contents are unspecified afterwards; memory is kept, so that a
    /// buffer that has been as large before allocates nothing.
    ///
    /// # Panics
    /// As [`Tensor::zeros`]; the buffer is then as before.
    pub fn resize(&mut self, shape: impl Into<Shape>) {
        let shape = shape.into();
        // First what may panic: the shape is never larger than the data.
        if self.data.len() < shape.len() {
            self.data.resize(shape.len(), T::zero());
        }
        self.shape = shape;
    }

    /// Makes this a copy of `view`, in the memory it has.
    pub fn copy_from(&mut self, view: View<'_, T>) {
        self.resize(view.shape);
        self.data_mut().copy_from_slice(view.data);
    }

    /// Sets every element.
    pub fn fill(&mut self, value: T) {
        map_in_place(self, |_| value);
    }

    /// The same numbers in the other precision.
    #[must_use]
    pub fn cast<U: Scalar>(&self) -> Tensor<U> {
        Tensor { shape: self.shape, data: self.data().iter().map(|x| U::from_f64(x.as_f64())).collect() }
    }
}

#[expect(clippy::indexing_slicing, reason = "the shape is never larger than the data")]
impl<T> Tensor<T> {
    /// The sizes of the axes.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The elements, row by row.
    #[must_use]
    pub fn data(&self) -> &[T] {
        &self.data[..self.shape.len()]
    }

    /// The elements, row by row, to be changed.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data[..self.shape.len()]
    }

    /// The whole tensor, borrowed.
    #[must_use]
    pub fn view(&self) -> View<'_, T> {
        View { shape: self.shape, data: self.data() }
    }
}

impl<T: PartialEq> PartialEq for Tensor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

impl<T: fmt::Debug> fmt::Debug for Tensor<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tensor").field("shape", &self.shape).field("data", &self.data()).finish()
    }
}

impl<'a, T> View<'a, T> {
    /// A view of `data`, row by row.
    ///
    /// # Errors
    /// [`Error::Length`] unless `data` has as many elements as `shape` holds.
    pub fn new(shape: impl Into<Shape>, data: &'a [T]) -> Result<Self> {
        let shape = shape.into();
        check_length(shape, data.len())?;
        Ok(Self { shape, data })
    }

    /// The same numbers in another shape.
    ///
    /// # Errors
    /// [`Error::Length`] unless both shapes hold as many elements.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        Self::new(shape, self.data)
    }

    /// The rows `range` of the first axis.
    ///
    /// # Errors
    /// [`Error::Shape`] where the range leaves the tensor.
    #[expect(clippy::indexing_slicing, reason = "rows within the shape are within the data")]
    pub fn rows(self, range: Range<usize>) -> Result<Self> {
        let rows = self.shape.first_dim();
        if range.start > range.end || range.end > rows {
            let expected = format!("rows {}..{}", range.start, range.end);
            return Err(Error::Shape { operation: "rows", expected, found: self.shape });
        }
        let row = self.shape.without_first().len();
        let data = &self.data[range.start * row..range.end * row];
        Ok(Self { shape: self.shape.with_axis(0, range.len()), data })
    }

    /// The sizes of the axes.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The elements, row by row.
    #[must_use]
    pub fn data(&self) -> &'a [T] {
        self.data
    }
}

impl<T: Scalar> View<'_, T> {
    /// A tensor that owns a copy of the numbers.
    #[must_use]
    pub fn to_tensor(self) -> Tensor<T> {
        Tensor { shape: self.shape, data: self.data.to_vec() }
    }
}

fn check_length(shape: Shape, found: usize) -> Result<()> {
    if shape.len() == found { Ok(()) } else { Err(Error::Length { shape, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_share_rows() {
        let tensor = Tensor::from_vec([3, 2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let rows = tensor.view().rows(1..3).unwrap();
        assert_eq!((rows.shape(), rows.data()), (Shape::from([2, 2]), &[2.0, 3.0, 4.0, 5.0][..]));
        assert_eq!(rows.reshape([4]).unwrap().shape(), Shape::from([4]));
        assert_eq!(
            tensor.view().rows(2..4).unwrap_err().to_string(),
            "rows: expected rows 2..4, found [3, 2]"
        );
        let backwards = Range { start: 2, end: 1 };
        assert!(
            tensor.view().rows(backwards).is_err() && tensor.view().rows(3..3).unwrap().data().is_empty()
        );
        assert_eq!(rows.reshape([3]).unwrap_err().to_string(), "shape [3] holds 3 elements, found 4");
    }

    #[test]
    fn numbers_are_copied_and_cast() {
        let tensor = Tensor::from_vec([2, 1], vec![0.5, -3.0]).unwrap();
        let mut copy = Tensor::zeros([5]);
        copy.copy_from(tensor.view());
        assert_eq!(copy, tensor);
        assert_eq!(tensor.cast::<f32>(), Tensor::from_vec([2, 1], vec![0.5_f32, -3.0]).unwrap());
    }

    #[test]
    fn a_buffer_keeps_its_memory() {
        let mut buffer = Tensor::<f32>::zeros([8, 8]);
        let before = buffer.data().as_ptr();
        buffer.resize([2, 3]);
        buffer.fill(1.0);
        assert_eq!((buffer.data(), &buffer), (&[1.0; 6][..], &Tensor::full([2, 3], 1.0)));
        buffer.resize([64]);
        assert_eq!((buffer.data().as_ptr(), buffer.data().len()), (before, 64));
        assert_eq!(buffer.shape(), Shape::from([64]));
    }
}
