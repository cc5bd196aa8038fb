//! What a run is continued from, drawn from and compared by: its folder, its checkpoints, the classifier, latents; and
//! weights of other programs.

use std::collections::BTreeMap;
use std::path::Path;

use image::ImageFormat;
use serde_json::{Value, json};

use crate::bytes::{cut, flipped, put};
use crate::images::{encoded, idx, png};
use crate::{Case, config, contents, gan, words, write};

/// Runs that are in order, with their data.
pub(crate) struct Good {
    /// One on a table.
    table: Vec<(String, Vec<u8>)>,
    /// One on images with labels, for which there is a classifier.
    images: Vec<(String, Vec<u8>)>,
}

const CHECKPOINT: &str = "run/checkpoints/2.safetensors";
const CLASSIFIER: &str = "run/classifier.safetensors";
/// What reads a checkpoint.
const READERS: [&str; 5] =
    ["resume run --quiet", "sample run --count 2 --out a.csv", "evaluate run", "inspect run", "plot run"];

impl Good {
    pub(crate) fn make(folder: &Path) -> Self {
        let table = config("{ kind = \"csv\", path = \"rows.csv\" }", &[2]);
        let images = config("{ kind = \"idx\", images = \"images\", labels = \"labels\" }", &[2, 2, 1]);
        let train = |name: &str, config: String, data: &[(&str, Vec<u8>)]| {
            let folder = folder.join(name);
            let data = data.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone()));
            write(&folder, &data.chain([("mine.toml".to_owned(), config.into_bytes())]).collect::<Vec<_>>());
            let output = gan(&folder, &words("train --quiet --config mine.toml --run run"));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let files = contents(&folder).into_iter();
            files.filter(|(name, _)| folder.join(name).is_file() && !name.contains("plots")).collect()
        };
        Self {
            table: train("table", table, &[("rows.csv", b"a,b\n1,2\n3,4\n5,7\n".to_vec())]),
            images: train(
                "images",
                images,
                &[
                    ("images", idx(&[6, 2, 2], &(0..24).collect::<Vec<u8>>())),
                    ("labels", idx(&[6], &[0, 1, 0, 1, 0, 1])),
                ],
            ),
        }
    }

    pub(crate) fn cases(&self) -> Vec<Case> {
        let of_runs = [self.checkpoints(), self.folders(), self.classifiers(), self.stages()];
        of_runs.into_iter().chain([self.latents(), self.weights()]).flatten().collect()
    }

    /// A run with one file changed, and a command to read it.
    fn case(files: &[(String, Vec<u8>)], what: String, name: &str, bytes: Vec<u8>, command: &str) -> Case {
        let mut files: BTreeMap<_, _> = files.iter().cloned().collect();
        files.insert(name.to_owned(), bytes);
        let names = name.to_owned();
        Self::prepared(files.into_iter().collect(), what, "", command, names)
    }

    /// The program run on these files, once the shell has run `before` among them.
    fn prepared(
        files: Vec<(String, Vec<u8>)>,
        what: String,
        before: &'static str,
        command: &str,
        names: String,
    ) -> Case {
        Case { what, files, before, arguments: words(command), names, late: false }
    }

    fn file<'a>(files: &'a [(String, Vec<u8>)], name: &str) -> &'a [u8] {
        files.iter().find(|(known, _)| known == name).map_or(&[], |(_, bytes)| bytes)
    }

    fn checkpoints(&self) -> Vec<Case> {
        let good = Self::file(&self.table, CHECKPOINT);
        let mut broken: Vec<(String, Vec<u8>)> = Vec::new();
        broken.extend(cut(good, 25).map(|(length, bytes)| (format!("cut to {length} bytes"), bytes)));
        let places = (0..good.len()).step_by(good.len() / 25);
        broken.extend(places.map(|at| (format!("byte {at} flipped"), flipped(good, at))));
        broken.extend(headers(good));
        broken.extend(hostile(good));
        let case = |(number, (what, bytes)): (usize, (String, Vec<u8>))| {
            let command = READERS[number % READERS.len()];
            Self::case(&self.table, format!("checkpoint: {what}: {command}"), CHECKPOINT, bytes, command)
        };
        broken.into_iter().enumerate().map(case).collect()
    }

    fn folders(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for command in READERS {
            let mut case = |what: &str, before: &'static str, names: &str| {
                let (what, names) = (format!("{what}: {command}"), names.to_owned());
                cases.push(Self::prepared(self.table.clone(), what, before, command, names));
            };
            case("no folder", "rm -r run", "run");
            case("a file", "rm -r run; touch run", "run");
            case("no config", "rm run/config.toml", "run");
            case("no checkpoints", "rm -r run/checkpoints", "run/checkpoints");
            case(
                "checkpoints that are a file",
                "rm -r run/checkpoints; touch run/checkpoints",
                "run/checkpoints",
            );
            case("an empty folder of checkpoints", "rm run/checkpoints/*", "run/checkpoints");
            case("a large checkpoint", "truncate -s 1T run/checkpoints/2.safetensors", CHECKPOINT);
            case(
                "a checkpoint longer than its run",
                "truncate -s 50M run/checkpoints/2.safetensors",
                "expected at most",
            );
            case("a large config", "truncate -s 1T run/config.toml", "run/config.toml");
            case("half a config", "truncate -s 300 run/config.toml", "run/config.toml");
            case("another config", "sed -i 's/seed = 0/seed = 1/' run/config.toml", "train.seed");
            case("other data", "printf 'a,b\n1,2\n3,4\n5,8\n' > rows.csv", "the file has changed");
        }
        // Sampling needs no data, but the others do.
        cases.retain(|case| !(case.what.starts_with("other data: sample")));
        for (what, before) in [
            ("broken metrics", "printf 'no JSON\n' > run/metrics.jsonl"),
            ("metrics that are none", "printf '{\"stage\": -1}\n' > run/metrics.jsonl"),
            ("metrics in Latin-1", "printf '\\351\n' > run/metrics.jsonl"),
            ("large metrics", "truncate -s 1T run/metrics.jsonl"),
            (
                "nested metrics",
                "head -c 100000 /dev/zero | tr '\\0' '[' > run/metrics.jsonl; echo >> run/metrics.jsonl",
            ),
        ] {
            let (what, arguments) = (what.to_owned(), words("inspect run"));
            let names = "run/metrics.jsonl".to_owned();
            cases.push(Case { what, files: self.table.clone(), before, arguments, names, late: false });
        }
        cases
    }

    fn classifiers(&self) -> Vec<Case> {
        let good = Self::file(&self.images, CLASSIFIER);
        let mut broken: Vec<(String, Vec<u8>)> = Vec::new();
        broken.extend(cut(good, 5).map(|(length, bytes)| (format!("cut to {length} bytes"), bytes)));
        broken.push(("byte 40 flipped".to_owned(), flipped(good, 40)));
        broken.extend(headers(good));
        let case = |(what, bytes)| {
            Self::case(&self.images, format!("classifier: {what}"), CLASSIFIER, bytes, "evaluate run")
        };
        broken.into_iter().map(case).collect()
    }

    /// Pictures of stages, of which the animation is made.
    fn stages(&self) -> Vec<Case> {
        let stage = |number: usize| format!("run/samples/stage-000{number}.png");
        let size = [20, 10];
        let good = encoded(ImageFormat::Png, size);
        let mut broken: Vec<(String, Vec<u8>)> = Vec::new();
        broken.extend(cut(&good, 6).map(|(length, bytes)| (format!("cut to {length} bytes"), bytes)));
        broken.push(("a JPEG".to_owned(), encoded(ImageFormat::Jpeg, size)));
        broken.push(("grey".to_owned(), png(size, 8, 10)));
        broken.push(("of another size".to_owned(), encoded(ImageFormat::Png, [10, 10])));
        let mut images = self.images.clone();
        images.push((stage(1), good));
        let case = |(what, bytes)| {
            Self::case(&images, format!("picture of a stage: {what}"), &stage(2), bytes, "plot run")
        };
        let mut cases: Vec<Case> = broken.into_iter().map(case).collect();
        for before in ["mkdir run/samples/stage-0002.png", "ln -s nothing run/samples/stage-0002.png"] {
            let (what, names) = (before.to_owned(), stage(2));
            cases.push(Self::prepared(images.clone(), what, before, "plot run", names));
        }
        cases
    }

    fn latents(&self) -> Vec<Case> {
        let good = npy("<f8", "False", "(2, 2)", &[0; 32]);
        let mut broken: Vec<(String, Vec<u8>)> = Vec::new();
        broken.extend(cut(&good, 25).map(|(length, bytes)| (format!("cut to {length} bytes"), bytes)));
        broken.extend((0..6).map(|at| (format!("byte {at} flipped"), flipped(&good, at))));
        for dtype in ["<i8", "<c16", "|O", "|S8", "<f2", "<f16", ">x9", "", "|b1", "<M8[ns]"] {
            broken.push((format!("numbers {dtype}"), npy(dtype, "False", "(2, 2)", &[0; 64])));
        }
        for shape in [
            "(2, 3)",
            "()",
            "(4,)",
            "(0, 2)",
            "(2, 0)",
            "(-1, 2)",
            "(-0, 2)",
            "(0x100000000, 0x100000000)",
            "(2, 2, 2)",
            "2",
            "[2, 2]",
            "(1.5, 2)",
            "('a',)",
            "(1099511627776, 2)",
            "(18446744073709551615, 2)",
            "(4294967296, 4294967296)",
            "(9223372036854775808,)",
            "(99999999999999999999999999,)",
            "(1, 1, 1, 1, 1, 1, 1, 1, 4)",
        ] {
            broken.push((format!("shape {shape}"), npy("<f8", "False", shape, &[0; 32])));
        }
        for (what, bytes) in [("NaN", f64::NAN), ("infinity", f64::INFINITY), ("more than f32 holds", 1e308)]
        {
            broken.push((what.to_owned(), npy("<f8", "False", "(1, 2)", &[bytes.to_le_bytes(); 2].concat())));
        }
        broken.push(("columns first".to_owned(), npy("<f8", "True", "(2, 2)", &[0; 32])));
        broken.push(("neither order".to_owned(), npy("<f8", "7", "(2, 2)", &[0; 32])));
        let nested = format!("{}{}", "(".repeat(20_000), ")".repeat(20_000));
        broken.push(("brackets".to_owned(), npy("<f8", "False", &nested, &[0; 32])));
        for length in [0, 1, 1000, u16::MAX] {
            broken.push((format!("a header of {length} bytes"), put(&good, 8, &length.to_le_bytes())));
        }
        let long = [&b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..], &good[10..]].concat();
        broken.push(("a header of 2^32 - 1 bytes".to_owned(), long));
        broken.push(("text".to_owned(), b"1.0 2.0".to_vec()));
        let command = "sample run --latent z.npy --out a.csv";
        let case =
            |(what, bytes)| Self::case(&self.table, format!("latents: {what}"), "z.npy", bytes, command);
        let mut cases: Vec<Case> = broken.into_iter().map(case).collect();
        cases.extend(cut(&good, 10).map(|(length, bytes)| {
            let what = format!("samples: cut to {length} bytes");
            Self::case(&self.table, what, "z.npy", bytes, "evaluate run --samples z.npy")
        }));
        for before in ["", "mkdir z.npy", "truncate -s 1T z.npy", "ln -s /dev/zero z.npy"] {
            let (what, names) = (format!("latents: {before}"), "z.npy".to_owned());
            cases.push(Self::prepared(self.table.clone(), what, before, command, names));
        }
        for (count, names) in
            [("0", "--count"), ("-1", "-1"), ("1000000000000", "memory"), ("18446744073709551615", "memory")]
        {
            let (what, arguments) =
                (format!("{count} samples"), format!("sample run --out a.csv --count {count}"));
            let (files, arguments) = (self.table.clone(), words(&arguments));
            cases.push(Case { what, files, before: "", arguments, names: names.to_owned(), late: false });
        }
        cases
    }

    fn weights(&self) -> Vec<Case> {
        let good = Self::file(&self.table, CHECKPOINT);
        let mut broken: Vec<(String, Vec<u8>)> = headers(good);
        broken.extend(cut(good, 8).map(|(length, bytes)| (format!("cut to {length} bytes"), bytes)));
        let case = |(what, bytes)| {
            let names = "a.safetensors".to_owned();
            let arguments = words("inspect a.safetensors");
            let files = vec![(names.clone(), bytes)];
            Case { what: format!("weights: {what}"), files, before: "", arguments, names, late: false }
        };
        let mut cases: Vec<Case> = broken.into_iter().map(case).collect();
        for before in ["", "truncate -s 1T a.safetensors", "ln -s /dev/zero a.safetensors"] {
            cases.push(Case { before, ..case((before.to_owned(), Vec::new())) });
        }
        cases[..].iter_mut().rev().take(2).for_each(|case| case.files.clear());
        cases
    }
}

