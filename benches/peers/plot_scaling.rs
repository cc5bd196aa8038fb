//! Draws the table that `cargo xtask bench --scaling` writes: a step's time against batch, width and depth.

use std::error::Error;
use std::ops::Range;

use plotters::prelude::*;
use plotters::style::register_font;

/// Colours that the colour-blind can tell apart (Okabe and Ito), by program.
const PROGRAMS: [(&str, RGBColor); 4] = [
    ("gan", RGBColor(213, 94, 0)),
    ("JAX", RGBColor(0, 114, 178)),
    ("PyTorch", RGBColor(0, 158, 115)),
    ("burn", RGBColor(110, 110, 110)),
];

/// The font of the program's own pictures.
const FONT: &[u8] = include_bytes!("../../crates/gan-cli/assets/DejaVuSans-subset.ttf");

/// A measured point: axis, size, program, microseconds.
type Row<'a> = (&'a str, f64, &'a str, f64);

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args().skip(1);
    let (Some(table), Some(picture)) = (paths.next(), paths.next()) else {
        return Err("usage: plot_scaling TABLE.csv PICTURE.svg".into());
    };
    let text = std::fs::read_to_string(table)?;
    let rows = text.lines().skip(1).map(parse).collect::<Option<Vec<Row<'_>>>>().ok_or("a broken line")?;
    register_font("sans-serif", FontStyle::Normal, FONT).map_err(|_| "a broken font")?;
    let root = SVGBackend::new(&picture, (1200, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, axis) in root.split_evenly((1, 3)).iter().zip(["batch", "width", "depth"]) {
        let of_axis: Vec<_> = rows.iter().filter(|row| row.0 == axis).collect();
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(
                span(of_axis.iter().map(|row| row.1)).log_scale(),
                span(of_axis.iter().map(|row| row.3)).log_scale(),
            )?;
        let bold = ("sans-serif", 15);
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(4)
            .x_label_formatter(&|x| x.to_string())
            .y_label_formatter(&|y| y.to_string())
            .x_desc(axis)
            .y_desc("microseconds a step")
            .axis_desc_style(bold)
            .label_style(("sans-serif", 13))
            .draw()?;
        for (program, colour) in PROGRAMS {
            let points = of_axis.iter().filter(|row| row.2 == program).map(|row| (row.1, row.3));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
                .label(program)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(bold)
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }
    root.present()?;
    Ok(())
}

fn parse(line: &str) -> Option<Row<'_>> {
    let mut cells = line.split(',');
    Some((cells.next()?, cells.next()?.parse().ok()?, cells.next()?, cells.next()?.parse().ok()?))
}

/// From below the smallest to above the largest.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), x| (x.min(low), x.max(high)));
    low / 1.3..high * 1.3
}
