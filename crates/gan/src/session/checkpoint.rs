//! A run's state as a file.

use nn::weights;
use serde::{Deserialize, Serialize};
use tensor_ops::Scalar;

use super::{Session, StageSums};
use crate::{Column, Error, ImageFacts, Images, Learner, Result, Source, Table};

/// The version of checkpoints that this library writes.
const FORMAT: u32 = 1;
/// The key of a checkpoint's metadata.
const METADATA: &str = "gan";

/// What a checkpoint holds beside tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    format: u32,
    epoch: u64,
    stage_sums: StageSums,
    data_stream: u64,
    latent_stream: u64,
    evaluation_stream: u64,
    generator_steps: u64,
    discriminator_steps: u64,
    /// Those of a table: samples are mapped back by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    columns: Vec<Column>,
    /// Those of images, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    images: Option<ImageFacts>,
}

impl<T: Scalar> Session<T> {
    fn columns(&self) -> Vec<Column> {
        if let Source::Table(table) = &self.source { table.columns.clone() } else { Vec::new() }
    }

    fn image_facts(&self) -> Option<ImageFacts> {
        if let Source::Images(images) = &self.source { Some(images.facts().clone()) } else { None }
    }

    /// All that resuming needs, as the bytes of a safetensors file. The same state gives the same bytes.
    ///
    /// # Errors
    /// Where the format cannot hold it.
    pub fn to_checkpoint(&self) -> Result<Vec<u8>> {
        let learners = self.trainer.learners();
        let [generator_steps, discriminator_steps] = learners.map(|(_, learner)| learner.state.step);
        // The streams' positions fit: 2^64 words would take centuries to draw.
        let place = Place {
            columns: self.columns(),
            images: self.image_facts(),
            format: FORMAT,
            epoch: self.epoch,
            stage_sums: self.sums,
            data_stream: self.data_stream.get_word_pos() as u64,
            latent_stream: self.latent_stream.get_word_pos() as u64,
            evaluation_stream: self.evaluation_stream.get_word_pos() as u64,
            generator_steps,
            discriminator_steps,
        };
        let place = serde_json::to_string(&place).unwrap_or_default();
        let mut tensors = Vec::new();
        for (prefix, Learner { network, optimizer, state, .. }) in learners {
            for (parameter, slots) in network.parameters().iter().zip(&state.slots) {
                tensors.push((format!("{prefix}.{}", parameter.key()), &parameter.value));
                for (name, slot) in optimizer.slots().iter().zip(slots) {
                    tensors.push((format!("optimizer.{prefix}.{}.{name}", parameter.key()), slot));
                }
            }
        }
        let averages = self.trainer.average().map_or(&[][..], |network| network.parameters());
        tensors.extend(averages.iter().map(|p| (format!("ema.generator.{}", p.key()), &p.value)));
        weights::write(tensors, Some((METADATA.to_owned(), place))).map_err(Error::network("checkpoint"))
    }

    /// Puts the run where a checkpoint of the same configuration left it. On an error nothing has changed.
    ///
    /// # Errors
    /// [`Error::Network`] where the bytes are no such checkpoint; the message names the tensor.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = Error::network("checkpoint");
        let file = weights::Reader::new(bytes).map_err(&failed)?;
        let broken = |expected: &str, found: &str| {
            failed(nn::Error::Weights {
                tensor: format!("metadata `{METADATA}`"),
                expected: expected.to_owned(),
                found: found.to_owned(),
            })
        };
        let text = file.metadata(METADATA).ok_or_else(|| broken("the place of a run", "none"))?;
        let place: Place =
            serde_json::from_str(text).map_err(|e| broken("the place of a run", &e.to_string()))?;
        if place.format != FORMAT {
            return Err(broken(&format!("format {FORMAT}"), &place.format.to_string()));
        }
        if place.epoch > self.config.train.epochs {
            return Err(broken(
                &format!("at most {} epochs", self.config.train.epochs),
                &place.epoch.to_string(),
            ));
        }
        if self.source.is_known() && self.columns() != place.columns {
            return Err(broken("the columns that the data has now", "others: the file has changed"));
        }
        if self.source.is_known() && self.image_facts() != place.images {
            return Err(broken("the images that the data has now", "others: the files have changed"));
        }
        if matches!(self.source, Source::Images(_)) && place.images.is_none() {
            return Err(broken("what is known of the images", "nothing"));
        }
        let mut restored = Vec::new();
        for (prefix, Learner { network, optimizer, .. }) in self.trainer.learners() {
            for parameter in network.parameters() {
                let (key, shape) = (parameter.key(), parameter.value.shape());
                let value = file.tensor::<T>(&format!("{prefix}.{key}"), shape).map_err(&failed)?;
                let slot = |name: &&str| file.tensor(&format!("optimizer.{prefix}.{key}.{name}"), shape);
                let slots = optimizer.slots().iter().map(slot).collect::<nn::Result<Vec<_>>>();
                restored.push((value, slots.map_err(&failed)?));
            }
        }
        let averages = self.trainer.average().map_or(&[][..], |network| network.parameters());
        let average =
            |p: &nn::Parameter<T>| file.tensor::<T>(&format!("ema.generator.{}", p.key()), p.value.shape());
        let averages = averages.iter().map(average).collect::<nn::Result<Vec<_>>>().map_err(&failed)?;
        if let Some(network) = self.trainer.average_mut() {
            network.parameters_mut().iter_mut().zip(averages).for_each(|(own, value)| own.value = value);
        }
        let mut restored = restored.into_iter();
        let steps = [place.generator_steps, place.discriminator_steps];
        for (learner, step) in self.trainer.learners_mut().into_iter().zip(steps) {
            let parameters = learner.network.parameters_mut();
            learner.state.slots.clear();
            for (parameter, (value, slots)) in parameters.iter_mut().zip(restored.by_ref()) {
                parameter.value = value;
                learner.state.slots.push(slots);
            }
            learner.state.step = step;
        }
        if !self.source.is_known() {
            match &mut self.source {
                Source::Images(images) => *images = Images::without_rows(place.images.unwrap_or_default()),
                source => *source = Source::Table(Table::without_rows(place.columns)),
            }
        }
        self.epoch = place.epoch;
        self.sums = place.stage_sums;
        self.data_stream.set_word_pos(u128::from(place.data_stream));
        self.latent_stream.set_word_pos(u128::from(place.latent_stream));
        self.evaluation_stream.set_word_pos(u128::from(place.evaluation_stream));
        Ok(())
    }
}
