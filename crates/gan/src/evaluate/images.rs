//! How close generated images are to real ones, as points in a space of features.
//!
//! Where the data have labels, the features are those of a [`Classifier`]. Else they are the pixels themselves, scaled to
//! [-1, 1]: two images are near each other where they agree pixel by pixel.

use tensor_ops::Tensor;

use super::classifier::{self, label_accuracy};
use super::points::{Rows, compare};
use super::{Classifier, Kind, Value};
use crate::{Images, Result};

/// Images of each kind of which all pairs are looked at.
const PAIRED: usize = 1000;
/// Images of each kind that are compared with all of the data.
const SOUGHT: usize = 128;

/// The measures of points on features: those that a classifier sees, with what it says of them, or the pixels
/// themselves; and the mean Euclidean distance of an image to the nearest one of the data, of real ones to the nearest
/// other, which is what images of the same kind that were held out would show. Below that, samples are copies; above it,
/// they are unlike the data.
///
/// `fresh` says that the generated images are not themselves out of the data.
pub(super) fn measure(
    images: &Images,
    classifier: Option<&Classifier>,
    real: &[f64],
    (generated, labels): (&[f64], &[usize]),
    fresh: bool,
) -> Result<Vec<Value>> {
    let width = images.width();
    let look =
        |classifier: &Classifier| Some((classifier.look(real).ok()?, classifier.look(generated).ok()?));
    let mut values = match classifier.and_then(look) {
        Some((of_real, of_generated)) => {
            let mut values = compare(of_real.rows(), of_generated.rows(), PAIRED);
            values.extend(classifier::measure(&of_real, &of_generated));
            if !labels.is_empty() {
                let value = label_accuracy(&of_generated, labels);
                values.push(Value { name: "label_accuracy", kind: Kind::Score, value });
            }
            values
        }
        None => compare(Rows { data: real, width }, Rows { data: generated, width }, PAIRED),
    };
    let [held_out, value] = nearest_distances(images, [(real, false), (generated, fresh)])?;
    values.push(Value { name: "nearest_distance", kind: Kind::Statistic(held_out), value });
    Ok(values)
}

/// The mean distance of images to the nearest of the data, for two samples and whether they are fresh.
fn nearest_distances(images: &Images, samples: [(&[f64], bool); 2]) -> Result<[f64; 2]> {
    let width = images.width().max(1);
    let sought = samples.map(|(rows, _)| rows.get(..SOUGHT * width).unwrap_or(rows));
    let rows: Vec<f32> = sought.concat().into_iter().map(|x| x as f32).collect();
    let rows = Tensor::from_vec([rows.len() / width, width], rows).unwrap_or_default();
    let mut nearest = images.nearest(rows.view())?.into_iter();
    Ok(samples.map(|(rows, fresh)| {
        let count = rows.len().min(SOUGHT * width) / width;
        // An image out of the data is the nearest to itself.
        let distance = |[first, second]: [(usize, f64); 2]| if fresh { first.1 } else { second.1 };
        nearest.by_ref().take(count).map(distance).sum::<f64>() / count as f64
    }))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn nearest(rows: &[f64], fresh: bool) -> (f64, f64) {
        let images = Images::digits();
        let mut real = vec![0.0; 64 * 100];
        images.fill(&mut ChaCha8Rng::seed_from_u64(1), &mut real).unwrap();
        let generated = if rows.is_empty() { &real } else { rows };
        let values = measure(&images, None, &real, (generated, &[]), fresh).unwrap();
        let value = values.into_iter().find(|value| value.name == "nearest_distance").unwrap();
        let Kind::Statistic(held_out) = value.kind else { panic!("{value:?}") };
        (held_out, value.value)
    }

    #[test]
    fn copies_are_nearer_and_noise_further_than_what_was_held_out() {
        let (held_out, value) = nearest(&[], false);
        assert_eq!(held_out, value);
        assert!((1.0..4.0).contains(&held_out), "{held_out}");
        assert_eq!(nearest(&[], true).1, 0.0);
        let noise: Vec<f64> = (0..6400).map(|i| f64::from(i) * 0.37 % 2.0 - 1.0).collect();
        assert!(nearest(&noise, true).1 > 2.0 * held_out);
    }

    #[test]
    fn the_nearest_are_sought_for_the_first_128() {
        let images = Images::digits();
        let mut rows = vec![0.0; 64 * (SOUGHT + 1)];
        images.fill(&mut ChaCha8Rng::seed_from_u64(2), &mut rows).unwrap();
        // The last of those, and the first after them, are unlike all data.
        rows[64 * (SOUGHT - 1)..].fill(-5.0);
        let of_first = nearest(&rows[..64 * SOUGHT], true).1;
        assert!(of_first > 0.0);
        assert_eq!(nearest(&rows, true).1, of_first);
    }
}
