//! A folder of pictures: PNG, JPEG, PGM and PPM.
//!
//! Each picture is turned upright as its EXIF data say, laid over white where it is transparent, brought to 8 bits, to
//! grey by Rec. 709 luma where grey is wanted, cropped around its middle to the shape of the size, and scaled by Lanczos
//! with 3 lobes, or left as it is where it has the size. Of an animated PNG that is its first picture; a JPEG in CMYK
//! becomes RGB without regard to its colour profile.
//!
//! At first all files are read and their headers checked. A picture is decoded when it is first asked for, from the file
//! as it was then.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{
    DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageReader, Limits, Luma, Pixel, Rgb, RgbImage,
};
use tensor_ops::{Shape, for_each_shard};

use super::images::Labels;
use crate::files::{self, open};
use crate::memory::is_there;
use crate::{Error, Result};

/// The endings of pictures that are read.
const READ: [&str; 7] = ["png", "jpg", "jpeg", "pgm", "ppm", "pbm", "pnm"];
/// The endings of pictures that are not: leaving them out would go unnoticed.
const UNREAD: [&str; 8] = ["gif", "webp", "bmp", "tif", "tiff", "avif", "heic", "jxl"];
/// The most pixels a picture may have, as its header says, before it is decoded.
const MOST_PIXELS: u64 = 25 << 20;
/// The most memory that they may take, in bytes.
const MOST_MEMORY: u64 = 1 << 27;
/// The largest file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 26;
/// The most pixels for each byte of a file, where there are more than so many: a JPEG cannot hold more, and a PNG that does
/// holds nothing to learn. Without a bound a few bytes would keep a decoder busy.
const MOST_IN_A_BYTE: u64 = 1 << 10;
const ANYWAY: u64 = 1 << 18;
/// Pictures of more pixels than that are decoded one at a time, so that memory does not grow with the threads.
const LARGE: u64 = 1 << 22;
/// What is said of a picture whose file ends before it.
const CUT_OFF: &str = "expected a whole picture, found a file that ends before it does";
/// Folders deeper in each other than this are links that lead back.
const DEEPEST: usize = 32;
/// The share of pictures of one kind above which others are mentioned.
const MAJORITY: f64 = 0.9;

/// The pictures of a folder, in the natural order of their names.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    size: [u32; 2],
    channels: usize,
    pictures: Vec<Picture>,
    /// Held while a large picture is decoded.
    turn: Mutex<()>,
}

/// A picture, decoded once; then its pixels, or what is wrong with it.
#[derive(Debug)]
struct Picture {
    name: PathBuf,
    checksum: u32,
    decoded: OnceLock<std::result::Result<Vec<u8>, String>>,
}

impl Folder {
    /// Finds all pictures and checks their headers; with their labels, where they are to have some, and what a person
    /// should know of them.
    pub(super) fn open(
        root: &Path,
        [height, width]: [usize; 2],
        channels: usize,
        labelled: bool,
    ) -> Result<(Self, Option<Labels>, Option<String>)> {
        let mut names = Vec::new();
        list(root, Path::new(""), 0, &mut names)?;
        names.sort_by_cached_key(|name| natural(name));
        if names.is_empty() {
            let message =
                format!("expected pictures ({}), found none", READ.map(|e| format!(".{e}")).join(", "));
            return Err(Error::file(root, message));
        }
        let labels = if labelled { Some(labels(root, &names)?) } else { None };
        let all = Shape::new(&[names.len(), height, width, channels])
            .map_err(|error| Error::file(root, error.to_string()))?;
        if !is_there(all.len()) {
            let message =
                format!("expected memory for {all} pixels, found too little; a smaller size may help");
            return Err(Error::file(root, message));
        }
        let note = note(&names);
        let mut checked: Vec<_> = names.into_iter().map(|name| (name, Ok(0))).collect();
        for_each_shard(&mut checked, |_, (name, checksum)| *checksum = check(&root.join(name)));
        let picture = |(name, checksum): (_, Result<u32>)| {
            Ok(Picture { name, checksum: checksum?, decoded: OnceLock::new() })
        };
        let pictures = checked.into_iter().map(picture).collect::<Result<_>>()?;
        let (root, size) = (root.to_owned(), [height as u32, width as u32]);
        Ok((Self { root, size, channels, pictures, turn: Mutex::new(()) }, labels, note))
    }

    /// How many pictures there are.
    pub(super) fn count(&self) -> usize {
        self.pictures.len()
    }

    /// A checksum of each file.
    pub(super) fn checksums(&self) -> impl Iterator<Item = u32> {
        self.pictures.iter().map(|picture| picture.checksum)
    }

