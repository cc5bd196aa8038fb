//! How close rows of several numbers are to others.
//!
//! | measure | reference |
//! | --- | --- |
//! | sliced Wasserstein-1 distance: the mean over directions of that of the rows' places along them | Rabin et al., 2011 |
//! | unbiased squared maximum mean discrepancy, Gaussian kernel | Gretton et al., 2012 |
//! | precision and recall: the share of generated (real) rows within the reach of a real (generated) one | Kynkäänniemi et al., 2019 |
//! | density and coverage: how many real rows reach a generated one, over k; the share of real rows that reach one | Naeem et al., 2020 |
//! | Frechet distance of the normal distributions with the samples' means and covariances | Heusel et al., 2017 |
//!
//! A row's reach is the distance to its k-th nearest neighbour in its own sample, with k = 5. What takes all pairs is
//! computed from the first 2,500 rows of each sample, or 1,000 images.

#![expect(clippy::indexing_slicing, reason = "rows are counted by the numbers that there are")]

use std::ops::Range;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tensor_ops::{Tensor, View, for_each_shard, matmul_nt};

use super::numbers::{Steps, mean_std, quantile, sorted, wasserstein_1};
use super::{Kind, Value};
use crate::data::normal;

/// Rows of which all pairs are looked at.
const PAIRED: usize = 2500;
/// Rows whose distances give the scale of the kernel.
const SCALE: usize = 500;
const DIRECTIONS: usize = 128;
/// Those that one thread takes at a time.
const DIRECTIONS_AT_ONCE: usize = 16;
const NEIGHBOURS: usize = 5;
/// Rows that one thread takes at a time.
const SHARE: usize = 64;
/// From so many numbers in a row on, distances come from a matrix product: many times as fast, and as exact as needed
/// where rows are not as near to each other as rounding.
const WIDE: usize = 32;

pub(super) fn measure(real: &[f64], generated: &[f64], width: usize) -> Vec<Value> {
    let (a, b) = (Rows { data: real, width }, Rows { data: generated, width });
    let columns: Vec<Steps> =
        (0..width).map(|i| Steps::between(&sorted(&a.column(i)), &sorted(&b.column(i)))).collect();
    let largest = |of: fn(&Steps) -> f64| columns.iter().map(of).fold(0.0, f64::max);
    let distance = |name, value| Value { name, kind: Kind::Distance, value };
    let mut values = compare(a, b, PAIRED);
    values.extend([
        distance("column_ks", largest(|steps| steps.largest)),
        distance("column_wasserstein_1", largest(|steps| steps.area)),
        distance("correlation_difference", correlation_difference(a, b)),
    ]);
    values
}

/// The measures that know rows by their distances alone, of the first `paired` rows where all pairs are looked at.
pub(super) fn compare(real: Rows<'_>, generated: Rows<'_>, paired: usize) -> Vec<Value> {
    let (first_real, first_generated) = (real.first(paired), generated.first(paired));
    let neighbours = Neighbours::new(first_real, first_generated);
    let bandwidth = first_real.first(SCALE).median_distance();
    let distance = |name, value| Value { name, kind: Kind::Distance, value };
    let score = |name, value| Value { name, kind: Kind::Score, value };
    vec![
        distance("sliced_wasserstein", sliced(real, generated)),
        distance("mmd", mmd(first_real, first_generated, bandwidth)),
        score("precision", neighbours.precision),
        score("recall", neighbours.recall),
        score("density", neighbours.density),
        score("coverage", neighbours.coverage),
    ]
}

/// The sliced Wasserstein-1 distance over 128 fixed directions, in the plane evenly spaced.
///
/// # Shapes
/// `a [rows, features]`, `b [rows, features]`.
#[must_use]
pub fn sliced_wasserstein(a: View<'_, f64>, b: View<'_, f64>) -> f64 {
    sliced(Rows::of(a), Rows::of(b))
}

/// The unbiased estimate of the squared maximum mean discrepancy with the kernel exp(-abs(x - y)^2 / (2 bandwidth^2)). It
/// can be below 0. NaN with less than 2 rows on a side.
///
/// # Shapes
/// `a [rows, features]`, `b [rows, features]`.
#[must_use]
pub fn mmd_rbf(a: View<'_, f64>, b: View<'_, f64>, bandwidth: f64) -> f64 {
    mmd(Rows::of(a), Rows::of(b), bandwidth)
}

