//! Matrix products into a buffer of the caller's.
//!
//! Operands of any rank are read as matrices: the last axis is the columns, all others together the rows. nalgebra
//! multiplies large matrices of which the left one is transposed, as weight gradients are; for all others a kernel of
//! this crate's is faster. Which one it is, and how the output is cut into blocks, depends on the function and the shapes.

#![allow(unsafe_code, reason = "panels are written through pointers")]

use crate::elementwise::elements_cost;
use crate::kernel::{Left, Panel, Right, Size, Start};
use crate::parallel::{Parts, for_each_part};
use crate::product::{Matrix, Product};
use crate::{Error, Result, Scalar, Tensor, View};

/// Columns that are summed up together: four lines of a cache.
const COLUMNS: usize = 64;

/// `output = lhs rhs`.
///
/// # Shapes
/// `lhs [m, k]`, `rhs [k, n]`, `output [m, n]`, each collapsed to a matrix.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit.
pub fn matmul<T: Scalar>(lhs: View<'_, T>, rhs: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
    let product = Product::new("matmul", Matrix::new(lhs), Matrix::new(rhs), output.shape())?;
    product.compute(Start::Zero, output.data_mut(), None::<Nothing<T>>);
    Ok(())
}

/// `output = then(lhs rhs + row)`, where `then` changes each number by itself, a stretch at a time, while it is still
/// in the cache: a layer with its bias and activation in one pass.
///
/// # Shapes
/// As [`matmul`]; `row [n]` is added to each row.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit.
pub fn matmul_then<T: Scalar>(
    lhs: View<'_, T>,
    rhs: View<'_, T>,
    row: Option<View<'_, T>>,
    output: &mut Tensor<T>,
    then: impl Fn(&mut [T]) + Sync,
) -> Result<()> {
    let product = Product::new("matmul_then", Matrix::new(lhs), Matrix::new(rhs), output.shape())?;
    let start = match row {
        Some(row) if row.shape().len() != product.size.columns => {
            let expected = format!("a row of {} elements", product.size.columns);
            return Err(Error::Shape { operation: "matmul_then", expected, found: row.shape() });
        }
        Some(row) => Start::Row(row.data()),
        None => Start::Zero,
    };
    product.compute(start, output.data_mut(), Some(then));
    Ok(())
}

/// `output += lhs^T rhs`: the gradient of a kernel from the layer's input and the gradient of its output.
///
/// # Shapes
/// `lhs [k, m]`, `rhs [k, n]`, `output [m, n]`, each collapsed to a matrix.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit.
pub fn add_matmul_tn<T: Scalar>(lhs: View<'_, T>, rhs: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
    let lhs = Matrix::new(lhs).transposed();
    let product = Product::new("add_matmul_tn", lhs, Matrix::new(rhs), output.shape())?;
    product.compute(Start::Output, output.data_mut(), None::<Nothing<T>>);
    Ok(())
}

/// `output +=` the sum of all rows of `input`: the gradient of a bias.
///
/// # Shapes
/// `input [rows, n]`, collapsed to a matrix; `output [n]`.
///
/// # Errors
/// [`Error::Shape`] unless `output` has as many elements as the last axis of `input`.
pub fn add_rows<T: Scalar>(input: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
    let (rows, columns) = input.shape().as_matrix();
    if output.shape().len() != columns {
        let expected = format!("an output of {columns} elements");
        return Err(Error::Shape { operation: "add_rows", expected, found: output.shape() });
    }
    // The product with a row of ones, each of them the same one.
    let lhs = Left { data: &[T::one()], row: 0, inner: 0 };
    let output = Parts::new(output.data_mut());
    for_each_part(columns.div_ceil(COLUMNS), elements_cost(rows * columns), |part| {
        let first = part * COLUMNS;
        let size = Size { rows: 1, inner: rows, columns: COLUMNS.min(columns - first) };
        let rhs = Right { data: input.data().get(first..).unwrap_or_default(), row: columns };
        let panel = Panel { size, lhs, rhs, start: Start::Output, output: output.at(first), stride: columns };
        // SAFETY: the panel lies within the output, and no other has its columns.
        unsafe { panel.multiply() };
    });
    Ok(())
}

/// `output = lhs rhs^T`: the gradient of a layer's input from the gradient of its output and its kernel.
///
/// # Shapes
/// `lhs [m, k]`, `rhs [n, k]`, `output [m, n]`, each collapsed to a matrix.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit.
pub fn matmul_nt<T: Scalar>(lhs: View<'_, T>, rhs: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
    let rhs = Matrix::new(rhs).transposed();
    let product = Product::new("matmul_nt", Matrix::new(lhs), rhs, output.shape())?;
    product.compute(Start::Zero, output.data_mut(), None::<Nothing<T>>);
    Ok(())
}

/// The type of a `then` that is not there.
type Nothing<T> = fn(&mut [T]);
