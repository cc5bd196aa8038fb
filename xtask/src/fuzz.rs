//! `cargo xtask fuzz`: coverage-guided fuzzing of all that the program reads, by libFuzzer.
//!
//! The targets are programs in `fuzz/src/bin`. They are built apart from all else, since every crate in them counts where
//! it has been. A target starts from its seeds and from what it found before, which is kept where cargo builds.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, cargo, run};

/// The targets, and where their seeds are.
const TARGETS: [(&str, &str); 8] = [
    ("config", "fuzz/data/config"),
    ("csv", "fuzz/data/csv"),
    ("idx", "fuzz/data/idx"),
    ("picture", "fuzz/data/picture"),
    ("latents", "fuzz/data/latents"),
    ("checkpoint", "crates/gan/tests/checkpoints"),
    ("weights", "crates/gan/tests/checkpoints"),
    ("run", "fuzz/data/run"),
];
/// How long each runs, in seconds, unless it is said.
const SECONDS: u64 = 60;
/// What lets a crate count where it has been and what it has compared, for libFuzzer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";
/// What an input may take: in all 256 MB, and a second.
const LIMITS: [&str; 3] = ["-rss_limit_mb=256", "-timeout=1", "-verbosity=0"];

/// Builds the targets and runs each for some seconds; an input that breaks one is kept, and its place shown.
pub(crate) fn fuzz(root: &Path, target: &Path, args: &[OsString]) -> Outcome {
    let seconds = match args {
        [] => SECONDS,
        [only] => {
            only.to_str().and_then(|text| text.parse().ok()).ok_or("`fuzz` takes a number of seconds")?
        }
        _ => return Err("`fuzz` takes at most one argument, SECONDS".into()),
    };
    let folder = target.join("fuzz");
    let host = host()?;
    let mut build = cargo(&["build", "--release", "--locked", "--target", &host, "--manifest-path"]);
    build.arg(root.join("fuzz/Cargo.toml")).arg("--target-dir").arg(&folder).env("RUSTFLAGS", FLAGS);
    run("fuzz", &mut build)?;
    for (name, seeds) in TARGETS {
        let found = folder.join("corpus").join(name);
        fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        let mut fuzzer = Command::new(folder.join(&host).join("release").join(name));
        fuzzer.arg(&found).arg(root.join(seeds)).args(LIMITS).arg(format!("-max_total_time={seconds}"));
        fuzzer.arg(format!("-artifact_prefix={}/{name}-", folder.display())).arg("-print_final_stats=1");
        run("fuzz", &mut fuzzer)?;
        println!("fuzz: {name}: {seconds} s, nothing found");
    }
    Ok(0)
}

/// Whether the targets still compile: without libFuzzer, which needs a C++ compiler, and where all else is built.
pub(crate) fn check(root: &Path, target: &Path) -> Command {
    let mut command = cargo(&["check", "--locked", "--no-default-features", "--manifest-path"]);
    command.arg(root.join("fuzz/Cargo.toml")).arg("--target-dir").arg(target);
    command
}

/// What cargo builds for where it runs: named, so that build scripts are built without the flags.
pub(crate) fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc -vV: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV: expected a line `host: `, found none".into())
}
