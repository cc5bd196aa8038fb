//! Patches of images as the left side of a product, and right sides packed for it.

#![allow(unsafe_code, reason = "panels are written through pointers")]
#![expect(
    clippy::indexing_slicing,
    reason = "`Convolution::sizes` checks that operands have the sizes that patches and panels are cut from"
)]

use std::ops::Range;

use crate::Scalar;
use crate::kernel::{Left, PANEL, Panel, Right, Size, Start};
use crate::scalar::Buffer;

/// Numbers of a patch that are multiplied at a time: with a panel of the kernel they fill a first-level cache.
const CHUNK: usize = 128;
/// Places that the gradient of a kernel takes at a time.
const KERNEL_PLACES: usize = 128;

/// How places lie along one axis of what they see.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) places: usize,
    /// How long the axis is.
    pub(crate) source: usize,
    /// How far neighbouring places lie apart in it.
    pub(crate) step: usize,
    /// Where the first place's first tap lies.
    pub(crate) first: isize,
    /// How far taps lie apart.
    pub(crate) gap: usize,
    pub(crate) taps: usize,
    /// Which pixel of the kernel belongs to the first tap, and how far it is to the next tap's.
    pub(crate) first_tap: usize,
    pub(crate) next_tap: isize,
}

impl Axis {
    /// What a tap of a place sees, unless that lies beyond the ends.
    pub(crate) fn source_of(&self, place: usize, tap: usize) -> Option<usize> {
        let at = (place * self.step + self.gap * tap) as isize + self.first;
        usize::try_from(at).ok().filter(|&at| at < self.source)
    }

    pub(crate) fn kernel_index(&self, tap: usize) -> usize {
        self.first_tap.wrapping_add_signed(self.next_tap * tap as isize)
    }

    /// Calls `f(numbers of the source line, numbers of the patch line)` for each run of a patch's line within `part` that
    /// lies together and inside. A line has `channels` numbers for each tap.
    pub(crate) fn for_each_run(
        &self,
        place: usize,
        channels: usize,
        part: Range<usize>,
        mut f: impl FnMut(Range<usize>, Range<usize>),
    ) {
        let taps = if self.gap == 1 { self.taps } else { 1 };
        let mut tap = if self.gap == 1 { 0 } else { part.start / channels };
        while tap * channels < part.end {
            // The run's numbers of the line, and where its first tap lies in the source.
            let line = (tap * channels).max(part.start)..((tap + taps) * channels).min(part.end);
            let at = (place * self.step + self.gap * tap) as isize + self.first;
            let shift = at * channels as isize - (tap * channels) as isize;
            let low = (-shift).max(line.start as isize);
            let high = ((self.source * channels) as isize - shift).min(line.end as isize);
            if low < high {
                f((low + shift) as usize..(high + shift) as usize, low as usize..high as usize);
            }
            tap += taps;
        }
    }
}

/// The patches of all places: a matrix with a row for each place, which is copied together in parts.
pub(crate) struct Patches<'a, T> {
    pub(crate) source: &'a [T],
    pub(crate) channels: usize,
    pub(crate) axes: [Axis; 2],
}

impl<T: Scalar> Patches<'_, T> {
    /// How many numbers a patch has.
    pub(crate) fn inner(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps * self.channels
    }

    pub(crate) fn per_image(&self) -> usize {
        self.axes[0].places * self.axes[1].places
    }

    /// The image, row and column of a place.
    pub(crate) fn place(&self, row: usize) -> (usize, usize, usize) {
        let (number, place) = (row / self.per_image(), row % self.per_image());
        (number, place / self.axes[1].places, place % self.axes[1].places)
    }

    /// The taps that a part of a patch consists of, with their numbers.
    pub(crate) fn taps_in(&self, part: Range<usize>) -> impl Iterator<Item = (Range<usize>, [usize; 2])> {
        let (channels, across) = (self.channels, self.axes[1].taps);
        (part.start / channels..part.end.div_ceil(channels)).map(move |tap| {
            let own = (tap * channels).max(part.start)..((tap + 1) * channels).min(part.end);
            (own, [tap / across, tap % across])
        })
    }

    /// Copies the numbers `inner` of the patches of `rows`, row by row.
    fn copy(&self, rows: Range<usize>, inner: Range<usize>, packed: &mut [T]) {
        let [down, right] = &self.axes;
        let (span, width) = (right.taps * self.channels, right.source * self.channels);
        for (patch, row) in packed.chunks_exact_mut(inner.len().max(1)).zip(rows) {
            let (number, y, x) = self.place(row);
            for tap in inner.start / span..inner.end.div_ceil(span) {
                let part = (tap * span).max(inner.start) - tap * span
                    ..((tap + 1) * span).min(inner.end) - tap * span;
                let patch = &mut patch[tap * span + part.start - inner.start..][..part.len()];
                let Some(line) = down.source_of(y, tap) else {
                    patch.fill(T::zero());
                    continue;
                };
                let line = &self.source[(number * down.source + line) * width..][..width];
                let first = part.start;
                let mut done = 0;
                right.for_each_run(x, self.channels, part, |source, own| {
                    let own = own.start - first..own.end - first;
                    patch[done..own.start].fill(T::zero());
                    patch[own.clone()].copy_from_slice(&line[source]);
                    done = own.end;
                });
                patch[done..].fill(T::zero());
            }
        }
    }

    /// `block = start + patches packed` for the places `rows`.
    pub(crate) fn multiply(
        &self,
        rows: Range<usize>,
        packed: Packed<'_, T>,
        start: Start<'_, T>,
        block: &mut [T],
    ) {
        T::with_buffer(Buffer::Rows, rows.len() * CHUNK, |patches| {
            for from in packed.packing.chunks() {
                let patches = &mut patches[..rows.len() * from.len()];
                self.copy(rows.clone(), from.clone(), patches);
                let lhs = Left { data: patches, row: from.len(), inner: 1 };
                packed.add_chunk(lhs, rows.len(), from, start, block);
            }
        });
    }

    /// `block += ` the products of the numbers `inner` of all patches with what belongs to their places, `right`.
    pub(crate) fn add_products(&self, inner: Range<usize>, right: &[T], columns: usize, block: &mut [T]) {
        let all = right.len() / columns.max(1);
        for first in (0..all).step_by(KERNEL_PLACES) {
            let rows = first..all.min(first + KERNEL_PLACES);
            T::with_buffer(Buffer::Rows, rows.len() * inner.len(), |patches| {
                self.copy(rows.clone(), inner.clone(), patches);
                let lhs = Left { data: patches, row: 1, inner: inner.len() };
                for column in (0..columns).step_by(PANEL) {
                    let width = PANEL.min(columns - column);
                    T::with_buffer(Buffer::Panel, rows.len() * width, |packed| {
                        for (line, row) in packed.chunks_exact_mut(width).zip(rows.clone()) {
                            line.copy_from_slice(&right[row * columns + column..][..width]);
                        }
                        let size = Size { rows: inner.len(), inner: rows.len(), columns: width };
                        let rhs = Right { data: packed, row: width };
                        multiply_panel(size, lhs, rhs, Start::Output, &mut block[column..], columns);
                    });
                }
            });
        }
    }
}

