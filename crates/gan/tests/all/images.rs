//! Images from files: what is read, in which order, and what is refused.

use std::fs;
use std::io::Write;
use std::path::Path;

use gan::{Config, Data, Images, Session, Source};
use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageFormat, Rgb, RgbImage, RgbaImage};
use tempfile::TempDir;

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| file.extend_from_slice(&size.to_be_bytes()));
    file.extend_from_slice(bytes);
    file
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with these files.
fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    picture.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A PGM of one grey.
fn pgm(width: u32, height: u32, grey: u8) -> Vec<u8> {
    encoded(GrayImage::from_pixel(width, height, image::Luma([grey])), ImageFormat::Pnm)
}

/// The pictures of a folder, all decoded.
fn read(folder: &TempDir, channels: usize, labelled: bool) -> gan::Result<Images> {
    let images = Images::read_folder(folder.path(), [2, 2], channels, labelled)?;
    (0..images.facts().count).try_for_each(|index| images.image(index).map(drop))?;
    Ok(images)
}

/// What is said, with the folder's own path left out, in one line.
#[track_caller]
fn refused<T: std::fmt::Debug>(folder: &Path, result: gan::Result<T>, message: &str) {
    let found = result.unwrap_err().to_string().replace(&format!("{}", folder.display()), "DIR");
    assert_eq!(found, message);
    assert!(!found.contains('\n'), "{found}");
}

#[test]
fn idx_files_are_read_plain_and_gzipped() {
    let (images, labels) = (idx(&[2, 1, 3], &[0, 1, 2, 253, 254, 255]), idx(&[2], &[9, 4]));
    let files = folder(&[
        ("images", images.clone()),
        ("labels", labels.clone()),
        ("images.gz", zipped(&images)),
        ("labels.gz", zipped(&labels)),
    ]);
    let at = |name: &str| files.path().join(name);
    let plain = Images::read_idx(&at("images"), Some(&at("labels"))).unwrap();
    assert_eq!((plain.facts().shape, plain.facts().count), ([1, 3, 1], 2));
    let pixels = [0, 1].map(|index| plain.image(index).unwrap().to_vec());
    assert_eq!(pixels, [[0, 1, 2], [253, 254, 255]]);
    assert_eq!(plain.facts().classes.as_deref(), Some(&["4".to_owned(), "9".to_owned()][..]));
    let unzipped = Images::read_idx(&at("images.gz"), Some(&at("labels.gz"))).unwrap();
    assert_eq!(unzipped.facts(), plain.facts());
    assert_eq!(Images::read_idx(&at("images.gz"), None).unwrap().facts().classes, None);
}

