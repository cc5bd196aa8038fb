//! Batch normalisation: each feature gets mean 0 and variance 1 over the batch.
//!
//! `y = gamma (x - mean) / sqrt(variance + epsilon) + beta`, for each feature of the last axis. While a network learns,
//! mean and variance are those of the batch, over all axes but the last; each step brings the moving ones nearer by
//! `moving = momentum moving + (1 - momentum) batch`. Else they are the moving ones.
//!
//! Reference: Ioffe and Szegedy, 2015.
//!
//! ```
//! use nn::{Mode, Network, Tensor, Workspace, layers::BatchNormalization};
//! use rand::SeedableRng;
//!
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let layer = BatchNormalization { epsilon: 1e-9, ..BatchNormalization::default() };
//! let network = Network::<f64>::new([1], vec![Box::new(layer)], rng)?;
//! let x = Tensor::from_vec([2, 1], vec![3.0, 7.0])?;
//! let mut workspace = Workspace { mode: Mode::Training { noise: 0 }, ..Workspace::default() };
//! let y = network.forward(x.view(), &mut workspace)?;
//! assert!((y.data()[0] + 1.0).abs() < 1e-9 && (y.data()[1] - 1.0).abs() < 1e-9);
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use super::normalization::{MEANS, Normalization, Settings, VARIANCES, small};
use super::product::yes;
use super::{check_gradient, check_gradients, check_tangent, output_of, parameter, unexpected};
use crate::error::check_setting;
use crate::layer::{WHOLE_BATCH, learns};
use crate::{Dual, Initializer, Layer, Mode, Parameter, ParameterSpec, Result, Wanted, Workspace};

/// Normalises each feature over the batch.
///
/// # Shapes
/// input and output `[batch, .., features]`; gamma, beta, moving mean and moving variance `[features]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormalization {
    /// How much of the moving mean and variance a step keeps, from 0 to 1.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// What is added to the variance.
    #[serde(default = "small")]
    pub epsilon: f64,
    /// Whether beta is added.
    #[serde(default = "yes")]
    pub center: bool,
    /// Whether gamma is multiplied by.
    #[serde(default = "yes")]
    pub scale: bool,
}

fn momentum() -> f64 {
    0.99
}

impl Default for BatchNormalization {
    fn default() -> Self {
        Self { momentum: momentum(), epsilon: small(), center: true, scale: true }
    }
}

impl BatchNormalization {
    fn settings(&self) -> Settings {
        Settings { epsilon: self.epsilon, center: self.center, scale: self.scale }
    }

    fn over(&self, input: Shape, mode: Mode) -> Normalization {
        let (places, features) = input.as_matrix();
        let given = mode == Mode::Inference;
        Normalization { blocks: 1, places, groups: features, width: 1, settings: self.settings(), given }
    }
}

impl<T: Scalar> Layer<T> for BatchNormalization {
    fn name(&self) -> &'static str {
        "batch_normalization"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let ok = (0.0..=1.0).contains(&self.momentum);
        check_setting(ok, "batch_normalization", "momentum", "a number from 0 to 1", self.momentum)?;
        self.settings().check("batch_normalization", input)?;
        Ok(input)
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        let mut specs = self.settings().parameters(input);
        for (name, value) in [("moving_mean", 0.0), ("moving_variance", 1.0)] {
            let (shape, initializer) = (Shape::from([input.last_dim()]), Initializer::Constant(value));
            specs.push(ParameterSpec::new(name, shape, initializer).kept());
        }
        Ok(specs)
    }

    fn parameter_count(&self) -> usize {
        self.settings().parameter_count() + 2
    }

    fn rows_together(&self) -> usize {
        WHOLE_BATCH
    }

    fn advance(
        &self,
        parameters: &mut [Parameter<T>],
        gradients: &[Tensor<T>],
        _workspace: &mut Workspace<T>,
    ) -> Result<()> {
        if !learns(parameters) {
            return Ok(());
        }
        let momentum = T::from_f64(self.momentum);
        let first = self.settings().parameter_count();
        for (moving, batch) in parameters.iter_mut().zip(gradients).skip(first) {
            for (moving, &batch) in moving.value.data_mut().iter_mut().zip(batch.data()) {
                *moving = *moving * momentum + batch * (T::one() - momentum);
            }
        }
        Ok(())
    }

    fn forward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        output_of::<T>(self, input.shape())?;
        let over = self.over(input.shape(), workspace.mode);
        if over.given {
            let (first, features) = (self.settings().parameter_count(), over.groups);
            for (place, kept) in workspace.scratch(VARIANCES + 1).iter_mut().skip(MEANS).enumerate() {
                kept.copy_from(parameter("batch_normalization", parameters, first + place, features)?.view());
            }
        } else if over.places < 2 {
            let expected = "a batch with at least 2 numbers of each feature to learn from";
            return unexpected("batch_normalization", expected, input.shape());
        }
        over.forward(parameters, input, workspace)
    }

    fn backward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        grad_output: View<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        check_gradient(self, input, grad_output)?;
        let over = self.over(input.shape(), workspace.mode);
        over.backward(parameters, grad_output, wanted, gradients, workspace)?;
        if wanted.parameters {
            // What was normalised by, for `advance`.
            let first = self.settings().parameter_count();
            let seen = workspace.scratch.iter().skip(MEANS);
            for (sums, seen) in gradients.iter_mut().skip(first).zip(seen).take(2) {
                sums.data_mut().iter_mut().zip(seen.data()).for_each(|(sum, &seen)| *sum += seen);
            }
        }
        Ok(())
    }

    fn forward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_tangent("batch_normalization", input)?;
        output_of::<T>(self, input.value.shape())?;
        let over = self.over(input.value.shape(), workspace.mode);
        over.forward_tangent(parameters, input.tangent, workspace, tangents)
    }

    fn backward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        grad_output: Dual<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        check_gradients(self, input, grad_output)?;
        let over = self.over(input.value.shape(), workspace.mode);
        over.backward_tangent(parameters, grad_output, wanted, gradients, workspace, tangents)
    }
}
