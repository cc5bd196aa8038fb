//! Images side by side, in one or several panels, as pixels.

use plotters::prelude::*;

use super::{Area, Drawn, Picture, fitted};

/// The least height or width of an image, in pixels: smaller ones are scaled up by a whole factor.
const LEAST: usize = 48;
/// What is around a picture that has a title.
const MARGIN: usize = 20;
/// The height of a title, and of a heading.
const TITLE: usize = 44;
const HEADING: usize = 32;

/// Images of one size, row by row.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    pub(crate) heading: &'static str,
    /// Height, width, channels: 1 for grey, 3 for colour.
    pub(crate) shape: [usize; 3],
    /// Image after image, each from 0 to 255.
    pub(crate) pixels: Vec<u8>,
    pub(crate) columns: usize,
}

/// Grids side by side.
#[derive(Clone, Debug)]
pub(crate) struct Grids {
    /// None where it is empty, and then no headings.
    pub(crate) title: String,
    pub(crate) panels: Vec<Grid>,
}

impl Grid {
    /// Without a heading, in so many columns that the grid is about as wide as high.
    pub(crate) fn square(shape: [usize; 3], pixels: Vec<u8>) -> Self {
        let [height, width, _] = shape;
        let count = pixels.len() / shape.iter().product::<usize>().max(1);
        let columns = (count as f64 * height as f64 / width as f64).sqrt().round() as usize;
        Self { heading: "", shape, pixels, columns: columns.clamp(1, count.max(1)) }
    }

    fn count(&self) -> usize {
        self.pixels.len() / self.shape.iter().product::<usize>().max(1)
    }

    /// How many pixels of the picture a pixel of an image takes, along each side.
    fn factor(&self) -> usize {
        LEAST.div_ceil(self.shape[0].min(self.shape[1]).max(1))
    }

    /// Pixels between two images.
    fn gap(&self) -> usize {
        if self.factor() > 1 { 2 } else { 1 }
    }

    /// The width and the height of an image with the gap after it.
    fn cell(&self) -> (usize, usize) {
        (self.shape[1] * self.factor() + self.gap(), self.shape[0] * self.factor() + self.gap())
    }

    fn size(&self) -> (usize, usize) {
        let ((width, height), rows) = (self.cell(), self.count().div_ceil(self.columns));
        (self.columns * width + self.gap(), rows * height + self.gap())
    }

    fn draw<B: DrawingBackend>(&self, root: &Area<B>, (left, top): (usize, usize)) -> Drawn<B> {
        let ([height, width, channels], factor, cell) = (self.shape, self.factor(), self.cell());
        for (number, image) in self.pixels.chunks_exact(height * width * channels).enumerate() {
            let x = left + self.gap() + number % self.columns * cell.0;
            let y = top + self.gap() + number / self.columns * cell.1;
            for (place, pixel) in image.chunks_exact(channels).enumerate() {
                #[expect(clippy::indexing_slicing, reason = "a pixel is as long as there are channels")]
                let colour = RGBColor(pixel[0], pixel[channels / 2], pixel[channels - 1]);
                let (x, y) = (x + place % width * factor, y + place / width * factor);
                for (dx, dy) in (0..factor * factor).map(|i| (i % factor, i / factor)) {
                    root.draw_pixel(((x + dx) as i32, (y + dy) as i32), &colour)?;
                }
            }
        }
        Ok(())
    }
}

impl Grids {
    /// What is around, above the panels, and between them.
    fn spaces(&self) -> (usize, usize, usize) {
        if self.title.is_empty() { (0, 0, 0) } else { (MARGIN, TITLE + HEADING, MARGIN) }
    }

    /// The pixels that it takes.
    pub(crate) fn area(&self) -> usize {
        let (width, height) = self.whole();
        width.saturating_mul(height)
    }

    fn whole(&self) -> (usize, usize) {
        let (margin, above, between) = self.spaces();
        let sizes: Vec<_> = self.panels.iter().map(Grid::size).collect();
        let width: usize = sizes.iter().map(|size| size.0 + between).sum();
        let height = sizes.iter().map(|size| size.1).max().unwrap_or(0);
        (width - between.min(width) + 2 * margin, height + above + 2 * margin)
    }
}

impl Picture for Grids {
    fn size(&self) -> (u32, u32) {
        let (width, height) = self.whole();
        (width.max(1) as u32, height.max(1) as u32)
    }

    fn draw<B: DrawingBackend>(&self, root: &Area<B>) -> Drawn<B> {
        let (margin, above, between) = self.spaces();
        let write = |words: &str, em: f64, place: (usize, usize), room: usize| {
            let style = fitted(root, words, em, room as i32)?;
            root.draw(&Text::new(words, (place.0 as i32, place.1 as i32), style))
        };
        let mut left = margin;
        for grid in &self.panels {
            if above > 0 {
                write(grid.heading, 18.0, (left, margin + TITLE + HEADING / 2), grid.size().0)?;
            }
            grid.draw(root, (left, margin + above))?;
            left += grid.size().0 + between;
        }
        if above > 0 {
            write(&self.title, 22.0, (margin, margin + TITLE / 2), left - between - margin)?;
        }
        Ok(())
    }
}
