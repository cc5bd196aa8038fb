//! Convolutions over images, as products of patches with a kernel.
//!
//! A patch is what the kernel sees of the image from one place. Patches are copied together for a block of places at a
//! time, never for a whole batch, and multiplied while they are in the cache. The transposed convolution works the same
//! way, on patches of its own: with stride s, the pixels (y, x) of equal (y mod s, x mod s) see a part of the kernel that
//! is the same for all of them, so each such phase is a convolution of stride 1. A kernel of two strides over many channels
//! needs fewer multiplications than that: see the module `winograd`.

#![allow(unsafe_code, reason = "threads write pixels of the same images")]
#![expect(
    clippy::indexing_slicing,
    reason = "axes are two, and `Convolution::sizes` checks that operands have the sizes that blocks are cut from"
)]

use std::ops::Range;

use crate::kernel::{Left, Start};
use crate::parallel::{Parts, for_each_chunk, for_each_part, pieces};
use crate::patches::{Axis, Packing, Patches};
use crate::product::Transpose;
use crate::scalar::Buffer;
use crate::winograd::Winograd;
use crate::{Error, Result, Scalar, Shape, Tensor, View};

/// Places whose patches are copied together.
const PLACES: usize = 96;
/// Numbers of a patch that the gradient of a kernel takes at a time, at most and at least.
const KERNEL_ROWS: usize = 192;
const FEWEST_KERNEL_ROWS: usize = 8;
/// Up to so many channels, a transposed convolution multiplies first and then adds what falls on the same pixel: a
/// product with so few columns would leave most of each register empty.
const FEW_CHANNELS: usize = 4;

/// How a kernel moves over images. Sizes are heights and widths.
///
/// Operands are read as matrices, whatever their rank: images `[batch x height x width, channels]`, kernels
/// `[height x width x channels, filters]`, outputs `[batch x places, filters]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// The size of the image that the kernel sees.
    pub image: [usize; 2],
    /// In how many places the kernel stands.
    pub places: [usize; 2],
    /// The kernel's size.
    pub kernel: [usize; 2],
    /// How far it moves from one place to the next, at least 1.
    pub strides: [usize; 2],
    /// The distance between the pixels that it touches, at least 1.
    pub dilation: [usize; 2],
    /// Rows of zeros above the image and columns left of it. What lies beyond any side counts as 0.
    pub padding: [usize; 2],
}

