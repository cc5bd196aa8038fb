//! Checkpoints: those of all versions load, damaged and hostile ones are refused.

use std::time::{Duration, Instant};

use gan::{Config, Session};
use nn::weights::{Reader, write};
use tensor_ops::Tensor;

/// A small run with everything that a checkpoint can hold, and its checkpoint at epoch 4 in each version of the format.
const RUN: &str = include_str!("../checkpoints/run.toml");
const VERSIONS: [&[u8]; 2] = [
    include_bytes!("../checkpoints/version-1.safetensors"),
    include_bytes!("../checkpoints/version-2.safetensors"),
];
/// Where the digits of the seal are.
const SEAL: std::ops::Range<usize> = 35..99;

fn session(overrides: &[&str]) -> Session<f32> {
    let overrides: Vec<String> = overrides.iter().map(|&setting| setting.to_owned()).collect();
    Session::new(Config::parse(RUN, &overrides).unwrap()).unwrap()
}

/// A checkpoint in the middle of an epoch.
fn checkpoint(overrides: &[&str]) -> Vec<u8> {
    let mut session = session(overrides);
    (0..5).for_each(|_| session.run_step().unwrap());
    session.to_checkpoint().unwrap()
}

/// Checks that bytes are refused, soon, that nothing changed, and gives what was said, in one line.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    let mut session = session(&[]);
    session.run_step().unwrap();
    let before = session.to_checkpoint().unwrap();
    let begun = Instant::now();
    let mut message = String::new();
    let memory =
        allocation_counter::measure(|| message = session.restore(bytes).unwrap_err().to_string()).bytes_max;
    assert!(
        memory < 4 * bytes.len() as u64 + 10_000,
        "{memory} bytes for a file of {}: {message}",
        bytes.len()
    );
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert!(session.to_checkpoint().unwrap() == before, "changed by what it refused: {message}");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn checkpoints_of_all_versions_load_and_go_on() {
    for (version, bytes) in (1..).zip(VERSIONS) {
        let mut session = session(&[]);
        session.restore(bytes).unwrap();
        assert_eq!((session.epoch(), session.step()), (4, 0), "version {version}");
        let file = Reader::new(bytes).unwrap();
        assert!(file.metadata("gan").unwrap().starts_with(&format!("{{\"format\":{version},")));
        // What was loaded is what is in the file: the same tensors are written again.
        let again = session.to_checkpoint().unwrap();
        let again = Reader::new(&again).unwrap();
        assert_eq!(again.tensors(), file.tensors());
        for (name, ..) in file.tensors() {
            let [old, new] = [&file, &again].map(|file| file.any_tensor::<f32>(&name).unwrap());
            assert_eq!(old, new, "version {version}: {name}");
        }
        session.run_epoch().unwrap();
        assert!(session.stage_is_due() && session.finish_stage().is_ok());
    }
}

/// This library writes the last of the versions.
#[test]
fn the_newest_version_has_its_fixture() {
    let bytes = checkpoint(&[]);
    let version = format!("{{\"format\":{},", VERSIONS.len());
    assert!(Reader::new(&bytes).unwrap().metadata("gan").unwrap().starts_with(&version));
}

#[test]
fn every_flipped_byte_and_every_truncation_is_refused() {
    let bytes = checkpoint(&[]);
    let mut session = session(&[]);
    let before = session.to_checkpoint().unwrap();
    // One bit of each byte, each in turn; of the first, in which the header says what it is, all.
    for at in 0..bytes.len() {
        for bit in if at < 200 { 0..8 } else { at % 8..at % 8 + 1 } {
            let mut broken = bytes.clone();
            broken[at] ^= 1 << bit;
            assert!(session.restore(&broken).is_err(), "bit {bit} of byte {at} flipped unseen");
        }
        assert!(session.restore(&bytes[..at]).is_err(), "cut to {at} bytes unseen");
    }
    assert!(session.to_checkpoint().unwrap() == before);
    session.restore(&bytes).unwrap();
}

#[test]
fn damage_is_named() {
    let bytes = checkpoint(&[]);
    let damaged = "checkpoint: weights: file: expected bytes of the SHA-256 in its header, found others: the file is damaged";
    for length in [100, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(refusal(&bytes[..length]), damaged);
    }
    assert_eq!(refusal(&[&bytes[..], &[0]].concat()), damaged);
    // A seal that no longer looks like one.
    let mut broken = bytes;
    broken[SEAL.start - 5] ^= 1;
    let end = "expected a header that begins with a seal, found none: the file is damaged";
    assert_eq!(refusal(&broken), format!("checkpoint: weights: metadata `gan`: {end}"));
    for length in [0, 1, 7, 8, 9] {
        let message = refusal(&broken[..length]);
        assert!(message.contains("expected a whole safetensors file, found "), "{length}: {message}");
    }
}

