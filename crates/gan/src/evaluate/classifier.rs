//! A classifier of labelled images, in whose features generated images are compared with real ones.
//!
//! Its layers and its training are fixed, down to the random numbers, so that figures of runs on the same images can be
//! compared: two convolutions of 32 and 64 filters, 3 x 3, with stride 2, a dense layer of 64 features, all with ReLU, and
//! a softmax over the classes; 3,000 steps of Adam on batches of 64 images.

use nn::layers::{Conv2D, Dense, Flatten, Padding};
use nn::{Activation, Layer, Loss, Model, Network, Optimizer, Workspace, weights};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tensor_ops::{Shape, Tensor};

use super::points::Rows;
use super::{Kind, Value, frechet_distance};
use crate::{Error, Images, Result};

const STEPS: usize = 3_000;
const BATCH: usize = 64;
/// How many images are looked at together.
const LOOKED: usize = 256;
/// Of the layers, the one whose output is the features.
const FEATURES: usize = 3;
/// How sure of a class the classifier is of an image that counts as confident.
const CONFIDENT: f64 = 0.9;
/// The key of the metadata that says what a file of weights was trained on.
const METADATA: &str = "images";

/// A classifier that has been trained.
#[derive(Debug)]
pub struct Classifier {
    network: Network<f32>,
    checksum: u32,
}

/// What a classifier sees in images: a row of features and one of probabilities for each.
pub(super) struct Seen {
    features: Tensor<f64>,
    probabilities: Tensor<f64>,
}

impl Classifier {
    /// Trains one on labelled images. The same images give the same bits.
    ///
    /// # Errors
    /// [`Error::Network`] for images without labels, or too small ones; as [`Images::fill`].
    pub fn train(images: &Images) -> Result<Self> {
        let network = network(images)?;
        let failed = Error::network("classifier");
        let classes = network.output_shape().len();
        let mut model =
            Model::new(network, Loss::CATEGORICAL_CROSSENTROPY, Optimizer::adam(1e-3)).map_err(&failed)?;
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let [height, width, channels] = images.facts().shape;
        let mut batch = Tensor::zeros([BATCH, height, width, channels]);
        let (mut targets, mut labels) = (Tensor::zeros([BATCH, classes]), Vec::new());
        for _ in 0..STEPS {
            images.fill_labelled(rng, batch.data_mut(), &mut labels)?;
            targets.fill(0.0);
            for (row, &label) in targets.data_mut().chunks_exact_mut(classes).zip(&labels) {
                if let Some(target) = row.get_mut(label) {
                    *target = 1.0;
                }
            }
            model.train_on_batch(batch.view(), targets.view()).map_err(&failed)?;
        }
        let mut network = self::network(images)?;
        for (own, trained) in network.parameters_mut().iter_mut().zip(model.network().parameters()) {
            own.value.copy_from(trained.value.view());
        }
        Ok(Self { network, checksum: images.facts().checksum })
    }

    /// The weights as the bytes of a safetensors file, which says what images they were trained on.
    ///
    /// # Errors
    /// [`Error::Network`] where the format cannot hold them.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let tensors = self.network.parameters().iter().map(|p| (p.key(), &p.value));
        weights::write(tensors, (METADATA, self.checksum.to_string())).map_err(Error::network("classifier"))
    }

    /// Takes weights from such a file; `None` where it was trained on other images, or is not sealed.
    ///
    /// # Errors
    /// [`Error::Network`] for a file that is not what it should be.
    pub fn from_safetensors(images: &Images, bytes: &[u8]) -> Result<Option<Self>> {
        let failed = Error::network("classifier");
        let file = weights::Reader::new(bytes).map_err(&failed)?;
        let checksum = images.facts().checksum;
        if !file.is_sealed() || file.metadata(METADATA) != Some(&checksum.to_string()) {
            return Ok(None);
        }
        let mut network = network(images)?;
        network.load_safetensors(bytes).map_err(&failed)?;
        Ok(Some(Self { network, checksum }))
    }

    /// What it sees in images, scaled to [-1, 1], one after the other.
    pub(super) fn look(&self, images: &[f64]) -> nn::Result<Seen> {
        let (row, classes) = (self.network.input_shape(), self.network.output_shape().len());
        let count = images.len() / row.len().max(1);
        let mut workspace = Workspace::default();
        let (mut features, mut probabilities) = (Vec::new(), Vec::with_capacity(count * classes));
        for part in images.chunks(LOOKED * row.len()) {
            let pixels = part.iter().map(|&x| x as f32).collect();
            let part = Tensor::from_vec(row.with_first(part.len() / row.len())?, pixels)?;
            let seen = self.network.forward(part.view(), &mut workspace)?;
            probabilities.extend(seen.data().iter().map(|&x| f64::from(x)));
            let of_layer = workspace.children.get(FEATURES).map_or(&[][..], |child| child.output.data());
            features.extend(of_layer.iter().map(|&x| f64::from(x)));
        }
        let width = features.len() / count.max(1);
        Ok(Seen {
            features: Tensor::from_vec([count, width], features)?,
            probabilities: Tensor::from_vec([count, classes], probabilities)?,
        })
    }
}

