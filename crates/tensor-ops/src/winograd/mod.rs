//! Convolutions whose kernel is two strides long, by Winograd's minimal filtering: about half the multiplications.
//!
//! Along an axis, such a kernel has two taps for each phase of the stride. Three neighbouring places y of one phase need
//! six products of taps g and numbers d, or four: with m0 = (d0 - d2) g0, m1 = (d1 + d2) (g0 + g1)/2,
//! m2 = (d2 - d1) (g0 - g1)/2 and m3 = (d3 - d1) g1,
//!
//! y0 = d0 g0 + d1 g1 = m0 + m1 + m2, y1 = d1 g0 + d2 g1 = m1 - m2, y2 = d2 g0 + d3 g1 = m1 + m2 + m3
//!
//! (Winograd, Arithmetic complexity of computations, 1980: F(3, 2); Lavin and Gray, Fast algorithms for convolutional
//! neural networks, 2016, for two axes and many channels). So a tile of places becomes four points along each axis, and all
//! points of the same kind are one product of matrices. Where a line of places ends, a tile of two takes three points,
//! and one of a single place two. All three products of a convolution go through the same points: what turns images into
//! points also turns the points' gradients into that of the image, transposed, and so on.
//!
//! The results are about as exact as those of plain sums: what the sums and differences lose, shorter sums of products gain.

#![allow(unsafe_code, reason = "kernels work on memory that they share out themselves")]
#![expect(
    clippy::indexing_slicing,
    reason = "`Convolution::sizes` checks that operands have the sizes that blocks, points and kernels are cut from"
)]

mod combine;
mod kernels;
mod tiles;

use std::ops::Range;

use combine::{Column, combine, for_each_columns};
use kernels::{Gather, Spread};
use tiles::{Axis, KINDS};

use crate::Scalar;
use crate::conv::Convolution;
use crate::kernel::{Left, PANEL, Right, Size, Start};
use crate::parallel::{Parts, for_each_chunk, for_each_part, sharing};
use crate::patches::{Packed, Packing, multiply_panel};
use crate::product::Transpose;
use crate::scalar::Buffer;

/// Fewer channels or filters make products too narrow.
const FEWEST_CHANNELS: usize = 16;
/// What it costs to make a number of a transformed kernel, to turn one of a kernel, and to make one that is summed up to or
/// from a point, in multiply-adds.
const KERNEL_COST: usize = 8;
const TURN_COST: usize = 8;
const POINT_COST: usize = 6;
/// Numbers in the points of so many images as are worked on together: they fill a second-level cache.
const CACHED: usize = 1 << 17;
/// Points that the gradient of a kernel takes at a time.
const KERNEL_POINTS: usize = 128;
/// Numbers between the rows of a left side, and between kernels: what lies a power of 2 apart shares few lines of a cache.
const GAP: usize = 16;
const KERNEL_GAP: usize = 80;

/// A convolution that is computed this way.
pub(crate) struct Winograd {
    axes: [Axis; 2],
    batch: usize,
    channels: usize,
    filters: usize,
}

impl Winograd {
    /// `None` where the kernel is not two strides long, or the way over points would not be shorter, which depends on the
    /// sizes alone.
    pub(crate) fn new(
        convolution: &Convolution,
        batch: usize,
        channels: usize,
        filters: usize,
    ) -> Option<Self> {
        let Convolution { image, places, kernel, strides, dilation, padding } = *convolution;
        if dilation != [1, 1] || kernel != strides.map(|stride| 2 * stride) {
            return None;
        }
        if channels.min(filters) < FEWEST_CHANNELS {
            return None;
        }
        let axes = [0, 1].map(|axis| Axis {
            places: places[axis],
            image: image[axis],
            stride: strides[axis],
            padding: padding[axis],
        });
        let all = Self { axes, batch, channels, filters };
        let less = (4 * places[0] * places[1]).checked_sub(all.points())?.saturating_mul(all.kernel_len());
        let more = all.points().saturating_mul(POINT_COST * (all.seen() + filters));
        (less.checked_sub(more)?.saturating_mul(batch) > all.kernel_cost()).then_some(all)
    }