impl Convolution {
    /// `output = then(bias + image * kernel)`: the convolution itself. `then` changes each number by itself, a stretch at
    /// a time.
    ///
    /// # Shapes
    /// `image [batch, ..image, channels]`, `kernel [..kernel, channels, filters]`, `bias [filters]`, output
    /// `[batch, ..places, filters]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn forward<T: Scalar>(
        &self,
        image: View<'_, T>,
        kernel: View<'_, T>,
        bias: Option<View<'_, T>>,
        output: &mut Tensor<T>,
        then: impl Fn(&mut [T]) + Sync,
    ) -> Result<()> {
        let sizes = self.sizes("convolution", image.shape(), kernel.shape())?;
        check("convolution", output.shape(), sizes.places())?;
        let start = start_of("convolution", bias, sizes.filters)?;
        if sizes.batch == 0 {
            return Ok(());
        }
        if let Some(winograd) = sizes.winograd() {
            winograd.forward(image.data(), kernel.data(), start, output.data_mut(), then);
            return Ok(());
        }
        let patches = Patches { source: image.data(), channels: sizes.channels, axes: self.forward_axes() };
        let right = Packing { inner: patches.inner(), columns: sizes.filters };
        let cost = sizes.multiply_adds();
        right.with(
            |from, panel, packed| right.copy(kernel.data(), from, panel, packed),
            |packed| {
                for_each_chunk(output.data_mut(), PLACES * sizes.filters, cost, |index, block| {
                    let first = index * PLACES;
                    patches.multiply(first..first + block.len() / sizes.filters, packed, start, block);
                    then(block);
                });
            },
        );
        Ok(())
    }

    /// `image = then(bias + places transposed-convolved with kernel)`: what the gradient of [`Convolution::forward`] with
    /// respect to its image is of that with respect to its output. A pixel that no place sees is the bias.
    ///
    /// # Shapes
    /// `places [batch, ..places, filters]`, `kernel [..kernel, channels, filters]`, `bias [channels]`, image
    /// `[batch, ..image, channels]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn transposed<T: Scalar>(
        &self,
        places: View<'_, T>,
        kernel: View<'_, T>,
        bias: Option<View<'_, T>>,
        image: &mut Tensor<T>,
        then: impl Fn(&mut [T]) + Sync,
    ) -> Result<()> {
        let sizes = self.sizes("transposed convolution", image.shape(), kernel.shape())?;
        check("transposed convolution", places.shape(), sizes.places())?;
        let start = start_of("transposed convolution", bias, sizes.channels)?;
        if sizes.batch == 0 {
            return Ok(());
        }
        if let Some(winograd) = sizes.winograd() {
            winograd.transposed(places.data(), kernel.data(), start, image.data_mut(), then);
        } else if sizes.channels <= FEW_CHANNELS {
            self.scatter(&sizes, places.data(), kernel.data(), start, image, then);
        } else {
            self.gather(&sizes, places.data(), kernel.data(), start, image, then);
        }
        Ok(())
    }

    /// `gradient += ` the gradient of the kernel, from the image and the gradient of the output.
    ///
    /// # Shapes
    /// As [`Convolution::forward`]; `grad_output` as its output, `gradient` as the kernel.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn add_kernel_gradient<T: Scalar>(
        &self,
        image: View<'_, T>,
        grad_output: View<'_, T>,
        gradient: &mut Tensor<T>,
    ) -> Result<()> {
        let sizes = self.sizes("kernel gradient", image.shape(), gradient.shape())?;
        check("kernel gradient", grad_output.shape(), sizes.places())?;
        if sizes.batch == 0 {
            return Ok(());
        }
        if let Some(winograd) = sizes.winograd() {
            winograd.add_kernel_gradient(image.data(), grad_output.data(), gradient.data_mut());
            return Ok(());
        }
        let patches = Patches { source: image.data(), channels: sizes.channels, axes: self.forward_axes() };
        let (filters, cost) = (sizes.filters, sizes.multiply_adds());
        let most = patches.inner().div_ceil(FEWEST_KERNEL_ROWS);
        let rows = patches.inner().div_ceil(pieces(cost, most)).min(KERNEL_ROWS);
        for_each_chunk(gradient.data_mut(), rows * filters, cost, |index, block| {
            let first = index * rows;
            patches.add_products(first..first + block.len() / filters, grad_output.data(), filters, block);
        });
        Ok(())
    }

    /// The sizes of the operands, read as matrices: pixels of `channels`, and a kernel of `filters` columns.
    fn sizes(&self, operation: &'static str, image: Shape, kernel: Shape) -> Result<Sizes> {
        let settings = [self.strides, self.dilation, self.kernel, self.image, self.places];
        let sane = settings.iter().flatten().all(|&x| (1..1 << 31).contains(&x));
        if !sane || self.padding.iter().any(|&x| x >= 1 << 31) {
            let expected = "strides, dilation and sizes of at least 1".to_owned();
            return Err(unfit(operation, expected, Shape::from(self.kernel)));
        }
        let ((pixels, channels), (taps, filters)) = (image.as_matrix(), kernel.as_matrix());
        let [height, width] = self.image;
        if !pixels.is_multiple_of(height * width) || channels == 0 {
            return Err(unfit(operation, format!("images of {height} x {width} pixels"), image));
        }
        let [down, right] = self.kernel;
        if taps != (down * right).saturating_mul(channels) || filters == 0 {
            let expected = format!("a kernel of {down} x {right} for {channels} channels");
            return Err(unfit(operation, expected, kernel));
        }
        Ok(Sizes { convolution: *self, batch: pixels / (height * width), channels, filters })
    }

    fn forward_axes(&self) -> [Axis; 2] {
        std::array::from_fn(|axis| Axis {
            places: self.places[axis],
            source: self.image[axis],
            step: self.strides[axis],
            first: -(self.padding[axis] as isize),
            gap: self.dilation[axis],
            taps: self.kernel[axis],
            first_tap: 0,
            next_tap: 1,
        })
    }

    /// How the pixels of one phase see the places. Pixel y = phase + stride i is seen from place t through the kernel's k
    /// where y = stride t + dilation k - padding. Such k lie stride / gcd apart, and the places that belong to them
    /// dilation / gcd, in the opposite direction: the last k comes first.
    fn phase_axis(&self, axis: usize, phase: usize) -> Axis {
        let (stride, dilation) = (self.strides[axis], self.dilation[axis]);
        let shifted = (phase + self.padding[axis]) as isize;
        let place_of = |k: usize| shifted - (dilation * k) as isize;
        let seen = |k: &usize| place_of(*k).rem_euclid(stride as isize) == 0;
        let last = (0..self.kernel[axis]).rev().find(seen);
        let common = greatest_common_divisor(stride, dilation);
        let apart = stride / common;
        let taps = last.map_or(0, |last| last / apart + 1);
        Axis {
            places: self.image[axis].saturating_sub(phase).div_ceil(stride),
            source: self.places[axis],
            step: 1,
            first: last.map_or(0, |last| place_of(last) / stride as isize),
            gap: dilation / common,
            taps,
            first_tap: last.unwrap_or(0),
            next_tap: -(apart as isize),
        }
    }

    /// A transposed convolution, phase by phase.
    fn gather<T: Scalar>(
        &self,
        sizes: &Sizes,
        places: &[T],
        kernel: &[T],
        start: Start<'_, T>,
        image: &mut Tensor<T>,
        then: impl Fn(&mut [T]) + Sync,
    ) {
        let Sizes { channels, filters, batch, .. } = *sizes;
        let image_len = self.image[0] * self.image[1] * sizes.channels;
        let output = Parts::new(image.data_mut());
        let [down, right] = self.strides;
        for (down, right) in phases([down.min(self.image[0]), right.min(self.image[1])]) {
            let axes = [self.phase_axis(0, down), self.phase_axis(1, right)];
            let patches = Patches { source: places, channels: filters, axes };
            let packing = Packing { inner: patches.inner(), columns: channels };
            let rows = batch * patches.per_image();
            let pack = |from: Range<usize>, panel: Range<usize>, packed: &mut [T]| {
                for (inner, tap) in patches.taps_in(from.clone()) {
                    let line = self.tap_index(axes, tap) * channels + panel.start;
                    let lines = &kernel[line * filters + inner.start % filters..];
                    let packed = &mut packed[(inner.start - from.start) * panel.len()..];
                    let packed = &mut packed[..inner.len() * panel.len()];
                    T::transpose(Transpose { lines, line: filters, packed, width: panel.len() });
                }
            };
            packing.with(pack, |packed| {
                for_each_part(rows.div_ceil(PLACES), rows * packing.inner * channels, |part| {
                    let rows = part * PLACES..rows.min((part + 1) * PLACES);
                    T::with_buffer(Buffer::Panel, PLACES * channels, |block| {
                        let block = &mut block[..rows.len() * channels];
                        patches.multiply(rows.clone(), packed, start, block);
                        then(block);
                        for (pixel, row) in block.chunks_exact(channels).zip(rows) {
                            let (number, y, x) = patches.place(row);
                            let y = down + y * self.strides[0];
                            let x = right + x * self.strides[1];
                            let at = number * image_len + (y * self.image[1] + x) * channels;
                            // SAFETY: each pixel belongs to one phase and one place in it.
                            unsafe { output.slice(at, channels) }.copy_from_slice(pixel);
                        }
                    });
                });
            });
        }
    }

    /// The number of a tap of a phase among the kernel's pixels.
    fn tap_index(&self, axes: [Axis; 2], [down, right]: [usize; 2]) -> usize {
        axes[0].kernel_index(down) * self.kernel[1] + axes[1].kernel_index(right)
    }

    /// A transposed convolution to few channels: each place times the whole kernel, added up where pixels meet.
    fn scatter<T: Scalar>(
        &self,
        sizes: &Sizes,
        places: &[T],
        kernel: &[T],
        start: Start<'_, T>,
        image: &mut Tensor<T>,
        then: impl Fn(&mut [T]) + Sync,
    ) {
        let Sizes { channels, filters, .. } = *sizes;
        let columns = self.kernel[0] * self.kernel[1] * channels;
        let per_image = self.places[0] * self.places[1];
        let image_len = self.image[0] * self.image[1] * sizes.channels;
        let packing = Packing { inner: filters, columns };
        let pack = |from: Range<usize>, panel: Range<usize>, packed: &mut [T]| {
            let lines = &kernel[panel.start * filters + from.start..];
            T::transpose(Transpose { lines, line: filters, packed, width: panel.len() });
        };
        packing.with(pack, |packed| {
            for_each_chunk(image.data_mut(), image_len, sizes.multiply_adds(), |number, image| {
                match start {
                    Start::Row(bias) => {
                        image.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(bias));
                    }
                    _ => image.fill(T::zero()),
                }
                for first in (0..per_image).step_by(PLACES) {
                    let rows = first..per_image.min(first + PLACES);
                    let lhs = &places[(number * per_image + first) * filters..][..rows.len() * filters];
                    T::with_buffer(Buffer::Panel, rows.len() * columns, |products| {
                        packed.multiply(Left { data: lhs, row: filters, inner: 1 }, rows.len(), products);
                        for (patch, place) in products.chunks_exact(columns).zip(rows) {
                            self.add_patch(place, patch, channels, image);
                        }
                    });
                }
                then(image);
            });
        });
    }

    /// Adds a patch to the pixels that it covers.
    fn add_patch<T: Scalar>(&self, place: usize, patch: &[T], channels: usize, image: &mut [T]) {
        let [down, right] = self.forward_axes();
        let (y, x) = (place / self.places[1], place % self.places[1]);
        let span = self.kernel[1] * channels;
        for (tap, line) in patch.chunks_exact(span).enumerate() {
            let Some(row) = down.source_of(y, tap) else { continue };
            let image = &mut image[row * self.image[1] * channels..][..self.image[1] * channels];
            right.for_each_run(x, channels, 0..span, |source, part| {
                let target = &mut image[source];
                target.iter_mut().zip(&line[part]).for_each(|(pixel, &value)| *pixel += value);
            });
        }
    }
}

