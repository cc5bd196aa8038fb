//! A run's state as a file.
//!
//! | version | what is new |
//! | --- | --- |
//! | 1 | |
//! | 2 | a seal; the configuration; places in the middle of an epoch |

use nn::{Network, weights};
use serde::{Deserialize, Serialize};
use tensor_ops::Scalar;

use super::{Session, StageSums};
use crate::{Column, Config, Error, ImageFacts, Images, Learner, Result, Source, Table};

/// The version of checkpoints that this library writes. It reads all up to that.
const FORMAT: u32 = 2;
/// More steps than anyone takes, yet few enough to be counted in floating point.
const MOST_STEPS: u64 = 1 << 53;
/// More bytes than a tensor's entry in the header takes, and than the place of a run takes, with its configuration.
const NAMED: usize = 1 << 10;
const PLACE: usize = 1 << 23;
/// The key of a checkpoint's metadata.
const METADATA: &str = "gan";

/// What a checkpoint holds beside tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    format: u32,
    epoch: u64,
    #[serde(default)]
    step: usize,
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
    /// What the run is, without what may change.
    #[serde(default)]
    config: Option<Config>,
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
            step: self.step,
            config: Some(self.config.identity()),
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
        weights::write(tensors, (METADATA, place)).map_err(Error::network("checkpoint"))
    }

    /// No checkpoint of this run is longer, in bytes: twice its numbers, and what names them.
    #[must_use]
    pub fn longest_checkpoint(&self) -> u64 {
        let numbers = |network: &Network<T>| -> usize {
            network
                .parameters()
                .iter()
                .map(|parameter| NAMED + 2 * size_of::<T>() * parameter.value.shape().len())
                .sum()
        };
        let learned = self.trainer.learners().map(|(_, Learner { network, optimizer, .. })| {
            numbers(network).saturating_mul(1 + optimizer.slots().len())
        });
        let average = self.trainer.average().map_or(0, numbers);
        learned.into_iter().fold(average.saturating_add(PLACE), usize::saturating_add) as u64
    }

    /// Puts the run where a checkpoint of the same configuration left it. On an error nothing has changed.
    ///
    /// # Errors
    /// [`Error::Network`] where the bytes are no such checkpoint, or damaged; the message names the tensor.
    /// [`Error::Changed`] where the configuration is another, but for what may change.
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
        if !(1..=FORMAT).contains(&place.format) {
            return Err(broken(&format!("format 1 to {FORMAT}"), &place.format.to_string()));
        }
        if place.format > 1 && !file.is_sealed() {
            return Err(broken("a header that begins with a seal", "none: the file is damaged"));
        }
        if let Some(config) = &place.config {
            self.config.check_same(config)?;
        }
        let (epochs, steps) = (self.config.train.epochs, self.steps());
        if (place.epoch, place.step) > (epochs, 0) || place.step >= steps {
            let found = format!("{} and {} steps of {steps}", place.epoch, place.step);
            return Err(broken(&format!("at most {epochs} epochs"), &found));
        }
        let taken = place.generator_steps.max(place.discriminator_steps);
        if taken > MOST_STEPS {
            return Err(broken(&format!("at most {MOST_STEPS} steps"), &taken.to_string()));
        }
        let source = self.known_source(&place).map_err(|(expected, found)| broken(expected, found))?;
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
        if let Some(source) = source {
            self.source = source;
        }
        self.epoch = place.epoch;
        self.step = place.step;
        self.sums = place.stage_sums;
        self.data_stream.set_word_pos(u128::from(place.data_stream));
        self.latent_stream.set_word_pos(u128::from(place.latent_stream));
        self.evaluation_stream.set_word_pos(u128::from(place.evaluation_stream));
        Ok(())
    }

    /// The source, where only the checkpoint tells what its rows are like; or what was expected and found.
    fn known_source(
        &self,
        place: &Place,
    ) -> std::result::Result<Option<Source>, (&'static str, &'static str)> {
        if self.source.is_known() {
            let same_images = match (&self.source, &place.images) {
                (Source::Images(images), Some(facts)) => images.are(facts),
                (Source::Images(_), None) | (_, Some(_)) => false,
                (_, None) => true,
            };
            return if self.columns() != place.columns {
                Err(("the columns that the data has now", "others: the file has changed"))
            } else if !same_images {
                Err(("the images that the data has now", "others: the files have changed"))
            } else {
                Ok(None)
            };
        }
        let row = self.trainer.generator().output_shape();
        match (&self.source, &place.images) {
            (Source::Images(_), None) => Err(("what is known of the images", "nothing")),
            (Source::Images(_), Some(facts)) if *row != facts.shape => Err(("images like G's", "others")),
            (Source::Images(_), Some(facts)) => Ok(Some(Source::Images(Images::without_rows(facts.clone())))),
            _ if row.len() != place.columns.len() => Err(("as many columns as G makes", "another number")),
            _ => Ok(Some(Source::Table(Table::without_rows(place.columns.clone())))),
        }
    }
}
