//! `gan train` and `gan resume`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use gan::{Config, Precision, RunDirectory, Session, Source, StageRecord, StageResult};
use tensor_ops::{Scalar, with_threads};

use crate::arguments::{ResumeArguments, Running, TrainArguments};
use crate::failure::Failure;
use crate::gallery::save_stage;
use crate::pictures::{endings, paths, save_main, write_all};
use crate::progress::{Progress, spoken};
use crate::sample::csv;
use crate::signals::Signals;
use crate::{print, tell};

/// How often it is looked for a signal while something takes long.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn train(arguments: &TrainArguments) -> Result<ExitCode, Failure> {
    let (name, config) = configuration(arguments)?;
    match config.train.precision {
        Precision::F32 => start::<f32>(arguments, &name, config),
        Precision::F64 => start::<f64>(arguments, &name, config),
    }
}

/// The configuration that the arguments ask for, and what to call its runs.
fn configuration(arguments: &TrainArguments) -> Result<(String, Config), Failure> {
    let mut overrides = arguments.set.clone();
    overrides.extend(arguments.seed.map(|seed| format!("train.seed={seed}")));
    if let Some(path) = &arguments.config {
        let config = Config::read(path, &overrides).map_err(Failure::input)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok((name, config));
    }
    let name = arguments.preset.as_deref().unwrap_or("notebook");
    let text = crate::report::preset(name)?;
    let config =
        Config::parse(text, &overrides).map_err(|error| Failure::input(format!("preset {name}: {error}")))?;
    Ok((name.to_owned(), config))
}

fn start<T: Scalar>(arguments: &TrainArguments, name: &str, config: Config) -> Result<ExitCode, Failure> {
    let session = Session::<T>::new(config).map_err(Failure::input)?;
    if arguments.dry_run {
        tell_note(session.source());
        return print(&description(&session));
    }
    let path = arguments.run.clone().unwrap_or_else(|| free_folder(name));
    let signals = listen()?;
    let first = session.to_checkpoint().map_err(Failure::running)?;
    let run = RunDirectory::create(&path, session.config(), &first).map_err(Failure::of_files)?;
    if !arguments.running.quiet {
        tell(&format!("{name}: seed {}, into {}", session.config().train.seed, path.display()));
        tell_note(session.source());
    }
    Journey { session, run, signals, clock: Clock::from(0.0), train_seconds: 0.0 }.run(&arguments.running)
}

fn listen() -> Result<Signals, Failure> {
    Signals::listen().map_err(|error| Failure::running(format!("cannot listen for Ctrl-C: {error}")))
}

/// Says what a person should know about the data.
fn tell_note(source: &Source) {
    if let Source::Images(images) = source
        && let Some(note) = images.note()
    {
        tell(&format!("data: {note}"));
    }
}

/// The first of runs/NAME-1, runs/NAME-2, ... that does not exist.
fn free_folder(name: &str) -> PathBuf {
    let numbered = (1..).map(|n: u64| Path::new("runs").join(format!("{name}-{n}")));
    let mut free = numbered.skip_while(|path| std::fs::symlink_metadata(path).is_ok());
    free.next().unwrap_or_default()
}

fn description<T: Scalar>(session: &Session<T>) -> String {
    let train = &session.config().train;
    let data = match session.source() {
        Source::Images(images) => {
            let classes = images.facts().classes.as_ref().map(|names| format!(", {} classes", names.len()));
            let (count, shape) = (images.facts().count, images.facts().shape);
            format!("data: {count} images {shape:?}{}\n", classes.unwrap_or_default())
        }
        _ => String::new(),
    };
    format!(
        "{data}generator\n{}\ndiscriminator\n{}\nepochs: {}, in each {} D and {} G steps of batch {}; stages: {}\n",
        session.trainer().generator().summary(),
        session.trainer().discriminator().summary(),
        train.epochs,
        train.discriminator_steps,
        train.generator_steps,
        train.batch,
        session.config().stages(),
    )
}

pub(crate) fn resume(arguments: &ResumeArguments) -> Result<ExitCode, Failure> {
    let (mut run, config) = RunDirectory::open(&arguments.run).map_err(Failure::input)?;
    run.claim().map_err(Failure::of_files)?;
    match config.train.precision {
        Precision::F32 => continue_run::<f32>(run, config, &arguments.running),
        Precision::F64 => continue_run::<f64>(run, config, &arguments.running),
    }
}

