//! Tensors in the safetensors format: a header that names them, then their numbers, little-endian.
//!
//! What is written here is sealed: its metadata begin with `sha256`, the SHA-256 of the whole file with zeros in the
//! place of those 64 digits. A file whose header begins with a seal is read only if that holds. Files of other programs
//! have none.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use safetensors::tensor::{Dtype, SafeTensors, View, serialize};
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use tensor_ops::{DType, Scalar, Shape, Tensor};

use crate::{Error, Result};

/// How the header of a file with metadata begins, and that of a sealed one.
const METADATA: &[u8] = br#"{"__metadata__":{"#;
const SEAL: &[u8] = br#"{"__metadata__":{"sha256":""#;
/// Where a file has its header, after the header's length; and where a sealed file has the digits.
const HEADER: usize = 8;
const DIGITS: Range<usize> = HEADER + SEAL.len()..HEADER + SEAL.len() + 64;

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

/// The bytes of a sealed safetensors file with these tensors, and a pair of metadata. The same tensors give the same
/// bytes.
///
/// # Errors
/// [`Error::Weights`] where the format cannot hold them.
pub fn write<'a, T: Scalar>(
    tensors: impl IntoIterator<Item = (String, &'a Tensor<T>)>,
    metadata: (&str, String),
) -> Result<Vec<u8>> {
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let mut bytes = Vec::with_capacity(tensor.shape().len() * 8);
        tensor.data().iter().for_each(|x| x.append_le_bytes(&mut bytes));
        (name, Bytes { dtype: dtype_of::<T>(), shape: tensor.shape().to_vec(), bytes })
    });
    let metadata = [(metadata.0.to_owned(), metadata.1)].into_iter().collect();
    let file = serialize(tensors, Some(metadata));
    file.map(seal).map_err(|error| refuse("file", "tensors that safetensors can hold", error))
}

/// Puts a seal before the other metadata of a file. (Two pairs would come out of a map in any order.)
#[expect(
    clippy::indexing_slicing,
    reason = "a safetensors file begins with 8 bytes of length, and its header with metadata, before which the seal is put"
)]
fn seal(mut file: Vec<u8>) -> Vec<u8> {
    let seal = [&SEAL[METADATA.len()..], &[b'0'; DIGITS.end - DIGITS.start], b"\","].concat();
    // The numbers stay aligned to 8 bytes: JSON does not mind spaces.
    let spaces = vec![b' '; seal.len().next_multiple_of(8) - seal.len()];
    let place = HEADER + METADATA.len();
    let longer = (seal.len() + spaces.len()) as u64;
    file.splice(place..place, seal.into_iter().chain(spaces));
    let mut length = [0; HEADER];
    length.copy_from_slice(&file[..HEADER]);
    file[..HEADER].copy_from_slice(&(u64::from_le_bytes(length) + longer).to_le_bytes());
    let digits = digits_of(&file);
    file[DIGITS].copy_from_slice(digits.as_bytes());
    file
}

/// The SHA-256 of a file that is long enough for a seal, with zeros in the place of its digits.
#[expect(clippy::indexing_slicing, reason = "a file is asked for its digits only where it has them")]
fn digits_of(file: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(&file[..DIGITS.start]);
    hash.update([b'0'; DIGITS.end - DIGITS.start]);
    hash.update(&file[DIGITS.end..]);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A safetensors file, opened for reading.
pub struct Reader<'a> {
    file: SafeTensors<'a>,
    metadata: HashMap<String, String>,
    sealed: bool,
}

impl<'a> Reader<'a> {
    /// Reads the header, and, of a sealed file, all of it.
    ///
    /// # Errors
    /// [`Error::Weights`] where `bytes` are not a whole safetensors file, or not what was sealed.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let sealed = bytes.get(HEADER..).is_some_and(|header| header.starts_with(SEAL));
        if sealed && bytes.get(DIGITS).is_none_or(|digits| digits != digits_of(bytes).as_bytes()) {
            return Err(refuse("file", "bytes of the SHA-256 in its header", "others: the file is damaged"));
        }
        let broken = |error| refuse("file", "a whole safetensors file", error);
        let (length, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let metadata =
            header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let entries = entries(bytes.get(HEADER..).and_then(|rest| rest.get(..length)).unwrap_or_default());
        let expected = file.len() + usize::from(header.metadata().is_some());
        if entries != expected {
            return Err(refuse("file", "tensors of different names", "a name twice"));
        }
        Ok(Self { file, metadata, sealed })
    }

    /// Whether the file has a seal: then every byte of it is as it was written.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed
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

/// How many entries a header has, those among them that the safetensors crate takes for one, by their names.
fn entries(header: &[u8]) -> usize {
    struct Count;
    impl<'de> Visitor<'de> for Count {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a header")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<usize, A::Error> {
            let mut count = 0;
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                count += 1;
            }
            Ok(count)
        }
    }
    serde_json::Deserializer::from_slice(header).deserialize_map(Count).unwrap_or(0)
}
