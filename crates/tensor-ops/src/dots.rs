//! Inner products.

#![allow(unsafe_code, reason = "kernels work on memory that they share out themselves")]
#![expect(
    clippy::indexing_slicing,
    reason = "places in registers, counted by the constants that their arrays are as long as"
)]

use crate::Scalar;
use crate::kernel::wide;
use crate::lanes::{Kernel, Lanes};

/// Registers of the narrowest kind that make the widest.
const MOST_PARTS: usize = 4;

/// Inner products of four lines at a time: `output[i stride + n] = start + sum over k of lines[i line + k] vectors[n][k]` for i
/// below `count`, where start is `start[n]`, or, where there is none, what the output holds. Each is summed in as many parts as the widest register has lanes, so that all processors compute the same.
pub(crate) struct Dots<'a, T, const N: usize> {
    pub(crate) lines: &'a [T],
    pub(crate) line: usize,
    /// Equally long.
    pub(crate) vectors: [&'a [T]; N],
    pub(crate) start: [Option<T>; N],
    /// `(count - 1) stride + N` numbers that nobody else touches meanwhile.
    pub(crate) output: *mut T,
    pub(crate) stride: usize,
    pub(crate) count: usize,
}

impl<T: Scalar, const N: usize> Dots<'_, T, N> {
    /// Does the work.
    ///
    /// # Safety
    /// The numbers at `output` must be valid to read and write.
    pub(crate) unsafe fn multiply(self) {
        if let Some(last) = self.count.checked_sub(1) {
            let inner = self.vectors[0].len();
            assert!(self.vectors.iter().all(|vector| vector.len() == inner));
            assert!(last * self.line + inner <= self.lines.len());
            T::run(self);
        }
    }

    /// The numbers from `k` on, as many as a register has lanes or as are left, of four lines times those of the vectors.
    ///
    /// # Safety
    /// The lines must have as many numbers as the vectors.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "an index is the same place in memory and in registers")]
    unsafe fn add<L: Lanes<T>>(&self, lines: [*const T; 4], k: usize, part: usize, sums: &mut Sums<L, N>) {
        let left = self.vectors[0].len().saturating_sub(k);
        // SAFETY: no more than `left` numbers are read.
        unsafe {
            let load = |line: *const T| {
                let from = line.wrapping_add(k);
                if left >= L::COUNT { L::load(from) } else { L::load_first(from, left) }
            };
            // No closures but this one in here: where one is called by a function that is not compiled for these
            // registers, it is not either.
            let mut vectors = [L::splat(T::zero()); N];
            for n in 0..N {
                vectors[n] = load(self.vectors[n].as_ptr());
            }
            for i in 0..4 {
                let line = load(lines[i]);
                for n in 0..N {
                    sums[n][part][i] = line.mul_add(vectors[n], sums[n][part][i]);
                }
            }
        }
    }
}

/// The sums of four lines for each vector and for each part of the widest register.
type Sums<L, const N: usize> = [[[L; 4]; MOST_PARTS]; N];

impl<T: Scalar, const N: usize> Kernel<T> for Dots<'_, T, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        let (inner, parts) = (self.vectors[0].len(), wide::<T>() / L::COUNT);
        for first in (0..self.count).step_by(4) {
            // The last four may be fewer: the others repeat the last one.
            let place = |i: usize| (first + i).min(self.count - 1) * self.line;
            // SAFETY: `multiply` has checked that each line has as many numbers as the vectors.
            unsafe {
                let lines = [0, 1, 2, 3].map(|i| self.lines.as_ptr().add(place(i)));
                let one = L::splat(T::one());
                let mut sums: Sums<L, N> = [[[L::splat(T::zero()); 4]; MOST_PARTS]; N];
                for k in (0..inner).step_by(wide::<T>()) {
                    for part in 0..parts {
                        self.add(lines, k + part * L::COUNT, part, &mut sums);
                    }
                }
                for (n, parts_of) in sums.iter_mut().enumerate() {
                    let mut half = parts / 2;
                    while half > 0 {
                        for part in 0..half {
                            let others = parts_of[part + half];
                            for (sum, other) in parts_of[part].iter_mut().zip(others) {
                                *sum = sum.mul_add(one, other);
                            }
                        }
                        half /= 2;
                    }
                    let totals = L::sums(parts_of[0]);
                    for (i, total) in totals.into_iter().enumerate().take(self.count - first) {
                        let number = self.output.add((first + i) * self.stride + n);
                        *number = self.start[n].unwrap_or(*number) + total;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Array;
    #[cfg(target_arch = "x86_64")]
    use crate::lanes::x86;

    /// Numbers that are not exact sums of others, from -1/2 to 1/2.
    fn numbers<T: Scalar>(count: usize) -> Vec<T> {
        (0..count).map(|i| T::from_f64((i as f64 * 0.618_033_988_749).fract() - 0.5)).collect()
    }

    fn near<T: Scalar>(a: &[T], b: &[T]) -> bool {
        let bound = T::epsilon() * T::from_f64(16.0);
        a.iter().zip(b).all(|(&a, &b)| (a - b).abs() <= bound * (T::one() + b.abs()))
    }

    fn inner_products<T: Scalar, L: Lanes<T>>(inner: usize, count: usize) -> Vec<T> {
        let (lines, vector) = (numbers(count * inner), numbers::<T>(inner + 3).split_off(3));
        let mut output = numbers(count);
        // SAFETY: the lines have as many numbers, and callers have asked for the instructions.
        unsafe {
            let output = output.as_mut_ptr();
            Dots { lines: &lines, line: inner, vectors: [&vector], start: [None], output, stride: 1, count }
                .run::<L>();
        }
        output
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn wide_registers_agree_with_plain_arrays() {
        // Miri is a thousand times as slow.
        let step = if cfg!(miri) { 5 } else { 1 };
        for (inner, count) in (0..70).step_by(step).flat_map(|inner| [(inner, 1), (inner, 4), (inner, 7)]) {
            let plain = inner_products::<f32, Array<f32>>(inner, count);
            if x86::has_avx2() {
                assert!(near(&inner_products::<f32, x86::F32x8>(inner, count), &plain));
            }
            if x86::has_avx512() {
                let narrow = inner_products::<f32, x86::F32x8>(inner, count);
                assert_eq!(inner_products::<f32, x86::F32x16>(inner, count), narrow);
            }
        }
    }

    #[test]
    fn plain_arrays_agree_with_loops() {
        let found = inner_products::<f64, Array<f64>>(5, 3);
        let (lines, vector, output): (Vec<f64>, Vec<f64>, Vec<f64>) = (numbers(15), numbers(8), numbers(3));
        let line = |i: usize| output[i] + (0..5).map(|k| lines[i * 5 + k] * vector[k + 3]).sum::<f64>();
        assert!(near(&found, &[line(0), line(1), line(2)]));
    }
}
