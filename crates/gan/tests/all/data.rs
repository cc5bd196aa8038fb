//! Every kind of data: read from a configuration, drawn from, written back, and refused where a setting is wrong.

use gan::{Data, Source};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Every kind but CSV, with the mean and the standard deviation of its numbers.
const KINDS: &[(&str, f64, f64)] = &[
    ("kind = 'normal'\nmean = 4.0\nstd = 1.25", 4.0, 1.25),
    ("kind = 'uniform'\nlow = -1.0\nhigh = 2.0", 0.5, 0.866_025),
    ("kind = 'exponential'\nrate = 2.0", 0.5, 0.5),
    ("kind = 'log_normal'\nmu = 0.1\nsigma = 0.5", 1.252_323, 0.667_418),
    ("kind = 'student_t'\ndegrees = 8.0\nlocation = 1.0\nscale = 2.0", 1.0, 2.309_401),
    ("kind = 'laplace'\nlocation = 3.0\nscale = 0.5", 3.0, std::f64::consts::FRAC_1_SQRT_2),
    (
        "kind = 'mixture'\ncomponents = [{ weight = 3, mean = -2, std = 0.5 }, { weight = 7, mean = 3, std = 1 }]",
        1.5,
        2.459_675,
    ),
    ("kind = 'ring'\nstd = 0.01", 0.0, 0.707_178),
    ("kind = 'grid'\nstd = 0.05", 0.0, 2.828_869),
    ("kind = 'swiss_roll'\nnoise = 0.1", 0.184_351, 1.145_654),
    ("kind = 'two_moons'\nnoise = 0.1", 0.0, 0.712_106),
    (
        "kind = 'mixture'\ncomponents = [{ weight = 1, mean = [0, 4], std = 1 }, { weight = 1, mean = [0, 0], std = 1 }]",
        1.0,
        2.0,
    ),
];

fn open(text: &str) -> gan::Result<Source> {
    toml::from_str::<Data>(text).unwrap().open()
}

fn drawn(source: &Source, numbers: usize) -> Vec<f64> {
    let mut rows = vec![0.0; numbers];
    source.fill(&mut ChaCha8Rng::seed_from_u64(4), &mut rows).unwrap();
    rows
}

#[test]
fn every_kind_has_its_mean_and_deviation() {
    for &(text, mean, std) in KINDS {
        let rows = drawn(&open(text).unwrap(), 200_000);
        let (found_mean, found_std) = gan::evaluate::mean_std(&rows);
        assert!((found_mean - mean).abs() < 0.015 * std, "{text}: {found_mean}");
        assert!((found_std - std).abs() < 0.015 * std, "{text}: {found_std}");
    }
}

/// The first numbers drawn of each kind, so that a run that is begun with one version goes on with the next.
#[test]
fn every_kind_has_the_same_numbers_for_ever() {
    const FIRST: [[f64; 4]; 12] = [
        [5.338_617_022, 2.697_458_229, 4.583_726_750, 5.277_360_521],
        [1.961_127_102, 1.178_858_519, 0.945_389_390, -0.790_546_477],
        [1.282_009_868, 0.039_136_732, 0.163_264_326, 0.961_531_245],
        [1.887_865_468, 0.656_379_134, 1.395_832_065, 1.842_169_970],
        [4.020_360_664, 3.464_370_096, 0.470_740_877, 1.681_752_694],
        [4.282_009_868, 3.681_698_458, 2.038_468_755, 3.127_068_317],
        [1.957_966_584, 4.021_888_417, -1.145_739_061, -2.032_690_509],
        [-0.717_527_115, -0.702_436_967, -0.005_245_504, -0.982_914_781],
        [1.947_898_329, 2.023_349_070, 1.973_772_478, 4.085_426_094],
        [0.922_092_388, -1.583_375_548, 1.492_287_302, -1.070_298_846],
        [-0.956_835_158, 0.780_991_520, 0.498_971_232, 0.281_919_692],
        [-1.042_033_416, 0.466_981_400, -0.524_550_444, 1.708_521_878],
    ];
    for (&(text, ..), expected) in KINDS.iter().zip(FIRST) {
        let found = drawn(&open(text).unwrap(), 4);
        found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-8, "{text}: {found:?}"));
    }
}

