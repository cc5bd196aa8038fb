//! The program from outside: what it writes, what it refuses, and that a run can be stopped and repeated.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Few epochs of a small network: a run takes milliseconds.
const SMALL: &[&str] = &["--set", "train.epochs=60", "--set", "train.stage=20", "--set", "evaluate.rows=5"];

fn gan(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gan")).args(arguments).current_dir(folder).output().unwrap()
}

#[track_caller]
fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = gan(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The arguments are refused with exit code 2, one line on stderr and nothing on stdout.
#[track_caller]
fn refuse(folder: &Path, arguments: &[&str], message: &str) {
    let output = gan(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors, format!("error: {message}\n"), "{arguments:?}");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
}

#[track_caller]
fn train(folder: &Path, run: &str, more: &[&str]) {
    let arguments = [&["train", "--run", run, "--quiet"], SMALL, more].concat();
    succeed(folder, &arguments);
}

fn final_checkpoint(folder: &Path, run: &str) -> Vec<u8> {
    fs::read(folder.join(run).join("checkpoints/60.safetensors")).unwrap()
}

#[test]
fn samples_from_a_file_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "run", &["--set", "data.mean=100.0"]);
    let sample = |out: &str| succeed(folder, &["sample", "run", "--count", "30", "--out", out]);
    sample("made.npy");
    sample("made.csv");
    let text = succeed(folder, &["evaluate", "run", "--samples", "made.npy", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let made = fs::read_to_string(folder.join("made.csv")).unwrap();
    let numbers: Vec<f64> = made.split([',', '\n']).filter_map(|text| text.parse().ok()).collect();
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    assert_eq!((numbers.len(), found["count"].as_u64()), (3000, Some(3000)));
    assert!((found["generated_mean"].as_f64().unwrap() - mean).abs() < 1e-5, "{text}");
    assert!((found["real_mean"].as_f64().unwrap() - 100.0).abs() < 0.2, "{text}");
    train(folder, "other", &["--set", "data={ kind = \"ring\", std = 0.1 }", "--preset", "ring"]);
    let message = "made.npy: samples: expected rows of [2], one at least, found [30, 100]";
    refuse(folder, &["evaluate", "other", "--samples", "made.npy"], message);
}

#[test]
fn a_run_leaves_what_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "run", &["--set", "output.stage_plots=true", "--set", "output.stage_samples=true"]);
    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let records: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 3);
    for key in [
        "stage",
        "epoch",
        "seconds",
        "train_seconds",
        "d_loss",
        "d_accuracy",
        "g_loss",
        "real_mean",
        "real_std",
        "generated_mean",
        "generated_std",
        "ks",
        "wasserstein_1",
    ] {
        assert!(records.iter().all(|record| record[key].as_f64().is_some_and(f64::is_finite)), "{key}");
    }
    for file in [
        "plots/histogram.png",
        "plots/distribution.svg",
        "plots/generator.png",
        "plots/curves.svg",
        "plots/stage-0002.png",
        "samples/stage-0003.csv",
    ] {
        assert!(folder.join("run").join(file).is_file(), "{file}");
    }
    let rows = fs::read_to_string(folder.join("run/samples/stage-0001.csv")).unwrap();
    assert_eq!((rows.lines().count(), rows.lines().next().unwrap().split(',').count()), (5, 100));
    let evaluation: serde_json::Value =
        serde_json::from_str(&succeed(folder, &["evaluate", "run", "--json"])).unwrap();
    assert_eq!(evaluation["count"], 500);
    assert!(evaluation["ks_floor"].as_f64().is_some_and(|floor| floor > 0.0));
    assert!(succeed(folder, &["inspect", "run"]).contains("epoch 60 of 60"));
    assert!(succeed(folder, &["inspect", "run", "--json"]).contains("\"checkpoints\":[60,40,20]"));
    let listing = succeed(folder, &["inspect", "run/checkpoints/60.safetensors"]);
    assert!(listing.contains("generator.1.kernel"), "{listing}");
    succeed(folder, &["plot", "run", "--out", "picture.svg"]);
    assert!(fs::read_to_string(folder.join("picture.svg")).unwrap().starts_with("<svg"));
}

