//! Coverage-guided fuzzing of everything that the program reads; `cargo xtask fuzz` builds and runs it.
//!
//! A target is a file in `src/bin`; its seeds are in `data`, in the folder of its name.

use std::fs;
use std::path::PathBuf;

/// A file of this process with these bytes, in the folder for such.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("fuzz-{}", std::process::id()));
    let path = folder.join(name);
    // The folder is there but for the first time.
    fs::write(&path, bytes)
        .or_else(|_| {
            fs::create_dir_all(path.parent().unwrap_or(&folder)).and_then(|()| fs::write(&path, bytes))
        })
        .expect("a place for a file");
    path
}

/// Refusing is right; an error must fit on one line once its white space is joined, and say something.
pub fn check<T>(result: gan::Result<T>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().trim().is_empty())).ok()
}
