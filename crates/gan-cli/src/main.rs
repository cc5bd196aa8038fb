//! The program `gan`. Data goes to stdout, everything else to stderr.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::unreachable)]

mod arguments;
mod failure;
mod gallery;
mod pictures;
mod plot;
mod progress;
mod report;
mod sample;
mod signals;
mod train;

use std::io::Write;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    let result = Arguments::read().and_then(|arguments| run(arguments.command));
    match result {
        Ok(code) => code,
        Err(failure) => {
            tell(&failure.to_string());
            failure.code()
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Train(arguments) => train::train(&arguments),
        Command::Resume(arguments) => train::resume(&arguments),
        Command::Sample(arguments) => sample::sample(&arguments),
        Command::Evaluate { run, samples, json } => report::evaluate(&run, samples.as_deref(), json),
        Command::Plot { run, out } => report::plot(&run, out),
        Command::Inspect { path, json } => report::inspect(&path, json),
        Command::Presets { name } => report::presets(name.as_deref()),
    }
}

/// Writes data to stdout. A reader that has gone away, like `head`, is no failure.
fn print(text: &str) -> Result<ExitCode, Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::running(format!("stdout: cannot write: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes a line to stderr, where there is one.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
