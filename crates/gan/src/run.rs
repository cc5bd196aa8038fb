//! The folder of a run.
//!
//! | file | what |
//! | --- | --- |
//! | `config.toml` | the configuration, defaults written out |
//! | `metrics.jsonl` | a JSON object for each stage: a [`StageRecord`] |
//! | `checkpoints/EPOCH.safetensors` | the newest few checkpoints |
//! | `plots/`, `samples/` | pictures and samples |

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Config, Error, Evaluation, Kind, Measure, Result, StageResult};

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage's number, from 1.
    pub stage: u64,
    /// The epochs done so far.
    pub epoch: u64,
    /// Seconds since the run began, training and evaluation; a resumed run adds on.
    pub seconds: f64,
    /// Seconds of training alone, likewise.
    pub train_seconds: f64,
    /// D's mean loss over the stage.
    pub d_loss: f64,
    /// D's mean accuracy over the stage, from 0 to 1.
    pub d_accuracy: f64,
    /// G's mean loss over the stage.
    pub g_loss: f64,
    /// The measures: a statistic X as `real_X` and `generated_X`, others by their names, and the floor of each as
    /// `X_floor`.
    #[serde(flatten)]
    pub measures: Map<String, Value>,
}

impl StageRecord {
    /// The record of a stage that ended after so many seconds, so many of them of training.
    #[must_use]
    pub fn new(result: &StageResult, seconds: f64, train_seconds: f64) -> Self {
        Self {
            stage: result.stage,
            epoch: result.comparison.epoch,
            seconds,
            train_seconds,
            d_loss: result.d_loss,
            d_accuracy: result.d_accuracy,
            g_loss: result.g_loss,
            measures: figures(&result.comparison.evaluation),
        }
    }

    /// A figure of the measures; NaN where it is not there.
    #[must_use]
    pub fn figure(&self, name: &str) -> f64 {
        self.measures.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }
}

