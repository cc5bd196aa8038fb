//! What the kernels of points are of the taps, and the taps' gradients of theirs.

#![allow(unsafe_code, reason = "kernels work on memory that they share out themselves")]
#![expect(
    clippy::indexing_slicing,
    reason = "places in registers, counted by the constants that their arrays are as long as"
)]

use super::tiles::KINDS;
use crate::Scalar;
use crate::lanes::{Kernel, Lanes};

/// Sets the kernels of all kinds of points, along y and x, to what they are of the four taps: stretches of equal length.
pub(super) struct Spread<'a, T> {
    pub(super) taps: [&'a [T]; 4],
    pub(super) kinds: [&'a mut [T]; KINDS * KINDS],
}

impl<T: Scalar> Kernel<T> for Spread<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        let Self { taps, kinds } = self;
        let len = taps[0].len();
        assert!(taps.iter().all(|tap| tap.len() == len) && kinds.iter().all(|kind| kind.len() == len));
        let taps = taps.map(<[T]>::as_ptr);
        let kinds = kinds.map(<[T]>::as_mut_ptr);
        for at in (0..len).step_by(L::COUNT) {
            let count = L::COUNT.min(len - at);
            // SAFETY: no more than `count` numbers are used, and the caller vouches for the instructions.
            unsafe {
                let mut tap = [L::splat(T::zero()); 4];
                for i in 0..4 {
                    tap[i] = L::load_first(taps[i].add(at), count);
                }
                let left = kernels(tap[0], tap[2]);
                let right = kernels(tap[1], tap[3]);
                for y in 0..KINDS {
                    let line = kernels(left[y], right[y]);
                    for x in 0..KINDS {
                        line[x].store_first(kinds[y * KINDS + x].add(at), count);
                    }
                }
            }
        }
    }
}

/// What the kernel of each kind of point is of two taps.
#[inline(always)]
unsafe fn kernels<T: Scalar, L: Lanes<T>>(first: L, second: L) -> [L; KINDS] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let [zero, half] = [0.0, 0.5].map(|x| L::splat(T::from_f64(x)));
        let (plus, minus) = (second.mul_add(half, zero), second.mul_add(L::splat(T::from_f64(-0.5)), zero));
        [first, first.mul_add(half, plus), first.mul_add(half, minus), second]
    }
}

/// Adds to the gradients of the four taps what those of the kernels are to them: [`Spread`], transposed.
pub(super) struct Gather<'a, T> {
    pub(super) kinds: [&'a [T]; KINDS * KINDS],
    pub(super) taps: [&'a mut [T]; 4],
}

impl<T: Scalar> Kernel<T> for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) {
        let Self { kinds, taps } = self;
        let len = taps[0].len();
        assert!(taps.iter().all(|tap| tap.len() == len) && kinds.iter().all(|kind| kind.len() == len));
        let kinds = kinds.map(<[T]>::as_ptr);
        let taps = taps.map(<[T]>::as_mut_ptr);
        for at in (0..len).step_by(L::COUNT) {
            let count = L::COUNT.min(len - at);
            // SAFETY: no more than `count` numbers are used, and the caller vouches for the instructions.
            unsafe {
                let mut left = [L::splat(T::zero()); KINDS];
                let mut right = left;
                for y in 0..KINDS {
                    let mut line = left;
                    for x in 0..KINDS {
                        line[x] = L::load_first(kinds[y * KINDS + x].add(at), count);
                    }
                    [left[y], right[y]] = both(line);
                }
                let [left, right] = [both(left), both(right)];
                let one = L::splat(T::one());
                for (tap, sum) in [left[0], right[0], left[1], right[1]].into_iter().enumerate() {
                    let tap = taps[tap].add(at);
                    L::load_first(tap, count).mul_add(one, sum).store_first(tap, count);
                }
            }
        }
    }
}

/// What the gradients of two taps are of those of the kernels of each kind of point.
#[inline(always)]
unsafe fn both<T: Scalar, L: Lanes<T>>([a, b, c, d]: [L; KINDS]) -> [L; 2] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let half = L::splat(T::from_f64(0.5));
        [c.mul_add(half, b.mul_add(half, a)), c.mul_add(L::splat(T::from_f64(-0.5)), b.mul_add(half, d))]
    }
}
