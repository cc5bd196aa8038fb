//! Whole runs: repeated, on other threads, cut short and continued.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gan::{Config, Error, RunDirectory, Session, StageRecord, preset};
use nn::weights::Reader;
use tensor_ops::{Scalar, Tensor, with_threads};

fn config(overrides: &[&str]) -> Config {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    Config::parse(preset("notebook").unwrap(), &overrides).unwrap()
}

fn session<T: Scalar>(overrides: &[&str]) -> Session<T> {
    let small = ["train.epochs=7", "train.stage=3", "train.generator_steps=2", "evaluate.rows=4"];
    Session::new(config(&[&small, overrides].concat())).unwrap()
}

/// Runs to the end: the figures of each stage, and the last checkpoint.
fn finish<T: Scalar>(session: &mut Session<T>) -> (Vec<StageRecord>, Vec<u8>) {
    let mut records = Vec::new();
    while !session.is_done() {
        session.run_epoch().unwrap();
        if session.stage_is_due() {
            records.push(StageRecord::new(&session.finish_stage().unwrap(), 0.0, 0.0));
        }
    }
    (records, session.to_checkpoint().unwrap())
}

#[test]
fn the_same_seed_gives_the_same_bits_at_any_thread_count() {
    fn check<T: Scalar>(overrides: &[&str]) {
        let run = |threads| with_threads(threads, || finish(&mut session::<T>(overrides))).unwrap();
        let one = run(1);
        assert!([2, 4].into_iter().all(|threads| run(threads) == one), "{overrides:?}");
    }
    check::<f32>(&[]);
    check::<f64>(&[]);
    // Large enough to be shared among threads, with tails.
    check::<f32>(&["train.batch=77", "train.epochs=3"]);
    check::<f64>(&["train.batch=33", "train.epochs=2"]);
    assert_ne!(finish(&mut session::<f32>(&[])), finish(&mut session::<f32>(&["train.seed=1"])));
}

