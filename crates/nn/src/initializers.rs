//! Where parameters start.
//!
//! For a kernel `[.., inputs, outputs]` with r = the product of the axes before, `fan_in` = r inputs and
//! `fan_out` = r outputs. The variance that an initializer aims at:
//!
//! | family | variance | reference |
//! | --- | --- | --- |
//! | Glorot | 2 / (`fan_in` + `fan_out`) | Glorot and Bengio, 2010 |
//! | He | 2 / `fan_in` | He et al., 2015 |
//! | `LeCun` | 1 / `fan_in` | `LeCun` et al., 1998 |
//!
//! `uniform` draws from [-sqrt(3 variance), sqrt(3 variance)); `normal` from a normal distribution cut off at
//! two standard deviations and widened so that its variance is right, as in Keras.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor};

/// How a parameter's first value is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initializer {
    /// Glorot's variance, uniform: the default of kernels.
    #[default]
    GlorotUniform,
    /// Glorot's variance, truncated normal.
    GlorotNormal,
    /// He's variance, uniform.
    HeUniform,
    /// He's variance, truncated normal.
    HeNormal,
    /// `LeCun`'s variance, uniform.
    LecunUniform,
    /// `LeCun`'s variance, truncated normal.
    LecunNormal,
    /// All 0: the default of biases.
    Zeros,
    /// Evenly from the first number to the second: the default of embeddings, with -0.05 and 0.05.
    RandomUniform(f64, f64),
    /// All the given number.
    Constant(f64),
    /// The given number where the places on the last two axes are equal, else 0: output j sees input j alone.
    Identity(f64),
    /// From the first number to the second in equal steps along the last axis: output j has the j-th.
    Linspace(f64, f64),
}

/// The standard deviation of a standard normal distribution that is cut off at two.
const TRUNCATED_STD: f64 = 0.879_625_661_034_239_8;

impl Initializer {
    /// Draws a tensor.
    pub fn draw<T: Scalar>(self, shape: Shape, rng: &mut impl Rng) -> Tensor<T> {
        let (fan_in, fan_out) = fans(shape);
        let glorot = 2.0 / (fan_in + fan_out);
        match self {
            Self::GlorotUniform => uniform(shape, glorot, rng),
            Self::GlorotNormal => truncated_normal(shape, glorot, rng),
            Self::HeUniform => uniform(shape, 2.0 / fan_in, rng),
            Self::HeNormal => truncated_normal(shape, 2.0 / fan_in, rng),
            Self::LecunUniform => uniform(shape, 1.0 / fan_in, rng),
            Self::LecunNormal => truncated_normal(shape, 1.0 / fan_in, rng),
            Self::RandomUniform(low, high) => between(shape, low, high, rng),
            Self::Zeros => Tensor::zeros(shape),
            Self::Constant(value) => Tensor::full(shape, T::from_f64(value)),
            Self::Identity(gain) => identity(shape, gain),
            Self::Linspace(first, last) => linspace(shape, first, last),
        }
    }
}

fn identity<T: Scalar>(shape: Shape, gain: f64) -> Tensor<T> {
    let outputs = shape.last_dim();
    let inputs = shape.iter().rev().nth(1).copied().unwrap_or(1);
    let mut places = (0..inputs.saturating_mul(outputs)).cycle();
    Tensor::from_fn(shape, || {
        let place = places.next().unwrap_or_default();
        if place / outputs == place % outputs { T::from_f64(gain) } else { T::zero() }
    })
}

fn linspace<T: Scalar>(shape: Shape, first: f64, last: f64) -> Tensor<T> {
    let outputs = shape.last_dim();
    let step = (last - first) / outputs.saturating_sub(1).max(1) as f64;
    let mut places = (0..outputs).cycle();
    Tensor::from_fn(shape, || T::from_f64(first + step * places.next().unwrap_or_default() as f64))
}

fn fans(shape: Shape) -> (f64, f64) {
    let (fan_in, fan_out) = match *shape {
        [] => (1.0, 1.0),
        [n] => (n as f64, n as f64),
        [ref outer @ .., inputs, outputs] => {
            let receptive: f64 = outer.iter().map(|&size| size as f64).product();
            (receptive * inputs as f64, receptive * outputs as f64)
        }
    };
    (fan_in.max(1.0), fan_out.max(1.0))
}

fn uniform<T: Scalar>(shape: Shape, variance: f64, rng: &mut impl Rng) -> Tensor<T> {
    let limit = (3.0 * variance).sqrt();
    between(shape, -limit, limit, rng)
}

