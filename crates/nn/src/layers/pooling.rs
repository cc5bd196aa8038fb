//! Pooling over windows of images: the largest number, the mean, or the mean over the whole image.
//!
//! Each channel by itself. What lies beyond the edges, with `same`, is no number: it is never the largest and does not
//! count in a mean. Of several numbers that are the largest, the first gets the gradient.
//!
//! ```
//! use nn::layers::{AveragePooling2D, GlobalAveragePooling2D, MaxPooling2D};
//! use nn::{Layer, Network, Tensor};
//! use rand::SeedableRng;
//!
//! let image = Tensor::from_vec([1, 2, 4, 1], vec![1.0, 2.0, 5.0, 6.0, 3.0, 4.0, 7.0, 8.0])?;
//! let of = |layer: Box<dyn Layer<f64>>| -> nn::Result<Vec<f64>> {
//!     let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//!     Ok(Network::new([2, 4, 1], vec![layer], rng)?.predict(image.view())?.data().to_vec())
//! };
//! assert_eq!(of(Box::new(MaxPooling2D::new([2, 2])))?, [4.0, 8.0]);
//! assert_eq!(of(Box::new(AveragePooling2D::new([2, 2])))?, [2.5, 6.5]);
//! assert_eq!(of(Box::new(GlobalAveragePooling2D {}))?, [4.5]);
//! # Ok::<(), nn::Error>(())
//! ```

#![expect(
    clippy::indexing_slicing,
    reason = "axes are two, and pixels and windows are counted by shapes that each pass checks"
)]

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use super::conv1d::Padding;
use super::linear_map::linear_map;
use super::window::{optional_pair, pair, windows};
use super::{
    check_gradient, check_gradients, check_shape, check_tangent, kept, kept_mut, output_of, unexpected,
};
use crate::error::check_setting;
use crate::{Dual, Layer, Parameter, Result, Wanted, Workspace};

/// The largest number of each window.
///
/// # Shapes
/// input `[batch, height, width, channels]`, output `[batch, output height, output width, channels]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPooling2D {
    /// Height and width of a window; one number stands for both.
    #[serde(default = "two", deserialize_with = "pair")]
    pub pool_size: [usize; 2],
    /// How far windows lie apart; `pool_size` unless given.
    #[serde(default, deserialize_with = "optional_pair", skip_serializing_if = "Option::is_none")]
    pub strides: Option<[usize; 2]>,
    /// What lies beyond the edges.
    #[serde(default)]
    pub padding: Padding,
}

/// The mean of each window.
///
/// # Shapes
/// input `[batch, height, width, channels]`, output `[batch, output height, output width, channels]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AveragePooling2D {
    /// Height and width of a window; one number stands for both.
    #[serde(default = "two", deserialize_with = "pair")]
    pub pool_size: [usize; 2],
    /// How far windows lie apart; `pool_size` unless given.
    #[serde(default, deserialize_with = "optional_pair", skip_serializing_if = "Option::is_none")]
    pub strides: Option<[usize; 2]>,
    /// What lies beyond the edges.
    #[serde(default)]
    pub padding: Padding,
}

/// The mean of each channel of an image.
///
/// # Shapes
/// input `[batch, height, width, channels]`, output `[batch, channels]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAveragePooling2D {}

fn two() -> [usize; 2] {
    [2, 2]
}

/// The windows of an image.
#[derive(Debug, Clone, Copy)]
struct Windows {
    place: &'static str,
    size: [usize; 2],
    strides: [usize; 2],
    padding: Padding,
}

impl MaxPooling2D {
    /// A layer of windows side by side, `valid`.
    #[must_use]
    pub fn new(pool_size: [usize; 2]) -> Self {
        Self { pool_size, strides: None, padding: Padding::Valid }
    }

    fn windows(&self) -> Windows {
        let (size, padding) = (self.pool_size, self.padding);
        Windows { place: "max_pooling2d", size, strides: self.strides.unwrap_or(size), padding }
    }
}

impl AveragePooling2D {
    /// A layer of windows side by side, `valid`.
    #[must_use]
    pub fn new(pool_size: [usize; 2]) -> Self {
        Self { pool_size, strides: None, padding: Padding::Valid }
    }

    fn windows(&self) -> Windows {
        let (size, padding) = (self.pool_size, self.padding);
        Windows { place: "average_pooling2d", size, strides: self.strides.unwrap_or(size), padding }
    }

    fn row_shape(&self, input: Shape) -> Result<Shape> {
        self.windows().row_shape(input)
    }

    fn apply<T: Scalar>(&self, input: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
        self.windows().means(input, output)
    }

    fn transpose<T: Scalar>(&self, grad_output: View<'_, T>, grad_input: &mut Tensor<T>) -> Result<()> {
        self.windows().share_out(grad_output, grad_input)
    }
}