/// The squared Frechet distance of two normal distributions, with the samples' means and covariances (divisor n - 1):
/// abs(m_a - m_b)^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2)).
///
/// # Shapes
/// `a [rows, features]`, `b [rows, features]`.
///
/// # Errors
/// Where the numbers of features differ.
pub fn frechet_distance(a: View<'_, f64>, b: View<'_, f64>) -> tensor_ops::Result<f64> {
    let ((mean_a, cov_a), (mean_b, cov_b)) = (moments(Rows::of(a)), moments(Rows::of(b)));
    let trace =
        |matrix: &Tensor<f64>| matrix.data().iter().step_by(matrix.shape().last_dim() + 1).sum::<f64>();
    let between: f64 = mean_a.iter().zip(&mean_b).map(|(a, b)| (a - b) * (a - b)).sum();
    // The eigenvalues of C_a C_b are those of the symmetric C_a^(1/2) C_b C_a^(1/2).
    let (values, mut root) = tensor_ops::symmetric_eigen(cov_a.view())?;
    let vectors = root.clone();
    for row in root.data_mut().chunks_exact_mut(values.len().max(1)) {
        row.iter_mut().zip(&values).for_each(|(x, value)| *x *= value.max(0.0).sqrt());
    }
    let square =
        |lhs: &Tensor<f64>, rhs: &Tensor<f64>, transposed: bool| -> tensor_ops::Result<Tensor<f64>> {
            let mut product = Tensor::zeros(cov_a.shape());
            let multiply = if transposed { tensor_ops::matmul_nt } else { tensor_ops::matmul };
            multiply(lhs.view(), rhs.view(), &mut product)?;
            Ok(product)
        };
    let root = square(&root, &vectors, true)?;
    let half = square(&root, &cov_b, false)?;
    let middle = square(&half, &root, false)?;
    let (values, _) = tensor_ops::symmetric_eigen(middle.view())?;
    let geometric: f64 = values.iter().map(|value| value.max(0.0).sqrt()).sum();
    Ok(between + trace(&cov_a) + trace(&cov_b) - 2.0 * geometric)
}

/// Rows of as many numbers.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f64],
    pub(super) width: usize,
}

impl<'a> Rows<'a> {
    fn of(view: View<'a, f64>) -> Self {
        // Rows that are not there may have any size.
        let width = if view.data().is_empty() { 0 } else { view.shape().without_first().len() };
        Self { data: view.data(), width }
    }

