//! The exponential and its kin, written so that a loop over many numbers is computed many at a time.
//!
//! There are no tables, branches or fused operations in them: every processor gives the same bits. With
//! n = round(x / ln 2) and r = x - n ln 2, which lies within 0.347 of 0,
//!
//! e^x - 1 = 2^n (e^r - 1) + (2^n - 1), and e^r - 1 = r + r^2 (1/2 + r/6 + r^2/24 + ...)
//!
//! to so many terms that what is left out is below rounding. The others follow without cancellation. The largest errors
//! in `f32`, found over all numbers, in units in the last place (ulp): [`exp`] 2.4, [`exp_m1_of_negative`] 0.9,
//! [`sigmoid`] 2.5, [`tanh`] 2.5, [`softplus`] 3.7; results too small for a normal number may be 0.

use crate::Scalar;

/// What the exponential needs to know of a type.
pub trait Exponential: Sized {
    /// From here down the exponential is taken as 0: 2^n would not be a normal number.
    const SMALLEST: f64;
    /// Above this it is infinite.
    const LARGEST: f64;
    /// `(s, s (e^r - 1))` with s = 2^n, for x from `SMALLEST` to about -`SMALLEST`; beyond, something without meaning.
    fn exp_parts(x: Self) -> (Self, Self);
    /// 2 artanh(s) / s - 2, from z = s^2 <= 1/9.
    fn artanh_tail(z: Self) -> Self;
}

macro_rules! exponential {
    ($type:ty, $bits:literal, $largest:literal, $ln_2:expr, $first_exp:literal [$($exp:literal),*], $first_artanh:literal [$($artanh:literal),*]) => {
        impl Exponential for $type {
            const SMALLEST: f64 = (<$type>::MIN_EXP - 1) as f64 * std::f64::consts::LN_2;
            const LARGEST: f64 = $largest;

            #[inline(always)]
            fn exp_parts(x: Self) -> (Self, Self) {
                // Adding 1.5 2^BITS rounds to an integer, which then stands in the lowest bits.
                const ROUND: $type = 1.5 * (1_u64 << $bits) as $type;
                let rounded = x * (std::f64::consts::LOG2_E as $type) + ROUND;
                let n = rounded - ROUND;
                let scale = <$type>::from_bits((rounded.to_bits() << $bits).wrapping_add((1.0 as $type).to_bits()));
                let (high, low): ($type, $type) = $ln_2;
                let r = (x - n * high) - n * low;
                let mut tail: $type = 1.0 / $first_exp;
                $(tail = tail * r + 1.0 / $exp;)*
                (scale, scale * (r + r * r * tail))
            }

            #[inline(always)]
            fn artanh_tail(z: Self) -> Self {
                let mut tail: $type = 2.0 / $first_artanh;
                $(tail = tail * z + 2.0 / $artanh;)*
                tail * z
            }
        }
    };
}

// ln 2 is split so that n times its first part is exact.
exponential!(
    f32, 23, 88.722_839, (355.0 / 512.0, -2.121_944_4e-4),
    5040.0 [720.0, 120.0, 24.0, 6.0, 2.0],
    15.0 [13.0, 11.0, 9.0, 7.0, 5.0, 3.0]
);
exponential!(
    f64, 52, 709.782_712_893_384, (0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10),
    6_227_020_800.0 [
        479_001_600.0, 39_916_800.0, 3_628_800.0, 362_880.0, 40_320.0, 5040.0, 720.0, 120.0, 24.0, 6.0,
        2.0
    ],
    35.0 [33.0, 31.0, 29.0, 27.0, 25.0, 23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0]
);

/// e^x for x <= 0.
#[inline(always)]
fn exp_of_negative<T: Scalar>(x: T) -> T {
    let (scale, rest) = T::exp_parts(x);
    if x < T::from_f64(T::SMALLEST) { T::zero() } else { scale + rest }
}

/// e^x.
#[inline(always)]
#[must_use]
pub fn exp<T: Scalar>(x: T) -> T {
    // As e e^(x - 1) above 1: 2^n may be too large where e^x is not.
    let (zero, one) = (T::zero(), T::one());
    let (shift, factor) = if x > one { (one, T::from_f64(std::f64::consts::E)) } else { (zero, one) };
    let (scale, rest) = T::exp_parts(x - shift);
    let value = if x < T::from_f64(T::SMALLEST) { zero } else { (scale + rest) * factor };
    if x > T::from_f64(T::LARGEST) { T::infinity() } else { value }
}

