//! The kernel of all matrix products: a tile of the output in registers.
//!
//! Each number of the output is one chain of `sum = lhs rhs + sum` in the order of the inner index, whatever tile it
//! lies in, so how an output is cut into tiles and blocks does not change a bit.

#![allow(unsafe_code, reason = "kernels work on memory that they share out themselves")]

use std::hint::black_box;

use crate::Scalar;
use crate::lanes::{Kernel, Lanes};

/// Columns of the right side that are worked on together: a multiple of every tile's width.
pub(crate) const PANEL: usize = 64;

/// The left side of a product in memory: (i, k) is `data[i row + k inner]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) row: usize,
    pub(crate) inner: usize,
}

/// The right side: (k, j) is `data[k row + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) row: usize,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a, T> {
    /// Nothing: the output is overwritten.
    Zero,
    /// The same row, one number for each column, in every row.
    Row(&'a [T]),
    /// What the output holds.
    Output,
}

/// The sizes of a product: `rows` x `inner` times `inner` x `columns`.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) inner: usize,
    pub(crate) columns: usize,
}

/// `output = start + lhs rhs` for at most [`PANEL`] columns. The rows of the output lie `stride` apart.
pub(crate) struct Panel<'a, T> {
    pub(crate) size: Size,
    pub(crate) lhs: Left<'a, T>,
    pub(crate) rhs: Right<'a, T>,
    pub(crate) start: Start<'a, T>,
    /// Where the output begins: `(rows - 1) stride + columns` numbers that nobody else touches meanwhile.
    pub(crate) output: *mut T,
    pub(crate) stride: usize,
}

impl<T: Scalar> Panel<'_, T> {
    /// Does the work.
    ///
    /// # Safety
    /// The numbers at `output` must be valid to read and write.
    pub(crate) unsafe fn multiply(self) {
        let Size { rows, inner, columns } = self.size;
        if rows == 0 || columns == 0 {
            return;
        }
        if inner > 0 {
            let last = (rows - 1) * self.lhs.row + (inner - 1) * self.lhs.inner;
            assert!(
                last < self.lhs.data.len() && (inner - 1) * self.rhs.row + columns <= self.rhs.data.len()
            );
        }
        if let Start::Row(row) = self.start {
            assert!(columns <= row.len());
        }
        T::run(self);
    }
}

impl<T: Scalar> Kernel<T> for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        // SAFETY: the caller's promise.
        unsafe { self.columns::<L>(L::halves_pay()) }
    }
}

