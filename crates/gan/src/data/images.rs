//! Images of one size, with or without labels.
//!
//! Pixels stay in memory as bytes, from 0 to `most`. The networks see them scaled to [-1, 1], as what a tanh gives;
//! samples are mapped back. Those of a folder are decoded when they are first needed, or by [`Images::decoder`] meanwhile:
//! which, and when, changes no bit.

use std::path::Path;
use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View, matmul_nt};

use super::folder::Folder;
use super::idx;
use crate::{Error, Result};

/// The digits that come with the program, each a line of 64 pixels from 0 to 16 and the label.
const DIGITS: &str = include_str!("../../../nn/data/optdigits.csv");
/// How many images are compared at a time.
const COMPARED: usize = 1024;

/// What is known of images without having them: samples are mapped back by it, and other images do not pass for them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageFacts {
    /// The shape of an image: height, width, channels.
    pub shape: [usize; 3],
    /// The value of the brightest pixel there can be.
    pub most: u8,
    /// How many images there are.
    pub count: usize,
    /// The names of the classes, where images have labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// A checksum (CRC-32) of all pixels, or, of a folder, of the checksums of all files; then of all labels.
    pub checksum: u32,
}

/// Images in memory.
#[derive(Debug, Clone)]
pub struct Images {
    facts: ImageFacts,
    pixels: Pixels,
    /// The class of each image; none without classes.
    labels: Vec<u32>,
    note: Option<String>,
}

/// Where the pixels of images are.
#[derive(Debug, Clone)]
enum Pixels {
    /// Here, image after image, each row by row; none where only the facts are known.
    Here(Vec<u8>),
    /// In pictures that may yet have to be decoded.
    Folder(Arc<Folder>),
}

/// A label for each image: the names of the classes, and which of them each image has.
pub(super) struct Labels {
    pub(super) classes: Vec<String>,
    pub(super) of_images: Vec<u32>,
}

impl Images {
    /// The 1,797 handwritten digits of 8 x 8 pixels that come with the program, with labels.
    #[must_use]
    pub fn digits() -> Self {
        let (mut pixels, mut digits) = (Vec::new(), Vec::new());
        for line in DIGITS.lines().skip(1) {
            let mut numbers = line.split(',').filter_map(|number| number.parse::<u8>().ok());
            pixels.extend(numbers.by_ref().take(64));
            digits.extend(numbers);
        }
        Self::new([8, 8, 1], 16, Pixels::Here(pixels), Some(Labels::of(&digits)))
    }

    /// Reads images, and labels for them, from files in the IDX format of MNIST, plain or gzipped.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read, [`Error::File`] where it is not what it should be.
    pub fn read_idx(images: &Path, labels: Option<&Path>) -> Result<Self> {
        let ([count, height, width], pixels) = idx::read(images, "images")?;
        let labels = labels.map(|path| match idx::read(path, "labels")? {
            ([found], digits) if found == count => Ok(Labels::of(&digits)),
            ([found], _) => {
                let expected = format!("{count} labels, one for each image of {}", images.display());
                Err(Error::file(path, format!("expected {expected}, found {found}")))
            }
        });
        Ok(Self::new([height, width, 1], u8::MAX, Pixels::Here(pixels), labels.transpose()?))
    }

    /// Finds all images of a folder and the folders in it, to be scaled and cropped around the middle to one height and
    /// width, in grey (1 channel) or colour (3). Where `labelled`, each folder in it is a class. The headers of all are
    /// checked; what is wrong behind them shows when an image is needed.
    ///
    /// # Errors
    /// [`Error::Io`] where something cannot be read, [`Error::File`] for a file that is not what it should be, and where
    /// there are no images.
    pub fn read_folder(path: &Path, size: [usize; 2], channels: usize, labelled: bool) -> Result<Self> {
        super::check_pictures(size, channels)?;
        let (folder, labels, note) = Folder::open(path, size, channels, labelled)?;
        let [height, width] = size;
        let pixels = Pixels::Folder(Arc::new(folder));
        Ok(Self { note, ..Self::new([height, width, channels], u8::MAX, pixels, labels) })
    }

