//! Matrix products on nalgebra, into a buffer of the caller's.
//!
//! Operands of any rank are read as matrices: the last axis is the columns, all others together the rows.
//! The product is cut into blocks of rows of the output, by its shape alone.

use nalgebra::{DMatrixView, DMatrixViewMut, Dyn};

use crate::parallel::for_each_chunk;
use crate::{Error, Result, Scalar, Shape, Tensor, View};

/// Rows of the output in one block. Enough for the product inside to run at full speed; small enough that two
/// threads have something to share at the sizes of small networks.
const BLOCK_ROWS: usize = 128;
/// Below this many rows, columns or inner elements nalgebra does not reach the fast product inside it.
const SMALLEST_BLOCK: usize = 6;

/// `output = lhs rhs`.
///
/// # Shapes
/// `lhs [m, k]`, `rhs [k, n]`, `output [m, n]`, each collapsed to a matrix.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit.
pub fn matmul<T: Scalar>(lhs: View<'_, T>, rhs: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
    product("matmul", Matrix::new(lhs), Matrix::new(rhs), output)
}

/// `output = lhs^T rhs`: the gradient of a kernel from the layer's input and the gradient of its output.
///
/// # Shapes
/// `lhs [k, m]`, `rhs [k, n]`, `output [m, n]`, each collapsed to a matrix.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit.
pub fn matmul_tn<T: Scalar>(lhs: View<'_, T>, rhs: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
    product("matmul_tn", Matrix::new(lhs).transposed(), Matrix::new(rhs), output)
}

/// `output = lhs rhs^T`: the gradient of a layer's input from the gradient of its output and its kernel.
///
/// # Shapes
/// `lhs [m, k]`, `rhs [n, k]`, `output [m, n]`, each collapsed to a matrix.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit.
pub fn matmul_nt<T: Scalar>(lhs: View<'_, T>, rhs: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
    product("matmul_nt", Matrix::new(lhs), Matrix::new(rhs).transposed(), output)
}

/// A matrix in memory: element (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    data: &'a [T],
    shape: Shape,
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    transposed: bool,
}

impl<'a, T: Scalar> Matrix<'a, T> {
    fn new(view: View<'a, T>) -> Self {
        let (rows, columns) = view.shape().as_matrix();
        let (row_stride, column_stride) = (columns, 1);
        Self {
            data: view.data(),
            shape: view.shape(),
            rows,
            columns,
            row_stride,
            column_stride,
            transposed: false,
        }
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            transposed: !self.transposed,
            ..self
        }
    }

    fn rows_from(self, first: usize, rows: usize) -> Self {
        Self { data: &self.data[first * self.row_stride..], rows, ..self }
    }

    /// nalgebra counts columns first, so a row-major matrix is, to it, the transpose.
    fn transpose_view(&self) -> DMatrixView<'a, T, Dyn, Dyn> {
        let strides = (Dyn(self.column_stride), Dyn(self.row_stride));
        DMatrixView::from_slice_with_strides_generic(
            self.data,
            Dyn(self.columns),
            Dyn(self.rows),
            strides.0,
            strides.1,
        )
    }
}

fn product<T: Scalar>(
    operation: &'static str,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    output: &mut Tensor<T>,
) -> Result<()> {
    let (m, k, n) = (lhs.rows, lhs.columns, rhs.columns);
    if rhs.rows != k {
        let expected = format!("the inner size {k} of lhs {} in rhs", lhs.shape);
        return Err(Error::Shape { operation, expected, found: rhs.shape });
    }
    if output.shape().as_matrix() != (m, n) {
        let expected = format!("an output of {m} rows and {n} columns");
        return Err(Error::Shape { operation, expected, found: output.shape() });
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    if k == 0 {
        output.fill(T::zero());
        return Ok(());
    }
    let block_rows = if m <= BLOCK_ROWS { m.div_ceil(2) } else { BLOCK_ROWS };
    for_each_chunk(output.data_mut(), block_rows * n, m * n * k, |index, block| {
        let rows = block.len() / n;
        let lhs = lhs.rows_from(index * block_rows, rows);
        if rows.min(n).min(k) < SMALLEST_BLOCK {
            return small_product(lhs, rhs, block);
        }
        // (lhs rhs)^T = rhs^T lhs^T, and a block of rows of the output is one of columns to nalgebra.
        DMatrixViewMut::from_slice(block, n, rows).gemm(
            T::one(),
            &rhs.transpose_view(),
            &lhs.transpose_view(),
            T::zero(),
        );
    });
    Ok(())
}

/// The product of matrices so thin that packing them costs more than multiplying them.
fn small_product<T: Scalar>(lhs: Matrix<'_, T>, rhs: Matrix<'_, T>, output: &mut [T]) {
    if rhs.columns == 1 && lhs.rows > 1 {
        // A column lies in memory as a row does: x^T (lhs^T) has the same numbers as lhs x.
        return small_product(rhs.transposed(), lhs.transposed(), output);
    }
    for (i, row) in output.chunks_exact_mut(rhs.columns).enumerate() {
        let factors = &lhs.data[i * lhs.row_stride..];
        if rhs.transposed {
            for (out, line) in row.iter_mut().zip(rhs.data.chunks_exact(rhs.column_stride)) {
                *out = dot(factors, lhs.column_stride, line);
            }
        } else {
            row.fill(T::zero());
            add_multiples(lhs.columns, (factors, lhs.column_stride), (rhs.data, rhs.row_stride), row);
        }
    }
}

/// Adds to `row` the lines of a matrix, each times its factor. What lies `stride` apart is given as `(data,
/// stride)`.
fn add_multiples<T: Scalar>(
    count: usize,
    (factors, factor_stride): (&[T], usize),
    (lines, line_stride): (&[T], usize),
    row: &mut [T],
) {
    let width = row.len();
    let factor = |k: usize| factors[k * factor_stride];
    let line = |k: usize| &lines[k * line_stride..][..width];
    let mut k = 0;
    while k + 4 <= count {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| factor(k + i));
        let [x, y, z, w] = [0, 1, 2, 3].map(|i| line(k + i));
        for ((((out, &x), &y), &z), &w) in row.iter_mut().zip(x).zip(y).zip(z).zip(w) {
            *out += (a * x + b * y) + (c * z + d * w);
        }
        k += 4;
    }
    for k in k..count {
        let factor = factor(k);
        row.iter_mut().zip(line(k)).for_each(|(out, &x)| *out += factor * x);
    }
}

/// The inner product of a strided and a plain vector, in lanes that a processor can add side by side.
fn dot<T: Scalar>(a: &[T], stride: usize, b: &[T]) -> T {
    const LANES: usize = 16;
    if stride != 1 {
        return b.iter().enumerate().map(|(k, &b)| a[k * stride] * b).sum();
    }
    let (a, b) = (a[..b.len()].chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| a * b).sum::<T>();
    let mut sums = [T::zero(); LANES];
    for (a, b) in a.zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (&a, &b))| *sum += a * b);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let other = sums[lane + half];
            sums[lane] += other;
        }
        half /= 2;
    }
    sums[0] + tail
}