#[test]
fn what_an_evaluation_requires_decides_how_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "met", &["--set", "evaluate.require={ ks = 1.0, std = 50.0 }"]);
    assert!(!succeed(folder, &["evaluate", "met"]).contains("fell short"));
    train(folder, "missed", &["--set", "evaluate.require={ ks = 0.001, wasserstein_1 = 1e9 }"]);
    let output = gan(folder, &["evaluate", "missed"]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    let shortfall = text.split("fell short").nth(1).unwrap();
    assert!(shortfall.contains("ks") && shortfall.contains("<= 0.001"), "{text}");
    assert!(!shortfall.contains("wasserstein_1"), "{text}");
    let output = gan(folder, &["evaluate", "missed", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["missed"], serde_json::json!(["ks"]));
    let refused = gan(folder, &["train", "--quiet", "--set", "evaluate.require={ kss = 1.0 }"]);
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.starts_with("error: evaluate.require: expected names of measures: mean, std,"), "{text}");
}

#[test]
fn a_table_is_learned_and_sampled_with_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows: String =
        (0..200).map(|i| format!("{},{},n{i}\n", 150 + i % 40, 0.1 * f64::from(i % 7))).collect();
    fs::write(folder.join("data.csv"), "height,score,name\n".to_owned() + &rows).unwrap();
    let config = r#"
        data = { kind = "csv", path = "data.csv", columns = ["score", "height"] }
        latent = { distribution = "normal", mean = 0.0, std = 1.0, dim = 2 }
        generator = { input = [2], layers = [{ layer = "dense", units = 2 }] }
        discriminator = { input = [2], layers = [{ layer = "dense", units = 1 }] }
        train = { epochs = 20, stage = 10 }
        evaluate = { rows = 50 }
        output = { stage_samples = true }
    "#;
    fs::write(folder.join("table.toml"), config).unwrap();
    succeed(folder, &["train", "--quiet", "--config", "table.toml", "--run", "run"]);
    let evaluation = succeed(folder, &["evaluate", "run"]);
    assert!(
        evaluation.contains("column_ks") && evaluation.contains("correlation_difference"),
        "{evaluation}"
    );
    assert!(
        fs::read_to_string(folder.join("run/samples/stage-0001.csv")).unwrap().starts_with("score,height\n")
    );
    // Samples need the weights alone: the table may be gone.
    fs::remove_file(folder.join("data.csv")).unwrap();
    succeed(folder, &["sample", "run", "--count", "30", "--out", "samples.csv"]);
    let samples = fs::read_to_string(folder.join("samples.csv")).unwrap();
    let mut lines = samples.lines();
    assert_eq!(lines.next(), Some("score,height"));
    let heights: Vec<f64> = lines.map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(heights.len(), 30);
    // In the table's units: 150 to 189, mean 169.5, standard deviation 11.5.
    assert!(heights.iter().all(|height| (100.0..240.0).contains(height)), "{samples}");
    succeed(folder, &["sample", "run", "--count", "30", "--out", "samples.png"]);
    assert!(fs::read(folder.join("samples.png")).unwrap().starts_with(b"\x89PNG"));
    for picture in ["points", "distribution", "curves"] {
        assert!(folder.join(format!("run/plots/{picture}.svg")).is_file(), "{picture}");
    }
    let output = gan(folder, &["evaluate", "run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: data.csv: cannot read"));
    // Another table in its place is noticed.
    fs::write(folder.join("data.csv"), "height,score\n1,2\n3,4\n").unwrap();
    let output = gan(folder, &["evaluate", "run"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("the file has changed"));
}

#[test]
fn the_same_configuration_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "one", &["--threads", "1", "--seed", "5"]);
    train(folder, "two", &["--threads", "2", "--seed", "5"]);
    train(folder, "other", &["--seed", "6"]);
    succeed(folder, &["train", "--quiet", "--config", "one/config.toml", "--run", "again"]);
    assert_eq!(final_checkpoint(folder, "one"), final_checkpoint(folder, "two"));
    assert_eq!(final_checkpoint(folder, "one"), final_checkpoint(folder, "again"));
    assert_ne!(final_checkpoint(folder, "one"), final_checkpoint(folder, "other"));
}