    fn new(shape: [usize; 3], most: u8, pixels: Pixels, labels: Option<Labels>) -> Self {
        let (classes, labels) =
            labels.map_or((None, Vec::new()), |labels| (Some(labels.classes), labels.of_images));
        let mut checksum = flate2::Crc::new();
        let count = match &pixels {
            Pixels::Here(pixels) => {
                checksum.update(pixels);
                pixels.len() / shape.iter().product::<usize>().max(1)
            }
            Pixels::Folder(folder) => {
                folder.checksums().for_each(|sum| checksum.update(&sum.to_le_bytes()));
                folder.count()
            }
        };
        labels.iter().for_each(|label| checksum.update(&label.to_le_bytes()));
        let facts = ImageFacts { shape, most, count, classes, checksum: checksum.sum() };
        Self { facts, pixels, labels, note: None }
    }

    /// Images that are not there: for mapping samples back.
    pub(crate) fn without_rows(facts: ImageFacts) -> Self {
        Self { facts, pixels: Pixels::Here(Vec::new()), labels: Vec::new(), note: None }
    }

    /// What is known of them.
    #[must_use]
    pub fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    /// What a person should know about where they come from: files unlike the rest.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// One black image like these.
    pub(crate) fn blank(&self) -> Self {
        Self::new(self.facts.shape, self.facts.most, Pixels::Here(vec![0; self.width()]), None)
    }

    /// Whether these are the images of a checkpoint. One of an earlier version has a checksum of a folder's pixels.
    pub(crate) fn are(&self, known: &ImageFacts) -> bool {
        let with = |checksum| ImageFacts { checksum, ..self.facts.clone() };
        if self.facts == *known || with(known.checksum) != *known || matches!(self.pixels, Pixels::Here(_)) {
            return self.facts == *known;
        }
        let mut checksum = flate2::Crc::new();
        self.prepare(0..self.facts.count);
        let are_sound =
            (0..self.facts.count).all(|index| self.image(index).map(|p| checksum.update(p)).is_ok());
        self.labels.iter().for_each(|label| checksum.update(&label.to_le_bytes()));
        are_sound && checksum.sum() == known.checksum
    }

    /// What decodes, one after the other, all images that are not decoded yet, to be run on a thread of its own, as long
    /// as there are these images; `None` where there is nothing to decode.
    pub fn decoder(&self) -> Option<impl FnOnce() + Send + use<>> {
        let Pixels::Folder(folder) = &self.pixels else { return None };
        let (folder, count) = (Arc::downgrade(folder), self.facts.count);
        Some(move || {
            // A broken one is reported to who needs it.
            let decode = |index| folder.upgrade().map(|folder| drop(folder.pixels(index)));
            (0..count).map_while(decode).for_each(drop);
        })
    }

