//! The project's own commands, started with `cargo xtask COMMAND`.
//!
//! This crate uses nothing but the standard library and knows nothing of the other crates: it
//! starts cargo, and through cargo the program `gan`. The one thing it does by itself is
//! [`tidy`], which checks what the compiler does not see.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program reports by printing")]

mod fuzz;
mod peers;
mod reproduce;
mod soak;
mod source;
mod tidy;

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{self, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

/// The exit code of a command, or the text of an error in how it was called or started.
type Outcome = Result<u8, String>;

/// The exit code for a wrong command line, or a program that could not be started.
const USAGE_ERROR: u8 = 2;

/// One command of `cargo xtask`.
struct Task {
    name: &'static str,
    args: &'static str,
    about: &'static str,
    run: fn(&[OsString]) -> Outcome,
}

/// Every command. `help` prints this table, and `tidy` compares the READMEs with it.
const TASKS: [Task; 14] = [
    Task {
        name: "train",
        args: "[ARGS]",
        about: "build the program and run `gan train ARGS`",
        run: |args| hand_over(train(args)),
    },
    Task {
        name: "test",
        args: "[ARGS]",
        about: "all tests, doc tests included (ARGS go to `cargo test`)",
        run: |args| hand_over(test(args)),
    },
    Task {
        name: "gradcheck",
        args: "[--cases N]",
        about: "compare gradients with finite differences and exact derivatives",
        run: |args| hand_over(gradcheck(args)),
    },
    Task {
        name: "golden",
        args: "[DIR]",
        about: "compare with the stored reference results (in DIR)",
        run: |args| hand_over(golden(args)?),
    },
    Task {
        name: "bench",
        args: "[ARGS]",
        about: "benchmarks (--peers: beside JAX, PyTorch and burn; --scaling; else as `cargo bench`)",
        run: bench,
    },
    Task {
        name: "reproduce",
        args: "[PRESETS]",
        about: "train presets with all their seeds, check what they require",
        run: reproduce,
    },
    Task {
        name: "soak",
        args: "[--quick]",
        about: "kill, interrupt and repeat runs of the program, many times",
        run: |args| soak::soak(&target()?, args),
    },
    Task {
        name: "fuzz",
        args: "[SECONDS]",
        about: "coverage-guided fuzzing of all that the program reads, each reader so long",
        run: |args| fuzz::fuzz(&root()?, &target()?, args),
    },
    Task {
        name: "mutants",
        args: "[CRATE] [ARGS]",
        about: "change the arithmetic in thousands of places, one at a time: does a test notice?",
        run: mutants,
    },
    Task {
        name: "sanitize",
        args: "",
        about: "tests of tensor-ops with every access to memory and between threads checked",
        run: sanitize,
    },
    Task {
        name: "deny",
        args: "[CHECKS]",
        about: "licences and sources of all dependencies, by cargo-deny (or CHECKS: advisories)",
        run: run_deny,
    },
    Task { name: "tidy", args: "", about: "check what the compiler does not see", run: run_tidy },
    Task { name: "ci", args: "", about: "everything that must pass, cheapest first", run: ci },
    Task { name: "help", args: "", about: "print this text", run: help },
];

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let name = args.next().unwrap_or_else(|| OsString::from("help"));
    let rest: Vec<OsString> = args.collect();
    match dispatch(&name, &rest) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(USAGE_ERROR)
        }
    }
}

/// Finds the command called `name` and runs it.
fn dispatch(name: &OsStr, args: &[OsString]) -> Outcome {
    if name == "--help" || name == "-h" {
        return help(&[]);
    }
    match TASKS.iter().find(|task| name == task.name) {
        Some(task) => (task.run)(args),
        None => Err(format!("`{}` is not a command of cargo xtask\n\n{}", name.display(), usage())),
    }
}

/// The text of `cargo xtask help`: one line for each command.
fn usage() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND [ARGS]\n\n");
    for task in &TASKS {
        let call = format!("{} {}", task.name, task.args);
        text.push_str(&format!("  {call:<22}{}\n", task.about));
    }
    text
}

fn help(args: &[OsString]) -> Outcome {
    no_arguments("help", args)?;
    print!("{}", usage());
    Ok(0)
}

/// An error if a command that takes no arguments was given some.
fn no_arguments(name: &str, args: &[OsString]) -> Result<(), String> {
    match args.first() {
        Some(extra) => Err(format!("`{name}` takes no arguments, but got `{}`", extra.display())),
        None => Ok(()),
    }
}

