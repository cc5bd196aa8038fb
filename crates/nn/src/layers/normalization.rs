//! What all normalisations have in common: numbers are put into groups, and each group gets mean 0 and variance 1.
//!
//! `x' = (x - mean) s`, `s = 1 / sqrt(variance + epsilon)`, `y = gamma x' + beta`, with a gamma and a beta for each
//! channel, the last axis. With M the mean over a group and g = gamma dL/dy:
//!
//! `dL/dx = s (g - M(g) - x' M(g x'))`
//!
//! and x' moves with x in the same way. Where mean and variance are given and not those of the group, M is 0.

#![expect(
    clippy::indexing_slicing,
    reason = "`check` and `check_pass` see to it that all operands have the sizes that blocks are cut from"
)]

use tensor_ops::{Scalar, Shape, Tensor, View, sum};

use super::{check_shape, check_tangent, kept, kept_mut, parameter, unexpected};
use crate::error::check_setting;
use crate::{Dual, Initializer, Parameter, ParameterSpec, Result, Wanted, Workspace};

/// Rows that are added one after the other before partial sums are: it keeps the rounding error of long sums small.
const RUN: usize = 64;

/// The scratch: x', and for each group the mean, the variance and s. Of tangents: that of x', and that of s as a share
/// of s.
const NORMALISED: usize = 0;
const SCALES: usize = 1;
pub(super) const MEANS: usize = 2;
pub(super) const VARIANCES: usize = 3;
/// As many tensors; the last is a few numbers for each channel, to work with.
const SCRATCH: usize = 5;

/// A normalisation of a batch, whose last axis is `groups * width` channels: the numbers of a group are those at all
/// `places` of a block in `width` channels that follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normalization {
    pub(super) blocks: usize,
    pub(super) places: usize,
    pub(super) groups: usize,
    pub(super) width: usize,
    pub(super) settings: Settings,
    /// Whether mean and variance stand still as the input moves.
    pub(super) given: bool,
}

/// What all normalisations can be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) epsilon: f64,
    pub(super) center: bool,
    pub(super) scale: bool,
}

impl Settings {
    pub(super) fn check(self, place: &str, input: Shape) -> Result<()> {
        let epsilon = self.epsilon;
        check_setting(epsilon > 0.0 && epsilon.is_finite(), place, "epsilon", "a number > 0", epsilon)?;
        if input.rank() == 0 || input.contains(&0) {
            return unexpected(place, "rows with at least 1 number", input);
        }
        Ok(())
    }

    /// gamma and beta, as far as there are any.
    pub(super) fn parameters(self, input: Shape) -> Vec<ParameterSpec> {
        let channels = Shape::from([input.last_dim()]);
        let gamma = self.scale.then(|| ParameterSpec::new("gamma", channels, Initializer::Constant(1.0)));
        let beta = self.center.then(|| ParameterSpec::new("beta", channels, Initializer::Zeros));
        gamma.into_iter().chain(beta).collect()
    }

    pub(super) fn parameter_count(self) -> usize {
        usize::from(self.scale) + usize::from(self.center)
    }

    /// gamma, or ones.
    fn gamma<'a, T: Scalar>(self, parameters: &'a [Parameter<T>], ones: &'a mut [T]) -> &'a [T] {
        ones.fill(T::one());
        if self.scale { parameters[0].value.data() } else { ones }
    }

    /// beta, or zeros.
    fn beta<'a, T: Scalar>(self, parameters: &'a [Parameter<T>], zeros: &'a mut [T]) -> &'a [T] {
        zeros.fill(T::zero());
        if self.center { parameters[usize::from(self.scale)].value.data() } else { zeros }
    }

    /// Adds to the gradients of gamma and beta.
    fn add<T: Scalar>(self, gradients: &mut [Tensor<T>], gamma: &[T], beta: &[T]) {
        let wanted = [(self.scale, gamma), (self.center, beta)].into_iter().filter(|(there, _)| *there);
        for (gradient, (_, sums)) in gradients.iter_mut().zip(wanted) {
            gradient.data_mut().iter_mut().zip(sums).for_each(|(gradient, &sum)| *gradient += sum);
        }
    }
}

