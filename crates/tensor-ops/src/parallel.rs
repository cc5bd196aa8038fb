//! Sharing work among threads without changing a bit of the result.
//!
//! Work is cut into pieces by its size alone and every piece writes its own part of the output, so it does
//! not matter which thread does which piece, or how many threads there are.

use rayon::prelude::*;

use crate::{Error, Result};

/// Below this much arithmetic (in multiply-adds or element visits) waking another thread costs more than it
/// brings: about 20 microseconds of work.
const WORTH_SHARING: usize = 1 << 20;

/// Runs `work` with as many threads as asked for; 0 means one for each core.
///
/// # Errors
/// [`Error::Threads`] when the system refuses to start them.
pub fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
    Ok(pool.install(work))
}

/// Calls `f(index, chunk)` for each chunk of `size` elements of `out`, the last one maybe shorter. `cost` is
/// the arithmetic of the whole: where it is small, the calling thread does everything.
pub(crate) fn for_each_chunk<T: Send>(
    out: &mut [T],
    size: usize,
    cost: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let size = size.max(1);
    if cost < WORTH_SHARING || out.len() <= size {
        out.chunks_mut(size).enumerate().for_each(|(index, chunk)| f(index, chunk));
    } else {
        out.par_chunks_mut(size).enumerate().for_each(|(index, chunk)| f(index, chunk));
    }
}
