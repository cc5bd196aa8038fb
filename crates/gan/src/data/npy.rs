//! Numbers from .npy files, NumPy's format for arrays.

use std::path::Path;

use tensor_ops::{Scalar, Shape, Tensor};

use crate::files::read;
use crate::{Error, Result};

/// The longest header of a file, in bytes; of numbers it takes 128.
const MOST_HEADER: usize = 1024;

/// An array from a .npy file of 32- or 64-bit floating point numbers, in row-major order, all finite.
///
/// # Errors
/// [`Error::Io`] where it cannot be read, [`Error::File`] where it is not what it should be.
pub fn read_npy<T: Scalar>(path: &Path) -> Result<Tensor<T>> {
    let failed = |problem: String| Error::file(path, problem);
    let bytes = read(path, u64::MAX)?;
    check_header(&bytes).map_err(failed)?;
    let file =
        npyz::NpyFile::new(&bytes[..]).map_err(|error| failed(format!("expected a .npy file: {error}")))?;
    if file.order() != npyz::Order::C {
        return Err(failed("expected row-major (C) order, found column-major (Fortran) order".to_owned()));
    }
    let dims: Vec<usize> =
        file.shape().iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    let shape = Shape::new(&dims).map_err(|error| failed(error.to_string()))?;
    if shape.len() > bytes.len() {
        return Err(failed(format!("expected {shape} numbers, found {} bytes", bytes.len())));
    }
    let dtype = file.dtype().descr();
    let read_as = |error: std::io::Error| failed(format!("expected {shape} numbers, found less: {error}"));
    let values: Vec<f64> = match file.try_data::<f64>() {
        Ok(data) => data.collect::<std::io::Result<_>>().map_err(read_as)?,
        Err(file) => match file.try_data::<f32>() {
            Ok(data) => data.map(|x| x.map(f64::from)).collect::<std::io::Result<_>>().map_err(read_as)?,
            Err(_) => {
                return Err(failed(format!("expected 32- or 64-bit floating point numbers, found {dtype}")));
            }
        },
    };
    if let Some((place, found)) = values.iter().enumerate().find(|(_, x)| !T::from_f64(**x).is_finite()) {
        return Err(failed(format!("number {place}: expected a finite number, found {found}")));
    }
    let values = values.into_iter().map(T::from_f64).collect();
    Tensor::from_vec(shape, values).map_err(|error| failed(error.to_string()))
}

/// Refuses what is not the short header of an array of numbers, before a parser of all headers sees it: one that nests
/// deep would exhaust the stack, one that is long the memory.
fn check_header(bytes: &[u8]) -> std::result::Result<(), String> {
    let start = if bytes.get(6) == Some(&1) { 10 } else { 12 };
    let length = bytes
        .get(8..start)
        .map(|length| length.iter().rev().fold(0, |all, &byte| all << 8 | usize::from(byte)));
    let header = length.and_then(|length| bytes.get(start..)?.get(..length));
    let Some(header) = header.filter(|_| bytes.starts_with(b"\x93NUMPY")) else {
        return Err("expected a whole .npy file, found another or less".to_owned());
    };
    let text = String::from_utf8_lossy(header);
    let has = |bracket| text.matches(bracket).count();
    if header.len() > MOST_HEADER || has('[') > 0 || has('(') > 1 || has('{') > 1 {
        return Err(format!(
            "expected the header of an array of numbers, found one of {} bytes",
            header.len()
        ));
    }
    let shape =
        text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(shape, _)| shape);
    // Sizes are decimal here: the parser would take others too, and multiply without a check.
    let mut sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    match sizes.try_fold(1_u64, |all, size| all.checked_mul(size.parse().ok()?)) {
        Some(1..) => Ok(()),
        _ => Err(format!("expected a shape of 1 to 2^64 - 1 numbers, found ({shape})")),
    }
}