impl Normalization {
    /// Refuses an input, or a gradient of the output, of another size than what is normalised over, and parameters that are not
    /// a number for each channel.
    fn check<T: Scalar>(self, parameters: &[Parameter<T>], input: Shape) -> Result<()> {
        let channels = self.groups * self.width;
        if channels == 0 || self.blocks * self.places * channels != input.len() {
            let expected = format!("{} times {} rows of {channels} numbers", self.blocks, self.places);
            return unexpected("normalization", expected, input);
        }
        let mut places = 0..self.settings.parameter_count();
        places.try_for_each(|place| parameter("normalization", parameters, place, channels).map(drop))
    }

    /// Refuses a workspace other than that of a pass of such an input.
    fn check_pass<T: Scalar>(self, input: Shape, scratch: &[Tensor<T>]) -> Result<()> {
        let [numbers, of_groups, ..]: &[_; SCRATCH] = kept("normalization", scratch)?;
        check_shape("normalization", "a pass before of", input, numbers.shape())?;
        check_shape("normalization", "groups", Shape::from([self.blocks, self.groups]), of_groups.shape())
    }

    /// `forward` of the layer. Where mean and variance are given, they lie in the scratch already.
    pub(super) fn forward<T: Scalar>(
        self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        self.check(parameters, input.shape())?;
        workspace.scratch(SCRATCH);
        let Workspace { output, scratch, .. } = workspace;
        output.resize(input.shape());
        let [normalised, scales, means, variances, columns] = kept_mut("normalization", scratch)?;
        normalised.resize(input.shape());
        scales.resize([self.blocks, self.groups]);
        if !self.given {
            means.resize([self.blocks, self.groups]);
            variances.resize([self.blocks, self.groups]);
        }
        let [mean, variance, partial, ones, zeros] = self.columns(columns);
        let (gamma, beta) = (self.settings.gamma(parameters, ones), self.settings.beta(parameters, zeros));
        let epsilon = T::from_f64(self.settings.epsilon);
        for block in 0..self.blocks {
            let x = self.block(block, input.data());
            let own = self.block_mut(block, normalised.data_mut());
            if self.given {
                self.spread(block, means, mean);
                self.spread(block, variances, variance);
            } else {
                column_sums(x, x, mean, partial, |x, _| x);
                self.means(mean);
            }
            for (row, x) in rows_mut(own, mean.len()).zip(x.chunks_exact(mean.len())) {
                row.iter_mut().zip(x.iter().zip(&*mean)).for_each(|(d, (&x, &mean))| *d = x - mean);
            }
            if !self.given {
                column_sums(own, own, variance, partial, |d, _| d * d);
                self.means(variance);
                self.keep(block, mean, means);
                self.keep(block, variance, variances);
            }
            let scale = &mut *variance;
            scale.iter_mut().for_each(|v| *v = T::one() / (*v + epsilon).sqrt());
            self.keep(block, scale, scales);
            let y = self.block_mut(block, output.data_mut());
            for (row, y) in rows_mut(own, scale.len()).zip(rows_mut(y, scale.len())) {
                for ((((n, y), &s), &gamma), &beta) in row.iter_mut().zip(y).zip(&*scale).zip(gamma).zip(beta)
                {
                    *n *= s;
                    *y = *n * gamma + beta;
                }
            }
        }
        Ok(())
    }