    /// The shape of an image; `None` where it is not known yet.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        (self.facts.shape != [0; 3]).then(|| self.facts.shape.into())
    }

    /// How many pixels an image has, those of each channel counted.
    #[must_use]
    pub fn width(&self) -> usize {
        self.facts.shape.iter().product()
    }

    /// Fills `out` with images drawn at random, each as often as any other, scaled to [-1, 1]; with NaN where there are
    /// none. The numbers of the images become `drawn`.
    fn fill_with<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T], drawn: &mut Vec<usize>) -> Result<()> {
        drawn.clear();
        if !self.are_there() {
            out.fill(T::nan());
            return Ok(());
        }
        let rows = out.len() / self.width().max(1);
        drawn.extend((0..rows).map(|_| rng.random_range(0..self.facts.count)));
        self.copy(drawn, out)
    }

    /// Copies images of these numbers to `out`, scaled to [-1, 1].
    fn copy<T: Scalar>(&self, numbers: &[usize], out: &mut [T]) -> Result<()> {
        self.prepare(numbers.iter().copied());
        let mut rows = out.chunks_exact_mut(self.width().max(1)).zip(numbers);
        rows.try_for_each(|(row, &index)| self.image(index).map(|pixels| self.scaled(pixels, row)))
    }

    /// Fills `out` with images drawn at random, each as often as any other, scaled to [-1, 1]; with NaN where there are
    /// none.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is broken behind its header.
    pub fn fill<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T]) -> Result<()> {
        self.fill_with(rng, out, &mut Vec::new())
    }

    /// As [`Images::fill`], from the same random numbers the same images; their classes become `labels`.
    ///
    /// # Errors
    /// As [`Images::fill`].
    pub fn fill_labelled<T: Scalar>(
        &self,
        rng: &mut impl Rng,
        out: &mut [T],
        labels: &mut Vec<usize>,
    ) -> Result<()> {
        self.fill_with(rng, out, labels)?;
        self.classify(labels);
        Ok(())
    }

    /// Fills `a` as [`Images::fill`] does, and `b` with images that are not in `a`, each once while there are any left: as
    /// a perfect sampler would, whose images are new. The classes of the latter become `labels`.
    pub(crate) fn fill_apart<T: Scalar>(
        &self,
        rng: &mut impl Rng,
        [a, b]: [&mut [T]; 2],
        labels: &mut Vec<usize>,
    ) -> Result<()> {
        let mut drawn = vec![false; self.facts.count];
        self.fill_with(rng, a, labels)?;
        for &index in &*labels {
            if let Some(drawn) = drawn.get_mut(index) {
                *drawn = true;
            }
        }
        let all = drawn.iter().all(|drawn| *drawn);
        let left = drawn.into_iter().enumerate().filter(|(_, drawn)| all || !drawn);
        let mut left: Vec<usize> = left.map(|(index, _)| index).collect();
        left.shuffle(rng);
        let rows = b.len() / self.width().max(1);
        labels.clear();
        labels.extend(left.into_iter().cycle().take(rows));
        self.copy(labels, b)?;
        self.classify(labels);
        Ok(())
    }

    /// Turns numbers of images into their classes, none without classes.
    fn classify(&self, numbers: &mut Vec<usize>) {
        numbers.retain_mut(|number| {
            let label = self.labels.get(*number);
            label.map(|&label| *number = label as usize).is_some()
        });
    }

    /// The pixels of an image, row by row.
    ///
    /// # Errors
    /// As [`Images::fill`].
    pub fn image(&self, index: usize) -> Result<&[u8]> {
        match &self.pixels {
            Pixels::Here(pixels) => {
                let (start, width) = (index.saturating_mul(self.width()), self.width());
                pixels.get(start..).and_then(|rest| rest.get(..width)).ok_or_else(|| self.no_image(index))
            }
            Pixels::Folder(folder) => folder.pixels(index),
        }
    }

    fn no_image(&self, index: usize) -> Error {
        let expected = format!("a number below {}", self.facts.count);
        Error::Setting { field: "image", expected, found: index.to_string() }
    }

    /// Decodes those of these images that are not decoded yet, several at a time.
    fn prepare(&self, numbers: impl Iterator<Item = usize>) {
        if let Pixels::Folder(folder) = &self.pixels {
            folder.prepare(numbers);
        }
    }

    /// Whether not only the facts are known.
    fn are_there(&self) -> bool {
        !matches!(&self.pixels, Pixels::Here(pixels) if pixels.is_empty())
    }

    fn scaled<T: Scalar>(&self, pixels: &[u8], out: &mut [T]) {
        let middle = self.middle();
        out.iter_mut().zip(pixels).for_each(|(x, &pixel)| *x = T::from_f64(f64::from(pixel) / middle - 1.0));
    }

    fn middle(&self) -> f64 {
        f64::from(self.facts.most) / 2.0
    }

    /// Maps images scaled to [-1, 1] back to pixels.
    pub fn restore<T: Scalar>(&self, rows: &mut [T]) {
        let middle = self.middle();
        rows.iter_mut().for_each(|x| *x = T::from_f64((x.as_f64() + 1.0) * middle));
    }

    /// Scales pixels to [-1, 1].
    pub fn standardise<T: Scalar>(&self, rows: &mut [T]) {
        let middle = self.middle();
        rows.iter_mut().for_each(|x| *x = T::from_f64(x.as_f64() / middle - 1.0));
    }

    /// For each image of `rows`, scaled to [-1, 1], the two that are nearest to it, nearest first: their numbers, and the
    /// Euclidean distances of the scaled images.
    ///
    /// # Errors
    /// [`Error::Network`] where the images have another size; as [`Images::fill`].
    pub fn nearest(&self, rows: View<'_, f32>) -> Result<Vec<[(usize, f64); 2]>> {
        let failed = |error: tensor_ops::Error| Error::network("nearest images")(error.into());
        // Where only facts are known there are no images, and none is near.
        let (width, known) = (self.width().max(1), if self.are_there() { self.facts.count } else { 0 });
        let square = |row: &[f32]| row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        let count = rows.shape().len() / width;
        let rows = rows.reshape([count, width]).map_err(failed)?;
        let mut nearest = vec![[(0, f64::INFINITY); 2]; count];
        let (mut images, mut products) = (Tensor::<f32>::default(), Tensor::default());
        for first in (0..known).step_by(COMPARED) {
            let some = COMPARED.min(known - first);
            images.resize([some, width]);
            let numbers: Vec<usize> = (first..first + some).collect();
            self.copy(&numbers, images.data_mut())?;
            products.resize([count, some]);
            matmul_nt(rows, images.view(), &mut products).map_err(failed)?;
            let squares: Vec<f64> = images.data().chunks_exact(width).map(square).collect();
            for (best, products) in nearest.iter_mut().zip(products.data().chunks_exact(some)) {
                for (place, (product, square)) in products.iter().zip(&squares).enumerate() {
                    // The squared distance but for the row's own square, the same for all.
                    keep_nearer(best, (first + place, square - 2.0 * f64::from(*product)));
                }
            }
        }
        let mut image = vec![0.0_f32; width];
        for (best, row) in nearest.iter_mut().zip(rows.data().chunks_exact(width)) {
            for (index, distance) in best.iter_mut() {
                self.scaled(self.image(*index)?, &mut image);
                image.iter_mut().zip(row).for_each(|(x, y)| *x -= y);
                *distance = square(&image).sqrt();
            }
            best.sort_by(|a, b| a.1.total_cmp(&b.1));
        }
        Ok(nearest)
    }
}