    fn view(self) -> tensor_ops::Result<View<'a, f64>> {
        View::new([self.count(), self.width], self.data)
    }

    fn count(self) -> usize {
        self.data.len() / self.width.max(1)
    }

    pub(super) fn first(self, count: usize) -> Self {
        Self { data: &self.data[..count.min(self.count()) * self.width], width: self.width }
    }

    fn row(self, index: usize) -> &'a [f64] {
        &self.data[index * self.width..][..self.width]
    }

    fn column(self, place: usize) -> Vec<f64> {
        self.data.iter().skip(place).step_by(self.width.max(1)).copied().collect()
    }

    /// The squared distances of a row to all of these.
    fn squares_from(self, row: &[f64], squares: &mut Vec<f64>) {
        squares.clear();
        let square = |other: &[f64]| row.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        squares.extend(self.data.chunks_exact(self.width.max(1)).map(square));
    }

    /// The squared length of each row.
    fn lengths(self) -> Vec<f64> {
        self.data.chunks_exact(self.width.max(1)).map(|row| row.iter().map(|x| x * x).sum()).collect()
    }

    /// The squared distances of some of these rows to all of `other`, by abs(x)^2 + abs(y)^2 - 2 x y.
    fn squares_by_product(
        self,
        range: Range<usize>,
        other: Self,
        lengths: &[f64],
    ) -> tensor_ops::Result<Tensor<f64>> {
        let some = Self { data: &self.data[range.start * self.width..range.end * self.width], ..self };
        let mut squares = Tensor::zeros([range.len(), other.count()]);
        matmul_nt(some.view()?, other.view()?, &mut squares)?;
        let rows = squares.data_mut().chunks_exact_mut(other.count().max(1));
        for (row, own) in rows.zip(some.lengths()) {
            row.iter_mut().zip(lengths).for_each(|(x, length)| *x = (own + length - 2.0 * *x).max(0.0));
        }
        Ok(squares)
    }

    /// The median of the distances between different rows; 1 where they are all the same.
    fn median_distance(self) -> f64 {
        let all = self.for_each_row(self, |index, squares| squares[..index].to_vec());
        let median = quantile(&sorted(&all.concat()), 0.5).sqrt();
        if median > 0.0 { median } else { 1.0 }
    }

    /// Calls `f(row, squared distances to all rows of other)` for each row, and returns what it gives, in order.
    fn for_each_row<R: Send + Default>(
        self,
        other: Self,
        f: impl Fn(usize, &mut [f64]) -> R + Sync + Send,
    ) -> Vec<R> {
        let mut shares: Vec<Vec<R>> = Vec::new();
        shares.resize_with(self.count().div_ceil(SHARE), Vec::new);
        let lengths = if self.width >= WIDE { other.lengths() } else { Vec::new() };
        for_each_shard(&mut shares, |share, results| {
            let rows = share * SHARE..((share + 1) * SHARE).min(self.count());
            if self.width >= WIDE {
                // The shapes fit: rows of the same width.
                let mut squares = self.squares_by_product(rows.clone(), other, &lengths).unwrap_or_default();
                let squares = squares.data_mut().chunks_exact_mut(other.count().max(1));
                results.extend(rows.zip(squares).map(|(index, squares)| f(index, squares)));
                return;
            }
            let mut squares = Vec::new();
            for index in rows {
                other.squares_from(self.row(index), &mut squares);
                results.push(f(index, &mut squares));
            }
        });
        shares.into_iter().flatten().collect()
    }

    /// For each row the squared distance to its k-th nearest neighbour among the others.
    fn reaches(self) -> Vec<f64> {
        let k = NEIGHBOURS.min(self.count().saturating_sub(1));
        self.for_each_row(self, |index, squares| {
            // Itself: behind none.
            squares[index] = -1.0;
            *squares.select_nth_unstable_by(k, f64::total_cmp).1
        })
    }
}

/// What nearest neighbours tell.
struct Neighbours {
    precision: f64,
    recall: f64,
    density: f64,
    coverage: f64,
}

impl Neighbours {
    fn new(real: Rows<'_>, generated: Rows<'_>) -> Self {
        let share = |hits: Vec<bool>| hits.iter().filter(|&&hit| hit).count() as f64 / hits.len() as f64;
        let (real_reaches, generated_reaches) = (real.reaches(), generated.reaches());
        // How many real rows reach each generated one.
        let reached = generated.for_each_row(real, |_, squares| {
            squares.iter().zip(&real_reaches).filter(|(square, reach)| square <= reach).count()
        });
        let of_real = real.for_each_row(generated, |index, squares| {
            let within = squares.iter().zip(&generated_reaches).any(|(square, reach)| square <= reach);
            let covered = squares.iter().any(|square| *square <= real_reaches[index]);
            (within, covered)
        });
        let density = reached.iter().sum::<usize>() as f64 / (NEIGHBOURS * reached.len()) as f64;
        Self {
            precision: share(reached.into_iter().map(|count| count > 0).collect()),
            recall: share(of_real.iter().map(|(within, _)| *within).collect()),
            density,
            coverage: share(of_real.iter().map(|(_, covered)| *covered).collect()),
        }
    }
}