    /// `backward` of the layer, whose gradients begin with those of gamma and beta.
    pub(super) fn backward<T: Scalar>(
        self,
        parameters: &[Parameter<T>],
        grad_output: View<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        self.check(parameters, grad_output.shape())?;
        let Workspace { grad_input, scratch, .. } = workspace;
        self.check_pass(grad_output.shape(), scratch)?;
        let [normalised, scales, _, _, columns]: &mut [_; SCRATCH] = kept_mut("normalization", scratch)?;
        grad_input.resize(grad_output.shape());
        let [of_beta, of_gamma, scale, partial, ones] = self.columns(columns);
        let gamma = self.settings.gamma(parameters, ones);
        for block in 0..self.blocks {
            let (grad, own) = (self.block(block, grad_output.data()), self.block(block, normalised.data()));
            column_sums(grad, grad, of_beta, partial, |g, _| g);
            column_sums(grad, own, of_gamma, partial, |g, n| g * n);
            if wanted.parameters {
                self.settings.add(gradients, of_gamma, of_beta);
            }
            if wanted.input {
                self.spread(block, scales, scale);
                self.means_by(gamma, [of_beta, of_gamma]);
                let result = self.block_mut(block, grad_input.data_mut());
                centred(gamma, [grad, own], [of_beta, of_gamma, scale], result);
            }
        }
        Ok(())
    }

    /// `forward_tangent` of the layer.
    pub(super) fn forward_tangent<T: Scalar>(
        self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        self.check(parameters, input.shape())?;
        self.check_pass(input.shape(), &workspace.scratch)?;
        tangents.scratch(SCRATCH);
        let Workspace { output, scratch, .. } = tangents;
        let [moved, shares, _, _, columns]: &mut [_; SCRATCH] = kept_mut("normalization", scratch)?;
        moved.resize(input.shape());
        output.resize(input.shape());
        shares.resize([self.blocks, self.groups]);
        let [mean, along, scale, partial, ones, more_ones] = self.columns(columns);
        more_ones.fill(T::one());
        let gamma = self.settings.gamma(parameters, ones);
        for block in 0..self.blocks {
            let own = self.block(block, workspace.scratch[NORMALISED].data());
            let x = self.block(block, input.data());
            column_sums(x, x, mean, partial, |x, _| x);
            column_sums(x, own, along, partial, |x, n| x * n);
            self.spread(block, &workspace.scratch[SCALES], scale);
            self.means_by(more_ones, [mean, along]);
            let moved = self.block_mut(block, moved.data_mut());
            centred(more_ones, [x, own], [mean, along, scale], moved);
            let y = self.block_mut(block, output.data_mut());
            for (y, n) in rows_mut(y, gamma.len()).zip(moved.chunks_exact(gamma.len())) {
                y.iter_mut().zip(n.iter().zip(gamma)).for_each(|(y, (&n, &gamma))| *y = n * gamma);
            }
            along.iter_mut().zip(&*scale).for_each(|(along, &s)| *along = -*along * s);
            self.keep(block, along, shares);
        }
        Ok(())
    }

    /// `backward_tangent` of the layer.
    pub(super) fn backward_tangent<T: Scalar>(
        self,
        parameters: &[Parameter<T>],
        grad_output: Dual<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        let shape = grad_output.value.shape();
        self.check(parameters, shape)?;
        check_tangent("normalization", grad_output)?;
        check_shape("normalization", "the gradient of", shape, workspace.grad_input.shape())?;
        let Workspace { grad_input, scratch, .. } = tangents;
        self.check_pass(shape, &workspace.scratch)?;
        self.check_pass(shape, scratch)?;
        let [normalised, scales, ..]: &[_; SCRATCH] = kept("normalization", &workspace.scratch)?;
        let [moved, shares, _, _, columns]: &mut [_; SCRATCH] = kept_mut("normalization", scratch)?;
        grad_input.resize(grad_output.value.shape());
        let [of_beta, of_gamma, others, work, partial, ones] = self.columns(columns);
        let gamma = self.settings.gamma(parameters, ones);
        for block in 0..self.blocks {
            let [grad, grad_moved, own, moved] =
                [grad_output.value.data(), grad_output.tangent.data(), normalised.data(), moved.data()]
                    .map(|data| self.block(block, data));
            column_sums(grad_moved, grad_moved, of_beta, partial, |g, _| g);
            column_sums(grad_moved, own, of_gamma, partial, |g, n| g * n);
            column_sums(grad, moved, others, partial, |g, n| g * n);
            of_gamma.iter_mut().zip(&*others).for_each(|(sum, &other)| *sum += other);
            if wanted.parameters {
                self.settings.add(gradients, of_gamma, of_beta);
            }
            if !wanted.input {
                continue;
            }
            column_sums(grad, own, others, partial, |g, n| g * n);
            self.means_by(gamma, [of_beta, of_gamma, others]);
            let result = self.block_mut(block, grad_input.data_mut());
            self.spread(block, scales, work);
            centred(gamma, [grad_moved, own], [of_beta, of_gamma, work], result);
            // What is left: s and x' move too.
            others.iter_mut().zip(&*work).for_each(|(mean, &s)| *mean *= s);
            self.spread(block, shares, work);
            let dx = self.block(block, workspace.grad_input.data());
            let (width, rows) = (work.len(), dx.chunks_exact(work.len()).zip(moved.chunks_exact(work.len())));
            for (row, (dx, moved)) in rows_mut(result, width).zip(rows) {
                for ((((y, &dx), &n), &share), &mean) in
                    row.iter_mut().zip(dx).zip(moved).zip(&*work).zip(&*others)
                {
                    *y += share * dx - mean * n;
                }
            }
        }
        Ok(())
    }

