//! The folder of a run.
//!
//! | file | what |
//! | --- | --- |
//! | `config.toml` | the configuration, defaults written out |
//! | `metrics.jsonl` | a JSON object for each stage: a [`StageRecord`] |
//! | `checkpoints/EPOCH.safetensors` | the newest few checkpoints |
//! | `plots/`, `samples/` | pictures and samples |
//! | `.lock` | held by the process that trains |

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::MOST_CONFIG;
use crate::files::{
    append, beside, lock, make_folder, read, read_text, remove, remove_strays, rename, write_atomically,
};
use crate::{Config, Error, Evaluation, Kind, Measure, Result, StageResult};

/// The folder of the checkpoints.
const CHECKPOINTS: &str = "checkpoints";
/// The file that a process that trains holds.
const LOCK: &str = ".lock";

/// Whether there is no such file.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

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
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Held by the one process that may write.
    lock: Option<File>,
}

impl RunDirectory {
    /// Makes the folder of a new run, with its configuration and its first checkpoint, that of epoch 0. It appears whole, or
    /// not at all, and belongs to this process as after [`RunDirectory::claim`].
    ///
    /// # Errors
    /// [`Error::File`] where something is there already, [`Error::Io`] where it cannot be made.
    pub fn create(path: &Path, config: &Config, checkpoint: &[u8]) -> Result<Self> {
        if fs::symlink_metadata(path).is_ok() {
            let message = "expected a folder that does not exist yet, found one; go on with `gan resume`, or name another with --run";
            return Err(Error::file(path, message));
        }
        let mut run = Self { path: beside(path, ""), lock: None };
        let made = run.fill(config, checkpoint).and_then(|()| rename(&run.path, path));
        if made.is_err() {
            run.remove();
        }
        // A name that no one asked for would puzzle.
        made.map_err(|error| match error {
            Error::Io { action, source, .. } => Error::Io { path: path.to_owned(), action, source },
            other => other,
        })?;
        run.path = path.to_owned();
        Ok(run)
    }

    /// What a new run has.
    fn fill(&mut self, config: &Config, checkpoint: &[u8]) -> Result<()> {
        let text = config.to_toml()?;
        make_folder(&self.checkpoints())?;
        self.claim()?;
        write_atomically(&self.path.join("config.toml"), text.as_bytes())?;
        write_atomically(&self.checkpoint(0), checkpoint)
    }

    /// Takes back what [`RunDirectory::fill`] has made, as far as it got, and nothing else.
    fn remove(&self) {
        let files = [self.path.join("config.toml"), self.checkpoint(0), self.path.join(LOCK)];
        for file in files.iter().filter(|_| self.lock.is_some()) {
            let _ = fs::remove_file(file);
        }
        for folder in [self.checkpoints(), self.path.clone()] {
            let _ = fs::remove_dir(folder);
        }
    }