    /// Numbers that a point sees: the channels of all phases.
    fn seen(&self) -> usize {
        self.axes[0].stride * self.axes[1].stride * self.channels
    }

    /// Points of an image.
    fn points(&self) -> usize {
        self.axes[0].points() * self.axes[1].points()
    }

    /// Multiply-adds of the products of points.
    fn cost(&self) -> usize {
        self.batch.saturating_mul(self.points()).saturating_mul(self.kernel_len())
    }

    /// Numbers in the kernel of each kind of points.
    fn kernel_len(&self) -> usize {
        self.seen() * self.filters
    }

    /// How far these kernels lie apart.
    fn apart(&self) -> usize {
        self.kernel_len() + KERNEL_GAP
    }

    /// What it costs to make them all.
    fn kernel_cost(&self) -> usize {
        (KINDS * KINDS * KERNEL_COST).saturating_mul(self.kernel_len())
    }

    fn image_len(&self) -> usize {
        self.axes[0].image * self.axes[1].image * self.channels
    }

    fn places_len(&self) -> usize {
        self.axes[0].places * self.axes[1].places * self.filters
    }

    /// How many images are worked on together, whose points have so many numbers each.
    fn block(&self, each: usize) -> usize {
        let cached = (CACHED / (self.points() * each)).max(1);
        // Each block reads all kernels.
        let blocks = self.batch.div_ceil(cached).next_multiple_of(sharing());
        self.batch.div_ceil(blocks)
    }

    /// [`Convolution::forward`].
    pub(crate) fn forward<T: Scalar>(
        &self,
        image: &[T],
        kernel: &[T],
        start: Start<'_, T>,
        output: &mut [T],
        then: impl Fn(&mut [T]) + Sync,
    ) {
        let packing = Packing { inner: self.seen(), columns: self.filters };
        self.with_kernels(packing, kernel, false, |kernels| {
            let block = self.block(self.filters);
            for_each_chunk(output, block * self.places_len(), self.cost(), |index, output| {
                let image = &image[index * block * self.image_len()..];
                let batch = output.len() / self.places_len();
                let part = Self { batch, ..*self };
                T::with_buffer(Buffer::Panel, batch * self.points() * self.filters, |points| {
                    let row = self.seen() + GAP;
                    part.multiply(packing, kernels, row, points, |pair, seen| {
                        part.see(image, pair, row, seen)
                    });
                    part.make(points, start, output, &then);
                });
            });
        });
    }

    /// [`Convolution::transposed`].
    pub(crate) fn transposed<T: Scalar>(
        &self,
        places: &[T],
        kernel: &[T],
        start: Start<'_, T>,
        image: &mut [T],
        then: impl Fn(&mut [T]) + Sync,
    ) {
        let packing = Packing { inner: self.filters, columns: self.seen() };
        self.with_kernels(packing, kernel, true, |kernels| {
            let block = self.block(self.seen());
            for_each_chunk(image, block * self.image_len(), self.cost(), |index, image| {
                let places = &places[index * block * self.places_len()..];
                let batch = image.len() / self.image_len();
                let part = Self { batch, ..*self };
                T::with_buffer(Buffer::Panel, batch * self.points() * self.seen(), |points| {
                    let row = self.filters + GAP;
                    let judge = |pair: [usize; 2], judged: &mut [T]| {
                        part.judge(places, pair, 0..self.filters, row, judged);
                    };
                    part.multiply(packing, kernels, row, points, judge);
                    part.look_back(points, start, image, &then);
                });
            });
        });
    }

