//! Random changes of images, for few of them: D sees none as it is, so it cannot learn the data by heart.
//!
//! Real and fake images are changed alike, in the steps of D and of G, and G's gradient flows back through the changes
//! (DiffAugment: Zhao et al., 2020), so that G learns to make images as they are. Each change is linear in the image but
//! for a constant: its adjoint, below it, is what a gradient goes back through. In this order:
//!
//! | setting | change |
//! | --- | --- |
//! | `flip` | left becomes right, every other time |
//! | `contrast` | x becomes mean + c (x - mean), with c from 1 - contrast to 1 + contrast |
//! | `brightness` | a number from -brightness to brightness is added, on the scale from -1 to 1 |
//! | `shift` | by up to this share of each side; what comes in is 0, the middle of the scale |
//! | `cutout` | a rectangle of this share of each side, anywhere, becomes 0 |

use nn::{Wanted, Workspace};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use crate::{Combined, Error, Result};

/// How images are changed before D sees them; nothing is changed unless set.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Whether every other image is mirrored.
    pub flip: bool,
    /// The largest shift, as a share of the side, from 0 to 1; 1/8 in the paper.
    pub shift: f64,
    /// The side of what is cut out, as a share of the image's, from 0 to 1; 1/2 in the paper.
    pub cutout: f64,
    /// The largest change of brightness, from 0 to 1; 1/2 in the paper.
    pub brightness: f64,
    /// The largest change of contrast, from 0 to 1; 1/2 in the paper.
    pub contrast: f64,
}

/// The change of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    flip: bool,
    /// Down and to the right.
    shift: [i64; 2],
    /// The first row and column that is cut out, and the first after it.
    hole: [[i64; 2]; 2],
    brightness: f64,
    contrast: f64,
}

impl Augment {
    /// Whether it changes anything.
    #[must_use]
    pub fn is_on(self) -> bool {
        self != Self::default()
    }

    pub(crate) fn check(self, row: Shape) -> Result<()> {
        let refuse = |field, expected: &str, found: String| {
            Err(Error::Setting { field, expected: expected.to_owned(), found })
        };
        for (field, share) in [
            ("augment.shift", self.shift),
            ("augment.cutout", self.cutout),
            ("augment.brightness", self.brightness),
            ("augment.contrast", self.contrast),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return refuse(field, "a number from 0 to 1", share.to_string());
            }
        }
        // Those are never packed.
        if self.is_on() && row.rank() != 3 {
            return refuse(
                "augment",
                "rows of height, width and channels, each seen by itself",
                row.to_string(),
            );
        }
        Ok(())
    }

    /// Draws the change of an image.
    pub(crate) fn draw(self, image: Shape, rng: &mut impl Rng) -> Change {
        let sides = sides(image);
        let part = |side: usize, share: f64| (side as f64 * share).round() as i64;
        let flip = self.flip & rng.random::<bool>();
        let contrast = 1.0 + self.contrast * (2.0 * rng.random::<f64>() - 1.0);
        let brightness = self.brightness * (2.0 * rng.random::<f64>() - 1.0);
        let shift = sides.map(|side| {
            let most = part(side, self.shift);
            rng.random_range(-most..=most)
        });
        let hole = sides.map(|side| {
            let size = part(side, self.cutout);
            let middle = rng.random_range(0..=side as i64 - (size % 2));
            [middle - size / 2, middle - size / 2 + size]
        });
        let [[top, bottom], [left, end]] = hole;
        let hole = [[top, left], [bottom, end]];
        Change { flip, shift, hole, brightness, contrast }
    }
}

/// The height and width of an image.
fn sides(image: Shape) -> [usize; 2] {
    [0, 1].map(|axis| image.get(axis).copied().unwrap_or(0))
}

impl Change {
    /// Calls `f(from, to)` for each pixel that stays in the picture, with its places before and after the change.
    fn for_each_pixel(&self, image: Shape, mut f: impl FnMut(usize, usize)) {
        let [height, width] = sides(image).map(|side| side as i64);
        let [down, right] = self.shift;
        let [[top, left], [bottom, end]] = self.hole;
        for y in down.max(0)..(height + down).min(height) {
            for x in right.max(0)..(width + right).min(width) {
                if (top..bottom).contains(&y) && (left..end).contains(&x) {
                    continue;
                }
                let column = if self.flip { width - 1 - (x - right) } else { x - right };
                f(((y - down) * width + column) as usize, (y * width + x) as usize);
            }
        }
    }

