//! How close generated rows are to real ones, beside what a perfect sampler would show.
//!
//! | of | measures |
//! | --- | --- |
//! | numbers | mean, standard deviation, skewness and quantiles of both; Kolmogorov-Smirnov, Wasserstein-1 and energy distance; for a mixture the largest error of a component's weight |
//! | points and tables | sliced Wasserstein distance, unbiased squared MMD, precision, recall, density, coverage; for each column the largest KS and Wasserstein-1 distance; the largest difference of a correlation |
//! | points around known modes | modes captured, share of high-quality samples, reverse KL divergence |
//! | images | in the features of a classifier, where they have labels, else of the pixels: sliced Wasserstein distance, unbiased squared MMD, precision, recall, density, coverage; with a classifier Frechet and kernel distance, shares of the classes, confidence; mean distance to the nearest image of the data |
//!
//! Numbers are compared with their distribution itself, as its quantiles in equal steps, and all others with a sample of
//! real data as large as theirs.
//!
//! A perfect sampler is not at distance 0 either: beside each value stands the **floor**, the mean of the same measure over
//! real samples of the same size in the place of generated ones, all drawn anew (images so that none is on both sides); for a
//! statistic, such as the mean, the mean of the absolute difference. A generator is as good as can be told when it reaches
//! the floor.

mod classifier;
mod images;
mod modes;
mod numbers;
mod points;

use rand::Rng;
use serde::Serialize;

pub use classifier::Classifier;
pub use numbers::{energy_distance, ks_normal, ks_two_sample, mean_std, quantile, skewness, wasserstein_1};
pub use points::{frechet_distance, mmd_rbf, sliced_wasserstein};

use crate::{Distribution, Points, Result, Source};

/// Real samples in the place of generated ones from which the floor is computed.
const SAMPLES: usize = 10;

/// What a larger value means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing: it is to be near that of the real rows, which is here.
    Statistic(f64),
    /// The samples are further apart.
    Distance,
    /// The samples are better.
    Score,
}

/// A measure of generated rows, without a floor.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Value {
    name: &'static str,
    kind: Kind,
    value: f64,
}

/// A measure of generated rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measure {
    /// Its name.
    pub name: &'static str,
    /// What a larger value means.
    pub kind: Kind,
    /// Its value.
    pub value: f64,
    /// What a perfect sampler would show: the expected value, or, for a statistic, the expected difference.
    pub floor: f64,
}

impl Measure {
    /// How far the value is from what it should be: the value of a distance or a score, the difference of a statistic.
    #[must_use]
    pub fn shown(&self) -> f64 {
        match self.kind {
            Kind::Statistic(real) => (self.value - real).abs(),
            Kind::Distance | Kind::Score => self.value,
        }
    }

    /// Whether it reaches a bound: at most, or, for a score, at least.
    #[must_use]
    pub fn reaches(&self, bound: f64) -> bool {
        if self.kind == Kind::Score { self.shown() >= bound } else { self.shown() <= bound }
    }
}

/// All measures of generated rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many rows, or single numbers, each sample has.
    pub count: usize,
    /// The measures.
    pub measures: Vec<Measure>,
}

impl Evaluation {
    /// A measure by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.name == name)
    }

    /// The value of a measure; NaN where there is none of that name.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        self.get(name).map_or(f64::NAN, |measure| measure.value)
    }
}

/// What each measure of a source shows for a perfect sampler, at one sample size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Floor {
    values: Vec<f64>,
    /// Of a distribution of numbers, as many of its quantiles: what takes the place of a real sample.
    quantiles: Option<Vec<f64>>,
}

impl Floor {
    /// From real samples of so many numbers each, in rows of `width`.
    pub(crate) fn new(known: Known<'_>, numbers: usize, width: usize, rng: &mut impl Rng) -> Result<Self> {
        let mut sums: Vec<f64> = Vec::new();
        let (mut b, mut labels) = (vec![0.0; numbers], Vec::new());
        let mut a = match known.source {
            Source::Numbers(distribution) => distribution.quantiles(numbers),
            _ => vec![0.0; numbers],
        };
        for _ in 0..SAMPLES {
            match known.source {
                Source::Numbers(distribution) => distribution.fill(rng, &mut b),
                Source::Images(images) => images.fill_apart(rng, [&mut a, &mut b], &mut labels)?,
                source => [&mut a, &mut b].into_iter().try_for_each(|rows| source.fill(rng, rows))?,
            }
            let values = measure(known, &a, (&b, &labels), width, false)?;
            sums.resize(values.len(), 0.0);
            for (sum, Value { kind, value, .. }) in sums.iter_mut().zip(values) {
                *sum += if let Kind::Statistic(real) = kind { (value - real).abs() } else { value };
            }
        }
        let values = sums.into_iter().map(|sum| sum / SAMPLES as f64).collect();
        Ok(Self { values, quantiles: matches!(known.source, Source::Numbers(_)).then_some(a) })
    }
}

/// What rows are compared by.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) source: &'a Source,
    /// For images with labels, once it has been trained.
    pub(crate) classifier: Option<&'a Classifier>,
    /// Whether rows are generated for a class each.
    pub(crate) conditional: bool,
}