    /// Lets this process write here, and no other, until the value is dropped or the process ends. Then deletes what a
    /// process that was killed left half written.
    ///
    /// # Errors
    /// [`Error::File`] where another process trains here, and for a link in the folder, which might lead out of it;
    /// [`Error::Io`] where nothing can be written.
    pub fn claim(&mut self) -> Result<()> {
        for folder in [&self.path, &self.checkpoints()] {
            let none =
                |error| Error::file(folder, format!("expected a folder of a run, found none: {error}"));
            for entry in fs::read_dir(folder).map_err(none)?.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    return Err(Error::file(&entry.path(), "expected a file or folder, found a link"));
                }
            }
        }
        let Some(lock) = lock(&self.path.join(LOCK))? else {
            let message = "expected a run that no process is training, found one that trains it";
            return Err(Error::file(&self.path, message));
        };
        self.lock = Some(lock);
        let folders = ["", CHECKPOINTS, "plots", "samples"];
        folders.iter().try_for_each(|folder| remove_strays(&self.path.join(folder)))
    }

    /// Opens the folder of a run that was started before.
    ///
    /// # Errors
    /// [`Error::File`] where it is none, and for a broken configuration.
    pub fn open(path: &Path) -> Result<(Self, Config)> {
        let file = path.join("config.toml");
        let text = read_text(&file, MOST_CONFIG).map_err(|error| match error {
            Error::Io { source, .. } => {
                Error::file(path, format!("expected the folder of a run, found no config.toml: {source}"))
            }
            other => other,
        })?;
        let config = Config::parse(&text, &[]).map_err(|error| Error::file(&file, error.to_string()))?;
        Ok((Self { path: path.to_owned(), lock: None }, config))
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
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
        make_folder(&folder)?;
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
            // A link may lead anywhere.
            entry.file_type().ok().filter(|kind| kind.is_file())?;
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

    /// The newest checkpoint, of at most so many bytes: its place and its bytes.
    ///
    /// # Errors
    /// [`Error::File`] where there is none, or a longer one, [`Error::Io`] where it cannot be read.
    pub fn newest_checkpoint(&self, most: u64) -> Result<(PathBuf, Vec<u8>)> {
        let mut attempts = 0;
        loop {
            let Some(&epoch) = self.checkpoint_epochs()?.first() else {
                return Err(Error::file(&self.checkpoints(), "expected a checkpoint, found none"));
            };
            let path = self.checkpoint(epoch);
            attempts += 1;
            match read(&path, most) {
                // A run in progress may have deleted it since the listing.
                Err(error) if is_missing(&error) && attempts < 4 => {}
                result => return result.map(|bytes| (path, bytes)),
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
            remove(&self.checkpoint(old))?;
        }
        Ok(())
    }

    /// Adds a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn append_record(&self, record: &StageRecord) -> Result<()> {
        let line = serde_json::to_string(record).unwrap_or_default() + "\n";
        append(&self.metrics(), line.as_bytes())
    }

    /// The lines of `metrics.jsonl`. A last line that was cut off is left out.
    ///
    /// # Errors
    /// [`Error::File`] for another broken line, with its number.
    pub fn records(&self) -> Result<Vec<StageRecord>> {
        let path = self.metrics();
        let text = match read_text(&path, u64::MAX) {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            result => result?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Session;
    use crate::files::failing;

    /// Trains as the program does: a checkpoint last in each stage. Goes on where the folder left it.
    fn train(folder: &Path, config: &Config) -> Result<()> {
        let mut session = Session::<f32>::new(config.clone())?;
        let run = if folder.exists() {
            let (mut run, _) = RunDirectory::open(folder)?;
            run.claim()?;
            session.restore(&run.newest_checkpoint(u64::MAX)?.1)?;
            run.rewind_records(session.epoch())?;
            run
        } else {
            RunDirectory::create(folder, config, &session.to_checkpoint()?)?
        };
        while !session.is_done() {
            session.run_epoch()?;
            if session.stage_is_due() {
                let result = session.finish_stage()?;
                let sample = run.file_in("samples", &format!("{}.csv", result.stage))?;
                write_atomically(&sample, b"1\n2\n")?;
                run.append_record(&StageRecord::new(&result, 0.0, 0.0))?;
                run.save_checkpoint(session.epoch(), &session.to_checkpoint()?, 2)?;
            }
        }
        Ok(())
    }

    /// The files of a folder and those below it, with what is in them.
    fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match fs::read(entry.path()) {
                Ok(bytes) => found.push((entry.path(), bytes)),
                Err(_) => found.extend(contents(&entry.path())),
            }
        }
        found.sort();
        found
    }

    /// Of all calls that change the disk each fails once, as on a full disk; the run then says so, and goes on from what it
    /// has as if nothing had happened.
    #[test]
    fn whichever_write_fails_the_run_goes_on_to_the_same_end() {
        let settings = ["train.epochs=5", "train.stage=1", "evaluate.rows=2"].map(str::to_owned);
        let config = Config::parse(crate::preset("notebook").unwrap(), &settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        train(&folder.join("whole"), &config).unwrap();
        let whole = contents(&folder.join("whole"));
        let mut failed = 0;
        for calls in 0.. {
            let run = folder.join(format!("run-{calls}"));
            failing::after(calls);
            match train(&run, &config) {
                Ok(()) if failing::is_due() => break,
                // Deleting what is half written may fail without harm.
                Ok(()) => {}
                Err(error) => {
                    assert!(!failing::is_due(), "call {calls}: {error}");
                    let message = error.to_string();
                    let place = format!("{}", run.display());
                    assert!(message.starts_with(&place) && message.contains(": cannot "), "{message}");
                    assert!(!message.contains('\n'), "{message}");
                    failed += 1;
                    if let Ok((begun, _)) = RunDirectory::open(&run) {
                        let (_, bytes) = begun.newest_checkpoint(u64::MAX).unwrap();
                        Session::<f32>::new(config.clone()).unwrap().restore(&bytes).unwrap();
                    } else {
                        assert_eq!(
                            fs::read_dir(folder).unwrap().count(),
                            calls + 1,
                            "call {calls}: {message}"
                        );
                    }
                }
            }
            failing::after(usize::MAX);
            if failed > 0 && !run.join("checkpoints/5.safetensors").exists() {
                train(&run, &config).unwrap();
            }
            let mut found: Vec<_> = contents(&run)
                .into_iter()
                .map(|(path, bytes)| (folder.join("whole").join(path.strip_prefix(&run).unwrap()), bytes))
                .collect();
            // The last checkpoint but two may be left.
            found.retain(|(path, _)| !path.ends_with("checkpoints/3.safetensors"));
            assert!(found == whole, "call {calls}");
        }
        assert!(failed > 60, "{failed}");
    }
}
