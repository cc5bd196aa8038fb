//! `cargo xtask soak`: the long forms of what the tests of runs check in short, with the real program.
//!
//! | what | how long |
//! | --- | --- |
//! | kills | `kill -9` at random moments of a run that saves all the time, and a resume after each |
//! | signals | SIGINT and SIGTERM at random moments, and a resume after each |
//! | bits | 200 steps of three networks on seven numbers of threads, three times each |
//! | memory | 100,000 steps |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Outcome, cargo, exit_code, run};

/// How often something is done.
struct Counts {
    kills: usize,
    signals: usize,
    repeats: usize,
    steps: u64,
}

const LONG: Counts = Counts { kills: 500, signals: 200, repeats: 3, steps: 100_000 };
const QUICK: Counts = Counts { kills: 20, signals: 10, repeats: 1, steps: 20_000 };

/// A run of small networks that saves every 30 steps: most of its time it writes.
const SAVING: &str = "train.epochs=EPOCHS train.stage=5 evaluate.rows=2 generator.layers.1.filters=8 \
                      generator.layers.2.filters=4 discriminator.layers.1.units=9 discriminator.layers.2.units=4";
/// A dense, a convolutional and a batch-normalised network, each of 200 steps.
const NETWORKS: [(&str, &str); 3] = [
    ("dense", "--preset ring --set train.batch=128 --set train.epochs=100 --set train.stage=50"),
    ("convolutional", "--preset notebook --set train.batch=64 --set train.epochs=34 --set train.stage=17"),
    (
        "batch-normalised",
        "--preset digits --set train.epochs=100 --set train.stage=50 --set evaluate.rows=50 \
         --set generator.layers.1={layer=\"batch_normalization\"} \
         --set discriminator.layers.2={layer=\"batch_normalization\"}",
    ),
];
const THREADS: [usize; 7] = [1, 2, 3, 4, 7, 8, 16];

/// Where the digits of the seal are in a checkpoint.
const SEAL: std::ops::Range<usize> = 35..99;
/// The longest that leaving may take.
const LEAVE: Duration = Duration::from_secs(2);
/// How much the memory of a long run may grow, in KiB.
const GROWTH: u64 = 1024;

/// Runs all of it, or with `--quick` a short form.
pub(crate) fn soak(target: &Path, args: &[std::ffi::OsString]) -> Outcome {
    let counts = match args {
        [] => LONG,
        [only] if only == "--quick" => QUICK,
        _ => return Err("`soak` takes at most one argument, `--quick`".into()),
    };
    run("soak", &mut cargo(&["build", "--release", "--package", "gan-cli", "--locked"]))?;
    let folder = target.join("soak");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Another build may come while this runs.
    let program = folder.join("gan");
    fs::copy(target.join("release").join("gan"), &program)
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let mut soak = Soak { program: path_of(&program)?, folder, random: 1 };
    soak.bits(counts.repeats)?;
    soak.memory(counts.steps)?;
    soak.interruptions("kills", counts.kills, &["KILL"])?;
    soak.interruptions("signals", counts.signals, &["INT", "TERM"])?;
    Ok(0)
}

fn path_of(program: &Path) -> Result<PathBuf, String> {
    std::path::absolute(program).map_err(|error| format!("{}: {error}", program.display()))
}

struct Soak {
    program: PathBuf,
    folder: PathBuf,
    random: u64,
}

