//! What defines a run, as TOML.

use std::collections::BTreeMap;
use std::path::Path;

use nn::layers::LayerConfig;
use nn::{Network, Optimizer, Schedule};
use rand::Rng;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tensor_ops::{Scalar, Shape};
use toml::{Table, Value};

use crate::files::read_text;
use crate::{Augment, Data, Error, Latent, Objective, Penalty, Result, Rules};

/// The longest text of a configuration, in bytes.
pub(crate) const MOST_CONFIG: u64 = 1 << 20;
/// The longest path of a setting, in keys.
const MOST_KEYS: usize = 32;

/// Everything that defines a run. Two runs of the same configuration give the same bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where real rows come from.
    pub data: Data,
    /// The generator's input.
    pub latent: Latent,
    /// G: from a latent to a row.
    pub generator: NetworkConfig,
    /// D: from a row to one number.
    pub discriminator: NetworkConfig,
    /// What D and G strive for.
    #[serde(default)]
    pub objective: Objective,
    /// What keeps D smooth.
    #[serde(default)]
    pub penalty: Penalty,
    /// How images are changed before D sees them.
    #[serde(default)]
    pub augment: Augment,
    /// How D and G learn.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// How long, and how much at a time.
    #[serde(default)]
    pub train: TrainConfig,
    /// What is measured after each stage.
    #[serde(default)]
    pub evaluate: EvaluateConfig,
    /// What is kept.
    #[serde(default)]
    pub output: OutputConfig,
}

/// A network as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The shape of one row of its input.
    pub input: Vec<usize>,
    /// Its layers, first to last.
    #[serde(deserialize_with = "numbered_layers")]
    pub layers: Vec<LayerConfig>,
    /// The places, from 0, of layers that keep the parameters they start with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<usize>,
}

/// The optimizers of both networks, each with moments of its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// G's.
    pub generator: Optimizer,
    /// D's.
    pub discriminator: Optimizer,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self { generator: Optimizer::adam(2e-4), discriminator: Optimizer::adam(2e-4) }
    }
}

/// The type of numbers that a run computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 64-bit floating point.
    F64,
}

/// How long a run trains, and how much at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Where all random numbers start, from 0 to 2^63 - 1.
    pub seed: u64,
    /// The type of numbers.
    pub precision: Precision,
    /// How many real rows, and as many fake ones, a step sees.
    pub batch: usize,
    /// How many rounds of D steps and G steps.
    pub epochs: u64,
    /// How many epochs lie between two reports.
    pub stage: u64,
    /// D's steps in an epoch.
    pub discriminator_steps: usize,
    /// G's steps in an epoch.
    pub generator_steps: usize,
    /// How many rows D sees as one.
    pub packing: usize,
    /// How much of the moving average of G is kept in a step of G, in [0, 1); without it, none is kept. Samples and
    /// evaluations use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// The largest norm of all gradients of D, or of G, together; without it, they are not clipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// How both learning rates change while the run goes on.
    pub schedule: Schedule,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            precision: Precision::F32,
            batch: 10,
            epochs: 40_000,
            stage: 200,
            discriminator_steps: 1,
            generator_steps: 5,
            packing: 1,
            ema_decay: None,
            clip_norm: None,
            schedule: Schedule::default(),
        }
    }
}

/// What is measured after each stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// How many generated rows are compared: numbers with their distribution, others with as many real rows.
    pub rows: usize,
    /// What `gan evaluate` requires: by the name of a measure the most that a distance may be, or a statistic may differ
    /// from that of the real rows, or the least that a score must be.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub require: BTreeMap<String, f64>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self { rows: 100, require: BTreeMap::new() }
    }
}

/// What a run keeps in its folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputConfig {
    /// How many of the newest checkpoints are kept.
    pub checkpoints: usize,
    /// Whether the main picture is written after each stage; at the end it always is.
    pub stage_plots: bool,
    /// Whether the rows that a stage was evaluated on are written; of images, a grid of what G makes of the same latents.
    pub stage_samples: bool,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self { checkpoints: 3, stage_plots: false, stage_samples: false }
    }
}

