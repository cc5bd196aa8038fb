//! How a product is computed: by nalgebra or by the kernel here, in which blocks, from sides packed or as they lie.

#![allow(unsafe_code, reason = "threads write blocks of the same output")]
#![expect(
    clippy::indexing_slicing,
    reason = "`Product::new` checks that operands and output have the sizes that blocks are cut from"
)]

use std::ops::Range;

use nalgebra::{DMatrixView, DMatrixViewMut, Dyn};

use crate::dots::Dots;
use crate::kernel::{Left, MOST_INNER, PANEL, Panel, Right, Size, Start};
use crate::lanes::{Kernel, Lanes, SQUARE};
use crate::parallel::{Parts, for_each_chunk, for_each_part, pieces};
use crate::scalar::Buffer;
use crate::{Error, Result, Scalar, Shape, View};

/// Rows and columns of the output in one block at most: so many that packing costs little beside multiplying.
const BLOCK_ROWS: usize = 192;
const BLOCK_COLUMNS: usize = 128;
/// From this size of all three sides on, nalgebra multiplies a transposed left side faster than the kernel here does, in
/// blocks of up to so many rows.
const LARGE: usize = 512;
const LARGE_ROWS: usize = 256;
/// Rows in one block at least, where there are more.
const FEWEST_ROWS: usize = 24;
/// Elements of a block of whole rows at most, where that is enough rows.
const CACHED: usize = 1 << 12;
/// Inner elements that are worked on at a time, so that what is read again stays in the cache.
const BLOCK_INNER: usize = MOST_INNER;
/// The same where the left side is read across its lines: so many lines of both sides fit a first-level cache.
const BLOCK_ACROSS: usize = 64;
/// A right side of at most so many elements is packed as a whole before the output is cut into blocks.
const SMALL: usize = 1 << 15;
/// Up to so many rows, a transposed right side is read line by line instead of being packed.
const FEW_ROWS: usize = 4;
/// From this distance on between its lines, a left side that is read across them is packed before it is used.
const FAR: usize = 256;

/// A matrix in memory, as it lies there or transposed.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    shape: Shape,
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a, T: Scalar> Matrix<'a, T> {
    pub(crate) fn new(view: View<'a, T>) -> Self {
        let (rows, columns) = view.shape().as_matrix();
        Self { data: view.data(), shape: view.shape(), rows, columns, transposed: false }
    }

    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// How far neighbours of the same column and of the same row lie apart.
    fn strides(&self) -> (usize, usize) {
        if self.transposed { (1, self.rows) } else { (self.columns, 1) }
    }

    fn as_left(&self) -> Left<'a, T> {
        let (row, inner) = self.strides();
        Left { data: self.data, row, inner }
    }
}

/// Where the kernel finds the right side.
#[derive(Clone, Copy)]
enum RightSide<'a, T> {
    /// In memory, as it lies there.
    InPlace,
    /// Packed as a whole, panel after panel.
    Whole(&'a [T]),
    /// In memory, to be packed for each block.
    Unpacked,
}

/// A product whose shapes fit.
pub(crate) struct Product<'a, T> {
    pub(crate) size: Size,
    lhs: Matrix<'a, T>,
    rhs: Matrix<'a, T>,
}

impl<'a, T: Scalar> Product<'a, T> {
    pub(crate) fn new(
        operation: &'static str,
        lhs: Matrix<'a, T>,
        rhs: Matrix<'a, T>,
        output: Shape,
    ) -> Result<Self> {
        let (m, k, n) = (lhs.rows, lhs.columns, rhs.columns);
        if rhs.rows != k {
            let expected = format!("the inner size {k} of lhs {} in rhs", lhs.shape);
            return Err(Error::Shape { operation, expected, found: rhs.shape });
        }
        if output.as_matrix() != (m, n) {
            let expected = format!("an output of {m} rows and {n} columns");
            return Err(Error::Shape { operation, expected, found: output });
        }
        Ok(Self { size: Size { rows: m, inner: k, columns: n }, lhs, rhs })
    }