#[test]
fn a_checkpoint_of_another_configuration_is_refused_with_what_differs() {
    let start = "the run's configuration has changed: ";
    let end = "; only train.epochs, evaluate.require and [output] may";
    for (overrides, differences) in [
        (&["train.batch=6"][..], "train.batch: expected 6, found 4"),
        (&["generator.layers.0.units=5"], "generator.layers.0.units: expected 5, found 4"),
        (
            &["optimizer.discriminator={ kind = \"sgd\" }", "train.seed=3"],
            "optimizer.discriminator.kind: expected \"sgd\", found \"rmsprop\"; \
             optimizer.discriminator.learning_rate: expected 0.01, found 0.001; \
             optimizer.discriminator.momentum: expected 0.0, found none; \
             optimizer.discriminator.nesterov: expected false, found none; \
             train.seed: expected 3, found 0; \
             optimizer.discriminator.epsilon: expected none, found 0.0000001; \
             optimizer.discriminator.rho: expected none, found 0.9",
        ),
        (&["train.clip_norm=0.5"], "train.clip_norm: expected 0.5, found none"),
    ] {
        assert_eq!(refusal(&checkpoint(overrides)), format!("{start}{differences}{end}"));
    }
}

#[test]
fn what_may_change_may_change() {
    let bytes = checkpoint(&[]);
    let changed = [
        "train.epochs=9",
        "output.checkpoints=1",
        "output.stage_plots=true",
        "evaluate.require={ coverage = 0.5 }",
    ];
    session(&changed).restore(&bytes).unwrap();
    // But not to before the checkpoint.
    let message = session(&["train.epochs=1"]).restore(&bytes).unwrap_err().to_string();
    let end = "expected at most 1 epochs, found 1 and 2 steps of 3";
    assert_eq!(message, format!("checkpoint: weights: metadata `gan`: {end}"));
}

#[test]
fn a_file_of_weights_is_no_checkpoint() {
    assert_eq!(
        refusal(&session(&[]).trainer().generator().to_safetensors().unwrap()),
        "checkpoint: weights: metadata `gan`: expected the place of a run, found none"
    );
}

/// A file with a header, which it says is of `length` bytes, and so many bytes of numbers.
fn file(length: u64, header: &str, numbers: usize) -> Vec<u8> {
    [&length.to_le_bytes(), header.as_bytes(), &vec![0; numbers]].concat()
}

/// Such a file, in which the length is true.
fn honest(header: &str, numbers: usize) -> Vec<u8> {
    file(header.len() as u64, header, numbers)
}

#[test]
fn hostile_headers_are_refused() {
    for length in [1 << 63, u64::MAX, u64::MAX - 7, 1 << 62, 1 << 33, 100_000_001, 99_999_999] {
        let message = refusal(&file(length, "{}", 0));
        assert!(message.contains("expected a whole safetensors file, found "), "{message}");
    }
    let tensor = |shape: &str, offsets: &str| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
    };
    let one = tensor("[1]", "[0,4]");
    for (header, numbers) in [
        // The same name twice, with the same place, so that no gap shows it.
        (format!("{{\"a\":{one},\"a\":{one}}}"), 4),
        // Overlapping, gaps, backwards, beyond the end, numbers that no one names.
        (format!("{{\"a\":{one},\"b\":{}}}", tensor("[1]", "[2,6]")), 6),
        (format!("{{\"a\":{one},\"b\":{one}}}"), 4),
        (format!("{{\"a\":{one},\"b\":{}}}", tensor("[1]", "[8,12]")), 12),
        (format!("{{\"a\":{}}}", tensor("[1]", "[4,0]")), 4),
        (format!("{{\"a\":{}}}", tensor("[2]", "[0,8]")), 4),
        (format!("{{\"a\":{one}}}"), 8),
        // Shapes that overflow, are not of as many bytes, are no numbers, or are nested to death.
        (format!("{{\"a\":{}}}", tensor("[4294967296,4294967296,4]", "[0,0]")), 0),
        (format!("{{\"a\":{}}}", tensor("[9223372036854775807,2]", "[0,4]")), 4),
        (format!("{{\"a\":{}}}", tensor("[18446744073709551616]", "[0,4]")), 4),
        (format!("{{\"a\":{}}}", tensor("[-1]", "[0,4]")), 4),
        (format!("{{\"a\":{}}}", tensor("[2]", "[0,4]")), 4),
        (format!("{{\"a\":{}}}", tensor("[1e400]", "[0,4]")), 4),
        (format!("{{\"a\":{}", "[".repeat(100_000)), 0),
        // Metadata twice, and of another kind.
        ("{\"__metadata__\":{\"gan\":\"a\"},\"__metadata__\":{\"gan\":\"b\"}}".to_owned(), 0),
        ("{\"__metadata__\":{\"gan\":7}}".to_owned(), 0),
        ("[]".to_owned(), 0),
        (String::new(), 0),
    ] {
        let message = refusal(&honest(&header, numbers));
        assert!(message.starts_with("checkpoint: weights: file: expected "), "{message}");
    }
    assert!(refusal(&honest("\u{fffd}{}", 0)).contains("expected a whole safetensors file"));
}

