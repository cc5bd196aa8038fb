//! Images: IDX files, plain and gzipped, with labels; folders of pictures.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};

use crate::bytes::{bomb, cut, flipped, put, unzipped, zipped};
use crate::{Case, config};

pub(crate) fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| file.extend_from_slice(&size.to_be_bytes()));
    file.extend_from_slice(bytes);
    file
}

pub(crate) fn cases() -> Vec<Case> {
    [idx_cases(), label_cases(), folder_cases(), picture_cases()].into_iter().flatten().collect()
}

fn idx_cases() -> Vec<Case> {
    let config = config("{ kind = \"idx\", images = \"images\" }", &[2, 2, 1]);
    let case = |what: String, bytes: Vec<u8>| {
        Case::train(format!("idx: {what}"), &config, "images").with("images", bytes)
    };
    let good = idx(&[6, 2, 2], &(0..24).collect::<Vec<u8>>());
    let packed = zipped(&good);
    let mut cases = Vec::new();
    cases.extend(cut(&good, 40).map(|(length, bytes)| case(format!("cut to {length} bytes"), bytes)));
    cases.extend(cut(&packed, 25).map(|(length, bytes)| case(format!("gzip cut to {length} bytes"), bytes)));
    // Of a gzip header, the time and the system may be anything.
    let places = (0..4).chain(10..packed.len());
    let broken = places.step_by(2).map(|at| (at, flipped(&packed, at)));
    let broken = broken.filter(|(_, bytes)| unzipped(bytes).is_none_or(|bytes| bytes != good));
    cases.extend(broken.map(|(at, bytes)| case(format!("gzip with byte {at} flipped"), bytes)));
    cases.extend((0..4).map(|at| case(format!("byte {at} of the magic"), flipped(&good, at))));
    for kind in [9, 11, 12, 13, 14] {
        cases.push(case(format!("numbers of type {kind}"), put(&good, 2, &[kind])));
    }
    for axes in [0, 1, 2, 4, 255] {
        cases.push(case(format!("{axes} axes"), put(&good, 3, &[axes])));
    }
    for axis in 0..3 {
        for size in [0, 5, 7, 1 << 31, u32::MAX] {
            let lying = put(&good, 4 + 4 * axis, &u32::to_be_bytes(size));
            cases.push(case(format!("{size} on axis {axis}"), lying.clone()));
            cases.push(case(format!("gzip: {size} on axis {axis}"), zipped(&lying)));
        }
    }
    cases.push(case("2^40 images".to_owned(), idx(&[1 << 31, 1 << 9, 1], &[0; 64])));
    cases.push(case("2^96 pixels".to_owned(), idx(&[u32::MAX; 3], &[0; 64])));
    cases.push(case("a bomb".to_owned(), bomb(&idx(&[1 << 28, 2, 2], &[]), 100)));
    cases.push(case("a bomb that memory holds".to_owned(), bomb(&idx(&[25 << 20, 2, 2], &[]), 100)));
    cases.push(case("a bomb that says less".to_owned(), bomb(&good, 100)));
    cases.push(case("more than it says".to_owned(), [&good[..], &[0]].concat()));
    cases.push(case("gzip in gzip".to_owned(), zipped(&packed)));
    cases.push(case("text after gzip".to_owned(), [&packed[..], b"text"].concat()));
    for (what, before) in [
        ("missing", ""),
        ("a folder", "mkdir images"),
        ("a pipe", "mkfifo images"),
        ("a device", "ln -s /dev/zero images"),
        ("unending zeros", "truncate -s 1T images"),
    ] {
        cases.push(Case::train(format!("idx: {what}"), &config, "images").before(before));
    }
    cases
}

fn label_cases() -> Vec<Case> {
    let config = config("{ kind = \"idx\", images = \"images\", labels = \"labels\" }", &[2, 2, 1]);
    let (images, good) = (idx(&[6, 2, 2], &[7; 24]), idx(&[6], &[0, 1, 0, 1, 0, 1]));
    let case = |what: String, bytes: Vec<u8>| {
        Case::train(format!("labels: {what}"), &config, "labels")
            .with("images", &images[..])
            .with("labels", bytes)
    };
    let mut cases: Vec<Case> =
        cut(&good, 15).map(|(length, bytes)| case(format!("cut to {length} bytes"), bytes)).collect();
    cases.push(case("one too few".to_owned(), idx(&[5], &[0; 5])));
    cases.push(case("one too many".to_owned(), idx(&[7], &[0; 7])));
    cases.push(case("none".to_owned(), idx(&[0], &[])));
    cases.push(case("2^32 - 1".to_owned(), idx(&[u32::MAX], &[0; 6])));
    cases.push(case("images".to_owned(), images.clone()));
    cases.push(case("a bomb".to_owned(), bomb(&idx(&[1 << 30], &[]), 100)));
    cases.push(Case::train("labels: missing", &config, "labels").with("images", &images[..]));
    cases
}

