//! Images of one size, with or without labels.
//!
//! Pixels stay in memory as bytes, from 0 to `most`. The networks see them scaled to [-1, 1], as what a tanh gives;
//! samples are mapped back.

use std::path::Path;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View, matmul_nt};

use super::{folder, idx};
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
    /// A checksum (CRC-32) of all pixels, then all labels.
    pub checksum: u32,
}

/// Images in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    facts: ImageFacts,
    /// Image after image, each row by row; none where only the facts are known.
    pixels: Vec<u8>,
    /// The class of each image; none without classes.
    labels: Vec<u32>,
    note: Option<String>,
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
        Self::new([8, 8, 1], 16, pixels, Some(Labels::of(&digits)))
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
        Ok(Self::new([height, width, 1], u8::MAX, pixels, labels.transpose()?))
    }

    /// Reads all images of a folder and the folders in it, scales them and crops them around the middle to one height and
    /// width, in grey (1 channel) or colour (3). Where `labelled`, each folder in it is a class.
    ///
    /// # Errors
    /// [`Error::Io`] where something cannot be read, [`Error::File`] for a file that is not what it should be, and where
    /// there are no images.
    pub fn read_folder(path: &Path, size: [usize; 2], channels: usize, labelled: bool) -> Result<Self> {
        let folder::Contents { pixels, labels, note } = folder::read(path, size, channels, labelled)?;
        let [height, width] = size;
        Ok(Self { note, ..Self::new([height, width, channels], u8::MAX, pixels, labels) })
    }

    fn new(shape: [usize; 3], most: u8, pixels: Vec<u8>, labels: Option<Labels>) -> Self {
        let count = pixels.len() / shape.iter().product::<usize>().max(1);
        let (classes, labels) =
            labels.map_or((None, Vec::new()), |labels| (Some(labels.classes), labels.of_images));
        let mut checksum = flate2::Crc::new();
        checksum.update(&pixels);
        labels.iter().for_each(|label| checksum.update(&label.to_le_bytes()));
        let facts = ImageFacts { shape, most, count, classes, checksum: checksum.sum() };
        Self { facts, pixels, labels, note: None }
    }

    /// Images that are not there: for mapping samples back.
    pub(crate) fn without_rows(facts: ImageFacts) -> Self {
        Self { facts, pixels: Vec::new(), labels: Vec::new(), note: None }
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
    /// none. Calls `drawn` with the number of each.
    fn fill_with<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T], mut drawn: impl FnMut(usize)) {
        if self.pixels.is_empty() {
            return out.fill(T::nan());
        }
        for row in out.chunks_exact_mut(self.width()) {
            let index = rng.random_range(0..self.facts.count);
            self.scaled(self.image(index), row);
            drawn(index);
        }
    }

    /// Fills `out` with images drawn at random, each as often as any other, scaled to [-1, 1]; with NaN where there are
    /// none.
    pub fn fill<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T]) {
        self.fill_with(rng, out, |_| {});
    }

    /// As [`Images::fill`], from the same random numbers the same images; their classes become `labels`.
    pub fn fill_labelled<T: Scalar>(&self, rng: &mut impl Rng, out: &mut [T], labels: &mut Vec<usize>) {
        labels.clear();
        self.fill_with(rng, out, |index| labels.extend(self.labels.get(index).map(|&label| label as usize)));
    }

    /// Fills `a` as [`Images::fill`] does, and `b` with images that are not in `a`, each once while there are any left: as
    /// a perfect sampler would, whose images are new. The classes of the latter become `labels`.
    pub(crate) fn fill_apart<T: Scalar>(
        &self,
        rng: &mut impl Rng,
        [a, b]: [&mut [T]; 2],
        labels: &mut Vec<usize>,
    ) {
        let mut drawn = vec![false; self.facts.count];
        self.fill_with(rng, a, |index| drawn[index] = true);
        let all = drawn.iter().all(|drawn| *drawn);
        let mut left: Vec<usize> = (0..drawn.len()).filter(|&index| all || !drawn[index]).collect();
        left.shuffle(rng);
        labels.clear();
        for (row, &index) in b.chunks_exact_mut(self.width().max(1)).zip(left.iter().cycle()) {
            self.scaled(self.image(index), row);
            labels.extend(self.labels.get(index).map(|&label| label as usize));
        }
    }

    /// The pixels of an image, row by row.
    #[must_use]
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.width()..][..self.width()]
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
    /// Where the images have another size.
    pub fn nearest(&self, rows: View<'_, f32>) -> tensor_ops::Result<Vec<[(usize, f64); 2]>> {
        let width = self.width();
        let square = |row: &[f32]| row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        let count = rows.shape().len() / width.max(1);
        let rows = rows.reshape([count, width])?;
        let mut nearest = vec![[(0, f64::INFINITY); 2]; count];
        let (mut images, mut products) = (Tensor::<f32>::default(), Tensor::default());
        for first in (0..self.facts.count).step_by(COMPARED) {
            let some = COMPARED.min(self.facts.count - first);
            images.resize([some, width]);
            self.scaled(&self.pixels[first * width..][..some * width], images.data_mut());
            products.resize([count, some]);
            matmul_nt(rows, images.view(), &mut products)?;
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
                self.scaled(self.image(*index), &mut image);
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
        assert_eq!((digits.pixels.iter().max(), digits.labels.len()), (Some(&16), 1797));
        assert_eq!((digits.labels[0], &digits.image(0)[..8]), (0, &[0, 0, 5, 13, 9, 1, 0, 0][..]));
    }

    #[test]
    fn labels_ride_along_with_the_same_rows() {
        let digits = Images::digits();
        let draw = |seed| ChaCha8Rng::seed_from_u64(seed);
        let (mut rows, mut labelled, mut labels) = (vec![0.0_f32; 640], vec![0.0_f32; 640], Vec::new());
        digits.fill(&mut draw(3), &mut rows);
        digits.fill_labelled(&mut draw(3), &mut labelled, &mut labels);
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
        digits.fill_apart(&mut ChaCha8Rng::seed_from_u64(5), [&mut a, &mut b], &mut Vec::new());
        let numbers = |rows: Vec<f32>| -> std::collections::BTreeSet<usize> {
            let rows = Tensor::from_vec([500, 64], rows).unwrap();
            digits.nearest(rows.view()).unwrap().iter().map(|[(index, _), _]| *index).collect()
        };
        let (a, b) = (numbers(a), numbers(b));
        assert!(a.is_disjoint(&b) && a.len() > 400);
        assert_eq!(b.len(), 500);
        let one = Images::new([1, 1, 1], u8::MAX, vec![255], None);
        let (mut a, mut b) = ([0.0_f64; 2], [0.0_f64; 2]);
        one.fill_apart(&mut ChaCha8Rng::seed_from_u64(5), [&mut a, &mut b], &mut Vec::new());
        assert_eq!((a, b), ([1.0; 2], [1.0; 2]));
    }

    #[test]
    fn pixels_are_scaled_and_mapped_back() {
        let images = Images::new([1, 3, 1], u8::MAX, vec![0, 51, 255], None);
        let mut row = [0.0_f64; 3];
        images.fill(&mut ChaCha8Rng::seed_from_u64(0), &mut row);
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
                    digits.scaled(digits.image(index), &mut image);
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
