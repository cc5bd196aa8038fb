//! The pictures of a run.
//!
//! | name | of |
//! | --- | --- |
//! | `histogram` | numbers: real, generated, input |
//! | `distribution` | numbers: the two distribution functions; tables: those of each column |
//! | `generator` | numbers, where G makes each of one z: G beside the true quantile function |
//! | `discriminator` | numbers, where D sees one at a time: how real it takes x to be |
//! | `images` | images, as PNG alone: real, generated, and the nearest real one to each of those |
//! | `run` | images: the samples of all stages, as an animated PNG |
//! | `points` | points in the plane: real and generated, over a map of D |
//! | `curves` | losses, accuracy and measures over the run, with the floors |

use std::path::{Path, PathBuf};

use gan::{Comparison, Kind, RunDirectory, Session, Source, StageRecord};
use plotters::style::RGBColor;
use tensor_ops::{Scalar, Tensor};

use crate::gallery;
use crate::plot::{
    BLUE, Figure, GREY, Heat, Histogram, Layer, Mark, Panels, Picture, Series, VERMILLION, save,
};

/// The endings of pictures that are drawn.
const BOTH: [&str; 2] = ["png", "svg"];
/// Points along a curve.
const POINTS: usize = 400;
/// Points of each kind in the plane.
const DOTS: usize = 2000;
/// Cells along each side of the map of D.
const CELLS: usize = 100;
/// Columns of a table that are shown.
const COLUMNS: usize = 12;

/// Writes all pictures of a run into its folder, as SVG and PNG; where they are.
pub(crate) fn write_all<T: Scalar>(
    run: &RunDirectory,
    session: &Session<T>,
    result: &Comparison,
    records: &[StageRecord],
) -> gan::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    if let Source::Images(_) = session.source() {
        written.extend(gallery::save_animation(run)?);
    }
    let main = endings(session.source());
    let mut places = |name: &str| -> gan::Result<Vec<PathBuf>> {
        let paths = paths(run, name, if name == "images" { main } else { &BOTH })?;
        written.extend(paths.clone());
        Ok(paths)
    };
    match session.source() {
        Source::Numbers(_) => {
            save_main(&places("histogram")?, session, result)?;
            save_all(&places("distribution")?, &distribution(result, "value", 0, 1))?;
            if let Some(figure) = generator(session)? {
                save_all(&places("generator")?, &figure)?;
            }
            if let Some(figure) = discriminator(session, result)? {
                save_all(&places("discriminator")?, &figure)?;
            }
        }
        Source::Images(_) => save_main(&places("images")?, session, result)?,
        Source::Points(_) | Source::Table(_) => {
            if let Some(figure) = points(session, result)? {
                save_all(&places("points")?, &figure)?;
            }
            if let Source::Table(_) = session.source() {
                save_all(&places("distribution")?, &columns(session, result))?;
            }
        }
    }
    if records.len() > 1 {
        save_all(&places("curves")?, &curves(result, records))?;
    }
    Ok(written)
}

/// The endings that the main picture of a source can have.
pub(crate) fn endings(source: &Source) -> &'static [&'static str] {
    if let Source::Images(_) = source { &BOTH[..1] } else { &BOTH }
}

/// Where a run keeps a picture, with each of these endings.
pub(crate) fn paths(run: &RunDirectory, name: &str, endings: &[&str]) -> gan::Result<Vec<PathBuf>> {
    endings.iter().map(|ending| run.file_in("plots", &format!("{name}.{ending}"))).collect()
}

fn save_all(paths: &[PathBuf], picture: &impl Picture) -> gan::Result<()> {
    paths.iter().try_for_each(|path| save(path, picture))
}