#[test]
fn broken_idx_files_are_refused() {
    let good = idx(&[2, 1, 3], &[0; 6]);
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "expected IDX images, which start with [00, 00, 08, 03], found []"),
        (
            "text",
            b"p0,p1".to_vec(),
            "expected IDX images, which start with [00, 00, 08, 03], found [70, 30, 2c, 70]",
        ),
        (
            "labels",
            idx(&[6], &[0; 6]),
            "expected IDX images, which start with [00, 00, 08, 03], found [00, 00, 08, 01]",
        ),
        ("header", good[..9].to_vec(), "expected an IDX header of 16 bytes, found 9"),
        (
            "short",
            good[..20].to_vec(),
            "expected 6 bytes after the header, for images [2, 1, 3], found a file that holds at most 4",
        ),
        (
            "long",
            [&good[..], &[0]].concat(),
            "expected 6 bytes after the header, for images [2, 1, 3], found more",
        ),
        ("short.gz", zipped(&good[..20]), "expected 6 bytes after the header, for images [2, 1, 3], found 4"),
        (
            "long.gz",
            zipped(&[&good[..], &[0]].concat()),
            "expected 6 bytes after the header, for images [2, 1, 3], found more",
        ),
        (
            "none",
            idx(&[0, 1, 3], &[]),
            "expected 0 bytes after the header, for images [0, 1, 3], found an axis of size 0",
        ),
        (
            "flat",
            idx(&[5, 0, 3], &[]),
            "expected 0 bytes after the header, for images [5, 0, 3], found an axis of size 0",
        ),
        (
            "claims",
            idx(&[u32::MAX, 16, 16], &[0; 9]),
            "expected 1099511627520 bytes after the header, for images [4294967295, 16, 16], found a file that holds at most 9",
        ),
        (
            "overflows",
            idx(&[u32::MAX, u32::MAX, u32::MAX], &[]),
            "images: shape [4294967295, 4294967295, 4294967295]: expected no more elements than memory can hold",
        ),
    ];
    for (name, bytes, message) in cases {
        let files = folder(&[(name, bytes.clone())]);
        let path = files.path().join(name);
        refused(files.path(), Images::read_idx(&path, None), &format!("DIR/{name}: {message}"));
    }
    // A bomb: 64 megabytes in a file of 64 kilobytes, of which the header wants 6 bytes.
    let noise: Vec<u8> = (0..90_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cut = zipped(&idx(&[9, 100, 100], &noise));
    let cut = cut[..cut.len() / 2].to_vec();
    let files = folder(&[
        ("bomb.gz", zipped(&[good, vec![0; 1 << 26]].concat())),
        ("cut.gz", cut),
        ("images", idx(&[2, 1, 3], &[0; 6])),
        ("labels", idx(&[3], &[0; 3])),
    ]);
    let at = |name: &str| files.path().join(name);
    let more = "DIR/bomb.gz: expected 6 bytes after the header, for images [2, 1, 3], found more";
    refused(files.path(), Images::read_idx(&at("bomb.gz"), None), more);
    let cut = Images::read_idx(&at("cut.gz"), None).unwrap_err().to_string();
    assert!(cut.contains("expected 90000 bytes after the header, for images [9, 100, 100], found "), "{cut}");
    let mismatch = "DIR/labels: expected 2 labels, one for each image of DIR/images, found 3";
    refused(files.path(), Images::read_idx(&at("images"), Some(&at("labels"))), mismatch);
    let missing = Images::read_idx(&at("nowhere"), None).unwrap_err().to_string();
    assert!(missing.contains("nowhere: cannot read: "), "{missing}");
}

#[test]
fn a_folder_is_read_in_natural_order() {
    let names = ["s10/1.pgm", "s2/10.pgm", "s2/9.PGM", "s2/02.pgm", "s1/a/1.pgm", "s1/b1.pgm"];
    let files: Vec<_> = names.iter().enumerate().map(|(i, name)| (*name, pgm(2, 2, 10 * i as u8))).collect();
    let files = folder(&[&files[..], &[("readme.txt", vec![]), ("s1/.hidden.pgm", vec![])]].concat());
    let images = read(&files, 1, true).unwrap();
    let greys: Vec<u8> = (0..images.facts().count).map(|index| images.image(index).unwrap()[0]).collect();
    assert_eq!(greys, [40, 50, 30, 20, 10, 0]);
    assert_eq!(images.facts().classes.as_ref().unwrap().join(" "), "s1 s2 s10");
    let source = Source::Images(images);
    assert_eq!((source.classes(), source.shape()), (Some(3), Some([2, 2, 1].into())));
    let (mut rows, mut labels) = (vec![0.0_f32; 4 * 60], Vec::new());
    source
        .fill_labelled(
            &mut <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(0),
            &mut rows,
            &mut labels,
        )
        .unwrap();
    source.restore(&mut rows);
    for (row, label) in rows.chunks_exact(4).zip(&labels) {
        let class = match row[0].round() as u8 {
            40 | 50 => 0,
            0 => 2,
            _ => 1,
        };
        assert_eq!(*label, class);
    }
    // Without labels the folders are read through.
    assert_eq!(read(&files, 1, false).unwrap().facts().classes, None);
}