impl GlobalAveragePooling2D {
    /// One window that is as large as the image.
    fn windows(image: Shape) -> Windows {
        let [.., height, width, _] = *image else {
            return Windows {
                place: "global_average_pooling2d",
                size: two(),
                strides: two(),
                padding: Padding::Valid,
            };
        };
        let size = [height, width];
        Windows { place: "global_average_pooling2d", size, strides: size, padding: Padding::Valid }
    }

    #[allow(clippy::unused_self, reason = "called as that of other layers is")]
    fn row_shape(&self, input: Shape) -> Result<Shape> {
        Ok(Shape::from([Self::windows(input).row_shape(input)?.last_dim()]))
    }

    #[allow(clippy::unused_self, reason = "called as that of other layers is")]
    fn apply<T: Scalar>(&self, input: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
        Self::windows(input.shape()).means(input, output)
    }

    #[allow(clippy::unused_self, reason = "called as that of other layers is")]
    fn transpose<T: Scalar>(&self, grad_output: View<'_, T>, grad_input: &mut Tensor<T>) -> Result<()> {
        Self::windows(grad_input.shape()).share_out(grad_output, grad_input)
    }
}

impl Windows {
    fn row_shape(self, input: Shape) -> Result<Shape> {
        for (setting, sizes) in [("pool_size", self.size), ("strides", self.strides)] {
            check_setting(!sizes.contains(&0), self.place, setting, "at least 1", Shape::from(sizes))?;
        }
        let [height, width, channels] = *input else {
            return unexpected(self.place, "rows of [height, width, channels]", input);
        };
        if input.contains(&0) {
            return unexpected(self.place, "images with at least 1 number", input);
        }
        let [(rows, _), (columns, _)] = self.along([height, width])?;
        Ok(Shape::from([rows, columns, channels]))
    }

    /// The number of windows along both axes, and the padding before them.
    fn along(self, image: [usize; 2]) -> Result<[(usize, usize); 2]> {
        windows(self.place, image, [self.size, self.strides, [1, 1]], self.padding)
    }

    /// Calls `f(index, pixels)` for each window of a batch of images.
    fn for_each(self, input: Shape, mut f: impl FnMut(usize, &Pixels)) -> Result<()> {
        let [batch, height, width, _] = *input else {
            return unexpected(self.place, "an input [batch, height, width, channels]", input);
        };
        let [(rows, above), (columns, before)] = self.along([height, width])?;
        let seen = |index: usize, axis: usize, padding: usize, size: usize| -> Range<usize> {
            let first = index * self.strides[axis];
            let end = first.saturating_add(self.size[axis]);
            first.saturating_sub(padding)..end.saturating_sub(padding).min(size)
        };
        for index in 0..batch * rows * columns {
            let (image, row, column) = (index / (rows * columns), index / columns % rows, index % columns);
            let (ys, xs) = (seen(row, 0, above, height), seen(column, 1, before, width));
            f(index, &Pixels { ys: image * height + ys.start..image * height + ys.end, xs, width });
        }
        Ok(())
    }

    /// The mean of each window.
    fn means<T: Scalar>(self, input: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
        let channels = input.shape().last_dim();
        output.fill(T::zero());
        self.for_each(input.shape(), |index, pixels| {
            let means = pixel_mut(output.data_mut(), index, channels);
            for place in pixels.places() {
                let pixel = pixel(input.data(), place, channels);
                means.iter_mut().zip(pixel).for_each(|(sum, &x)| *sum += x);
            }
            let share = pixels.share();
            means.iter_mut().for_each(|sum| *sum *= share);
        })
    }

    /// The gradient of that.
    fn share_out<T: Scalar>(self, grad_output: View<'_, T>, grad_input: &mut Tensor<T>) -> Result<()> {
        let (shape, channels) = (grad_input.shape(), grad_input.shape().last_dim());
        grad_input.fill(T::zero());
        self.for_each(shape, |index, pixels| {
            let (grad, share) = (pixel(grad_output.data(), index, channels), pixels.share::<T>());
            for place in pixels.places() {
                let sums = pixel_mut(grad_input.data_mut(), place, channels);
                sums.iter_mut().zip(grad).for_each(|(sum, &g)| *sum += g * share);
            }
        })
    }
}

/// The pixels that a window sees.
struct Pixels {
    /// Rows, counted through all images of a batch.
    ys: Range<usize>,
    xs: Range<usize>,
    /// The length of a row.
    width: usize,
}

impl Pixels {
    /// Where they are in a batch, row by row.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.ys.clone().flat_map(move |y| self.xs.clone().map(move |x| y * self.width + x))
    }

    /// The weight of each in a mean.
    fn share<T: Scalar>(&self) -> T {
        T::one() / T::from_f64((self.ys.len() * self.xs.len()) as f64)
    }
}

fn pixel<T>(data: &[T], place: usize, channels: usize) -> &[T] {
    &data[place * channels..][..channels]
}

