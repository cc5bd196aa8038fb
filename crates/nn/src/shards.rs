//! A batch cut into shards of rows, each of which goes through all of a step on one thread while its numbers are in
//! the cache.
//!
//! How a batch is cut depends on its size and the networks alone, and gradients and scores are added up in the order of
//! the rows, so a step has the same bits at any number of threads. It also bounds memory: what a pass remembers is kept
//! for a few shards, not for the batch.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tensor_ops::{Scalar, Tensor, for_each_shard, thread_count, thread_index, zip_in_place};

use crate::Result;
use crate::layers::least_common_multiple;

/// Numbers that the layers put out for the rows of one shard: with their gradients they fill a second-level cache.
const CACHED: usize = 1 << 17;
/// Multiply-adds that are worth a shard of their own: about 5 microseconds of work.
const WORTHWHILE: usize = 1 << 18;
/// Multiply-adds for each parameter in a shard at least, since each shard reads all kernels and writes all their
/// gradients; and one more for so many parameters, since what does not fit into a cache is slower to reach.
const REUSE: usize = 16;
const MORE_REUSE: usize = 1 << 12;
/// Shards that can be worked on at the same time. Each has gradients and passes of its own.
const LANES: usize = 16;
/// Below that, shards come in multiples of this, so that a few threads have equal shares.
const SHARE: usize = 4;

/// What a step costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Multiply-adds of a forward pass for each row.
    pub multiply_adds: usize,
    /// Numbers that all layers together put out for each row.
    pub outputs: usize,
    /// Numbers that are learned.
    pub parameters: usize,
    /// How many rows that follow each other have to stay in one shard: see [`Layer::rows_together`].
    ///
    /// [`Layer::rows_together`]: crate::Layer::rows_together
    pub together: usize,
    /// Whether the whole batch has to, as [`WHOLE_BATCH`](crate::WHOLE_BATCH) says.
    pub whole_batch: bool,
}

impl Load {
    /// The load of both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            multiply_adds: self.multiply_adds.saturating_add(other.multiply_adds),
            outputs: self.outputs.saturating_add(other.outputs),
            parameters: self.parameters.saturating_add(other.parameters),
            together: least_common_multiple(self.together, other.together),
            whole_batch: self.whole_batch || other.whole_batch,
        }
    }

    /// The row that a shard starts with.
    fn cut(self, shard: usize, shards: usize, rows: usize) -> usize {
        let together = self.together.max(1);
        let units = shard as u128 * rows.div_ceil(together) as u128 / shards.max(1) as u128;
        (units as usize).saturating_mul(together).min(rows)
    }

    /// How many shards a batch of so many rows is cut into.
    #[must_use]
    pub fn shards(self, rows: usize) -> usize {
        if self.whole_batch {
            return 1;
        }
        let by_rows = |each: usize, unit: usize| rows.saturating_mul(each) / unit.max(1);
        // An output costs about as much as eight multiply-adds: it is written, activated and read again.
        let work = self.multiply_adds.saturating_add(self.outputs.saturating_mul(8));
        let reuse = self.parameters.saturating_mul(REUSE + self.parameters / MORE_REUSE);
        let most = by_rows(work, WORTHWHILE.max(reuse)).min(rows.div_ceil(self.together.max(1)));
        let wanted = by_rows(self.outputs, CACHED).max(SHARE);
        let multiple = if wanted > LANES { LANES } else { SHARE };
        let shards = wanted.checked_next_multiple_of(multiple).unwrap_or(wanted).min(most).max(1);
        if shards > SHARE { shards / SHARE * SHARE } else { shards }
    }
}

/// What the shards of a step work with, kept from step to step: gradients for each that may be worked on at the same
/// time, and a state `S` (passes and other buffers) for each that is. A shard returns `N` numbers, such as a loss and a
/// count.
#[derive(Debug)]
pub struct Shards<T, S, const N: usize> {
    lanes: Vec<Lane<T, N>>,
    /// A state for each thread, which has it in its cache.
    states: Vec<Mutex<S>>,
}

#[derive(Debug)]
struct Lane<T, const N: usize> {
    gradients: Vec<Tensor<T>>,
    outcome: Result<[f64; N]>,
}

impl<T, S, const N: usize> Default for Shards<T, S, N> {
    fn default() -> Self {
        Self { lanes: Vec::new(), states: Vec::new() }
    }
}

impl<T: Scalar, S: Default + Send, const N: usize> Shards<T, S, N> {
    /// Calls `f(rows, state, gradients)` with the rows of each shard of a batch. `f` adds what they bring to the
    /// gradients and returns numbers. Sets `gradients` to the sum over all shards, and returns that of the numbers.
    ///
    /// # Errors
    /// The first one that `f` returns, by the order of the rows; the gradients then mean nothing.
    pub fn run(
        &mut self,
        load: Load,
        rows: usize,
        gradients: &mut [Tensor<T>],
        f: impl Fn(Range<usize>, &mut S, &mut [Tensor<T>]) -> Result<[f64; N]> + Sync + Send,
    ) -> Result<[f64; N]> {
        let shards = load.shards(rows);
        let lanes = shards.min(LANES);
        if self.states.len() < thread_count() {
            self.states.resize_with(thread_count(), Mutex::default);
        }
        if lanes == 1 {
            gradients.iter_mut().for_each(|gradient| gradient.fill(T::zero()));
            return with_state(&self.states, |state| f(0..rows, state, gradients));
        }
        if self.lanes.len() < lanes {
            self.lanes.resize_with(lanes, || Lane { gradients: Vec::new(), outcome: Ok([0.0; N]) });
        }
        let (like, states) = (&*gradients, &self.states);
        let lanes = self.lanes.get_mut(..lanes).unwrap_or_default();
        let count = lanes.len();
        for_each_shard(lanes, |index, Lane { gradients, outcome }| {
            let own = index * shards / count..(index + 1) * shards / count;
            let gradients = zeros_like(like, gradients);
            *outcome = with_state(states, |state| {
                own.into_iter().try_fold([0.0; N], |sum, shard| {
                    let own = load.cut(shard, shards, rows)..load.cut(shard + 1, shards, rows);
                    f(own, state, gradients).map(|numbers| plus(sum, numbers))
                })
            });
        });
        for (place, gradient) in gradients.iter_mut().enumerate() {
            let mut of_lanes = lanes.iter().filter_map(|lane| lane.gradients.get(place));
            if let Some(first) = of_lanes.next() {
                gradient.copy_from(first.view());
            }
            for other in of_lanes {
                zip_in_place(gradient, other.view(), |sum, x| sum + x)?;
            }
        }
        lanes.iter().try_fold([0.0; N], |sum, lane| Ok(plus(sum, lane.outcome.clone()?)))
    }
}

