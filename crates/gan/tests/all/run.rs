//! The folder of a run: what it keeps, what it takes back, and what it refuses.

use std::fs;
use std::path::Path;

use gan::{Config, Error, RunDirectory, StageRecord, write_atomically};
use tempfile::TempDir;

fn config() -> Config {
    Config::parse(gan::preset("notebook").unwrap(), &[]).unwrap()
}

/// A new run in a temporary folder, which goes when it is dropped.
fn new_run() -> (TempDir, RunDirectory) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDirectory::create(&folder.path().join("run"), &config(), b"first").unwrap();
    (folder, run)
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn record(stage: u64) -> StageRecord {
    StageRecord {
        stage,
        epoch: 200 * stage,
        seconds: 0.1 * stage as f64,
        train_seconds: 0.05,
        d_loss: 1.0 / 3.0,
        d_accuracy: 0.5,
        g_loss: 1e-300,
        measures: [
            ("real_mean", 4.0),
            ("generated_mean", -0.0),
            ("generated_std", f64::MAX),
            ("ks", f64::MIN_POSITIVE),
            ("wasserstein_1", 0.1 + 0.2),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into_iter()
        .collect(),
    }
}

#[test]
fn a_new_run_can_be_opened_and_has_its_configuration() {
    let (_folder, run) = new_run();
    assert_eq!(names(run.path()), [".lock", "checkpoints", "config.toml"]);
    assert_eq!(fs::read(run.checkpoint(0)).unwrap(), b"first");
    let (opened, found) = RunDirectory::open(run.path()).unwrap();
    assert_eq!((opened.path(), found), (run.path(), config()));
    assert_eq!(opened.records().unwrap(), []);
    assert_eq!(opened.checkpoint_epochs().unwrap(), [0]);
}

#[test]
fn what_is_there_already_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (file, full, empty) =
        (folder.path().join("file"), folder.path().join("full"), folder.path().join("empty"));
    fs::write(&file, "mine").unwrap();
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&full).unwrap();
    fs::write(full.join("config.toml"), "mine").unwrap();
    for path in [&file, &full, &empty] {
        let error = RunDirectory::create(path, &config(), b"first").unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        let message = error.to_string();
        let start = format!("{}: expected a folder that does not exist yet, found one; ", path.display());
        assert!(message.starts_with(&start) && !message.contains('\n'), "{message}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(fs::read_to_string(full.join("config.toml")).unwrap(), "mine");
    assert_eq!((names(&full), names(&empty)), (vec!["config.toml".to_owned()], vec![]));
}

#[cfg(unix)]
#[test]
fn a_link_to_nowhere_is_there_already() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
    assert!(RunDirectory::create(&link, &config(), b"first").is_err());
    assert_eq!(names(folder.path()), ["link"]);
}

#[test]
fn folders_above_a_run_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/run");
    RunDirectory::create(&path, &config(), b"first").unwrap();
    assert!(RunDirectory::open(&path).is_ok());
}

#[test]
fn a_folder_that_is_no_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = RunDirectory::open(folder.path()).unwrap_err().to_string();
    let start = format!("{}: expected the folder of a run, found no config.toml", folder.path().display());
    assert!(message.starts_with(&start), "{message}");

    let file = folder.path().join("config.toml");
    fs::write(&file, "[train]\nbatches = 3\n").unwrap();
    let message = RunDirectory::open(folder.path()).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("{}: line 2: unknown field `batches`", file.display())),
        "{message}"
    );
}

