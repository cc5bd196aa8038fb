//! Numbers that carry a derivative with them.
//!
//! A dual number is `value + tangent e` with e^2 = 0, so that f(x + t e) = f(x) + f'(x) t e: what is computed with dual
//! numbers has, as its tangent, its derivative along the direction that the tangents of the input say. No difference is
//! taken, so it is exact but for rounding. As layers and losses are written for any [`Scalar`], a forward pass proves what
//! they say of their gradients.

#![allow(unsafe_code, reason = "a kernel is run by a promise on instructions")]

use std::cmp::Ordering;
use std::f64::consts::{LN_2, LN_10};
use std::fmt;
use std::num::FpCategory;

use num_traits::{Float, Num, NumCast, One, ToPrimitive, Zero};

use crate::functions::Exponential;
use crate::lanes::{Array, Kernel, Vectorised, kernels};
use crate::scalar::{Buffer, buffers};
use crate::{DType, Scalar};

/// A number, and how fast it changes as what it depends on moves along a direction. Numbers are compared by value alone,
/// and files hold nothing else of them.
///
/// ```
/// use tensor_ops::{DualNumber, tanh};
///
/// let y = tanh(DualNumber::new(0.5, 1.0));
/// assert!((y.tangent - (1.0 - y.value * y.value)).abs() < 1e-15);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DualNumber {
    /// The number.
    pub value: f64,
    /// Its derivative.
    pub tangent: f64,
}

impl DualNumber {
    /// A number with a derivative.
    #[must_use]
    pub fn new(value: f64, tangent: f64) -> Self {
        Self { value, tangent }
    }

    /// What a function gives whose slope here is known. What does not move stays, even where the slope is infinite.
    fn moved(self, value: f64, slope: f64) -> Self {
        Self::new(value, if self.tangent == 0.0 { 0.0 } else { slope * self.tangent })
    }

    /// A number that does not move.
    fn fixed(value: f64) -> Self {
        Self::new(value, 0.0)
    }
}

impl PartialEq for DualNumber {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialOrd for DualNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

/// Operators, each with the tangent of its result, from both sides.
macro_rules! operators {
    ($($operator:ident $method:ident $assign:ident $method_assign:ident |$a:ident, $b:ident| $tangent:expr;)*) => {$(
        impl std::ops::$operator for DualNumber {
            type Output = Self;

            #[inline]
            fn $method(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                Self::new(std::ops::$operator::$method(self.value, other.value), $tangent)
            }
        }

        impl std::ops::$assign for DualNumber {
            #[inline]
            fn $method_assign(&mut self, other: Self) {
                *self = std::ops::$operator::$method(*self, other);
            }
        }
    )*};
}

operators! {
    Add add AddAssign add_assign |a, b| a.tangent + b.tangent;
    Sub sub SubAssign sub_assign |a, b| a.tangent - b.tangent;
    Mul mul MulAssign mul_assign |a, b| a.tangent * b.value + a.value * b.tangent;
    Div div DivAssign div_assign |a, b| (a.tangent - a.value / b.value * b.tangent) / b.value;
    Rem rem RemAssign rem_assign |a, b| a.tangent - (a.value / b.value).trunc() * b.tangent;
}

impl std::ops::Neg for DualNumber {
    type Output = Self;

    fn neg(self) -> Self {
        Self::new(-self.value, -self.tangent)
    }
}

impl std::iter::Sum for DualNumber {
    fn sum<I: Iterator<Item = Self>>(numbers: I) -> Self {
        numbers.fold(Self::fixed(0.0), |sum, number| sum + number)
    }
}

impl Zero for DualNumber {
    fn zero() -> Self {
        Self::fixed(0.0)
    }

    fn is_zero(&self) -> bool {
        self.value == 0.0
    }
}

impl One for DualNumber {
    fn one() -> Self {
        Self::fixed(1.0)
    }
}

impl Num for DualNumber {
    type FromStrRadixErr = <f64 as Num>::FromStrRadixErr;

    fn from_str_radix(text: &str, radix: u32) -> Result<Self, Self::FromStrRadixErr> {
        f64::from_str_radix(text, radix).map(Self::fixed)
    }
}

impl ToPrimitive for DualNumber {
    fn to_i64(&self) -> Option<i64> {
        self.value.to_i64()
    }

    fn to_u64(&self) -> Option<u64> {
        self.value.to_u64()
    }