fn continue_run<T: Scalar>(
    run: RunDirectory,
    config: Config,
    running: &Running,
) -> Result<ExitCode, Failure> {
    let session = open_session::<T>(&run, config)?;
    let due = session.stage_is_due();
    if session.is_done() && !due {
        tell(&format!("{}: all {} epochs are done", run.path().display(), session.epoch()));
        return Ok(ExitCode::SUCCESS);
    }
    let signals = listen()?;
    // A stage whose end the checkpoint does not know yet is recorded anew.
    let recorded = session.epoch() - u64::from(due);
    let records = run.rewind_records(recorded).map_err(Failure::of_files)?;
    let (earlier, train_seconds) = records.last().map_or((0.0, 0.0), |r| (r.seconds, r.train_seconds));
    if !running.quiet {
        tell(&format!("{}: going on after {}", run.path().display(), place(&session)));
    }
    Journey { session, run, signals, clock: Clock::from(earlier), train_seconds }.run(running)
}

/// How far a run is, in words.
fn place<T: Scalar>(session: &Session<T>) -> String {
    match (session.epoch(), session.step()) {
        (epoch, 0) => format!("epoch {epoch}"),
        (epoch, 1) => format!("epoch {epoch} and 1 step"),
        (epoch, steps) => format!("epoch {epoch} and {steps} steps"),
    }
}

/// A run's session where its newest checkpoint left it.
pub(crate) fn open_session<T: Scalar>(run: &RunDirectory, config: Config) -> Result<Session<T>, Failure> {
    restored(run, Session::new(config).map_err(Failure::input)?)
}

/// The same, to draw samples from: the file that its data is in may be gone.
pub(crate) fn open_sampler<T: Scalar>(run: &RunDirectory, config: Config) -> Result<Session<T>, Failure> {
    restored(run, Session::without_data(config).map_err(Failure::input)?)
}

fn restored<T: Scalar>(run: &RunDirectory, mut session: Session<T>) -> Result<Session<T>, Failure> {
    let most = session.longest_checkpoint();
    let (path, bytes) = run.newest_checkpoint(most).map_err(Failure::input)?;
    let Err(error) = session.restore(&bytes) else { return Ok(session) };
    let older = run.checkpoint_epochs().unwrap_or_default().into_iter().map(|epoch| run.checkpoint(epoch));
    let is_sound = |path: &PathBuf| gan::read(path, most).is_ok_and(|bytes| session.restore(&bytes).is_ok());
    let advice = older.filter(|older| *older != path).find(is_sound).map_or_else(String::new, |sound| {
        format!("; {} is sound: to go on from there, move the broken file away", sound.display())
    });
    Err(Failure::input(format!("{}: {error}{advice}", path.display())))
}

/// Gives evaluations of labelled images their classifier: the one in the run's folder, or a new one, which is put there
/// and takes a while: `say` is told so first.
pub(crate) fn prepare_classifier<T: Scalar>(
    run: &RunDirectory,
    session: &mut Session<T>,
    say: impl FnOnce(&str),
) -> gan::Result<()> {
    let path = run.path().join("classifier.safetensors");
    let known = if path.exists() { Some(gan::read(&path, u64::MAX)?) } else { None };
    let broken = |error| {
        let message = format!("{error}; without this file a new classifier is trained");
        gan::Error::File { path: path.clone(), message }
    };
    let begins = || say("training the classifier by which images are compared, once for this run");
    match session.prepare_classifier(known.as_deref(), begins).map_err(broken)? {
        Some(weights) => gan::write_atomically(&path, &weights),
        None => Ok(()),
    }
}

/// How long a run has taken, over all its parts.
#[derive(Clone, Copy)]
struct Clock {
    begun: Instant,
    /// Seconds before this part of it was begun.
    earlier: f64,
}

impl Clock {
    /// A clock that starts now, after so many seconds.
    fn from(earlier: f64) -> Self {
        Self { begun: Instant::now(), earlier }
    }

    fn seconds(self) -> f64 {
        self.earlier + self.begun.elapsed().as_secs_f64()
    }
}

/// A run under way: the session, its folder and its clock.
struct Journey<T> {
    session: Session<T>,
    run: RunDirectory,
    signals: Signals,
    clock: Clock,
    train_seconds: f64,
}

impl<T: Scalar> Journey<T> {
    fn run(mut self, running: &Running) -> Result<ExitCode, Failure> {
        let progress = Progress::new(running.quiet, self.session.config().train.epochs, self.session.epoch());
        if let Source::Images(images) = self.session.source()
            && let Some(decode) = images.decoder()
        {
            // Where there can be no such thread, batches decode what they need.
            drop(thread::Builder::new().spawn(decode));
        }
        let outcome = with_threads(running.threads, || self.train(&progress)).map_err(Failure::input)?;
        progress.finish();
        let code = outcome.map_err(Failure::of_files)?;
        if !running.quiet {
            tell(&self.farewell(code));
        }
        Ok(code.map_or(ExitCode::SUCCESS, ExitCode::from))
    }