    pub(crate) fn compute(
        self,
        start: Start<'_, T>,
        output: &mut [T],
        then: Option<impl Fn(&mut [T]) + Sync>,
    ) {
        let Size { rows, inner, columns } = self.size;
        if output.is_empty() {
            return;
        }
        if columns == 1 && self.lhs.transposed {
            // A column lies in memory as a row does: x^T lhs has the same numbers as lhs^T x.
            let flipped = Size { rows: 1, inner, columns: rows };
            let lhs = Matrix { transposed: false, rows: 1, columns: inner, ..self.rhs };
            let product = Product { size: flipped, lhs, rhs: self.lhs.transposed() };
            let start = match start {
                Start::Row(row) => {
                    output.fill(row[0]);
                    Start::Output
                }
                other => other,
            };
            return product.compute(start, output, then);
        }
        let lines = !self.lhs.transposed && (columns == 1 || self.rhs.transposed && rows <= FEW_ROWS);
        if let (true, Start::Output, None) = (self.lhs.transposed, start, &then)
            && rows.min(inner).min(columns) >= LARGE
        {
            return self.add_by_nalgebra(output);
        }
        let in_place = !self.rhs.transposed && (columns <= PANEL || rows < FEWEST_ROWS);
        let small = inner * columns <= SMALL;
        let layout = match (lines, in_place || small) {
            (true, _) => Layout::lines(self.size),
            (_, true) if rows < FEWEST_ROWS => Layout::columns(self.size),
            (_, true) => Layout::rows(self.size),
            _ => Layout { rows: rows.min(BLOCK_ROWS), columns: columns.min(BLOCK_COLUMNS) },
        };
        let parts = Parts::new(output);
        let compute = |right: RightSide<'_, T>| {
            for_each_part(layout.tasks(self.size), rows * inner * columns, |task| {
                let block = layout.block(self.size, task);
                // SAFETY: blocks do not overlap, so no other thread touches this one's rows and columns.
                unsafe {
                    if lines {
                        self.lines(&block, start, &parts);
                    } else {
                        self.panels(&block, start, right, &parts);
                    }
                }
                if let Some(then) = &then {
                    // SAFETY: as above.
                    unsafe { block.stretches(columns, &parts) }.for_each(then);
                }
            });
        };
        if lines || in_place {
            return compute(RightSide::InPlace);
        }
        if !small {
            return compute(RightSide::Unpacked);
        }
        T::with_buffer(Buffer::Whole, inner * columns, |whole| {
            for first in (0..columns).step_by(PANEL) {
                let width = PANEL.min(columns - first);
                self.pack_right(0..inner, first, &mut whole[first * inner..][..width * inner], width);
            }
            compute(RightSide::Whole(whole));
        });
    }

    /// Adds to the output a large product, whose left side is transposed, a block of rows at a time.
    fn add_by_nalgebra(self, output: &mut [T]) {
        let Size { rows, inner, columns } = self.size;
        // nalgebra counts columns first, so a row-major matrix is, to it, the transpose: (lhs rhs)^T = rhs^T lhs^T.
        let (rhs_row, rhs_column) = self.rhs.strides();
        let rhs = DMatrixView::from_slice_with_strides_generic(
            self.rhs.data,
            Dyn(columns),
            Dyn(inner),
            Dyn(rhs_column),
            Dyn(rhs_row),
        );
        // Even blocks: of a few rows, a remainder would take nalgebra's slow way, which reads beyond strided operands.
        let block_rows = rows.div_ceil(rows.div_ceil(LARGE_ROWS));
        for_each_chunk(output, block_rows * columns, rows * inner * columns, |block, output| {
            let (first, count) = (block * block_rows, output.len() / columns);
            let lhs = DMatrixView::from_slice_with_strides_generic(
                &self.lhs.data[first..],
                Dyn(inner),
                Dyn(count),
                Dyn(rows),
                Dyn(1),
            );
            DMatrixViewMut::from_slice(output, columns, count).gemm(T::one(), &rhs, &lhs, T::one());
        });
    }

    /// Products of lines that lie in memory as they are: of rows of `lhs` with the one column of `rhs`, or of the rows
    /// of a transposed `rhs` with those of `lhs`.
    ///
    /// # Safety
    /// Nobody else may touch the block.
    unsafe fn lines(&self, block: &Block, start: Start<'_, T>, output: &Parts<'_, T>) {
        let Size { inner, columns, .. } = self.size;
        // SAFETY: the caller's promise.
        for (offset, line) in unsafe { block.stretches(columns, output) }.enumerate() {
            match start {
                Start::Zero => line.fill(T::zero()),
                Start::Row(row) if columns == 1 => line.fill(row[0]),
                Start::Row(row) => line.copy_from_slice(&row[block.first_column..][..block.columns]),
                Start::Output => {}
            }
            let row = block.first_row + offset;
            let (lines, vector) = if columns == 1 {
                (&self.lhs.data[row * inner..], self.rhs.data)
            } else {
                (&self.rhs.data[block.first_column * inner..], &self.lhs.data[row * inner..][..inner])
            };
            let (output, count) = (line.as_mut_ptr(), line.len());
            let dots =
                Dots { lines, line: inner, vectors: [vector], start: [None], output, stride: 1, count };
            // SAFETY: the output is a line of its own.
            unsafe { dots.multiply() };
        }
    }

    /// The block, panel by panel.
    ///
    /// # Safety
    /// Nobody else may touch the block.
    unsafe fn panels(
        &self,
        block: &Block,
        start: Start<'_, T>,
        right: RightSide<'_, T>,
        output: &Parts<'_, T>,
    ) {
        let Size { inner, columns, .. } = self.size;
        let left = self.lhs.as_left();
        let in_place = matches!(right, RightSide::InPlace);
        let far = !in_place && left.inner >= FAR && block.rows > 1;
        let step = if left.inner == 1 { BLOCK_INNER } else { BLOCK_ACROSS };
        let step = step.min(inner.max(1));
        let rows_len = if far { block.rows * step } else { 0 };
        let panel_len = if matches!(right, RightSide::Unpacked) { PANEL * step } else { 0 };
        let work = |packed_rows: &mut [T], packed: &mut [T]| {
            for first_inner in (0..inner.max(1)).step_by(step) {
                let range = first_inner..(first_inner + step).min(inner);
                let from = block.first_row * left.row + first_inner * left.inner;
                let mut lhs = Left { data: self.lhs.data.get(from..).unwrap_or_default(), ..left };
                if far {
                    lhs = pack_left(lhs, block.rows, range.len(), packed_rows);
                }
                for first in (0..block.columns).step_by(PANEL) {
                    let width = PANEL.min(block.columns - first);
                    let column = block.first_column + first;
                    let rhs = self.right_panel(right, range.clone(), column, width, packed);
                    let start = match start {
                        _ if first_inner > 0 => Start::Output,
                        Start::Row(row) => Start::Row(&row[column..]),
                        other => other,
                    };
                    let size = Size { rows: block.rows, inner: range.len(), columns: width };
                    // SAFETY: the panel lies within the block.
                    unsafe {
                        let output = output.at(block.first_row * columns + column);
                        Panel { size, lhs, rhs, start, output, stride: columns }.multiply();
                    }
                }
            }
        };
        T::with_buffer(Buffer::Rows, rows_len, |packed_rows| {
            T::with_buffer(Buffer::Panel, panel_len, |packed| work(packed_rows, packed));
        });
    }

    /// `width` columns of the rows `inner` of the right side, as the kernel reads them.
    fn right_panel<'b>(
        &'b self,
        right: RightSide<'b, T>,
        inner: Range<usize>,
        column: usize,
        width: usize,
        packed: &'b mut [T],
    ) -> Right<'b, T> {
        let Size { inner: all_inner, columns, .. } = self.size;
        match right {
            RightSide::InPlace => {
                let data = self.rhs.data.get(inner.start * columns + column..);
                Right { data: data.unwrap_or_default(), row: columns }
            }
            RightSide::Whole(whole) => {
                Right { data: &whole[column * all_inner + inner.start * width..], row: width }
            }
            RightSide::Unpacked => {
                let packed = &mut packed[..inner.len() * width];
                self.pack_right(inner, column, packed, width);
                Right { data: packed, row: width }
            }
        }
    }

    /// Copies a part of the right side, `width` columns of the rows `inner`, row by row.
    fn pack_right(&self, inner: Range<usize>, column: usize, packed: &mut [T], width: usize) {
        if self.rhs.transposed {
            let lines = &self.rhs.data[column * self.rhs.rows + inner.start..];
            T::transpose(Transpose { lines, line: self.rhs.rows, packed, width });
        } else {
            for (line, k) in packed.chunks_exact_mut(width).zip(inner) {
                line.copy_from_slice(&self.rhs.data[k * self.rhs.columns + column..][..width]);
            }
        }
    }
}