impl Config {
    /// Reads a file as [`Config::parse`] does a text.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, else [`Error::File`].
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = read_text(path, MOST_CONFIG)?;
        Self::parse(&text, overrides).map_err(|error| Error::file(path, error.to_string()))
    }

    /// Reads TOML, then sets `overrides` of the form `key.path=value`, where a number in the path stands for a
    /// place in a list, and checks the whole.
    ///
    /// # Errors
    /// [`Error::Syntax`] with the line, [`Error::Setting`] with the field.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self> {
        let syntax = |error: toml::de::Error| Error::Syntax {
            line: error
                .span()
                .map(|span| 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count()),
            message: told(error.message()),
        };
        let mut config: Self = toml::from_str(text).map_err(syntax)?;
        if !overrides.is_empty() {
            let mut table: Table = toml::from_str(text).map_err(syntax)?;
            for setting in overrides {
                set(&mut table, setting)?;
            }
            config = table.try_into().map_err(|error: toml::de::Error| Error::Syntax {
                line: None,
                message: told(&format!("--set {}: {}", overrides.join(" "), error.to_string().trim())),
            })?;
        }
        config.check()?;
        Ok(config)
    }

    /// The configuration as TOML, with all defaults written out.
    ///
    /// # Errors
    /// [`Error::Syntax`] where TOML cannot hold it.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::Syntax { line: None, message: error.to_string() })
    }

    /// Refuses settings that no run can have.
    ///
    /// # Errors
    /// [`Error::Setting`], which names the first of them.
    pub fn check(&self) -> Result<()> {
        self.data.check()?;
        self.latent.distribution().check("latent")?;
        self.optimizer.generator.check().map_err(Error::network("optimizer.generator"))?;
        self.optimizer.discriminator.check().map_err(Error::network("optimizer.discriminator"))?;
        let refuse = |field, expected: &str, found: String| {
            Err(Error::Setting { field, expected: expected.to_owned(), found })
        };
        let train = &self.train;
        for (field, value) in [
            ("train.batch", train.batch as u64),
            ("train.epochs", train.epochs),
            ("train.stage", train.stage),
            ("evaluate.rows", self.evaluate.rows as u64),
            ("output.checkpoints", self.output.checkpoints as u64),
        ] {
            if value == 0 {
                return refuse(field, "at least 1", "0".to_owned());
            }
        }
        if i64::try_from(train.seed).is_err() {
            return refuse("train.seed", "at most 2^63 - 1", train.seed.to_string());
        }
        match train.discriminator_steps.checked_add(train.generator_steps) {
            Some(1..) => {}
            steps => {
                let found = steps.map_or("more than 2^64".to_owned(), |steps| steps.to_string());
                return refuse("train.generator_steps", "at least one step of D or G in an epoch", found);
            }
        }
        if !train.batch.is_multiple_of(train.packing.max(1)) {
            let expected = format!("a multiple of train.packing, {}", train.packing);
            return refuse("train.batch", &expected, train.batch.to_string());
        }
        train.schedule.check().map_err(Error::network("train"))?;
        let generator = shape_of("generator", &self.generator)?;
        if generator.len() != self.latent.dim() {
            let expected =
                format!("{generator}, the elements of generator.input", generator = generator.len());
            return refuse("latent.dim", &expected, self.latent.dim().to_string());
        }
        shape_of("discriminator", &self.discriminator)?;
        self.check_numbers()
    }

    /// Refuses numbers that the run's precision cannot hold, wherever they stand.
    fn check_numbers(&self) -> Result<()> {
        let most = match self.train.precision {
            Precision::F32 => f64::from(f32::MAX),
            Precision::F64 => f64::MAX,
        };
        let mut settings = Vec::new();
        let table = Value::try_from(self);
        table
            .iter()
            .for_each(|table| flatten("", table, &mut |path, value| numbers(path, value, &mut settings)));
        match settings.into_iter().find(|(_, number)| number.is_nan() || number.abs() > most) {
            Some((path, number)) => {
                let message = format!("{path}: expected a number of at most {most:e}, found {number:?}");
                Err(Error::Syntax { line: None, message })
            }
            None => Ok(()),
        }
    }

    /// What makes a run the run that it is: all but what may change between its parts.
    pub(crate) fn identity(&self) -> Self {
        let mut same = self.clone();
        same.train.epochs = TrainConfig::default().epochs;
        same.evaluate.require.clear();
        same.output = OutputConfig::default();
        same
    }

    /// Refuses to go on with a run that another configuration began, but for what may change.
    ///
    /// # Errors
    /// [`Error::Changed`] with all settings that differ.
    pub(crate) fn check_same(&self, begun: &Self) -> Result<()> {
        let [begun, now] = [begun, self].map(|config| {
            let mut settings = Vec::new();
            if let Ok(table) = Value::try_from(config.identity()) {
                flatten("", &table, &mut |path, value| settings.push((path, value.to_string())));
            }
            settings
        });
        let found_in = |settings: &[(String, String)], key: &str| {
            let found = settings.iter().find(|(known, _)| known == key);
            found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
        };
        let missing = now.iter().filter(|(key, _)| begun.iter().all(|(known, _)| known != key));
        let differences: Vec<String> = begun
            .iter()
            .chain(missing)
            .map(|(key, _)| (key, found_in(&begun, key), found_in(&now, key)))
            .filter(|(_, begun, now)| begun != now)
            .map(|(key, begun, now)| format!("{key}: expected {begun}, found {now}"))
            .collect();
        if differences.is_empty() { Ok(()) } else { Err(Error::Changed { differences }) }
    }

    /// How steps are taken.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let TrainConfig { packing, clip_norm, seed, .. } = self.train;
        let Self { objective, penalty, augment, .. } = *self;
        Rules { objective, penalty, packing, clip_norm, noise: seed, augment }
    }

    /// The number of the last stage.
    #[must_use]
    pub fn stages(&self) -> u64 {
        self.train.epochs.div_ceil(self.train.stage)
    }

    /// Builds G and D and checks that they fit each other.
    ///
    /// # Errors
    /// [`Error::Network`] for a layer that cannot work, [`Error::Setting`] for networks that do not fit.
    pub fn build<T: Scalar>(&self, rng: &mut impl Rng) -> Result<(Network<T>, Network<T>)> {
        let mut network = |place, config: &NetworkConfig| {
            let layers = config.layers.iter().map(LayerConfig::build).collect();
            let network = Network::new(shape_of(place, config)?, layers, rng);
            let mut network = network.map_err(Error::network(place))?;
            for &layer in &config.frozen {
                let frozen = network.set_layer_trainable(&[layer], false);
                frozen.map_err(|_| no_layer(place, config.layers.len(), layer))?;
            }
            Ok(network)
        };
        let generator = network("generator", &self.generator)?;
        let discriminator = network("discriminator", &self.discriminator)?;
        let rules = self.rules();
        rules.check(generator.output_shape(), discriminator.input_shape())?;
        let refuse = |expected| {
            Err(Error::Setting { field: "train.batch", expected, found: self.train.batch.to_string() })
        };
        let load = rules.load(&generator, &discriminator);
        let (together, least) = (rules.together(load), 2 * rules.packing);
        if !self.train.batch.is_multiple_of(together) {
            return refuse(format!("a multiple of {together}, the rows that the networks take together"));
        }
        if load.whole_batch && self.train.batch < least {
            return refuse(format!("at least {least}, for layers that go by the whole batch"));
        }
        let activation = discriminator.final_activation();
        let ends_well = matches!(activation, nn::Activation::Sigmoid | nn::Activation::Linear);
        if *discriminator.output_shape() != [1] || !ends_well {
            let expected = "an output [1] with a sigmoid (a probability) or none (a logit)".to_owned();
            let found = format!("{} with {}", discriminator.output_shape(), activation.name());
            return Err(Error::Setting { field: "discriminator.layers", expected, found });
        }
        Ok((generator, discriminator))
    }
}

