//! Generative adversarial networks on the `nn` crate.
//!
//! A generator G turns latents z into fake rows; a discriminator D tells them from real ones; GD, G followed by
//! a frozen D, is what G learns through.
//!
//! * [`Config`] says what a run is: it can be written as TOML, and the same one gives the same run, bit for bit.
//! * [`Trainer`] holds G and D and takes single steps, by its [`Rules`]: an [`Objective`], a [`Penalty`] on D's
//!   gradient, and the like; [`Session`] runs a whole configuration.
//! * [`evaluate`] measures how close samples are to data; [`RunDirectory`] keeps what a run writes.
//!
//! ```
//! use gan::{Config, Session};
//!
//! let config = Config::parse(gan::preset("notebook").unwrap_or_default(), &["train.epochs=2".into()])?;
//! let mut session = Session::<f32>::new(config)?;
//! while !session.is_done() {
//!     session.run_epoch()?;
//! }
//! assert_eq!(session.sample(3, 7, None)?.shape(), [3, 100].into());
//! # Ok::<(), gan::Error>(())
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::unreachable)]

mod augment;
mod config;
mod data;
mod error;
pub mod evaluate;
mod files;
mod memory;
mod objective;
mod penalty;
mod presets;
mod rules;
mod run;
mod score;
mod session;
mod trainer;

pub use augment::Augment;
pub use config::{
    Config, EvaluateConfig, NetworkConfig, OptimizerConfig, OutputConfig, Precision, TrainConfig,
};
pub use data::{
    Column, ColumnName, Component, Data, Distribution, ImageFacts, Images, Latent, MixtureComponent, Modes,
    Place, Points, Source, Table, read_npy,
};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Kind, Measure};
pub use files::{read, read_text, write_atomically};
pub use objective::{Judgement, Objective};
pub use penalty::Penalty;
pub use presets::{PRESETS, preset};
pub use rules::Rules;
pub use run::{RunDirectory, StageRecord, figures};
pub use score::StepScore;
pub use session::{Comparison, Session, StageResult};
pub use trainer::{Average, Combined, Learner, Trainer};
