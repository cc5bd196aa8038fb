//! The folder of a run: its configuration, a NUL, its metrics.
#![no_main]

use gan::RunDirectory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let config = fuzz::file("config.toml", &bytes[..at]);
    fuzz::file("metrics.jsonl", bytes.get(at + 1..).unwrap_or_default());
    if let Some((run, _)) = fuzz::check(RunDirectory::open(config.parent().unwrap())) {
        fuzz::check(run.records());
    }
});
