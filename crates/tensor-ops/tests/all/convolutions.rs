//! Convolutions against naive loops, over random geometries, and their bits at any number of threads.

use proptest::prelude::*;
use tensor_ops::{Convolution, Scalar, Tensor, with_threads};

/// Small integers, so that every sum is exact and the comparison can be for equality.
fn integers<T: Scalar>(shape: [usize; 4], seed: u64) -> Tensor<T> {
    let mut state = seed;
    Tensor::from_fn(shape, || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        T::from_f64((state >> 60) as f64 - 8.0)
    })
}

#[derive(Debug, Clone, Copy)]
struct Case {
    convolution: Convolution,
    batch: usize,
    channels: usize,
    filters: usize,
}

/// Calls `f(image element, kernel element, output element)` for each product in a convolution.
fn for_each_product(case: &Case, mut f: impl FnMut(usize, usize, usize)) {
    let Case { convolution: c, batch, channels, filters } = *case;
    for b in 0..batch {
        for (t, u) in (0..c.places[0]).flat_map(|t| (0..c.places[1]).map(move |u| (t, u))) {
            for (i, j) in (0..c.kernel[0]).flat_map(|i| (0..c.kernel[1]).map(move |j| (i, j))) {
                let y = (t * c.strides[0] + i * c.dilation[0]).checked_sub(c.padding[0]);
                let x = (u * c.strides[1] + j * c.dilation[1]).checked_sub(c.padding[1]);
                let (Some(y), Some(x)) = (y, x) else { continue };
                if y >= c.image[0] || x >= c.image[1] {
                    continue;
                }
                for channel in 0..channels {
                    for filter in 0..filters {
                        let pixel = (b * c.image[0] + y) * c.image[1] + x;
                        let place = (b * c.places[0] + t) * c.places[1] + u;
                        let tap = i * c.kernel[1] + j;
                        f(
                            pixel * channels + channel,
                            (tap * channels + channel) * filters + filter,
                            place * filters + filter,
                        );
                    }
                }
            }
        }
    }
}

fn tensors<T: Scalar>(case: &Case) -> [Tensor<T>; 3] {
    let Case { convolution: c, batch, channels, filters } = *case;
    [
        integers([batch, c.image[0], c.image[1], channels], 1),
        integers([c.kernel[0], c.kernel[1], channels, filters], 2),
        integers([batch, c.places[0], c.places[1], filters], 3),
    ]
}

/// What the three products give: forward with a bias and doubled, transposed likewise, and the kernel's gradient added
/// to a kernel.
fn results<T: Scalar>(case: &Case) -> [Tensor<T>; 3] {
    let [image, kernel, places] = tensors::<T>(case);
    let (forward_bias, back_bias) =
        (integers([1, 1, 1, case.filters], 4), integers([1, 1, 1, case.channels], 5));
    // Buffers full of NaN show that what was in them does not matter.
    let mut output = Tensor::full(places.shape(), T::nan());
    let mut back = Tensor::full(image.shape(), T::nan());
    let mut gradient = kernel.clone();
    let double = |values: &mut [T]| values.iter_mut().for_each(|x| *x += *x);
    let c = case.convolution;
    c.forward(image.view(), kernel.view(), Some(forward_bias.view()), &mut output, double).unwrap();
    c.transposed(places.view(), kernel.view(), Some(back_bias.view()), &mut back, double).unwrap();
    c.add_kernel_gradient(image.view(), places.view(), &mut gradient).unwrap();
    [output, back, gradient]
}

fn expected<T: Scalar>(case: &Case) -> [Tensor<T>; 3] {
    let [image, kernel, places] = tensors::<T>(case);
    let (forward_bias, back_bias) =
        (integers::<T>([1, 1, 1, case.filters], 4), integers::<T>([1, 1, 1, case.channels], 5));
    let repeated = |bias: &Tensor<T>, like: &Tensor<T>| {
        let mut all = bias.data().iter().copied().cycle();
        Tensor::from_fn(like.shape(), || all.next().unwrap())
    };
    let (mut output, mut back) = (repeated(&forward_bias, &places), repeated(&back_bias, &image));
    let mut gradient = kernel.clone();
    for_each_product(case, |pixel, weight, place| {
        output.data_mut()[place] += image.data()[pixel] * kernel.data()[weight];
        back.data_mut()[pixel] += places.data()[place] * kernel.data()[weight];
        gradient.data_mut()[weight] += image.data()[pixel] * places.data()[place];
    });
    for tensor in [&mut output, &mut back] {
        tensor.data_mut().iter_mut().for_each(|x| *x += *x);
    }
    [output, back, gradient]
}