    /// [`Convolution::add_kernel_gradient`].
    pub(crate) fn add_kernel_gradient<T: Scalar>(&self, image: &[T], places: &[T], gradient: &mut [T]) {
        let Self { channels, filters, .. } = *self;
        T::with_buffer(Buffer::Whole, KINDS * KINDS * self.apart(), |sums| {
            for_each_chunk(sums, self.apart(), self.cost(), |pair, sums| {
                let own = &mut sums[..self.kernel_len()];
                self.kernel_products(image, places, [pair / KINDS, pair % KINDS], own);
            });
            let gradient = Parts::new(gradient);
            for_each_part(self.seen(), self.kernel_cost(), |line| {
                let taps = self.taps(line / channels).map(|tap| {
                    // SAFETY: each line of each tap belongs to one phase and one channel.
                    unsafe { gradient.slice((tap * channels + line % channels) * filters, filters) }
                });
                let own = |pair| &sums[pair * self.apart() + line * filters..][..filters];
                T::run(Gather { kinds: std::array::from_fn(own), taps });
            });
        });
    }

    /// The gradient of the kernel of one kind of points.
    fn kernel_products<T: Scalar>(&self, image: &[T], places: &[T], pair: [usize; 2], sums: &mut [T]) {
        let (seen, filters) = (self.seen(), self.filters);
        let (row, each) = (seen + GAP, self.rows(pair) / self.batch);
        if each == 0 {
            return sums.fill(T::zero());
        }
        let block = (KERNEL_POINTS / each).max(1);
        let mut start = Start::Zero;
        for first in (0..self.batch).step_by(block) {
            let part = Self { batch: block.min(self.batch - first), ..*self };
            let rows = part.rows(pair);
            let (image, places) = (&image[first * self.image_len()..], &places[first * self.places_len()..]);
            T::with_buffer(Buffer::Rows, rows * row, |of_images| {
                part.see(image, pair, row, of_images);
                T::with_buffer(Buffer::Panel, rows * PANEL.min(filters), |of_places| {
                    for column in (0..filters).step_by(PANEL) {
                        let columns = column..filters.min(column + PANEL);
                        let width = columns.len();
                        let of_places = &mut of_places[..rows * width];
                        part.judge(places, pair, columns, width, of_places);
                        for from in (0..rows).step_by(KERNEL_POINTS) {
                            let inner = KERNEL_POINTS.min(rows - from);
                            let size = Size { rows: seen, inner, columns: width };
                            let lhs = Left { data: &of_images[from * row..], row: 1, inner: row };
                            let rhs = Right { data: &of_places[from * width..], row: width };
                            let start = if from > 0 { Start::Output } else { start };
                            multiply_panel(size, lhs, rhs, start, &mut sums[column..], filters);
                        }
                    }
                });
            });
            start = Start::Output;
        }
    }

    /// Lends the kernels of all kinds of points to `work`, `apart` numbers apart, each packed.
    fn with_kernels<T: Scalar>(
        &self,
        packing: Packing,
        kernel: &[T],
        transposed: bool,
        work: impl FnOnce(&[T]),
    ) {
        let Self { channels, filters, .. } = *self;
        T::with_buffer(Buffer::Whole, KINDS * KINDS * self.apart(), |kernels| {
            let packed = Parts::new(kernels);
            if transposed {
                T::with_buffer(Buffer::Panel, kernel.len(), |turned| {
                    let tap = channels * filters;
                    for_each_chunk(turned, tap, kernel.len() * TURN_COST, |index, packed| {
                        let lines = &kernel[index * tap..][..tap];
                        T::transpose(Transpose { lines, line: filters, packed, width: channels });
                    });
                    self.pack(packing, turned, channels, &packed);
                });
            } else {
                self.pack(packing, kernel, filters, &packed);
            }
            work(kernels);
        });
    }