fn sliced(a: Rows<'_>, b: Rows<'_>) -> f64 {
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    let mut direction = |index: usize| -> Vec<f64> {
        if a.width == 2 {
            let angle = std::f64::consts::PI * index as f64 / DIRECTIONS as f64;
            return vec![angle.cos(), angle.sin()];
        }
        let direction: Vec<f64> = (0..a.width).map(|_| normal(rng)).collect();
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        direction.into_iter().map(|x| x / length).collect()
    };
    let directions: Vec<f64> = (0..DIRECTIONS).flat_map(&mut direction).collect();
    // The shapes fit: as many numbers in a direction as in a row. Without rows there is no distance.
    let places = |rows: Rows<'_>, first: usize| -> tensor_ops::Result<Tensor<f64>> {
        let some = &directions[first * a.width..][..DIRECTIONS_AT_ONCE * a.width];
        let mut places = Tensor::zeros([DIRECTIONS_AT_ONCE, rows.count()]);
        matmul_nt(View::new([DIRECTIONS_AT_ONCE, a.width], some)?, rows.view()?, &mut places)?;
        Ok(places)
    };
    let mut sums = [0.0; DIRECTIONS / DIRECTIONS_AT_ONCE];
    for_each_shard(&mut sums, |shard, sum| {
        let [a, b] = [a, b].map(|rows| places(rows, shard * DIRECTIONS_AT_ONCE).unwrap_or_default());
        let of = |places: &Tensor<f64>, i: usize| {
            let count = places.shape().last_dim();
            places.data()[i * count..][..count].to_vec()
        };
        *sum = (0..DIRECTIONS_AT_ONCE).map(|i| wasserstein_1(&of(&a, i), &of(&b, i))).sum();
    });
    sums.iter().sum::<f64>() / DIRECTIONS as f64
}

fn mmd(a: Rows<'_>, b: Rows<'_>, bandwidth: f64) -> f64 {
    let scale = -1.0 / (2.0 * bandwidth * bandwidth);
    let sum = |from: Rows<'_>, to: Rows<'_>, same: bool| {
        let sums = from.for_each_row(to, |index, squares| {
            let own = if same { index } else { usize::MAX };
            let others = squares.iter().enumerate().filter(|(place, _)| *place != own);
            others.map(|(_, square)| (square * scale).exp()).sum::<f64>()
        });
        sums.iter().sum::<f64>()
    };
    let (n, m) = (a.count() as f64, b.count() as f64);
    sum(a, a, true) / (n * (n - 1.0)) + sum(b, b, true) / (m * (m - 1.0)) - 2.0 * sum(a, b, false) / (n * m)
}

