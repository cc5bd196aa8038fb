//! Sums of stretches of numbers, each times a factor: what turns images into points, and points into places.

#![allow(unsafe_code, reason = "kernels work on memory that they share out themselves")]
#![expect(clippy::indexing_slicing, reason = "what is read and written is checked once a column")]

use std::ops::Range;

use super::tiles::Terms;
use crate::Scalar;
use crate::lanes::{Kernel, Lanes};

/// Columns that are combined at a time.
const COLUMNS: usize = 32;

/// A stretch of an output, and what it is the sum of: for each line, a stretch of the source.
#[derive(Clone, Copy)]
pub(super) struct Column {
    /// Where the source's stretch begins in line 0, and how far lines lie apart.
    terms: Terms<(usize, usize)>,
    to: usize,
    len: usize,
}

impl Column {
    const EMPTY: Self = Self { terms: Terms { items: [((0, 0), 0.0); 3], count: 0 }, to: 0, len: 0 };

    pub(super) fn new<K: Copy + Default>(
        terms: Terms<K>,
        place: impl Fn(K) -> (usize, usize),
        to: usize,
        len: usize,
    ) -> Self {
        Self { terms: terms.map(place), to, len }
    }

    /// Whether another column goes on where this one ends, in the output and in all lines of the source.
    fn goes_on(&self, next: &Self) -> bool {
        let own = self.terms.items[..self.terms.count].iter();
        let mut pairs = own.zip(&next.terms.items);
        self.to + self.len == next.to
            && self.terms.count == next.terms.count
            && pairs.all(|(((first, apart), factor), next)| *next == ((first + self.len, *apart), *factor))
    }
}

/// Calls `f` with some columns at a time, and which these are. Columns that go on where others end are joined to them.
pub(super) fn for_each_columns(
    count: usize,
    column: impl Fn(usize) -> Column,
    mut f: impl FnMut(&[Column], Range<usize>),
) {
    let mut columns = [Column::EMPTY; COLUMNS];
    for first in (0..count).step_by(COLUMNS) {
        let range = first..count.min(first + COLUMNS);
        let mut used = 0;
        for next in range.clone().map(&column) {
            match columns[..used].last_mut() {
                Some(last) if last.goes_on(&next) => last.len += next.len,
                _ => {
                    columns[used] = next;
                    used += 1;
                }
            }
        }
        f(&columns[..used], range);
    }
}

/// Sets the output of each column, or adds to it, the sum of the column's stretches of some lines of the source.
pub(super) fn combine<T: Scalar>(
    source: &[T],
    lines: &Terms<usize>,
    columns: &[Column],
    add: bool,
    output: &mut [T],
) {
    T::run(Combine { source, lines, columns, add, output });
}

struct Combine<'a, T> {
    source: &'a [T],
    lines: &'a Terms<usize>,
    columns: &'a [Column],
    add: bool,
    output: &'a mut [T],
}

/// The most stretches that are summed up, and registers that are at the same time.
const STRETCHES: usize = 9;
const REGISTERS: usize = 4;

impl<T: Scalar> Kernel<T> for Combine<'_, T> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "an index is the same place in memory and in registers")]
    unsafe fn run<L: Lanes<T>>(self) {
        let Self { source, lines, columns, add, output } = self;
        let mut from = [source.as_ptr(); STRETCHES];
        // In registers' shape: a load of what lies in several stores would have to wait for them.
        // SAFETY: the caller vouches for the instructions.
        let mut factors = [unsafe { L::splat(T::zero()) }; STRETCHES];
        for column in columns {
            let len = column.len;
            let mut count = 0;
            for &(line, along) in &lines.items[..lines.count] {
                for &((first, apart), across) in &column.terms.items[..column.terms.count] {
                    from[count] = source[first + line * apart..][..len].as_ptr();
                    // SAFETY: as above.
                    factors[count] = unsafe { L::splat(T::from_f64(along * across)) };
                    count += 1;
                }
            }
            let to = output[column.to..][..len].as_mut_ptr();
            let mut at = 0;
            // SAFETY: all stretches are as long as `len`, and the caller vouches for the instructions.
            unsafe {
                while at + REGISTERS * L::COUNT <= len {
                    let mut sums = [L::splat(T::zero()); REGISTERS];
                    if add {
                        for r in 0..REGISTERS {
                            sums[r] = L::load(to.add(at + r * L::COUNT));
                        }
                    }
                    for term in 0..count {
                        for r in 0..REGISTERS {
                            let stretch = L::load(from[term].add(at + r * L::COUNT));
                            sums[r] = stretch.mul_add(factors[term], sums[r]);
                        }
                    }
                    for r in 0..REGISTERS {
                        sums[r].store(to.add(at + r * L::COUNT));
                    }
                    at += REGISTERS * L::COUNT;
                }
                while at < len {
                    let some = L::COUNT.min(len - at);
                    let mut sum = L::splat(T::zero());
                    if add {
                        sum = L::load_first(to.add(at), some);
                    }
                    for term in 0..count {
                        sum = L::load_first(from[term].add(at), some).mul_add(factors[term], sum);
                    }
                    sum.store_first(to.add(at), some);
                    at += some;
                }
            }
        }
    }
}