#[test]
fn records_are_read_as_they_were_written() {
    let (_folder, run) = new_run();
    let written: Vec<_> = (1..=3).map(record).collect();
    written.iter().for_each(|record| run.append_record(record).unwrap());
    assert_eq!(run.records().unwrap(), written);
    let text = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
    assert!(text.starts_with("{\"stage\":1,\"epoch\":200,\"seconds\":0.1,"), "{text}");
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn records_after_an_epoch_are_taken_back() {
    let (_folder, run) = new_run();
    (1..=4).for_each(|stage| run.append_record(&record(stage)).unwrap());
    assert_eq!(run.rewind_records(599).unwrap(), [record(1), record(2)]);
    assert_eq!(run.records().unwrap(), [record(1), record(2)]);
    run.append_record(&record(3)).unwrap();
    assert_eq!(run.records().unwrap(), [record(1), record(2), record(3)]);
    assert_eq!(run.rewind_records(600).unwrap().len(), 3);
    assert_eq!(run.rewind_records(0).unwrap(), []);
    assert_eq!(names(run.path()), [".lock", "checkpoints", "config.toml", "metrics.jsonl"]);
}

/// Cuts the last of three lines to `length` bytes.
fn with_cut_line(run: &RunDirectory, length: usize) {
    let path = run.path().join("metrics.jsonl");
    let _ = fs::remove_file(&path);
    (1..=3).for_each(|stage| run.append_record(&record(stage)).unwrap());
    let text = fs::read_to_string(&path).unwrap();
    let last = text[..text.len() - 1].rfind('\n').unwrap() + 1;
    fs::write(&path, &text[..last + length]).unwrap();
}

#[test]
fn a_last_line_that_was_cut_off_is_ignored() {
    let (_folder, run) = new_run();
    for length in [0, 1, 50] {
        with_cut_line(&run, length);
        assert_eq!(run.records().unwrap(), [record(1), record(2)], "cut to {length}");
        // After a rewind the next line stands on its own.
        run.rewind_records(400).unwrap();
        run.append_record(&record(3)).unwrap();
        assert_eq!(run.records().unwrap().len(), 3);
    }
}

#[test]
fn another_broken_line_is_an_error_with_its_number() {
    let (_folder, run) = new_run();
    run.append_record(&record(1)).unwrap();
    let path = run.path().join("metrics.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{{\"stage\":2}}\n{text}")).unwrap();
    let message = run.records().unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}: line 2: missing field `epoch`", path.display())), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn the_newest_checkpoints_are_kept_and_nothing_else() {
    let (_folder, run) = new_run();
    for epoch in [200, 1_000, 400, 1_200] {
        run.save_checkpoint(epoch, epoch.to_string().as_bytes(), 3).unwrap();
    }
    assert_eq!(run.checkpoint_epochs().unwrap(), [1_200, 1_000, 400]);
    let folder = run.path().join("checkpoints");
    assert_eq!(names(&folder), ["1000.safetensors", "1200.safetensors", "400.safetensors"]);
    let (path, bytes) = run.newest_checkpoint(u64::MAX).unwrap();
    assert_eq!((path, bytes), (run.checkpoint(1_200), b"1200".to_vec()));

    run.save_checkpoint(1_200, b"again", 1).unwrap();
    assert_eq!(names(&folder), ["1200.safetensors"]);
    assert_eq!(run.newest_checkpoint(u64::MAX).unwrap().1, b"again");
    run.save_checkpoint(1_400, b"last", 0).unwrap();
    assert_eq!(run.checkpoint_epochs().unwrap(), [1_400]);
}

#[test]
fn other_files_among_the_checkpoints_are_left_alone() {
    let (_folder, run) = new_run();
    let folder = run.path().join("checkpoints");
    let others = [".7.safetensors.tmp", "7.txt", "best.safetensors"];
    others.iter().for_each(|name| fs::write(folder.join(name), "mine").unwrap());
    run.save_checkpoint(1, b"1", 1).unwrap();
    run.save_checkpoint(2, b"2", 1).unwrap();
    assert_eq!(run.checkpoint_epochs().unwrap(), [2]);
    assert_eq!(names(&folder), [".7.safetensors.tmp", "2.safetensors", "7.txt", "best.safetensors"]);
}

#[test]
fn a_run_without_checkpoints_says_so() {
    let (_folder, run) = new_run();
    fs::remove_file(run.checkpoint(0)).unwrap();
    let message = run.newest_checkpoint(u64::MAX).unwrap_err().to_string();
    let folder = run.path().join("checkpoints");
    assert_eq!(message, format!("{}: expected a checkpoint, found none", folder.display()));
}