    /// Packs the kernels of all kinds of points. A tap has lines of `line` numbers; phases follow each other along the
    /// columns of a kernel, or, where a line is as long as those, along its rows.
    fn pack<T: Scalar>(&self, packing: Packing, kernel: &[T], line: usize, kernels: &Parts<'_, T>) {
        let lines = self.channels * self.filters / line;
        for_each_part(packing.blocks(), self.kernel_cost(), |block| {
            let (first, rows, panel) = packing.block(block);
            for (number, row) in rows.enumerate() {
                let mut column = panel.start;
                while column < panel.end {
                    let (phase, from) = (row / lines + column / line, row % lines * line + column % line);
                    let len = (line - column % line).min(panel.end - column);
                    let taps = self.taps(phase).map(|tap| &kernel[tap * lines * line + from..][..len]);
                    let to = first + number * panel.len() + column - panel.start;
                    // SAFETY: no two blocks share a number.
                    let own = |pair| unsafe { kernels.slice(pair * self.apart() + to, len) };
                    T::run(Spread { taps, kinds: std::array::from_fn(own) });
                    column += len;
                }
            }
        });
    }

    /// The taps of a phase: two along each axis.
    fn taps(&self, phase: usize) -> [usize; 4] {
        let [down, right] = self.axes.map(|axis| axis.stride);
        let (y, x) = (phase / right, phase % right);
        [0, 1, 2, 3].map(|tap| (y + tap / 2 * down) * 2 * right + x + tap % 2 * right)
    }

    /// How many points of a kind the batch has.
    fn rows(&self, [down, right]: [usize; 2]) -> usize {
        self.batch * self.axes[0].count(down) * self.axes[1].count(right)
    }

    /// Where the points of a kind lie among all, whose kinds along x come one after the other, in each of them those along
    /// y, then images and tiles: the number of the first.
    fn first(&self, [down, right]: [usize; 2]) -> usize {
        let [y, x] = self.axes;
        self.batch * (y.points() * x.before(right) + y.before(down) * x.count(right))
    }

    /// Sets `points` to the products of all kinds of points, each made by `make` in lines `row` apart, with their kernels.
    fn multiply<T: Scalar>(
        &self,
        packing: Packing,
        kernels: &[T],
        row: usize,
        points: &mut [T],
        make: impl Fn([usize; 2], &mut [T]),
    ) {
        for pair in (0..KINDS * KINDS).map(|pair| [pair / KINDS, pair % KINDS]) {
            let rows = self.rows(pair);
            if rows == 0 {
                continue;
            }
            T::with_buffer(Buffer::Rows, rows * row, |left| {
                make(pair, left);
                let data = &kernels[(pair[0] * KINDS + pair[1]) * self.apart()..][..self.kernel_len()];
                let products = &mut points[self.first(pair) * packing.columns..][..rows * packing.columns];
                Packed { data, packing }.multiply(Left { data: left, row, inner: 1 }, rows, products);
            });
        }
    }

    /// The line of points of a kind and tile along y.
    fn line(&self, image: usize, (kind, tile): (usize, usize)) -> usize {
        let axis = self.axes[0];
        self.batch * axis.before(kind) + image * axis.count(kind) + tile
    }

    /// Where the points of a kind and tile along x lie in line 0, and how far lines lie apart.
    fn across(&self, (kind, tile): (usize, usize), len: usize) -> (usize, usize) {
        let [y, x] = self.axes;
        ((self.batch * y.points() * x.before(kind) + tile) * len, x.count(kind) * len)
    }

