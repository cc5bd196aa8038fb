//! Runs that are stopped, killed, starved and damaged: none is lost, and each goes on as if nothing had happened.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A run of 3,000 steps of small networks, which saves all the time.
const RUN: &[&str] = &[
    "train.epochs=500",
    "train.stage=10",
    "evaluate.rows=2",
    "generator.layers.1.filters=4",
    "generator.layers.2.filters=3",
    "discriminator.layers.1.units=5",
    "discriminator.layers.2.units=4",
];

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gan"));
    command.args(arguments).arg("--quiet").current_dir(folder);
    command
}

fn training<'a>(run: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    ["train", "--run", run].into_iter().chain(settings).collect()
}

#[track_caller]
fn succeed(folder: &Path, arguments: &[&str]) {
    let Output { status, stderr, .. } = command(folder, arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
}

/// Runs what fails: with this exit code, and one line, which is returned.
#[track_caller]
fn fail(command: &mut Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let line = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout.len(), line.lines().count()), (Some(code), 0, 1), "{line}");
    line.strip_prefix("error: ").unwrap().trim_end().to_owned()
}

/// Waits until a file is there.
#[track_caller]
fn await_file(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", path.display());
        sleep(Duration::from_millis(1));
    }
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
}

/// The exit code of a process that ends within 2 seconds.
#[track_caller]
fn code_in_time(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    let code = child.wait().unwrap().code();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    code
}

/// Checks that a run has come to the same end as one that nothing befell, and that nothing is left lying about.
#[track_caller]
fn check_end(folder: &Path, run: &str) {
    let whole = folder.join("whole");
    if !whole.exists() {
        succeed(folder, &training("whole", RUN));
    }
    let end = |run: &Path| fs::read(run.join("checkpoints/500.safetensors")).unwrap();
    assert!(end(&whole) == end(&folder.join(run)), "{run}: another end");
    let stages = |run: &Path| fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().count();
    assert_eq!(stages(&folder.join(run)), 50);
    for place in ["", "checkpoints", "plots"] {
        for entry in fs::read_dir(folder.join(run).join(place)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.') || name == ".lock", "{name}");
        }
    }
}

#[test]
fn a_run_that_signals_end_again_and_again_comes_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut child = command(folder, &training("run", RUN)).spawn().unwrap();
    await_file(&folder.join("run"));
    for (pause, (name, code)) in
        [("-INT", 130), ("-TERM", 143), ("-HUP", 129)].iter().cycle().take(9).enumerate()
    {
        sleep(Duration::from_millis(7 * pause as u64 + 3));
        signal(&child, name);
        let found = code_in_time(&mut child);
        // The first moments of a process belong to the system, and it may be done.
        assert!([Some(*code), None, Some(0)].contains(&found), "{name}: {found:?}");
        child = command(folder, &["resume", "run"]).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    check_end(folder, "run");
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut child = command(folder, &training("run", RUN)).spawn().unwrap();
    await_file(&folder.join("run"));
    for pause in 0..15 {
        sleep(Duration::from_millis(11 * pause % 40 + 10));
        child.kill().unwrap();
        child.wait().unwrap();
        child = command(folder, &["resume", "run"]).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    check_end(folder, "run");
}

#[test]
fn the_last_checkpoint_vouches_for_all_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings = ["train.epochs=20", "train.stage=10", "evaluate.rows=2"];
    let mut child = command(folder, &training("run", &settings)).spawn().unwrap();
    await_file(&folder.join("run/checkpoints/20.safetensors"));
    child.kill().unwrap();
    child.wait().unwrap();
    for picture in ["histogram", "distribution", "generator", "curves"] {
        for ending in ["png", "svg"] {
            assert!(folder.join(format!("run/plots/{picture}.{ending}")).exists(), "{picture}.{ending}");
        }
    }
}

/// Before the first stage the classifier is trained, which takes longer than a signal may wait.
#[test]
fn a_signal_does_not_wait_for_the_classifier() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings = ["train.epochs=2", "evaluate.rows=5"];
    let arguments = [&training("run", &settings)[..], &["--preset", "digits"]].concat();
    let mut child = command(folder, &arguments).spawn().unwrap();
    await_file(&folder.join("run"));
    sleep(Duration::from_millis(100));
    signal(&child, "-INT");
    assert_eq!(code_in_time(&mut child), Some(130));
    assert!(!folder.join("run/classifier.safetensors").exists());
    succeed(folder, &["resume", "run"]);
    assert!(folder.join("run/checkpoints/2.safetensors").exists());
}

#[test]
fn a_second_signal_leaves_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // A step that takes seconds.
    let settings = ["train.batch=200000", "train.epochs=1", "evaluate.rows=2"];
    let mut child = command(folder, &training("run", &settings)).spawn().unwrap();
    await_file(&folder.join("run"));
    sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    sleep(Duration::from_millis(50));
    assert_eq!(child.try_wait().unwrap(), None);
    let begun = Instant::now();
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    let checkpoints = fs::read_dir(folder.join("run/checkpoints")).unwrap().count();
    assert_eq!(checkpoints, 1);
}

