//! The IDX format, in which MNIST and its kin come: a magic number, the size of each axis, and bytes.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use tensor_ops::Shape;

use crate::files::open;
use crate::memory::is_there;
use crate::{Error, Result};

/// What gzip files start with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// No images or labels get smaller than by this, though deflate could: what claims to is a decompression bomb. Small files
/// may unpack to so many bytes in any case.
const MOST_DEFLATED: u64 = 200;
const ANYWAY: u64 = 1 << 24;

/// Reads a file of unsigned bytes with so many axes, plain or gzipped: the size of each axis, and the bytes.
///
/// No more is read, or unpacked, than the header says there is, and nothing where the file cannot hold that much.
pub(super) fn read<const AXES: usize>(path: &Path, what: &str) -> Result<([usize; AXES], Vec<u8>)> {
    let failed = |message: String| Error::file(path, message);
    let (file, length) = open(path)?;
    let mut file = BufReader::new(file);
    let zipped = file.fill_buf().map_err(Error::io(path, "read"))?.starts_with(&GZIP);
    let most = if zipped { length.saturating_mul(MOST_DEFLATED).max(ANYWAY) } else { length };
    let mut file: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };

    let mut header = Vec::new();
    let size = 4 + 4 * AXES;
    file.by_ref().take(size as u64).read_to_end(&mut header).map_err(Error::io(path, "read"))?;
    let magic = [0, 0, 8, AXES as u8];
    let found = header.get(..4).unwrap_or(&header);
    if found != magic {
        return Err(failed(format!(
            "expected IDX {what}, which start with {magic:02x?}, found {found:02x?}"
        )));
    }
    if header.len() < size {
        return Err(failed(format!("expected an IDX header of {size} bytes, found {}", header.len())));
    }
    let mut sizes = [0_usize; AXES];
    for (axis, bytes) in sizes.iter_mut().zip(header.get(4..).unwrap_or_default().as_chunks::<4>().0) {
        *axis = u32::from_be_bytes(*bytes) as usize;
    }
    let shape = Shape::new(&sizes).map_err(|error| failed(format!("{what}: {error}")))?;
    let bytes = read_bytes(file, shape, size as u64, most).map_err(|found| {
        failed(format!("expected {} bytes after the header, for {what} {shape}, found {found}", shape.len()))
    })?;
    Ok((sizes, bytes))
}

/// As many bytes as `shape` has elements, after a header of a file that holds at most `most`; else what there is instead.
fn read_bytes(file: impl Read, shape: Shape, header: u64, most: u64) -> std::result::Result<Vec<u8>, String> {
    let expected = shape.len() as u64;
    if expected == 0 {
        return Err("an axis of size 0".to_owned());
    }
    if expected > most.saturating_sub(header) {
        return Err(format!("a file that holds at most {}", most.saturating_sub(header)));
    }
    if !is_there(expected as usize) {
        return Err("no memory for them".to_owned());
    }
    let mut bytes = Vec::new();
    let read = file.take(expected + 1).read_to_end(&mut bytes);
    match (read, bytes.len() as u64) {
        (Err(error), found) => Err(format!("{found} and then: {error}")),
        (Ok(_), found) if found > expected => Err("more".to_owned()),
        (Ok(_), found) if found < expected => Err(found.to_string()),
        _ => Ok(bytes),
    }
}