/// All phases of a stride that have pixels, which are no more than an image is long.
fn phases([down, right]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..down).flat_map(move |y| (0..right).map(move |x| (y, x)))
}

fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn unfit(operation: &'static str, expected: String, found: Shape) -> Error {
    Error::Shape { operation, expected, found }
}

fn check(operation: &'static str, found: Shape, (rows, columns): (usize, usize)) -> Result<()> {
    let expected = || format!("{rows} places of {columns} numbers");
    if found.as_matrix() == (rows, columns) { Ok(()) } else { Err(unfit(operation, expected(), found)) }
}

fn start_of<'a, T>(
    operation: &'static str,
    bias: Option<View<'a, T>>,
    columns: usize,
) -> Result<Start<'a, T>> {
    match bias {
        Some(bias) if bias.shape().len() != columns => {
            Err(unfit(operation, format!("a bias of {columns} numbers"), bias.shape()))
        }
        Some(bias) => Ok(Start::Row(bias.data())),
        None => Ok(Start::Zero),
    }
}

/// The sizes of a convolution whose shapes fit.
struct Sizes {
    convolution: Convolution,
    batch: usize,
    channels: usize,
    filters: usize,
}

impl Sizes {
    /// The output as a matrix: a row for each place.
    fn places(&self) -> (usize, usize) {
        let [down, right] = self.convolution.places;
        (self.batch.saturating_mul(down * right), self.filters)
    }

    fn winograd(&self) -> Option<Winograd> {
        Winograd::new(&self.convolution, self.batch, self.channels, self.filters)
    }

    fn multiply_adds(&self) -> usize {
        let ((places, filters), [down, right]) = (self.places(), self.convolution.kernel);
        let kernel = filters * down * right * self.channels;
        places.saturating_mul(kernel)
    }
}
