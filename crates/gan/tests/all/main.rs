//! One program: each would compile what is generic in the library anew, which takes longer than all tests.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod checkpoints;
mod config;
mod cost;
mod data;
mod finite;
mod hostile;
mod images;
mod rules;
mod run;
mod session;
mod steps;
