//! Histograms, as an SVG or PNG picture and as text for a terminal.
//!
//! `plotters` lays the picture out and writes SVG. Pixels come from [`Canvas`], a small backend of
//! our own: the text drawing of plotters ignores side bearings, so it spaces letters unevenly.

mod canvas;
mod terminal;

use std::fmt::Display;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{TextStyle, register_font};

use canvas::Canvas;
pub(crate) use terminal::terminal_histogram;

/// Part of DejaVu Sans: Latin, Greek, Cyrillic, punctuation, arrows and mathematics.
static FONT: &[u8] = include_bytes!("../assets/DejaVuSans-subset.ttf");
/// The fonts an SVG viewer may use, best first; the PNG uses [`FONT`].
const FAMILY: &str = "DejaVu Sans, Verdana, Arial, Helvetica, sans-serif";
/// plotters divides every font size by this to get the em.
const PER_EM: f64 = 1.24;
const SIZE: (u32, u32) = (1200, 750);
const LEFT: i32 = 135;
const RIGHT: i32 = 30;
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
/// Okabe and Ito's colours, which colour-blind readers can tell apart.
const BLUE_REAL: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const VERMILLION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const GREY: RGBColor = RGBColor(0x80, 0x80, 0x80);
const SPARE: [RGBColor; 3] =
    [RGBColor(0x00, 0x9e, 0x73), RGBColor(0xcc, 0x79, 0xa7), RGBColor(0xe6, 0x9f, 0x00)];

/// Numbers to show. The names "real", "generated" and "input" have fixed colours, and "input" does
/// not decide the range of either axis unless it stands alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series<'a> {
    /// What the legend calls it.
    pub(crate) name: &'a str,
    /// The numbers; those that are not finite are left out.
    pub(crate) values: &'a [f64],
}

/// Writes a histogram of all `series` to `path`, as SVG or PNG by the path's ending.
///
/// The file appears whole or not at all: it is written beside `path` and then renamed.
///
/// # Errors
///
/// Fails when the ending is neither .svg nor .png, or when the file cannot be written.
pub(crate) fn histogram(path: &Path, title: &str, x_label: &str, series: &[Series]) -> gan::Result<()> {
    let failed = |message: String| gan::Error::File { path: path.to_owned(), message };
    let page = Page { title, x_label, plan: Plan::new(series, None) };
    let drawn = match ending(path).as_str() {
        "svg" => svg(&page),
        "png" => png(&page),
        _ => return Err(failed("expected a name that ends in .svg or .png".to_owned())),
    };
    let bytes = drawn.map_err(|reason| failed(format!("cannot draw the picture: {reason}")))?;
    gan::write_atomically(path, &bytes)
}

/// The ending of a file's name, in lower case, without the dot.
pub(crate) fn ending(path: &Path) -> String {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn svg(page: &Page) -> Result<Vec<u8>, String> {
    let mut text = String::new();
    draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area(), page)?;
    Ok(text.into_bytes())
}

fn png(page: &Page) -> Result<Vec<u8>, String> {
    let mut pixels = vec![255; (SIZE.0 * SIZE.1 * 3) as usize];
    let canvas = Canvas::new(&mut pixels).map_err(line)?;
    draw(&canvas.into_drawing_area(), page)?;
    encode(&pixels).map_err(line)
}

fn encode(pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    // 200 dots an inch, in dots a metre: the picture is 6 inches wide on paper.
    let dots = 7874;
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: dots, yppu: dots, unit: png::Unit::Meter }));
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

fn line(error: impl Display) -> String {
    error.to_string().replace('\n', " ")
}

// ---- What to show ----

struct Page<'a> {
    title: &'a str,
    x_label: &'a str,
    plan: Plan<'a>,
}

/// The bins, the top of the density axis and one curve for each series.
struct Plan<'a> {
    bins: Bins,
    top: f64,
    curves: Vec<Curve<'a>>,
}

struct Curve<'a> {
    name: &'a str,
    colour: RGBColor,
    densities: Vec<f64>,
    peak: f64,
    notes: Vec<String>,
}

