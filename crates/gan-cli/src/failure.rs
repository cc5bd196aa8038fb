//! Why the program ends without having done what it was asked.

use std::fmt;
use std::process::ExitCode;

/// How much is shown of each end of a long message, in characters.
const LONGEST: usize = 400;

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

    /// What went wrong with files: one is not what it should be, or the run or the system failed.
    pub(crate) fn of_files(error: gan::Error) -> Self {
        if let gan::Error::File { .. } = error { Self::input(error) } else { Self::running(error) }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.message.split_whitespace().collect();
        let line: Vec<char> = words.join(" ").chars().collect();
        let text = |part: &[char]| part.iter().collect::<String>();
        if line.len() <= 2 * LONGEST {
            return write!(f, "error: {}", text(&line));
        }
        // What was found may be as long as a file.
        let (start, end) = (line.get(..LONGEST), line.get(line.len() - LONGEST..));
        write!(f, "error: {} ... {}", text(start.unwrap_or_default()), text(end.unwrap_or_default()))
    }
}