#[test]
fn a_run_continued_from_any_epoch_ends_the_same() {
    fn check<T: Scalar>() {
        let (records, whole) = finish(&mut session::<T>(&[]));
        assert_eq!(records.iter().map(|record| record.epoch).collect::<Vec<_>>(), [3, 6, 7]);
        for cut in 0..=7 {
            let mut first = session::<T>(&[]);
            while first.epoch() < cut {
                first.run_epoch().unwrap();
                if first.stage_is_due() {
                    first.finish_stage().unwrap();
                }
            }
            let mut second = session::<T>(&[]);
            second.restore(&first.to_checkpoint().unwrap()).unwrap();
            let (rest, end) = finish(&mut second);
            assert!(records.ends_with(&rest), "cut after epoch {cut}");
            assert_eq!(whole, end, "cut after epoch {cut}");
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_whole() {
    let mut session = session::<f32>(&[]);
    session.run_epoch().unwrap();
    let before = session.to_checkpoint().unwrap();
    let mut refuse = |bytes: &[u8], message: &str| {
        let error = session.restore(bytes).unwrap_err().to_string();
        assert!(error.starts_with(&format!("checkpoint: weights: {message}")), "{error}");
        assert_eq!(before, session.to_checkpoint().unwrap());
    };
    refuse(&before[..before.len() - 1], "file: expected a whole safetensors file, found ");
    refuse(&before[..4], "file: expected a whole safetensors file, found ");
    refuse(&[], "file: expected a whole safetensors file, found ");
    let other = self::session::<f32>(&["discriminator.layers.1.units=7"]).to_checkpoint().unwrap();
    refuse(&other, "discriminator.0.kernel: expected shape [200, 50], found [200, 7]");
    let other = self::session::<f64>(&[]).to_checkpoint().unwrap();
    refuse(&other, "generator.0.kernel: expected F32, found F64");
    let other = finish(&mut self::session::<f32>(&["train.epochs=8"])).1;
    refuse(&other, "metadata `gan`: expected at most 7 epochs, found 8");
    let weights = session.trainer().generator().to_safetensors().unwrap();
    assert!(session.restore(&weights).unwrap_err().to_string().contains("metadata `gan`"));
}

#[test]
fn a_checkpoint_names_its_tensors_as_promised() {
    let checkpoint = session::<f32>(&[]).to_checkpoint().unwrap();
    let names: Vec<String> =
        Reader::new(&checkpoint).unwrap().tensors().into_iter().map(|(name, ..)| name).collect();
    let mut expected = Vec::new();
    for network in ["generator", "discriminator"] {
        for parameter in ["0.kernel", "0.bias", "1.kernel", "1.bias", "2.kernel", "2.bias"] {
            expected.push(format!("{network}.{parameter}"));
            for moment in ["first_moment", "second_moment"] {
                expected.push(format!("optimizer.{network}.{parameter}.{moment}"));
            }
        }
    }
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn samples_follow_their_seed() {
    let session = session::<f32>(&[]);
    assert_eq!(session.sample(5, 1).unwrap(), session.sample(5, 1).unwrap());
    assert_ne!(session.sample(5, 1).unwrap(), session.sample(5, 2).unwrap());
    // A large sample is made in parts that do not show.
    let (few, many) = (session.sample(9, 3).unwrap(), session.sample(2_500, 3).unwrap());
    assert_eq!(few.data(), &many.data()[..900]);
    let error = session.generate(&Tensor::zeros([2, 99])).unwrap_err().to_string();
    assert_eq!(error, "latent: expected latents of 100 numbers each, found [2, 99]");
}

#[test]
fn a_run_that_diverges_says_where() {
    let mut session =
        session::<f32>(&["optimizer.discriminator={kind=\"sgd\", learning_rate=1e30}", "train.epochs=50"]);
    let error = loop {
        if let Err(error) = session.run_epoch() {
            break error;
        }
    };
    let Error::NotFinite { epoch, step, .. } = &error else { panic!("{error}") };
    assert_eq!(*epoch, session.epoch() + 1);
    assert!(step.contains(" step "), "{error}");
}

#[test]
fn configurations_survive_a_round_trip() {
    let config = config(&["train.seed=3", "latent={distribution=\"normal\", mean=0, std=1, dim=100}"]);
    let text = config.to_toml().unwrap();
    assert_eq!(Config::parse(&text, &[]).unwrap(), config);
    for section in
        ["[data]", "[latent]", "[objective]", "[optimizer.generator]", "[train]", "[evaluate]", "[output]"]
    {
        assert!(text.contains(section), "{section} in {text}");
    }
}

#[test]
fn configurations_are_refused_with_their_place() {
    let refuse = |from: &str, to: &str, message: &str| {
        let text = preset("notebook").unwrap();
        assert!(text.contains(from), "{from}");
        let error = Config::parse(&text.replace(from, to), &[]).and_then(Session::<f32>::new).unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    refuse("batch = 1", "batch = 0", "train.batch: expected at least 1, found 0");
    refuse("dim = 100", "dim = 10", "latent.dim: expected 100, the elements of generator.input, found 10");
    refuse("std = 1.25", "std = -1", "data: expected a finite mean and a std > 0, found mean 4, std -1");
    refuse(
        "beta_1 = 0.9",
        "beta_1 = 1.0",
        "optimizer.generator: adam: beta_1: expected a number from 0 to below 1, found 1",
    );
    refuse(
        "filters = 1,",
        "filters = 2,",
        "generator.layers: expected an output [100], the discriminator's input, found [200]",
    );
    refuse(
        "units = 1, activation = \"sigmoid\"",
        "units = 2, activation = \"sigmoid\"",
        "discriminator.layers: expected an output [1] with a sigmoid (a probability) or none (a logit), found [2] with sigmoid",
    );
    refuse(
        "square(x - mean",
        "sqare(x - mean",
        "line 29: expression `concat([x, sqare(x - mean(x, axis=1))], axis=1)`: at column 12: expected x, a number, a \
         function or (, found `sqare`",
    );
    refuse(
        "stage = 200",
        "stages = 200",
        "line 60: unknown field `stages`, expected one of `seed`, `precision`, `batch`, `epochs`, `stage`, \
         `discriminator_steps`, `generator_steps`",
    );
}

#[test]
fn a_run_directory_keeps_what_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = config(&[]);
    let run = RunDirectory::create(&path, &config).unwrap();
    assert!(matches!(RunDirectory::create(&path, &config), Err(Error::File { .. })));
    assert_eq!(RunDirectory::open(&path).unwrap().1, config);
    for epoch in [1, 2, 10, 20] {
        run.save_checkpoint(epoch, &[epoch as u8], 3).unwrap();
    }
    assert_eq!(run.checkpoint_epochs().unwrap(), [20, 10, 2]);
    assert_eq!(run.newest_checkpoint().unwrap().1, [20]);
    assert_eq!(std::fs::read_dir(path.join("checkpoints")).unwrap().count(), 3, "no temporary files");
    let missing = gan::write_atomically(&path.join("no/file"), b"").unwrap_err().to_string();
    assert!(missing.contains("no/file: cannot write the file: "), "{missing}");
}