fn npy(dtype: &str, order: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), bytes].concat()
}

/// Safetensors files with another header, or another length of it.
fn headers(good: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut broken: Vec<(String, Vec<u8>)> = [0, 1, 7, 1 << 20, 1 << 40, 1 << 63, u64::MAX]
        .into_iter()
        .map(|length: u64| (format!("a header of {length} bytes"), put(good, 0, &length.to_le_bytes())))
        .collect();
    let tensor = |entries: &str| safetensors(entries, 32);
    let entry = |shape: &str, offsets: &str| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
    };
    for (what, header) in [
        ("no JSON", "text".to_owned()),
        ("a list", "[]".to_owned()),
        ("nested lists", format!("{{\"a\":{}", "[".repeat(100_000))),
        ("Latin-1", "{\"\u{fffd}\":".to_owned()),
        ("a tensor of 2^64 numbers", format!("{{\"a\":{}}}", entry("[4294967296,4294967296]", "[0,32]"))),
        (
            "a tensor of 2^63 bytes",
            format!("{{\"a\":{}}}", entry("[2305843009213693952]", "[0,9223372036854775808]")),
        ),
        ("a tensor beyond the end", format!("{{\"a\":{}}}", entry("[16]", "[0,64]"))),
        ("a tensor that ends before it begins", format!("{{\"a\":{}}}", entry("[8]", "[32,0]"))),
        ("a tensor at -1", format!("{{\"a\":{}}}", entry("[8]", "[-1,31]"))),
        ("another size than its shape", format!("{{\"a\":{}}}", entry("[7]", "[0,32]"))),
        ("bytes that belong to none", format!("{{\"a\":{}}}", entry("[4]", "[0,16]"))),
        (
            "a tensor twice",
            format!("{{\"a\":{0},\"a\":{1}}}", entry("[4]", "[0,16]"), entry("[4]", "[16,32]")),
        ),
        (
            "tensors that overlap",
            format!("{{\"a\":{0},\"b\":{1}}}", entry("[8]", "[0,32]"), entry("[4]", "[16,32]")),
        ),
        (
            "metadata that are numbers",
            format!("{{\"__metadata__\":{{\"a\":1}},\"a\":{}}}", entry("[8]", "[0,32]")),
        ),
        ("an unknown type", format!("{{\"a\":{}}}", entry("[8]", "[0,32]").replace("F32", "F33"))),
    ] {
        broken.push((what.to_owned(), tensor(&header)));
    }
    broken
}