    /// Trains to the end, or until a signal comes, whose exit code it returns.
    fn train(&mut self, progress: &Progress) -> gan::Result<Option<u8>> {
        self.long(progress, |run, session| prepare_classifier(run, session, |line| progress.say(line)))?;
        let mut trained_from = Instant::now();
        while !self.session.is_done() || self.session.stage_is_due() {
            if let Some(code) = self.signals.asked() {
                self.save()?;
                return Ok(Some(code));
            }
            if self.session.stage_is_due() {
                self.finish_stage(progress, trained_from.elapsed())?;
                trained_from = Instant::now();
                continue;
            }
            self.session.run_step()?;
            if self.session.step() == 0 {
                progress.epoch(self.session.epoch());
            }
        }
        Ok(None)
    }

    /// Measures what a stage gave, after so much training since the last one, and writes it, and at the end of the run
    /// all pictures. The checkpoint comes last: it vouches for the rest.
    fn finish_stage(&mut self, progress: &Progress, trained: Duration) -> gan::Result<()> {
        self.train_seconds += trained.as_secs_f64();
        let (clock, train_seconds) = (self.clock, self.train_seconds);
        let (result, record) = self.long(progress, |run, session| {
            let result = session.finish_stage()?;
            save_pictures(run, session, &result)?;
            let record = StageRecord::new(&result, clock.seconds(), train_seconds);
            if session.is_done() {
                let records = [run.records()?, vec![record.clone()]].concat();
                write_all(run, session, &result.comparison, &records)?;
            }
            Ok((result, record))
        })?;
        self.run.append_record(&record)?;
        self.save()?;
        progress.stage(&result, &record, self.session.config().stages());
        Ok(())
    }

    /// Does something that may take long. A signal does not wait for its end: what there was before is saved, and the
    /// program leaves.
    fn long<R>(
        &mut self,
        progress: &Progress,
        work: impl FnOnce(&RunDirectory, &mut Session<T>) -> gan::Result<R>,
    ) -> gan::Result<R> {
        let (before, epoch) = (self.session.to_checkpoint()?, self.session.epoch());
        let place = place(&self.session);
        let keep = self.session.config().output.checkpoints;
        let (run, signals, session) = (&self.run, &self.signals, &mut self.session);
        let (working, done) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                while done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    let Some(code) = signals.asked() else { continue };
                    progress.finish();
                    if let Err(error) = run.save_checkpoint(epoch, &before, keep) {
                        tell(&Failure::running(error).to_string());
                        std::process::exit(1);
                    }
                    progress.say(&interrupted(run, &place));
                    std::process::exit(code.into());
                }
            });
            let result = work(run, session);
            drop(working);
            result
        })
    }

    fn save(&self) -> gan::Result<()> {
        let keep = self.session.config().output.checkpoints;
        self.run.save_checkpoint(self.session.epoch(), &self.session.to_checkpoint()?, keep)
    }

    fn farewell(&self, code: Option<u8>) -> String {
        if code.is_some() {
            return interrupted(&self.run, &place(&self.session));
        }
        let run = self.run.path().display();
        let ending = if let Source::Images(_) = self.session.source() { "png" } else { "csv" };
        let time = spoken(Duration::from_secs_f64(self.clock.seconds()));
        format!(
            "done in {time}; pictures: {run}/plots\n\
             draw samples: gan sample {run} --count 100 --out samples.{ending}"
        )
    }
}

fn interrupted(run: &RunDirectory, place: &str) -> String {
    format!("interrupted after {place}, saved; go on: gan resume {}", run.path().display())
}

/// Writes the pictures and samples of a stage, where the configuration asks for them.
fn save_pictures<T: Scalar>(
    run: &RunDirectory,
    session: &Session<T>,
    result: &StageResult,
) -> gan::Result<()> {
    let output = &session.config().output;
    let stage = format!("stage-{:04}", result.stage);
    if output.stage_plots {
        let paths = paths(run, &stage, endings(session.source()))?;
        save_main(&paths, session, &result.comparison)?;
    }
    if !output.stage_samples {
        return Ok(());
    }
    if let Source::Images(images) = session.source() {
        let path = run.file_in("samples", &format!("{stage}.png"))?;
        return save_stage(&path, session, images);
    }
    let path = run.file_in("samples", &format!("{stage}.csv"))?;
    gan::write_atomically(&path, &csv(session.source().header(), &result.comparison.generated))
}