impl<T: Scalar> Panel<'_, T> {
    /// All columns; a rest that is short enough in a register of half the width, if `halves` says so.
    ///
    /// # Safety
    /// As [`Panel::multiply`].
    #[inline(always)]
    unsafe fn columns<L: Lanes<T>>(&self, halves: bool) {
        let (tile, columns) = (L::COUNT * L::COLUMNS, self.size.columns);
        let halves = halves && L::Half::COUNT < L::COUNT;
        let mut first = 0;
        while first < columns {
            let width = tile.min(columns - first);
            let full = width.div_ceil(L::COUNT);
            let rest = width - (full - 1) * L::COUNT;
            // SAFETY: the columns from `first` on, `width` of them, lie within the panel.
            unsafe {
                if halves && rest <= L::Half::COUNT {
                    match full {
                        1 => self.rows::<L, 0, true>(first, rest),
                        2 => self.rows::<L, 1, true>(first, rest),
                        3 => self.rows::<L, 2, true>(first, rest),
                        _ => self.rows::<L, 3, true>(first, rest),
                    }
                } else {
                    match full {
                        1 => self.rows::<L, 1, false>(first, rest),
                        2 => self.rows::<L, 2, false>(first, rest),
                        3 => self.rows::<L, 3, false>(first, rest),
                        _ => self.rows::<L, 4, false>(first, rest),
                    }
                }
            }
            first += width;
        }
    }

    /// All rows of the columns from `first` on: `C` whole registers, the last of them holding `rest` numbers, or, with
    /// `H`, one of half the width after them that does.
    ///
    /// # Safety
    /// As [`Panel::multiply`], and the columns must lie within the panel.
    #[inline(always)]
    unsafe fn rows<L: Lanes<T>, const C: usize, const H: bool>(&self, first: usize, rest: usize) {
        let mut row = 0;
        while row < self.size.rows {
            // Tiles as even as they can be: a tile of one or two rows would wait for its own sums.
            let left = self.size.rows - row;
            let rows = left.div_ceil(left.div_ceil(L::ROWS));
            // SAFETY: `rows` rows from `row` on lie within the output.
            unsafe {
                match rows {
                    1 => self.tile::<L, 1, C, H>(row, first, rest),
                    2 => self.tile::<L, 2, C, H>(row, first, rest),
                    3 => self.tile::<L, 3, C, H>(row, first, rest),
                    4 => self.tile::<L, 4, C, H>(row, first, rest),
                    5 => self.tile::<L, 5, C, H>(row, first, rest),
                    _ => self.tile::<L, 6, C, H>(row, first, rest),
                }
            }
            row += rows;
        }
    }

    /// `R` rows of the same columns, held in registers while the inner index runs.
    ///
    /// # Safety
    /// As [`Panel::rows`], and the rows must lie within the output.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "an index is the same place in memory and in registers")]
    unsafe fn tile<L: Lanes<T>, const R: usize, const C: usize, const H: bool>(
        &self,
        row: usize,
        first: usize,
        rest: usize,
    ) {
        // SAFETY: the caller vouches for the output's tile, `multiply` has checked both sides and the row to start
        // from, and only `rest` numbers of the last register are touched.
        unsafe {
            let load = |from: *const T, c: usize| {
                if !H && c + 1 == C { L::load_first(from, rest) } else { L::load(from) }
            };
            let output = self.output.add(row * self.stride + first);
            let zero = L::splat(T::zero());
            let mut sums = [[zero; C]; R];
            let mut halves = [zero.half(); R];
            match self.start {
                Start::Zero => {}
                Start::Row(start) => {
                    let start = start.as_ptr().add(first);
                    for c in 0..C {
                        let line = load(start.add(c * L::COUNT), c);
                        for sums in &mut sums {
                            sums[c] = line;
                        }
                    }
                    if H {
                        halves = [L::Half::load_first(start.add(C * L::COUNT), rest); R];
                    }
                }
                Start::Output => {
                    for r in 0..R {
                        let line = output.add(r * self.stride);
                        for c in 0..C {
                            sums[r][c] = load(line.add(c * L::COUNT), c);
                        }
                        if H {
                            halves[r] = L::Half::load_first(line.add(C * L::COUNT), rest);
                        }
                    }
                }
            }
            let mut lhs = self.lhs.data.as_ptr().wrapping_add(row * self.lhs.row);
            let mut rhs = self.rhs.data.as_ptr().wrapping_add(first);
            for _ in 0..self.size.inner {
                let mut line = [zero; C];
                for (c, lanes) in line.iter_mut().enumerate() {
                    *lanes = load(rhs.add(c * L::COUNT), c);
                }
                let half = if H { L::Half::load_first(rhs.add(C * L::COUNT), rest) } else { zero.half() };
                for r in 0..R {
                    let factor = L::splat(*lhs.add(r * self.lhs.row));
                    for c in 0..C {
                        sums[r][c] = line[c].mul_add(factor, sums[r][c]);
                    }
                    if H {
                        halves[r] = half.mul_add(factor.half(), halves[r]);
                    }
                }
                lhs = lhs.wrapping_add(self.lhs.inner);
                rhs = rhs.wrapping_add(self.rhs.row);
            }
            for r in 0..R {
                let line = output.add(r * self.stride);
                for c in 0..C {
                    if !H && c + 1 == C {
                        sums[r][c].store_first(line.add(c * L::COUNT), rest);
                    } else {
                        sums[r][c].store(line.add(c * L::COUNT));
                    }
                }
                if H {
                    halves[r].store_first(line.add(C * L::COUNT), rest);
                }
            }
        }
    }
}