    /// The changed image.
    #[expect(
        clippy::indexing_slicing,
        reason = "rows are cut by the shape of an image, whose pixels are counted"
    )]
    fn apply<T: Scalar>(&self, image: Shape, from: &[T], to: &mut [T]) {
        let factor = T::from_f64(self.contrast);
        let mean = tensor_ops::sum(from).as_f64() / from.len() as f64;
        let offset = T::from_f64((1.0 - self.contrast) * mean + self.brightness);
        let channels = image.last_dim();
        to.fill(T::zero());
        self.for_each_pixel(image, |before, after| {
            for channel in 0..channels {
                to[after * channels + channel] = factor * from[before * channels + channel] + offset;
            }
        });
    }

    /// The gradient with respect to the image, from that with respect to the changed one.
    #[expect(clippy::indexing_slicing, reason = "as in `apply`")]
    fn adjoint<T: Scalar>(&self, image: Shape, from: &[T], to: &mut [T]) {
        let factor = T::from_f64(self.contrast);
        let channels = image.last_dim();
        to.fill(T::zero());
        self.for_each_pixel(image, |before, after| {
            for channel in 0..channels {
                to[before * channels + channel] = from[after * channels + channel];
            }
        });
        let mean = tensor_ops::sum(to).as_f64() / to.len() as f64;
        let offset = T::from_f64((1.0 - self.contrast) * mean);
        to.iter_mut().for_each(|x| *x = factor * *x + offset);
    }
}

/// Images, each changed by its own change; as they are where there are no changes.
pub(crate) fn apply<T: Scalar>(changes: &[Change], images: View<'_, T>, changed: &mut [T]) {
    if changes.is_empty() {
        return changed.copy_from_slice(images.data());
    }
    each(changes, images, changed, Change::apply);
}

fn each<T: Scalar>(
    changes: &[Change],
    images: View<'_, T>,
    out: &mut [T],
    f: impl Fn(&Change, Shape, &[T], &mut [T]),
) {
    let image = images.shape().without_first();
    let size = image.len().max(1);
    let rows = images.data().chunks_exact(size).zip(out.chunks_exact_mut(size));
    changes.iter().zip(rows).for_each(|(change, (from, to))| f(change, image, from, to));
}

/// Images as D sees them, in `changed`, or as they are where there are no changes.
pub(crate) fn seen<'a, T: Scalar>(
    changes: &[Change],
    images: View<'a, T>,
    changed: &'a mut Tensor<T>,
) -> View<'a, T> {
    if changes.is_empty() {
        return images;
    }
    changed.resize(images.shape());
    apply(changes, images, changed.data_mut());
    changed.view()
}

/// GD with changes between G and D: what it remembers of them.
#[derive(Debug)]
pub(crate) struct Changed<T> {
    /// G's images, changed, as D sees them.
    seen: Tensor<T>,
    /// The gradient of G's images.
    gradient: Tensor<T>,
}

impl<T> Default for Changed<T> {
    fn default() -> Self {
        Self { seen: Tensor::default(), gradient: Tensor::default() }
    }
}

