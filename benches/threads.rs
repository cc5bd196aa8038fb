//! Work timed on a given number of threads.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long `iterations` calls of `work` take on `threads` threads. Starting the threads is not counted.
pub(crate) fn timed<R>(threads: usize, iterations: u64, mut work: impl FnMut() -> R + Send) -> Duration {
    let calls = move || {
        let start = Instant::now();
        for _ in 0..iterations {
            black_box(work());
        }
        start.elapsed()
    };
    tensor_ops::with_threads(threads, calls).expect("the system starts a few threads")
}
