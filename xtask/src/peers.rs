//! `cargo xtask bench --peers` and `--scaling`: the same training in this project, JAX, PyTorch and burn.
//!
//! Each peer is a program of `benches/peers` that stays open and answers one line of work at a time, so that all take
//! turns within the same minutes. The Python ones live in an environment of their own below the target folder, burn in a
//! package of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::available_parallelism;
use std::time::Instant;

use crate::{Outcome, cargo, not_started, run, target};

/// The notebook's batch, and two that fill a machine.
const BATCHES: [usize; 3] = [1, 64, 1024];
const ROUNDS: usize = 7;
/// How long one turn of a peer should last, in microseconds.
const TURN: f64 = 400_000.0;
/// A point that would take another program longer than this, in microseconds a step, is left out of `--scaling`.
const TOO_LONG: f64 = 3e5;
const STEPS_AN_EPOCH: f64 = 6.0;
/// glibc hands large buffers back to the system after each use, which costs the peers more than their arithmetic.
const ALLOCATOR: &str = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456";

/// A size of the notebook's networks: `depth` hidden layers of `width` units.
#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    width: usize,
    depth: usize,
}

impl Shape {
    /// Floating-point operations in a mean step, of 1 D step and 5 G steps: two for each multiply-add of a product.
    fn flop(self) -> f64 {
        let [batch, width, depth] = [self.batch, self.width, self.depth].map(|x| x as f64);
        let inside = (depth - 1.0) * width * width;
        let (g, d) = (100.0 * (2.0 * width + inside), 201.0 * width + inside);
        // D sees two batches and needs no gradient of its input; G's first layer needs none of its.
        let d_step = g + 2.0 * (3.0 * d - 200.0 * width);
        let g_step = 3.0 * g - 100.0 * width + 2.0 * d;
        2.0 * batch * (d_step + 5.0 * g_step) / STEPS_AN_EPOCH
    }
}

/// A program that trains.
struct Peer {
    name: &'static str,
    process: Child,
    work: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Seconds from its start to the end of its first epoch, at batch 1.
    start_up: f64,
    /// Epochs in a turn, once it is known how long one takes.
    epochs: usize,
    times: Vec<f64>,
}

impl Peer {
    fn start(name: &'static str, command: &mut Command) -> Result<Self, String> {
        let line = format!("{name}: {}", command.get_program().display());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let begun = Instant::now();
        let mut process = command.spawn().map_err(|error| not_started(&line, &error))?;
        let (Some(work), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(format!("{line}: no pipes"));
        };
        let answers = BufReader::new(answers);
        let mut peer = Self { name, process, work, answers, start_up: 0.0, epochs: 1, times: Vec::new() };
        // The first answer says that the first epoch is done.
        peer.answer()?;
        peer.start_up = begun.elapsed().as_secs_f64();
        Ok(peer)
    }