impl<T: Scalar> Changed<T> {
    /// As [`Combined::forward`].
    pub(crate) fn forward<'a>(
        &'a mut self,
        combined: Combined<'_, T>,
        changes: &[Change],
        latent: View<'a, T>,
        [generator, discriminator]: [&'a mut Workspace<T>; 2],
    ) -> nn::Result<View<'a, T>> {
        let images = combined.generator.forward(latent, generator)?;
        combined.discriminator.forward(seen(changes, images, &mut self.seen), discriminator)
    }

    /// As [`Combined::backward`].
    pub(crate) fn backward(
        &mut self,
        combined: Combined<'_, T>,
        changes: &[Change],
        latent: View<'_, T>,
        grad_output: View<'_, T>,
        gradients: &mut [Tensor<T>],
        [generator, discriminator]: [&mut Workspace<T>; 2],
    ) -> nn::Result<()> {
        let through = Wanted { input: true, parameters: false };
        let seen = self.seen.view();
        let grad_seen =
            combined.discriminator.backward(seen, grad_output, through, &mut [], discriminator)?;
        self.gradient.resize(seen.shape());
        each(changes, grad_seen.reshape(seen.shape())?, self.gradient.data_mut(), Change::adjoint);
        let learn = Wanted { input: false, parameters: true };
        combined.generator.backward(latent, self.gradient.view(), learn, gradients, generator)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const NOTHING: Change =
        Change { flip: false, shift: [0, 0], hole: [[0, 0], [0, 0]], brightness: 0.0, contrast: 1.0 };

    fn changed(change: Change) -> Vec<f64> {
        let mut to = [9.0; 6];
        change.apply([2, 3, 1].into(), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut to);
        to.to_vec()
    }

    #[test]
    fn each_change_does_what_it_says() {
        assert_eq!(changed(NOTHING), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(changed(Change { flip: true, ..NOTHING }), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        assert_eq!(changed(Change { shift: [1, -1], ..NOTHING }), [0.0, 0.0, 0.0, 2.0, 3.0, 0.0]);
        let turned = Change { flip: true, shift: [0, 1], ..NOTHING };
        assert_eq!(changed(turned), [0.0, 3.0, 2.0, 0.0, 6.0, 5.0]);
        assert_eq!(changed(Change { hole: [[-1, 1], [1, 9]], ..NOTHING }), [1.0, 0.0, 0.0, 4.0, 5.0, 6.0]);
        let lit = Change { brightness: 0.5, contrast: 2.0, ..NOTHING };
        assert_eq!(changed(lit), [-1.0, 1.0, 3.0, 5.0, 7.0, 9.0]);
    }

    #[test]
    fn each_image_has_a_change_of_its_own() {
        let images = Tensor::from_vec([2, 1, 2, 1], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let seen = |changes: &[Change]| seen(changes, images.view(), &mut Tensor::default()).to_tensor();
        assert_eq!(seen(&[]), images);
        assert_eq!(seen(&[Change { flip: true, ..NOTHING }, NOTHING]).data(), [2.0, 1.0, 3.0, 4.0]);
    }

    /// <A x, y> = <x, A' y>, with A x the change but for its constant.
    #[test]
    fn gradients_go_back_through_the_adjoint() {
        let image = Shape::from([5, 4, 3]);
        let all = Augment { flip: true, shift: 0.3, cutout: 0.4, brightness: 0.5, contrast: 0.5 };
        let rng = &mut ChaCha8Rng::seed_from_u64(2);
        let numbers = |rng: &mut ChaCha8Rng| -> Vec<f64> {
            (0..image.len()).map(|_| rng.random::<f64>() - 0.5).collect()
        };
        for _ in 0..200 {
            let change = all.draw(image, rng);
            let (x, y) = (numbers(rng), numbers(rng));
            let (mut there, mut origin, mut back) = (x.clone(), x.clone(), x.clone());
            change.apply(image, &x, &mut there);
            change.apply(image, &vec![0.0; image.len()], &mut origin);
            change.adjoint(image, &y, &mut back);
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let forwards = product(&there, &y) - product(&origin, &y);
            approx::assert_abs_diff_eq!(forwards, product(&x, &back), epsilon = 1e-13);
        }
    }

    #[test]
    fn changes_stay_within_their_bounds_and_reach_them() {
        let augment = Augment { shift: 0.125, cutout: 0.5, brightness: 0.25, contrast: 0.5, flip: false };
        let rng = &mut ChaCha8Rng::seed_from_u64(3);
        let mut drawn = |sides: [i64; 2]| -> Vec<Change> {
            let image = Shape::from([sides[0] as usize, sides[1] as usize, 1]);
            let changes: Vec<Change> = (0..2000).map(|_| augment.draw(image, rng)).collect();
            for (axis, side) in sides.into_iter().enumerate() {
                let (shift, hole) = ((side as f64 / 8.0).round() as i64, side / 2);
                let shifts = || changes.iter().map(|change| change.shift[axis]);
                assert_eq!((shifts().min(), shifts().max()), (Some(-shift), Some(shift)));
                let starts = || changes.iter().map(|change| change.hole[0][axis]);
                // A hole of an odd size has its middle in a pixel, one of an even size between two.
                let last = side - hole % 2 - hole / 2;
                assert_eq!((starts().min(), starts().max()), (Some(-(hole / 2)), Some(last)));
                assert!(changes.iter().all(|change| change.hole[1][axis] - change.hole[0][axis] == hole));
            }
            changes
        };
        drawn([10, 6]);
        let changes = drawn([16, 8]);
        assert!(changes.iter().all(|change| !change.flip));
        for (of, low, high) in [
            ((|change| change.brightness) as fn(&Change) -> f64, -0.25, 0.25),
            (|change| change.contrast, 0.5, 1.5),
        ] {
            let reached = |near: f64| changes.iter().any(|change| (of(change) - near).abs() < 5e-3);
            assert!(changes.iter().all(|change| (low..high).contains(&of(change))));
            assert!(reached(low) && reached(high));
        }
        let image = Shape::from([16, 8, 1]);
        let none = Augment::default().draw(image, rng);
        let mut out = vec![0.0; 128];
        let x: Vec<f64> = (0..128).map(f64::from).collect();
        none.apply(image, &x, &mut out);
        assert_eq!(out, x);
    }
}
