#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::unreachable)]

mod activation;
mod error;
mod finite;
pub mod gradcheck;
mod initializers;
mod layer;
pub mod layers;
mod losses;
pub mod metrics;
mod mode;
mod model;
mod network;
mod optimizers;
mod schedule;
mod shards;
pub mod weights;

pub use activation::Activation;
pub use error::{Error, Result};
pub use finite::{check_finite, check_parameters};
pub use initializers::Initializer;
pub use layer::{Dual, Layer, Parameter, ParameterSpec, WHOLE_BATCH, Wanted, Workspace};
pub use losses::Loss;
pub use mode::Mode;
pub use model::{Epoch, Fit, Model, Score};
pub use network::Network;
pub use optimizers::{Adam, AdamW, Optimizer, OptimizerState, RmsProp, Sgd, clip_norm};
pub use schedule::{Schedule, ScheduleShape};
pub use shards::{Load, Shards};
pub use tensor_ops::{DualNumber, Scalar, Shape, Tensor, View};