/// Lends the state of this thread.
#[expect(clippy::indexing_slicing, reason = "there is a state for each thread")]
fn with_state<S, R>(states: &[Mutex<S>], work: impl FnOnce(&mut S) -> R) -> R {
    let state = &states[thread_index() % states.len()];
    work(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Zeros in the shapes of `like`, in buffers that may be more than are needed.
fn zeros_like<'a, T: Scalar>(like: &[Tensor<T>], buffers: &'a mut Vec<Tensor<T>>) -> &'a mut [Tensor<T>] {
    if buffers.len() < like.len() {
        buffers.resize_with(like.len(), Tensor::default);
    }
    for (buffer, like) in buffers.iter_mut().zip(like) {
        buffer.resize(like.shape());
        buffer.fill(T::zero());
    }
    buffers.get_mut(..like.len()).unwrap_or_default()
}

fn plus<const N: usize>(mut sums: [f64; N], numbers: [f64; N]) -> [f64; N] {
    sums.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The notebook's G and D together.
    const NOTEBOOK: Load =
        Load { multiply_adds: 272_601, outputs: 10_501, parameters: 15_352, together: 1, whole_batch: false };

    #[test]
    fn shards_grow_with_the_batch() {
        let counts = [1, 2, 3, 4, 8, 16, 64, 100, 1024].map(|rows| NOTEBOOK.shards(rows));
        assert_eq!(counts, [1, 2, 3, 4, 4, 4, 8, 8, 96]);
    }

    #[test]
    fn what_is_not_worth_it_stays_whole() {
        let tiny = Load { multiply_adds: 100, outputs: 10, parameters: 100, ..NOTEBOOK };
        let heavy = Load { multiply_adds: 1 << 24, outputs: 4096, parameters: 1 << 24, ..NOTEBOOK };
        assert_eq!([tiny.shards(64), heavy.shards(64), Load::default().shards(0)], [1, 1, 1]);
        let whole = Load { whole_batch: true, ..NOTEBOOK };
        assert_eq!((whole.shards(64), NOTEBOOK.and(whole).cut(1, 1, 64)), (1, 64));
    }

    #[test]
    fn a_few_threads_have_equal_shares() {
        let convolutions =
            Load { multiply_adds: 13_577_344, outputs: 38_417, parameters: 677_890, ..NOTEBOOK };
        assert_eq!([16, 64, 256, 1024].map(|rows| convolutions.shards(rows)), [1, 4, 28, 112]);
    }

    #[test]
    fn rows_that_belong_together_stay_together() {
        let load = Load { together: 6, ..NOTEBOOK };
        for rows in [6, 12, 66, 600] {
            let shards = load.shards(rows);
            let cuts: Vec<usize> = (0..=shards).map(|shard| load.cut(shard, shards, rows)).collect();
            assert!(
                cuts.iter().all(|cut| cut % 6 == 0) && cuts.windows(2).all(|pair| pair[0] < pair[1]),
                "{cuts:?}"
            );
            assert_eq!((cuts[0], cuts[shards]), (0, rows));
        }
    }

    #[test]
    fn every_row_is_met_once_and_in_order() {
        for rows in [1, 5, 16, 17, 100, 1000] {
            let mut gradients = vec![Tensor::<f64>::zeros([rows])];
            let mut shards = Shards::<f64, Vec<usize>, 2>::default();
            let sums = shards.run(NOTEBOOK, rows, &mut gradients, |range, seen, gradients| {
                assert!(seen.iter().all(|row| !range.contains(row)));
                seen.extend(range.clone());
                gradients[0].data_mut()[range.clone()].iter_mut().for_each(|x| *x += 1.0);
                Ok([range.len() as f64, range.sum::<usize>() as f64])
            });
            assert_eq!(sums.unwrap(), [rows as f64, (rows * (rows - 1) / 2) as f64]);
            assert!(gradients[0].data().iter().all(|&x| x == 1.0));
        }
    }

    #[test]
    fn the_first_error_by_rows_is_returned() {
        let failing = |range: Range<usize>, (): &mut (), _: &mut [Tensor<f32>]| match range.start {
            0 => Ok([0.0; 2]),
            start => Err(crate::Error::NotFinite { what: start.to_string(), value: f64::NAN }),
        };
        let error = Shards::default().run(NOTEBOOK, 64, &mut [], failing).unwrap_err();
        assert_eq!(error.to_string(), "8 is NaN: expected a finite number");
    }
}