fn safetensors(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat()
}

/// A checkpoint of version 1, which has no seal, with something in it that cannot be.
fn hostile(good: &[u8]) -> Vec<(String, Vec<u8>)> {
    let length = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&good[8..8 + length]).unwrap();
    let place: Value = serde_json::from_str(header["__metadata__"]["gan"].as_str().unwrap()).unwrap();
    let made = |change: &dyn Fn(&mut Value, &mut Value)| {
        let (mut header, mut place) = (header.clone(), place.clone());
        place["format"] = json!(1);
        place.as_object_mut().unwrap().remove("config");
        change(&mut header, &mut place);
        header["__metadata__"] = json!({ "gan": place.to_string() });
        let header = header.to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &good[8 + length..]].concat()
    };
    let mut broken = Vec::new();
    for (key, value) in [
        ("format", json!(0)),
        ("format", json!(99)),
        ("format", json!("1")),
        ("epoch", json!(u64::MAX)),
        ("epoch", json!(3)),
        ("epoch", json!(-1)),
        ("epoch", json!(1e308)),
        ("step", json!(u64::MAX)),
        ("step", json!(6)),
        ("generator_steps", json!(u64::MAX)),
        ("stage_sums", json!(null)),
        ("columns", json!([])),
        ("columns", json!([{ "name": "a", "mean": null, "std": 1 }])),
        ("columns", json!("a")),
        ("data_stream", json!("0")),
        ("config", json!({})),
    ] {
        broken.push((format!("{key} = {value}"), made(&|_, place| place[key] = value.clone())));
    }
    let name = "generator.0.kernel";
    broken.push((
        "a tensor that is missing".to_owned(),
        made(&|header, _| {
            let tensor = header.as_object_mut().unwrap().remove(name).unwrap();
            header["../../../etc/passwd"] = tensor;
        }),
    ));
    for (what, value) in [
        ("of another shape", json!([4])),
        ("of an impossible shape", json!([u64::MAX, 2])),
        ("of many axes", json!([2, 1, 1, 2])),
    ] {
        broken.push((format!("a tensor {what}"), made(&|header, _| header[name]["shape"] = value.clone())));
    }
    broken.push((
        "a tensor of another type".to_owned(),
        made(&|header, _| header[name]["dtype"] = json!("I32")),
    ));
    let mut nan = made(&|_, _| {});
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    broken.push(("a NaN".to_owned(), nan));
    broken
}
