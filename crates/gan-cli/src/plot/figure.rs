//! Curves and points over axes, alone or as panels of one picture.

use std::ops::Range;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{Area, Drawn, GRID, INK, Picture, SIZE, fitted, pen, short, text, width};

/// How the points of a layer are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Line,
    Dashes,
    Dots,
}

/// A curve or a cloud of points. What is not finite is left out.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    pub(crate) colour: RGBColor,
    pub(crate) mark: Mark,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Numbers from 0 to 1 over a plane, shown as shades from one colour to another.
#[derive(Clone, Debug)]
pub(crate) struct Heat {
    /// The area they cover.
    pub(crate) x: Range<f64>,
    pub(crate) y: Range<f64>,
    /// Columns and rows.
    pub(crate) cells: (usize, usize),
    /// Row by row, from the lowest.
    pub(crate) values: Vec<f64>,
    /// What 0 and 1 are called.
    pub(crate) ends: [String; 2],
}

/// Layers over axes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure {
    pub(crate) title: String,
    pub(crate) x_label: &'static str,
    pub(crate) y_label: &'static str,
    pub(crate) layers: Vec<Layer>,
    /// Behind the layers; decides the ranges, which then have the same scale.
    pub(crate) heat: Option<Heat>,
    /// Whether y is drawn on a logarithmic axis, where all of it is above 0 and it spans [`DECADES`].
    pub(crate) logarithmic: bool,
}

/// The sizes of everything in a figure, in pixels.
struct Layout {
    left: i32,
    right: i32,
    title: f64,
    label: f64,
    number: f64,
    line: u32,
}

impl Layout {
    const WHOLE: Self = Self { left: 135, right: 30, title: 32.0, label: 28.0, number: 26.0, line: 3 };
    const PANEL: Self = Self { left: 100, right: 44, title: 24.0, label: 20.0, number: 18.0, line: 2 };
}

impl Picture for Figure {
    fn size(&self) -> (u32, u32) {
        // A plane is square, with room for the title above.
        if self.heat.is_some() { (1000, 1050) } else { SIZE }
    }

    fn draw<B: DrawingBackend>(&self, root: &Area<B>) -> Drawn<B> {
        self.draw_in(root, &Layout::WHOLE)
    }
}

/// Figures side by side, two to a row.
pub(crate) struct Panels(pub(crate) Vec<Figure>);

/// A logarithmic axis has labels at powers of ten alone: a smaller range would have one label or none. Over hundreds of
/// powers plotters looks for labels for ever, so it gets none beyond 1e-12 and 1e12.
const DECADES: f64 = 30.0;

/// The height of a row of panels.
const ROW: u32 = 400;

impl Picture for Panels {
    fn size(&self) -> (u32, u32) {
        (1400, ROW * self.0.len().div_ceil(2).max(1) as u32)
    }

    fn draw<B: DrawingBackend>(&self, root: &Area<B>) -> Drawn<B> {
        let areas = root.split_evenly((self.0.len().div_ceil(2).max(1), 2));
        self.0.iter().zip(&areas).try_for_each(|(figure, area)| figure.draw_in(area, &Layout::PANEL))
    }
}

impl Figure {
    fn draw_in<B: DrawingBackend>(&self, root: &Area<B>, layout: &Layout) -> Drawn<B> {
        let room = root.dim_in_pixel().0 as i32 - layout.left - layout.right;
        let title = (layout.left, (1.1 * layout.title) as i32);
        root.draw(&Text::new(self.title.as_str(), title, fitted(root, &self.title, layout.title, room)?))?;
        self.draw_legend(root, layout, room)?;
        let (x, y) = self.ranges();
        let mut builder = ChartBuilder::on(root);
        builder
            .margin_top((3.4 * layout.title) as i32)
            .margin_left(14)
            .margin_right(layout.right)
            .margin_bottom(12)
            .x_label_area_size((2.9 * layout.label) as i32)
            .y_label_area_size(layout.left - 14);
        if self.is_logarithmic() {
            let chart = builder.build_cartesian_2d(x, y.log_scale())?;
            self.draw_chart(chart, layout)
        } else {
            self.draw_chart(builder.build_cartesian_2d(x, y)?, layout)
        }
    }