fn folder_config(size: &str, more: &str) -> String {
    config(&format!("{{ kind = \"folder\", path = \"pictures\", size = {size}{more} }}"), &[2, 2, 1])
}

fn folder_cases() -> Vec<Case> {
    let config = folder_config("[2, 2]", "");
    let mut cases = Vec::new();
    for (size, names) in [
        ("[0, 2]", "data.size"),
        ("[2, 0]", "data.size"),
        ("[5000, 2]", "data.size"),
        ("[9223372036854775807, 9223372036854775807]", "data.size"),
        ("[-1, 2]", "mine.toml"),
        ("[2]", "mine.toml"),
        ("[2, 2, 1]", "mine.toml"),
        ("2", "mine.toml"),
        ("[nan, 2]", "mine.toml"),
        ("[3, 2]", "generator.layers"),
    ] {
        let config = folder_config(size, "");
        cases.push(
            Case::train(format!("size {size}"), &config, names).with("pictures/a.pgm", "P5 1 1 255\n\0"),
        );
    }
    for (channels, names) in [
        ("0", "data.channels"),
        ("2", "data.channels"),
        ("9223372036854775807", "data.channels"),
        ("-1", "mine.toml"),
        ("\"grey\"", "mine.toml"),
    ] {
        let config = folder_config("[2, 2]", &format!(", channels = {channels}"));
        let case = Case::train(format!("{channels} channels"), &config, names);
        cases.push(case.with("pictures/a.pgm", "P5 1 1 255\n\0"));
    }
    for (what, before) in [
        ("missing", ""),
        ("empty", "mkdir pictures"),
        ("a file", "touch pictures"),
        ("without pictures", "mkdir pictures; touch pictures/text.txt"),
        ("with a pipe", "mkdir pictures; mkfifo pictures/a.png"),
        ("with a device", "mkdir pictures; ln -s /dev/zero pictures/a.png"),
        ("with a link to nothing", "mkdir pictures; ln -s nothing pictures/a.png"),
        ("in itself", "mkdir pictures; ln -s . pictures/again; touch pictures/a.png"),
        ("with a large file", "mkdir pictures; truncate -s 1T pictures/a.png"),
        ("with a WebP", "mkdir pictures; touch pictures/a.webp"),
    ] {
        cases.push(Case::train(format!("a folder {what}"), &config, "pictures").before(before));
    }
    let labelled = folder_config("[2, 2]", ", labels = true");
    let beside = Case::train("a picture beside classes", &labelled, "pictures/b.pgm");
    cases.push(beside.with("pictures/a/a.pgm", "P5 1 1 255\n\0").with("pictures/b.pgm", "P5 1 1 255\n\0"));
    cases
}

