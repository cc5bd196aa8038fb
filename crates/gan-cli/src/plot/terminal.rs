//! Histograms as text.

use plotters::style::RGBColor;

use super::histogram::{Bins, Curve, Plan, Series, round_step};
use super::short;

/// The same histogram as text of at most `width` columns: a small chart for each series above one
/// another, on the same axes, with its name on the left.
pub(crate) fn terminal_histogram(series: &[Series], width: usize, colour: bool) -> String {
    let names = series.iter().map(|s| s.name.chars().count()).max().unwrap_or(0);
    let margin = names.max("peak 0.000, cut off".len()).min(width / 3);
    let Some(columns) = width.checked_sub(margin + 2).filter(|c| *c > 0) else {
        return String::new();
    };
    let plan = Plan::new(series, Some(columns));
    let rows = if series.len() > 2 { 3 } else { 4 };
    let charts: String =
        plan.curves.iter().map(|curve| chart(curve, plan.top, rows, margin, colour)).collect();
    charts + &axis(&plan.bins, margin)
}

fn chart(curve: &Curve, top: f64, rows: usize, margin: usize, colour: bool) -> String {
    let mut labels = vec![curve.name.to_owned()];
    if 0.0 < curve.peak && curve.peak <= top {
        labels.push(format!("peak {}", short(curve.peak)));
    }
    labels.extend(curve.notes.iter().cloned());
    labels.resize(rows, String::new());
    let row = |(i, label): (usize, String)| {
        let bars: String = curve.densities.iter().map(|d| block(d / top, rows - 1 - i, rows)).collect();
        let bars = if colour { painted(bars.trim_end(), curve.colour) } else { bars.trim_end().to_owned() };
        let label: String = label.chars().take(margin).collect();
        format!("{label:<margin$} │{bars}\n")
    };
    labels.into_iter().enumerate().map(row).collect()
}

/// The character for one column of a bar: `level` counts rows from the bottom.
fn block(part: f64, level: usize, rows: usize) -> char {
    let eighths = (part * 8.0 * rows as f64).round().min(8.0 * rows as f64) as usize;
    // The smallest bar is drawn, so that an empty bin differs from a low one.
    let eighths = if part > 0.0 { eighths.max(1) } else { 0 };
    let blocks = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    blocks.get(eighths.saturating_sub(8 * level)).copied().unwrap_or('█')
}

/// `bars` in the nearest of the 216 colours that nearly every terminal has.
fn painted(bars: &str, RGBColor(r, g, b): RGBColor) -> String {
    let level = |part: u8| (u32::from(part) * 5 + 127) / 255;
    format!("\x1b[38;5;{}m{bars}\x1b[0m", 16 + 36 * level(r) + 6 * level(g) + level(b))
}

/// The common x axis: a line with ticks, and a line with their numbers.
fn axis(bins: &Bins, margin: usize) -> String {
    let span = bins.width * bins.count as f64;
    let step = round_step(span * 14.0 / bins.count as f64);
    let (mut ticks, mut numbers) = (vec!['─'; bins.count], vec![' '; margin + 2 + bins.count]);
    let mut free = 0;
    let start = (bins.edge(0) / step).ceil();
    for value in (0..bins.count).map(|i| (start + i as f64) * step) {
        let Some(column) = bins.index(value) else { continue };
        let number: Vec<char> = short(value).chars().collect();
        let from = (margin + 2 + column).saturating_sub(number.len() / 2);
        if from >= free
            && let Some(place) = numbers.get_mut(from..from + number.len())
            && let Some(tick) = ticks.get_mut(column)
        {
            place.copy_from_slice(&number);
            *tick = '┬';
            free = from + number.len() + 1;
        }
    }
    let (ticks, numbers) = (String::from_iter(ticks), String::from_iter(numbers));
    format!("{:margin$} └{ticks}\n{}\n", "", numbers.trim_end())
}