/// A cargo command. It runs in the caller's folder, so relative paths mean what the caller meant.
fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(words);
    command
}

/// `cargo run` and not the program itself: cargo knows where the target folder is.
fn train(args: &[OsString]) -> Command {
    let mut command = cargo(&["run", "--release", "--package", "gan-cli", "--bin", "gan", "--", "train"]);
    command.args(args);
    command
}

fn test(args: &[OsString]) -> Command {
    let mut command = cargo(&["test", "--workspace"]);
    command.args(args);
    command
}

fn gradcheck(args: &[OsString]) -> Command {
    let packages = ["--package", "nn", "--package", "gan"];
    let mut command = cargo(&["test", "--release"]);
    command.args(packages).args(["--test", "gradcheck", "--"]);
    command.args(args);
    command
}

/// Cargo runs a test in the folder of its package, so DIR is made absolute here.
fn golden(args: &[OsString]) -> Result<Command, String> {
    let words = ["test", "--release", "--quiet", "--package", "gan", "--test", "golden", "--"];
    let mut command = cargo(&words);
    match args {
        [] => {}
        [dir] if !dir.as_encoded_bytes().starts_with(b"-") => {
            command.arg(path::absolute(dir).map_err(|e| format!("DIR `{}`: {e}", dir.display()))?);
        }
        _ => return Err("`golden` takes at most one argument, the folder DIR".into()),
    }
    Ok(command)
}

fn bench(args: &[OsString]) -> Outcome {
    match args {
        [first] if first == "--peers" => peers::compare(&root()?, None),
        [first, only] if first == "--peers" => peers::compare(&root()?, Some(&only.to_string_lossy())),
        [only] if only == "--scaling" => peers::scale(&root()?),
        _ => {
            let mut command = cargo(&["bench", "--package", "benches"]);
            command.args(args);
            hand_over(command)
        }
    }
}

fn reproduce(args: &[OsString]) -> Outcome {
    let names: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    reproduce::reproduce(&target()?, &names)
}

/// What is changed, and what is not, is in `.cargo/mutants.toml`; ARGS go to `cargo mutants`.
fn mutants(args: &[OsString]) -> Outcome {
    let installed = cargo(&["mutants", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        return Err("cargo-mutants is not installed: `cargo install cargo-mutants --locked`".into());
    }
    hand_over(mutate(args, &target()?))
}

/// All three libraries, or the one that comes first in `args`.
fn mutate(args: &[OsString], output: &path::Path) -> Command {
    let (named, rest) = match args {
        [name, rest @ ..] if !name.as_encoded_bytes().starts_with(b"-") => (Some(name), rest),
        _ => (None, args),
    };
    let mut command = cargo(&["mutants", "--output"]);
    command.arg(output);
    match named {
        Some(name) => command.arg("--package").arg(name),
        None => command.args(["tensor-ops", "nn", "gan"].map(|name| format!("--package={name}"))),
    };
    command.args(rest);
    command
}

/// Where cargo builds, this program too, whatever a variable or a file of settings says.
fn target() -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|error| format!("cannot tell where this program lies: {error}"))?;
    let folder = own.ancestors().nth(2).map(path::Path::to_path_buf);
    folder.ok_or_else(|| format!("{}: expected it below the target folder", own.display()))
}

/// Runs `command` to its end, and says that `task` does so.
fn run(task: &str, command: &mut Command) -> Result<(), String> {
    let is_cargo = path::Path::new(command.get_program()).file_stem().is_some_and(|name| name == "cargo");
    let line = if is_cargo { shown(command) } else { format!("{command:?}") };
    eprintln!("{task}: {line}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}`: {status}")),
        Err(error) => Err(not_started(&line, &error)),
    }
}

/// Lets `command` take the place of this process, as the last thing a task does.
///
/// Ctrl-C sends SIGINT to every process of the terminal's group. If this process only waited, it
/// would die at once, and the shell would print its prompt while `gan` still saves its checkpoint.
/// Replaced by cargo, which is in turn replaced by `gan`, only `gan` is left to answer the signal,
/// and the exit code is the one it chose.
#[cfg(unix)]
fn hand_over(mut command: Command) -> Outcome {
    use std::os::unix::process::CommandExt;
    let line = shown(&command);
    Err(not_started(&line, &command.exec()))
}