#[test]
fn pictures_of_each_kind_become_rows() {
    let red = Rgb([255, 0, 0]);
    let mut half = RgbaImage::from_pixel(2, 2, image::Rgba([0, 0, 0, 0]));
    half.put_pixel(0, 0, image::Rgba([200, 100, 0, 255]));
    half.put_pixel(1, 0, image::Rgba([0, 0, 0, 51]));
    let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_pixel(2, 2, image::Luma([0x80a0]));
    let files = folder(&[
        ("1.png", encoded(RgbImage::from_pixel(2, 2, red), ImageFormat::Png)),
        ("2.png", encoded(half, ImageFormat::Png)),
        ("3.png", encoded(DynamicImage::ImageLuma16(deep), ImageFormat::Png)),
        ("4.jpeg", encoded(RgbImage::from_pixel(2, 2, red), ImageFormat::Jpeg)),
        ("5.ppm", encoded(RgbImage::from_pixel(2, 2, red), ImageFormat::Pnm)),
        ("6.png", encoded(GrayAlphaImage::from_pixel(2, 2, image::LumaA([9, 255])), ImageFormat::Png)),
        // By what it is, whatever it is called.
        ("7.jpg", encoded(RgbImage::from_pixel(2, 2, red), ImageFormat::Png)),
    ]);
    let grey = read(&files, 1, false).unwrap();
    // Rec. 709: red is 21.26 % of white.
    assert_eq!(grey.image(0).unwrap(), [54; 4]);
    assert_eq!(grey.image(2).unwrap(), [0x80; 4]);
    assert_eq!(
        (grey.image(4).unwrap(), grey.image(5).unwrap(), grey.image(6).unwrap()),
        (&[54; 4][..], &[9; 4][..], &[54; 4][..])
    );
    let colour = read(&files, 3, false).unwrap();
    assert_eq!(colour.facts().shape, [2, 2, 3]);
    assert_eq!(colour.image(0).unwrap(), [255, 0, 0].repeat(4));
    // Over white, where it is transparent.
    assert_eq!(colour.image(1).unwrap(), [200, 100, 0, 204, 204, 204, 255, 255, 255, 255, 255, 255]);
    assert!(colour.image(3).unwrap().chunks(3).all(|pixel| pixel[0] > 250 && pixel[1] < 5 && pixel[2] < 5));
}

/// Both by Pillow: a JPEG in CMYK of nothing but magenta and yellow, and a PNG that is red, then blue.
#[test]
fn a_jpeg_may_be_in_cmyk_and_a_png_animated() {
    let files = folder(&[
        ("1.jpg", include_bytes!("../pictures/cmyk.jpg").to_vec()),
        ("2.png", include_bytes!("../pictures/animated.png").to_vec()),
    ]);
    let images = read(&files, 3, false).unwrap();
    for index in [0, 1] {
        let pixels = images.image(index).unwrap();
        assert!(pixels.chunks(3).all(|pixel| pixel[0] > 250 && pixel[1] < 5 && pixel[2] < 5), "{pixels:?}");
    }
}

#[test]
fn pictures_are_cropped_around_the_middle_and_scaled() {
    // Black at the left and right ends, which are cropped; the middle is white above grey.
    let mut wide = GrayImage::new(12, 8);
    for (x, y, pixel) in wide.enumerate_pixels_mut() {
        pixel.0[0] = if !(2..10).contains(&x) {
            0
        } else if y < 4 {
            200
        } else {
            100
        };
    }
    let files = folder(&[
        ("a.png", encoded(wide, ImageFormat::Png)),
        ("b.pgm", pgm(1, 1, 7)),
        ("c.pgm", pgm(3, 9, 8)),
    ]);
    let images = read(&files, 1, false).unwrap();
    let [top, bottom] = [images.image(0).unwrap()[..2].to_vec(), images.image(0).unwrap()[2..].to_vec()];
    assert!(top.iter().all(|x| (180..=220).contains(x)) && bottom.iter().all(|x| (80..=120).contains(x)));
    assert_eq!((images.image(1).unwrap(), images.image(2).unwrap()), (&[7; 4][..], &[8; 4][..]));
}

#[test]
fn folders_that_hold_something_else_are_refused() {
    let check = |files: &[(&str, Vec<u8>)], labelled: bool, message: &str| {
        let files = folder(files);
        refused(files.path(), read(&files, 1, labelled), message);
    };
    let none = "DIR: expected pictures (.png, .jpg, .jpeg, .pgm, .ppm, .pbm, .pnm), found none";
    check(&[], false, none);
    check(&[("notes.txt", vec![1])], false, none);
    check(
        &[("a/b.webp", vec![1])],
        false,
        "DIR/a/b.webp: expected PNG, JPEG, PGM or PPM; convert it, or move it away",
    );
    check(
        &[("a/1.pgm", pgm(2, 2, 0)), ("b.pgm", pgm(2, 2, 0))],
        true,
        "DIR/b.pgm: expected pictures in folders, one for each class, as data.labels says, found one beside",
    );
    let photo = RgbImage::from_fn(40, 40, |x, y| Rgb([(x * y % 255) as u8, x as u8, y as u8]));
    for (name, format) in
        [("b.png", ImageFormat::Png), ("b.jpg", ImageFormat::Jpeg), ("b.ppm", ImageFormat::Pnm)]
    {
        let whole = encoded(photo.clone(), format);
        for length in [0, 5, whole.len() / 2, whole.len() - 8] {
            let files = folder(&[("a.pgm", pgm(2, 2, 0)), (name, whole[..length].to_vec())]);
            let message = read(&files, 1, false).unwrap_err().to_string();
            assert!(message.contains(&format!("{name}: expected a ")), "{length}: {message}");
        }
    }
    // Headers that claim more than there is to unpack, or nothing.
    check(
        &[("a.pgm", b"P5 100000 100000 255\n".to_vec())],
        false,
        "DIR/a.pgm: expected 1 to 26214400 pixels, found 100000 x 100000",
    );
    let empty = folder(&[("a.pgm", b"P5 0 5 255\n".to_vec())]);
    assert!(read(&empty, 1, false).unwrap_err().to_string().contains("a.pgm: expected "));
    let missing = Images::read_folder(Path::new("nowhere"), [2, 2], 1, false).unwrap_err().to_string();
    assert!(missing.starts_with("nowhere: cannot read the folder: "), "{missing}");
}

