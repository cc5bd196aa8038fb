//! Checkpoints of the run whose configuration lies beside those of the tests.
#![no_main]

use std::cell::RefCell;

use gan::{Config, Session};
use libfuzzer_sys::fuzz_target;

const RUN: &str = include_str!("../../../crates/gan/tests/checkpoints/run.toml");

thread_local!(static SESSION: RefCell<Session<f32>> =
    RefCell::new(Session::new(Config::parse(RUN, &[]).unwrap()).unwrap()));

fuzz_target!(|bytes: &[u8]| {
    SESSION.with_borrow_mut(|session| {
        if fuzz::check(session.restore(bytes)).is_some() {
            assert!(session.epoch() <= session.config().train.epochs);
            session.to_checkpoint().unwrap();
        }
    });
});