    fn draw_chart<B, Y>(
        &self,
        mut chart: ChartContext<'_, B, Cartesian2d<RangedCoordf64, Y>>,
        layout: &Layout,
    ) -> Drawn<B>
    where
        B: DrawingBackend,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        if let Some(heat) = &self.heat {
            chart.draw_series(heat.cells())?;
        }
        let (x_size, y_size) = (chart.x_range(), chart.y_range());
        let (x_size, y_size) = (x_size.end - x_size.start, y_size.end - y_size.start);
        // A sum of steps that should be 0 is not quite.
        let label = |value: f64, size: f64| short(if value.abs() < 1e-9 * size { 0.0 } else { value });
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(if self.heat.is_some() { TRANSPARENT } else { GRID.to_rgba() })
            .axis_style(pen(INK, 2))
            .x_labels(7)
            .y_labels(7)
            .x_label_formatter(&|x| label(*x, x_size))
            .y_label_formatter(&|y| label(*y, y_size))
            .label_style(text(layout.number))
            .axis_desc_style(text(layout.label))
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .draw()?;
        for layer in &self.layers {
            let finite = layer.finite();
            match layer.mark {
                Mark::Line => {
                    let style = pen(layer.colour, layout.line);
                    chart.draw_series(LineSeries::new(finite, style))?;
                }
                Mark::Dashes => {
                    let style = pen(layer.colour, layout.line);
                    chart.draw_series(DashedLineSeries::new(finite, 9, 6, style))?;
                }
                Mark::Dots => {
                    let style = layer.colour.mix(0.55).filled();
                    let dot = |point| Circle::new(point, layout.line, style);
                    chart.draw_series(finite.map(dot))?;
                }
            }
        }
        Ok(())
    }

    /// One row above the plot, so that it hides no data.
    fn draw_legend<B: DrawingBackend>(&self, root: &Area<B>, layout: &Layout, room: i32) -> Drawn<B> {
        let (swatch, gap) = ((1.5 * layout.number) as i32, (1.7 * layout.number) as i32);
        let mut entries: Vec<(&str, RGBColor, Mark)> =
            self.layers.iter().map(|layer| (layer.name, layer.colour, layer.mark)).collect();
        if let Some(heat) = &self.heat {
            let ends = heat.ends.iter().zip([0.0, 1.0]);
            entries.extend(ends.map(|(name, value)| (name.as_str(), shade(value), Mark::Dots)));
        }
        let words: String = entries.iter().map(|(name, ..)| *name).collect();
        let style = fitted(root, &words, layout.number, room - entries.len() as i32 * (swatch + gap))?;
        let (mut x, y) = (layout.left, (2.5 * layout.title) as i32);
        let shades = entries.len().saturating_sub(if self.heat.is_some() { 2 } else { 0 });
        for (place, (name, colour, mark)) in entries.into_iter().enumerate() {
            let end = x + swatch - 10;
            match mark {
                _ if place >= shades => {
                    root.draw(&Rectangle::new([(x, y - 9), (end, y + 9)], colour.filled()))?;
                }
                Mark::Line => root.draw(&PathElement::new([(x, y), (end, y)], pen(colour, layout.line)))?,
                Mark::Dashes => {
                    for start in (x..end).step_by(12) {
                        let dash = [(start, y), ((start + 7).min(end), y)];
                        root.draw(&PathElement::new(dash, pen(colour, layout.line)))?;
                    }
                }
                Mark::Dots => root.draw(&Circle::new((x + swatch / 2 - 5, y), 6, colour.filled()))?,
            }
            root.draw(&Text::new(name, (x + swatch, y), style.clone()))?;
            x += swatch + width(root, name, &style)? + gap;
        }
        Ok(())
    }

    fn is_logarithmic(&self) -> bool {
        let all = || self.layers.iter().flat_map(Layer::finite);
        let range = extent(all().map(|(_, y)| y));
        self.logarithmic && range.start > 1e-12 && range.end < 1e12 && range.end >= DECADES * range.start
    }

    /// The ranges of both axes, with a margin.
    fn ranges(&self) -> (Range<f64>, Range<f64>) {
        if let Some(heat) = &self.heat {
            return (heat.x.clone(), heat.y.clone());
        }
        let points = || self.layers.iter().flat_map(Layer::finite);
        let x = extent(points().map(|(x, _)| x));
        let y = extent(points().map(|(_, y)| y));
        let y = if self.is_logarithmic() { y.start / 1.3..y.end * 1.3 } else { widened(y, 0.05) };
        (widened(x, 0.0), y)
    }
}

