//! Histograms.

use plotters::prelude::*;

use super::{
    Area, BLUE, Drawn, GREY, GRID, INK, LEFT, Picture, RIGHT, SPARE, VERMILLION, fitted, pen, short, text,
    width,
};

/// Numbers to show. The names "real", "generated" and "input" have fixed colours, and "input" does
/// not decide the range of either axis unless it stands alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series<'a> {
    /// What the legend calls it.
    pub(crate) name: &'a str,
    /// The numbers; those that are not finite are left out.
    pub(crate) values: &'a [f64],
}

/// A histogram of several series.
pub(crate) struct Histogram<'a> {
    title: &'a str,
    x_label: &'a str,
    pub(super) plan: Plan<'a>,
}

impl<'a> Histogram<'a> {
    /// A histogram of all `series`.
    pub(crate) fn new(title: &'a str, x_label: &'a str, series: &[Series<'a>]) -> Self {
        Self { title, x_label, plan: Plan::new(series, None) }
    }
}

/// The bins, the top of the density axis and one curve for each series.
pub(super) struct Plan<'a> {
    pub(super) bins: Bins,
    pub(super) top: f64,
    pub(super) curves: Vec<Curve<'a>>,
}

pub(super) struct Curve<'a> {
    pub(super) name: &'a str,
    pub(super) colour: RGBColor,
    pub(super) densities: Vec<f64>,
    pub(super) peak: f64,
    pub(super) notes: Vec<String>,
}

