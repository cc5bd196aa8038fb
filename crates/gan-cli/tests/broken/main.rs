//! Bad files never hurt: hundreds of broken ones, made from good ones, each read by the program in a process of its own.
//!
//! Each must end with exit code 2 and one line that names the file or the setting and what was expected of it, in memory
//! of 512 MB, and without a trace in the folder; where pixels are broken, which shows only in a run, that stays as it was.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bytes;
mod configs;
mod images;
mod runs;
mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the program may address, in KiB.
const MEMORY: u32 = 512 << 10;
/// How long a case may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many cases run at a time.
const AT_A_TIME: usize = 4;

/// Something broken, and how the program meets it.
pub(crate) struct Case {
    /// What is wrong.
    pub(crate) what: String,
    /// The files in the folder.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// A command for the shell, to be run in the folder first.
    pub(crate) before: &'static str,
    pub(crate) arguments: Vec<String>,
    /// What the error must name.
    pub(crate) names: String,
    /// Whether it shows in a run, of which the first checkpoint remains.
    pub(crate) late: bool,
}

impl Case {
    /// A configuration, `mine.toml`, that is to be trained; all files are for it.
    pub(crate) fn train(what: impl Into<String>, config: &str, names: &str) -> Self {
        let files = vec![("mine.toml".to_owned(), config.as_bytes().to_vec())];
        let arguments = words("train --quiet --config mine.toml --run out");
        Self { what: what.into(), files, before: "", arguments, names: names.to_owned(), late: false }
    }

    pub(crate) fn with(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), bytes.into()));
        self
    }

    pub(crate) fn before(self, before: &'static str) -> Self {
        Self { before, ..self }
    }

    pub(crate) fn late(self) -> Self {
        Self { late: true, ..self }
    }
}

pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// A configuration of small networks for rows of a shape, with this data.
pub(crate) fn config(data: &str, row: &[usize]) -> String {
    let units: usize = row.iter().product();
    format!(
        r#"
latent = {{ distribution = "normal", mean = 0.0, std = 1.0, dim = 2 }}
generator = {{ input = [2], layers = [{{ layer = "dense", units = {units} }}, {{ layer = "reshape", target_shape = {row:?} }}] }}
discriminator = {{ input = {row:?}, layers = [{{ layer = "flatten" }}, {{ layer = "dense", units = 1 }}] }}
train = {{ epochs = 2, stage = 1, batch = 2 }}
evaluate = {{ rows = 4 }}
data = {data}
"#
    )
}

/// The program in a folder, with bounded memory and few threads, each of which takes some; killed if it takes long.
pub(crate) fn gan(folder: &Path, arguments: &[String]) -> Output {
    let mut command = shell(&format!("ulimit -v {MEMORY} 2> /dev/null; exec \"$0\" \"$@\""));
    command.arg(env!("CARGO_BIN_EXE_gan")).args(arguments).current_dir(folder);
    command.envs([("RAYON_NUM_THREADS", "2"), ("MALLOC_ARENA_MAX", "1"), ("RUST_BACKTRACE", "0")]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().unwrap()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command
}

pub(crate) fn write(folder: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// All files in a folder and those in it; of what is no file, the name. Large ones count by their size.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            all.insert(name.clone(), Vec::new());
            all.extend(contents(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else if kind.is_file() && kind.len() < 1 << 26 {
            all.insert(name, fs::read(&path).unwrap());
        } else {
            all.insert(name, kind.len().to_le_bytes().to_vec());
        }
    }
    all
}

/// What is wrong with how the program meets a case, and how long it takes.
fn faults(folder: &Path, case: &Case) -> (Vec<String>, Duration) {
    write(folder, &case.files);
    shell(case.before).current_dir(folder).status().unwrap();
    let before = contents(folder);
    let begun = Instant::now();
    let output = gan(folder, &case.arguments);
    let took = begun.elapsed();
    let errors = String::from_utf8_lossy(&output.stderr);
    let mut faults = Vec::new();
    let mut require = |holds: bool, what: String| faults.extend((!holds).then_some(what));
    require(output.status.code() == Some(2), format!("{}", output.status));
    require(output.stdout.is_empty(), "something on stdout".to_owned());
    require(
        errors.starts_with("error: ") && errors.lines().count() == 1,
        "more or less than one error".to_owned(),
    );
    require(errors.contains(&case.names), format!("does not name {}", case.names));
    let says = ["expected", "cannot read", "missing field", "unknown field"];
    require(says.iter().any(|word| errors.contains(word)), "does not say what was expected".to_owned());
    require(errors.len() < 2000, format!("{} bytes of error", errors.len()));
    if case.late {
        let checkpoints = fs::read_dir(folder.join("out/checkpoints")).unwrap().count();
        let inspect = gan(folder, &words("inspect out --json"));
        require(checkpoints == 1 && inspect.status.success(), "no sound checkpoint left".to_owned());
        fs::remove_dir_all(folder.join("out")).unwrap();
    }
    require(contents(folder) == before, "something written".to_owned());
    require(took < PATIENCE, format!("took {took:?}"));
    let errors: String = errors.chars().take(600).collect();
    (faults.iter().map(|fault| format!("{}: {fault}: {errors}", case.what)).collect(), took)
}

#[test]
fn broken_files_are_refused_in_one_line_and_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    let runs = runs::Good::make(&root.path().join("good"));
    let families = [configs::cases(), tables::cases(), images::cases(), runs.cases()];
    let cases: Vec<Case> = families.into_iter().flatten().collect();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new((Vec::new(), Duration::ZERO)));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((number, case)) = take(&cases, &next) {
                    let folder = root.path().join(number.to_string());
                    fs::create_dir(&folder).unwrap();
                    let (faults, took) = faults(&folder, case);
                    let mut outcomes = outcomes.lock().unwrap();
                    outcomes.0.extend(faults);
                    outcomes.1 = outcomes.1.max(took);
                    drop(outcomes);
                    fs::remove_dir_all(folder).unwrap();
                }
            });
        }
    });
    let (faults, slowest) = outcomes.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults in {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
    assert!(cases.len() >= 300, "{} cases", cases.len());
    println!("{} broken files refused, the slowest within {slowest:?}", cases.len());
}

fn take<'a>(cases: &'a [Case], next: &AtomicUsize) -> Option<(usize, &'a Case)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    cases.get(number).map(|case| (number, case))
}