/// The figures of an evaluation by the names that [`StageRecord::measures`] has. What is not finite is null.
#[must_use]
pub fn figures(evaluation: &Evaluation) -> Map<String, Value> {
    let mut figures = Map::new();
    for Measure { name, kind, value, floor } in &evaluation.measures {
        if let Kind::Statistic(real) = kind {
            figures.insert(format!("real_{name}"), json!(real));
            figures.insert(format!("generated_{name}"), json!(value));
        } else {
            figures.insert((*name).to_owned(), json!(value));
        }
        figures.insert(format!("{name}_floor"), json!(floor));
    }
    figures
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes the folder of a new run, with its configuration.
    ///
    /// # Errors
    /// [`Error::File`] where something is there already, [`Error::Io`] where it cannot be made.
    pub fn create(path: &Path, config: &Config) -> Result<Self> {
        if fs::symlink_metadata(path).is_ok() {
            let message = "expected a folder that does not exist yet, found one; go on with `gan resume`, or name another with --run";
            return Err(Error::file(path, message));
        }
        let run = Self { path: path.to_owned() };
        let text = config.to_toml()?;
        fs::create_dir_all(run.checkpoints()).map_err(Error::io(path, "make the run's folder"))?;
        write_atomically(&run.path.join("config.toml"), text.as_bytes())?;
        Ok(run)
    }

    /// Opens the folder of a run that was started before.
    ///
    /// # Errors
    /// [`Error::File`] where it is none, and for a broken configuration.
    pub fn open(path: &Path) -> Result<(Self, Config)> {
        let file = path.join("config.toml");
        let text = fs::read_to_string(&file).map_err(|error| {
            Error::file(path, format!("expected the folder of a run, found no config.toml: {error}"))
        })?;
        let config = Config::parse(&text, &[]).map_err(|error| Error::file(&file, error.to_string()))?;
        Ok((Self { path: path.to_owned() }, config))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// A file in a folder of this one, such as `plots`, which is made if it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be made.
    pub fn file_in(&self, folder: &str, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(folder);
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "make the folder"))?;
        Ok(folder.join(name))
    }

    /// The epochs of the checkpoints, newest first.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be read.
    pub fn checkpoint_epochs(&self) -> Result<Vec<u64>> {
        let folder = self.checkpoints();
        let entries = fs::read_dir(&folder).map_err(Error::io(&folder, "read the folder"))?;
        let epoch = |entry: fs::DirEntry| {
            let path = entry.path();
            let is_checkpoint = path.extension().is_some_and(|ending| ending == "safetensors");
            path.file_stem().filter(|_| is_checkpoint)?.to_str()?.parse::<u64>().ok()
        };
        let mut epochs: Vec<u64> = entries.filter_map(|entry| epoch(entry.ok()?)).collect();
        epochs.sort_unstable_by(|a, b| b.cmp(a));
        Ok(epochs)
    }

    /// The place of the checkpoint of an epoch.
    #[must_use]
    pub fn checkpoint(&self, epoch: u64) -> PathBuf {
        self.checkpoints().join(format!("{epoch}.safetensors"))
    }

    /// The newest checkpoint: its place and its bytes.
    ///
    /// # Errors
    /// [`Error::File`] where there is none, [`Error::Io`] where it cannot be read.
    pub fn newest_checkpoint(&self) -> Result<(PathBuf, Vec<u8>)> {
        let mut attempts = 0;
        loop {
            let Some(&epoch) = self.checkpoint_epochs()?.first() else {
                return Err(Error::file(&self.checkpoints(), "expected a checkpoint, found none"));
            };
            let path = self.checkpoint(epoch);
            attempts += 1;
            match fs::read(&path) {
                // A run in progress may have deleted it since the listing.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && attempts < 4 => {}
                result => {
                    return result
                        .map_err(Error::io(&path, "read the checkpoint"))
                        .map(|bytes| (path, bytes));
                }
            }
        }
    }

    /// Writes the checkpoint of an epoch, then deletes all but the newest `keep`.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written: the older ones are then still there.
    pub fn save_checkpoint(&self, epoch: u64, bytes: &[u8], keep: usize) -> Result<()> {
        write_atomically(&self.checkpoint(epoch), bytes)?;
        for old in self.checkpoint_epochs()?.into_iter().skip(keep.max(1)) {
            let path = self.checkpoint(old);
            fs::remove_file(&path).map_err(Error::io(&path, "delete the old checkpoint"))?;
        }
        Ok(())
    }

    /// Adds a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn append_record(&self, record: &StageRecord) -> Result<()> {
        let path = self.metrics();
        let line = serde_json::to_string(record).unwrap_or_default() + "\n";
        let file = File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(Error::io(&path, "write"))
    }

    /// The lines of `metrics.jsonl`. A last line that was cut off is left out.
    ///
    /// # Errors
    /// [`Error::File`] for another broken line, with its number.
    pub fn records(&self) -> Result<Vec<StageRecord>> {
        let path = self.metrics();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(Error::io(&path, "read"))?,
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |(number, line): (usize, &str)| {
            serde_json::from_str(line)
                .map_err(|error| Error::file(&path, format!("line {}: {error}", number + 1)))
        };
        whole.lines().enumerate().map(parse).collect()
    }

    /// Takes back the lines of `metrics.jsonl` after `epoch`: a resumed run writes them again.
    ///
    /// # Errors
    /// As [`RunDirectory::records`], and [`Error::Io`] where the file cannot be written.
    pub fn rewind_records(&self, epoch: u64) -> Result<Vec<StageRecord>> {
        let mut records = self.records()?;
        records.retain(|record| record.epoch <= epoch);
        let lines: String =
            records.iter().map(|record| serde_json::to_string(record).unwrap_or_default() + "\n").collect();
        write_atomically(&self.metrics(), lines.as_bytes())?;
        Ok(records)
    }
}

/// Writes a file so that at every moment either the old one or the whole new one is there: beside it, synced,
/// renamed, the folder synced.
///
/// # Errors
/// [`Error::Io`]; what was there before is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.tmp"));
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(folder) if cfg!(unix) && !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&beside);
        Error::io(path, "write the file")(error)
    })
}