fn between<T: Scalar>(shape: Shape, low: f64, high: f64, rng: &mut impl Rng) -> Tensor<T> {
    // As far from the middle as a number from -1 to 1 says, so that opposite bounds give opposite numbers.
    let (middle, reach) = (f64::midpoint(low, high), (high - low) / 2.0);
    Tensor::from_fn(shape, || T::from_f64(middle + reach * (2.0 * rng.random::<f64>() - 1.0)))
}

fn truncated_normal<T: Scalar>(shape: Shape, variance: f64, rng: &mut impl Rng) -> Tensor<T> {
    let std = variance.sqrt() / TRUNCATED_STD;
    Tensor::from_fn(shape, || {
        loop {
            let x: f64 = rng.sample(StandardNormal);
            if x.abs() <= 2.0 {
                return T::from_f64(std * x);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Mean 0, the variance of the table, and nothing beyond the bound, over 40,000 draws.
    #[track_caller]
    fn check(initializer: Initializer, variance: f64, bound: f64) {
        let tensor: Tensor<f64> =
            initializer.draw(Shape::from([2, 100, 200]), &mut ChaCha8Rng::seed_from_u64(1));
        let n = tensor.data().len() as f64;
        let mean = tensor.data().iter().sum::<f64>() / n;
        let found = tensor.data().iter().map(|x| x * x).sum::<f64>() / n;
        assert!(mean.abs() < 4.0 * (variance / n).sqrt(), "mean {mean}");
        assert!((found / variance - 1.0).abs() < 0.02, "variance {found}, expected {variance}");
        let largest = tensor.data().iter().fold(0.0_f64, |a, x| a.max(x.abs()));
        assert!(largest <= bound && largest > 0.99 * bound, "largest {largest}, bound {bound}");
    }

    #[test]
    fn variances_are_those_of_the_papers() {
        let (glorot, he, lecun) = (2.0 / 600.0, 2.0 / 200.0, 1.0 / 200.0_f64);
        let normal_bound = |variance: f64| 2.0 * variance.sqrt() / TRUNCATED_STD;
        check(Initializer::GlorotUniform, glorot, (3.0 * glorot).sqrt());
        check(Initializer::HeUniform, he, (3.0 * he).sqrt());
        check(Initializer::LecunUniform, lecun, (3.0 * lecun).sqrt());
        check(Initializer::GlorotNormal, glorot, normal_bound(glorot));
        check(Initializer::HeNormal, he, normal_bound(he));
        check(Initializer::LecunNormal, lecun, normal_bound(lecun));
    }

    #[test]
    fn constants_are_constant() {
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        assert_eq!(Initializer::Zeros.draw::<f32>(Shape::from([2]), rng).data(), [0.0, 0.0]);
        assert_eq!(Initializer::Constant(0.5).draw::<f32>(Shape::from([2]), rng).data(), [0.5, 0.5]);
    }

    #[test]
    fn numbers_lie_between_their_bounds() {
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let drawn = Initializer::RandomUniform(-3.0, 1.0).draw::<f64>(Shape::from([10_000]), rng);
        let (low, high) = drawn.data().iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
        assert!((-3.0..-2.99).contains(&low) && (0.99..=1.0).contains(&high), "{low} {high}");
        assert!((drawn.data().iter().sum::<f64>() / 1e4 + 1.0).abs() < 0.05);
    }

    #[test]
    fn an_identity_passes_each_input_to_its_output() {
        let draw = |shape: Shape| {
            Initializer::Identity(3.0).draw::<f32>(shape, &mut ChaCha8Rng::seed_from_u64(1)).data().to_vec()
        };
        assert_eq!(draw([3, 2].into()), [3.0, 0.0, 0.0, 3.0, 0.0, 0.0]);
        assert_eq!(draw([2, 2, 2].into()), [3.0, 0.0, 0.0, 3.0, 3.0, 0.0, 0.0, 3.0]);
    }

    #[test]
    fn a_linspace_goes_from_one_number_to_another_along_the_last_axis() {
        let linspace = Initializer::Linspace(-1.0, 2.0);
        let draw =
            |shape: Shape| linspace.draw::<f32>(shape, &mut ChaCha8Rng::seed_from_u64(1)).data().to_vec();
        assert_eq!(draw([4].into()), [-1.0, 0.0, 1.0, 2.0]);
        assert_eq!(draw([2, 3].into()), [-1.0, 0.5, 2.0, -1.0, 0.5, 2.0]);
        assert_eq!(draw([1].into()), [-1.0]);
    }
}