    /// Decodes those of these pictures that nobody has asked for, several at a time.
    pub(super) fn prepare(&self, wanted: impl Iterator<Item = usize>) {
        let picture = |index: &usize| self.pictures.get(*index);
        let is_missing =
            |index: &usize| picture(index).is_some_and(|picture| picture.decoded.get().is_none());
        let mut missing: Vec<usize> = wanted.filter(is_missing).collect();
        for_each_shard(&mut missing, |_, index| drop(self.pixels(*index)));
    }

    /// The pixels of a picture, row by row; it is decoded unless it has been, or is just now by another thread.
    pub(super) fn pixels(&self, index: usize) -> Result<&[u8]> {
        let Some(picture) = self.pictures.get(index) else {
            let message = format!("expected a number below {}, found {index}", self.pictures.len());
            return Err(Error::file(&self.root, message));
        };
        let path = || self.root.join(&picture.name);
        let decoded = picture.decoded.get_or_init(|| {
            let bytes = read(&path()).map_err(|error| format!("cannot read: {error}"))?;
            if checksum(&bytes) != picture.checksum {
                return Err("expected the file that was there at the start, found another".to_owned());
            }
            self.decode(&bytes)
        });
        decoded.as_deref().map_err(|message| Error::file(&path(), message))
    }

    /// How many pictures are decoded.
    #[cfg(test)]
    pub(super) fn decoded(&self) -> usize {
        self.pictures.iter().filter(|picture| picture.decoded.get().is_some()).count()
    }

    /// The pixels of a picture, 1 or 3 channels for each of the size; a large one when it is its turn.
    fn decode(&self, bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
        let mut decoder = header(bytes)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let large = area(&decoder) > LARGE;
        let _turn = large.then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
        let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| broken(&error))?;
        picture.apply_orientation(orientation);
        if picture.color().has_alpha() {
            picture = over_white(picture).into();
        }
        Ok(if self.channels == 1 {
            fitted::<Luma<u8>>(&picture.into_luma8(), self.size)
        } else {
            fitted::<Rgb<u8>>(&picture.into_rgb8(), self.size)
        })
    }
}

/// Adds the names, from `root`, of all pictures in a folder and those in it. What starts with a dot is left out.
fn list(root: &Path, folder: &Path, depth: usize, names: &mut Vec<PathBuf>) -> Result<()> {
    let path: PathBuf = root.join(folder).components().collect();
    if depth > DEEPEST {
        return Err(Error::file(
            &path,
            format!("expected at most {DEEPEST} folders in each other, found more"),
        ));
    }
    for entry in fs::read_dir(&path).map_err(Error::io(&path, "read the folder"))? {
        let name = entry.map_err(Error::io(&path, "read the folder"))?.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let name = folder.join(name);
        let path = root.join(&name);
        let is_folder = fs::metadata(&path).as_ref().is_ok_and(Metadata::is_dir);
        let kind = ending(&name);
        if is_folder {
            list(root, &name, depth + 1, names)?;
        } else if READ.contains(&kind.as_str()) {
            names.push(name);
        } else if UNREAD.contains(&kind.as_str()) {
            return Err(Error::file(&path, "expected PNG, JPEG, PGM or PPM; convert it, or move it away"));
        }
    }
    Ok(())
}

fn ending(name: &Path) -> String {
    name.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

/// A part of a name: numbers are in order of value (their length without zeros, then their digits).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(usize, String),
    Text(String),
}

/// What a name is sorted by, folder by folder, so that 2 comes before 10; 02 and 2 come in the order of their bytes.
fn natural(name: &Path) -> Vec<(Vec<Part>, OsString)> {
    let parts = |name: &OsStr| {
        let text = name.to_string_lossy();
        let mut parts = Vec::new();
        for run in text.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
            let text = String::from_utf8_lossy(run).into_owned();
            let digits = text.trim_start_matches('0');
            let is_number = run.first().is_some_and(u8::is_ascii_digit);
            parts.push(if is_number {
                Part::Number(digits.len(), digits.to_owned())
            } else {
                Part::Text(text)
            });
        }
        (parts, name.to_owned())
    };
    name.iter().map(parts).collect()
}

/// The class of each picture: the folder in `root` that it is in.
fn labels(root: &Path, names: &[PathBuf]) -> Result<Labels> {
    let mut labels = Labels { classes: Vec::new(), of_images: Vec::new() };
    for name in names {
        let mut folders = name.iter();
        let (Some(class), Some(_)) = (folders.next(), folders.next()) else {
            let message =
                "expected pictures in folders, one for each class, as data.labels says, found one beside";
            return Err(Error::file(&root.join(name), message));
        };
        // Sorted by folder first, so a class comes in one piece.
        let class = class.to_string_lossy().into_owned();
        if labels.classes.last() != Some(&class) {
            labels.classes.push(class);
        }
        labels.of_images.push(labels.classes.len() as u32 - 1);
    }
    Ok(labels)
}