fn no_layer(place: &'static str, count: usize, found: usize) -> Error {
    let field = if place == "generator" { "generator.frozen" } else { "discriminator.frozen" };
    let expected = format!("places of its {count} layers, from 0");
    Error::Setting { field, expected, found: found.to_string() }
}

/// What a reader of TOML says, in one line that says what was expected.
fn told(message: &str) -> String {
    let says = ["expected", "missing field", "unknown field"].iter().any(|word| message.contains(word));
    let expected = if says { "" } else { "expected a whole configuration: " };
    format!("{expected}{}", message.replace('\n', " "))
}

/// Reads layers one by one, so that an error names its layer by number.
fn numbered_layers<'de, D: Deserializer<'de>>(list: D) -> std::result::Result<Vec<LayerConfig>, D::Error> {
    let layer = |(number, value): (usize, Value)| {
        let named = |error: toml::de::Error| D::Error::custom(format!("layer {number}: {}", error.message()));
        value.try_into().map_err(named)
    };
    Vec::<Value>::deserialize(list)?.into_iter().enumerate().map(layer).collect()
}

pub(crate) fn shape_of(place: &'static str, config: &NetworkConfig) -> Result<Shape> {
    Shape::new(&config.input).map_err(|error| Error::network(place)(error.into()))
}

