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
/// Sums that are in registers at the same time, each of a line and a vector: enough that none has to wait for itself.
const SUMS: usize = 8;

/// Inner products: `output[i stride + n] = start + sum over k of lines[i line + k] vectors[n][k]` for i below `count`,
/// where start is `start[n]`, or, where there is none, what the output holds. Each is summed in as many parts as the
/// widest register has lanes, so that all processors compute the same.
pub struct Dots<'a, T, const N: usize> {
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

impl<T: Scalar> Dots<'_, T, 1> {
    /// Does the work.
    ///
    /// # Safety
    /// The numbers at `output` must be valid to read and write.
    pub(crate) unsafe fn multiply(self) {
        if let Some(last) = self.count.checked_sub(1) {
            assert!(last * self.line + self.vectors[0].len() <= self.lines.len());
            // SAFETY: as checked, and the caller vouches for the output.
            unsafe { T::multiply_lines(self) };
        }
    }
}

impl<T: Scalar, const N: usize> Dots<'_, T, N> {
    /// Adds the numbers from `k` on, as many as a register has lanes, or `left` where there are fewer.
    ///
    /// # Safety
    /// The lines and the vectors must have as many numbers.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "an index is the same place in memory and in registers")]
    unsafe fn add<L: Lanes<T>>(&self, lines: &[*const T; SUMS], k: usize, left: usize, sums: &mut [L; SUMS]) {
        // SAFETY: no more than `left` numbers are read.
        unsafe {
            let load = |from: *const T| {
                let from = from.wrapping_add(k);
                if left >= L::COUNT { L::load(from) } else { L::load_first(from, left) }
            };
            // No closures but this one in here: where one is called by a function that is not compiled for these
            // registers, it is not either.
            let mut vectors = [L::splat(T::zero()); N];
            for n in 0..N {
                vectors[n] = load(self.vectors[n].as_ptr());
            }
            for i in 0..SUMS / N {
                let line = load(lines[i]);
                for n in 0..N {
                    sums[i * N + n] = line.mul_add(vectors[n], sums[i * N + n]);
                }
            }
        }
    }
}

impl<T: Scalar, const N: usize> Kernel<T> for Dots<'_, T, N> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        let (inner, parts, lines) = (self.vectors[0].len(), wide::<T>() / L::COUNT, SUMS / N);
        for first in (0..self.count).step_by(lines) {
            // SAFETY: `multiply` has checked that each line has as many numbers as the vectors.
            unsafe {
                // The last lines may be fewer: the others repeat the last one.
                let mut from = [self.lines.as_ptr(); SUMS];
                for (i, from) in from[..lines].iter_mut().enumerate() {
                    *from = from.add((first + i).min(self.count - 1) * self.line);
                }
                let mut parts_of = [[L::splat(T::zero()); SUMS]; MOST_PARTS];
                for (part, all) in parts_of[..parts].iter_mut().enumerate() {
                    let (mut sums, mut k) = (*all, part * L::COUNT);
                    while k + L::COUNT <= inner {
                        self.add(&from, k, L::COUNT, &mut sums);
                        k += wide::<T>();
                    }
                    if k < inner {
                        self.add(&from, k, inner - k, &mut sums);
                    }
                    *all = sums;
                }
                let one = L::splat(T::one());
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
                let [a, b, c, d, e, f, g, h] = parts_of[0];
                let totals = [L::sums([a, b, c, d]), L::sums([e, f, g, h])];
                let count = lines.min(self.count - first) * N;
                for (place, &total) in totals.as_flattened()[..count].iter().enumerate() {
                    let (i, n) = (place / N, place % N);
                    let number = self.output.add((first + i) * self.stride + n);
                    *number = self.start[n].unwrap_or(*number) + total;
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