/// Writes the one picture that shows most: the histogram of numbers, points in the plane, the distribution functions of
/// columns, or images.
pub(crate) fn save_main<T: Scalar>(
    paths: &[PathBuf],
    session: &Session<T>,
    result: &Comparison,
) -> gan::Result<()> {
    match session.source() {
        Source::Numbers(_) => {
            let [ks, distance] = ["ks", "wasserstein_1"].map(|name| result.evaluation.value(name));
            let title = format!("Epoch {}: KS {ks:.3}, Wasserstein-1 {distance:.3}", result.epoch);
            let series = [
                Series { name: "real", values: &result.real },
                Series { name: "generated", values: result.generated.data() },
                Series { name: "input", values: &result.latent },
            ];
            save_all(paths, &Histogram::new(&title, "value", &series))
        }
        Source::Images(images) => save_all(paths, &gallery::beside(images, result)?),
        Source::Points(_) | Source::Table(_) => match points(session, result)? {
            Some(figure) => save_all(paths, &figure),
            None => save_all(paths, &columns(session, result)),
        },
    }
}

/// Writes a picture of samples alone: a histogram of numbers, points in the plane, the distribution functions of columns,
/// or images, `in_row` of them side by side where that is given.
pub(crate) fn save_samples(
    path: &Path,
    source: &Source,
    samples: &Tensor<f64>,
    in_row: Option<usize>,
) -> gan::Result<()> {
    let title = format!("{} samples", samples.shape().first_dim());
    let width = samples.shape().without_first().len().max(1);
    match source {
        Source::Numbers(_) => {
            let series = [Series { name: "generated", values: samples.data() }];
            save(path, &Histogram::new(&title, "value", &series))
        }
        Source::Images(images) => gallery::save_samples(path, images, samples, in_row),
        Source::Points(_) | Source::Table(_) if width == 2 => {
            let points = samples.data().as_chunks().0.iter().map(|&[x, y]| (x, y)).collect();
            let layers = vec![Layer { name: "generated", colour: VERMILLION, mark: Mark::Dots, points }];
            save(path, &Figure { title, x_label: "x", y_label: "y", layers, ..Figure::default() })
        }
        Source::Points(_) | Source::Table(_) => {
            let panel = |column: usize| Figure {
                title: column_title(source, column),
                x_label: "value",
                y_label: "share up to x",
                layers: vec![shares("generated", VERMILLION, samples.data(), column, width)],
                ..Figure::default()
            };
            save(path, &Panels((0..width.min(COLUMNS)).map(panel).collect()))
        }
    }
}

/// The distribution function of one column of rows.
fn shares(name: &'static str, colour: RGBColor, rows: &[f64], column: usize, width: usize) -> Layer {
    let mut values: Vec<f64> = rows.iter().skip(column).step_by(width).copied().collect();
    values.sort_unstable_by(f64::total_cmp);
    // Without the outermost tails, which would squeeze all the rest together.
    let last = values.len().saturating_sub(1) as f64;
    let shares = (0..=POINTS).map(|i| 0.0005 + 0.999 * i as f64 / POINTS as f64);
    let points = shares.filter_map(|p| Some((*values.get((p * last).round() as usize)?, p)));
    Layer { name, colour, mark: Mark::Line, points: points.collect() }
}

/// The name of a column, or its number from 1.
fn column_title(source: &Source, column: usize) -> String {
    let name = source.header().and_then(|header| Some((*header.get(column)?).to_owned()));
    name.unwrap_or_else(|| format!("column {}", column + 1))
}

/// The distribution functions of one column of real and generated rows.
fn distribution(result: &Comparison, x_label: &'static str, column: usize, width: usize) -> Figure {
    let ks = result.evaluation.value("ks");
    let title = match width {
        1 => format!("Epoch {}: distribution functions, KS {ks:.3}", result.epoch),
        _ => String::new(),
    };
    Figure {
        title,
        x_label,
        y_label: "share up to x",
        layers: vec![
            shares("real", BLUE, &result.real, column, width),
            shares("generated", VERMILLION, result.generated.data(), column, width),
        ],
        ..Figure::default()
    }
}