#[track_caller]
fn check(case: &Case) {
    assert_eq!(results::<f64>(case), expected::<f64>(case), "{case:?}");
    assert_eq!(results::<f32>(case), expected::<f32>(case), "{case:?}");
}

fn pair(range: std::ops::Range<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

/// Any geometry, sensible or not: places far outside the image see zeros alone.
fn cases() -> impl Strategy<Value = Case> {
    // Of many channels, lines of a patch are multiplied where they lie.
    let channels = || prop_oneof![3 => 1_usize..8, 1 => prop::sample::select(vec![16, 24, 64, 136])];
    let sizes = (0_usize..4, channels(), channels());
    (pair(1..9), pair(1..7), pair(1..5), pair(1..4), pair(1..4), pair(0..4), sizes).prop_map(
        |(image, places, kernel, strides, dilation, padding, (batch, channels, filters))| Case {
            convolution: Convolution { image, places, kernel, strides, dilation, padding },
            batch,
            channels,
            filters,
        },
    )
}

/// Kernels of two strides, which many channels go through in tiles of places: of any length, with places that see nothing.
fn tiled_cases() -> impl Strategy<Value = Case> {
    let channels = || prop::sample::select(vec![16, 24, 33, 64, 70]);
    let sizes = (1_usize..9, channels(), channels());
    (pair(1..11), pair(1..4), pair(0..4), pair(0..5), sizes).prop_map(
        |(places, strides, padding, less, (batch, channels, filters))| {
            let image = [0, 1].map(|axis| {
                let seen = (places[axis] + 1) * strides[axis];
                seen.saturating_sub(padding[axis] + less[axis]).max(1)
            });
            let kernel = strides.map(|stride| 2 * stride);
            let convolution = Convolution { image, places, kernel, strides, dilation: [1, 1], padding };
            Case { convolution, batch, channels, filters }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn match_the_naive_loops(case in cases()) {
        check(&case);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn match_the_naive_loops_in_tiles(case in tiled_cases()) {
        check(&case);
    }
}

/// The layers of a network for images of 28 x 28 pixels.
const DCGAN: [(Convolution, usize, usize); 2] = [
    (
        Convolution {
            image: [28, 28],
            places: [14, 14],
            kernel: [4, 4],
            strides: [2, 2],
            dilation: [1, 1],
            padding: [1, 1],
        },
        1,
        64,
    ),
    (
        Convolution {
            image: [14, 14],
            places: [7, 7],
            kernel: [4, 4],
            strides: [2, 2],
            dilation: [1, 1],
            padding: [1, 1],
        },
        64,
        128,
    ),
];

#[test]
fn hold_where_blocks_and_chunks_are_many() {
    for (convolution, channels, filters) in DCGAN {
        check(&Case { convolution, batch: 5, channels, filters });
    }
    // More points of one kind than are multiplied at a time, of many images and of one that is wide.
    check(&Case { convolution: DCGAN[1].0, batch: 30, channels: 16, filters: 72 });
    let wide = Convolution { image: [74, 72], places: [37, 36], ..DCGAN[1].0 };
    check(&Case { convolution: wide, batch: 1, channels: 16, filters: 24 });
    let convolution = Convolution { dilation: [2, 3], strides: [1, 2], padding: [2, 4], ..DCGAN[0].0 };
    check(&Case { convolution, batch: 2, channels: 33, filters: 70 });
    // A panel of channels and a part of the filters, and more, both ways back to the image.
    let small = Convolution { image: [7, 6], places: [3, 3], kernel: [5, 5], ..DCGAN[0].0 };
    for (channels, filters) in [(3, 300), (150, 300)] {
        check(&Case { convolution: small, batch: 2, channels, filters });
    }
}

/// Tiles add and subtract numbers before they multiply, and yet are about as exact as plain sums, which have more terms.
/// A single image is not worth tiles.
#[test]
fn tiles_lose_little_precision() {
    fn noise<T: Scalar>(like: &Tensor<T>, seed: u64) -> Tensor<T> {
        let mut state = seed;
        Tensor::from_fn(like.shape(), || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::from_f64((state >> 40) as f64 / f64::from(1 << 23) - 1.0)
        })
    }
    fn products<T: Scalar>(case: &Case) -> [Tensor<T>; 3] {
        let [image, kernel, places] = tensors::<T>(case);
        let [image, kernel, places] = [noise(&image, 1), noise(&kernel, 2), noise(&places, 3)];
        let (mut output, mut back) = (Tensor::zeros(places.shape()), Tensor::zeros(image.shape()));
        let mut gradient = Tensor::zeros(kernel.shape());
        let c = case.convolution;
        c.forward(image.view(), kernel.view(), None, &mut output, |_| {}).unwrap();
        c.transposed(places.view(), kernel.view(), None, &mut back, |_| {}).unwrap();
        c.add_kernel_gradient(image.view(), places.view(), &mut gradient).unwrap();
        [output, back, gradient]
    }
    /// The root mean square of the errors in f32, in units of that of the numbers' last places.
    fn errors(case: &Case) -> [f64; 3] {
        let (found, exact) = (products::<f32>(case), products::<f64>(case));
        [0, 1, 2].map(|i| {
            let pairs = found[i].data().iter().zip(exact[i].data());
            let squares = pairs.map(|(&x, &y)| (f64::from(x) - y).powi(2)).sum::<f64>();
            let size = exact[i].data().iter().map(|y| y * y).sum::<f64>();
            (squares / size).sqrt() / f64::from(f32::EPSILON)
        })
    }
    let (convolution, channels, filters) = DCGAN[1];
    let plain = errors(&Case { convolution, batch: 1, channels, filters });
    let tiles = errors(&Case { convolution, batch: 8, channels, filters });
    assert!(plain.iter().chain(&tiles).all(|&error| error < 5.0), "{plain:?} {tiles:?}");
    assert!(plain != tiles);
}

#[test]
fn have_the_same_bits_at_any_number_of_threads() {
    for (convolution, channels, filters) in DCGAN {
        let case = Case { convolution, batch: 9, channels, filters };
        let one = with_threads(1, || results::<f32>(&case)).unwrap();
        for threads in [2, 3, 8] {
            assert!(with_threads(threads, || results::<f32>(&case)).unwrap() == one);
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let case = Case { convolution: DCGAN[0].0, batch: 1, channels: 2, filters: 3 };
    let [mut image, kernel, places] = tensors::<f32>(&case);
    let four = Tensor::zeros([4]);
    let bias = Some(four.view());
    let error = case.convolution.transposed(places.view(), kernel.view(), bias, &mut image, |_| {});
    assert!(error.is_err(), "a bias of 4 numbers for 2 channels");

    let case = Case { convolution: DCGAN[0].0, batch: 1, channels: 1, filters: 2 };
    let [image, kernel, mut places] = tensors::<f32>(&case);
    let mut forward = |image: &Tensor<f32>, kernel: &Tensor<f32>| {
        case.convolution
            .forward(image.view(), kernel.view(), None, &mut places, |_| {})
            .map_err(|e| e.to_string())
    };
    forward(&image, &kernel).unwrap();
    let wide = Tensor::zeros([1, 28, 27, 1]);
    assert_eq!(
        forward(&wide, &kernel).unwrap_err(),
        "convolution: expected images of 28 x 28 pixels, found [1, 28, 27, 1]"
    );
    let deep = Tensor::zeros([4, 4, 3, 2]);
    assert_eq!(
        forward(&image, &deep).unwrap_err(),
        "convolution: expected a kernel of 4 x 4 for 1 channels, found [4, 4, 3, 2]"
    );
}
