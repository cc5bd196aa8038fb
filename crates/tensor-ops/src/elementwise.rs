//! Operations on each element by itself.

#![allow(unsafe_code, reason = "threads write parts of the same tensors")]
#![expect(clippy::indexing_slicing, reason = "chunks are cut from lengths that are checked to be the same")]

use std::sync::atomic::{AtomicBool, Ordering};

use crate::lanes::{Kernel, Lanes, vectorised};
use crate::parallel::{Parts, for_each_chunk, for_each_part};
use crate::{Error, Result, Scalar, Tensor, View, all_finite};

/// How many elements one thread takes at a time.
const CHUNK: usize = 1 << 14;

/// How many are copied before they are changed in place.
const COPIED: usize = 256;

/// What so many elements cost, in the units of `for_each_chunk`: a cheap guess for a function like `exp`.
pub(crate) fn elements_cost(elements: usize) -> usize {
    elements * 8
}

/// `output[i] = f(input[i])`; `output` takes the shape of `input`.
pub fn map<T: Scalar>(input: View<'_, T>, output: &mut Tensor<T>, f: impl Fn(T) -> T + Sync + Send) {
    output.resize(input.shape());
    let source = input.data();
    for_each_chunk(output.data_mut(), CHUNK, elements_cost(source.len()), |index, chunk| {
        let source = &source[index * CHUNK..][..chunk.len()];
        vectorised(|| chunk.iter_mut().zip(source).for_each(|(y, &x)| *y = f(x)));
    });
}

/// `tensor[i] = f(tensor[i])`.
pub fn map_in_place<T: Scalar>(tensor: &mut Tensor<T>, f: impl Fn(T) -> T + Sync + Send) {
    let cost = elements_cost(tensor.shape().len());
    for_each_chunk(tensor.data_mut(), CHUNK, cost, |_, chunk| map_slice(chunk, &f));
}

/// `values[i] = f(values[i])`, on the calling thread.
pub fn map_slice<T: Scalar>(values: &mut [T], f: impl Fn(T) -> T) {
    // From a copy: in place, the compiler would store only what `f` changes, under a mask, and AMD's processors take as long
    // for such a store as for a dozen others.
    vectorised(|| {
        let mut copy = [T::zero(); COPIED];
        for values in values.chunks_mut(COPIED) {
            let copy = &mut copy[..values.len()];
            copy.copy_from_slice(values);
            values.iter_mut().zip(&*copy).for_each(|(y, &x)| *y = f(x));
        }
    });
}

/// `output[i] = f(a[i], b[i])`; `output` takes the shape of `a`.
///
/// # Errors
/// [`Error::Shape`] unless `a` and `b` have the same number of elements.
pub fn zip<T: Scalar>(
    a: View<'_, T>,
    b: View<'_, T>,
    output: &mut Tensor<T>,
    f: impl Fn(T, T) -> T + Sync + Send,
) -> Result<()> {
    check_same_len("zip", a.shape().len(), b)?;
    output.resize(a.shape());
    let (a, b) = (a.data(), b.data());
    for_each_chunk(output.data_mut(), CHUNK, elements_cost(a.len()), |index, chunk| {
        let a = &a[index * CHUNK..][..chunk.len()];
        let b = &b[index * CHUNK..][..chunk.len()];
        vectorised(|| chunk.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = f(a, b)));
    });
    Ok(())
}

/// `tensor[i] = f(tensor[i], other[i])`.
///
/// # Errors
/// [`Error::Shape`] unless both have the same number of elements.
pub fn zip_in_place<T: Scalar>(
    tensor: &mut Tensor<T>,
    other: View<'_, T>,
    f: impl Fn(T, T) -> T + Sync + Send,
) -> Result<()> {
    check_same_len("zip_in_place", tensor.shape().len(), other)?;
    let other = other.data();
    for_each_chunk(tensor.data_mut(), CHUNK, elements_cost(other.len()), |index, chunk| {
        let other = &other[index * CHUNK..][..chunk.len()];
        vectorised(|| chunk.iter_mut().zip(other).for_each(|(x, &y)| *x = f(*x, y)));
    });
    Ok(())
}

/// Sets element i of all `targets` to `f` of them and of `source[i]`: a step of an optimizer, with what it remembers.
/// Returns whether all elements of the first target are finite now, which costs less here than in a pass of its own.
///
/// # Errors
/// [`Error::Shape`] unless all have the same number of elements.
pub fn update<T: Scalar, const N: usize>(
    targets: [&mut Tensor<T>; N],
    source: View<'_, T>,
    f: impl Fn([T; N], T) -> [T; N] + Sync + Send,
) -> Result<bool> {
    let len = source.shape().len();
    for target in &targets {
        check_same_len("update", len, target.view())?;
    }
    let targets = targets.map(|target| Parts::new(target.data_mut()));
    let finite = AtomicBool::new(true);
    for_each_part(len.div_ceil(CHUNK), elements_cost(len), |chunk| {
        let first = chunk * CHUNK;
        let len = CHUNK.min(len - first);
        // SAFETY: chunks do not overlap.
        let targets = targets.each_ref().map(|target| unsafe { target.slice(first, len) });
        let source = &source.data()[first..][..len];
        if !T::run(Update { targets, source, f: &f }) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    Ok(finite.into_inner())
}

struct Update<'a, T, F, const N: usize> {
    targets: [&'a mut [T]; N],
    source: &'a [T],
    f: F,
}

impl<T: Scalar, F: Fn([T; N], T) -> [T; N], const N: usize> Kernel<T> for Update<'_, T, F, N> {
    type Output = bool;

    #[inline(always)]
    unsafe fn run<L: Lanes<T>>(self) -> bool {
        // A block lies in local arrays while it is worked on: the compiler sees that they do not overlap.
        const BLOCK: usize = 16;
        let Self { mut targets, source, f } = self;
        let whole = source.len() / BLOCK * BLOCK;
        let mut sums = [T::zero(); BLOCK];
        for first in (0..whole).step_by(BLOCK) {
            let mut block = [[T::zero(); BLOCK]; N];
            for (block, target) in block.iter_mut().zip(&targets) {
                block.copy_from_slice(&target[first..first + BLOCK]);
            }
            let source = &source[first..first + BLOCK];
            for i in 0..BLOCK {
                let new = f(std::array::from_fn(|t| block[t][i]), source[i]);
                for (block, new) in block.iter_mut().zip(new) {
                    block[i] = new;
                }
            }
            if let Some(first) = block.first() {
                sums.iter_mut().zip(first).for_each(|(sum, &x)| *sum += x);
            }
            for (target, block) in targets.iter_mut().zip(&block) {
                target[first..first + BLOCK].copy_from_slice(block);
            }
        }
        for i in whole..source.len() {
            let new = f(std::array::from_fn(|t| targets[t][i]), source[i]);
            for (target, new) in targets.iter_mut().zip(new) {
                target[i] = new;
            }
        }
        // Sums of large numbers may overflow.
        let finite = sums.iter().fold(true, |finite, sum| finite & sum.is_finite());
        targets.first().is_none_or(|first| all_finite(if finite { &first[whole..] } else { first }))
    }
}

fn check_same_len<T>(operation: &'static str, expected: usize, found: View<'_, T>) -> Result<()> {
    if found.shape().len() == expected {
        return Ok(());
    }
    Err(Error::Shape { operation, expected: format!("{expected} elements"), found: found.shape() })
}