/// The distribution functions of the first columns of a table or of points.
fn columns<T: Scalar>(session: &Session<T>, result: &Comparison) -> Panels {
    let width = result.generated.shape().without_first().len().max(1);
    let panel = |column: usize| {
        let title = column_title(session.source(), column);
        Figure { title, ..distribution(result, "value", column, width) }
    };
    Panels((0..width.min(COLUMNS)).map(panel).collect())
}

fn generator<T: Scalar>(session: &Session<T>) -> gan::Result<Option<Figure>> {
    let Some(places) = session.generator_function(POINTS)? else { return Ok(None) };
    let curve = |name, colour, mark, of: fn(&[f64; 3]) -> f64| {
        let points = places.iter().map(|place| (place[0], of(place))).collect();
        Layer { name, colour, mark, points }
    };
    Ok(Some(Figure {
        title: format!("Epoch {}: the generator as a function of z", session.epoch()),
        x_label: "z",
        y_label: "value",
        layers: vec![
            curve("true quantile function", BLUE, Mark::Line, |place| place[2]),
            curve("G(z)", VERMILLION, Mark::Dashes, |place| place[1]),
        ],
        ..Figure::default()
    }))
}

fn discriminator<T: Scalar>(session: &Session<T>, result: &Comparison) -> gan::Result<Option<Figure>> {
    if session.trainer().discriminator().input_shape().len() != 1 {
        return Ok(None);
    }
    let (low, high) = inner_range(&result.real);
    let places: Vec<f64> = (0..POINTS).map(|i| low + (high - low) * i as f64 / (POINTS - 1) as f64).collect();
    let Some(logits) = session.discriminator_logits(&places, &result.real)? else { return Ok(None) };
    let values = logits.into_iter().map(tensor_ops::sigmoid);
    let curve = |name, colour, mark, points| Layer { name, colour, mark, points };
    Ok(Some(Figure {
        title: format!("Epoch {}: how real D takes x to be", session.epoch()),
        x_label: "x",
        y_label: "D(x)",
        layers: vec![
            curve("cannot tell", GREY, Mark::Dashes, vec![(low, 0.5), (high, 0.5)]),
            curve("D(x)", VERMILLION, Mark::Line, places.into_iter().zip(values).collect()),
        ],
        ..Figure::default()
    }))
}

/// Where nearly all numbers lie, with a margin.
fn inner_range(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |p| gan::evaluate::quantile(&sorted, p);
    let (low, high) = (at(0.001), at(0.999));
    let margin = 0.15 * (high - low).max(1e-9);
    (low - margin, high + margin)
}

/// Real and generated points over a map of D; `None` for rows that are not points in the plane.
fn points<T: Scalar>(session: &Session<T>, result: &Comparison) -> gan::Result<Option<Figure>> {
    if result.generated.shape().without_first().len() != 2 {
        return Ok(None);
    }
    let cloud = |name, colour, rows: &[f64]| {
        let points = rows.as_chunks().0.iter().take(DOTS).map(|&[x, y]| (x, y)).collect();
        Layer { name, colour, mark: Mark::Dots, points }
    };
    let axis =
        |column: usize| inner_range(&result.real.iter().skip(column).step_by(2).copied().collect::<Vec<_>>());
    let ((left, right), (bottom, top)) = (axis(0), axis(1));
    let place = |from: f64, to: f64, i: usize| from + (to - from) * (i as f64 + 0.5) / CELLS as f64;
    let grid: Vec<f64> = (0..CELLS * CELLS)
        .flat_map(|cell| [place(left, right, cell % CELLS), place(bottom, top, cell / CELLS)])
        .collect();
    let logits = session.discriminator_logits(&grid, &result.real)?;
    let logits = logits.unwrap_or_else(|| vec![0.0; CELLS * CELLS]);
    // Full colour where D is surest, however unsure it is: the legend says how sure.
    let surest = logits.iter().fold(0.0_f64, |a, logit| a.max(logit.abs()));
    let shade = |logit: &f64| if surest > 0.0 { 0.5 + 0.5 * logit / surest } else { 0.5 };
    let heat = Heat {
        x: left..right,
        y: bottom..top,
        cells: (CELLS, CELLS),
        values: logits.iter().map(shade).collect(),
        ends: [format!("D's logit -{surest:.2}"), format!("{surest:.2}")],
    };
    let measures: Vec<String> = [("modes", 0), ("high_quality", 3), ("sliced_wasserstein", 3)]
        .iter()
        .filter_map(|&(name, digits)| Some((result.evaluation.get(name)?, digits)))
        .map(|(measure, digits)| format!("{} {:.digits$}", title_of(measure.name), measure.value))
        .collect();
    Ok(Some(Figure {
        title: format!("Epoch {}: {}", result.epoch, measures.join(", ")),
        x_label: "x",
        y_label: "y",
        layers: vec![
            cloud("real", BLUE, &result.real),
            cloud("generated", VERMILLION, result.generated.data()),
        ],
        heat: Some(heat),
        ..Figure::default()
    }))
}