    fn to_f64(&self) -> Option<f64> {
        Some(self.value)
    }
}

impl NumCast for DualNumber {
    fn from<N: ToPrimitive>(number: N) -> Option<Self> {
        number.to_f64().map(Self::fixed)
    }
}

impl fmt::Display for DualNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.value, f)
    }
}

impl fmt::LowerExp for DualNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerExp::fmt(&self.value, f)
    }
}

/// The functions of one number: numbers that do not depend on it, what is asked of its value, those that move in steps, and
/// those that have a slope, from x and y = f(x).
macro_rules! functions {
    (
        constants { $($constant:ident $number:expr;)* }
        questions { $($question:ident $answer:ty;)* }
        steps { $($step:ident)* }
        slopes { $($function:ident |$x:pat_param, $y:pat_param| $slope:expr;)* }
    ) => {
        $(fn $constant() -> Self {
            Self::fixed($number)
        })*
        $(fn $question(self) -> $answer {
            self.value.$question()
        })*
        $(fn $step(self) -> Self {
            Self::fixed(self.value.$step())
        })*
        $(fn $function(self) -> Self {
            let value = self.value.$function();
            let ($x, $y) = (self.value, value);
            self.moved(value, $slope)
        })*
    };
}

impl Float for DualNumber {
    functions! {
        constants {
            nan f64::NAN;
            infinity f64::INFINITY;
            neg_infinity f64::NEG_INFINITY;
            neg_zero -0.0;
            min_value f64::MIN;
            min_positive_value f64::MIN_POSITIVE;
            max_value f64::MAX;
        }
        questions {
            is_nan bool;
            is_infinite bool;
            is_finite bool;
            is_normal bool;
            is_sign_positive bool;
            is_sign_negative bool;
            classify FpCategory;
        }
        steps { floor ceil round trunc signum }
        slopes {
            fract |_, _| 1.0;
            abs |x, _| if x < 0.0 { -1.0 } else { 1.0 };
            recip |_, y| -y * y;
            sqrt |_, y| 0.5 / y;
            cbrt |_, y| 1.0 / (3.0 * y * y);
            exp |_, y| y;
            exp2 |_, y| y * LN_2;
            exp_m1 |x, _| x.exp();
            ln |x, _| 1.0 / x;
            ln_1p |x, _| 1.0 / (1.0 + x);
            log2 |x, _| 1.0 / (x * LN_2);
            log10 |x, _| 1.0 / (x * LN_10);
            sin |x, _| x.cos();
            cos |x, _| -x.sin();
            tan |_, y| 1.0 + y * y;
            asin |x, _| 1.0 / ((1.0 - x) * (1.0 + x)).sqrt();
            acos |x, _| -1.0 / ((1.0 - x) * (1.0 + x)).sqrt();
            atan |x, _| 1.0 / (1.0 + x * x);
            sinh |x, _| x.cosh();
            cosh |x, _| x.sinh();
            tanh |x, _| x.cosh().powi(-2);
            asinh |x, _| 1.0 / x.hypot(1.0);
            acosh |x, _| 1.0 / ((x - 1.0) * (x + 1.0)).sqrt();
            atanh |x, _| 1.0 / ((1.0 - x) * (1.0 + x));
        }
    }

    #[inline]
    fn mul_add(self, a: Self, b: Self) -> Self {
        let tangent = self.tangent * a.value + (self.value * a.tangent + b.tangent);
        Self::new(self.value.mul_add(a.value, b.value), tangent)
    }

    fn powi(self, n: i32) -> Self {
        self.moved(self.value.powi(n), (n as f64) * self.value.powi(n - 1))
    }

    fn powf(self, n: Self) -> Self {
        let value = self.value.powf(n.value);
        let by_base = self.moved(value, n.value * self.value.powf(n.value - 1.0));
        Self::new(value, by_base.tangent + n.moved(value, value * self.value.ln()).tangent)
    }

    fn log(self, base: Self) -> Self {
        self.ln() / base.ln()
    }

    fn max(self, other: Self) -> Self {
        if self.value.is_nan() || other > self { other } else { self }
    }

    fn min(self, other: Self) -> Self {
        if self.value.is_nan() || other < self { other } else { self }
    }

    fn abs_sub(self, other: Self) -> Self {
        (self - other).max(Self::fixed(0.0))
    }

    fn hypot(self, other: Self) -> Self {
        let value = self.value.hypot(other.value);
        let by_self = self.moved(value, self.value / value);
        Self::new(value, by_self.tangent + other.moved(value, other.value / value).tangent)
    }

    fn sin_cos(self) -> (Self, Self) {
        (self.sin(), self.cos())
    }

