//! Numbers side by side in a register, and the choice of the widest registers that the processor has.
//!
//! A kernel is written once, over any [`Lanes`], as a [`Kernel`]; [`run`](Vectorised::run) compiles it for each
//! kind of registers and takes the best kind at run time. On processors without one of these, lanes are an array
//! that the compiler vectorises as far as it can (with NEON on ARM).

#![allow(unsafe_code, reason = "kernels work on memory that they share out themselves")]

use num_traits::Float;

use crate::dots::Dots;
use crate::kernel::Panel;
use crate::product::Transpose;

/// A few numbers, on which one instruction works.
///
/// # Safety
/// All functions need the instructions of their type, which [`Vectorised::run`] checks. Pointers must be valid for
/// as many numbers as are read or written; they need no alignment.
pub trait Lanes<T>: Copy {
    /// How many numbers.
    const COUNT: usize;
    /// How many rows of registers, each [`Lanes::COLUMNS`] wide, a product holds at a time.
    const ROWS: usize;
    /// How many registers lie side by side in a row.
    const COLUMNS: usize;

    /// `x` in every lane.
    unsafe fn splat(x: T) -> Self;
    /// `COUNT` numbers from memory.
    unsafe fn load(from: *const T) -> Self;
    /// The first `count` from memory, at most `COUNT`; zeros in the other lanes.
    unsafe fn load_first(from: *const T, count: usize) -> Self;
    /// All lanes to memory.
    unsafe fn store(self, to: *mut T);
    /// The first `count` lanes to memory, at most `COUNT`.
    unsafe fn store_first(self, to: *mut T, count: usize);
    /// `self a + b`, rounded once where the processor has an instruction for it.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// Runs a kernel as a function of its own, compiled for these instructions. Large kernels are made of several: the
    /// compiler takes three times as long over a single one.
    unsafe fn outlined<K: Kernel<T>>(kernel: K) -> K::Output;
    /// The sum of all lanes: halves are added to each other until one number is left.
    unsafe fn sum(self) -> T;
    /// The [`sum`](Lanes::sum) of each.
    #[inline(always)]
    unsafe fn sums(all: [Self; 4]) -> [T; 4] {
        let [a, b, c, d] = all;
        // SAFETY: the caller vouches for the instructions.
        unsafe { [a.sum(), b.sum(), c.sum(), d.sum()] }
    }
    /// `to[k width + i] = lines[i][k]` for i and k below [`SQUARE`].
    #[inline(always)]
    unsafe fn transpose(lines: [*const T; SQUARE], to: *mut T, width: usize) {
        for (i, line) in lines.into_iter().enumerate() {
            for k in 0..SQUARE {
                // SAFETY: the caller vouches for all of these numbers.
                unsafe { to.add(k * width + i).write(line.add(k).read()) };
            }
        }
    }
}

/// The side of the squares that matrices are transposed by.
pub(crate) const SQUARE: usize = 8;

/// Work that is compiled for each kind of registers.
pub trait Kernel<T> {
    /// What it gives.
    type Output;
    /// Does the work with registers of type `L`.
    ///
    /// # Safety
    /// The processor must have the instructions of `L`.
    unsafe fn run<L: Lanes<T>>(self) -> Self::Output;
}

/// A number that kernels can be compiled for.
pub trait Vectorised: Sized {
    /// Runs a kernel with the widest registers of this processor.
    fn run<K: Kernel<Self>>(kernel: K) -> K::Output;
    /// # Safety
    /// What [`Panel::multiply`] checks must hold, and what it asks for.
    unsafe fn multiply_panel(panel: Panel<'_, Self>);
    /// # Safety
    /// What [`Dots::multiply`] checks must hold, and what it asks for.
    unsafe fn multiply_lines(dots: Dots<'_, Self, 1>);
    /// Packs what is transposed.
    fn transpose(transpose: Transpose<'_, Self>);
}

/// Runs of the large kernels. They are written for each type, so that they are compiled once, with this crate, rather than
/// with each crate that uses them.
macro_rules! kernels {
    () => {
        #[inline(never)]
        unsafe fn multiply_panel(panel: $crate::kernel::Panel<'_, Self>) {
            Self::run(panel);
        }

        #[inline(never)]
        unsafe fn multiply_lines(dots: $crate::dots::Dots<'_, Self, 1>) {
            Self::run(dots);
        }

        #[inline(never)]
        fn transpose(transpose: $crate::product::Transpose<'_, Self>) {
            Self::run(transpose);
        }
    };
}
pub(crate) use kernels;

/// Runs `work` compiled for the widest registers of this processor, for loops that the compiler vectorises itself.
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    struct Loop<F>(F);
    impl<R, F: FnOnce() -> R> Kernel<f32> for Loop<F> {
        type Output = R;

        #[inline(always)]
        unsafe fn run<L: Lanes<f32>>(self) -> R {
            (self.0)()
        }
    }
    f32::run(Loop(work))
}

macro_rules! vectorised {
    ($type:ty, $avx512:ident, $avx2:ident) => {
        impl Vectorised for $type {
            #[inline]
            fn run<K: Kernel<Self>>(kernel: K) -> K::Output {
                #[cfg(target_arch = "x86_64")]
                {
                    if x86::has_avx512() {
                        // SAFETY: the processor has the instructions.
                        return unsafe { <x86::$avx512 as Lanes<$type>>::outlined(kernel) };
                    }
                    if x86::has_avx2() {
                        // SAFETY: the processor has the instructions.
                        return unsafe { <x86::$avx2 as Lanes<$type>>::outlined(kernel) };
                    }
                }
                // SAFETY: an array needs no instructions that a processor may lack.
                unsafe { kernel.run::<Array<$type>>() }
            }

            kernels!();
        }
    };
}

vectorised!(f32, F32x16, F32x8);
vectorised!(f64, F64x8, F64x4);

/// Lanes for any processor.
#[derive(Clone, Copy)]
pub(crate) struct Array<T>([T; 4]);

impl<T: Float> Lanes<T> for Array<T> {
    const COUNT: usize = 4;
    const ROWS: usize = 4;
    const COLUMNS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        Self([x; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller vouches for four numbers.
        Self(unsafe { from.cast::<[T; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const T, count: usize) -> Self {
        // SAFETY: the caller vouches for `count` numbers.
        Self(std::array::from_fn(|i| if i < count { unsafe { from.add(i).read() } } else { T::zero() }))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller vouches for four numbers.
        unsafe { to.cast::<[T; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut T, count: usize) {
        for (i, x) in self.0.into_iter().enumerate().take(count) {
            // SAFETY: the caller vouches for `count` numbers.
            unsafe { to.add(i).write(x) }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // Without an instruction for it, `mul_add` would be a slow function.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        #[expect(clippy::indexing_slicing, reason = "lanes are as many as the array has numbers")]
        let one =
            |i: usize| if fused { self.0[i].mul_add(a.0[i], b.0[i]) } else { self.0[i] * a.0[i] + b.0[i] };
        Self(std::array::from_fn(one))
    }

    #[inline(never)]
    unsafe fn outlined<K: Kernel<T>>(kernel: K) -> K::Output {
        // SAFETY: no instructions are needed that a processor may lack.
        unsafe { kernel.run::<Self>() }
    }

    #[inline(always)]
    unsafe fn sum(self) -> T {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;