    /// Points of one kind, of images: lines of `row` numbers.
    fn see<T: Scalar>(&self, image: &[T], [down, right]: [usize; 2], row: usize, output: &mut [T]) {
        let ([y, x], channels) = (self.axes, self.channels);
        let tiles = x.count(right);
        let column = |index: usize| {
            let (tile, phase) = (index / x.stride, index % x.stride);
            let place = |pixel| (pixel * channels, x.image * channels);
            Column::new(x.pixels_of(right, tile, phase), place, tile * row + phase * channels, channels)
        };
        for_each_columns(tiles * x.stride, column, |columns, _| {
            for (line, output) in output.chunks_exact_mut(tiles * row).enumerate() {
                let (number, tile) = (line / y.count(down), line % y.count(down));
                let image = &image[number * self.image_len()..][..self.image_len()];
                for phase in 0..y.stride {
                    let output = &mut output[phase * x.stride * channels..];
                    let lines = y.pixels_of(down, tile, phase);
                    combine(image, &lines, columns, false, output);
                }
            }
        });
    }

    /// The gradients of points of one kind, of those of places: a part of the filters, in lines of `row` numbers.
    fn judge<T: Scalar>(
        &self,
        places: &[T],
        [down, right]: [usize; 2],
        filters: Range<usize>,
        row: usize,
        output: &mut [T],
    ) {
        let [y, x] = self.axes;
        let tiles = x.count(right);
        let column = |tile: usize| {
            let place = |place| (place * self.filters + filters.start, x.places * self.filters);
            Column::new(x.places_of(right, tile), place, tile * row, filters.len())
        };
        for_each_columns(tiles, column, |columns, _| {
            for (line, output) in output.chunks_exact_mut(tiles * row).enumerate() {
                let (number, tile) = (line / y.count(down), line % y.count(down));
                let places = &places[number * self.places_len()..][..self.places_len()];
                combine(places, &y.places_of(down, tile), columns, false, output);
            }
        });
    }

    /// The places that points make.
    fn make<T: Scalar>(
        &self,
        points: &[T],
        start: Start<'_, T>,
        output: &mut [T],
        then: &(impl Fn(&mut [T]) + Sync),
    ) {
        let ([y, x], filters) = (self.axes, self.filters);
        let column = |place: usize| {
            Column::new(x.points_of(place), |point| self.across(point, filters), place * filters, filters)
        };
        for_each_columns(x.places, column, |columns, places| {
            for (line, output) in output.chunks_exact_mut(x.places * filters).enumerate() {
                let (image, place) = (line / y.places, line % y.places);
                let lines = y.points_of(place).map(|point| self.line(image, point));
                let own = places.start * filters..places.end * filters;
                let add = begin(start, &mut output[own.clone()]);
                combine(points, &lines, columns, add, output);
                then(&mut output[own]);
            }
        });
    }

    /// The images that points are seen from: [`Winograd::see`], transposed.
    fn look_back<T: Scalar>(
        &self,
        points: &[T],
        start: Start<'_, T>,
        output: &mut [T],
        then: &(impl Fn(&mut [T]) + Sync),
    ) {
        let ([y, x], channels, seen) = (self.axes, self.channels, self.seen());
        let column = |pixel: usize| {
            let (position, phase) = x.position(pixel);
            let place = |point| {
                let (first, apart) = self.across(point, seen);
                (first + phase * channels, apart)
            };
            Column::new(x.points_at(position), place, pixel * channels, channels)
        };
        for_each_columns(x.image, column, |columns, pixels| {
            for (line, output) in output.chunks_exact_mut(x.image * channels).enumerate() {
                let (image, pixel) = (line / y.image, line % y.image);
                let (position, phase) = y.position(pixel);
                let lines = y.points_at(position).map(|point| self.line(image, point));
                let points = &points[phase * x.stride * channels..];
                let own = pixels.start * channels..pixels.end * channels;
                let add = begin(start, &mut output[own.clone()]);
                combine(points, &lines, columns, add, output);
                then(&mut output[own]);
            }
        });
    }
}

/// Sets lines to what is added to, and says whether there is anything.
fn begin<T: Scalar>(start: Start<'_, T>, lines: &mut [T]) -> bool {
    if let Start::Row(row) = start {
        lines.chunks_exact_mut(row.len()).for_each(|line| line.copy_from_slice(row));
    }
    !matches!(start, Start::Zero)
}
