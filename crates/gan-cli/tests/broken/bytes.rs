//! Ways to break bytes.

use std::io::{Read, Write};

/// The bytes up to each of about `count` lengths, spread evenly, all shorter than the whole.
pub(crate) fn cut(bytes: &[u8], count: usize) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    let step = bytes.len().div_ceil(count).max(1);
    (0..bytes.len()).step_by(step).map(|length| (length, bytes[..length].to_vec()))
}

/// The bytes with others put at a place.
pub(crate) fn put(bytes: &[u8], place: usize, other: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[place..place + other.len()].copy_from_slice(other);
    changed
}

/// The bytes with one of them changed in one bit.
pub(crate) fn flipped(bytes: &[u8], place: usize) -> Vec<u8> {
    put(bytes, place, &[bytes[place] ^ 1 << (place % 8)])
}

pub(crate) fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What was zipped, unless that is broken.
pub(crate) fn unzipped(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut all).ok().map(|_| all)
}

/// So many zeros, gzipped, after these bytes.
pub(crate) fn bomb(start: &[u8], megabytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(start).unwrap();
    (0..megabytes).for_each(|_| encoder.write_all(&[0; 1 << 20]).unwrap());
    encoder.finish().unwrap()
}
