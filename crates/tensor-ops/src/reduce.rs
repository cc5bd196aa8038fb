//! Sums whose order depends on the shape alone.

#![expect(clippy::indexing_slicing, reason = "lines are cut from a shape, whose data a view holds")]

use crate::parallel::for_each_chunk;
use crate::{Error, Result, Scalar, Shape, Tensor, View};

/// Elements (or lines) that are added one after the other before partial sums are added up.
const RUN: usize = 128;

/// The sum of all numbers, in a fixed order: halves are summed by themselves, which keeps the rounding error
/// of a long sum near that of a short one.
#[must_use]
pub fn sum<T: Scalar>(values: &[T]) -> T {
    if values.len() > RUN {
        let (left, right) = values.split_at((values.len() / 2).next_multiple_of(RUN));
        return sum(left) + sum(right);
    }
    sum_in_lanes::<T, 8>(values)
}

/// Whether no number is NaN or infinite: one that is makes a sum so.
#[must_use]
pub fn all_finite<T: Scalar>(values: &[T]) -> bool {
    // Large numbers may overflow.
    sum_in_lanes::<T, 32>(values).is_finite() || values.iter().all(|x| x.is_finite())
}

/// The sum of all numbers, by so many sums side by side: no addition waits for the one before.
fn sum_in_lanes<T: Scalar, const LANES: usize>(values: &[T]) -> T {
    let lines = values.chunks_exact(LANES);
    let tail = lines.remainder().iter().copied().sum::<T>();
    let mut lanes = [T::zero(); LANES];
    for line in lines {
        lanes.iter_mut().zip(line).for_each(|(sum, &x)| *sum += x);
    }
    lanes.into_iter().sum::<T>() + tail
}

/// Sums over one axis.
///
/// # Shapes
/// `input [..outer, n, inner..]` with `n` at `axis`; `output` is resized to the same shape with 1 at `axis`.
///
/// # Errors
/// [`Error::Shape`] where `input` has no such axis, [`Error::InvalidShape`] where no memory holds so many sums of nothing.
pub fn sum_axis<T: Scalar>(input: View<'_, T>, axis: usize, output: &mut Tensor<T>) -> Result<()> {
    let shape = input.shape();
    let Some(&n) = shape.get(axis) else {
        return Err(Error::Shape {
            operation: "sum_axis",
            expected: format!("an axis {axis}"),
            found: shape,
        });
    };
    let result = Shape::new(&shape.with_axis(axis, 1))?;
    let inner: usize = shape[axis + 1..].iter().product();
    output.resize(result);
    if inner == 1 {
        let chunk = (1 << 14) / n.max(1) + 1;
        for_each_chunk(output.data_mut(), chunk, shape.len(), |index, sums| {
            for (offset, out) in sums.iter_mut().enumerate() {
                *out = sum(&input.data()[(index * chunk + offset) * n..][..n]);
            }
        });
    } else {
        for_each_chunk(output.data_mut(), inner.max(1), shape.len(), |outer, sums| {
            add_lines(&input.data()[outer * n * inner..][..n * inner], sums);
        });
    }
    Ok(())
}

/// `sums[j]` = the sum of element j of every line, lines added in runs.
fn add_lines<T: Scalar>(lines: &[T], sums: &mut [T]) {
    const LANES: usize = 32;
    let width = sums.len();
    for (block, sums) in sums.chunks_mut(LANES).enumerate() {
        let mut total = [T::zero(); LANES];
        for run in lines.chunks(RUN * width) {
            let mut partial = [T::zero(); LANES];
            for line in run.chunks_exact(width) {
                let line = &line[block * LANES..][..sums.len()];
                partial.iter_mut().zip(line).for_each(|(sum, &x)| *sum += x);
            }
            total.iter_mut().zip(partial).for_each(|(sum, x)| *sum += x);
        }
        sums.copy_from_slice(&total[..sums.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_is() {
        for len in [0, 1, 63, 64, 65, 200] {
            let mut values = vec![f32::MAX; len];
            assert!(all_finite(&values), "{len}");
            for place in 0..len {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let good = std::mem::replace(&mut values[place], bad);
                    assert!(!all_finite(&values), "{bad} at {place} of {len}");
                    values[place] = good;
                }
            }
        }
    }
}