#[test]
fn a_run_cut_short_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "whole", &[]);
    train(folder, "cut", &[]);
    // As if the power had failed after the second stage's figures, before its checkpoint, in the middle of a line.
    fs::remove_file(folder.join("cut/checkpoints/60.safetensors")).unwrap();
    fs::remove_file(folder.join("cut/checkpoints/40.safetensors")).unwrap();
    let metrics = fs::read_to_string(folder.join("cut/metrics.jsonl")).unwrap();
    let end = metrics.lines().take(2).map(|line| line.len() + 1).sum::<usize>();
    fs::write(folder.join("cut/metrics.jsonl"), &metrics[..end + 30]).unwrap();
    succeed(folder, &["resume", "cut", "--quiet"]);
    assert_eq!(final_checkpoint(folder, "whole"), final_checkpoint(folder, "cut"));
    let figures = |run: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        let record = |line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["seconds"].take();
            record["train_seconds"].take();
            record
        };
        text.lines().map(record).collect()
    };
    assert_eq!(figures("whole"), figures("cut"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_is_saved() {
    use std::time::{Duration, Instant};
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gan"))
        .args([
            "train",
            "--quiet",
            "--run",
            "run",
            "--set",
            "train.epochs=100000000",
            "--set",
            "train.stage=20",
        ])
        .current_dir(folder)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !folder.join("run/checkpoints/20.safetensors").exists() && begun.elapsed() < Duration::from_secs(30)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    // Where a shell ignores interrupts, its children do too.
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > Duration::from_secs(60) => child.kill().unwrap(),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert_eq!(status.code(), Some(130), "are interrupts ignored here?");
    let inspected = succeed(folder, &["inspect", "run"]);
    assert!(inspected.starts_with("epoch ") && inspected.contains(" of 100000000\n"), "{inspected}");
}

/// A .npy file, version 1, of 64-bit floating point numbers.
fn npy(shape: &str, values: &[f64]) -> Vec<u8> {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    values.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
    bytes
}

#[test]
fn samples_come_from_seeds_and_latents() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "run", &[]);
    let draw = |out: &str, more: &[&str]| {
        succeed(folder, &[&["sample", "run", "--out", out], more].concat());
        fs::read(folder.join(out)).unwrap()
    };
    let first = draw("a.csv", &["--count", "7", "--seed", "1"]);
    assert_eq!(first, draw("b.csv", &["--count", "7", "--seed", "1"]));
    assert_ne!(first, draw("c.csv", &["--count", "7", "--seed", "2"]));
    assert!(draw("d.npy", &["--count", "3"]).starts_with(b"\x93NUMPY"));
    assert!(draw("e.png", &["--count", "3"]).starts_with(b"\x89PNG"));

    // G is pointwise: the same latent number gives the same output number.
    fs::write(folder.join("z.npy"), npy("(2, 100)", &[0.5; 200])).unwrap();
    let text = String::from_utf8(draw("f.csv", &["--latent", "z.npy"])).unwrap();
    let values: Vec<&str> = text.split([',', '\n']).filter(|x| !x.is_empty()).collect();
    assert_eq!((text.lines().count(), values.len()), (2, 200));
    assert!(values.iter().all(|x| *x == values[0]));

    let latent = ["sample", "run", "--out", "g.csv", "--latent", "z.npy"];
    fs::write(folder.join("z.npy"), npy("(2, 7)", &[0.5; 14])).unwrap();
    refuse(folder, &latent, "z.npy: latent: expected latents of 100 numbers each, found [2, 7]");
    fs::write(folder.join("z.npy"), npy("(1, 100)", &[f64::NAN; 100])).unwrap();
    refuse(folder, &latent, "z.npy: number 0: expected a finite number, found NaN");
    fs::write(folder.join("z.npy"), "no array").unwrap();
    assert_eq!(gan(folder, &latent).status.code(), Some(2));
    assert!(!folder.join("g.csv").exists());
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |setting: &str, message: &str| {
        refuse(folder, &["train", "--set", setting], &format!("preset notebook: {message}"));
    };
    train("data.std=0", "data: expected a finite mean and a std > 0, found mean 4, std 0");
    train("data.mean=nan", "data: expected a finite mean and a std > 0, found mean NaN, std 1.25");
    train("train.batch=0", "train.batch: expected at least 1, found 0");
    train("latent.dim=99", "latent.dim: expected 100, the elements of generator.input, found 99");
    train("train", "--set train: expected key.path=value, found no `=`");
    train(
        "train.batch=ten",
        "--set train.batch=ten: invalid type: string \"ten\", expected usize in `train.batch`",
    );
    refuse(
        folder,
        &["train", "--set", "generator.layers.1.filters=0"],
        "generator: layer 1 (conv1d): filters: expected at least 1, found 0",
    );
    let presets = succeed(folder, &["presets"]);
    let names: Vec<&str> = presets.lines().filter_map(|line| line.split(' ').next()).collect();
    let message = format!("preset x: expected one of {}, found no such preset", names.join(", "));
    refuse(folder, &["train", "--preset", "x"], &message);
    refuse(folder, &["train", "--nonsense"], "unexpected argument '--nonsense' found; see `gan --help`");
    refuse(folder, &[], "expected a command, found none; `gan --help` lists them");
    fs::write(folder.join("bad.toml"), "[data]\nkind = \"normal\"\nmean = 4.0\nstdd = 1\n").unwrap();
    let output = gan(folder, &["train", "--config", "bad.toml"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("error: bad.toml: line ") && errors.contains("`stdd`"), "{errors}");
    assert_eq!((errors.lines().count(), output.status.code()), (1, Some(2)));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing but bad.toml");
}

#[test]
fn what_is_there_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "run", &[]);
    let before = final_checkpoint(folder, "run");
    let output = gan(folder, &["train", "--run", "run"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(before, final_checkpoint(folder, "run"));

    // A broken checkpoint is named, and left as it is.
    fs::write(folder.join("run/checkpoints/61.safetensors"), &before[..500]).unwrap();
    for command in
        [&["resume", "run"][..], &["evaluate", "run"], &["sample", "run", "--count", "1", "--out", "a.csv"]]
    {
        let output = gan(folder, command);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(2), 1), "{errors}");
        assert!(errors.contains("61.safetensors"), "{errors}");
    }
    fs::remove_dir_all(folder.join("run/checkpoints")).unwrap();
    assert_eq!(gan(folder, &["evaluate", "run"]).status.code(), Some(2));
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_at_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sgd = "optimizer.discriminator={kind=\"sgd\", learning_rate=1e30}";
    let output = gan(folder, &[&["train", "--run", "run", "--set", sgd], SMALL].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with("error: epoch ") && last.contains(" step "), "{errors}");
    assert_eq!(output.status.code(), Some(1));
}

