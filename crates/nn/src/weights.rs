//! Tensors in the safetensors format: a header that names them, then their numbers, little-endian.

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, View, serialize};
use tensor_ops::{DType, Scalar, Shape, Tensor};

use crate::{Error, Result};

/// A tensor as the safetensors crate wants to see it.
struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn dtype_of<T: Scalar>() -> Dtype {
    match T::DTYPE {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

fn refuse(tensor: &str, expected: impl Into<String>, found: impl ToString) -> Error {
    Error::Weights { tensor: tensor.to_owned(), expected: expected.into(), found: found.to_string() }
}

/// The bytes of a safetensors file with these tensors, and at most one pair of metadata. The same tensors give
/// the same bytes.
///
/// # Errors
/// [`Error::Weights`] where the format cannot hold them.
pub fn write<'a, T: Scalar>(
    tensors: impl IntoIterator<Item = (String, &'a Tensor<T>)>,
    metadata: Option<(String, String)>,
) -> Result<Vec<u8>> {
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let mut bytes = Vec::with_capacity(tensor.shape().len() * 8);
        tensor.data().iter().for_each(|x| x.append_le_bytes(&mut bytes));
        (name, Bytes { dtype: dtype_of::<T>(), shape: tensor.shape().to_vec(), bytes })
    });
    let metadata = metadata.map(|pair| [pair].into_iter().collect());
    serialize(tensors, metadata).map_err(|error| refuse("file", "tensors that safetensors can hold", error))
}

/// A safetensors file, opened for reading.
pub struct Reader<'a> {
    file: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> Reader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error::Weights`] where `bytes` are not a whole safetensors file.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let broken = |error| refuse("file", "a whole safetensors file", error);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let metadata =
            header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { file: SafeTensors::deserialize(bytes).map_err(broken)?, metadata })
    }

    /// A value of the file's metadata.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The names, types and shapes of the tensors, sorted by name.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, String, Vec<usize>)> {
        let mut all: Vec<_> = self
            .file
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.dtype().to_string(), tensor.shape().to_vec()))
            .collect();
        all.sort();
        all
    }

    /// A tensor of numbers in the precision of the file, which must be that of `T`, all finite.
    ///
    /// # Errors
    /// [`Error::Weights`] where it is missing, or has another type or shape.
    pub fn tensor<T: Scalar>(&self, name: &str, shape: Shape) -> Result<Tensor<T>> {
        let tensor = self.any_tensor(name)?;
        if tensor.shape() == shape {
            Ok(tensor)
        } else {
            Err(refuse(name, format!("shape {shape}"), tensor.shape()))
        }
    }

    /// A tensor of whatever shape it has.
    ///
    /// # Errors
    /// [`Error::Weights`] where it is missing, has another type, or holds a NaN or infinity.
    pub fn any_tensor<T: Scalar>(&self, name: &str) -> Result<Tensor<T>> {
        let found = self.file.tensor(name).map_err(|_| refuse(name, "a tensor of this name", "none"))?;
        if found.dtype() != dtype_of::<T>() {
            return Err(refuse(name, dtype_of::<T>().to_string(), found.dtype()));
        }
        let size = std::mem::size_of::<T>();
        let data: Option<Vec<T>> = found.data().chunks(size).map(T::from_le_bytes).collect();
        let data = data.ok_or_else(|| refuse(name, "whole numbers of bytes", found.data().len()))?;
        if let Some(value) = data.iter().find(|x| !x.is_finite()) {
            return Err(refuse(name, "finite numbers", value));
        }
        Ok(Tensor::from_vec(Shape::new(found.shape())?, data)?)
    }
}