/// e^x - 1 for x <= 0, exact near 0.
#[inline(always)]
#[must_use]
pub fn exp_m1_of_negative<T: Scalar>(x: T) -> T {
    let (scale, rest) = T::exp_parts(x);
    if x < T::from_f64(T::SMALLEST) { -T::one() } else { rest + (scale - T::one()) }
}

/// 1 / (1 + e^-x), without overflow on either side.
#[inline(always)]
#[must_use]
pub fn sigmoid<T: Scalar>(x: T) -> T {
    let tail = exp_of_negative(-x.abs());
    let numerator = if x < T::zero() { tail } else { T::one() };
    numerator / (T::one() + tail)
}

/// The hyperbolic tangent.
#[inline(always)]
#[must_use]
pub fn tanh<T: Scalar>(x: T) -> T {
    let two = T::one() + T::one();
    let t = exp_m1_of_negative(-two * x.abs());
    let y = -t / (two + t);
    if x < T::zero() { -y } else { y }
}

/// ln(1 + e^x), without overflow on either side.
#[inline(always)]
#[must_use]
pub fn softplus<T: Scalar>(x: T) -> T {
    let tail = exp_of_negative(-x.abs());
    let two = T::one() + T::one();
    let s = tail / (two + tail);
    let positive = if x < T::zero() { T::zero() } else { x };
    positive + s * (two + T::artanh_tail(s * s))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `f` over every `step`-th `f32`, in ulp of the exact value as `exact` gives it.
    #[track_caller]
    fn check(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, bound: f64) {
        // The bounds were found with a step of 1, which takes minutes. This one has no factor in common with powers
        // of 2 and so reaches all kinds of mantissas.
        let mut worst = (0.0, 0.0);
        for bits in (0..=u32::MAX).step_by(509) {
            let x = f32::from_bits(bits);
            let (found, exact) = (f(x), exact(f64::from(x)));
            if exact.is_nan() {
                assert!(found.is_nan(), "of {x:e}: {found:e}");
                continue;
            }
            let nearest = exact as f32;
            if nearest.abs() < 2.0 * f32::MIN_POSITIVE {
                assert!(found.abs() <= 2.0 * f32::MIN_POSITIVE, "of {x:e}: {found:e}");
            } else if nearest.is_infinite() || found.is_infinite() {
                assert!(found == nearest || exact > 0.999_999 * f64::from(f32::MAX), "of {x:e}: {found:e}");
            } else {
                let ulp = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
                let error = (f64::from(found) - exact).abs() / ulp;
                if error > worst.0 {
                    worst = (error, x);
                }
            }
        }
        assert!(worst.0 <= bound, "{} ulp at {:e}", worst.0, worst.1);
    }

    #[test]
    fn exp_is_within_its_bound() {
        check(exp, f64::exp, 2.4);
    }

    #[test]
    fn exp_m1_is_within_its_bound() {
        check(|x| exp_m1_of_negative(-x.abs()), |x| (-x.abs()).exp_m1(), 0.9);
    }

    #[test]
    fn sigmoid_is_within_its_bound() {
        check(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 2.5);
    }

    #[test]
    fn tanh_is_within_its_bound() {
        check(tanh, f64::tanh, 2.5);
    }

    #[test]
    fn softplus_is_within_its_bound() {
        check(softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), 3.7);
    }

    #[test]
    fn exp_ends_where_numbers_do() {
        assert!(
            (exp(709.7_f64) / 709.7_f64.exp() - 1.0).abs() < 1e-15
                && (exp(88.7_f32) / 88.7_f32.exp() - 1.0).abs() < 1e-6
        );
        for x in [709.79, 710.0, 800.0, 1e4, 1e300, f64::INFINITY] {
            assert_eq!((exp(x), exp(-1.05 * x)), (f64::INFINITY, 0.0), "{x}");
        }
    }

    #[test]
    fn doubles_are_as_near() {
        for step in -40_000..40_000 {
            let x = f64::from(step) * 0.017_3;
            let near = |found: f64, exact: f64, what: &str| {
                assert!(
                    (found - exact).abs() <= 6e-16 * exact.abs() + 1e-307,
                    "{what} of {x}: {found:e}, {exact:e}"
                );
            };
            near(exp(x.clamp(-700.0, 709.0)), x.clamp(-700.0, 709.0).exp(), "exp");
            near(exp_m1_of_negative(-x.abs()), (-x.abs()).exp_m1(), "exp_m1");
            near(sigmoid(x), 1.0 / (1.0 + (-x).exp()), "sigmoid");
            near(tanh(x), x.tanh(), "tanh");
            near(softplus(x), x.max(0.0) + (-x.abs()).exp().ln_1p(), "softplus");
        }
    }
}