/// Few epochs on the digits.
const DIGITS: &[&str] = &[
    "train",
    "--quiet",
    "--preset",
    "digits",
    // So short a run meets no bound.
    "--set",
    "evaluate.require={}",
    "--set",
    "train.epochs=30",
    "--set",
    "train.stage=10",
    "--set",
    "evaluate.rows=20",
];

/// The width and the height of a PNG file, and how many pictures an animated one has.
fn png_size(path: &Path) -> ([u32; 2], Option<u32>) {
    let bytes = fs::read(path).unwrap();
    assert!(bytes.starts_with(b"\x89PNG"), "{}", path.display());
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let animated = bytes.windows(4).position(|window| window == b"acTL");
    ([number(16), number(20)], animated.map(|at| number(at + 4)))
}

#[test]
fn images_are_learned_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, &[DIGITS, &["--run", "run"]].concat());
    // 8 by 8 digits of 48 pixels, and 2 between them.
    assert_eq!(png_size(&folder.join("run/samples/stage-0001.png")), ([402, 402], None));
    assert_eq!(png_size(&folder.join("run/plots/run.apng")), ([402, 402], Some(3)));
    for name in ["images.png", "curves.svg"] {
        assert!(folder.join("run/plots").join(name).is_file(), "{name}");
    }
    let evaluation = succeed(folder, &["evaluate", "run"]);
    assert!(evaluation.contains("nearest_distance") && evaluation.contains("coverage"), "{evaluation}");

    let sample = |out: &str, more: &[&str]| {
        succeed(folder, &[&["sample", "run", "--out", out], more].concat());
        folder.join(out)
    };
    assert_eq!(png_size(&sample("a.png", &["--count", "12"])), ([152, 202], None));
    assert_eq!(png_size(&sample("b.png", &["--count", "2", "--interpolate", "5"])), ([252, 102], None));
    let text = fs::read_to_string(sample("c.csv", &["--count", "3", "--truncation", "0.5"])).unwrap();
    let numbers: Vec<f64> = text.split([',', '\n']).filter_map(|x| x.parse().ok()).collect();
    assert_eq!((text.lines().count(), numbers.len()), (3, 192));
    assert!(numbers.iter().all(|x| (0.0..=16.0).contains(x)));
    let array = fs::read(sample("d.npy", &["--count", "3"])).unwrap();
    assert!(String::from_utf8_lossy(&array[..100]).contains("(3, 8, 8, 1, )"));
    // The ends of the way are what the two latents make.
    let ends = fs::read_to_string(sample("e.csv", &["--count", "2"])).unwrap();
    let way = fs::read_to_string(sample("f.csv", &["--count", "1", "--interpolate", "7"])).unwrap();
    let (ends, way): (Vec<&str>, Vec<&str>) = (ends.lines().collect(), way.lines().collect());
    assert_eq!((way.len(), way[0].split(',').next()), (7, ends[0].split(',').next()));

    refuse(
        folder,
        &["plot", "run", "--out", "a.svg"],
        "--out a.svg: expected a name that ends in .png, for images",
    );
    let refused = |more: &[&str], message: &str| {
        refuse(folder, &[&["sample", "run", "--count", "1", "--out", "x.png"], more].concat(), message);
    };
    refused(&["--truncation", "0"], "--truncation: expected a number > 0, found 0");
    refused(&["--truncation", "-1"], "--truncation: expected a number > 0, found -1");
    refused(&["--interpolate", "1"], "--interpolate: expected at least 2, found 1");
    refused(&["--label", "7"], "--label: expected none: this generator takes no labels, found 7");
}