/// Keeps the two nearest, the first one of equals.
fn keep_nearer(best: &mut [(usize, f64); 2], found: (usize, f64)) {
    if found.1 < best[0].1 {
        *best = [found, best[0]];
    } else if found.1 < best[1].1 {
        best[1] = found;
    }
}

impl Labels {
    /// A class for each number that occurs, in their order.
    #[expect(clippy::indexing_slicing, reason = "there is a place for each byte")]
    fn of(numbers: &[u8]) -> Self {
        let mut class = [None; 256];
        numbers.iter().for_each(|&number| class[usize::from(number)] = Some(0));
        let mut classes = Vec::new();
        for (number, class) in class.iter_mut().enumerate().filter(|(_, class)| class.is_some()) {
            *class = Some(classes.len() as u32);
            classes.push(number.to_string());
        }
        let of_images = numbers.iter().filter_map(|&number| class[usize::from(number)]).collect();
        Self { classes, of_images }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_digits_are_all_there() {
        let digits = Images::digits();
        let facts = digits.facts();
        assert_eq!((facts.count, facts.shape, facts.most), (1797, [8, 8, 1], 16));
        assert_eq!(facts.classes.as_ref().map(|names| names.join("")), Some("0123456789".to_owned()));
        assert_eq!((digits.image(1796).unwrap().iter().max(), digits.labels.len()), (Some(&16), 1797));
        assert_eq!((digits.labels[0], &digits.image(0).unwrap()[..8]), (0, &[0, 0, 5, 13, 9, 1, 0, 0][..]));
    }

    #[test]
    fn labels_ride_along_with_the_same_rows() {
        let digits = Images::digits();
        let draw = |seed| ChaCha8Rng::seed_from_u64(seed);
        let (mut rows, mut labelled, mut labels) = (vec![0.0_f32; 640], vec![0.0_f32; 640], Vec::new());
        digits.fill(&mut draw(3), &mut rows).unwrap();
        digits.fill_labelled(&mut draw(3), &mut labelled, &mut labels).unwrap();
        assert_eq!(rows, labelled);
        let view = Tensor::from_vec([10, 64], rows).unwrap();
        let found = digits.nearest(view.view()).unwrap();
        assert!(found.iter().all(|[(_, first), (_, second)]| *first == 0.0 && *second > 0.0), "{found:?}");
        let nearest: Vec<usize> =
            found.iter().map(|[(index, _), _]| digits.labels[*index] as usize).collect();
        assert_eq!(nearest, labels);
    }

    #[test]
    fn samples_apart_have_no_image_in_common() {
        let digits = Images::digits();
        let (mut a, mut b) = (vec![0.0_f32; 64 * 500], vec![0.0_f32; 64 * 500]);
        digits.fill_apart(&mut ChaCha8Rng::seed_from_u64(5), [&mut a, &mut b], &mut Vec::new()).unwrap();
        let numbers = |rows: Vec<f32>| -> std::collections::BTreeSet<usize> {
            let rows = Tensor::from_vec([500, 64], rows).unwrap();
            digits.nearest(rows.view()).unwrap().iter().map(|[(index, _), _]| *index).collect()
        };
        let (a, b) = (numbers(a), numbers(b));
        assert!(a.is_disjoint(&b) && a.len() > 400);
        assert_eq!(b.len(), 500);
        let one = Images::new([1, 1, 1], u8::MAX, Pixels::Here(vec![255]), None);
        let (mut a, mut b) = ([0.0_f64; 2], [0.0_f64; 2]);
        one.fill_apart(&mut ChaCha8Rng::seed_from_u64(5), [&mut a, &mut b], &mut Vec::new()).unwrap();
        assert_eq!((a, b), ([1.0; 2], [1.0; 2]));
    }

    #[test]
    fn pixels_are_scaled_and_mapped_back() {
        let images = Images::new([1, 3, 1], u8::MAX, Pixels::Here(vec![0, 51, 255]), None);
        let mut row = [0.0_f64; 3];
        images.fill(&mut ChaCha8Rng::seed_from_u64(0), &mut row).unwrap();
        assert_eq!((row[0], row[2]), (-1.0, 1.0));
        images.restore(&mut row);
        row.iter()
            .zip([0.0, 51.0, 255.0])
            .for_each(|(a, b)| approx::assert_abs_diff_eq!(*a, b, epsilon = 1e-12));
        images.standardise(&mut row);
        approx::assert_abs_diff_eq!(row[1], -0.6, epsilon = 1e-12);
    }

    #[test]
    fn classes_are_the_labels_that_occur() {
        let Labels { classes, of_images } = Labels::of(&[7, 1, 255, 1]);
        assert_eq!((classes.join(" "), of_images), ("1 7 255".to_owned(), vec![1, 0, 2, 0]));
    }

    /// A folder of 50 pictures of one grey each, and its images.
    fn folder() -> (tempfile::TempDir, Images) {
        let folder = tempfile::tempdir().unwrap();
        for grey in 0..50_u8 {
            let name = folder.path().join(format!("{grey}.pgm"));
            std::fs::write(name, [&b"P5 2 2 255\n"[..], &[grey; 4]].concat()).unwrap();
        }
        let images = Images::read_folder(folder.path(), [2, 2], 1, false).unwrap();
        (folder, images)
    }

    fn decoded(images: &Images) -> usize {
        let Pixels::Folder(folder) = &images.pixels else { panic!("{images:?}") };
        folder.decoded()
    }

    #[test]
    fn a_batch_waits_for_its_own_images_alone() {
        let (_files, images) = folder();
        assert_eq!((images.facts().count, decoded(&images)), (50, 0));
        let mut rows = [0.0_f64; 12];
        images.fill(&mut ChaCha8Rng::seed_from_u64(2), &mut rows).unwrap();
        images.restore(&mut rows);
        let greys = rows.chunks(4).map(|row| row[0].round() as usize);
        let greys: std::collections::BTreeSet<usize> = greys.collect();
        assert!(greys.len() > 1 && decoded(&images) == greys.len(), "{greys:?}");
        assert!(greys.iter().all(|&grey| images.image(grey).unwrap() == [grey as u8; 4]));
        assert_eq!(decoded(&images), greys.len());
        images.decoder().unwrap()();
        assert_eq!(decoded(&images), 50);
        assert!((0..50).all(|grey| images.image(grey).unwrap() == [grey as u8; 4]));
    }

    #[test]
    fn a_folder_is_known_by_its_files_or_as_before_by_its_pixels() {
        let (_files, images) = folder();
        let before = Images::new([2, 2, 1], 255, Pixels::Here((0..50).flat_map(|x| [x; 4]).collect()), None);
        let facts = before.facts().clone();
        assert!(images.are(&images.facts().clone()) && decoded(&images) == 0);
        assert!(!images.are(&ImageFacts { count: 49, ..facts.clone() }) && decoded(&images) == 0);
        assert!(facts.checksum != images.facts().checksum && images.are(&facts) && decoded(&images) == 50);
        assert!(!images.are(&ImageFacts { checksum: facts.checksum ^ 1, ..facts }));
    }

    #[test]
    fn the_nearest_are_found_as_by_looking_at_each() {
        let digits = Images::digits();
        let mut rows = Tensor::<f32>::zeros([3, 64]);
        let pattern = |(i, x): (usize, &mut f32)| *x = (i * i % 17) as f32 / 8.0 - 1.0;
        rows.data_mut().iter_mut().enumerate().for_each(pattern);
        for (row, [first, second]) in rows.data().chunks_exact(64).zip(digits.nearest(rows.view()).unwrap()) {
            let mut distances: Vec<(f64, usize)> = (0..1797)
                .map(|index| {
                    let mut image = [0.0_f32; 64];
                    digits.scaled(digits.image(index).unwrap(), &mut image);
                    let square: f64 = image.iter().zip(row).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                    (square.sqrt(), index)
                })
                .collect();
            distances.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert_eq!((first.0, second.0), (distances[0].1, distances[1].1));
            approx::assert_relative_eq!(first.1, distances[0].0, max_relative = 1e-6);
        }
    }
}