    fn answer(&mut self) -> Result<f64, String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        let number = read.ok().and_then(|_| line.trim().parse().ok());
        number.ok_or_else(|| format!("{}: expected a number, found `{}`", self.name, line.trim()))
    }

    fn ask(&mut self, line: &str) -> Result<f64, String> {
        writeln!(self.work, "{line}").map_err(|error| format!("{}: {error}", self.name))?;
        self.answer()
    }

    /// Microseconds a step over so many epochs.
    fn time(&mut self, shape: Shape, epochs: usize) -> Result<f64, String> {
        let Shape { batch, width, depth } = shape;
        self.ask(&format!("{batch} {width} {depth} {epochs}"))
    }

    /// Finds how many epochs make a turn.
    fn prepare(&mut self, shape: Shape) -> Result<(), String> {
        self.times.clear();
        let mut step = self.time(shape, 1)?;
        if step * STEPS_AN_EPOCH < TURN / 10.0 {
            step = self.time(shape, 10)?;
        }
        self.epochs = (TURN / step / STEPS_AN_EPOCH).round().max(1.0) as usize;
        Ok(())
    }

    fn turn(&mut self, shape: Shape) -> Result<(), String> {
        let time = self.time(shape, self.epochs)?;
        self.times.push(time);
        Ok(())
    }

    fn median(&self) -> f64 {
        median(&self.times)
    }

    /// The most memory that the process has had so far, in megabytes.
    fn memory(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok().map(|kilobytes: f64| kilobytes / 1e3)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A peer that has failed may be gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Where the peers' programs are.
struct Programs {
    folder: PathBuf,
    target: PathBuf,
    python: PathBuf,
    threads: usize,
}

impl Programs {
    /// Builds and installs what the peers need; where that has been done before, this takes a moment.
    fn prepare(root: &Path) -> Result<Self, String> {
        let folder = root.join("benches/peers");
        let target = target()?;
        let threads = available_parallelism().map_or(1, usize::from);
        let home = target.join("peers");
        let python = home.join("bin/python");
        run("peers", &mut cargo(&["build", "--release", "--package", "benches", "--examples", "--locked"]))?;
        let manifest = folder.join("burn/Cargo.toml");
        let mut burn = cargo(&["build", "--release", "--locked", "--manifest-path"]);
        run("peers", burn.arg(manifest).arg("--target-dir").arg(target.join("peer-burn")))?;
        let (wanted, installed) = (folder.join("requirements.txt"), home.join("installed.txt"));
        let list = fs::read(&wanted).map_err(|error| format!("{}: {error}", wanted.display()))?;
        if fs::read(&installed).ok().as_ref() != Some(&list) {
            run("peers", Command::new("python3").args(["-m", "venv"]).arg(&home))?;
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
            run("peers", Command::new(&python).args(install).arg(&wanted))?;
            fs::write(&installed, list).map_err(|error| format!("{}: {error}", installed.display()))?;
        }
        Ok(Self { folder, target, python, threads })
    }

    /// Starts them all, this project's first.
    fn start(&self) -> Result<Vec<Peer>, String> {
        let threads = self.threads.to_string();
        let tuned = |mut command: Command| {
            command.arg(&threads).env("GLIBC_TUNABLES", ALLOCATOR).env("RAYON_NUM_THREADS", &threads);
            command.env("OMP_NUM_THREADS", &threads);
            command
        };
        let python = |file: &str| {
            let mut command = Command::new(&self.python);
            command.arg(self.folder.join(file));
            tuned(command)
        };
        let ours = self.target.join("release/examples/peer_gan");
        let burn = self.target.join("peer-burn/release/peer-burn");
        Ok(vec![
            Peer::start("gan", Command::new(ours).arg(&threads))?,
            Peer::start("JAX", &mut python("peer_jax.py"))?,
            Peer::start("PyTorch", &mut python("peer_torch.py"))?,
            Peer::start("burn", &mut tuned(Command::new(burn)))?,
        ])
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The table of the notebook's networks at three batches.
pub(crate) fn compare(root: &Path) -> Outcome {
    let programs = Programs::prepare(root)?;
    println!(
        "\n{} threads, f32; microseconds a step (1 D step and 5 G steps make an epoch), median of {ROUNDS} rounds\n",
        programs.threads
    );
    println!("| batch | program | a step | times ours | share of peak | first step after | memory |");
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    for batch in BATCHES {
        let shape = Shape { batch, width: 50, depth: 2 };
        let mut peers = programs.start()?;
        peers.iter_mut().try_for_each(|peer| peer.prepare(shape))?;
        let mut peaks = Vec::new();
        for _ in 0..ROUNDS {
            peaks.push(peers[0].ask("peak")?);
            peers.iter_mut().try_for_each(|peer| peer.turn(shape))?;
        }
        let (peak, ours) = (median(&peaks), peers[0].median());
        let bound = shape.flop() / peak / 1e3;
        println!("| {batch} | peak, {peak:.0} GFLOP/s | {bound:.1} | {:.2} | 100 % | | |", bound / ours);
        for peer in &peers {
            let step = peer.median();
            let memory = peer.memory().map_or(String::new(), |megabytes| format!("{megabytes:.0} MB"));
            println!(
                "| {batch} | {} | {step:.1} | {:.2} | {:.0} % | {:.3} s | {memory} |",
                peer.name,
                step / ours,
                100.0 * bound / step,
                peer.start_up,
            );
        }
    }
    Ok(0)
}

/// Tables and a picture of a step's time against the batch, the width and the depth.
pub(crate) fn scale(root: &Path) -> Outcome {
    let programs = Programs::prepare(root)?;
    let mut peers = programs.start()?;
    let base = Shape { batch: 16, width: 50, depth: 2 };
    let powers = |from: u32, to: u32| (from..=to).map(|power| 1_usize << power);
    let series: [(&str, Vec<Shape>); 3] = [
        ("batch", powers(0, 16).map(|batch| Shape { batch, ..base }).collect()),
        ("width", powers(4, 11).map(|width| Shape { width, ..base }).collect()),
        ("depth", powers(0, 4).map(|depth| Shape { depth, ..base }).collect()),
    ];
    let mut lines = String::from("axis,size,program,microseconds\n");
    for (axis, shapes) in series {
        println!("\n| {axis} | gan | of that a sample | JAX | PyTorch | burn |");
        println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
        let mut last = vec![0.0; peers.len()];
        for shape in shapes {
            let size = match axis {
                "batch" => shape.batch,
                "width" => shape.width,
                _ => shape.depth,
            };
            let times = measure(&mut peers, shape, &last)?;
            let mut row = format!("| {size} ");
            for (place, (peer, time)) in peers.iter().zip(&times).enumerate() {
                match time {
                    Some(time) => {
                        lines.push_str(&format!("{axis},{size},{},{time:.3}\n", peer.name));
                        row.push_str(&format!("| {time:.1} "));
                    }
                    None => row.push_str("| "),
                }
                if place == 0 {
                    let sample = time.unwrap_or(f64::NAN) / shape.batch as f64;
                    row.push_str(&format!("| {sample:.2} "));
                }
            }
            println!("{row}|");
            last = times.iter().zip(last).map(|(time, last)| time.unwrap_or(last.max(TOO_LONG))).collect();
        }
    }
    let table = programs.target.join("scaling.csv");
    fs::write(&table, lines).map_err(|error| format!("{}: {error}", table.display()))?;
    let picture = programs.target.join("scaling.svg");
    run(
        "peers",
        Command::new(programs.target.join("release/examples/plot_scaling")).args([&table, &picture]),
    )?;
    println!("\n{}", picture.display());
    Ok(0)
}

/// Microseconds a step of this project, and of each peer that is expected to end in time, given what it took at the size
/// before.
fn measure(peers: &mut [Peer], shape: Shape, last: &[f64]) -> Result<Vec<Option<f64>>, String> {
    let fast: Vec<bool> = last.iter().enumerate().map(|(i, last)| i == 0 || 4.0 * last < TOO_LONG).collect();
    let mut in_time: Vec<&mut Peer> =
        peers.iter_mut().zip(&fast).filter_map(|(peer, &fast)| fast.then_some(peer)).collect();
    in_time.iter_mut().try_for_each(|peer| peer.prepare(shape))?;
    for _ in 0..3 {
        in_time.iter_mut().try_for_each(|peer| peer.turn(shape))?;
    }
    Ok(peers.iter().zip(&fast).map(|(peer, &fast)| fast.then(|| peer.median())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_of_the_notebook() {
        // Counted by hand: a D step takes 0.63 and a G step 1.60 million operations.
        let shape = Shape { batch: 1, width: 50, depth: 2 };
        assert_eq!(shape.flop().round(), 1_438_600.0);
        assert_eq!(Shape { batch: 64, ..shape }.flop().round(), 92_070_400.0);
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