#[test]
fn a_run_is_trained_by_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let forever = ["train.epochs=100000000", "train.stage=20"];
    let mut child = command(folder, &training("run", &forever)).spawn().unwrap();
    await_file(&folder.join("run"));
    let refused = "run: expected a run that no process is training, found one that trains it";
    for _ in 0..5 {
        assert_eq!(fail(&mut command(folder, &["resume", "run"]), 2), refused);
    }
    let exists = fail(&mut command(folder, &training("run", RUN)), 2);
    assert!(exists.starts_with("run: expected a folder that does not exist yet, found one"), "{exists}");
    // What only reads may.
    let inspected =
        Command::new(env!("CARGO_BIN_EXE_gan")).args(["inspect", "run"]).current_dir(folder).output();
    assert!(inspected.unwrap().status.success());
    child.kill().unwrap();
    child.wait().unwrap();
    // A lock of a dead process is no obstacle.
    let mut child = command(folder, &["resume", "run"]).spawn().unwrap();
    sleep(Duration::from_millis(200));
    assert_eq!(child.try_wait().unwrap(), None);
    signal(&child, "-TERM");
    assert_eq!(code_in_time(&mut child), Some(143));
}

/// The program where no file may become larger than so many times 512 bytes, as on a disk that is full.
fn starved(folder: &Path, blocks: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_gan")])
        .args(arguments)
        .arg("--quiet")
        .current_dir(folder);
    command
}

#[test]
fn a_full_disk_is_noticed_before_training_or_costs_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // The first checkpoint does not fit.
    let message = fail(&mut starved(folder, 4, &training("run", RUN)), 1);
    assert!(message.starts_with("run: cannot write the file: File too large"), "{message}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    // The checkpoints do, but not the figures of all stages.
    let message = fail(&mut starved(folder, 50, &training("run", RUN)), 1);
    assert!(message.starts_with("run/metrics.jsonl: cannot write: File too large"), "{message}");
    succeed(folder, &["resume", "run"]);
    check_end(folder, "run");
}

#[test]
fn a_folder_that_vanishes_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let forever = ["train.epochs=100000000", "train.stage=20"];
    let child =
        command(folder, &training("run", &forever)).stderr(std::process::Stdio::piped()).spawn().unwrap();
    await_file(&folder.join("run/checkpoints/20.safetensors"));
    while fs::remove_dir_all(folder.join("run")).is_err() {}
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.starts_with("error: run/") && line.contains(": cannot "), "{line}");
}

#[test]
fn a_folder_that_cannot_be_written_is_noticed_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("file"), "").unwrap();
    let message = fail(&mut command(folder, &training("file/run", RUN)), 1);
    assert!(message.starts_with("file/run: cannot make the folder: "), "{message}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn a_damaged_checkpoint_is_refused_and_an_older_one_offered() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, &training("run", RUN));
    let newest = folder.join("run/checkpoints/500.safetensors");
    let sound = fs::read(&newest).unwrap();
    let mut damaged = sound.clone();
    damaged[sound.len() - 100] ^= 4;
    fs::write(&newest, damaged).unwrap();
    let expected = "run/checkpoints/500.safetensors: checkpoint: weights: file: expected bytes of the SHA-256 in its \
                    header, found others: the file is damaged; run/checkpoints/490.safetensors is sound: to go on \
                    from there, move the broken file away";
    assert_eq!(fail(&mut command(folder, &["resume", "run"]), 2), expected);
    fs::remove_file(&newest).unwrap();
    succeed(folder, &["resume", "run"]);
    check_end(folder, "run");
    // Where none is sound, none is offered.
    for epoch in [480, 490, 500] {
        fs::write(folder.join(format!("run/checkpoints/{epoch}.safetensors")), "no").unwrap();
    }
    let message = fail(&mut command(folder, &["resume", "run"]), 2);
    assert!(message.ends_with("expected a whole safetensors file, found header too small"), "{message}");
}

#[test]
fn a_configuration_may_change_where_it_may_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let shorter = [RUN, &["train.epochs=300", "output.checkpoints=2"]].concat();
    succeed(folder, &training("run", &shorter));
    let path = folder.join("run/config.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("batch = 1\n", "batch = 2\n")).unwrap();
    let expected = "run/checkpoints/300.safetensors: the run's configuration has changed: train.batch: expected 1, \
                    found 2; only train.epochs, evaluate.require and [output] may";
    assert_eq!(fail(&mut command(folder, &["resume", "run"]), 2), expected);
    fs::write(&path, config.replace("epochs = 300\n", "epochs = 500\n")).unwrap();
    succeed(folder, &["resume", "run", "--threads", "3"]);
    check_end(folder, "run");
}
