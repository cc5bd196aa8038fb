//! Operations on each element by itself.

use crate::parallel::for_each_chunk;
use crate::{Error, Result, Scalar, Tensor, View};

/// How many elements one thread takes at a time.
const CHUNK: usize = 1 << 14;
/// What one element costs, in the units of `for_each_chunk`: a cheap guess for a function like `exp`.
const COST: usize = 8;

/// `output[i] = f(input[i])`; `output` takes the shape of `input`.
pub fn map<T: Scalar>(input: View<'_, T>, output: &mut Tensor<T>, f: impl Fn(T) -> T + Sync + Send) {
    output.resize(input.shape());
    let source = input.data();
    for_each_chunk(output.data_mut(), CHUNK, source.len() * COST, |index, chunk| {
        let source = &source[index * CHUNK..][..chunk.len()];
        chunk.iter_mut().zip(source).for_each(|(y, &x)| *y = f(x));
    });
}

/// `tensor[i] = f(tensor[i])`.
pub fn map_in_place<T: Scalar>(tensor: &mut Tensor<T>, f: impl Fn(T) -> T + Sync + Send) {
    let cost = tensor.shape().len() * COST;
    for_each_chunk(tensor.data_mut(), CHUNK, cost, |_, chunk| chunk.iter_mut().for_each(|x| *x = f(*x)));
}

/// `output[i] = f(a[i], b[i])`; `output` takes the shape of `a`.
///
/// # Errors
/// [`Error::Shape`] unless `a` and `b` have the same number of elements.
pub fn zip<T: Scalar>(
    a: View<'_, T>,
    b: View<'_, T>,
    output: &mut Tensor<T>,
    f: impl Fn(T, T) -> T + Sync + Send,
) -> Result<()> {
    check_same_len("zip", a.shape().len(), b)?;
    output.resize(a.shape());
    let (a, b) = (a.data(), b.data());
    for_each_chunk(output.data_mut(), CHUNK, a.len() * COST, |index, chunk| {
        let a = &a[index * CHUNK..][..chunk.len()];
        let b = &b[index * CHUNK..][..chunk.len()];
        chunk.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = f(a, b));
    });
    Ok(())
}

/// `tensor[i] = f(tensor[i], other[i])`.
///
/// # Errors
/// [`Error::Shape`] unless both have the same number of elements.
pub fn zip_in_place<T: Scalar>(
    tensor: &mut Tensor<T>,
    other: View<'_, T>,
    f: impl Fn(T, T) -> T + Sync + Send,
) -> Result<()> {
    check_same_len("zip_in_place", tensor.shape().len(), other)?;
    let other = other.data();
    for_each_chunk(tensor.data_mut(), CHUNK, other.len() * COST, |index, chunk| {
        let other = &other[index * CHUNK..][..chunk.len()];
        chunk.iter_mut().zip(other).for_each(|(x, &y)| *x = f(*x, y));
    });
    Ok(())
}

/// Adds `row` to each row of `tensor`, whose last axis it must match.
///
/// # Errors
/// [`Error::Shape`] unless `row` has as many elements as the last axis of `tensor`.
pub fn add_row<T: Scalar>(tensor: &mut Tensor<T>, row: View<'_, T>) -> Result<()> {
    let (rows, columns) = tensor.shape().as_matrix();
    check_same_len("add_row", columns, row)?;
    if columns == 0 {
        return Ok(());
    }
    let chunk = columns * (CHUNK / columns).max(1);
    for_each_chunk(tensor.data_mut(), chunk, rows * columns, |_, chunk| {
        for line in chunk.chunks_exact_mut(columns) {
            line.iter_mut().zip(row.data()).for_each(|(x, &bias)| *x += bias);
        }
    });
    Ok(())
}

fn check_same_len<T>(operation: &'static str, expected: usize, found: View<'_, T>) -> Result<()> {
    if found.shape().len() == expected {
        return Ok(());
    }
    Err(Error::Shape { operation, expected: format!("{expected} elements"), found: found.shape() })
}
