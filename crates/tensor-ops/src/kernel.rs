//! The kernel of all matrix products: a tile of the output in registers.
//!
//! Each number of the output is one chain of `sum = lhs rhs + sum` in the order of the inner index, whatever tile it
//! lies in, so how an output is cut into tiles and blocks does not change a bit.

#![allow(unsafe_code, reason = "kernels work on memory that they share out themselves")]
#![expect(
    clippy::indexing_slicing,
    reason = "`multiply` checks that both sides and the row to start from reach, and registers are counted by constants"
)]

use std::hint::black_box;

use crate::Scalar;
use crate::dots::Dots;
use crate::lanes::{Kernel, Lanes};

/// Columns of the right side that are worked on together: a multiple of every tile's width.
pub(crate) const PANEL: usize = 64;
/// Inner elements of an inner product at most that takes the place of a register.
pub(crate) const MOST_INNER: usize = 256;
/// What it costs to add up the lanes of a register, in multiply-adds of registers.
const SUMMING: usize = 8;
/// Registers along the rows in a flipped product, and the most numbers that they hold.
const REGISTERS: usize = 4;
const MOST_LINE: usize = 64;
/// Up to so many rows are computed in tiles of up to so many registers along the columns.
const FEW_ROWS: usize = 2;
const MOST_COLUMNS: usize = 4;
/// Inner elements that are worked on before the next look at how many are left.
const UNROLLED: usize = 2;

/// The left side of a product in memory: (i, k) is `data[i row + k inner]`. One of the steps is 1, where there is more than
/// one row.
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
pub struct Panel<'a, T> {
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
            assert!(rows == 1 || self.lhs.row == 1 || self.lhs.inner == 1);
            let last = (rows - 1) * self.lhs.row + (inner - 1) * self.lhs.inner;
            assert!(
                last < self.lhs.data.len() && (inner - 1) * self.rhs.row + columns <= self.rhs.data.len()
            );
        }
        if let Start::Row(row) = self.start {
            assert!(columns <= row.len());
        }
        // SAFETY: as checked, and the caller vouches for the output.
        unsafe { T::multiply_panel(self) };
    }
}

impl<T: Scalar> Kernel<T> for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        let rest = self.rest();
        let columns = self.size.columns - rest.columns();
        // SAFETY: the caller's promise, and all of these columns lie within the panel.
        unsafe {
            // Few rows leave registers for more columns, and would wait for their own sums without them.
            let wide = L::COUNT * if self.size.rows <= FEW_ROWS { MOST_COLUMNS } else { L::COLUMNS };
            for first in (0..columns).step_by(wide) {
                self.columns::<L>(first, wide.min(columns - first));
            }
            match rest {
                Rest::None => {}
                Rest::Dots(_) => self.dots::<L>(columns),
                Rest::Flipped(_) => self.flipped::<L>(columns),
            }
        }
    }
}

/// How the columns behind the last full register are computed, where a register of their own would be mostly empty.
#[derive(Clone, Copy)]
enum Rest {
    /// Like the others.
    None,
    /// So many, as inner products with rows of the left side.
    Dots(usize),
    /// So many, as rows of the transposed product.
    Flipped(usize),
}

impl Rest {
    fn columns(self) -> usize {
        match self {
            Self::None => 0,
            Self::Dots(columns) | Self::Flipped(columns) => columns,
        }
    }
}