/// The place of a run in a checkpoint, with something else in it, as a whole sealed checkpoint.
fn with_place(from: &str, to: &str) -> Vec<u8> {
    let bytes = checkpoint(&[]);
    let file = Reader::new(&bytes).unwrap();
    let place = file.metadata("gan").unwrap();
    assert_eq!(place.matches(from).count(), 1, "{place}");
    let tensors = file.tensors().into_iter().map(|(name, ..)| {
        let tensor: Tensor<f32> = file.any_tensor(&name).unwrap();
        (name, tensor)
    });
    let tensors: Vec<_> = tensors.collect();
    write(tensors.iter().map(|(name, tensor)| (name.clone(), tensor)), ("gan", place.replace(from, to)))
        .unwrap()
}

#[test]
fn hostile_places_are_refused() {
    for (from, to, message) in [
        ("\"format\":2", "\"format\":3", "expected format 1 to 2, found 3"),
        ("\"format\":2", "\"format\":0", "expected format 1 to 2, found 0"),
        ("\"step\":2", "\"step\":3", "expected at most 5 epochs, found 1 and 3 steps of 3"),
        ("\"epoch\":1,", "\"epoch\":6,", "expected at most 5 epochs, found 6 and 2 steps of 3"),
        ("\"epoch\":1,", "\"epoch\":5,", "expected at most 5 epochs, found 5 and 2 steps of 3"),
        (
            "\"generator_steps\":3",
            "\"generator_steps\":18446744073709551615",
            "expected at most 9007199254740992 steps",
        ),
        ("\"count\":1797", "\"count\":1798", "expected the images that the data has now, found others"),
        ("\"epoch\":1,", "\"epoch\":-1,", "expected the place of a run, found invalid value"),
        ("\"epoch\":1,", "\"epoch\":1e300,", "expected the place of a run, found invalid type"),
        (
            "\"epoch\":1,",
            "\"epoch\":1,\"epoch\":2,",
            "expected the place of a run, found duplicate field `epoch`",
        ),
        ("\"epoch\":1,", "", "expected the place of a run, found missing field `epoch`"),
    ] {
        let found = refusal(&with_place(from, to));
        assert!(found.contains(message), "{found}");
    }
    session(&[]).restore(&with_place("\"epoch\":1,", "\"epoch\":2,")).unwrap();
}

/// Without the data, its shape is what the checkpoint says, as far as G makes such rows.
#[test]
fn hostile_shapes_of_images_are_refused() {
    let config = RUN.replace("kind = \"digits\"", "kind = \"idx\"\nimages = \"nowhere\"");
    let config = Config::parse(&config, &[]).unwrap();
    for shape in ["[18446744073709551615,2,1]", "[4,16,1]", "[8,8,3]", "[0,0,0]"] {
        let bytes = with_place("\"shape\":[8,8,1]", &format!("\"shape\":{shape}"));
        let bytes = without_config(&bytes);
        let mut session = Session::<f32>::without_data(config.clone()).unwrap();
        let message = session.restore(&bytes).unwrap_err().to_string();
        assert!(message.ends_with("expected images like G's, found others"), "{message}");
    }
}

/// A checkpoint that does not tell its configuration, as those of version 1.
fn without_config(bytes: &[u8]) -> Vec<u8> {
    let file = Reader::new(bytes).unwrap();
    let place = file.metadata("gan").unwrap();
    let place = format!("{}}}", &place[..place.find(",\"config\":").unwrap()]);
    let tensors: Vec<_> = file.tensors().into_iter().map(|(name, ..)| name).collect();
    let tensors: Vec<(String, Tensor<f32>)> =
        tensors.into_iter().map(|name| (name.clone(), file.any_tensor(&name).unwrap())).collect();
    write(tensors.iter().map(|(name, tensor)| (name.clone(), tensor)), ("gan", place)).unwrap()
}

/// Checkpoints with a tensor less, of another shape, or not finite; and one with a tensor too many, which is none's.
#[test]
fn tensors_that_are_not_what_they_should_be_are_refused() {
    let bytes = checkpoint(&[]);
    let file = Reader::new(&bytes).unwrap();
    let place = file.metadata("gan").unwrap();
    let names: Vec<String> = file.tensors().into_iter().map(|(name, ..)| name).collect();
    for broken in &names {
        let tensor = |name: &String| file.any_tensor::<f32>(name).unwrap();
        let rest = names.iter().filter(|name| *name != broken).map(|name| (name.clone(), tensor(name)));
        let mut tensors: Vec<(String, Tensor<f32>)> = rest.collect();
        let refused = |tensors: &[(String, Tensor<f32>)], end: &str| {
            let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
            let message = refusal(&write(tensors, ("gan", place.to_owned())).unwrap());
            assert_eq!(message, format!("checkpoint: weights: {broken}: {end}"));
        };
        refused(&tensors, "expected a tensor of this name, found none");
        let sound = tensor(broken);
        let mut poisoned = sound.clone();
        poisoned.data_mut()[0] = f32::NEG_INFINITY;
        tensors.push((broken.clone(), poisoned));
        refused(&tensors, "expected finite numbers, found -inf");
        let shape = sound.shape();
        *tensors.last_mut().unwrap() = (broken.clone(), Tensor::zeros([1, 2, 3]));
        refused(&tensors, &format!("expected shape {shape}, found [1, 2, 3]"));
    }
}
