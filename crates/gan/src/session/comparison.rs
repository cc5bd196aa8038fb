//! Generated rows beside real ones.

use rand_chacha::ChaCha8Rng;
use tensor_ops::{Scalar, Tensor};

use super::{EVALUATION_STREAM, FLOOR_STREAM, Session, stream};
use crate::evaluate::{self, Classifier, Evaluation, Floor, Known};
use crate::{Error, Result, Source};

/// What G makes, beside real data.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The epochs that G had learned.
    pub epoch: u64,
    /// Generated against real rows, as the networks see them.
    pub evaluation: Evaluation,
    /// The real rows, one after the other, in the data's units.
    pub real: Vec<f64>,
    /// The generated rows, in the data's units.
    pub generated: Tensor<f64>,
    /// The latents that they were generated from.
    pub latent: Vec<f64>,
}

impl<T: Scalar> Session<T> {
    /// Compares what G makes with real data, all drawn anew from `seed`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where G's output is not finite.
    pub fn evaluate(&self, rows: usize, seed: u64) -> Result<Comparison> {
        self.check_room(rows)?;
        self.compare(rows, &self.floor_of(rows, seed)?, &mut stream(seed, EVALUATION_STREAM))
    }

    /// Gives evaluations of labelled images a classifier, in whose features they compare: one from the weights of another
    /// session, if they were trained on these images, else a new one, whose weights are returned. That takes a while:
    /// `begins` is called before.
    ///
    /// # Errors
    /// [`Error::Network`] for weights that are not what they should be.
    pub fn prepare_classifier(
        &mut self,
        weights: Option<&[u8]>,
        begins: impl FnOnce(),
    ) -> Result<Option<Vec<u8>>> {
        let Source::Images(images) = &self.source else { return Ok(None) };
        if self.source.classes().is_none_or(|classes| classes < 2) {
            return Ok(None);
        }
        if let Some(weights) = weights {
            self.classifier = Classifier::from_safetensors(images, weights)?;
        }
        if self.classifier.is_some() {
            return Ok(None);
        }
        begins();
        let classifier = Classifier::train(images)?;
        let weights = classifier.to_safetensors()?;
        self.classifier = Some(classifier);
        Ok(Some(weights))
    }

    pub(super) fn known(&self) -> Known<'_> {
        let (classifier, conditional) = (self.classifier.as_ref(), self.takes_labels());
        Known { source: &self.source, classifier, conditional }
    }

    /// What a perfect sampler would show on so many rows.
    pub(super) fn floor_of(&self, rows: usize, seed: u64) -> Result<Floor> {
        let width = self.trainer.generator().output_shape().len();
        Floor::new(self.known(), rows * width, width, &mut stream(seed, FLOOR_STREAM))
    }

    /// Compares rows from elsewhere, in the data's units, with real data, as [`Session::evaluate`] compares G's.
    ///
    /// # Shapes
    /// `samples [count, ..]`, each row with as many numbers as a row that G makes.
    ///
    /// # Errors
    /// [`Error::Setting`] for rows of another length, or none.
    pub fn evaluate_samples(&self, mut samples: Tensor<f64>, seed: u64) -> Result<Comparison> {
        let (row, shape) = (self.trainer.generator().output_shape(), samples.shape());
        let rows = shape.first_dim();
        if rows == 0 || shape.len() != rows.saturating_mul(row.len()) {
            let expected = format!("rows of {row}, one at least");
            return Err(Error::Setting { field: "samples", expected, found: shape.to_string() });
        }
        let (mut real, _) = self.real_rows(rows, &mut stream(seed, EVALUATION_STREAM))?;
        self.source.standardise(samples.data_mut());
        // Which classes they are of is not known.
        let known = Known { conditional: false, ..self.known() };
        let floor = Floor::new(known, shape.len(), row.len(), &mut stream(seed, FLOOR_STREAM))?;
        let evaluation = evaluate::evaluate(known, &real, (samples.data(), &[]), row.len(), &floor)?;
        self.source.restore(&mut real);
        self.source.restore(samples.data_mut());
        Ok(Comparison { epoch: self.epoch, evaluation, real, generated: samples, latent: Vec::new() })
    }

    /// Rows of data as the networks see them, with their classes.
    fn real_rows(&self, rows: usize, rng: &mut ChaCha8Rng) -> Result<(Vec<f64>, Vec<usize>)> {
        let width = self.trainer.generator().output_shape().len();
        let (mut real, mut labels) = (vec![T::zero(); rows * width], Vec::new());
        self.source.fill_labelled(rng, &mut real, &mut labels)?;
        Ok((real.iter().map(|x| x.as_f64()).collect(), labels))
    }

    pub(super) fn compare(&self, rows: usize, floor: &Floor, rng: &mut ChaCha8Rng) -> Result<Comparison> {
        let width = self.trainer.generator().output_shape().len();
        let (mut real, labels) = self.real_rows(rows, rng)?;
        let mut latent = Tensor::zeros(self.batch_of(rows)?);
        self.config.latent.distribution().fill(rng, latent.data_mut());
        let mut generated = self.network_output(&latent, &labels)?.cast::<f64>();
        if let Some(&value) = generated.data().iter().find(|x| !x.is_finite()) {
            let step = "evaluation".to_owned();
            return Err(Error::NotFinite { epoch: self.epoch, step, what: "G's output".to_owned(), value });
        }
        let evaluation = evaluate::evaluate(self.known(), &real, (generated.data(), &labels), width, floor)?;
        self.source.restore(&mut real);
        self.source.restore(generated.data_mut());
        let latent = latent.data().iter().map(|x| x.as_f64()).collect();
        Ok(Comparison { epoch: self.epoch, evaluation, real, generated, latent })
    }
}