pub(crate) fn encoded(format: ImageFormat, [width, height]: [u32; 2]) -> Vec<u8> {
    let picture =
        RgbImage::from_fn(width, height, |x, y| image::Rgb([12 * x as u8, 20 * y as u8, (x * y) as u8]));
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(picture).write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A PNG of zeros in grey, of one bit or more a pixel, which says to have a size and holds so many rows.
pub(crate) fn png(size: [u32; 2], bits: u8, rows: usize) -> Vec<u8> {
    let mut lines = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let row = vec![0; 1 + (size[0] as usize * usize::from(bits)).div_ceil(8)];
    (0..rows).for_each(|_| std::io::Write::write_all(&mut lines, &row).unwrap());
    let header = [&size[0].to_be_bytes()[..], &size[1].to_be_bytes(), &[bits, 0, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, bytes) in [(b"IHDR", header), (b"IDAT", lines.finish().unwrap()), (b"IEND", Vec::new())] {
        let mut checksum = flate2::Crc::new();
        checksum.update(name);
        checksum.update(&bytes);
        file.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        file.extend([&name[..], &bytes, &checksum.sum().to_be_bytes()].concat());
    }
    file
}

fn picture_cases() -> Vec<Case> {
    let config = folder_config("[2, 2]", "");
    let case = |what: String, ending: &str, bytes: Vec<u8>| {
        let name = format!("pictures/a.{ending}");
        Case::train(format!("{ending}: {what}"), &config, &name).with(&name, bytes)
    };
    let (good_png, good_jpeg) = (encoded(ImageFormat::Png, [20, 10]), encoded(ImageFormat::Jpeg, [20, 10]));
    let mut cases = Vec::new();
    cases.extend(
        cut(&good_png, 25).map(|(length, bytes)| case(format!("cut to {length} bytes"), "png", bytes)),
    );
    cases.extend(
        cut(&good_jpeg, 30).map(|(length, bytes)| case(format!("cut to {length} bytes"), "jpg", bytes)),
    );
    for at in (0..8).chain(12..33) {
        cases.push(case(format!("byte {at} flipped"), "png", flipped(&good_png, at)));
    }
    let frame = good_jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    for (what, place, bytes) in [
        ("no start", 0, &[0, 0][..]),
        ("no pixels", frame + 5, &[0, 0, 0, 0]),
        ("2^32 pixels", frame + 5, &[0xff, 0xff, 0xff, 0xff]),
        ("2^24 pixels in few bytes", frame + 5, &[0x10, 0, 0x10, 0]),
        ("12 bits", frame + 4, &[12]),
        ("no channels", frame + 9, &[0]),
        ("5 channels", frame + 9, &[5]),
        ("arithmetic coding", frame, &[0xff, 0xc9]),
        ("lossless", frame, &[0xff, 0xc3]),
    ] {
        cases.push(case(what.to_owned(), "jpg", put(&good_jpeg, place, bytes)));
    }
    for size in
        [[0, 1], [1, 0], [1 << 31, 1], [u32::MAX, u32::MAX], [0x7fff_ffff, 0x7fff_ffff], [1 << 15, 1 << 15]]
    {
        cases.push(case(format!("{size:?} pixels"), "png", png(size, 8, 1)));
    }
    cases.push(case("a bomb".to_owned(), "png", png([1 << 15, 1 << 15], 1, 1 << 15)));
    cases.push(case("a bomb of 2 bytes a pixel".to_owned(), "png", png([6000, 6000], 16, 6000)));
    cases.push(case("far fewer rows than it says".to_owned(), "png", png([2000, 2000], 16, 3)));
    cases.push(case("fewer rows than it says".to_owned(), "png", png([20, 20], 8, 3)).late());
    let pixels = good_png.windows(4).position(|name| name == b"IDAT").unwrap() + 20;
    cases.push(case("a pixel flipped".to_owned(), "png", flipped(&good_png, pixels)).late());
    for bits in [0, 3, 5, 32, 255] {
        cases.push(case(format!("{bits} bits"), "png", png([4, 4], bits, 4)));
    }
    for header in [
        "",
        "P",
        "P5",
        "P5 ",
        "P5 2",
        "P5 2 2",
        "P5 0 2 255\nabcd",
        "P5 2 2 0\nabcd",
        "P5 2 2 65536\nabcdefgh",
        "P5 -2 2 255\nabcd",
        "P5 2.0 2 255\nabcd",
        "P5 x 2 255\nabcd",
        "P5 4294967296 4294967296 255\nabcd",
        "P5 4294967295 4294967295 255\nabcd",
        "P5 99999999999999999999 2 255\nabcd",
        "P5 100000 100000 255\nabcd",
        "P0 2 2 255\nabcd",
        "P9 2 2 255\nabcd",
        "P7\nWIDTH 2\nHEIGHT 2\nDEPTH 9\nMAXVAL 255\nTUPLTYPE X\nENDHDR\nabcd",
        "GIF89a\x01\0\x01\0\0\0\0;",
        "RIFF\0\0\0\0WEBPVP8 ",
        "BM",
        "<svg/>",
        "{}",
    ] {
        cases.push(case(header.to_owned(), "pnm", header.as_bytes().to_vec()));
    }
    for pixels in [
        "P5 2 2 255",
        "P5 2 2 255\n",
        "P5 2 2 255\nabc",
        "P6 2 2 255\nabcdefghijk",
        "P2 2 2 255\n1 2 3",
        "P2 2 2 255\n1 2 3 x",
        "P2 2 2 255\n1 2 3 256",
        "P2 2 2 255\n1 2 3 -4",
    ] {
        cases.push(case(pixels.to_owned(), "pnm", pixels.as_bytes().to_vec()).late());
    }
    cases
}
