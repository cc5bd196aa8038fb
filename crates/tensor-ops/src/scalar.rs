//! The number types that tensors hold.

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

/// What a thread's buffers are for; each can be in use while the others are.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub enum Buffer {
    /// A right side of a product, packed as a whole.
    Whole,
    /// A panel of one.
    Panel,
    /// Rows of a left side.
    Rows,
}

/// A real number that tensors can hold: `f32` for training, `f64` and [`DualNumber`](crate::DualNumber) for proving gradients.
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
    /// Gives `work` so many numbers of one of this thread's buffers. Their contents mean nothing, but the memory is kept.
    #[doc(hidden)]
    fn with_buffer<R>(buffer: Buffer, len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
}

/// [`Scalar::with_buffer`], which is written for each type, since a thread's buffers cannot be generic.
macro_rules! buffers {
    ($type:ty) => {
        #[expect(clippy::indexing_slicing, reason = "there is a buffer of each kind, as long as asked for")]
        fn with_buffer<R>(buffer: Buffer, len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
            use std::cell::Cell;
            thread_local!(static BUFFERS: [Cell<Vec<$type>>; 3] = const { [const { Cell::new(Vec::new()) }; 3] });
            let mut numbers = BUFFERS.with(|buffers| buffers[buffer as usize].take());
            if numbers.len() < len {
                numbers.resize(len, <$type>::default());
            }
            let result = work(&mut numbers[..len]);
            BUFFERS.with(|buffers| buffers[buffer as usize].set(numbers));
            result
        }
    };
}
pub(crate) use buffers;

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

            buffers!($type);
        }
    };
}

scalar!(f32, DType::F32);
scalar!(f64, DType::F64);