    fn atan2(self, other: Self) -> Self {
        let square = self.value * self.value + other.value * other.value;
        let tangent = (self.tangent * other.value - self.value * other.tangent) / square;
        Self::new(self.value.atan2(other.value), tangent)
    }

    fn integer_decode(self) -> (u64, i16, i8) {
        self.value.integer_decode()
    }
}

impl Vectorised for DualNumber {
    fn run<K: Kernel<Self>>(kernel: K) -> K::Output {
        // SAFETY: an array needs no instructions that a processor may lack.
        unsafe { kernel.run::<Array<Self>>() }
    }

    kernels!();
}

impl Exponential for DualNumber {
    const SMALLEST: f64 = f64::SMALLEST;
    const LARGEST: f64 = f64::LARGEST;

    /// s stands still, s (e^r - 1) moves as the whole of e^x does.
    fn exp_parts(x: Self) -> (Self, Self) {
        let (scale, rest) = f64::exp_parts(x.value);
        (Self::fixed(scale), x.moved(rest, scale + rest))
    }

    /// Of t = 2 artanh(s) / s - 2 with z = s^2 the slope is 1 / (1 - z) - t / (2 z), and t is near 2 z / 3 about 0.
    fn artanh_tail(z: Self) -> Self {
        let tail = f64::artanh_tail(z.value);
        let third = if z.value > 0.0 { tail / (2.0 * z.value) } else { 1.0 / 3.0 };
        z.moved(tail, 1.0 / (1.0 - z.value) - third)
    }
}

impl Scalar for DualNumber {
    const DTYPE: DType = DType::F64;

    fn from_f64(value: f64) -> Self {
        Self::fixed(value)
    }

    fn as_f64(self) -> f64 {
        self.value
    }

    fn append_le_bytes(self, bytes: &mut Vec<u8>) {
        self.value.append_le_bytes(bytes);
    }

    fn from_le_bytes(bytes: &[u8]) -> Option<Self> {
        <f64 as Scalar>::from_le_bytes(bytes).map(Self::fixed)
    }

    buffers!(DualNumber);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{exp, exp_m1_of_negative, sigmoid, softplus, tanh};

    /// The tangent of a function of one number is its derivative, and its value what it is of an `f64`.
    #[track_caller]
    fn check(name: &str, x: f64, f: impl Fn(f64) -> f64, dual: impl Fn(DualNumber) -> DualNumber) {
        let central = |h: f64| (f(x + h) - f(x - h)) / (2.0 * h);
        let numeric = (4.0 * central(5e-4) - central(1e-3)) / 3.0;
        let found = dual(DualNumber::new(x, 3.0));
        assert_eq!(found.value, f(x), "{name} at {x}");
        let error = (found.tangent - 3.0 * numeric).abs();
        assert!(error <= 1e-9 * (1.0 + numeric.abs()), "{name}' at {x}: {}, {numeric}", found.tangent);
        assert_eq!(dual(DualNumber::fixed(x)).tangent, 0.0, "{name} of what stands still");
    }

    macro_rules! check_all {
        ($($points:expr => $($function:expr),*;)*) => {$($(
            for x in $points {
                check(stringify!($function), x, |x: f64| $function(x), |x: DualNumber| $function(x));
            }
        )*)*};
    }

    #[test]
    fn tangents_are_derivatives() {
        check_all! {
            [-3.4, -0.3, 0.7, 2.6] => Float::abs, Float::fract, Float::recip, Float::cbrt, Float::exp, Float::exp2,
                Float::exp_m1, Float::sin, Float::cos, (|x| Float::sin_cos(x).0), (|x| Float::sin_cos(x).1), Float::tan, Float::atan, Float::sinh, Float::cosh, Float::tanh,
                Float::asinh, Float::floor, Float::ceil, Float::round, Float::trunc, Float::signum,
                exp, sigmoid, tanh, softplus;
            [-3.4, -0.3, -0.04] => exp_m1_of_negative;
            [-0.6, -0.1, 0.3, 0.8] => Float::asin, Float::acos, Float::atanh, Float::ln_1p;
            [1.2, 3.0] => Float::sqrt, Float::ln, Float::log2, Float::log10, Float::acosh;
        }
    }

    /// The same for both sides of a function of two numbers.
    #[track_caller]
    fn check_pair(
        name: &str,
        [a, b]: [f64; 2],
        f: impl Fn(f64, f64) -> f64,
        dual: impl Fn(DualNumber, DualNumber) -> DualNumber,
    ) {
        check(name, a, |a| f(a, b), |a| dual(a, DualNumber::fixed(b)));
        check(name, b, |b| f(a, b), |b| dual(DualNumber::fixed(a), b));
    }

