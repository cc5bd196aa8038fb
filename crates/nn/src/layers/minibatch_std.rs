//! A feature more: how much the rows of a group differ.
//!
//! `s = mean over features of sqrt(variance over the group's rows + 1e-8)`, the same for all rows of a group. A
//! discriminator with it sees when all that a generator makes is alike.
//!
//! Reference: Karras et al., 2018, section 3.
//!
//! ```
//! use nn::{Network, layers::MinibatchStd};
//! use rand::SeedableRng;
//!
//! let layer = MinibatchStd { group: 2 };
//! let network =
//!     Network::<f64>::new([2], vec![Box::new(layer)], &mut rand_chacha::ChaCha8Rng::seed_from_u64(1))?;
//! let x = tensor_ops::Tensor::from_vec([2, 2], vec![1.0, 5.0, 3.0, 5.0])?;
//! let y = network.predict(x.view())?;
//! // The first feature has standard deviation 1, the second 0.
//! assert_eq!(y.data()[..2], [1.0, 5.0]);
//! assert!((y.data()[2] - 0.50005).abs() < 1e-8);
//! # Ok::<(), nn::Error>(())
//! ```

#![expect(
    clippy::indexing_slicing,
    reason = "places are counted by the shape of the input, and each pass checks that its buffers have those that follow"
)]

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use super::{
    check_gradient, check_gradients, check_tangent, kept, kept_mut, missing_pass, output_of, unexpected,
};
use crate::error::check_setting;
use crate::{Dual, Layer, Parameter, Result, Wanted, Workspace};

/// Keeps the standard deviation's slope finite.
const EPSILON: f64 = 1e-8;

/// Appends the mean standard deviation within groups of rows to the last axis.
///
/// # Shapes
/// input `[batch, .., features]`, output `[batch, .., features + 1]`. Groups are of rows that follow each other; the last
/// one may be smaller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinibatchStd {
    /// How many rows a group has, at least 2.
    #[serde(default = "four")]
    pub group: usize,
}

fn four() -> usize {
    4
}

impl MinibatchStd {
    /// The means and standard deviations, or their tangents, that a pass of this input has left.
    fn of_pass<'a, T: Scalar>(&self, input: Shape, scratch: &'a [Tensor<T>]) -> Result<&'a [Tensor<T>; 2]> {
        let (batch, _, width) = sizes(input);
        let all: &[Tensor<T>; 2] = kept("minibatch_std", scratch)?;
        let shape = Shape::from([batch.div_ceil(self.group.max(1)), width]);
        if all.iter().all(|tensor| tensor.shape() == shape) { Ok(all) } else { missing_pass("minibatch_std") }
    }

    /// Calls `f(group, first row, rows)` for each group of a batch.
    fn for_each_group(&self, batch: usize, mut f: impl FnMut(usize, usize, usize)) {
        for (group, first) in (0..batch).step_by(self.group.max(1)).enumerate() {
            f(group, first, self.group.min(batch - first));
        }
    }
}

/// The sizes of an input: rows, places in a row that get the feature, numbers in a row.
fn sizes(input: Shape) -> (usize, usize, usize) {
    let row = input.without_first();
    (input.first_dim(), row.len() / row.last_dim().max(1), row.len())
}

