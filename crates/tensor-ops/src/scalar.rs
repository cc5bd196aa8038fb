//! The number types that tensors hold.

use std::cell::Cell;
use std::fmt::{Debug, Display, LowerExp};
use std::iter::Sum;

use num_traits::{Float, NumAssign};

use crate::functions::Exponential;
use crate::lanes::Vectorised;

/// The type of a tensor's numbers, as files and configurations name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
}

/// A real number that tensors can hold: `f32` for training, `f64` for proving gradients.
pub trait Scalar:
    Vectorised
    + Exponential
    + Float
    + NumAssign
    + nalgebra::Scalar
    + Send
    + Sync
    + Default
    + Sum
    + Debug
    + Display
    + LowerExp
{
    /// The type's name in files.
    const DTYPE: DType;
    /// The value nearest to `value`.
    fn from_f64(value: f64) -> Self;
    /// The value as `f64`, exactly.
    fn as_f64(self) -> f64;
    /// Appends the value's little-endian bytes.
    fn append_le_bytes(self, bytes: &mut Vec<u8>);
    /// Reads a value from its little-endian bytes; `None` unless there are exactly as many as it takes.
    fn from_le_bytes(bytes: &[u8]) -> Option<Self>;
    /// Gives `work` this thread's buffers, whose contents mean nothing but whose memory is kept.
    #[doc(hidden)]
    fn with_buffers<R>(work: impl FnOnce(&mut [Vec<Self>; 2]) -> R) -> R;
    /// As [`Scalar::with_buffers`], for one that is in use meanwhile.
    #[doc(hidden)]
    fn with_whole_buffer<R>(work: impl FnOnce(&mut Vec<Self>) -> R) -> R;
}

macro_rules! scalar {
    ($type:ty, $dtype:expr) => {
        impl Scalar for $type {
            const DTYPE: DType = $dtype;

            #[inline]
            fn from_f64(value: f64) -> Self {
                value as $type
            }

            #[inline]
            fn as_f64(self) -> f64 {
                f64::from(self)
            }

            fn append_le_bytes(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn from_le_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$type>::from_le_bytes)
            }

            fn with_buffers<R>(work: impl FnOnce(&mut [Vec<Self>; 2]) -> R) -> R {
                thread_local!(static BUFFERS: Cell<[Vec<$type>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) });
                let mut buffers = BUFFERS.take();
                let result = work(&mut buffers);
                BUFFERS.set(buffers);
                result
            }

            fn with_whole_buffer<R>(work: impl FnOnce(&mut Vec<Self>) -> R) -> R {
                thread_local!(static BUFFER: Cell<Vec<$type>> = const { Cell::new(Vec::new()) });
                let mut buffer = BUFFER.take();
                let result = work(&mut buffer);
                BUFFER.set(buffer);
                result
            }
        }
    };
}

scalar!(f32, DType::F32);
scalar!(f64, DType::F64);