impl Layer {
    fn finite(&self) -> impl Iterator<Item = (f64, f64)> + Clone + '_ {
        // Beyond 1e30 no sum or difference is safe.
        let finite = self.points.iter().filter(|(x, y)| x.abs() < 1e30 && y.abs() < 1e30);
        finite.copied()
    }
}

impl Heat {
    /// The cells, as rectangles that meet.
    fn cells(&self) -> impl Iterator<Item = Rectangle<(f64, f64)>> + '_ {
        let (columns, rows) = self.cells;
        let x =
            move |column: usize| self.x.start + (self.x.end - self.x.start) * column as f64 / columns as f64;
        let y = move |row: usize| self.y.start + (self.y.end - self.y.start) * row as f64 / rows as f64;
        self.values.iter().enumerate().map(move |(place, &value)| {
            let (row, column) = (place / columns, place % columns);
            Rectangle::new([(x(column), y(row + 1)), (x(column + 1), y(row))], shade(value).filled())
        })
    }
}

/// From a light vermillion at 0 over white to a light blue at 1: the colours of generated and real points.
fn shade(value: f64) -> RGBColor {
    let value = if value.is_nan() { 0.5 } else { value.clamp(0.0, 1.0) };
    let (end, share) = if value < 0.5 {
        ((0xf2, 0xb8, 0x8c), 1.0 - 2.0 * value)
    } else {
        ((0x8f, 0xc1, 0xe3), 2.0 * value - 1.0)
    };
    let mixed = |end: u8| (255.0 + (f64::from(end) - 255.0) * share).round() as u8;
    RGBColor(mixed(end.0), mixed(end.1), mixed(end.2))
}

/// From the least to the largest; 0 to 1 where there is nothing.
fn extent(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    if low > high { 0.0..1.0 } else { low..high }
}

/// A range with a share of its size on both ends, and never empty.
fn widened(range: Range<f64>, share: f64) -> Range<f64> {
    let size = range.end - range.start;
    let smallest = 1e-9 * range.start.abs().max(range.end.abs()).max(1e-30);
    let margin = if size > smallest { share * size } else { 0.5 * range.start.abs().max(1.0) };
    range.start - margin..range.end + margin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{BLUE, save};

    fn layer(points: Vec<(f64, f64)>, mark: Mark) -> Layer {
        Layer { name: "a", colour: BLUE, mark, points }
    }

    #[test]
    fn awkward_figures_are_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let awkward = [
            vec![],
            vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)],
            vec![(3.0, 3.0)],
            vec![(0.0, 1e-300), (1e-300, 1e29)],
            vec![(-1e300, 1e300), (0.0, -5.0), (1.0, 2.0)],
        ];
        for (place, points) in awkward.into_iter().enumerate() {
            for mark in [Mark::Line, Mark::Dashes, Mark::Dots] {
                for logarithmic in [false, true] {
                    let layers = vec![layer(points.clone(), mark)];
                    let figure = Figure { layers, logarithmic, ..Figure::default() };
                    save(&folder.path().join(format!("{place}.svg")), &figure).unwrap();
                    save(&folder.path().join("panels.png"), &Panels(vec![figure; 3])).unwrap();
                }
            }
        }
        save(&folder.path().join("none.png"), &Panels(Vec::new())).unwrap();
    }

    #[test]
    fn a_logarithm_is_taken_of_what_has_one() {
        let figure = |y| Figure {
            layers: vec![layer(vec![(0.0, 1.0), (1.0, y)], Mark::Line)],
            logarithmic: true,
            ..Figure::default()
        };
        assert!(figure(1e-3).is_logarithmic());
        assert!(![0.0, -1.0, 0.1, 1e-300, 1e29].map(|y| figure(y).is_logarithmic()).contains(&true));
    }

    #[test]
    fn shades_go_over_white() {
        assert_eq!(
            [0.0, 0.5, 1.0].map(shade),
            [RGBColor(0xf2, 0xb8, 0x8c), WHITE, RGBColor(0x8f, 0xc1, 0xe3)]
        );
        assert_eq!(shade(f64::NAN), WHITE);
    }

    #[test]
    fn ranges_are_never_empty() {
        assert_eq!(widened(3.0..3.0, 0.1), 1.5..4.5);
        assert_eq!(widened(0.0..10.0, 0.1), -1.0..11.0);
        assert_eq!(extent([].into_iter()), 0.0..1.0);
    }
}
