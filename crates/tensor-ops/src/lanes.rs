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
    /// Runs a kernel as a function of its own: the compiler takes three times as long over a single large one.
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
}

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
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                    unsafe fn avx512<K: Kernel<$type>>(kernel: K) -> K::Output {
                        // SAFETY: this function's caller vouches for the instructions.
                        unsafe { kernel.run::<x86::$avx512>() }
                    }
                    #[target_feature(enable = "avx2,fma")]
                    unsafe fn avx2<K: Kernel<$type>>(kernel: K) -> K::Output {
                        // SAFETY: this function's caller vouches for the instructions.
                        unsafe { kernel.run::<x86::$avx2>() }
                    }
                    if x86::has_avx512() {
                        // SAFETY: the processor has the instructions.
                        return unsafe { avx512(kernel) };
                    }
                    if x86::has_avx2() {
                        // SAFETY: the processor has the instructions.
                        return unsafe { avx2(kernel) };
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
pub(crate) mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Lanes};

    pub(crate) fn has_avx512() -> bool {
        has_avx2()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }

    pub(crate) fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    /// Sixteen `f32` with AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct F32x16(__m512);
    /// Eight `f32` with AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct F32x8(__m256);
    /// Eight `f64` with AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct F64x8(__m512d);
    /// Four `f64` with AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct F64x4(__m256d);

    macro_rules! lanes {
        (
            $lanes:ident, $features:literal, $type:ty, $count:literal, $rows:literal, $columns:literal,
            $set1:ident, $loadu:ident, $load_first:expr, $storeu:ident, $store_first:expr,
            $fmadd:ident, $sum:ident, $sums:ident
        ) => {
            impl Lanes<$type> for $lanes {
                const COUNT: usize = $count;
                const ROWS: usize = $rows;
                const COLUMNS: usize = $columns;

                #[inline(always)]
                unsafe fn splat(x: $type) -> Self {
                    // SAFETY: the trait's caller vouches for the instructions.
                    Self(unsafe { $set1(x) })
                }

                #[inline(always)]
                unsafe fn load(from: *const $type) -> Self {
                    // SAFETY: as above; and for the memory.
                    Self(unsafe { $loadu(from) })
                }

                #[inline(always)]
                unsafe fn load_first(from: *const $type, count: usize) -> Self {
                    // SAFETY: as above; lanes behind `count` are not read.
                    Self(unsafe { $load_first(from, count) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $type) {
                    // SAFETY: as above.
                    unsafe { $storeu(to, self.0) }
                }

                #[inline(always)]
                unsafe fn store_first(self, to: *mut $type, count: usize) {
                    // SAFETY: as above; lanes behind `count` are not written.
                    unsafe { $store_first(to, count, self.0) }
                }

                #[inline(always)]
                unsafe fn mul_add(self, a: Self, b: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $fmadd(self.0, a.0, b.0) })
                }

                #[inline(always)]
                unsafe fn outlined<K: Kernel<$type>>(kernel: K) -> K::Output {
                    #[inline(never)]
                    #[target_feature(enable = $features)]
                    unsafe fn outlined<K: Kernel<$type>>(kernel: K) -> K::Output {
                        // SAFETY: the trait's caller vouches for the instructions.
                        unsafe { kernel.run::<$lanes>() }
                    }
                    // SAFETY: as above.
                    unsafe { outlined(kernel) }
                }

                #[inline(always)]
                unsafe fn sum(self) -> $type {
                    // SAFETY: as above.
                    unsafe { $sum(self.0) }
                }

                #[inline(always)]
                unsafe fn sums(all: [Self; 4]) -> [$type; 4] {
                    // SAFETY: as above.
                    unsafe { $sums(all[0].0, all[1].0, all[2].0, all[3].0) }
                }
            }
        };
    }

    /// All bits in the first `count` of 16 lanes and none in the others.
    static MASK_32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    static MASK_64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

    #[inline(always)]
    fn bits_16(count: usize) -> __mmask16 {
        ((1_u32 << count.min(16)) - 1) as __mmask16
    }

    #[inline(always)]
    fn bits_8(count: usize) -> __mmask8 {
        ((1_u32 << count.min(8)) - 1) as __mmask8
    }

    #[inline(always)]
    unsafe fn mask_32(count: usize) -> __m256i {
        // SAFETY: eight numbers from a place in 0..=8 lie inside the sixteen.
        unsafe { _mm256_loadu_si256(MASK_32.as_ptr().add(8 - count.min(8)).cast()) }
    }

    #[inline(always)]
    unsafe fn mask_64(count: usize) -> __m256i {
        // SAFETY: four numbers from a place in 0..=4 lie inside the eight.
        unsafe { _mm256_loadu_si256(MASK_64.as_ptr().add(4 - count.min(4)).cast()) }
    }

    /// A masked load takes a few times as long as a plain one.
    #[inline(always)]
    unsafe fn load_first_f32(from: *const f32, count: usize) -> __m256 {
        // SAFETY: the caller vouches for `count` numbers, and lanes behind them are not read.
        unsafe { if count >= 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask_32(count)) } }
    }

    #[inline(always)]
    unsafe fn load_first_f64(from: *const f64, count: usize) -> __m256d {
        // SAFETY: as above.
        unsafe { if count >= 4 { _mm256_loadu_pd(from) } else { _mm256_maskload_pd(from, mask_64(count)) } }
    }

    /// A masked store takes twenty times as long as a plain one on some processors (AMD's Zen 2 and 3).
    #[inline(always)]
    unsafe fn store_first_f32(mut to: *mut f32, count: usize, x: __m256) {
        // SAFETY: the caller vouches for `count` numbers, and no more than those are written.
        unsafe {
            if count >= 8 {
                return _mm256_storeu_ps(to, x);
            }
            let mut x4 = _mm256_castps256_ps128(x);
            if count & 4 != 0 {
                _mm_storeu_ps(to, x4);
                to = to.add(4);
                x4 = _mm256_extractf128_ps::<1>(x);
            }
            if count & 2 != 0 {
                _mm_storeu_si64(to.cast(), _mm_castps_si128(x4));
                to = to.add(2);
                x4 = _mm_movehl_ps(x4, x4);
            }
            if count & 1 != 0 {
                _mm_store_ss(to, x4);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_first_f64(mut to: *mut f64, count: usize, x: __m256d) {
        // SAFETY: as above.
        unsafe {
            if count >= 4 {
                return _mm256_storeu_pd(to, x);
            }
            let mut x2 = _mm256_castpd256_pd128(x);
            if count & 2 != 0 {
                _mm_storeu_pd(to, x2);
                to = to.add(2);
                x2 = _mm256_extractf128_pd::<1>(x);
            }
            if count & 1 != 0 {
                _mm_store_sd(to, x2);
            }
        }
    }

    #[inline(always)]
    unsafe fn sum_8_f32(x: __m256) -> f32 {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    unsafe fn sum_4_f64(x: __m256d) -> f64 {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let x = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
            _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
        }
    }

    #[inline(always)]
    unsafe fn sum_16_f32(x: __m512) -> f32 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { sum_8_f32(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x))) }
    }

    #[inline(always)]
    unsafe fn sum_8_f64(x: __m512d) -> f64 {
        // SAFETY: the caller vouches for the instructions.
        unsafe { sum_4_f64(_mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd::<1>(x))) }
    }

    /// Sums over the halves of a, beside those of b.
    #[inline(always)]
    unsafe fn halves_16_f32(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
            _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b))
        }
    }

    /// As four times [`sum_16_f32`], in fewer instructions.
    #[inline(always)]
    unsafe fn sums_16_f32(a: __m512, b: __m512, c: __m512, d: __m512) -> [f32; 4] {
        let mut sums = [0.0; 4];
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let (ab, cd) = (halves_16_f32(a, b), halves_16_f32(c, d));
            // Then over quarters, eighths, and pairs.
            let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd);
            let x = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd));
            let x = _mm512_add_ps(x, _mm512_shuffle_ps::<0b01_00_11_10>(x, x));
            let x = _mm512_add_ps(x, _mm512_movehdup_ps(x));
            let firsts = _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, x));
            _mm_storeu_ps(sums.as_mut_ptr(), firsts);
        }
        sums
    }

    /// As four times [`sum_8_f32`], in fewer instructions.
    #[inline(always)]
    unsafe fn sums_8_f32(a: __m256, b: __m256, c: __m256, d: __m256) -> [f32; 4] {
        let mut sums = [0.0; 4];
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let low = _mm256_permute2f128_ps::<0x20>(a, b);
            let ab = _mm256_add_ps(low, _mm256_permute2f128_ps::<0x31>(a, b));
            let low = _mm256_permute2f128_ps::<0x20>(c, d);
            let cd = _mm256_add_ps(low, _mm256_permute2f128_ps::<0x31>(c, d));
            // Then over quarters, and pairs: of a and c in the lower half, of b and d in the upper one.
            let low = _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd);
            let x = _mm256_add_ps(low, _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd));
            let x = _mm256_add_ps(x, _mm256_movehdup_ps(x));
            let (ac, bd) = (_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let abcd = _mm_unpacklo_ps(
                _mm_shuffle_ps::<0b10_00_10_00>(ac, ac),
                _mm_shuffle_ps::<0b10_00_10_00>(bd, bd),
            );
            _mm_storeu_ps(sums.as_mut_ptr(), abcd);
        }
        sums
    }

    macro_rules! sums {
        ($sums:ident, $sum:ident, $lanes:ty, $type:ty) => {
            #[inline(always)]
            unsafe fn $sums(a: $lanes, b: $lanes, c: $lanes, d: $lanes) -> [$type; 4] {
                // SAFETY: the caller vouches for the instructions.
                unsafe { [$sum(a), $sum(b), $sum(c), $sum(d)] }
            }
        };
    }
    sums!(sums_8_f64, sum_8_f64, __m512d, f64);
    sums!(sums_4_f64, sum_4_f64, __m256d, f64);

    lanes!(
        F32x16,
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
        f32,
        16,
        6,
        4,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        |from, count| _mm512_maskz_loadu_ps(bits_16(count), from),
        _mm512_storeu_ps,
        |to, count, x| _mm512_mask_storeu_ps(to, bits_16(count), x),
        _mm512_fmadd_ps,
        sum_16_f32,
        sums_16_f32
    );
    lanes!(
        F64x8,
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
        f64,
        8,
        6,
        4,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        |from, count| _mm512_maskz_loadu_pd(bits_8(count), from),
        _mm512_storeu_pd,
        |to, count, x| _mm512_mask_storeu_pd(to, bits_8(count), x),
        _mm512_fmadd_pd,
        sum_8_f64,
        sums_8_f64
    );
    lanes!(
        F32x8,
        "avx2,fma",
        f32,
        8,
        6,
        2,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        load_first_f32,
        _mm256_storeu_ps,
        store_first_f32,
        _mm256_fmadd_ps,
        sum_8_f32,
        sums_8_f32
    );
    lanes!(
        F64x4,
        "avx2,fma",
        f64,
        4,
        6,
        2,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        load_first_f64,
        _mm256_storeu_pd,
        store_first_f64,
        _mm256_fmadd_pd,
        sum_4_f64,
        sums_4_f64
    );
}