#[test]
fn what_is_asked_for_by_class_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // G makes an image of each class, whatever the latent.
    let layers = r#"generator.layers=[{ layer = "label_embedding", classes = 10, units = 4 },
        { layer = "dense", units = 64, activation = "tanh" }, { layer = "reshape", target_shape = [8, 8, 1] }]"#;
    let layers = layers.replace('\n', " ");
    succeed(folder, &[DIGITS, &["--set", &layers, "--set", "latent.std=1e-9", "--run", "run"]].concat());
    let sample = |more: &[&str]| -> Vec<Vec<f64>> {
        succeed(folder, &[&["sample", "run", "--out", "a.csv"], more].concat());
        let text = fs::read_to_string(folder.join("a.csv")).unwrap();
        text.lines().map(|line| line.split(',').map(|x| x.parse().unwrap()).collect()).collect()
    };
    let like = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
    let each = sample(&["--count", "20"]);
    assert!(
        (0..10).all(|class| like(&each[class], &each[class + 10]) && !like(&each[class], &each[class + 1]))
    );
    assert!(sample(&["--count", "5", "--label", "7"]).iter().all(|row| like(row, &each[7])));
    let ways = sample(&["--count", "12", "--interpolate", "3"]);
    assert!(ways.len() == 36 && ways.iter().enumerate().all(|(place, row)| like(row, &each[place / 3 % 10])));
    let ways = sample(&["--count", "2", "--interpolate", "3", "--label", "2", "--truncation", "1"]);
    assert!(ways.len() == 6 && ways.iter().all(|row| like(row, &each[2])));
    let arguments = ["sample", "run", "--count", "1", "--label", "x", "--out", "x.png"];
    refuse(folder, &arguments, "--label: expected 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, found x");
}