impl<T: Scalar> Panel<'_, T> {
    /// What costs less than a register for each row. Registers count as the widest that there are, so that all processors
    /// compute the same.
    fn rest(&self) -> Rest {
        let Size { rows, inner, columns } = self.size;
        let (lanes, rest) = (wide::<T>(), columns % wide::<T>());
        if self.lhs.inner == 1 && inner <= MOST_INNER && rest * (inner / lanes + SUMMING) < inner {
            Rest::Dots(rest)
        } else if self.lhs.row == 1 && rest * rows.div_ceil(lanes) < rows / 2 {
            Rest::Flipped(rest)
        } else {
            Rest::None
        }
    }

    /// The columns from `first` on: `width` of them, as many as a tile holds at most.
    ///
    /// # Safety
    /// As [`Panel::multiply`], and the columns must lie within the panel.
    #[inline(always)]
    unsafe fn columns<L: Lanes<T>>(&self, first: usize, width: usize) {
        let registers = width.div_ceil(L::COUNT);
        let last = width - (registers - 1) * L::COUNT;
        // SAFETY: the caller's promise.
        unsafe {
            match registers {
                1 => self.rows::<L, 1>(first, last),
                2 => self.rows::<L, 2>(first, last),
                3 => self.rows::<L, 3>(first, last),
                _ => self.rows::<L, 4>(first, last),
            }
        }
    }

    /// All rows of the columns from `first` on: `C` registers, the last of them holding `last` numbers.
    ///
    /// # Safety
    /// As [`Panel::columns`].
    #[inline(always)]
    unsafe fn rows<L: Lanes<T>, const C: usize>(&self, first: usize, last: usize) {
        // What is known of the left side saves instructions: in a loop of loads and multiply-adds, each one counts.
        // SAFETY: the caller's promise.
        unsafe {
            if self.lhs.inner == 1 {
                L::outlined(Rows::<T, C, true> { panel: self, first, last });
            } else {
                L::outlined(Rows::<T, C, false> { panel: self, first, last });
            }
        }
    }

    /// `R` rows of the same columns, held in registers while the inner index runs.
    ///
    /// # Safety
    /// As [`Panel::rows`], and the rows must lie within the output.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "an index is the same place in memory and in registers")]
    unsafe fn tile<L: Lanes<T>, const R: usize, const C: usize, const ALONG: bool>(
        &self,
        row: usize,
        first: usize,
        last: usize,
    ) {
        // SAFETY: the caller vouches for the output's tile, `multiply` has checked both sides and the row to start
        // from, and only `last` numbers of the last register are touched.
        unsafe {
            let load = |from: *const T, c: usize| {
                if c + 1 == C { L::load_first(from, last) } else { L::load(from) }
            };
            let output = self.output.add(row * self.stride + first);
            let mut sums = [[L::splat(T::zero()); C]; R];
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
                }
                Start::Output => {
                    for r in 0..R {
                        for c in 0..C {
                            sums[r][c] = load(output.add(r * self.stride + c * L::COUNT), c);
                        }
                    }
                }
            }
            let (lhs_row, lhs_inner) = if ALONG { (self.lhs.row, 1) } else { (1, self.lhs.inner) };
            let mut lhs = self.lhs.data.as_ptr().wrapping_add(row * lhs_row);
            let mut rhs = self.rhs.data.as_ptr().wrapping_add(first);
            let mut left = self.size.inner;
            if ALONG {
                while left >= UNROLLED {
                    for _ in 0..UNROLLED {
                        add::<T, L, R, C>(lhs, lhs_row, rhs, last, &mut sums);
                        (lhs, rhs) = (lhs.wrapping_add(lhs_inner), rhs.wrapping_add(self.rhs.row));
                    }
                    left -= UNROLLED;
                }
            }
            for _ in 0..left {
                add::<T, L, R, C>(lhs, lhs_row, rhs, last, &mut sums);
                (lhs, rhs) = (lhs.wrapping_add(lhs_inner), rhs.wrapping_add(self.rhs.row));
            }
            for r in 0..R {
                for c in 0..C {
                    let line = output.add(r * self.stride + c * L::COUNT);
                    if c + 1 == C { sums[r][c].store_first(line, last) } else { sums[r][c].store(line) }
                }
            }
        }
    }

    /// The columns from `first` on, each number as the inner product of a row and a column.
    ///
    /// # Safety
    /// As [`Panel::columns`].
    #[inline(always)]
    unsafe fn dots<L: Lanes<T>>(&self, first: usize) {
        let Size { rows, inner, columns } = self.size;
        let mut vectors = [Line([T::zero(); MOST_INNER]), Line([T::zero(); MOST_INNER])];
        for column in (first..columns).step_by(2) {
            let pair = &mut vectors[..(columns - column).min(2)];
            for (c, Line(vector)) in pair.iter_mut().enumerate() {
                for (k, x) in vector[..inner].iter_mut().enumerate() {
                    *x = self.rhs.data[k * self.rhs.row + column + c];
                }
            }
            let start = |c: usize| match self.start {
                Start::Zero => Some(T::zero()),
                Start::Row(start) => Some(start[column + c]),
                Start::Output => None,
            };
            let (lines, line, stride, count) = (self.lhs.data, self.lhs.row, self.stride, rows);
            // SAFETY: the caller's promise.
            unsafe {
                let output = self.output.add(column);
                match pair {
                    [Line(a), Line(b)] => {
                        let (vectors, start) = ([&a[..inner], &b[..inner]], [start(0), start(1)]);
                        Dots { lines, line, vectors, start, output, stride, count }.run::<L>();
                    }
                    [Line(a), ..] => {
                        let (vectors, start) = ([&a[..inner]], [start(0)]);
                        Dots { lines, line, vectors, start, output, stride, count }.run::<L>();
                    }
                    [] => {}
                }
            }
        }
    }

    /// The columns from `first` on, as rows of the transposed product.
    ///
    /// # Safety
    /// As [`Panel::columns`], and rows of the left side must lie next to each other.
    #[inline(always)]
    unsafe fn flipped<L: Lanes<T>>(&self, first: usize) {
        let Size { rows, inner, columns } = self.size;
        let at = |row: usize, column: usize| row * self.stride + column;
        for column in (first..columns).step_by(2) {
            let width = (columns - column).min(2);
            for row in (0..rows).step_by(REGISTERS * L::COUNT) {
                let count = (rows - row).min(REGISTERS * L::COUNT);
                let mut lines = [[T::zero(); MOST_LINE]; 2];
                for (c, line) in lines[..width].iter_mut().enumerate() {
                    for (r, x) in line[..count].iter_mut().enumerate() {
                        *x = match self.start {
                            Start::Zero => T::zero(),
                            Start::Row(start) => start[column + c],
                            // SAFETY: the caller's promise.
                            Start::Output => unsafe { *self.output.add(at(row + r, column + c)) },
                        };
                    }
                }
                let transposed = Panel {
                    size: Size { rows: width, inner, columns: count },
                    lhs: Left {
                        data: self.rhs.data.get(column..).unwrap_or_default(),
                        row: 1,
                        inner: self.rhs.row,
                    },
                    rhs: Right { data: self.lhs.data.get(row..).unwrap_or_default(), row: self.lhs.inner },
                    start: Start::Output,
                    output: lines.as_flattened_mut().as_mut_ptr(),
                    stride: MOST_LINE,
                };
                let registers = count.div_ceil(L::COUNT);
                let last = count - (registers - 1) * L::COUNT;
                // SAFETY: the lines have room for the tile, and the caller vouches for the rest.
                unsafe {
                    match (width, registers) {
                        (1, 1) => transposed.tile::<L, 1, 1, false>(0, 0, last),
                        (1, 2) => transposed.tile::<L, 1, 2, false>(0, 0, last),
                        (1, 3) => transposed.tile::<L, 1, 3, false>(0, 0, last),
                        (1, _) => transposed.tile::<L, 1, 4, false>(0, 0, last),
                        (_, 1) => transposed.tile::<L, 2, 1, false>(0, 0, last),
                        (_, 2) => transposed.tile::<L, 2, 2, false>(0, 0, last),
                        (_, 3) => transposed.tile::<L, 2, 3, false>(0, 0, last),
                        (_, _) => transposed.tile::<L, 2, 4, false>(0, 0, last),
                    }
                    for (c, line) in lines[..width].iter().enumerate() {
                        for (r, &x) in line[..count].iter().enumerate() {
                            *self.output.add(at(row + r, column + c)) = x;
                        }
                    }
                }
            }
        }
    }
}