    /// Buffers of a number for each channel.
    fn columns<T: Scalar, const N: usize>(self, tensor: &mut Tensor<T>) -> [&mut [T]; N] {
        let channels = self.groups * self.width;
        tensor.resize([N, channels]);
        let mut columns = tensor.data_mut().chunks_exact_mut(channels.max(1));
        std::array::from_fn(|_| columns.next().unwrap_or_default())
    }

    /// The numbers of a block.
    fn block<T>(self, index: usize, data: &[T]) -> &[T] {
        let size = self.places * self.groups * self.width;
        &data[index * size..][..size]
    }

    fn block_mut<T>(self, index: usize, data: &mut [T]) -> &mut [T] {
        let size = self.places * self.groups * self.width;
        &mut data[index * size..][..size]
    }

    /// From sums over the places, channel by channel: the means of their groups, in the place of each channel.
    fn means<T: Scalar>(self, sums: &mut [T]) {
        let count = T::from_f64((self.places * self.width) as f64);
        for group in sums.chunks_exact_mut(self.width) {
            group.fill(sum(group) / count);
        }
    }

    /// The same of numbers that are `factors` times as large; 0 where mean and variance are given.
    fn means_by<T: Scalar, const N: usize>(self, factors: &[T], all: [&mut [T]; N]) {
        for sums in all {
            sums.iter_mut().zip(factors).for_each(|(sum, &factor)| *sum *= factor);
            if self.given { sums.fill(T::zero()) } else { self.means(sums) }
        }
    }

    /// Writes the number of each group of a block to all its channels.
    fn spread<T: Scalar>(self, block: usize, of_groups: &Tensor<T>, channels: &mut [T]) {
        let of_groups = &of_groups.data()[block * self.groups..][..self.groups];
        for (group, &value) in channels.chunks_exact_mut(self.width).zip(of_groups) {
            group.fill(value);
        }
    }

    /// The other way round.
    fn keep<T: Scalar>(self, block: usize, channels: &[T], of_groups: &mut Tensor<T>) {
        let of_groups = &mut of_groups.data_mut()[block * self.groups..][..self.groups];
        of_groups
            .iter_mut()
            .zip(channels.iter().step_by(self.width))
            .for_each(|(kept, &value)| *kept = value);
    }
}

fn rows_mut<T>(data: &mut [T], width: usize) -> std::slice::ChunksExactMut<'_, T> {
    data.chunks_exact_mut(width)
}

/// `sums[c]` = the sum of `f(a, b)` over all rows, at column c, added in runs.
fn column_sums<T: Scalar>(a: &[T], b: &[T], sums: &mut [T], partial: &mut [T], f: impl Fn(T, T) -> T) {
    let width = sums.len();
    sums.fill(T::zero());
    for (a, b) in a.chunks(RUN * width).zip(b.chunks(RUN * width)) {
        partial.fill(T::zero());
        for (a, b) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
            partial.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (&a, &b))| *sum += f(a, b));
        }
        sums.iter_mut().zip(&*partial).for_each(|(sum, &x)| *sum += x);
    }
}