impl Soak {
    /// A number below `bound`: the same ones in each soak (xorshift, Marsaglia 2003).
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn start(&self, words: &[&str]) -> Result<Child, String> {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--quiet").current_dir(&self.folder).stderr(Stdio::inherit());
        command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))
    }

    /// Runs the program to its end, which must be a good one.
    fn succeed(&self, words: &[&str]) -> Result<(), String> {
        let status = finish(&mut self.start(words)?)?;
        if status.success() { Ok(()) } else { Err(format!("`gan {}`: {status}", words.join(" "))) }
    }

    /// The last checkpoint of a run.
    fn end(&self, name: &str) -> Result<Vec<u8>, String> {
        let folder = self.folder.join(name).join("checkpoints");
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let epoch = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let newest = entries.flatten().map(|entry| entry.path()).max_by_key(epoch).unwrap_or_default();
        fs::read(&newest).map_err(|error| format!("{}: {error}", newest.display()))
    }

    /// The same bits on any number of threads.
    fn bits(&self, repeats: usize) -> Result<(), String> {
        for (name, words) in NETWORKS {
            let mut first: Option<Vec<u8>> = None;
            for threads in THREADS {
                for _ in 0..repeats {
                    let _ = fs::remove_dir_all(self.folder.join("bits"));
                    let threads = threads.to_string();
                    let words: Vec<&str> = words.split_whitespace().collect();
                    self.succeed(&[&["train", "--run", "bits", "--threads", &threads], &words[..]].concat())?;
                    let end = self.end("bits")?;
                    if *first.get_or_insert_with(|| end.clone()) != end {
                        return Err(format!("bits: {name}: another end on {threads} threads"));
                    }
                }
            }
            let seal = first.as_deref().and_then(|end| end.get(SEAL)).unwrap_or_default();
            let (runs, seal) = (repeats * THREADS.len(), String::from_utf8_lossy(seal));
            println!("bits: {name}: {runs} runs on {THREADS:?} threads, all {seal}");
        }
        Ok(())
    }

    /// A long run needs no more memory than a short one.
    fn memory(&self, steps: u64) -> Result<(), String> {
        // An epoch has 6 steps, a stage 200 epochs.
        let epochs = steps.div_ceil(6);
        let setting = format!("train.epochs={epochs}");
        let mut child =
            self.start(&["train", "--run", "memory", "--set", &setting, "--set", "evaluate.rows=10"])?;
        let path = PathBuf::from(format!("/proc/{}/status", child.id()));
        let checkpoints = self.folder.join("memory").join("checkpoints");
        let at = |epochs: u64| checkpoints.join(format!("{epochs}.safetensors"));
        let mut goes_on =
            || child.try_wait().map(|status| status.is_none()).map_err(|error| error.to_string());
        // A tenth of the run, in which buffers and heap come to their size; and the last stage before the end, where pictures
        // are drawn.
        let (begun, end) = (at(epochs / 10 / 200 * 200), at(epochs.saturating_sub(1) / 200 * 200));
        while !begun.exists() && goes_on()? {
            sleep(Duration::from_millis(1));
        }
        let (first, mut last) = (resident(&path), None);
        while goes_on()? {
            let now = resident(&path);
            if end.exists() {
                break;
            }
            last = now.or(last);
            sleep(Duration::from_millis(2));
        }
        if !finish(&mut child)?.success() {
            return Err("memory: expected a run that ends well".into());
        }
        let (Some(first), Some(last)) = (first, last) else {
            return Err("memory: expected the memory of a process, found none".into());
        };
        if last > first + GROWTH {
            return Err(format!("memory: expected at most {GROWTH} KiB more than {first}, found {last}"));
        }
        println!("memory: {} steps, {first} KiB after a tenth of them, {last} KiB at the end", 6 * epochs);
        Ok(())
    }

    /// A run that signals end again and again comes to the same end as one that none does.
    fn interruptions(&mut self, name: &str, count: usize, signals: &[&str]) -> Result<(), String> {
        let settings = SAVING.replace("EPOCHS", &(40 * count).to_string());
        let settings: Vec<&str> = settings.split_whitespace().flat_map(|word| ["--set", word]).collect();
        let begun = Instant::now();
        self.succeed(&[&["train", "--run", "whole"], &settings[..]].concat())?;
        // Shorter than what it takes, so that the run outlasts them.
        let pause = begun.elapsed().mul_f64(1.5 / count as f64);
        let mut child = self.start(&[&["train", "--run", "run"], &settings[..]].concat())?;
        let (mut done, mut slowest) = (0, Duration::ZERO);
        while done < count {
            sleep(pause.mul_f64(self.below(1000) as f64 / 1000.0));
            let signal = signals[self.below(signals.len() as u64) as usize];
            let sent = Instant::now();
            let status = interrupt(&mut child, signal)?;
            slowest = slowest.max(sent.elapsed());
            let ends_well = match signal {
                "KILL" => exit_code(status) == 137,
                // A process that has not come to listen yet is ended by the system, with the same code.
                "INT" => exit_code(status) == 130,
                _ => exit_code(status) == 143,
            };
            let begun = self.folder.join("run").exists();
            if status.success() && !self.seems_done()? || !status.success() && !ends_well {
                return Err(format!("{name}: {signal}, number {done}: {status}"));
            }
            done += usize::from(begun);
            if status.success() {
                return Err(format!(
                    "{name}: expected a run that outlasts {count} of them, found the end at {done}"
                ));
            }
            child = match begun {
                true => self.start(&["resume", "run"])?,
                // It was ended before it had a folder: nothing may be there.
                false => self.start(&[&["train", "--run", "run"], &settings[..]].concat())?,
            };
        }
        if !finish(&mut child)?.success() || self.end("run")? != self.end("whole")? {
            return Err(format!("{name}: another end than that of the run that was left alone"));
        }
        if slowest > LEAVE {
            return Err(format!("{name}: expected at most {LEAVE:?} to leave, found {slowest:?}"));
        }
        self.check_strays()?;
        println!(
            "{name}: {count} of {signals:?}, each resumed, same end, no stray files; slowest {slowest:?}"
        );
        for run in ["run", "whole"] {
            let _ = fs::remove_dir_all(self.folder.join(run));
        }
        Ok(())
    }

    fn seems_done(&self) -> Result<bool, String> {
        Ok(self.end("run")? == self.end("whole")?)
    }

    /// Nothing half written may lie about.
    fn check_strays(&self) -> Result<(), String> {
        for folder in ["", "run", "run/checkpoints", "run/plots"] {
            for entry in fs::read_dir(self.folder.join(folder)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with('.') && name != ".lock" {
                    return Err(format!("expected no stray file, found {}", entry.path().display()));
                }
            }
        }
        Ok(())
    }
}

fn finish(child: &mut Child) -> Result<ExitStatus, String> {
    child.wait().map_err(|error| error.to_string())
}

/// Sends a signal and waits for the end.
fn interrupt(child: &mut Child, signal: &str) -> Result<ExitStatus, String> {
    let mut kill = Command::new("kill");
    kill.args([format!("-{signal}"), child.id().to_string()]).stderr(Stdio::null());
    kill.status().map_err(|error| format!("kill: {error}"))?;
    finish(child)
}

/// The memory that a process has, in KiB.
fn resident(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
