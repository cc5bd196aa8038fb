//! G and D as functions that can be drawn.

use nn::Workspace;
use tensor_ops::{Scalar, Tensor};

use super::{SAMPLE_ROWS, Session};
use crate::trainer::leaves_sigmoid_off;
use crate::{Distribution, Error, Objective, Result, Source};

impl<T: Scalar> Session<T> {
    /// G as a function of one number z, at `count` places over the latents' range, with the quantile function that would
    /// make the data of the same latents: `[z, G(z), Q(z)]`. Q rises where G does on the whole, and falls where it falls.
    ///
    /// `None` unless G makes each number of one number of its latent alone, and the data are single numbers.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn generator_function(&self, count: usize) -> Result<Option<Vec<[f64; 3]>>> {
        let width = self.config.latent.dim();
        let Source::Numbers(distribution) = &self.source else { return Ok(None) };
        if width != self.trainer.generator().output_shape().len() || !self.is_pointwise(width)? {
            return Ok(None);
        }
        let latents = self.config.latent.distribution();
        let shares = (0..count).map(|i| (i as f64 + 0.5) / count as f64);
        let places: Vec<(f64, f64)> = match latents {
            Distribution::Uniform { .. } => shares.map(|p| (latents.quantile(p), p)).collect(),
            // Evenly over what is drawn often enough to be seen.
            _ => {
                let (low, high) = (latents.quantile(1e-4), latents.quantile(1.0 - 1e-4));
                shares.map(|p| low + p * (high - low)).map(|z| (z, latents.cdf(z))).collect()
            }
        };
        let mut rows = Tensor::zeros(self.batch_of(count)?);
        for (row, (z, _)) in rows.data_mut().chunks_exact_mut(width).zip(&places) {
            row.fill(T::from_f64(*z));
        }
        let made = self.network_output(&rows, &[])?;
        let values: Vec<f64> = made.data().iter().step_by(width).map(|x| x.as_f64()).collect();
        let rises = values.last() >= values.first();
        let point = |(value, (z, p)): (f64, (f64, f64))| {
            [z, value, distribution.quantile(if rises { p } else { 1.0 - p })]
        };
        Ok(Some(values.into_iter().zip(places).map(point).collect()))
    }

    /// Whether each number that G makes depends on the number of the latent at its own place alone.
    #[expect(clippy::indexing_slicing, reason = "G takes and makes rows of `width` numbers, of 2 at least")]
    fn is_pointwise(&self, width: usize) -> Result<bool> {
        if width < 2 {
            return Ok(true);
        }
        // Two rows that have one number in common.
        let (low, high) = (T::from_f64(0.25), T::from_f64(0.75));
        let mut rows = Tensor::zeros(self.batch_of(2)?);
        let (first, second) = rows.data_mut().split_at_mut(width);
        first.fill(low);
        second.fill(high);
        second[0] = low;
        let made = self.network_output(&rows, &[])?;
        let (first, second) = made.data().split_at(width);
        Ok(first[0] == second[0] && first[1] == first[0] && second[1] == second[width - 1])
    }

    /// How real D takes rows to be: its logits, from where it cannot tell. Where the objective gives a logit no meaning by
    /// itself, that is the mean over `reference` rows.
    ///
    /// Rows are in the data's units, one after the other. `None` where what D says of a row depends on others.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn discriminator_logits(&self, rows: &[f64], reference: &[f64]) -> Result<Option<Vec<f64>>> {
        if self.config.train.packing > 1 || self.trainer.discriminator().load().together > 1 {
            return Ok(None);
        }
        let logits = self.logits(rows)?;
        let middle = match self.config.objective {
            Objective::NonSaturating { .. } | Objective::Minimax { .. } | Objective::Hinge {} => 0.0,
            Objective::LeastSquares {} => 0.5,
            Objective::Wasserstein {} | Objective::RelativisticPaired {} => {
                let logits = self.logits(reference)?;
                logits.iter().sum::<f64>() / logits.len().max(1) as f64
            }
        };
        Ok(Some(logits.into_iter().map(|logit| logit - middle).collect()))
    }

    fn logits(&self, rows: &[f64]) -> Result<Vec<f64>> {
        let failed = |error: tensor_ops::Error| Error::network("discriminator")(error.into());
        let discriminator = self.trainer.discriminator();
        let mut rows = rows.to_vec();
        self.source.standardise(&mut rows);
        let mut workspace = Workspace { logits: leaves_sigmoid_off(discriminator), ..Workspace::default() };
        let width = discriminator.input_shape().len().max(1);
        let mut logits = Vec::new();
        for part in rows.chunks(SAMPLE_ROWS * width) {
            let shape = discriminator.input_shape().with_first(part.len() / width).map_err(failed)?;
            let part =
                Tensor::from_vec(shape, part.iter().map(|x| T::from_f64(*x)).collect()).map_err(failed)?;
            let part = discriminator
                .forward(part.view(), &mut workspace)
                .map_err(Error::network("discriminator"))?;
            logits.extend(part.data().iter().map(|x| x.as_f64()));
        }
        Ok(logits)
    }
}