#[test]
fn the_classifier_is_trained_once_and_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let said = |arguments: &[&str]| {
        let output = gan(folder, arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        errors.matches("training the classifier by which images are compared, once for this run\n").count()
    };
    let loud: Vec<&str> = DIGITS.iter().copied().filter(|word| *word != "--quiet").collect();
    assert_eq!(said(&[&loud[..], &["--run", "run"]].concat()), 1);
    fs::remove_file(folder.join("run/checkpoints/30.safetensors")).unwrap();
    assert_eq!(said(&["resume", "run"]), 0);
    assert_eq!(said(&["evaluate", "run"]), 0);
    assert_eq!(said(&["plot", "run"]), 0);
    let weights = folder.join("run/classifier.safetensors");
    let before = fs::read(&weights).unwrap();
    fs::remove_file(&weights).unwrap();
    assert_eq!(said(&["evaluate", "run"]), 1);
    assert!(fs::read(&weights).unwrap() == before);
    assert_eq!(said(&[DIGITS, &["--run", "quiet"]].concat()), 0);
}

#[test]
fn a_run_on_images_goes_on_bit_for_bit_with_its_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let augmented = ["--set", "augment={ flip = true, shift = 0.125, cutout = 0.25 }"];
    succeed(folder, &[DIGITS, &augmented, &["--run", "whole"]].concat());
    succeed(folder, &[DIGITS, &augmented, &["--run", "cut"]].concat());
    for epoch in [20, 30] {
        fs::remove_file(folder.join(format!("cut/checkpoints/{epoch}.safetensors"))).unwrap();
    }
    succeed(folder, &["resume", "cut", "--quiet"]);
    for name in ["checkpoints/30.safetensors", "samples/stage-0003.png", "plots/images.png", "plots/run.apng"]
    {
        let [whole, cut] = ["whole", "cut"].map(|run| fs::read(folder.join(run).join(name)).unwrap());
        assert!(whole == cut, "{name}");
    }
}

#[test]
fn a_folder_of_pictures_is_learned_and_what_is_odd_is_mentioned() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("pictures")).unwrap();
    for grey in 0..20_u8 {
        let picture = [b"P5 8 8 255\n", &[10 * grey; 64][..]].concat();
        let name = if grey == 7 { "odd.pnm".to_owned() } else { format!("{grey}.pgm") };
        fs::write(folder.join("pictures").join(name), picture).unwrap();
    }
    let data = "data={ kind = \"folder\", path = \"pictures\", size = [8, 8] }";
    let output = gan(folder, &[DIGITS, &["--set", data, "--dry-run"]].concat());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("data: 20 images [8, 8, 1]\n"));
    let note = "data: of 20 pictures all are .pgm but odd.pnm; move away what does not belong\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), note);
    succeed(folder, &[DIGITS, &["--set", data, "--run", "run"]].concat());

    fs::write(folder.join("pictures/3.pgm"), "P5 8 8 255\nno").unwrap();
    refuse(
        folder,
        &["evaluate", "run"],
        "run/checkpoints/30.safetensors: checkpoint: weights: metadata `gan`: expected the images that the data has now, found others: the files have changed",
    );
    // Behind a sound header, this shows when a batch needs the picture. What there is before stays.
    let broken = "pictures/3.pgm: expected a whole picture, found a file that ends before it does";
    refuse(folder, &[DIGITS, &["--set", data, "--run", "broken"]].concat(), broken);
    let checkpoint = fs::read(folder.join("broken/checkpoints/0.safetensors")).unwrap();
    refuse(folder, &["resume", "broken", "--quiet"], broken);
    assert!(fs::read(folder.join("broken/checkpoints/0.safetensors")).unwrap() == checkpoint);
    assert!(succeed(folder, &["inspect", "broken"]).starts_with("epoch 0 of 30\n"));
    refuse(folder, &["evaluate", "broken"], broken);
    // Samples need no pictures.
    fs::remove_dir_all(folder.join("pictures")).unwrap();
    succeed(folder, &["sample", "run", "--count", "4", "--out", "a.png"]);
    assert!(!folder.join("runs").exists());
}