/// The numbers with a fraction in the value of a setting.
fn numbers(path: String, value: &Value, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Float(number) => found.push((path, *number)),
        Value::Array(list) => list.iter().for_each(|value| numbers(path.clone(), value, found)),
        _ => {}
    }
}

/// Calls `each` with the settings in a value, and the path of each.
fn flatten(path: &str, value: &Value, each: &mut impl FnMut(String, &Value)) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| flatten(&below(key), value, each)),
        Value::Array(list) if list.iter().any(Value::is_table) => {
            let places = list.iter().enumerate();
            places.for_each(|(place, value)| flatten(&below(&place.to_string()), value, each));
        }
        _ => each(path.to_owned(), value),
    }
}

/// Sets `key.path=value` in a table. The value is read as TOML, or, where that fails, as a string.
fn set(table: &mut Table, setting: &str) -> Result<()> {
    let refuse = |expected: &str, found: &str| Error::Syntax {
        line: None,
        message: format!("--set {setting}: expected {expected}, found {found}"),
    };
    let Some((path, text)) = setting.split_once('=') else {
        return Err(refuse("key.path=value", "no `=`"));
    };
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let alone = parsed.filter(|table| table.len() == 1);
    let value = alone.and_then(|mut table| table.remove("value"));
    let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
    let (parents, last) = path.trim().rsplit_once('.').unwrap_or(("", path.trim()));
    if last.is_empty() {
        return Err(refuse("key.path=value", "no key"));
    }
    if path.split('.').count() > MOST_KEYS {
        return Err(refuse(&format!("at most {MOST_KEYS} keys"), "more"));
    }
    let mut parent = Value::Table(std::mem::take(table));
    let mut place = &mut parent;
    for key in parents.split('.').filter(|key| !key.is_empty()) {
        place = match place {
            Value::Table(table) => table.entry(key).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(list) => key
                .parse::<usize>()
                .ok()
                .and_then(|index| list.get_mut(index))
                .ok_or_else(|| refuse("the place of an entry in the list", key))?,
            _ => return Err(refuse("a table or a list", key)),
        };
    }
    match place {
        Value::Table(table) => {
            table.insert(last.to_owned(), value);
        }
        Value::Array(list) => {
            let entry = last.parse::<usize>().ok().and_then(|index| list.get_mut(index));
            *entry.ok_or_else(|| refuse("the place of an entry in the list", last))? = value;
        }
        _ => return Err(refuse("a table or a list", last)),
    }
    if let Value::Table(changed) = parent {
        *table = changed;
    }
    Ok(())
}