fn pixel_mut<T>(data: &mut [T], place: usize, channels: usize) -> &mut [T] {
    &mut data[place * channels..][..channels]
}

linear_map!(AveragePooling2D, "average_pooling2d");
linear_map!(GlobalAveragePooling2D, "global_average_pooling2d");

impl MaxPooling2D {
    /// The numbers that were chosen.
    fn gather<T: Scalar>(
        &self,
        input: View<'_, T>,
        [chosen]: &[Tensor<T>; 1],
        output: &mut Tensor<T>,
    ) -> Result<()> {
        check_shape(
            "max_pooling2d",
            "what was chosen in",
            output_of::<T>(self, input.shape())?,
            chosen.shape(),
        )?;
        let channels = input.shape().last_dim();
        output.resize(chosen.shape());
        self.windows().for_each(input.shape(), |index, pixels| {
            let chosen = pixel(chosen.data(), index, channels);
            let output = pixel_mut(output.data_mut(), index, channels);
            for (count, place) in pixels.places().enumerate() {
                let (count, pixel) = (T::from_f64(count as f64), pixel(input.data(), place, channels));
                for (y, (&x, &chosen)) in output.iter_mut().zip(pixel.iter().zip(chosen)) {
                    *y = if chosen == count { x } else { *y };
                }
            }
        })
    }

    /// The other way round: adds up what goes to each number.
    fn scatter<T: Scalar>(
        &self,
        grad_output: View<'_, T>,
        input: Shape,
        [chosen]: &[Tensor<T>; 1],
        grad_input: &mut Tensor<T>,
    ) -> Result<()> {
        check_shape("max_pooling2d", "what was chosen in", output_of::<T>(self, input)?, chosen.shape())?;
        let channels = input.last_dim();
        grad_input.resize(input);
        grad_input.fill(T::zero());
        self.windows().for_each(input, |index, pixels| {
            let (chosen, grad) =
                (pixel(chosen.data(), index, channels), pixel(grad_output.data(), index, channels));
            for (count, place) in pixels.places().enumerate() {
                let count = T::from_f64(count as f64);
                let sums = pixel_mut(grad_input.data_mut(), place, channels);
                for (sum, (&g, &chosen)) in sums.iter_mut().zip(grad.iter().zip(chosen)) {
                    *sum += if chosen == count { g } else { T::zero() };
                }
            }
        })
    }
}

impl<T: Scalar> Layer<T> for MaxPooling2D {
    fn name(&self) -> &'static str {
        "max_pooling2d"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.windows().row_shape(input)
    }

    fn forward(
        &self,
        _parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let shape = output_of::<T>(self, input.shape())?;
        let channels = shape.last_dim();
        workspace.scratch(1);
        let Workspace { output, scratch, .. } = workspace;
        let [chosen] = kept_mut("max_pooling2d", scratch)?;
        output.resize(shape);
        output.fill(T::neg_infinity());
        chosen.resize(shape);
        chosen.fill(T::zero());
        self.windows().for_each(input.shape(), |index, pixels| {
            let largest = pixel_mut(output.data_mut(), index, channels);
            let chosen = pixel_mut(chosen.data_mut(), index, channels);
            for (count, place) in pixels.places().enumerate() {
                let (count, pixel) = (T::from_f64(count as f64), pixel(input.data(), place, channels));
                // One after the other: so the compiler works on many channels at a time. A NaN stays one.
                for (chosen, (&largest, &x)) in chosen.iter_mut().zip(largest.iter().zip(pixel)) {
                    *chosen = if (x > largest) | x.is_nan() { count } else { *chosen };
                }
                for (largest, &x) in largest.iter_mut().zip(pixel) {
                    *largest = if (x > *largest) | x.is_nan() { x } else { *largest };
                }
            }
        })
    }

    fn backward(
        &self,
        _parameters: &[Parameter<T>],
        input: View<'_, T>,
        grad_output: View<'_, T>,
        wanted: Wanted,
        _gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        if !wanted.input {
            return Ok(());
        }
        let Workspace { grad_input, scratch, .. } = workspace;
        check_gradient(self, input, grad_output)?;
        self.scatter(grad_output, input.shape(), kept("max_pooling2d", scratch)?, grad_input)
    }

    fn forward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_tangent("max_pooling2d", input)?;
        self.gather(input.tangent, kept("max_pooling2d", &workspace.scratch)?, &mut tangents.output)
    }

    fn backward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        grad_output: Dual<'_, T>,
        wanted: Wanted,
        _gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        if !wanted.input {
            return Ok(());
        }
        check_gradients(self, input, grad_output)?;
        let (chosen, result) = (kept("max_pooling2d", &workspace.scratch)?, &mut tangents.grad_input);
        self.scatter(grad_output.tangent, input.value.shape(), chosen, result)
    }
}
