//! Larger images of the same content.
//!
//! `nearest` repeats each pixel. `bilinear` takes the pixels as samples at their middles, goes straight from one to the
//! next, and keeps the outermost beyond them: output pixel i lies at (i + 1/2) / size - 1/2 of the input.
//!
//! ```
//! use nn::{Network, Tensor, layers::{Interpolation, UpSampling2D}};
//! use rand::SeedableRng;
//!
//! let image = Tensor::from_vec([1, 1, 2, 1], vec![0.0, 4.0])?;
//! let of = |interpolation| -> nn::Result<Vec<f64>> {
//!     let layer = UpSampling2D { size: [1, 2], interpolation };
//!     let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//!     Ok(Network::new([1, 2, 1], vec![Box::new(layer)], rng)?.predict(image.view())?.data().to_vec())
//! };
//! assert_eq!(of(Interpolation::Nearest)?, [0.0, 0.0, 4.0, 4.0]);
//! assert_eq!(of(Interpolation::Bilinear)?, [0.0, 1.0, 3.0, 4.0]);
//! # Ok::<(), nn::Error>(())
//! ```

#![expect(
    clippy::indexing_slicing,
    reason = "axes are two, and pixels are counted by shapes that `linear_map` checks"
)]

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use super::linear_map::linear_map;
use super::unexpected;
use super::window::pair;
use crate::Result;
use crate::error::check_setting;

/// What lies between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest one.
    #[default]
    Nearest,
    /// A mean of the nearest two along each axis, by their distances.
    Bilinear,
}

/// Enlarges images.
///
/// # Shapes
/// input `[batch, height, width, channels]`, output `[batch, size[0] height, size[1] width, channels]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpSampling2D {
    /// How many times as high and as wide the output is; one number stands for both.
    #[serde(default = "two", deserialize_with = "pair")]
    pub size: [usize; 2],
    /// What lies between pixels.
    #[serde(default)]
    pub interpolation: Interpolation,
}

fn two() -> [usize; 2] {
    [2, 2]
}

impl UpSampling2D {
    fn row_shape(&self, input: Shape) -> Result<Shape> {
        let ok = !self.size.contains(&0);
        check_setting(ok, "up_sampling2d", "size", "at least 1", Shape::from(self.size))?;
        match *input {
            [height, width, channels] if !input.contains(&0) => {
                let larger = |size: usize, factor: usize| size.saturating_mul(factor);
                Ok(Shape::new(&[larger(height, self.size[0]), larger(width, self.size[1]), channels])?)
            }
            _ => unexpected("up_sampling2d", "rows of [height, width, channels]", input),
        }
    }

    /// The places along an axis that an output pixel is made of, with their weights.
    fn sources(&self, index: usize, axis: usize, size: usize) -> [(usize, f64); 2] {
        let factor = self.size[axis];
        if self.interpolation == Interpolation::Nearest {
            return [(index / factor, 1.0), (0, 0.0)];
        }
        let place = ((index as f64 + 0.5) / factor as f64 - 0.5).clamp(0.0, (size - 1) as f64);
        let lower = place.floor();
        [(lower as usize, 1.0 - (place - lower)), ((lower as usize + 1).min(size - 1), place - lower)]
    }

    /// Calls `f(output pixel, input pixel, weight)` for all pairs of which one makes the other, in the order of the output.
    fn for_each_source(&self, input: Shape, mut f: impl FnMut(usize, usize, f64)) {
        let [batch, height, width, _] = *input else { return };
        let [rows, columns] = [height * self.size[0], width * self.size[1]];
        for row in 0..batch * rows {
            let of_rows = self.sources(row % rows, 0, height);
            for column in 0..columns {
                let of_columns = self.sources(column, 1, width);
                for (y, of_row) in of_rows {
                    for (x, of_column) in of_columns {
                        let weight = of_row * of_column;
                        if weight > 0.0 {
                            f(row * columns + column, (row / rows * height + y) * width + x, weight);
                        }
                    }
                }
            }
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "called as that of other layers is")]
    fn apply<T: Scalar>(&self, input: View<'_, T>, output: &mut Tensor<T>) -> Result<()> {
        output.fill(T::zero());
        self.for_each_source(input.shape(), |to, from, weight| {
            add_pixel(output.data_mut(), to, input.data(), from, input.shape().last_dim(), weight);
        });
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "called as that of other layers is")]
    fn transpose<T: Scalar>(&self, grad_output: View<'_, T>, grad_input: &mut Tensor<T>) -> Result<()> {
        grad_input.fill(T::zero());
        self.for_each_source(grad_input.shape(), |to, from, weight| {
            let channels = grad_output.shape().last_dim();
            add_pixel(grad_input.data_mut(), from, grad_output.data(), to, channels, weight);
        });
        Ok(())
    }
}

/// Adds a pixel, so many times, to another.
fn add_pixel<T: Scalar>(sums: &mut [T], to: usize, pixels: &[T], from: usize, channels: usize, weight: f64) {
    let (sums, weight) = (&mut sums[to * channels..][..channels], T::from_f64(weight));
    let pixel = &pixels[from * channels..][..channels];
    sums.iter_mut().zip(pixel).for_each(|(sum, &x)| *sum += x * weight);
}

linear_map!(UpSampling2D, "up_sampling2d");