/// Inner products, four at a time: `output[i] += sum over k of lines[i line + k] vector[k]`.
pub(crate) struct Dots<'a, T> {
    pub(crate) lines: &'a [T],
    pub(crate) line: usize,
    pub(crate) vector: &'a [T],
    pub(crate) output: &'a mut [T],
}

impl<T: Scalar> Dots<'_, T> {
    /// Does the work.
    pub(crate) fn multiply(self) {
        if let Some(last) = self.output.len().checked_sub(1) {
            assert!(last * self.line + self.vector.len() <= self.lines.len());
            T::run(self);
        }
    }
}

impl<T: Scalar> Kernel<T> for Dots<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        let inner = self.vector.len();
        let (whole, rest) = (inner - inner % L::COUNT, inner % L::COUNT);
        for (block, output) in self.output.chunks_mut(4).enumerate() {
            // The last block may be shorter: its other lines repeat the last one.
            let line = |i: usize| (block * 4 + i.min(output.len() - 1)) * self.line;
            let offsets = [line(0), line(1), line(2), line(3)];
            // SAFETY: `multiply` has checked that each line has as many numbers as the vector.
            unsafe {
                let (lines, vector) = (self.lines.as_ptr(), self.vector.as_ptr());
                let mut sums = [L::splat(T::zero()); 4];
                let mut k = 0;
                while k < whole {
                    let x = L::load(vector.add(k));
                    for i in 0..4 {
                        sums[i] = L::load(lines.add(offsets[i] + k)).mul_add(x, sums[i]);
                    }
                    k += L::COUNT;
                }
                if rest > 0 {
                    let x = L::load_first(vector.add(k), rest);
                    for i in 0..4 {
                        sums[i] = L::load_first(lines.add(offsets[i] + k), rest).mul_add(x, sums[i]);
                    }
                }
                for (out, sums) in output.iter_mut().zip(sums) {
                    *out += sums.sum();
                }
            }
        }
    }
}

/// Does `rounds` rounds of multiply-adds on numbers in registers, as many as the processor can overlap, and says how many
/// that were: the most that a product could do in the same time. For benchmarks.
#[must_use]
pub fn multiply_adds<T: Scalar>(rounds: usize) -> usize {
    T::run(Chains { rounds, start: T::one() })
}

struct Chains<T> {
    rounds: usize,
    start: T,
}

impl<T: Scalar> Kernel<T> for Chains<T> {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) -> usize {
        const CHAINS: usize = 12;
        // SAFETY: nothing but registers is used, and the caller vouches for the instructions.
        unsafe {
            let [factor, term] = black_box([0.999, 0.001]).map(|x| L::splat(T::from_f64(x)));
            let mut chains = [L::splat(black_box(self.start)); CHAINS];
            for _ in 0..self.rounds {
                for chain in &mut chains {
                    *chain = chain.mul_add(factor, term);
                }
            }
            black_box(chains.map(|chain| chain.sum()));
        }
        self.rounds * CHAINS * L::COUNT
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

    /// The product of one size and start with one kind of lanes.
    fn product<T: Scalar, L: Lanes<T>>(size: Size, start: usize) -> Vec<T> {
        let [whole, halved] = [false, true].map(|halves| product_with::<T, L>(size, start, halves));
        assert_eq!(whole, halved);
        whole
    }