/// Runs `command` and passes its exit code on.
#[cfg(not(unix))]
fn hand_over(command: Command) -> Outcome {
    wait(command)
}

/// Runs `command` to its end and gives its exit code.
fn wait(mut command: Command) -> Outcome {
    match command.status() {
        Ok(status) => Ok(exit_code(status)),
        Err(error) => Err(not_started(&shown(&command), &error)),
    }
}

/// The code a shell would give: 128 + N for a process ended by signal N.
#[cfg(unix)]
fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(not(unix))]
fn exit_code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn not_started(line: &str, error: &std::io::Error) -> String {
    format!("cannot start `{line}`: {error}")
}

/// The line a user would type to run `command`.
fn shown(command: &Command) -> String {
    let set = |(key, value): (&OsStr, Option<&OsStr>)| {
        value.map(|value| format!("{}=\"{}\"", key.display(), value.display()))
    };
    let mut words: Vec<String> = command.get_envs().filter_map(set).collect();
    words.push("cargo".into());
    words.extend(command.get_args().map(|arg| arg.display().to_string()));
    words.join(" ")
}

/// The workspace's root: the folder above this package's.
fn root() -> Result<PathBuf, String> {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let root = package.as_deref().and_then(path::Path::parent);
    root.map(path::Path::to_path_buf).ok_or_else(|| "start this program with `cargo xtask`".into())
}

fn run_tidy(args: &[OsString]) -> Outcome {
    no_arguments("tidy", args)?;
    let names: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
    let report = tidy::check(&root()?, &names)?;
    for finding in &report.findings {
        println!("{finding}");
    }
    println!("tidy: {} files read, {} problems", report.files, report.findings.len());
    Ok(u8::from(!report.findings.is_empty()))
}

/// The sanitizers that rustc knows to build for, as `-Zsanitizer` names them.
const SANITIZERS: [&str; 2] = ["address", "thread"];

/// Runs the tests of the one crate with `unsafe` under Miri and under each sanitizer. Needs the nightly toolchain with the
/// components `miri` and `rust-src`.
fn sanitize(args: &[OsString]) -> Outcome {
    no_arguments("sanitize", args)?;
    let host = fuzz::host()?;
    let mut miri = Command::new("cargo");
    miri.args(["+nightly", "miri", "test", "--package", "tensor-ops", "--lib", "--locked", "--target-dir"]);
    miri.arg(target()?.join("miri"));
    // Where there is `unsafe`; what is left out counts how often something happens for many thousands of shapes.
    let modules = ["dots::", "kernel::", "team::", "tensor::"];
    miri.arg("--").args(modules).args(["--skip", "rests_are_computed_in_every_way"]);
    // It takes no registers for granted that it is not told of. Tree Borrows, and helpers that outlive the tests: rayon.
    miri.env("RUSTFLAGS", if cfg!(target_arch = "x86_64") { "-Ctarget-feature=+avx2,+fma" } else { "" });
    miri.env("MIRIFLAGS", "-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-deterministic-floats");
    run("sanitize", &mut miri)?;
    println!("sanitize: miri: nothing found");
    for sanitizer in SANITIZERS {
        let mut test = Command::new("cargo");
        test.args(["+nightly", "test", "--package", "tensor-ops", "--tests", "--locked", "--target", &host]);
        test.arg("--target-dir").arg(target()?.join(sanitizer));
        if sanitizer == "thread" {
            // It has to see the locks of the standard library too, else it takes what they order for races.
            test.arg("-Zbuild-std");
        }
        let flags = format!("-Zsanitizer={sanitizer} -Cunsafe-allow-abi-mismatch=sanitizer");
        run("sanitize", test.env("RUSTFLAGS", flags))?;
        println!("sanitize: {sanitizer}: nothing found");
    }
    Ok(0)
}

/// Runs cargo-deny on the workspace and on that of the fuzz targets.
fn run_deny(args: &[OsString]) -> Outcome {
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let code = wait(deny(&root()?, manifest, args))?;
        if code != 0 {
            return Ok(code);
        }
    }
    Ok(0)
}

fn deny(root: &path::Path, manifest: &str, checks: &[OsString]) -> Command {
    let mut command = cargo(&["deny", "--locked", "--config"]);
    command.arg(root.join("deny.toml")).arg("--manifest-path").arg(root.join(manifest));
    match checks {
        [] => command.args(["--offline", "check", "bans", "licenses", "sources"]),
        checks => command.arg("check").args(checks),
    };
    command
}

