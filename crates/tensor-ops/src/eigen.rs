//! Eigenvalues, by nalgebra.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::{Error, Result, Tensor, View};

/// How many rounds are taken for each row before there is no hope: they are about two.
const MOST_ROUNDS: usize = 1000;

/// The eigenvalues of a symmetric matrix, and its eigenvectors: `matrix = vectors diag(values) vectors^T`. Only the lower
/// triangle is read. Where that holds a number that is not finite, all of them are NaN.
///
/// # Shapes
/// `matrix [n, n]`; n values, and vectors `[n, n]`, one in each column.
///
/// # Errors
/// [`Error::Shape`] for a matrix that is not square.
pub fn symmetric_eigen(matrix: View<'_, f64>) -> Result<(Vec<f64>, Tensor<f64>)> {
    let [rows, columns] = *matrix.shape() else { return Err(not_square(matrix)) };
    if rows != columns {
        return Err(not_square(matrix));
    }
    // Column by column the same numbers: it is symmetric.
    let matrix = DMatrix::from_row_slice(rows, rows, matrix.data());
    let eigen = match rows {
        0 => None,
        _ => SymmetricEigen::try_new(matrix, f64::EPSILON, rows.saturating_mul(MOST_ROUNDS)),
    };
    let Some(eigen) = eigen else {
        return Ok((vec![f64::NAN; rows], Tensor::full([rows, rows], f64::NAN)));
    };
    let vectors = eigen.eigenvectors.transpose();
    Ok((eigen.eigenvalues.as_slice().to_vec(), Tensor::from_vec([rows, rows], vectors.as_slice().to_vec())?))
}

fn not_square(matrix: View<'_, f64>) -> Error {
    Error::Shape {
        operation: "symmetric_eigen",
        expected: "a square matrix".to_owned(),
        found: matrix.shape(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_vectors_give_the_matrix() {
        let matrix = Tensor::from_vec([3, 3], vec![4.0, 1.0, -2.0, 1.0, 3.0, 0.5, -2.0, 0.5, 5.0]).unwrap();
        let (values, vectors) = symmetric_eigen(matrix.view()).unwrap();
        for i in 0..3 {
            for j in 0..3 {
                let at = |row: usize, column: usize| vectors.data()[3 * row + column];
                let sum: f64 = (0..3).map(|k| at(i, k) * values[k] * at(j, k)).sum();
                assert!((sum - matrix.data()[3 * i + j]).abs() < 1e-12);
            }
        }
        assert!(symmetric_eigen(Tensor::zeros([2, 3]).view()).is_err());
    }
}