#[test]
fn a_picture_unlike_the_rest_is_mentioned() {
    let mut files: Vec<(String, Vec<u8>)> = (0..20).map(|i| (format!("{i}.pgm"), pgm(2, 2, i))).collect();
    let note = |files: &[(String, Vec<u8>)]| {
        let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        read(&folder(&files), 1, false).unwrap().note().map(str::to_owned)
    };
    assert_eq!(note(&files), None);
    files.push(("odd.jpg".to_owned(), encoded(GrayImage::new(2, 2), ImageFormat::Jpeg)));
    let odd = "of 21 pictures all are .pgm but odd.jpg; move away what does not belong";
    assert_eq!(note(&files).as_deref(), Some(odd));
}

#[test]
fn settings_of_images_are_checked_before_anything_is_read() {
    let open = |text: &str| toml::from_str::<Data>(text).unwrap().open().unwrap_err().to_string();
    assert_eq!(
        open("kind = 'folder'\npath = 'nowhere'\nsize = [0, 8]"),
        "data.size: expected a height and a width from 1 to 4096, found [0, 8]"
    );
    assert_eq!(
        open("kind = 'folder'\npath = 'nowhere'\nsize = [8, 8]\nchannels = 2"),
        "data.channels: expected 1 (grey) or 3 (colour), found 2"
    );
    assert!(toml::from_str::<Data>("kind = 'digits'\nlabels = true").is_err());
    for text in [
        "kind = 'digits'",
        "kind = 'idx'\nimages = 'a'\nlabels = 'b'",
        "kind = 'folder'\npath = 'a'\nsize = [2, 3]",
    ] {
        let data: Data = toml::from_str(text).unwrap();
        assert_eq!(toml::from_str::<Data>(&toml::to_string(&data).unwrap()).unwrap(), data);
    }
}

/// 40 pictures of 8 x 8 pixels, no two alike.
fn pictures() -> Vec<(String, Vec<u8>)> {
    let picture =
        |number: u32| GrayImage::from_fn(9, 11, |x, y| image::Luma([(x * y * number + number) as u8]));
    let format = |number: u32| if number.is_multiple_of(2) { ImageFormat::Png } else { ImageFormat::Pnm };
    (0..40).map(|number| (format!("{number}.png"), encoded(picture(number), format(number)))).collect()
}

/// A run on the pictures of a folder.
fn on_pictures(files: &TempDir) -> Session<f32> {
    let path = files.path().to_str().unwrap();
    session(DIGITS, &[&format!("data={{ kind = \"folder\", path = {path:?}, size = [8, 8] }}")]).unwrap()
}

fn decoder(session: &Session<f32>) -> impl FnOnce() + Send + use<> {
    let Source::Images(images) = session.source() else { panic!("no images") };
    images.decoder().unwrap()
}

#[test]
fn whoever_decodes_a_picture_a_run_comes_to_the_same_end() {
    let files = pictures();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let files = folder(&files);
    let alone = finish(&mut on_pictures(&files));
    let mut first = on_pictures(&files);
    decoder(&first)();
    assert!(finish(&mut first) == alone, "all decoded before the first step");
    for late in 0..3 {
        let mut beside = on_pictures(&files);
        (0..late).for_each(|_| beside.run_step().unwrap());
        let thread = std::thread::spawn(decoder(&beside));
        assert!(finish(&mut beside) == alone, "decoded by a thread from step {late} on");
        thread.join().unwrap();
    }
    let source = on_pictures(&files);
    let decode = decoder(&source);
    drop(source);
    decode();
}

