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

const ROUNDS: usize = 7;
/// How long one turn of a peer should last, in microseconds.
const TURN: f64 = 400_000.0;
/// A point that would take another program longer than this, in microseconds an epoch, is left out of `--scaling`.
const TOO_LONG: f64 = 1.8e6;
/// glibc hands large buffers back to the system after each use, which costs the peers more than their arithmetic.
const ALLOCATOR: &str = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456";

/// What `--peers` prints.
struct Table {
    /// What follows `--peers` to print this one alone, and the peers' argument.
    name: &'static str,
    title: &'static str,
    programs: &'static [&'static str],
    /// G's steps in an epoch, beside one of D's.
    generator_steps: f64,
    /// Microseconds an epoch for 1 in the column `a step`.
    unit: f64,
    shapes: [Shape; 3],
    /// Multiply-adds of a row on its way through G, G's first layer, D and D's first layer.
    multiply_adds: fn(Shape) -> [f64; 4],
}

const NOTEBOOK: Table = Table {
    name: "notebook",
    title: "The notebook's networks: microseconds a step, of which an epoch has 1 of D and 5 of G",
    programs: &["gan", "JAX", "PyTorch", "PyTorch compiled", "burn"],
    generator_steps: 5.0,
    unit: 6.0,
    // Its own batch, and two that fill a machine.
    shapes: [Shape::notebook(1), Shape::notebook(64), Shape::notebook(1024)],
    multiply_adds: |Shape { width, depth, .. }| {
        let (width, inside) = (width as f64, (depth as f64 - 1.0) * (width * width) as f64);
        [100.0 * (2.0 * width + inside), 100.0 * width, 201.0 * width + inside, 200.0 * width]
    },
};

const DCGAN: Table = Table {
    name: "dcgan",
    title: "A DCGAN for images of 28 x 28 pixels: milliseconds for a step of D and one of G",
    programs: &["gan", "PyTorch", "PyTorch compiled"],
    generator_steps: 1.0,
    unit: 1e3,
    shapes: [Shape::dcgan(16), Shape::dcgan(64), Shape::dcgan(256)],
    multiply_adds: |_| {
        // Windows of 4 x 4 pixels, those at an edge counted in full: between 1 and 64, and 64 and 128 channels.
        let (outer, inner) = (14.0 * 14.0 * 16.0 * 64.0, 7.0 * 7.0 * 16.0 * 64.0 * 128.0);
        let dense = 64.0 * 6272.0;
        [dense + inner + outer, dense, outer + inner + 6272.0, outer]
    },
};

impl Table {
    /// Floating-point operations in an epoch: two for each multiply-add of a product.
    fn flop(&self, shape: Shape) -> f64 {
        let [g, g_first, d, d_first] = (self.multiply_adds)(shape);
        // D sees two batches and needs no gradient of its input; G's first layer needs none of its.
        let d_step = g + 2.0 * (3.0 * d - d_first);
        let g_step = 3.0 * g - g_first + 2.0 * d;
        2.0 * shape.batch as f64 * (d_step + self.generator_steps * g_step)
    }
}

/// A size of networks: a DCGAN's is its batch alone, the notebook's have `depth` hidden layers of `width` units.
#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    width: usize,
    depth: usize,
}

impl Shape {
    const fn notebook(batch: usize) -> Self {
        Self { batch, width: 50, depth: 2 }
    }