    fn product_with<T: Scalar, L: Lanes<T>>(size: Size, start: usize, halves: bool) -> Vec<T> {
        let Size { rows, inner, columns } = size;
        let (lhs, rhs, row) = (numbers(rows * inner), numbers(inner * columns), numbers(columns));
        let start = [Start::Zero, Start::Row(&row), Start::Output][start];
        // One number more shows that nothing is written behind the end.
        let mut output = numbers(rows * columns + 1);
        let panel = Panel {
            size,
            lhs: Left { data: &lhs, row: inner, inner: 1 },
            rhs: Right { data: &rhs, row: columns },
            start,
            output: output.as_mut_ptr(),
            stride: columns,
        };
        // SAFETY: the output has as many numbers, and callers have asked for the instructions.
        unsafe { panel.columns::<L>(halves) };
        output
    }

    fn inner_products<T: Scalar, L: Lanes<T>>(inner: usize, count: usize) -> Vec<T> {
        let (lines, vector) = (numbers(count * inner), numbers::<T>(inner + 3).split_off(3));
        let mut output = numbers(count);
        // SAFETY: the lines have as many numbers, and callers have asked for the instructions.
        unsafe { Dots { lines: &lines, line: inner, vector: &vector, output: &mut output }.run::<L>() };
        output
    }

    fn near<T: Scalar>(a: &[T], b: &[T]) -> bool {
        let bound = T::epsilon() * T::from_f64(16.0);
        a.iter().zip(b).all(|(&a, &b)| (a - b).abs() <= bound * (T::one() + b.abs()))
    }

    /// Calls `f` with every number of rows and columns that makes another tile or tail.
    fn for_each_size(mut f: impl FnMut(Size, usize)) {
        for rows in 1..=13 {
            for columns in 1..=PANEL {
                f(Size { rows, inner: 1 + (rows * columns) % 5, columns }, (rows + columns) % 3);
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn wide_registers_agree_with_plain_arrays() {
        for_each_size(|size, start| {
            if x86::has_avx2() {
                let plain = product::<f64, Array<f64>>(size, start);
                assert!(near(&product::<f64, x86::F64x4>(size, start), &plain));
                let plain = product::<f32, Array<f32>>(size, start);
                assert!(near(&product::<f32, x86::F32x8>(size, start), &plain));
            }
            if x86::has_avx512() {
                assert_eq!(product::<f64, x86::F64x8>(size, start), product::<f64, x86::F64x4>(size, start));
                assert_eq!(product::<f32, x86::F32x16>(size, start), product::<f32, x86::F32x8>(size, start));
            }
        });
        for (inner, count) in (0..70).flat_map(|inner| [(inner, 1), (inner, 4), (inner, 7)]) {
            let plain = inner_products::<f32, Array<f32>>(inner, count);
            if x86::has_avx2() {
                assert!(near(&inner_products::<f32, x86::F32x8>(inner, count), &plain));
            }
            if x86::has_avx512() {
                assert!(near(&inner_products::<f32, x86::F32x16>(inner, count), &plain));
            }
        }
    }

    #[test]
    fn plain_arrays_agree_with_loops() {
        for_each_size(|size, start| {
            let Size { rows, inner, columns } = size;
            let (lhs, rhs): (Vec<f64>, Vec<f64>) = (numbers(rows * inner), numbers(inner * columns));
            let (row, mut expected): (Vec<f64>, Vec<f64>) = (numbers(columns), numbers(rows * columns + 1));
            for i in 0..rows {
                for j in 0..columns {
                    let sum: f64 = (0..inner).map(|k| lhs[i * inner + k] * rhs[k * columns + j]).sum();
                    expected[i * columns + j] = sum + [0.0, row[j], expected[i * columns + j]][start];
                }
            }
            assert!(near(&product::<f64, Array<f64>>(size, start), &expected));
        });
        let found = inner_products::<f64, Array<f64>>(5, 3);
        let (lines, vector, output): (Vec<f64>, Vec<f64>, Vec<f64>) = (numbers(15), numbers(8), numbers(3));
        let line = |i: usize| output[i] + (0..5).map(|k| lines[i * 5 + k] * vector[k + 3]).sum::<f64>();
        assert!(near(&found, &[line(0), line(1), line(2)]));
    }
}
