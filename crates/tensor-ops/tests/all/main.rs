//! One program: each would compile what is generic in the library anew, which takes longer than all tests.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod convolutions;
mod hostile;
mod loops;
mod products;