    const fn dcgan(batch: usize) -> Self {
        Self { batch, width: 0, depth: 0 }
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

    /// Microseconds an epoch, the mean over so many.
    fn time(&mut self, shape: Shape, epochs: usize) -> Result<f64, String> {
        let Shape { batch, width, depth } = shape;
        self.ask(&format!("{batch} {width} {depth} {epochs}"))
    }

    /// Finds how many epochs make a turn.
    fn prepare(&mut self, shape: Shape) -> Result<(), String> {
        self.times.clear();
        let mut epoch = self.time(shape, 1)?;
        if epoch < TURN / 10.0 {
            epoch = self.time(shape, 10)?;
        }
        self.epochs = (TURN / epoch).round().max(1.0) as usize;
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

    /// Starts those named, of which this project's is the first.
    fn start(&self, programs: &[&'static str], networks: &str) -> Result<Vec<Peer>, String> {
        programs.iter().map(|name| Peer::start(name, &mut self.command(name, networks)?)).collect()
    }

    fn command(&self, name: &str, networks: &str) -> Result<Command, String> {
        let threads = self.threads.to_string();
        let mut command = match name {
            "gan" => Command::new(self.target.join("release/examples/peer_gan")),
            "burn" => Command::new(self.target.join("peer-burn/release/peer-burn")),
            _ => Command::new(&self.python),
        };
        if name != "gan" {
            command.env("GLIBC_TUNABLES", ALLOCATOR).env("RAYON_NUM_THREADS", &threads);
            command.env("OMP_NUM_THREADS", &threads);
        }
        match name {
            "JAX" => drop(command.arg(self.folder.join("peer_jax.py"))),
            "PyTorch" | "PyTorch compiled" => drop(command.arg(self.folder.join("peer_torch.py"))),
            _ => {}
        }
        command.args([&threads, networks]);
        if name == "PyTorch compiled" {
            // What an earlier process compiled would hide what it takes to compile.
            let cache = self.target.join("peers/compiled");
            if cache.exists() {
                fs::remove_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
            }
            command.arg("compiled").env("TORCHINDUCTOR_CACHE_DIR", cache);
        }
        Ok(command)
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// All tables, or the one named.
pub(crate) fn compare(root: &Path, only: Option<&str>) -> Outcome {
    let mut tables = vec![NOTEBOOK, DCGAN];
    tables.retain(|table| only.is_none_or(|only| only == table.name));
    if tables.is_empty() {
        let found = only.unwrap_or_default();
        return Err(format!("bench --peers: expected `notebook`, `dcgan` or nothing more, found `{found}`"));
    }
    let programs = Programs::prepare(root)?;
    tables.iter().try_for_each(|table| table.print(&programs))?;
    Ok(0)
}

impl Table {
    fn print(&self, programs: &Programs) -> Result<(), String> {
        println!("\n{}; f32, {} threads, median of {ROUNDS} rounds\n", self.title, programs.threads);
        println!("| batch | program | a step | times ours | share of peak | first step after | memory |");
        println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
        self.shapes.iter().try_for_each(|&shape| self.rows(programs, shape))
    }

    /// The rows of one batch, by processes of their own.
    fn rows(&self, programs: &Programs, shape: Shape) -> Result<(), String> {
        let batch = shape.batch;
        let mut peers = programs.start(self.programs, self.name)?;
        peers.iter_mut().try_for_each(|peer| peer.prepare(shape))?;
        let mut peaks = Vec::new();
        for _ in 0..ROUNDS {
            peaks.push(peers[0].ask("peak")?);
            peers.iter_mut().try_for_each(|peer| peer.turn(shape))?;
        }
        let (peak, ours) = (median(&peaks), peers[0].median());
        let bound = self.flop(shape) / peak / 1e3;
        let cells = |epoch: f64| {
            let (step, ratio, share) = (epoch / self.unit, epoch / ours, 100.0 * bound / epoch);
            format!("{step:.1} | {ratio:.2} | {share:.0} %")
        };
        println!("| {batch} | peak, {peak:.0} GFLOP/s | {} | | |", cells(bound));
        for peer in &peers {
            let memory = peer.memory().map_or(String::new(), |megabytes| format!("{megabytes:.0} MB"));
            let (name, cells) = (peer.name, cells(peer.median()));
            println!("| {batch} | {name} | {cells} | {:.3} s | {memory} |", peer.start_up);
        }
        Ok(())
    }
}

/// Tables and a picture of a step's time against the batch, the width and the depth.
pub(crate) fn scale(root: &Path) -> Outcome {
    let programs = Programs::prepare(root)?;
    // Not PyTorch compiled, which takes 20 seconds and more to compile for each of the 30 shapes.
    let mut peers = programs.start(&["gan", "JAX", "PyTorch", "burn"], NOTEBOOK.name)?;
    let base = Shape::notebook(16);
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
                        let time = time / NOTEBOOK.unit;
                        lines.push_str(&format!("{axis},{size},{},{time:.3}\n", peer.name));
                        row.push_str(&format!("| {time:.1} "));
                    }
                    None => row.push_str("| "),
                }
                if place == 0 {
                    let sample = time.unwrap_or(f64::NAN) / NOTEBOOK.unit / shape.batch as f64;
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

/// Microseconds an epoch of this project, and of each peer that is expected to end in time, given what it took at the size
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
        assert_eq!(NOTEBOOK.flop(Shape::notebook(1)).round(), 8_631_600.0);
        assert_eq!(NOTEBOOK.flop(Shape::notebook(64)).round(), 552_422_400.0);
    }

    #[test]
    fn operations_are_those_of_the_dcgan() {
        // Counted by hand: in D's step 92.8 and in G's 67.9 million operations.
        assert_eq!(DCGAN.flop(Shape::dcgan(1)).round(), 160_663_552.0);
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