/// `result = s (factor v - mean - x' along)`, where `mean`, `along` and `s` are numbers for each channel.
fn centred<T: Scalar>(
    factors: &[T],
    [values, normalised]: [&[T]; 2],
    [mean, along, scale]: [&[T]; 3],
    result: &mut [T],
) {
    let width = factors.len();
    let rows = values.chunks_exact(width).zip(normalised.chunks_exact(width));
    for (row, (values, normalised)) in rows_mut(result, width).zip(rows) {
        let columns = factors.iter().zip(mean).zip(along).zip(scale);
        let numbers = values.iter().zip(normalised).zip(columns);
        for (y, ((&v, &n), (((&factor, &mean), &along), &scale))) in row.iter_mut().zip(numbers) {
            *y = scale * (factor * v - mean - n * along);
        }
    }
}

/// The default of epsilon.
pub(super) fn small() -> f64 {
    1e-3
}

/// A layer whose rows are normalised each by itself, given `check(row)` and `over(batch)`.
macro_rules! normalizing_layer {
    ($layer:ty, $name:literal) => {
        impl $layer {
            fn settings(&self) -> Settings {
                Settings { epsilon: self.epsilon, center: self.center, scale: self.scale }
            }
        }

        impl<T: tensor_ops::Scalar> crate::Layer<T> for $layer {
            fn name(&self) -> &'static str {
                $name
            }

            fn output_shape(&self, input: Shape) -> Result<Shape> {
                self.settings().check($name, input)?;
                self.check(input)?;
                Ok(input)
            }

            fn parameters(&self, input: Shape) -> Result<Vec<crate::ParameterSpec>> {
                Ok(self.settings().parameters(input))
            }

            fn parameter_count(&self) -> usize {
                self.settings().parameter_count()
            }

            fn forward(
                &self,
                parameters: &[crate::Parameter<T>],
                input: tensor_ops::View<'_, T>,
                workspace: &mut crate::Workspace<T>,
            ) -> Result<()> {
                $crate::layers::output_of::<T>(self, input.shape())?;
                self.over(input.shape()).forward(parameters, input, workspace)
            }

            fn backward(
                &self,
                parameters: &[crate::Parameter<T>],
                input: tensor_ops::View<'_, T>,
                grad_output: tensor_ops::View<'_, T>,
                wanted: crate::Wanted,
                gradients: &mut [tensor_ops::Tensor<T>],
                workspace: &mut crate::Workspace<T>,
            ) -> Result<()> {
                $crate::layers::check_gradient(self, input, grad_output)?;
                self.over(input.shape()).backward(parameters, grad_output, wanted, gradients, workspace)
            }

            fn forward_tangent(
                &self,
                parameters: &[crate::Parameter<T>],
                input: crate::Dual<'_, T>,
                workspace: &crate::Workspace<T>,
                tangents: &mut crate::Workspace<T>,
            ) -> Result<()> {
                $crate::layers::check_tangent($name, input)?;
                $crate::layers::output_of::<T>(self, input.value.shape())?;
                let over = self.over(input.value.shape());
                over.forward_tangent(parameters, input.tangent, workspace, tangents)
            }

            fn backward_tangent(
                &self,
                parameters: &[crate::Parameter<T>],
                input: crate::Dual<'_, T>,
                grad_output: crate::Dual<'_, T>,
                wanted: crate::Wanted,
                gradients: &mut [tensor_ops::Tensor<T>],
                workspace: &crate::Workspace<T>,
                tangents: &mut crate::Workspace<T>,
            ) -> Result<()> {
                $crate::layers::check_gradients(self, input, grad_output)?;
                let over = self.over(input.value.shape());
                over.backward_tangent(parameters, grad_output, wanted, gradients, workspace, tangents)
            }
        }
    };
}
pub(super) use normalizing_layer;