/// The name of a measure as a title.
fn title_of(name: &str) -> String {
    match name {
        "ks" => "Kolmogorov-Smirnov distance",
        "wasserstein_1" => "Wasserstein-1 distance",
        "reverse_kl" => "reverse KL divergence",
        "high_quality" => "high-quality share",
        "sliced_wasserstein" => "sliced Wasserstein-1",
        "mmd" => "squared MMD",
        "frechet_distance" => "squared Frechet distance of features",
        "kernel_distance" => "squared kernel distance of features",
        "smallest_class" => "share of the rarest class",
        "largest_class" => "share of the most frequent class",
        "confident" => "share that the classifier is sure of",
        "label_accuracy" => "share of the class asked for",
        "nearest_distance" => "distance to the nearest real image",
        "column_ks" => "largest KS distance of a column",
        "column_wasserstein_1" => "largest Wasserstein-1 distance of a column",
        "correlation_difference" => "largest difference of a correlation",
        "weight_error" => "largest error of a weight",
        "std" => "standard deviation",
        name => return name.replace('_', " "),
    }
    .to_owned()
}

/// Losses, accuracy and measures over the run.
fn curves(result: &Comparison, records: &[StageRecord]) -> Panels {
    let layer = |name, colour, mark, f: &dyn Fn(&StageRecord) -> f64| {
        let points = records.iter().map(|record| (record.epoch as f64, f(record))).collect();
        Layer { name, colour, mark, points }
    };
    let panel = |title: &str, layers| Figure {
        title: title.to_owned(),
        x_label: "epoch",
        layers,
        ..Figure::default()
    };
    let mut panels = vec![
        panel(
            "losses",
            vec![
                layer("D", BLUE, Mark::Line, &|record| record.d_loss),
                layer("G", VERMILLION, Mark::Line, &|record| record.g_loss),
            ],
        ),
        panel("accuracy of D", vec![layer("D", BLUE, Mark::Line, &|record| record.d_accuracy)]),
    ];
    for measure in &result.evaluation.measures {
        let name = measure.name;
        if name.starts_with("quantile") {
            continue;
        }
        let figure =
            |prefix: &'static str| move |record: &StageRecord| record.figure(&format!("{prefix}{name}"));
        let floor =
            layer("perfect sampler", GREY, Mark::Dashes, &|record| record.figure(&format!("{name}_floor")));
        let title = title_of(name);
        panels.push(match measure.kind {
            Kind::Statistic(_) => panel(
                &title,
                vec![
                    layer("real", BLUE, Mark::Line, &figure("real_")),
                    layer("generated", VERMILLION, Mark::Line, &figure("generated_")),
                ],
            ),
            kind => Figure {
                logarithmic: kind == Kind::Distance,
                ..panel(&title, vec![layer("generated", VERMILLION, Mark::Line, &figure("")), floor])
            },
        });
    }
    Panels(panels)
}