    macro_rules! check_pairs {
        ($($points:expr => $($function:expr),*;)*) => {$($(
            for [a, b] in $points {
                check_pair(
                    stringify!($function),
                    [a, b],
                    |a: f64, b: f64| $function(a, b),
                    |a: DualNumber, b: DualNumber| $function(a, b),
                );
            }
        )*)*};
    }

    #[test]
    fn tangents_of_two_numbers_add_up() {
        use std::ops::{Add, Div, Mul, Rem, Sub};
        check_pairs! {
            [[1.7, 0.6], [-2.2, 1.5], [0.3, -0.4]] => Add::add, Sub::sub, Mul::mul, Div::div, Rem::rem, Float::max, Float::min,
                Float::hypot, Float::atan2, Float::abs_sub;
            [[1.7, 0.6], [2.2, -1.5]] => Float::powf, (|a, b| Float::mul_add(a, b, a)), (|a, b| Float::mul_add(b, b, a));
            [[1.7, 2.6], [2.2, 0.3]] => Float::log;
        }
        let x = DualNumber::new(-1.5, 2.0);
        assert_eq!(x.powi(3).tangent, 3.0 * 2.25 * 2.0);
        assert_eq!(x.powf(DualNumber::fixed(3.0)).tangent, 3.0 * 2.25 * 2.0);
        assert_eq!((-x).tangent, -2.0);
        assert_eq!([x, x].into_iter().sum::<DualNumber>().tangent, 4.0);
    }

    #[test]
    fn all_but_arithmetic_is_of_the_value() {
        let x = DualNumber::new(-2.5, 3.0);
        assert_eq!((x.to_f64(), x.to_i64(), x.to_u64()), (Some(-2.5), Some(-2), None));
        assert_eq!(DualNumber::new(3.5, 1.0).to_u64(), Some(3));
        assert_eq!(Float::integer_decode(x), Float::integer_decode(-2.5));
        assert!(x == DualNumber::fixed(-2.5) && x != DualNumber::new(2.5, 3.0));
        assert!(DualNumber::new(0.0, 3.0).is_zero() && !x.is_zero());
        assert_eq!(x.as_f64(), -2.5);
        let mut bytes = Vec::new();
        x.append_le_bytes(&mut bytes);
        assert_eq!(bytes, (-2.5_f64).to_le_bytes());

        // What comes from elsewhere stands still.
        let number = |number: Option<DualNumber>| number.map(|x| (x.value, x.tangent));
        assert_eq!(number(DualNumber::from_le_bytes(&bytes)), Some((-2.5, 0.0)));
        assert_eq!(number(<DualNumber as NumCast>::from(7_u8)), Some((7.0, 0.0)));
        assert_eq!(number(DualNumber::from_str_radix("-11", 2).ok()), Some((-3.0, 0.0)));
    }

    #[test]
    fn of_equals_the_first_one_counts() {
        let [first, second] = [1.0, 2.0].map(|tangent| DualNumber::new(0.5, tangent));
        assert_eq!((first.max(second).tangent, first.min(second).tangent), (1.0, 1.0));
        let nan = DualNumber::new(f64::NAN, 3.0);
        assert_eq!((nan.max(first).tangent, nan.min(first).tangent), (1.0, 1.0));
    }

    #[test]
    fn nothing_is_lost_far_out() {
        let slope = |f: fn(DualNumber) -> DualNumber, x: f64| f(DualNumber::new(x, 1.0)).tangent;
        assert_eq!(slope(softplus, 800.0), 1.0);
        assert_eq!(slope(softplus, -800.0), 0.0);
        assert!((slope(softplus, -40.0) / (-40.0_f64).exp() - 1.0).abs() < 1e-14);
        assert!((slope(sigmoid, -40.0) / (-40.0_f64).exp() - 1.0).abs() < 1e-14);
        assert!((slope(softplus, 1e-9) - 0.5).abs() < 1e-9);
        // 2 / 3 at 0, as the limit of what it is beside it.
        for z in [0.0, 1e-6] {
            assert!((slope(DualNumber::artanh_tail, z) - 2.0 / 3.0).abs() < 1e-5);
        }
        assert_eq!(slope(tanh, 0.0), 1.0);
        assert_eq!(slope(sigmoid, 0.0), 0.25);
    }
}