/// The layers, with weights from a fixed seed.
fn network(images: &Images) -> Result<Network<f32>> {
    let conv = |filters| Conv2D {
        strides: [2, 2],
        padding: Padding::Same,
        activation: Activation::Relu,
        ..Conv2D::new(filters, [3, 3])
    };
    let classes = images.facts().classes.as_ref().map_or(0, Vec::len);
    let layers: Vec<Box<dyn Layer<f32>>> = vec![
        Box::new(conv(32)),
        Box::new(conv(64)),
        Box::new(Flatten {}),
        Box::new(Dense { activation: Activation::Relu, ..Dense::new(64) }),
        Box::new(Dense { activation: Activation::Softmax, ..Dense::new(classes) }),
    ];
    let shape = Shape::from(images.facts().shape);
    Network::new(shape, layers, &mut ChaCha8Rng::seed_from_u64(0)).map_err(Error::network("classifier"))
}

impl Seen {
    /// How many images, at least 1.
    fn count(&self) -> f64 {
        self.probabilities.shape().first_dim().max(1) as f64
    }

    /// The features, for measures of points.
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows { data: self.features.data(), width: self.features.shape().last_dim() }
    }

    /// The most likely class of each image, and how likely it is.
    fn classes(&self) -> impl Iterator<Item = (usize, f64)> {
        let classes = self.probabilities.shape().last_dim().max(1);
        self.probabilities.data().chunks_exact(classes).map(|row| {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or((0, 0.0), |(class, &probability)| (class, probability))
        })
    }

    /// How many images are taken to be of each class, as shares.
    fn shares(&self) -> Vec<f64> {
        let mut shares = vec![0.0; self.probabilities.shape().last_dim()];
        let count = self.count();
        for (class, _) in self.classes() {
            if let Some(share) = shares.get_mut(class) {
                *share += 1.0 / count;
            }
        }
        shares
    }
}

/// The names of the measures below, in their order.
pub(super) const NAMES: [&str; 5] =
    ["frechet_distance", "kernel_distance", "smallest_class", "largest_class", "confident"];

/// What a classifier says of generated images beside real ones: the squared Frechet and the squared kernel distance of
/// their features, the smallest and the largest share of a class, and the share of images that it is sure of.
pub(super) fn measure(real: &Seen, generated: &Seen) -> Vec<Value> {
    let frechet = frechet_distance(real.features.view(), generated.features.view()).unwrap_or(f64::NAN);
    let kernel = kernel_distance(real.rows(), generated.rows());
    let [of_real, of_generated] = [real, generated].map(Seen::shares);
    let confident = |seen: &Seen| {
        let sure = seen.classes().filter(|(_, probability)| *probability > CONFIDENT).count();
        sure as f64 / seen.count()
    };
    let smallest = |shares: &[f64]| shares.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = |shares: &[f64]| shares.iter().copied().fold(0.0, f64::max);
    let kinds = [
        (Kind::Distance, frechet),
        (Kind::Distance, kernel),
        (Kind::Statistic(smallest(&of_real)), smallest(&of_generated)),
        (Kind::Statistic(largest(&of_real)), largest(&of_generated)),
        (Kind::Statistic(confident(real)), confident(generated)),
    ];
    NAMES.into_iter().zip(kinds).map(|(name, (kind, value))| Value { name, kind, value }).collect()
}

/// The share of images that the classifier takes to be of the class that they were made for.
pub(super) fn label_accuracy(seen: &Seen, labels: &[usize]) -> f64 {
    let right = seen.classes().zip(labels).filter(|((class, _), label)| class == *label).count();
    right as f64 / labels.len().max(1) as f64
}