/// Mentions the few pictures that are of another kind than nearly all: they may be there by mistake.
fn note(names: &[PathBuf]) -> Option<String> {
    let kind = |name: &Path| ending(name).replace("jpeg", "jpg");
    let count = |wanted: &str| names.iter().filter(|name| kind(name) == wanted).count();
    let most = READ.into_iter().max_by_key(|ending| count(ending))?;
    let odd: Vec<&PathBuf> = names.iter().filter(|name| kind(name) != most).collect();
    let first = odd.first()?.display();
    if (count(most) as f64) < MAJORITY * names.len() as f64 {
        return None;
    }
    let others = if odd.len() > 1 { format!(" and {} more", odd.len() - 1) } else { String::new() };
    let all = names.len();
    Some(format!("of {all} pictures all are .{most} but {first}{others}; move away what does not belong"))
}

/// Reads a file and checks its header; a checksum of it.
fn check(path: &Path) -> Result<u32> {
    open(path)?;
    let bytes = files::read(path, MOST_BYTES)?;
    header(&bytes).map_err(|message| Error::file(path, message))?;
    Ok(checksum(&bytes))
}

/// Reads a file that has been checked, and no more than that allows.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut checksum = flate2::Crc::new();
    checksum.update(bytes);
    checksum.sum()
}

fn broken(error: &ImageError) -> String {
    match error {
        ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => CUT_OFF.to_owned(),
        error => format!("expected a PNG, JPEG, PGM or PPM picture: {error}"),
    }
}

fn area(decoder: &impl ImageDecoder) -> u64 {
    let (wide, high) = decoder.dimensions();
    u64::from(wide) * u64::from(high)
}

/// What decodes a picture, once its header says that this is worth a try.
fn header(bytes: &[u8]) -> std::result::Result<impl ImageDecoder + '_, String> {
    let unread = |error: io::Error| format!("cannot read: {error}");
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(unread)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(2 * MOST_MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| broken(&error))?;
    let ((wide, high), size) = (decoder.dimensions(), bytes.len());
    let pixels = area(&decoder);
    if pixels == 0 || pixels > MOST_PIXELS {
        return Err(format!("expected 1 to {MOST_PIXELS} pixels, found {wide} x {high}"));
    }
    let most = ANYWAY.max(MOST_IN_A_BYTE * size as u64);
    if pixels > most {
        return Err(format!("expected at most {most} pixels in {size} bytes, found {wide} x {high}"));
    }
    let bytes_of_pixels = decoder.total_bytes();
    if bytes_of_pixels > MOST_MEMORY {
        return Err(format!("expected at most {MOST_MEMORY} bytes of pixels, found {bytes_of_pixels}"));
    }
    if is_cut_off(bytes) {
        return Err(CUT_OFF.to_owned());
    }
    Ok(decoder)
}

/// Whether a PNG or a JPEG has no end; the decoder of the latter fills what is missing with grey.
fn is_cut_off(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"\x89PNG") {
        return !bytes.windows(8).any(|end| end == b"IEND\xaeB`\x82");
    }
    let mut at = 2;
    while let [0xff, 0xd8, ..] = bytes
        && let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4)
        && marker != 0xda
    {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    // In what follows, a marker cannot be part of something else; before it, a small preview may have an end of its own.
    let is_end = |pair: &[u8]| pair == [0xff, 0xd9];
    bytes.starts_with(&[0xff, 0xd8]) && !bytes.get(at..).is_some_and(|rest| rest.windows(2).any(is_end))
}

fn over_white(picture: DynamicImage) -> RgbImage {
    let mut over = RgbImage::new(picture.width(), picture.height());
    for (pixel, over) in picture.into_rgba8().pixels().zip(over.pixels_mut()) {
        let [colour @ .., alpha] = pixel.0.map(u32::from);
        *over = Rgb(colour.map(|x| ((x * alpha + 255 * (255 - alpha) + 127) / 255) as u8));
    }
    over
}

/// The largest part around the middle that has the shape of the size, scaled to it.
fn fitted<P: Pixel<Subpixel = u8> + 'static>(
    picture: &ImageBuffer<P, Vec<u8>>,
    [height, width]: [u32; 2],
) -> Vec<u8> {
    let (wide, high) = picture.dimensions();
    let share = |side: u32, of: u32, to: u32| {
        ((u64::from(side) * u64::from(of) + u64::from(to) / 2) / u64::from(to)).max(1)
    };
    let cropped_wide = share(high, width, height).min(u64::from(wide)) as u32;
    let cropped_high = share(wide, height, width).min(u64::from(high)) as u32;
    let (left, top) = ((wide - cropped_wide) / 2, (high - cropped_high) / 2);
    let middle = imageops::crop_imm(picture, left, top, cropped_wide, cropped_high);
    imageops::resize(&*middle, width, height, FilterType::Lanczos3).into_raw()
}
