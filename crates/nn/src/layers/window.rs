//! How a window moves over an axis: what convolutions and pooling have in common.

use serde::{Deserialize, Deserializer};
use tensor_ops::Shape;

use super::conv1d::Padding;
use super::unexpected;
use crate::Result;

/// The number of places that a window has along an axis of `size` steps, and how many steps of padding come before it.
///
/// The window sees `kernel` steps, `dilation` apart, and moves by `stride`; all are at least 1. `Valid` keeps it inside.
/// `Same` gives ceil(size / stride) places and divides the padding that they need evenly, the odd step at the end.
pub(super) fn window(
    place: &str,
    size: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: Padding,
) -> Result<(usize, usize)> {
    let reach = dilation.saturating_mul(kernel.saturating_sub(1)).saturating_add(1);
    let stride = stride.max(1);
    if padding == Padding::Same {
        let output = size.div_ceil(stride);
        let covered = output.saturating_sub(1).saturating_mul(stride).saturating_add(reach);
        return Ok((output, covered.saturating_sub(size) / 2));
    }
    if size < reach {
        return unexpected(place, format!("at least {reach} steps"), Shape::from([size]));
    }
    Ok(((size - reach) / stride + 1, 0))
}

/// The [`window`]s along height and width.
pub(super) fn windows(
    place: &str,
    [height, width]: [usize; 2],
    [[down, right], [down_stride, right_stride], [down_dilation, right_dilation]]: [[usize; 2]; 3],
    padding: Padding,
) -> Result<[(usize, usize); 2]> {
    Ok([
        window(place, height, down, down_stride, down_dilation, padding)?,
        window(place, width, right, right_stride, right_dilation, padding)?,
    ])
}

/// Reads `2` as `[2, 2]`, for settings that have a number for each of two axes.
pub(super) fn pair<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<[usize; 2], D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a whole number or two")]
    enum OneOrTwo {
        One(usize),
        Two([usize; 2]),
    }
    Ok(match OneOrTwo::deserialize(value)? {
        OneOrTwo::One(size) => [size; 2],
        OneOrTwo::Two(sizes) => sizes,
    })
}

/// The same where it may be left out.
pub(super) fn optional_pair<'de, D: Deserializer<'de>>(
    value: D,
) -> std::result::Result<Option<[usize; 2]>, D::Error> {
    pair(value).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_stay_inside_or_are_padded_evenly() {
        let of = |size, kernel, stride, dilation, padding| {
            window("test", size, kernel, stride, dilation, padding).unwrap()
        };
        assert_eq!(of(7, 3, 1, 1, Padding::Valid), (5, 0));
        assert_eq!(of(7, 3, 2, 2, Padding::Valid), (2, 0));
        assert_eq!(of(7, 3, 1, 1, Padding::Same), (7, 1));
        assert_eq!(of(7, 4, 1, 1, Padding::Same), (7, 1));
        assert_eq!(of(7, 3, 2, 1, Padding::Same), (4, 1));
        // Windows with gaps between them need no padding.
        assert_eq!(of(7, 2, 5, 1, Padding::Same), (2, 0));
        let error = window("test", 4, 3, 1, 2, Padding::Valid).unwrap_err().to_string();
        assert_eq!(error, "test: expected at least 5 steps, found [4]");
    }
}
