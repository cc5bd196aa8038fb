//! Dense tensors of `f32` and `f64` and the few operations that neural networks are made of.
//!
//! * [`Tensor`] owns numbers in row-major order, [`View`] borrows them; both carry a [`Shape`].
//! * [`matmul`], [`matmul_then`], [`add_matmul_tn`] and [`matmul_nt`] are matrix products into a buffer of the caller's.
//! * [`Convolution`] multiplies patches of images.
//! * [`sum_axis`], [`map`] and [`zip`] reduce and transform.
//! * [`DualNumber`] is a number that carries its derivative through all of these.
//!
//! Large operations are shared among the threads of [`with_threads`]. How an operation is cut into pieces
//! depends on the shapes alone, and the pieces are put together in a fixed order, so a result has the same
//! bits at any number of threads.
//!
//! ```
//! use tensor_ops::{Tensor, matmul};
//!
//! let a = Tensor::from_vec([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! let b = Tensor::from_vec([3, 1], vec![1.0, 0.0, -1.0])?;
//! let mut product = Tensor::zeros([2, 1]);
//! matmul(a.view(), b.view(), &mut product)?;
//! assert_eq!(product.data(), [-2.0, -2.0]);
//! # Ok::<(), tensor_ops::Error>(())
//! ```

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::unreachable)]
#![cfg_attr(not(test), warn(clippy::undocumented_unsafe_blocks))]

mod conv;
mod dots;
mod dual;
mod eigen;
mod elementwise;
mod error;
mod functions;
mod kernel;
mod lanes;
mod matmul;
mod parallel;
mod patches;
mod product;
mod reduce;
mod scalar;
mod shape;
mod team;
mod tensor;
mod winograd;

pub use conv::Convolution;
pub use dual::DualNumber;
pub use eigen::symmetric_eigen;
pub use elementwise::{map, map_in_place, map_slice, update, zip, zip_in_place};
pub use error::{Error, Result};
pub use functions::{exp, exp_m1_of_negative, sigmoid, softplus, tanh};
pub use kernel::multiply_adds;
pub use matmul::{add_matmul_tn, add_rows, matmul, matmul_nt, matmul_then};
pub use parallel::{for_each_shard, with_threads};
pub use reduce::{all_finite, sum, sum_axis};
pub use scalar::{DType, Scalar};
pub use shape::{MAX_RANK, Shape};
pub use team::{thread_count, thread_index};
pub use tensor::{Tensor, View};
