//! Why the program ends without having done what it was asked.

use std::fmt;
use std::process::ExitCode;

/// A failure: one line, and the exit code that tells scripts what kind it is.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Bad arguments, configuration or input, found before anything was written.
    pub(crate) fn input(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// A failure while running.
    pub(crate) fn running(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// What went wrong with a run's folder: a file is not what it should be, or the run or the system failed.
    pub(crate) fn of_folder(error: gan::Error) -> Self {
        if let gan::Error::File { .. } = error { Self::input(error) } else { Self::running(error) }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.message.split_whitespace().collect();
        write!(f, "error: {}", lines.join(" "))
    }
}