/// A panel of a block whose rows lie `stride` apart and that begins where `output` does.
pub(crate) fn multiply_panel<T: Scalar>(
    size: Size,
    lhs: Left<'_, T>,
    rhs: Right<'_, T>,
    start: Start<'_, T>,
    output: &mut [T],
    stride: usize,
) {
    assert!(size.rows == 0 || (size.rows - 1) * stride + size.columns <= output.len());
    let panel = Panel { size, lhs, rhs, start, output: output.as_mut_ptr(), stride };
    // SAFETY: the panel lies within the output.
    unsafe { panel.multiply() };
}

/// How a right side is packed: chunk after chunk of inner rows, in each of them panel after panel.
#[derive(Clone, Copy)]
pub(crate) struct Packing {
    pub(crate) inner: usize,
    pub(crate) columns: usize,
}

impl Packing {
    /// The parts of the inner index that are multiplied at a time; one that is empty where there is nothing to multiply.
    fn chunks(self) -> impl Iterator<Item = Range<usize>> {
        let even = self.inner.div_ceil(self.inner.div_ceil(CHUNK).max(1)).max(1);
        (0..self.inner.max(1)).step_by(even).map(move |from| from..self.inner.min(from + even))
    }

    fn panels(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.columns).step_by(PANEL).map(move |from| from..self.columns.min(from + PANEL))
    }

    /// Packs a right side by `pack(inner rows, columns, where to)` and lends it to `work`.
    pub(crate) fn with<T: Scalar>(
        self,
        mut pack: impl FnMut(Range<usize>, Range<usize>, &mut [T]),
        work: impl FnOnce(Packed<'_, T>),
    ) {
        T::with_buffer(Buffer::Whole, self.inner * self.columns, |data| {
            for block in 0..self.blocks() {
                let (first, chunk, panel) = self.block(block);
                let packed = &mut data[first..][..chunk.len() * panel.len()];
                pack(chunk, panel, packed);
            }
            work(Packed { data, packing: self });
        });
    }

    /// How many blocks a right side is packed in.
    pub(crate) fn blocks(self) -> usize {
        self.chunks().count() * self.panels().count()
    }

    /// Where a block begins, and its inner rows and columns.
    pub(crate) fn block(self, index: usize) -> (usize, Range<usize>, Range<usize>) {
        let panels = self.panels().count().max(1);
        let chunk = self.chunks().nth(index / panels).unwrap_or_default();
        let panel = self.panels().nth(index % panels).unwrap_or_default();
        (chunk.start * self.columns + panel.start * chunk.len(), chunk, panel)
    }

    /// Packs a part of a matrix that lies row by row.
    pub(crate) fn copy<T: Scalar>(
        self,
        matrix: &[T],
        from: Range<usize>,
        panel: Range<usize>,
        packed: &mut [T],
    ) {
        for (line, k) in packed.chunks_exact_mut(panel.len()).zip(from) {
            line.copy_from_slice(&matrix[k * self.columns..][panel.clone()]);
        }
    }
}

/// A right side that is packed.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) packing: Packing,
}

impl<T: Scalar> Packed<'_, T> {
    /// `block = lhs packed`.
    pub(crate) fn multiply(self, lhs: Left<'_, T>, rows: usize, block: &mut [T]) {
        for from in self.packing.chunks() {
            let lhs = Left { data: &lhs.data[from.start * lhs.inner..], ..lhs };
            self.add_chunk(lhs, rows, from, Start::Zero, block);
        }
    }

    /// Adds the products of one chunk to `block`, which the first one starts.
    fn add_chunk(
        self,
        lhs: Left<'_, T>,
        rows: usize,
        from: Range<usize>,
        start: Start<'_, T>,
        block: &mut [T],
    ) {
        let columns = self.packing.columns;
        for panel in self.packing.panels() {
            let data = &self.data[from.start * columns + panel.start * from.len()..];
            let start = match start {
                _ if from.start > 0 => Start::Output,
                Start::Row(row) => Start::Row(&row[panel.start..]),
                other => other,
            };
            let size = Size { rows, inner: from.len(), columns: panel.len() };
            let rhs = Right { data, row: panel.len() };
            multiply_panel(size, lhs, rhs, start, &mut block[panel.start..], columns);
        }
    }
}