#[test]
fn a_picture_broken_behind_its_header_stops_the_run_where_it_is_needed() {
    let mut files = pictures();
    let whole = files[7].1.clone();
    // Of a PGM, the last pixel; its header is sound.
    files[7].1.pop();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let files = folder(&files);
    let broken = "DIR/7.png: expected a whole picture, found a file that ends before it does";
    let steps = |session: &mut Session<f32>| {
        for step in 0..20 {
            let before = session.to_checkpoint().unwrap();
            if let Err(error) = session.run_step() {
                refused(files.path(), Err::<(), _>(error), broken);
                return (step, before);
            }
        }
        panic!("not one of 20 batches has the broken picture")
    };
    let alone = steps(&mut on_pictures(&files));
    assert!(alone.0 > 0, "the first batch has the broken picture: nothing is tested");
    let mut beside = on_pictures(&files);
    decoder(&beside)();
    assert!(steps(&mut beside) == alone);
    // An evaluation wants them all.
    refused(files.path(), on_pictures(&files).evaluate(5, 0), broken);
    // What a file became after the start is not what the run began with.
    let path = files.path().join("7.png");
    fs::write(&path, &whole).unwrap();
    let session = on_pictures(&files);
    fs::write(&path, &whole[1..]).unwrap();
    let other = "DIR/7.png: expected the file that was there at the start, found another";
    refused(files.path(), session.evaluate(5, 0), other);
    fs::write(&path, &whole).unwrap();
    let session = on_pictures(&files);
    fs::remove_file(&path).unwrap();
    let missing = session.evaluate(5, 0).unwrap_err().to_string();
    assert!(missing.contains("7.png: cannot read: "), "{missing}");
}

/// A small GAN on the digits.
const DIGITS: &str = r#"
data = { kind = "digits" }
latent = { distribution = "normal", mean = 0.0, std = 1.0, dim = 4 }
train = { batch = 6, epochs = 6, stage = 2 }
evaluate = { rows = 20 }

[generator]
input = [4]
layers = [
    { layer = "dense", units = 64, activation = "tanh" },
    { layer = "reshape", target_shape = [8, 8, 1] },
]

[discriminator]
input = [8, 8, 1]
layers = [{ layer = "flatten" }, { layer = "dense", units = 1 }]
"#;

fn session(text: &str, overrides: &[&str]) -> gan::Result<Session<f32>> {
    let overrides: Vec<String> = overrides.iter().map(|&setting| setting.to_owned()).collect();
    Config::parse(text, &overrides).and_then(Session::new)
}

/// Goes on to the end; the last checkpoint, and what each stage gave.
fn finish(session: &mut Session<f32>) -> (Vec<u8>, String) {
    let mut stages = String::new();
    while !session.is_done() {
        session.run_epoch().unwrap();
        if session.stage_is_due() {
            stages += &format!("{:?}", session.finish_stage().unwrap());
        }
    }
    (session.to_checkpoint().unwrap(), stages)
}

#[track_caller]
fn check_resume(overrides: &[&str]) {
    let mut whole = session(DIGITS, overrides).unwrap();
    let mut checkpoints = Vec::new();
    for _ in 0..4 {
        checkpoints.push(whole.to_checkpoint().unwrap());
        whole.run_epoch().unwrap();
        if whole.stage_is_due() {
            whole.finish_stage().unwrap();
        }
    }
    let (expected, _) = finish(&mut whole);
    for bytes in checkpoints {
        let mut again = session(DIGITS, overrides).unwrap();
        again.restore(&bytes).unwrap();
        assert!(finish(&mut again).0 == expected, "another end after epoch {}", again.epoch());
    }
}

#[test]
fn a_run_on_images_goes_on_bit_for_bit() {
    check_resume(&[]);
}

/// All changes, with all that sees changed images: both steps, and every penalty.
const AUGMENTED: &[&str] = &[
    "augment={ flip = true, shift = 0.125, cutout = 0.5, brightness = 0.5, contrast = 0.5 }",
    "objective.kind=relativistic_paired",
    "penalty={ r1 = 0.1, r2 = 0.2, wgan_gp = 0.3 }",
];