#[test]
fn files_are_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write_atomically(&path, b"a longer text").unwrap();
    write_atomically(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn a_missing_folder_is_an_error_that_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("file");
    let error = write_atomically(&path, b"text").unwrap_err();
    assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error:?}");
    assert!(
        error.to_string().starts_with(&format!("{}: cannot write the file: ", path.display())),
        "{error}"
    );
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("folder");
    fs::create_dir(&path).unwrap();
    assert!(write_atomically(&path, b"text").is_err());
    assert_eq!(names(folder.path()), ["folder"]);
    assert!(path.is_dir());
}

#[test]
fn files_in_folders_get_their_folder() {
    let (_folder, run) = new_run();
    let path = run.file_in("plots", "a.png").unwrap();
    assert_eq!(path, run.path().join("plots").join("a.png"));
    assert!(run.path().join("plots").is_dir() && !path.exists());
}

#[test]
fn a_run_belongs_to_one_process() {
    let (_folder, run) = new_run();
    let (mut other, _) = RunDirectory::open(run.path()).unwrap();
    let refused = |error: Error| {
        let expected = "expected a run that no process is training, found one that trains it";
        assert!(matches!(error, Error::File { .. }));
        assert_eq!(error.to_string(), format!("{}: {expected}", run.path().display()));
    };
    refused(other.claim().unwrap_err());
    // Its files can be read all the same.
    assert_eq!(other.newest_checkpoint(u64::MAX).unwrap().1, b"first");
    let path = run.path().to_owned();
    drop(run);
    other.claim().unwrap();
    let (mut third, _) = RunDirectory::open(&path).unwrap();
    assert!(third.claim().is_err());
    drop(other);
    third.claim().unwrap();
}

#[test]
fn what_a_killed_process_left_half_written_goes_at_the_next_start() {
    let (_folder, run) = new_run();
    let path = run.path().to_owned();
    drop(run);
    fs::create_dir(path.join("plots")).unwrap();
    let strays = [".config.toml.17.tmp", "checkpoints/.0.safetensors.17.tmp", "plots/.a.png.3.tmp"];
    let others = ["notes.tmp", ".hidden", "plots/a.png"];
    strays.iter().chain(&others).for_each(|name| fs::write(path.join(name), "half").unwrap());
    let (mut run, _) = RunDirectory::open(&path).unwrap();
    assert!(strays.iter().all(|name| path.join(name).exists()));
    run.claim().unwrap();
    assert!(strays.iter().all(|name| !path.join(name).exists()));
    assert!(others.iter().all(|name| path.join(name).exists()));
    assert_eq!(run.newest_checkpoint(u64::MAX).unwrap().1, b"first");
}

/// A process that was killed while it made a run's folder is in the way of none that comes after.
#[test]
fn a_folder_that_was_begun_is_finished_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join(".run.tmp/checkpoints");
    fs::create_dir_all(&begun).unwrap();
    fs::write(begun.join("0.safetensors"), "old").unwrap();
    fs::write(begun.join(".0.safetensors.17.tmp"), "half").unwrap();
    let run = RunDirectory::create(&folder.path().join("run"), &config(), b"first").unwrap();
    assert_eq!(names(folder.path()), ["run"]);
    assert_eq!(names(&run.path().join("checkpoints")), ["0.safetensors"]);
    assert_eq!(fs::read(run.checkpoint(0)).unwrap(), b"first");
}

#[cfg(unix)]
#[test]
fn links_that_might_lead_out_of_the_folder_are_refused() {
    for name in ["metrics.jsonl", "plots", "checkpoints/7.safetensors", "checkpoints/.0.safetensors.1.tmp"] {
        let (folder, run) = new_run();
        let path = run.path().to_owned();
        drop(run);
        let outside = folder.path().join("outside");
        fs::write(&outside, "mine").unwrap();
        std::os::unix::fs::symlink(&outside, path.join(name)).unwrap();
        let (mut run, _) = RunDirectory::open(&path).unwrap();
        let message = run.claim().unwrap_err().to_string();
        let file = path.join(name);
        assert_eq!(message, format!("{}: expected a file or folder, found a link", file.display()));
        assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
        // Nor is one taken for a checkpoint.
        assert_eq!(run.checkpoint_epochs().unwrap(), [0]);
    }
}