#[test]
fn every_kind_is_written_as_it_was_read() {
    let csv = "kind = 'csv'\npath = 'a.csv'\ncolumns = ['a', 3]";
    for text in KINDS.iter().map(|(text, ..)| *text).chain([csv]) {
        let data: Data = toml::from_str(text).unwrap();
        let again: Data = toml::from_str(&toml::to_string(&data).unwrap()).unwrap();
        assert_eq!(data, again);
    }
}

#[test]
fn points_lie_around_their_modes() {
    for (text, modes, std) in
        [("kind = 'ring'\nstd = 0.01", 8, 0.01), ("kind = 'grid'\nstd = 0.05", 25, 0.05)]
    {
        let source = open(text).unwrap();
        let Source::Points(gan::Points::Modes(known)) = &source else { panic!("{source:?}") };
        assert_eq!(known.means.len(), modes);
        let mut counts = vec![0; modes];
        let mut within = 0;
        let rows = drawn(&source, 40_000);
        for point in rows.chunks_exact(2) {
            let (mode, distance) = known.nearest(point);
            counts[mode] += 1;
            within += u32::from(distance <= 3.0);
            let place = known.means[mode].iter().zip(point).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(place < 6.0 * std);
        }
        // 98.9 % of a round normal distribution lie within 3 standard deviations.
        assert!((f64::from(within) / 20_000.0 - 0.9889).abs() < 0.003);
        let expected = 20_000 / modes as i32;
        assert!(counts.iter().all(|count| (count - expected).abs() < expected / 5), "{counts:?}");
    }
}

#[test]
fn the_ring_and_the_grid_are_where_papers_put_them() {
    let modes = |text| match open(text).unwrap() {
        Source::Points(gan::Points::Modes(known)) => known.means,
        other => panic!("{other:?}"),
    };
    let ring = modes("kind = 'ring'\nstd = 0.01");
    assert!(ring.iter().all(|mean| (mean[0].hypot(mean[1]) - 1.0).abs() < 1e-12));
    assert!((ring[2][0].abs() < 1e-12) && (ring[2][1] - 1.0).abs() < 1e-12);
    let grid = modes("kind = 'grid'\nstd = 0.05");
    assert_eq!(
        (&grid[0][..], &grid[1][..], &grid[24][..]),
        (&[-4.0, -4.0][..], &[-4.0, -2.0][..], &[4.0, 4.0][..])
    );
}

#[test]
fn settings_out_of_range_are_refused() {
    let check = |text: &str, message: &str| assert_eq!(open(text).unwrap_err().to_string(), message);
    check("kind = 'exponential'\nrate = 0.0", "data: expected a rate > 0, found rate 0");
    check(
        "kind = 'log_normal'\nmu = 0.0\nsigma = -1.0",
        "data: expected a finite mu and a sigma > 0, found mu 0, sigma -1",
    );
    check(
        "kind = 'student_t'\ndegrees = 0.0",
        "data: expected degrees > 0, a finite location and a scale > 0, found degrees 0, location 0, scale 1",
    );
    check(
        "kind = 'laplace'\nlocation = nan\nscale = 1.0",
        "data: expected a finite location and a scale > 0, found location NaN, scale 1",
    );
    check(
        "kind = 'mixture'\ncomponents = [{ weight = 0, mean = 1, std = 1 }]",
        "data.components: expected components of weight > 0, finite mean and std > 0, found weight 0, mean 1, std 1",
    );
    check(
        "kind = 'mixture'\ncomponents = []",
        "data.components: expected components of weight > 0, finite mean and std > 0, found none",
    );
    let mixed = "kind = 'mixture'\ncomponents = [{ weight = 1, mean = 1, std = 1 }, { weight = 1, mean = [1, 2], std = 1 }]";
    let error = open(mixed).unwrap_err().to_string();
    assert!(
        error.starts_with("data.components: expected components of weight > 0 and std > 0 whose means"),
        "{error}"
    );
    check(
        "kind = 'ring'\nmodes = 0\nstd = 0.1",
        "data: expected 1 to 1000000 modes, a finite radius and a std > 0, found modes 0, radius 1, std 0.1",
    );
    check(
        "kind = 'grid'\nstd = 0.0",
        "data: expected a side from 1 to 1000, a finite spacing and a std > 0, found side 5, spacing 2, std 0",
    );
    check("kind = 'two_moons'\nnoise = -0.1", "data: expected a noise >= 0, found noise -0.1");
    let error = open("kind = 'csv'\npath = 'nowhere.csv'").unwrap_err().to_string();
    assert!(error.starts_with("nowhere.csv: cannot read: "), "{error}");
}