impl<'a> Plan<'a> {
    /// `columns` fixes the number of bins; without it their width is a round number.
    fn new(series: &[Series<'a>], columns: Option<usize>) -> Self {
        let finite: Vec<Vec<f64>> = series.iter().map(|s| finite_sorted(s.values)).collect();
        let decides = |i: &usize| series[*i].name != "input" && !finite[*i].is_empty();
        let mut main: Vec<usize> = (0..series.len()).filter(decides).collect();
        if main.is_empty() {
            main = (0..series.len()).filter(|&i| !finite[i].is_empty()).collect();
        }
        let bins = Bins::over(main.iter().map(|&i| finite[i].as_slice()), columns);
        let densities: Vec<Vec<f64>> = finite.iter().map(|values| bins.densities(values)).collect();
        let top = top(main.iter().map(|&i| peak(&densities[i])));
        let curve = |(i, densities): (usize, Vec<f64>)| Curve {
            name: series[i].name,
            colour: colour(series[i].name, i),
            peak: peak(&densities),
            notes: notes(&finite[i], &bins, peak(&densities), top),
            densities,
        };
        Plan { curves: densities.into_iter().enumerate().map(curve).collect(), bins, top }
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
        "real" => BLUE_REAL,
        "generated" => VERMILLION,
        "input" => GREY,
        _ => SPARE[index % SPARE.len()],
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
struct Bins {
    first: f64,
    width: f64,
    count: usize,
}

impl Bins {
    /// Covers each set from its 0.1 % to its 99.9 % quantile, with a small margin.
    fn over<'a>(sets: impl Iterator<Item = &'a [f64]>, columns: Option<usize>) -> Self {
        let (mut low, mut high, mut most) = (f64::INFINITY, f64::NEG_INFINITY, 0);
        for sorted in sets {
            let skip = sorted.len() / 1000;
            low = low.min(sorted[skip]);
            high = high.max(sorted[sorted.len() - 1 - skip]);
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

    fn edge(&self, i: usize) -> f64 {
        (self.first + i as f64) * self.width
    }

    fn index(&self, value: f64) -> Option<usize> {
        let place = (value / self.width - self.first).floor();
        (place >= 0.0 && place < self.count as f64).then_some(place as usize)
    }

    /// Values outside every bin count in the total, so that a curve shows what part it covers.
    fn densities(&self, values: &[f64]) -> Vec<f64> {
        let mut densities = vec![0.0; self.count];
        let share = 1.0 / (values.len() as f64 * self.width);
        for i in values.iter().filter_map(|v| self.index(*v)) {
            densities[i] += share;
        }
        densities
    }
}

/// The largest of 1, 2 and 5 times a power of ten that is not above `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powi(step.log10().floor() as i32);
    let fits = [5.0, 2.0].into_iter().find(|times| times * power <= step);
    fits.unwrap_or(1.0) * power
}

/// A number for an axis or a note, without rounding dust.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    if !(-2..=6).contains(&digits) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let text = format!("{value:.*}", digits.max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

// ---- The picture ----

type Area<B> = DrawingArea<B, Shift>;

fn draw<B: DrawingBackend>(root: &Area<B>, page: &Page) -> Result<(), String> {
    register_font(FAMILY, FontStyle::Normal, FONT).map_err(|_| "the built-in font is damaged".to_owned())?;
    draw_all(root, page).map_err(line)
}

fn draw_all<B: DrawingBackend>(
    root: &Area<B>,
    page: &Page,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    root.fill(&WHITE)?;
    let room = SIZE.0 as i32 - LEFT - RIGHT;
    root.draw(&Text::new(page.title, (LEFT, 36), fitted(root, page.title, 32.0, room)?))?;
    draw_legend(root, &page.plan.curves, room)?;
    let (bins, top) = (&page.plan.bins, page.plan.top);
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
        .x_desc(page.x_label)
        .y_desc("density")
        .draw()?;
    let area = chart.plotting_area();
    let (back, front): (Vec<_>, Vec<_>) = page.plan.curves.iter().partition(|c| c.name == "input");
    let curves = back.into_iter().chain(front);
    let shapes: Vec<_> =
        curves.flat_map(|c| outlines(c, bins, top).into_iter().map(move |o| (c, o))).collect();
    for (curve, outline) in &shapes {
        area.draw(&Polygon::new(outline.as_slice(), curve.colour.mix(fill(curve))))?;
    }
    for (curve, outline) in &shapes {
        area.draw(&PathElement::new(outline.as_slice(), pen(curve.colour, stroke(curve))))?;
    }
    root.present()
}

fn fill(curve: &Curve) -> f64 {
    if curve.name == "real" { 0.3 } else { 0.15 }
}

fn stroke(curve: &Curve) -> u32 {
    if curve.name == "input" { 1 } else { 3 }
}

fn pen(colour: RGBColor, stroke_width: u32) -> ShapeStyle {
    ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width }
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
fn draw_legend<B: DrawingBackend>(
    root: &Area<B>,
    curves: &[Curve],
    room: i32,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
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

fn text(em: f64) -> TextStyle<'static> {
    let style = TextStyle::from((FAMILY, em * PER_EM).into_font());
    style.color(&INK).pos(Pos::new(HPos::Left, VPos::Center))
}

/// Text of size `em`, or smaller if `words` would be wider than `room`.
fn fitted<B: DrawingBackend>(
    root: &Area<B>,
    words: &str,
    em: f64,
    room: i32,
) -> Result<TextStyle<'static>, DrawingAreaErrorKind<B::ErrorType>> {
    let wide = width(root, words, &text(em))?;
    Ok(text(em * (f64::from(room) / f64::from(wide.max(1))).clamp(0.1, 1.0)))
}

fn width<B: DrawingBackend>(
    root: &Area<B>,
    words: &str,
    style: &TextStyle,
) -> Result<i32, DrawingAreaErrorKind<B::ErrorType>> {
    Ok(root.estimate_text_size(words, style)?.0 as i32)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn wave(from: f64, to: f64) -> Vec<f64> {
        (0..2000).map(|i| from + (to - from) * f64::from(i) / 2000.0).collect()
    }

    fn awkward() -> Vec<Vec<f64>> {
        let far = vec![-1e300, 1e300, 0.0];
        let tiny = vec![1e-310, 2e-300];
        let bad = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        vec![vec![], bad, vec![3.0; 50], vec![0.0], vec![1e20; 3], vec![-7e-9], far, tiny, wave(2.0, 5.0)]
    }

    #[test]
    fn only_svg_and_png_are_written() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let values = wave(0.0, 8.0);
        let series = [Series { name: "real", values: &values }];
        for (name, start) in [("a.svg", &b"<svg"[..]), ("b.PNG", &b"\x89PNG"[..])] {
            let path = folder.path().join(name);
            histogram(&path, "title <&>", "x", &series)?;
            assert!(fs::read(path)?.starts_with(start));
        }
        for name in ["c.gif", "d", ".svg"] {
            let error = histogram(&folder.path().join(name), "", "", &series).err().map(|e| e.to_string());
            assert!(
                error.is_some_and(|e| e.ends_with("expected a name that ends in .svg or .png")),
                "{name}"
            );
        }
        assert_eq!(fs::read_dir(folder.path())?.count(), 2);
        Ok(())
    }

    #[test]
    fn a_failed_write_is_an_error_and_leaves_no_file() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let missing = histogram(&folder.path().join("no/such.svg"), "", "", &[]);
        assert!(matches!(missing, Err(gan::Error::Io { .. })));
        fs::create_dir(folder.path().join("taken.png"))?;
        let taken = histogram(&folder.path().join("taken.png"), "", "", &[]);
        assert!(matches!(taken, Err(gan::Error::Io { .. })));
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn awkward_numbers_are_drawn() -> Result<(), Box<dyn std::error::Error>> {
        let sets = awkward();
        for real in &sets {
            for generated in &sets {
                let series =
                    [Series { name: "real", values: real }, Series { name: "generated", values: generated }];
                let page = Page { title: "", x_label: "", plan: Plan::new(&series, None) };
                assert!(page.plan.bins.count < 200, "{real:?} {generated:?}");
                svg(&page)?;
                assert!(!terminal_histogram(&series, 50, false).is_empty());
            }
            let alone = [Series { name: "input", values: real }];
            png(&Page { title: "Ω → ∞", x_label: "x", plan: Plan::new(&alone, None) })?;
        }
        svg(&Page { title: "", x_label: "", plan: Plan::new(&[], None) })?;
        Ok(())
    }

    #[test]
    fn densities_add_up_to_one_where_all_numbers_are_inside() {
        let (real, input) = (wave(-3.0, 9.0), wave(100.0, 101.0));
        let series = [Series { name: "real", values: &real }, Series { name: "input", values: &input }];
        let plan = Plan::new(&series, None);
        let total = |i: usize| plan.curves[i].densities.iter().sum::<f64>() * plan.bins.width;
        assert!((total(0) - 1.0).abs() < 1e-9);
        assert_eq!(total(1), 0.0);
        assert_eq!(plan.curves[1].notes, ["100 % off range"]);
    }

    #[test]
    fn a_constant_generator_leaves_the_real_curve_half_of_the_height() {
        let (real, generated) = (wave(0.0, 8.0), vec![3.0; 2000]);
        let series =
            [Series { name: "real", values: &real }, Series { name: "generated", values: &generated }];
        let plan = Plan::new(&series, None);
        assert!((plan.curves[0].peak / plan.top - 0.5).abs() < 1e-9);
        assert!(plan.curves[1].notes[0].ends_with("cut off"));
    }

    #[test]
    fn numbers_on_axes_are_short() {
        let written = [0.0, 0.1 + 0.2, -2.5, 40.0, 12345.0, 2.5e6, 1e-5, 1.0].map(short);
        assert_eq!(written, ["0", "0.3", "-2.5", "40", "12345", "2.5e6", "1e-5", "1"]);
    }

    fn unpainted(text: &str) -> String {
        let mut parts = text.split("\x1b[");
        let first = parts.next().unwrap_or_default().to_owned();
        first + &parts.filter_map(|part| part.split_once('m')).map(|(_, rest)| rest).collect::<String>()
    }

    #[test]
    fn terminal_text_keeps_to_its_width() {
        let values = wave(0.0, 1.0);
        let names = ["real", "generated", "a very long name indeed"];
        let series = names.map(|name| Series { name, values: &values });
        for width in 0..130 {
            let text = terminal_histogram(&series, width, false);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
            let painted = terminal_histogram(&series, width, true);
            assert!(width < 9 || painted.contains('\x1b'));
            assert_eq!(unpainted(&painted), text);
        }
    }
}