#[test]
fn a_run_on_changed_images_goes_on_bit_for_bit_on_any_number_of_threads() {
    check_resume(AUGMENTED);
    let run = || finish(&mut session(DIGITS, &[AUGMENTED, &["train.batch=300"]].concat()).unwrap());
    let expected = run();
    for threads in [1, 3] {
        assert!(tensor_ops::with_threads(threads, run).unwrap() == expected, "{threads} threads");
    }
    assert_ne!(
        expected,
        finish(&mut session(DIGITS, &[&AUGMENTED[1..], &["train.batch=300"]].concat()).unwrap())
    );
}

/// Changes that change nothing, and their adjoints, leave a run as it is but for the random numbers that they take.
#[test]
fn changes_of_no_size_change_no_bit() {
    let plain = finish(&mut session(DIGITS, &["train.epochs=1"]).unwrap());
    // The smallest shift rounds to none. The first step of D alone sees the same real rows.
    let still = finish(&mut session(DIGITS, &["train.epochs=1", "augment.shift=0.01"]).unwrap());
    let weights = |bytes: &[u8]| -> tensor_ops::Tensor<f32> {
        nn::weights::Reader::new(bytes).unwrap().any_tensor("generator.0.kernel").unwrap()
    };
    assert_eq!(weights(&plain.0), weights(&still.0));
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let refused = |overrides: &[&str], message: &str| {
        assert_eq!(session(DIGITS, overrides).unwrap_err().to_string(), message);
    };
    let packed = "train.packing: expected at least 1, and 1 where rows have more than one axis, found 2";
    refused(&["train.batch=2", "train.packing=2", "discriminator.input=[128]"], packed);
    refused(&["augment.shift=1.5"], "augment.shift: expected a number from 0 to 1, found 1.5");
    let flat = [
        "augment.flip=true",
        "data={ kind = \"normal\", mean = 0.0, std = 1.0 }",
        "generator.layers.1.target_shape=[64]",
        "discriminator.input=[64]",
    ];
    refused(&flat, "augment: expected rows of height, width and channels, each seen by itself, found [64]");
}

#[test]
fn rows_of_images_have_their_shape() {
    let refused = |shape: &str, message: &str| {
        let generator = format!("generator.layers.1.target_shape={shape}");
        let error = session(DIGITS, &[&generator, &format!("discriminator.input={shape}")]).unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    let expected = "generator.layers: expected an output [8, 8, 1], a row of the data, found";
    refused("[64]", &format!("{expected} [64]"));
    refused("[16, 4, 1]", &format!("{expected} [16, 4, 1]"));
}

#[test]
fn samples_need_no_images_and_other_images_are_noticed() {
    let image = |grey: u8| pgm(8, 8, grey);
    let files = folder(&[("a.pgm", image(0)), ("b.pgm", image(255))]);
    let path = files.path().to_str().unwrap();
    let data = format!("data={{ kind = \"folder\", path = {path:?}, size = [8, 8] }}");
    let mut run = session(DIGITS, &[&data]).unwrap();
    let bytes = finish(&mut run).0;
    let expected = run.sample(3, 1, None).unwrap();
    assert!(expected.data().iter().all(|x| (0.0..=255.0).contains(x)));

    fs::write(files.path().join("b.pgm"), image(254)).unwrap();
    let error = session(DIGITS, &[&data]).unwrap().restore(&bytes).unwrap_err().to_string();
    assert!(
        error.ends_with("expected the images that the data has now, found others: the files have changed"),
        "{error}"
    );

    fs::remove_file(files.path().join("a.pgm")).unwrap();
    fs::remove_file(files.path().join("b.pgm")).unwrap();
    let mut sampler = Session::<f32>::without_data(run.config().clone()).unwrap();
    sampler.restore(&bytes).unwrap();
    assert_eq!(sampler.sample(3, 1, None).unwrap(), expected);
}

#[test]
fn images_of_one_class_need_no_classifier() {
    let files = folder(&[("a/1.pgm", pgm(8, 8, 0)), ("a/2.pgm", pgm(8, 8, 255))]);
    let path = files.path().to_str().unwrap();
    let data = format!("data={{ kind = \"folder\", path = {path:?}, size = [8, 8], labels = true }}");
    let mut run = session(DIGITS, &[&data]).unwrap();
    assert_eq!(run.prepare_classifier(None, || panic!("a training begins")).unwrap(), None);
}
