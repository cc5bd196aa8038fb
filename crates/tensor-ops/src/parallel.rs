//! Sharing work among threads without changing a bit of the result.
//!
//! Work is cut into parts by its size alone and every part writes its own piece of the output, so it does not matter
//! which thread does which part, or how many threads there are.
//!
//! A step of a small network lasts twenty microseconds, and waking a thread that sleeps takes as long. Inside
//! [`with_threads`] the threads therefore form a [`Team`] that, for a while after each piece of work, watches for the
//! next one. Elsewhere rayon's own pool shares the work.

#![allow(unsafe_code, reason = "threads work on parts of the same slice")]

use std::cell::Cell;
use std::marker::PhantomData;

use rayon::prelude::*;

use crate::team::{Team, thread_count};
use crate::{Error, Result};

/// The arithmetic of a part that is worth handing to another thread, in multiply-adds or the like: about 3 microseconds
/// of work. Handing it over takes a tenth of that, yet smaller parts have made no step faster.
const PART: usize = 1 << 18;
/// The largest number of parts that work is cut into by [`pieces`].
const MOST_PIECES: usize = 64;

/// More threads than that would be a slip.
const MOST_THREADS: usize = 1024;

thread_local!(static ALONE: Cell<bool> = const { Cell::new(false) });

/// Runs `work` with as many threads as asked for, this one among them; 0 means one for each core.
///
/// # Errors
/// [`Error::Threads`] for more than 1024, and when the system refuses to start them.
pub fn with_threads<R>(threads: usize, work: impl FnOnce() -> R) -> Result<R> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    };
    if threads > MOST_THREADS {
        let reason = format!("expected at most {MOST_THREADS}");
        return Err(Error::Threads { threads, reason });
    }
    let helpers = threads - 1;
    // A pool of 0 threads would be one of a thread for each core.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(helpers.max(1))
        .build()
        .map_err(|error| Error::Threads { threads, reason: error.to_string() })?;
    Ok(pool.in_place_scope(|scope| {
        let team = Team::new(helpers);
        Team::lead(team.clone(), || {
            for index in 1..=helpers {
                let team = team.clone();
                scope.spawn(move |_| alone(|| team.help(index)));
            }
            work()
        })
    }))
}

/// Calls `f(index, item)` for each item, on as many threads as there are. What `f` does in turn is not shared further.
pub fn for_each_shard<S: Send>(items: &mut [S], f: impl Fn(usize, &mut S) + Sync + Send) {
    let count = items.len();
    let items = Parts::new(items);
    for_each_part(count, usize::MAX, |index| {
        // SAFETY: every index comes once.
        unsafe { items.slice(index, 1) }.iter_mut().for_each(|item| f(index, item));
    });
}

/// Calls `f(index, chunk)` for each chunk of `size` elements of `out`, the last one maybe shorter. `cost` is
/// the arithmetic of the whole: where it is small, the calling thread does everything.
pub(crate) fn for_each_chunk<T: Send>(
    out: &mut [T],
    size: usize,
    cost: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let (size, len) = (size.max(1), out.len());
    let out = Parts::new(out);
    for_each_part(len.div_ceil(size), cost, |index| {
        let first = index * size;
        // SAFETY: chunks do not overlap.
        f(index, unsafe { out.slice(first, size.min(len - first)) });
    });
}

/// Calls `f` with each number below `count`. `cost` is the arithmetic of the whole. What `f` does in turn is not shared
/// further, unless there is but one part.
pub(crate) fn for_each_part(count: usize, cost: usize, f: impl Fn(usize) + Sync + Send) {
    if count <= 1 || cost < 2 * PART || ALONE.get() {
        (0..count).for_each(f);
    } else if !alone(|| Team::share(count, &f)) {
        (0..count).into_par_iter().with_max_len(1).for_each(|part| alone(|| f(part)));
    }
}

/// How many threads work that is shared now would be shared among.
pub(crate) fn sharing() -> usize {
    if ALONE.get() { 1 } else { thread_count() }
}

/// Runs `work`, which shares nothing with other threads.
fn alone<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    work()
}

/// How many parts work of this cost is worth cutting into, at most `most`: a power of 2, so that a few threads have
/// equal shares.
pub(crate) fn pieces(cost: usize, most: usize) -> usize {
    let pieces = (cost / PART).min(most).clamp(1, MOST_PIECES);
    1 << pieces.ilog2()
}

/// A slice whose parts several threads write at the same time.
pub(crate) struct Parts<'a, T> {
    data: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: whoever takes parts vouches that they do not overlap, so threads share nothing that is written.
unsafe impl<T: Send> Sync for Parts<'_, T> {}
// SAFETY: as of the slice itself.
unsafe impl<T: Send> Send for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { data: slice.as_mut_ptr(), len: slice.len(), owner: PhantomData }
    }

    /// Where the number at `index` lies.
    pub(crate) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len);
        self.data.wrapping_add(index)
    }

    /// The numbers `first..first + len`.
    ///
    /// # Safety
    /// Nobody else may use any of them meanwhile.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches that parts do not overlap")]
    pub(crate) unsafe fn slice(&self, first: usize, len: usize) -> &mut [T] {
        assert!(len <= self.len && first <= self.len - len);
        // SAFETY: within the slice, and the caller vouches that it is not used elsewhere.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(first), len) }
    }
}