/// `packed[k width + j] = lines[j line + k]`, in squares of 8 by 8 numbers.
pub struct Transpose<'a, T> {
    pub(crate) lines: &'a [T],
    pub(crate) line: usize,
    pub(crate) packed: &'a mut [T],
    pub(crate) width: usize,
}

impl<T: Scalar> Kernel<T> for Transpose<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        let Self { lines, line, packed, width } = self;
        let count = packed.len() / width;
        let (whole_j, whole_k) = (width / SQUARE * SQUARE, count / SQUARE * SQUARE);
        for j in (0..whole_j).step_by(SQUARE) {
            let source: [&[T]; SQUARE] = std::array::from_fn(|i| &lines[(j + i) * line..][..count]);
            for k in (0..whole_k).step_by(SQUARE) {
                let target = &mut packed[k * width + j..];
                assert!(target.len() > (SQUARE - 1) * width + SQUARE - 1);
                // SAFETY: each line has as many numbers from k on, and the last number of the target was just checked.
                unsafe { L::transpose(source.map(|line| line.as_ptr().add(k)), target.as_mut_ptr(), width) };
            }
            for k in whole_k..count {
                let target = &mut packed[k * width + j..][..SQUARE];
                target.iter_mut().zip(source).for_each(|(x, line)| *x = line[k]);
            }
        }
        for j in whole_j..width {
            for (k, &x) in lines[j * line..][..count].iter().enumerate() {
                packed[k * width + j] = x;
            }
        }
    }
}