/// The unbiased estimate of the squared maximum mean discrepancy with the kernel (x . y / features + 1)^3, on at most
/// 1,000 rows of each (Binkowski et al., 2018).
fn kernel_distance(real: Rows<'_>, generated: Rows<'_>) -> f64 {
    const PAIRED: usize = 1000;
    let (real, generated) = (real.first(PAIRED), generated.first(PAIRED));
    let mean = |a: Rows<'_>, b: Rows<'_>, same: bool| {
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (i, x) in a.data.chunks_exact(a.width.max(1)).enumerate() {
            for (_, y) in b.data.chunks_exact(b.width.max(1)).enumerate().filter(|(j, _)| !same || i != *j) {
                let product: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                sum += (product / a.width as f64 + 1.0).powi(3);
                pairs += 1.0;
            }
        }
        sum / pairs
    };
    mean(real, real, true) + mean(generated, generated, true) - 2.0 * mean(real, generated, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Session};

    fn drawn(seed: u64, count: usize) -> (Vec<f64>, Vec<usize>) {
        let (mut rows, mut labels) = (vec![0.0; 64 * count], Vec::new());
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        Images::digits().fill_labelled(rng, &mut rows, &mut labels).unwrap();
        (rows, labels)
    }

    #[test]
    fn digits_are_told_apart_and_noise_is_far_from_them() {
        let images = Images::digits();
        let config = Config::parse(crate::preset("digits").unwrap(), &[]).unwrap();
        let [mut session, mut other] = [0, 1].map(|_| Session::<f32>::new(config.clone()).unwrap());
        let mut begun = 0;
        let bytes = session.prepare_classifier(None, || begun += 1).unwrap().unwrap();
        assert!(session.evaluate(20, 1).unwrap().evaluation.get("confident").is_some());
        assert!(other.evaluate(20, 1).unwrap().evaluation.get("confident").is_none());
        // It is trained once: not by those that have it, or are given it.
        assert_eq!(session.prepare_classifier(None, || begun += 1).unwrap(), None);
        assert_eq!(other.prepare_classifier(Some(&bytes), || begun += 1).unwrap(), None);
        assert_eq!(other.evaluate(20, 1).unwrap(), session.evaluate(20, 1).unwrap());
        assert_eq!(begun, 1);
        let classifier = Classifier::from_safetensors(&images, &bytes).unwrap().unwrap();
        let ((a, labels), (b, _)) = (drawn(1, 500), drawn(2, 500));
        let [seen, other] = [&a, &b].map(|rows| classifier.look(rows).unwrap());
        assert!(label_accuracy(&seen, &labels) > 0.99);
        for (labels, known) in [(&labels[..], true), (&[], false)] {
            let of =
                super::super::images::measure(&images, Some(&classifier), &b, (&a, labels), false).unwrap();
            assert_eq!(of.iter().any(|value| value.name == "label_accuracy"), known);
        }
        let noise: Vec<f64> = (0..64 * 500).map(|i| f64::from(i) * 0.37 % 2.0 - 1.0).collect();
        let noise = classifier.look(&noise).unwrap();
        let (near, far) = (measure(&seen, &other), measure(&seen, &noise));
        assert!(near[0].value < 0.05 * far[0].value, "{near:?} {far:?}");
        assert!(near[1].value < 0.05 * far[1].value, "{near:?} {far:?}");
        assert!((0.05..0.1).contains(&near[2].value) && (0.1..0.15).contains(&near[3].value), "{near:?}");

        assert_eq!(classifier.to_safetensors().unwrap(), bytes);
        let fewer = Images::without_rows(crate::ImageFacts { checksum: 1, ..images.facts().clone() });
        assert!(Classifier::from_safetensors(&fewer, &bytes).unwrap().is_none());
    }

    #[test]
    fn classes_are_counted_by_what_is_most_likely() {
        let seen = |probabilities: [[f64; 2]; 4]| Seen {
            features: Tensor::from_vec([4, 1], vec![0.0, 1.0, 2.0, 5.0]).unwrap(),
            probabilities: Tensor::from_vec([4, 2], probabilities.concat()).unwrap(),
        };
        let real = seen([[0.1, 0.9], [0.95, 0.05], [0.8, 0.2], [0.3, 0.7]]);
        let generated = seen([[0.91, 0.09], [0.0, 1.0], [0.6, 0.4], [0.99, 0.01]]);
        let found: Vec<_> =
            measure(&real, &generated)[2..].iter().map(|v| (v.name, v.kind, v.value)).collect();
        let expected = [
            ("smallest_class", Kind::Statistic(0.5), 0.25),
            ("largest_class", Kind::Statistic(0.5), 0.75),
            // 0.9 itself is not above it.
            ("confident", Kind::Statistic(0.25), 0.75),
        ];
        assert_eq!(found, expected);
        assert_eq!(label_accuracy(&generated, &[0, 1, 0, 1]), 0.75);
        assert!(measure(&real, &real)[0].value.abs() < 1e-12);
    }

    #[test]
    fn the_kernel_distance_is_that_of_its_formula() {
        let (a, b) = ([1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 1.0, 1.0]);
        let [real, generated] = [&a, &b].map(|data| Rows { data, width: 2 });
        // Kernels: 1 of (1,0).(0,2), 1.5^3 of (0,1).(1,1); across 1, 1.5^3, 2^3 and 2^3.
        let expected = 1.0 + 3.375 - 2.0 * (1.0 + 3.375 + 8.0 + 8.0) / 4.0;
        assert!((kernel_distance(real, generated) - expected).abs() < 1e-12);
    }
}
