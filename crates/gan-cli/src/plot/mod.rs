//! Pictures, as SVG or PNG, and as text for a terminal.
//!
//! `plotters` lays a picture out and writes SVG. Pixels come from [`Canvas`], a small backend of our own on `tiny-skia`:
//! that of plotters draws jagged lines, and ignores side bearings, so it spaces letters unevenly.

mod animation;
mod canvas;
mod figure;
mod grid;
mod histogram;
mod terminal;

use std::fmt::Display;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{TextStyle, register_font};

pub(crate) use animation::animate;
use canvas::Canvas;
pub(crate) use figure::{Figure, Heat, Layer, Mark, Panels};
pub(crate) use grid::{Grid, Grids};
pub(crate) use histogram::{Histogram, Series};
pub(crate) use terminal::terminal_histogram;

/// Part of DejaVu Sans: Latin, Greek, Cyrillic, punctuation, arrows and mathematics.
static FONT: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");
/// The fonts an SVG viewer may use, best first; the PNG uses [`FONT`].
const FAMILY: &str = "DejaVu Sans, Verdana, Arial, Helvetica, sans-serif";
/// plotters divides every font size by this to get the em.
const PER_EM: f64 = 1.24;
/// A picture of one chart.
const SIZE: (u32, u32) = (1200, 750);
const LEFT: i32 = 135;
const RIGHT: i32 = 30;
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
/// Okabe and Ito's colours, which colour-blind readers can tell apart.
pub(crate) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(crate) const VERMILLION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
pub(crate) const GREY: RGBColor = RGBColor(0x80, 0x80, 0x80);
const SPARE: [RGBColor; 3] =
    [RGBColor(0x00, 0x9e, 0x73), RGBColor(0xcc, 0x79, 0xa7), RGBColor(0xe6, 0x9f, 0x00)];

type Area<B> = DrawingArea<B, Shift>;
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// Something that can be drawn.
pub(crate) trait Picture {
    /// Its size in pixels.
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    /// Draws it onto white.
    fn draw<B: DrawingBackend>(&self, root: &Area<B>) -> Drawn<B>;
}

/// Writes a picture to `path`, as SVG or PNG by the path's ending.
///
/// The file appears whole or not at all: it is written beside `path` and then renamed.
///
/// # Errors
///
/// Fails when the ending is neither .svg nor .png, or when the file cannot be written.
pub(crate) fn save(path: &Path, picture: &impl Picture) -> gan::Result<()> {
    let drawn = match ending(path).as_str() {
        "svg" => svg(picture),
        "png" => png(picture),
        _ => {
            let message = "expected a name that ends in .svg or .png".to_owned();
            return Err(gan::Error::File { path: path.to_owned(), message });
        }
    };
    let bytes = drawn.map_err(|reason| gan::Error::Io {
        path: path.to_owned(),
        action: "draw the picture",
        source: std::io::Error::other(reason),
    })?;
    gan::write_atomically(path, &bytes)
}

/// The ending of a file's name, in lower case, without the dot.
pub(crate) fn ending(path: &Path) -> String {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn svg(picture: &impl Picture) -> Result<Vec<u8>, String> {
    let mut text = String::new();
    paint(&SVGBackend::with_string(&mut text, picture.size()).into_drawing_area(), picture)?;
    Ok(text.into_bytes())
}

fn png(picture: &impl Picture) -> Result<Vec<u8>, String> {
    let size = picture.size();
    let mut pixels = vec![255; 4 * size.0 as usize * size.1 as usize];
    paint(&Canvas::new(&mut pixels, size)?.into_drawing_area(), picture)?;
    let opaque: Vec<u8> = pixels.as_chunks().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
    encode(&opaque, size).map_err(line)
}

fn encode(pixels: &[u8], size: (u32, u32)) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
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

fn paint<B: DrawingBackend>(root: &Area<B>, picture: &impl Picture) -> Result<(), String> {
    register_font(FAMILY, FontStyle::Normal, FONT).map_err(|_| "the built-in font is damaged".to_owned())?;
    let draw = || {
        root.fill(&WHITE)?;
        picture.draw(root)?;
        root.present()
    };
    draw().map_err(line)
}

fn line(error: impl Display) -> String {
    error.to_string().replace('\n', " ")
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

fn pen(colour: RGBColor, stroke_width: u32) -> ShapeStyle {
    ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width }
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

    use super::histogram::Plan;
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
            save(&path, &Histogram::new("title <&>", "x", &series))?;
            assert!(fs::read(path)?.starts_with(start));
        }
        for name in ["c.gif", "d", ".svg"] {
            let error = save(&folder.path().join(name), &Histogram::new("", "", &series))
                .err()
                .map(|e| e.to_string());
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
        let missing = save(&folder.path().join("no/such.svg"), &Histogram::new("", "", &[]));
        assert!(matches!(missing, Err(gan::Error::Io { .. })));
        fs::create_dir(folder.path().join("taken.png"))?;
        let taken = save(&folder.path().join("taken.png"), &Histogram::new("", "", &[]));
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
                let page = Histogram::new("", "", &series);
                assert!(page.plan.bins.count < 200, "{real:?} {generated:?}");
                svg(&page)?;
                assert!(!terminal_histogram(&series, 50, false).is_empty());
            }
            let alone = [Series { name: "input", values: real }];
            png(&Histogram::new("Ω → ∞", "x", &alone))?;
        }
        svg(&Histogram::new("", "", &[]))?;
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