/// The largest difference of the correlation of two columns; 0 with one column. A column whose numbers are all the same
/// has correlation 0 with every other.
fn correlation_difference(a: Rows<'_>, b: Rows<'_>) -> f64 {
    let correlations = |rows: Rows<'_>| {
        let columns: Vec<Vec<f64>> = (0..rows.width).map(|i| standardised(&rows.column(i))).collect();
        let mut all = Vec::new();
        for (i, x) in columns.iter().enumerate() {
            for y in &columns[..i] {
                let products: Vec<f64> = x.iter().zip(y).map(|(x, y)| x * y).collect();
                all.push(tensor_ops::sum(&products) / rows.count() as f64);
            }
        }
        all
    };
    let pairs = correlations(a).into_iter().zip(correlations(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn standardised(values: &[f64]) -> Vec<f64> {
    let (mean, std) = mean_std(values);
    values.iter().map(|x| if std > 0.0 { (x - mean) / std } else { 0.0 }).collect()
}

/// The mean of each column, and the covariances with divisor n - 1.
fn moments(rows: Rows<'_>) -> (Vec<f64>, Tensor<f64>) {
    let columns: Vec<Vec<f64>> = (0..rows.width).map(|i| rows.column(i)).collect();
    let means: Vec<f64> = columns.iter().map(|column| mean_std(column).0).collect();
    let mut covariances = Vec::with_capacity(rows.width * rows.width);
    for (x, mean_x) in columns.iter().zip(&means) {
        for (y, mean_y) in columns.iter().zip(&means) {
            let products: Vec<f64> = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).collect();
            covariances.push(tensor_ops::sum(&products) / (rows.count() as f64 - 1.0));
        }
    }
    let shape = [rows.width, rows.width];
    (means, Tensor::from_vec(shape, covariances).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_known_points() {
        // Two clusters; the generated rows stay in the left one, as tight as it is.
        let cluster = |at: f64| (0..10).map(move |i| at + 0.1 * f64::from(i));
        let real: Vec<f64> = cluster(0.0).chain(cluster(100.0)).collect();
        let generated: Vec<f64> = cluster(0.0).chain(cluster(0.05)).collect();
        let found = Neighbours::new(Rows { data: &real, width: 1 }, Rows { data: &generated, width: 1 });
        assert_eq!((found.precision, found.recall, found.coverage), (1.0, 0.5, 0.5));
        // Far away from all that is real.
        let away: Vec<f64> = cluster(-1000.0).chain(cluster(-1000.0)).collect();
        let found = Neighbours::new(Rows { data: &real, width: 1 }, Rows { data: &away, width: 1 });
        assert_eq!([found.precision, found.recall, found.density, found.coverage], [0.0; 4]);
    }

    #[test]
    fn wide_rows_are_as_far_apart_by_products_as_by_differences() {
        let data: Vec<f64> = (0..70 * WIDE).map(|i| (i * i % 101) as f64 / 50.0 - 1.0).collect();
        let rows = Rows { data: &data, width: WIDE };
        let by_product = rows.for_each_row(rows, |_, squares| squares.to_vec());
        assert_eq!(by_product.len(), 70);
        let mut squares = Vec::new();
        for (index, found) in by_product.iter().enumerate() {
            rows.squares_from(rows.row(index), &mut squares);
            found.iter().zip(&squares).for_each(|(a, b)| approx::assert_abs_diff_eq!(a, b, epsilon = 1e-11));
        }
    }

    #[test]
    fn a_row_reaches_its_fifth_neighbour() {
        let line: Vec<f64> = (0..20).map(f64::from).collect();
        let reaches = Rows { data: &line, width: 1 }.reaches();
        assert_eq!((reaches[0], reaches[10]), (25.0, 9.0));
        let near: Vec<f64> = line.iter().map(|x| x / 8.0).collect();
        assert_eq!(Rows { data: &near, width: 1 }.reaches()[0], 25.0 / 64.0);
    }

    #[test]
    fn the_kernel_is_as_wide_as_its_bandwidth() {
        let rows = View::new([2, 1], &[0.0, 2.0]).unwrap();
        let kernel = (-0.5_f64).exp();
        approx::assert_relative_eq!(mmd_rbf(rows, rows, 2.0), kernel - 1.0, max_relative = 1e-12);
    }

    #[test]
    fn distributions_far_from_0_are_as_far_apart_as_near_it() {
        let at = |shift: f64| [0.0, 1.0, 3.0].map(|x| x + shift);
        let (a, b) = (at(1e9), at(1e9 + 2.0));
        let [a, b] = [&a, &b].map(|rows| View::new([3, 1], &rows[..]).unwrap());
        let distance = frechet_distance(a, b).unwrap();
        assert!((distance - 4.0).abs() < 1e-4, "{distance}");
    }

    #[test]
    fn the_median_distance_is_that_of_different_rows() {
        let of = |data: &[f64]| Rows { data, width: 1 }.median_distance();
        assert_eq!((of(&[0.0, 4.0, 1.0]), of(&[2.0; 4])), (3.0, 1.0));
    }

    #[test]
    fn correlations_differ_where_a_sign_does() {
        let a = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0];
        let b = [1.0, -1.0, 2.0, -2.0, 3.0, -3.0];
        let difference = correlation_difference(Rows { data: &a, width: 2 }, Rows { data: &b, width: 2 });
        approx::assert_relative_eq!(difference, 2.0, max_relative = 1e-12);
        // A column that stands still goes with no other.
        let still = [1.0, 5.0, 2.0, 5.0, 3.0, 5.0];
        let difference = correlation_difference(Rows { data: &a, width: 2 }, Rows { data: &still, width: 2 });
        approx::assert_relative_eq!(difference, 1.0, max_relative = 1e-12);
    }

    #[test]
    fn a_shift_is_seen_from_all_sides() {
        let a: Vec<f64> = (0..600).map(|i| f64::from(i) * 0.37 % 1.0).collect();
        let b: Vec<f64> = a.iter().enumerate().map(|(i, x)| if i % 2 == 0 { x + 3.0 } else { *x }).collect();
        // Along a direction at angle t to the shift it is 3 abs(cos t), on average 6 / pi.
        let distance = sliced(Rows { data: &a, width: 2 }, Rows { data: &b, width: 2 });
        assert!((distance - 6.0 / std::f64::consts::PI).abs() < 1e-3, "{distance}");
        // On a line there is one direction.
        let (a, b) = (View::new([600, 1], &a[..]).unwrap(), View::new([600, 1], &b[..]).unwrap());
        let expected = wasserstein_1(a.data(), b.data());
        approx::assert_relative_eq!(sliced_wasserstein(a, b), expected, max_relative = 1e-12);
    }
}