/// Compares generated rows, with the classes they were generated for, with real rows of a source, or with its quantiles.
pub(crate) fn evaluate(
    known: Known<'_>,
    real: &[f64],
    generated: (&[f64], &[usize]),
    width: usize,
    floor: &Floor,
) -> Result<Evaluation> {
    let source = known.source;
    let real = floor.quantiles.as_deref().unwrap_or(real);
    let values = measure(known, real, generated, width, true)?.into_iter().zip(&floor.values);
    let measures = values.map(|(Value { name, kind, value }, &floor)| Measure { name, kind, value, floor });
    let count = generated.0.len() / source.width().unwrap_or(1).max(1);
    Ok(Evaluation { count, measures: measures.collect() })
}

/// The names of the measures that rows of a source get.
pub(crate) fn names(source: &Source) -> Vec<&'static str> {
    let width = source.width().unwrap_or(1);
    // Not the images themselves, which may have to be decoded.
    let blank = if let Source::Images(images) = source { Some(Source::Images(images.blank())) } else { None };
    let known = Known { source: blank.as_ref().unwrap_or(source), classifier: None, conditional: false };
    // Names depend on no row.
    let values = measure(known, &[], (&[], &[]), width, true).unwrap_or_default();
    let values = values.into_iter().map(|value| value.name);
    let classes = if source.classes().is_some() { &classifier::NAMES[..] } else { &[] };
    values.chain(classes.iter().copied()).chain((!classes.is_empty()).then_some("label_accuracy")).collect()
}

/// `fresh` says that the generated rows were generated, and are not real ones in their place.
fn measure(
    known: Known<'_>,
    real: &[f64],
    (generated, labels): (&[f64], &[usize]),
    width: usize,
    fresh: bool,
) -> Result<Vec<Value>> {
    Ok(match known.source {
        Source::Numbers(distribution) => {
            let mut values = numbers::measure(real, generated);
            if let Distribution::Mixture(components) = distribution {
                let value = modes::weight_error(components, generated);
                values.push(Value { name: "weight_error", kind: Kind::Distance, value });
            }
            values
        }
        Source::Points(Points::Modes(modes)) => {
            let mut values = modes::measure(modes, generated);
            values.extend(points::measure(real, generated, width));
            values
        }
        Source::Points(_) | Source::Table(_) => points::measure(real, generated, width),
        Source::Images(images) => {
            let Known { classifier, conditional, .. } = known;
            let labels = if conditional { labels } else { &[] };
            images::measure(images, classifier, real, (generated, labels), fresh)?
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Data;

    #[test]
    fn names_are_those_of_what_is_measured() {
        for data in [
            r#"{ kind = "normal", mean = 0.0, std = 1.0 }"#,
            r#"{ kind = "mixture", components = [{ weight = 1, mean = 0, std = 1 }] }"#,
            r#"{ kind = "ring", std = 0.1 }"#,
            r#"{ kind = "two_moons", noise = 0.1 }"#,
            r#"{ kind = "digits" }"#,
        ] {
            let data: BTreeMap<String, Data> = toml::from_str(&format!("data = {data}")).unwrap();
            let source = data["data"].open().unwrap();
            let width = source.width().unwrap_or(1);
            let known = Known { source: &source, classifier: None, conditional: false };
            let mut rows = vec![0.0; 20 * width];
            source.fill(&mut ChaCha8Rng::seed_from_u64(1), &mut rows).unwrap();
            let found = measure(known, &rows, (&rows, &[]), width, true).unwrap();
            let found: Vec<_> = found.iter().map(|value| value.name).collect();
            assert!(found.len() > 5 && names(&source).starts_with(&found), "{found:?}");
            let floor = Floor { values: vec![0.0; found.len()], quantiles: None };
            assert_eq!(evaluate(known, &rows, (&rows, &[]), width, &floor).unwrap().count, 20);
        }
    }

    #[test]
    fn numbers_are_compared_with_their_distribution() {
        let distribution = Distribution::Normal { mean: 4.0, std: 1.25 };
        let source = Source::Numbers(distribution.clone());
        let known = Known { source: &source, classifier: None, conditional: false };
        let count = 10_000;
        let floor = Floor::new(known, count, 1, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        // Real rows do not matter.
        let found = evaluate(known, &[9.0], (&distribution.quantiles(count), &[]), 1, &floor).unwrap();
        let [ks, area] = ["ks", "wasserstein_1"].map(|name| found.get(name).unwrap());
        assert_eq!((found.count, ks.value, area.value), (count, 0.0, 0.0));
        // Of a sample and its distribution: 0.8687 / sqrt(n) (Marsaglia, Tsang and Wang, 2003). Of two samples it would be
        // 1.23 / sqrt(n).
        assert!((ks.floor * 100.0 - 0.8687).abs() < 0.15, "{}", ks.floor);
    }

    #[test]
    fn a_bound_is_reached_from_the_side_that_is_better() {
        let measure = |kind, value| Measure { name: "a", kind, value, floor: 0.0 };
        let statistic = measure(Kind::Statistic(2.0), 1.5);
        assert_eq!((statistic.shown(), statistic.reaches(0.5), statistic.reaches(0.4)), (0.5, true, false));
        let distance = measure(Kind::Distance, 1.5);
        assert_eq!([1.4, 1.5, 1.6].map(|bound| distance.reaches(bound)), [false, true, true]);
        let score = measure(Kind::Score, 1.5);
        assert_eq!([1.4, 1.5, 1.6].map(|bound| score.reaches(bound)), [true, true, false]);

        let evaluation = Evaluation { count: 1, measures: vec![Measure { name: "b", ..statistic }, score] };
        assert_eq!((evaluation.get("a"), evaluation.value("b")), (evaluation.measures.get(1), 1.5));
        assert!(evaluation.get("c").is_none() && evaluation.value("c").is_nan());
    }
}