/// Copies a left side that is read across its lines, so that these lie next to each other.
fn pack_left<'b, T: Scalar>(lhs: Left<'_, T>, rows: usize, inner: usize, packed: &'b mut [T]) -> Left<'b, T> {
    let packed = &mut packed[..rows * inner];
    for (line, k) in packed.chunks_exact_mut(rows).zip(0..inner) {
        line.copy_from_slice(&lhs.data[k * lhs.inner..][..rows]);
    }
    Left { data: packed, row: 1, inner: rows }
}

/// How an output is cut into blocks.
#[derive(Clone, Copy)]
struct Layout {
    rows: usize,
    columns: usize,
}

impl Layout {
    /// Each row by itself, unless there is but one column.
    fn lines(size: Size) -> Self {
        let lines = (1 << 14) / size.inner.max(1) + 1;
        if size.columns == 1 { Self { rows: lines, columns: 1 } } else { Self { rows: 1, columns: lines } }
    }

    /// Blocks of whole rows, so few that what is done with them next finds them in the first-level cache.
    fn rows(size: Size) -> Self {
        let pieces = pieces(size.rows * size.inner * size.columns, size.rows / FEWEST_ROWS);
        let cached = (CACHED / size.columns).clamp(FEWEST_ROWS, BLOCK_ROWS);
        Self { rows: size.rows.div_ceil(pieces).min(cached), columns: size.columns }
    }

    /// All rows, and whole panels.
    fn columns(size: Size) -> Self {
        let panels = size.columns.div_ceil(PANEL);
        let pieces = pieces(size.rows * size.inner * size.columns, panels);
        Self { rows: size.rows, columns: panels.div_ceil(pieces) * PANEL }
    }

    fn tasks(self, size: Size) -> usize {
        size.rows.div_ceil(self.rows.max(1)) * size.columns.div_ceil(self.columns.max(1))
    }

    fn block(self, size: Size, task: usize) -> Block {
        let across = size.columns.div_ceil(self.columns);
        let (first_row, first_column) = (task / across * self.rows, task % across * self.columns);
        Block {
            first_row,
            rows: self.rows.min(size.rows - first_row),
            first_column,
            columns: self.columns.min(size.columns - first_column),
        }
    }
}

/// A part of the output.
struct Block {
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
}

impl Block {
    /// The numbers of the block, in stretches that lie together in an output of `width` columns.
    ///
    /// # Safety
    /// Nobody else may touch the block meanwhile.
    unsafe fn stretches<'p, T>(
        &self,
        width: usize,
        output: &'p Parts<'_, T>,
    ) -> impl Iterator<Item = &'p mut [T]> {
        let whole = self.columns == width;
        let (count, len) = if whole { (1, self.rows * width) } else { (self.rows, self.columns) };
        let first = self.first_row * width + self.first_column;
        // SAFETY: stretches do not overlap, and the caller vouches for the block.
        (0..count).map(move |row| unsafe { output.slice(first + row * width, len) })
    }
}