impl<T: Scalar> Layer<T> for MinibatchStd {
    fn name(&self) -> &'static str {
        "minibatch_std"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        check_setting(self.group >= 2, "minibatch_std", "group", "at least 2", self.group)?;
        if input.rank() == 0 || input.last_dim() == 0 {
            return unexpected("minibatch_std", "rows with at least 1 feature", input);
        }
        Ok(input.with_last(input.last_dim().saturating_add(1)))
    }

    fn rows_together(&self) -> usize {
        self.group
    }

    fn forward(
        &self,
        _parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let shape = output_of::<T>(self, input.shape())?;
        let (batch, _, width) = sizes(input.shape());
        workspace.input_shape = input.shape();
        workspace.scratch(2);
        let Workspace { output, scratch, .. } = workspace;
        output.resize(shape);
        let [means, stds] = kept_mut("minibatch_std", scratch)?;
        means.resize([batch.div_ceil(self.group), width]);
        stds.resize(means.shape());
        let x = input.data();
        self.for_each_group(batch, |group, first, rows| {
            let scale = T::one() / T::from_f64(rows as f64);
            let mut sum = T::zero();
            for feature in 0..width {
                let column = || (first..first + rows).map(|row| x[row * width + feature]);
                let mean = column().sum::<T>() * scale;
                let variance = column().map(|x| (x - mean) * (x - mean)).sum::<T>() * scale;
                let std = (variance + T::from_f64(EPSILON)).sqrt();
                means.data_mut()[group * width + feature] = mean;
                stds.data_mut()[group * width + feature] = std;
                sum += std;
            }
            append(input, first..first + rows, sum / T::from_f64(width as f64), output);
        });
        Ok(())
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
        check_gradient(self, input, grad_output)?;
        let (batch, _, width) = sizes(input.shape());
        let Workspace { grad_input, scratch, .. } = workspace;
        let [means, stds] = self.of_pass(input.shape(), scratch)?;
        strip(grad_output, input.shape(), grad_input);
        self.for_each_group(batch, |group, first, rows| {
            // ds/dx = (x - mean) / (rows width std)
            let grad = grad_of_std(grad_output, input.shape(), first..first + rows);
            let scale = grad / T::from_f64((rows * width) as f64);
            for row in first..first + rows {
                for feature in 0..width {
                    let (at, of) = (row * width + feature, group * width + feature);
                    let (mean, std) = (means.data()[of], stds.data()[of]);
                    grad_input.data_mut()[at] += scale * (input.data()[at] - mean) / std;
                }
            }
        });
        Ok(())
    }

    fn forward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_tangent("minibatch_std", input)?;
        let shape = input.value.shape();
        let (batch, _, width) = sizes(shape);
        let [means, stds] = self.of_pass(shape, &workspace.scratch)?;
        tangents.input_shape = shape;
        tangents.scratch(2);
        let Workspace { output, scratch, .. } = tangents;
        output.resize(output_of::<T>(self, shape)?);
        let [means_moved, stds_moved] = kept_mut("minibatch_std", scratch)?;
        means_moved.resize(means.shape());
        stds_moved.resize(means.shape());
        let (x, moved) = (input.value.data(), input.tangent.data());
        self.for_each_group(batch, |group, first, rows| {
            let scale = T::one() / T::from_f64(rows as f64);
            let mut sum = T::zero();
            for feature in 0..width {
                let of = group * width + feature;
                let (mean, std) = (means.data()[of], stds.data()[of]);
                let places = || (first..first + rows).map(|row| row * width + feature);
                let mean_moved = places().map(|at| moved[at]).sum::<T>() * scale;
                let std_moved = places().map(|at| (x[at] - mean) * moved[at]).sum::<T>() * scale / std;
                means_moved.data_mut()[of] = mean_moved;
                stds_moved.data_mut()[of] = std_moved;
                sum += std_moved;
            }
            append(input.tangent, first..first + rows, sum / T::from_f64(width as f64), output);
        });
        Ok(())
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
        let shape = input.value.shape();
        let (batch, _, width) = sizes(shape);
        let [means, stds] = self.of_pass(shape, &workspace.scratch)?;
        let Workspace { grad_input, scratch, .. } = tangents;
        let [means_moved, stds_moved] = self.of_pass(shape, scratch)?;
        strip(grad_output.tangent, shape, grad_input);
        let (x, moved) = (input.value.data(), input.tangent.data());
        self.for_each_group(batch, |group, first, rows| {
            let own = first..first + rows;
            let unit = T::one() / T::from_f64((rows * width) as f64);
            let grad = grad_of_std(grad_output.value, shape, own.clone()) * unit;
            let grad_moved = grad_of_std(grad_output.tangent, shape, own.clone()) * unit;
            for row in own {
                for feature in 0..width {
                    let (at, of) = (row * width + feature, group * width + feature);
                    let (mean, std) = (means.data()[of], stds.data()[of]);
                    let (mean_moved, std_moved) = (means_moved.data()[of], stds_moved.data()[of]);
                    let slope = (x[at] - mean) / std;
                    let slope_moved = (moved[at] - mean_moved - slope * std_moved) / std;
                    grad_input.data_mut()[at] += grad_moved * slope + grad * slope_moved;
                }
            }
        });
        Ok(())
    }
}

/// Copies rows, with `value` after the features of each place.
fn append<T: Scalar>(input: View<'_, T>, rows: std::ops::Range<usize>, value: T, output: &mut Tensor<T>) {
    let (_, places, width) = sizes(input.shape());
    let features = input.shape().last_dim();
    let own = rows.start * places * (features + 1)..rows.end * places * (features + 1);
    let from = &input.data()[rows.start * width..rows.end * width];
    let to = output.data_mut()[own].chunks_exact_mut(features + 1);
    for (to, from) in to.zip(from.chunks_exact(features)) {
        to[..features].copy_from_slice(from);
        to[features] = value;
    }
}

/// The gradient of the features that were there before.
fn strip<T: Scalar>(grad_output: View<'_, T>, input: Shape, grad_input: &mut Tensor<T>) {
    let features = input.last_dim();
    grad_input.resize(input);
    let to = grad_input.data_mut().chunks_exact_mut(features);
    for (to, from) in to.zip(grad_output.data().chunks_exact(features + 1)) {
        to.copy_from_slice(&from[..features]);
    }
}

/// The gradient of the feature that a group has got.
fn grad_of_std<T: Scalar>(grad_output: View<'_, T>, input: Shape, rows: std::ops::Range<usize>) -> T {
    let (_, places, _) = sizes(input);
    let features = input.last_dim();
    let own = rows.start * places * (features + 1)..rows.end * places * (features + 1);
    grad_output.data()[own].chunks_exact(features + 1).map(|place| place[features]).sum()
}