/// Whether cargo-deny is there.
fn can_deny() -> bool {
    let mut version = cargo(&["deny", "--version"]);
    version.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// One step of `ci`.
struct Step {
    name: &'static str,
    work: Work,
}

enum Work {
    Cargo(Command),
    /// Which this process does itself.
    Tidy,
    Deny,
}

impl Step {
    /// The line that runs this step alone.
    fn line(&self) -> String {
        match &self.work {
            Work::Cargo(command) => shown(command),
            Work::Tidy => "cargo xtask tidy".into(),
            Work::Deny => "cargo xtask deny".into(),
        }
    }

    fn run(self) -> Outcome {
        match self.work {
            Work::Cargo(command) => wait(command),
            Work::Tidy => run_tidy(&[]),
            Work::Deny if can_deny() => run_deny(&[]),
            Work::Deny => {
                println!("ci: deny: left out: expected cargo-deny, found none; cargo install cargo-deny");
                Ok(0)
            }
        }
    }
}

/// The steps of `ci`, cheapest first.
fn steps() -> Result<[Step; 7], String> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    let cargo_step = |name, command| Step { name, work: Work::Cargo(command) };
    Ok([
        cargo_step("format", cargo(&["fmt", "--all", "--check"])),
        Step { name: "tidy", work: Work::Tidy },
        Step { name: "deny", work: Work::Deny },
        cargo_step("clippy", cargo(&clippy)),
        cargo_step("fuzz", fuzz::check(&root()?, &target()?)),
        cargo_step("test", test(&[])),
        cargo_step("doc", doc),
    ])
}

/// Runs the steps in order and stops at the first that fails.
fn ci(args: &[OsString]) -> Outcome {
    no_arguments("ci", args)?;
    let start = Instant::now();
    for step in steps()? {
        let (name, line) = (step.name, step.line());
        println!("ci: {name}: {line}");
        let began = Instant::now();
        let code = step.run()?;
        let seconds = began.elapsed().as_secs_f64();
        if code != 0 {
            eprintln!("error: ci: {name} failed after {seconds:.1} s; to run it alone: {line}");
            return Ok(code);
        }
        println!("ci: {name}: ok in {seconds:.1} s");
    }
    println!("ci: all steps passed in {:.1} s", start.elapsed().as_secs_f64());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_has_one_line_for_each_command() {
        let text = usage();
        for task in &TASKS {
            let start = format!("  {} ", task.name);
            assert_eq!(text.lines().filter(|line| line.starts_with(&start)).count(), 1, "{}", task.name);
        }
    }

    #[test]
    fn an_unknown_command_is_an_error_that_names_it() {
        let error = dispatch(OsStr::new("tran"), &[]).unwrap_err();
        assert!(error.starts_with("`tran` is not a command"), "{error}");
    }

    #[test]
    fn arguments_that_would_be_ignored_are_errors() {
        for name in ["ci", "tidy", "help"] {
            assert!(dispatch(OsStr::new(name), &["x".into()]).is_err(), "{name}");
        }
        assert!(golden(&["a".into(), "b".into()]).is_err());
        assert!(golden(&["--dir".into()]).is_err());
    }

    #[test]
    fn golden_makes_its_folder_absolute() {
        let command = golden(&["some/dir".into()]).unwrap();
        let last = command.get_args().last().map(PathBuf::from).unwrap();
        assert!(last.is_absolute() && last.ends_with("some/dir"), "{last:?}");
    }

    #[test]
    fn mutants_are_of_the_crate_that_is_named_or_of_all_libraries() {
        let line = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            shown(&mutate(&args, path::Path::new("out")))
        };
        assert_eq!(line(&["nn", "--list"]), "cargo mutants --output out --package nn --list");
        let all = "cargo mutants --output out --package=tensor-ops --package=nn --package=gan --list";
        assert_eq!(line(&["--list"]), all);
    }

    #[test]
    fn a_step_shows_the_line_that_runs_it() {
        let lines: Vec<String> = steps().unwrap().iter().map(Step::line).collect();
        assert_eq!(lines[0], "cargo fmt --all --check");
        assert!(lines[4].starts_with("cargo check --locked --no-default-features"), "{}", lines[4]);
        assert_eq!(lines[6], "RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps --locked");
    }
}
