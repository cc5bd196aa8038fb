//! Pictures of images: grids of samples, real beside generated ones, and a run as an animation.

use std::fs;
use std::path::{Path, PathBuf};

use gan::{Comparison, Error, Images, RunDirectory, Session};
use tensor_ops::{Scalar, Tensor};

use crate::plot::{Grid, Grids, animate, save};

/// Images along each side of a panel of the main picture.
const BESIDE: usize = 6;
/// Images along each side of the picture of a stage.
const STAGE: usize = 8;
/// The most pixels of a picture.
const MOST_PIXELS: usize = 1 << 26;
/// The most stages in an animation.
const FRAMES: usize = 100;

/// Images in the data's units as bytes.
fn bytes(images: &Images, rows: &[f64]) -> Vec<u8> {
    let most = f64::from(images.facts().most);
    rows.iter().map(|x| (255.0 * x / most).round().clamp(0.0, 255.0) as u8).collect()
}

/// Writes samples as a grid, in so many columns where they are given.
pub(crate) fn save_samples(
    path: &Path,
    images: &Images,
    samples: &Tensor<f64>,
    columns: Option<usize>,
) -> gan::Result<()> {
    let grid = Grid::square(images.facts().shape, bytes(images, samples.data()));
    let grid = Grid { columns: columns.unwrap_or(grid.columns), ..grid };
    let grids = Grids { title: String::new(), panels: vec![grid] };
    if grids.area() > MOST_PIXELS {
        let (count, area) = (samples.shape().first_dim(), grids.area());
        let message = format!(
            "expected a picture of at most {MOST_PIXELS} pixels, found {area} for {count} images; .npy holds any number"
        );
        return Err(Error::File { path: path.to_owned(), message });
    }
    save(path, &grids)
}

/// Real images, generated ones, and of each of those the one of the data that is nearest to it.
pub(crate) fn beside(images: &Images, result: &Comparison) -> gan::Result<Grids> {
    let width = images.width();
    let some = |rows: &[f64]| rows.get(..BESIDE * BESIDE * width).unwrap_or(rows).to_vec();
    let mut generated = some(result.generated.data());
    let made = bytes(images, &generated);
    images.standardise(&mut generated);
    let scaled: Vec<f32> = generated.iter().map(|x| *x as f32).collect();
    let scaled = Tensor::from_vec([scaled.len() / width, width], scaled)
        .map_err(|error| Error::Network { place: "nearest images", source: error.into() })?;
    let mut nearest: Vec<f64> = Vec::new();
    for [(index, _), _] in images.nearest(scaled.view())? {
        nearest.extend(images.image(index)?.iter().map(|x| f64::from(*x)));
    }
    let panel = |heading, pixels| Grid { heading, shape: images.facts().shape, pixels, columns: BESIDE };
    let figure = |name: &str| result.evaluation.value(name);
    let held_out = match result.evaluation.get("nearest_distance").map(|measure| measure.kind) {
        Some(gan::Kind::Statistic(held_out)) => held_out,
        _ => f64::NAN,
    };
    let title = format!(
        "Epoch {}: sliced W1 {:.3}, coverage {:.2}, nearest real image {:.2} away (of real ones {held_out:.2})",
        result.epoch,
        figure("sliced_wasserstein"),
        figure("coverage"),
        figure("nearest_distance"),
    );
    let panels = vec![
        panel("real", bytes(images, &some(&result.real))),
        panel("generated", made),
        panel("the real ones nearest to those", bytes(images, &nearest)),
    ];
    Ok(Grids { title, panels })
}

/// Writes what G makes of the same latents at each stage.
pub(crate) fn save_stage<T: Scalar>(path: &Path, session: &Session<T>, images: &Images) -> gan::Result<()> {
    let samples = session.sample(STAGE * STAGE, session.config().train.seed, None)?;
    save_samples(path, images, &samples.cast(), Some(STAGE))
}

/// Writes the pictures of all stages that there are as an animation; where it is.
pub(crate) fn save_animation(run: &RunDirectory) -> gan::Result<Option<PathBuf>> {
    let folder = run.path().join("samples");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(None) };
    let is_stage = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("stage-") && name.ends_with(".png")
    };
    let mut stages: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_stage).collect();
    // As many digits as it takes make longer names later ones.
    stages.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    if stages.len() < 2 {
        return Ok(None);
    }
    let step = (stages.len() - 1) as f64 / (stages.len().min(FRAMES) - 1) as f64;
    let places = (0..stages.len().min(FRAMES)).map(|i| (i as f64 * step).round() as usize);
    let shown: Vec<PathBuf> = places.filter_map(|place| stages.get(place).cloned()).collect();
    // A stage's picture that is broken is found before anything is written.
    let bytes = animate(&shown)?;
    let path = run.file_in("plots", "run.apng")?;
    gan::write_atomically(&path, &bytes)?;
    Ok(Some(path))
}