/// The work of [`Panel::rows`], on a left side whose rows lie along (`ALONG`) or whose columns do.
struct Rows<'a, T, const C: usize, const ALONG: bool> {
    panel: &'a Panel<'a, T>,
    first: usize,
    last: usize,
}

impl<T: Scalar, const C: usize, const ALONG: bool> Kernel<T> for Rows<'_, T, C, ALONG> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        let Self { panel, first, last } = self;
        // Tiles as even as they can be: a tile of one or two rows would wait for its own sums.
        let tiles = panel.size.rows.div_ceil(if const { C > L::COLUMNS } { FEW_ROWS } else { L::ROWS });
        let (each, more) = (panel.size.rows / tiles, panel.size.rows % tiles);
        let mut row = 0;
        for tile in 0..tiles {
            let rows = each + usize::from(tile < more);
            // SAFETY: `rows` rows from `row` on lie within the output.
            unsafe {
                match rows {
                    1 => panel.tile::<L, 1, C, ALONG>(row, first, last),
                    2 => panel.tile::<L, 2, C, ALONG>(row, first, last),
                    // Never taken, and so not compiled: tiles so wide have no more rows.
                    _ if const { C > L::COLUMNS } => {}
                    3 => panel.tile::<L, 3, C, ALONG>(row, first, last),
                    4 => panel.tile::<L, 4, C, ALONG>(row, first, last),
                    5 => panel.tile::<L, 5, C, ALONG>(row, first, last),
                    _ => panel.tile::<L, 6, C, ALONG>(row, first, last),
                }
            }
            row += rows;
        }
    }
}