impl<'a> Plan<'a> {
    /// `columns` fixes the number of bins; without it their width is a round number.
    pub(super) fn new(series: &[Series<'a>], columns: Option<usize>) -> Self {
        let finite: Vec<Vec<f64>> = series.iter().map(|s| finite_sorted(s.values)).collect();
        let all = || series.iter().zip(&finite).filter(|(_, values)| !values.is_empty());
        let mut main: Vec<&[f64]> =
            all().filter(|(series, _)| series.name != "input").map(|(_, values)| values.as_slice()).collect();
        if main.is_empty() {
            main = all().map(|(_, values)| values.as_slice()).collect();
        }
        let bins = Bins::over(main.iter().copied(), columns);
        let top = top(main.iter().map(|values| peak(&bins.densities(values))));
        let curve = |(i, (series, values)): (usize, (&Series<'a>, &Vec<f64>))| {
            let densities = bins.densities(values);
            Curve {
                name: series.name,
                colour: colour(series.name, i),
                peak: peak(&densities),
                notes: notes(values, &bins, peak(&densities), top),
                densities,
            }
        };
        Plan { curves: series.iter().zip(&finite).enumerate().map(curve).collect(), bins, top }
    }
}

fn finite_sorted(values: &[f64]) -> Vec<f64> {
    // Values beyond 1e30 are drawn at 1e30, so that no sum or difference overflows.
    let finite = values.iter().filter(|v| v.is_finite());
    let mut finite: Vec<f64> = finite.map(|v| v.clamp(-1e30, 1e30)).collect();
    finite.sort_by(f64::total_cmp);
    finite
}

fn colour(name: &str, index: usize) -> RGBColor {
    match name {
        "real" => BLUE,
        "generated" => VERMILLION,
        "input" => GREY,
        _ => SPARE.get(index % SPARE.len()).copied().unwrap_or(GREY),
    }
}

/// What the reader must know beside the name: a cut peak, numbers outside the axis, or no numbers.
fn notes(values: &[f64], bins: &Bins, peak: f64, top: f64) -> Vec<String> {
    if values.is_empty() {
        return vec!["no data".to_owned()];
    }
    let outside = values.iter().filter(|v| bins.index(**v).is_none()).count();
    let percent = 100.0 * outside as f64 / values.len() as f64;
    let cut = (peak > top).then(|| format!("peak {}, cut off", short(peak)));
    let off = (percent >= 1.0).then(|| format!("{percent:.0} % off range"));
    cut.into_iter().chain(off).collect()
}

fn peak(densities: &[f64]) -> f64 {
    densities.iter().copied().fold(0.0, f64::max)
}

/// The top of the density axis: above every peak, unless one is so much higher than another that
/// the lower curve would be flattened; then the lower one keeps half of the height.
fn top(peaks: impl Iterator<Item = f64>) -> f64 {
    let peaks: Vec<f64> = peaks.filter(|p| *p > 0.0).collect();
    let high = peak(&peaks);
    let low = peaks.iter().copied().fold(high, f64::min);
    let shown = if high > 5.0 * low { 2.0 * low } else { 1.08 * high };
    if shown > 0.0 { shown } else { 1.0 }
}

/// Bins of one width; bin `i` starts at `(first + i) * width`.
pub(super) struct Bins {
    first: f64,
    pub(super) width: f64,
    pub(super) count: usize,
}

impl Bins {
    /// Covers each set from its 0.1 % to its 99.9 % quantile, with a small margin.
    fn over<'a>(sets: impl Iterator<Item = &'a [f64]>, columns: Option<usize>) -> Self {
        let (mut low, mut high, mut most) = (f64::INFINITY, f64::NEG_INFINITY, 0);
        for sorted in sets {
            let skip = sorted.len() / 1000;
            let (Some(lowest), Some(highest)) = (sorted.get(skip), sorted.iter().nth_back(skip)) else {
                continue;
            };
            (low, high) = (low.min(*lowest), high.max(*highest));
            most = most.max(sorted.len());
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let magnitude = low.abs().max(high.abs());
        let margin = if high - low > (1e-9 * magnitude).max(1e-30) {
            0.03 * (high - low)
        } else {
            0.1 * magnitude + 0.5
        };
        let (low, high) = (low - margin, high + margin);
        if let Some(count) = columns {
            let width = (high - low) / count as f64;
            return Bins { first: low / width, width, count };
        }
        let width = round_step((high - low) / ((most as f64).sqrt() / 2.5).clamp(10.0, 40.0));
        let first = (low / width).floor();
        Bins { first, width, count: ((high / width).ceil() - first).max(1.0) as usize }
    }

    pub(super) fn edge(&self, i: usize) -> f64 {
        (self.first + i as f64) * self.width
    }

    pub(super) fn index(&self, value: f64) -> Option<usize> {
        let place = (value / self.width - self.first).floor();
        (place >= 0.0 && place < self.count as f64).then_some(place as usize)
    }

    /// Values outside every bin count in the total, so that a curve shows what part it covers.
    fn densities(&self, values: &[f64]) -> Vec<f64> {
        let mut densities = vec![0.0; self.count];
        let share = 1.0 / (values.len() as f64 * self.width);
        for value in values {
            if let Some(density) = self.index(*value).and_then(|place| densities.get_mut(place)) {
                *density += share;
            }
        }
        densities
    }
}

/// The largest of 1, 2 and 5 times a power of ten that is not above `step`.
pub(super) fn round_step(step: f64) -> f64 {
    let power = 10f64.powi(step.log10().floor() as i32);
    let fits = [5.0, 2.0].into_iter().find(|times| times * power <= step);
    fits.unwrap_or(1.0) * power
}

impl Picture for Histogram<'_> {
    fn draw<B: DrawingBackend>(&self, root: &Area<B>) -> Drawn<B> {
        let room = self.size().0 as i32 - LEFT - RIGHT;
        root.draw(&Text::new(self.title, (LEFT, 36), fitted(root, self.title, 32.0, room)?))?;
        draw_legend(root, &self.plan.curves, room)?;
        let (bins, top) = (&self.plan.bins, self.plan.top);
        let mut chart = ChartBuilder::on(root)
            .margin_top(110)
            .margin_left(20)
            .margin_right(RIGHT)
            .margin_bottom(14)
            .x_label_area_size(84)
            .y_label_area_size(LEFT - 20)
            .build_cartesian_2d(bins.edge(0)..bins.edge(bins.count), 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(pen(INK, 2))
            .x_labels(9)
            .y_labels(8)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .label_style(text(26.0))
            .axis_desc_style(text(28.0))
            .x_desc(self.x_label)
            .y_desc("density")
            .draw()?;
        let area = chart.plotting_area();
        let (back, front): (Vec<_>, Vec<_>) = self.plan.curves.iter().partition(|c| c.name == "input");
        let curves = back.into_iter().chain(front);
        let shapes: Vec<_> =
            curves.flat_map(|c| outlines(c, bins, top).into_iter().map(move |o| (c, o))).collect();
        for (curve, outline) in &shapes {
            area.draw(&Polygon::new(outline.as_slice(), curve.colour.mix(fill(curve))))?;
        }
        for (curve, outline) in &shapes {
            area.draw(&PathElement::new(outline.as_slice(), pen(curve.colour, stroke(curve))))?;
        }
        Ok(())
    }
}

fn fill(curve: &Curve) -> f64 {
    if curve.name == "real" { 0.3 } else { 0.15 }
}

fn stroke(curve: &Curve) -> u32 {
    if curve.name == "input" { 1 } else { 3 }
}

/// The outline of each stretch of bins that are not empty: from the axis up, along the tops and down.
fn outlines(curve: &Curve, bins: &Bins, top: f64) -> Vec<Vec<(f64, f64)>> {
    let mut outlines: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut open = false;
    for (i, density) in curve.densities.iter().enumerate() {
        let (left, right, height) = (bins.edge(i), bins.edge(i + 1), density.min(top));
        if *density > 0.0 && !open {
            outlines.push(vec![(left, 0.0)]);
        }
        open = *density > 0.0;
        match outlines.last_mut() {
            Some(outline) if open => outline.extend([(left, height), (right, height)]),
            _ => {}
        }
    }
    for outline in &mut outlines {
        outline.extend(outline.last().map(|end| (end.0, 0.0)));
    }
    outlines
}

/// One row above the plot, so that it hides no data.
fn draw_legend<B: DrawingBackend>(root: &Area<B>, curves: &[Curve], room: i32) -> Drawn<B> {
    let (swatch, gap) = (40, 44);
    let words: Vec<String> = curves.iter().map(legend).collect();
    let fixed = curves.len() as i32 * (swatch + gap);
    let style = fitted(root, &words.concat(), 26.0, room - fixed)?;
    let mut x = LEFT;
    for (curve, words) in curves.iter().zip(&words) {
        let frame = vec![(x, 92), (x, 72), (x + 30, 72), (x + 30, 92), (x, 92)];
        root.draw(&Polygon::new(frame.clone(), curve.colour.mix(fill(curve))))?;
        root.draw(&PathElement::new(frame, pen(curve.colour, stroke(curve))))?;
        root.draw(&Text::new(words.as_str(), (x + swatch, 82), style.clone()))?;
        x += swatch + width(root, words, &style)? + gap;
    }
    Ok(())
}

fn legend(curve: &Curve) -> String {
    if curve.notes.is_empty() {
        return curve.name.to_owned();
    }
    format!("{} ({})", curve.name, curve.notes.join("; "))
}
