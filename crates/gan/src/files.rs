//! Writing files so that none is ever half there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::memory::is_there;
use crate::{Error, Result};

/// Reads a file of at most so many bytes.
///
/// # Errors
/// [`Error::Io`] where it cannot be read, [`Error::File`] where it is longer, or longer than there is memory for.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let refuse = |length: u64| {
        let expected =
            if length > most { format!("at most {most} bytes") } else { "what fits into memory".into() };
        Err(Error::file(path, format!("expected {expected}, found {length} bytes")))
    };
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let length = file.metadata().map_err(Error::io(path, "read"))?.len();
    if length > most || !is_there(length as usize) {
        return refuse(length);
    }
    // What is no file, such as a pipe, has no length before its end.
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > most { refuse(bytes.len() as u64) } else { Ok(bytes) }
}

/// The same, of text.
///
/// # Errors
/// As [`read`], and [`Error::File`] where it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Error::file(path, format!("expected UTF-8 text, found other bytes, the first at {place}"))
    })
}

/// Opens a file of data, and says how long it is. What has no end, or never begins, is no such file.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let kind = fs::metadata(path).map_err(Error::io(path, "read"))?;
    if !kind.is_file() {
        let found = if kind.is_dir() { "a folder" } else { "a device or a pipe" };
        return Err(Error::file(path, format!("expected a file, found {found}")));
    }
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    Ok((file, kind.len()))
}

/// Writes a file so that at every moment either the old one or the whole new one is there: beside it, synced, renamed, the
/// folder synced.
///
/// # Errors
/// [`Error::Io`]; what was there before is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    // Of this process alone: another one may write the same file.
    let beside = beside(path, &format!(".{}", std::process::id()));
    let write = || {
        // A process of the same number may have been killed here.
        let _ = fs::remove_file(&beside);
        let mut file = attempt(|| File::options().write(true).create_new(true).open(&beside))?;
        write_all(&mut file, bytes)?;
        attempt(|| file.sync_all())?;
        attempt(|| fs::rename(&beside, path))?;
        sync_folder_of(path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&beside);
        Error::io(path, "write the file")(error)
    })
}

/// Adds to the end of a file, which is made if it is missing, and syncs it.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let append = || {
        let mut file = attempt(|| File::options().create(true).append(true).open(path))?;
        write_all(&mut file, bytes)?;
        attempt(|| file.sync_data())
    };
    append().map_err(Error::io(path, "write"))
}

/// Makes a folder, and those above it, unless it is there.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    attempt(|| fs::create_dir_all(path)).map_err(Error::io(path, "make the folder"))
}

/// Gives a file or folder another name in the same folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let rename = attempt(|| fs::rename(from, to)).and_then(|()| sync_folder_of(to));
    rename.map_err(Error::io(to, "write"))
}

/// Deletes a file.
pub(crate) fn remove(path: &Path) -> Result<()> {
    attempt(|| fs::remove_file(path)).map_err(Error::io(path, "delete"))
}

/// Opens a file that this process alone is to hold, until it is dropped or the process ends; `None` where another one
/// holds it.
pub(crate) fn lock(path: &Path) -> Result<Option<File>> {
    let open = || File::options().create(true).truncate(false).write(true).open(path);
    let file = attempt(open).map_err(Error::io(path, "write"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(Error::io(path, "lock")(error)),
    }
}

/// The hidden name beside `path` under which something is written first.
pub(crate) fn beside(path: &Path, mark: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{mark}.tmp"))
}

/// Deletes what killed processes left half written in a folder, if that is there.
pub(crate) fn remove_strays(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Makes a new name last: it is in its folder.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { attempt(|| File::open(folder)?.sync_all()) } else { Ok(()) }
}

fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    attempt(|| file.write_all(bytes)).inspect_err(|_| {
        // As a full disk does it.
        #[cfg(test)]
        let _ = file.write_all(&bytes[..bytes.len() / 2]);
    })
}

/// A call that changes the disk. Tests let one of them fail.
fn attempt<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(test)]
    failing::next()?;
    call()
}

/// What lets the n-th call fail.
#[cfg(test)]
pub(crate) mod failing {
    use std::cell::Cell;
    use std::io;

    thread_local!(static LEFT: Cell<usize> = const { Cell::new(usize::MAX) });

    /// Lets the call after the next `calls` fail, once, on this thread.
    pub(crate) fn after(calls: usize) {
        LEFT.set(calls);
    }

    /// Whether that is still to come.
    pub(crate) fn is_due() -> bool {
        LEFT.get() != usize::MAX
    }

    pub(super) fn next() -> io::Result<()> {
        let left = LEFT.get();
        LEFT.set(if left == 0 || left == usize::MAX { usize::MAX } else { left - 1 });
        if left == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}