/// Adds the products of `R` numbers of a column, `lhs_row` apart, and of `C` registers of a row, of which the last holds
/// `last` numbers.
///
/// # Safety
/// All of these must be valid to read, and the processor must have the instructions of `L`.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "an index is the same place in memory and in registers")]
unsafe fn add<T: Scalar, L: Lanes<T>, const R: usize, const C: usize>(
    lhs: *const T,
    lhs_row: usize,
    rhs: *const T,
    last: usize,
    sums: &mut [[L; C]; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut line = [L::splat(T::zero()); C];
        for c in 0..C {
            let from = rhs.add(c * L::COUNT);
            line[c] = if c + 1 == C { L::load_first(from, last) } else { L::load(from) };
        }
        for r in 0..R {
            let factor = L::splat(*lhs.add(r * lhs_row));
            for c in 0..C {
                sums[r][c] = line[c].mul_add(factor, sums[r][c]);
            }
        }
    }
}

/// A line of numbers that begins where a line of the cache does.
#[repr(align(64))]
struct Line<T>([T; MOST_INNER]);

/// Lanes of the widest register there is.
pub(crate) const fn wide<T>() -> usize {
    64 / size_of::<T>()
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

    /// The product of one size and start with one kind of lanes, its left side as it is or transposed in memory.
    fn product<T: Scalar, L: Lanes<T>>(size: Size, start: usize, transposed: bool) -> Vec<T> {
        let Size { rows, inner, columns } = size;
        let (lhs, rhs, row) = (numbers(rows * inner), numbers(inner * columns), numbers(columns));
        let start = [Start::Zero, Start::Row(&row), Start::Output][start];
        // One number more shows that nothing is written behind the end.
        let mut output = numbers(rows * columns + 1);
        let (row_step, inner_step) = if transposed { (1, rows) } else { (inner, 1) };
        let panel = Panel {
            size,
            lhs: Left { data: &lhs, row: row_step, inner: inner_step },
            rhs: Right { data: &rhs, row: columns },
            start,
            output: output.as_mut_ptr(),
            stride: columns,
        };
        // SAFETY: the output has as many numbers, and callers have asked for the instructions.
        unsafe { panel.run::<L>() };
        output
    }

    fn near<T: Scalar>(a: &[T], b: &[T]) -> bool {
        let bound = T::epsilon() * T::from_f64(16.0);
        a.iter().zip(b).all(|(&a, &b)| (a - b).abs() <= bound * (T::one() + b.abs()))
    }

    /// Calls `f` with every number of rows and columns that makes another tile or tail.
    fn for_each_size(mut f: impl FnMut(Size, usize, bool)) {
        // Miri is a thousand times as slow.
        let (rows, step, inner): (&[usize], _, _) = match cfg!(miri) {
            true => (&[1, 7], 9, 3),
            false => (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 50, 131], 1, 17),
        };
        for &rows in rows {
            for columns in (1..=PANEL).step_by(step) {
                let size = Size { rows, inner: 1 + (rows + columns) % 5 * inner, columns };
                f(size, columns % 3, columns % 2 == 0);
                f(size, columns % 3, columns % 2 == 1);
            }
        }
    }

    #[test]
    fn rests_are_computed_in_every_way() {
        let (mut dots, mut flipped, mut none) = (0, 0, 0);
        for_each_size(|Size { rows, inner, columns }, _, transposed| {
            let lhs = if transposed { (1, rows) } else { (inner, 1) };
            let lhs = Left { data: &[0.0_f32], row: lhs.0, inner: lhs.1 };
            let (start, output) = (Start::Zero, std::ptr::null_mut());
            let rhs = Right { data: &[], row: columns };
            let size = Size { rows, inner, columns };
            match (Panel { size, lhs, rhs, start, output, stride: columns }).rest() {
                Rest::Dots(_) => dots += 1,
                Rest::Flipped(_) => flipped += 1,
                Rest::None => none += 1,
            }
        });
        assert!(dots > 100 && flipped > 100 && none > 100, "{dots} {flipped} {none}");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn wide_registers_agree_with_plain_arrays() {
        for_each_size(|size, start, t| {
            if x86::has_avx2() {
                let plain = product::<f64, Array<f64>>(size, start, t);
                assert!(near(&product::<f64, x86::F64x4>(size, start, t), &plain));
                let plain = product::<f32, Array<f32>>(size, start, t);
                assert!(near(&product::<f32, x86::F32x8>(size, start, t), &plain));
            }
            if x86::has_avx512() {
                let narrow = product::<f64, x86::F64x4>(size, start, t);
                assert_eq!(product::<f64, x86::F64x8>(size, start, t), narrow);
                let narrow = product::<f32, x86::F32x8>(size, start, t);
                assert_eq!(product::<f32, x86::F32x16>(size, start, t), narrow);
            }
        });
    }

    #[test]
    fn plain_arrays_agree_with_loops() {
        for_each_size(|size, start, transposed| {
            let Size { rows, inner, columns } = size;
            let at = |i: usize, k: usize| if transposed { k * rows + i } else { i * inner + k };
            let (lhs, rhs): (Vec<f64>, Vec<f64>) = (numbers(rows * inner), numbers(inner * columns));
            let (row, mut expected): (Vec<f64>, Vec<f64>) = (numbers(columns), numbers(rows * columns + 1));
            for i in 0..rows {
                for j in 0..columns {
                    let sum: f64 = (0..inner).map(|k| lhs[at(i, k)] * rhs[k * columns + j]).sum();
                    expected[i * columns + j] = sum + [0.0, row[j], expected[i * columns + j]][start];
                }
            }
            assert!(near(&product::<f64, Array<f64>>(size, start, transposed), &expected));
        });
    }
}
