//! Registers of x86-64: AVX-512, and AVX2 with FMA.

use std::arch::x86_64::*;

use super::{Kernel, Lanes, SQUARE};

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
        $fmadd:ident, $sum:ident, $sums:ident $(, $transpose:ident)?
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

            $(
                #[inline(always)]
                unsafe fn transpose(lines: [*const $type; SQUARE], to: *mut $type, width: usize) {
                    // SAFETY: as above; and for the memory.
                    unsafe { $transpose(lines, to, width) }
                }
            )?
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
        let acbd = _mm_shuffle_ps::<0b10_00_10_00>(ac, bd);
        _mm_storeu_ps(sums.as_mut_ptr(), _mm_shuffle_ps::<0b11_01_10_00>(acbd, acbd));
    }
    sums
}

/// As [`Lanes::transpose`]: numbers change places within quarters of a square, then the quarters theirs.
#[inline(always)]
unsafe fn transpose_f32(lines: [*const f32; SQUARE], to: *mut f32, width: usize) {
    // SAFETY: the caller vouches for the instructions and the memory.
    unsafe {
        let [l0, l1, l2, l3, l4, l5, l6, l7] = lines;
        for k in [0, 4] {
            // Four numbers of one line in the lower half of a register, four of the other in the upper one.
            let both = |low: *const f32, high: *const f32| {
                _mm256_insertf128_ps::<1>(
                    _mm256_castps128_ps256(_mm_loadu_ps(low.add(k))),
                    _mm_loadu_ps(high.add(k)),
                )
            };
            let [a, b, c, d] = [both(l0, l4), both(l1, l5), both(l2, l6), both(l3, l7)];
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ab_2, cd_2) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            let columns = [
                _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
                _mm256_shuffle_ps::<0b01_00_01_00>(ab_2, cd_2),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab_2, cd_2),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                _mm256_storeu_ps(to.add((k + i) * width), column);
            }
        }
    }
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
    sums_16_f32,
    transpose_f32
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
    sums_8_f32,
    transpose_f32
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Four sums at once have the bits of four by themselves.
    fn check<T: Copy + PartialEq + std::fmt::Debug, L: Lanes<T>>(numbers: &[T]) {
        // SAFETY: callers have asked for the instructions, and there are as many numbers.
        unsafe {
            let lanes = [0, 1, 2, 3].map(|i| L::load(numbers[i * L::COUNT..][..L::COUNT].as_ptr()));
            assert_eq!(L::sums(lanes), lanes.map(|lanes| lanes.sum()));
        }
    }

    #[test]
    fn sums_at_once_have_the_same_bits() {
        let numbers: Vec<f64> = (0..64).map(|i| (f64::from(i) * 0.618_033_988_749).fract() - 0.5).collect();
        let singles: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
        if has_avx2() {
            check::<f32, F32x8>(&singles);
            check::<f64, F64x4>(&numbers);
        }
        if has_avx512() {
            check::<f32, F32x16>(&singles);
            check::<f64, F64x8>(&numbers);
        }
    }
}
