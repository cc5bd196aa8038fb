//! A plotters backend that draws into pixels in memory.

use std::convert::Infallible;

use ab_glyph::{Font, FontRef, Glyph, InvalidFont, Point, PxScale, ScaleFont};
use plotters::backend::DrawingBackend;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind};

use super::{FONT, PER_EM, SIZE};

/// A plotters backend that draws into RGB pixels of the picture's size.
pub(super) struct Canvas<'a> {
    pixels: &'a mut [u8],
    font: FontRef<'static>,
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl<'a> Canvas<'a> {
    pub(super) fn new(pixels: &'a mut [u8]) -> Result<Self, InvalidFont> {
        Ok(Canvas { pixels, font: FontRef::try_from_slice(FONT)? })
    }

    fn blend(&mut self, x: i32, y: i32, colour: BackendColor, cover: f64) {
        if x < 0 || y < 0 || x >= SIZE.0 as i32 || y >= SIZE.1 as i32 {
            return;
        }
        let at = 3 * (y as usize * SIZE.0 as usize + x as usize);
        let (r, g, b) = colour.rgb;
        for (old, new) in self.pixels[at..at + 3].iter_mut().zip([r, g, b]) {
            let (from, to) = (f64::from(*old), f64::from(new));
            *old = (from + (to - from) * colour.alpha * cover).round() as u8;
        }
    }

    fn scale(&self, size: f64) -> PxScale {
        let units = self.font.units_per_em().unwrap_or(1000.0);
        PxScale::from((size / PER_EM) as f32 * self.font.height_unscaled() / units)
    }

    /// The letters of `words` with the place of each on a line that starts at 0, and the line's end.
    fn set(&self, words: &str, size: f64) -> (Vec<Glyph>, f32) {
        let font = self.font.as_scaled(self.scale(size));
        let (mut glyphs, mut x): (Vec<Glyph>, f32) = (Vec::new(), 0.0);
        for letter in words.chars() {
            let mut glyph = font.scaled_glyph(letter);
            x += glyphs.last().map_or(0.0, |last| font.kern(last.id, glyph.id));
            glyph.position = Point { x, y: 0.0 };
            x += font.h_advance(glyph.id);
            glyphs.push(glyph);
        }
        (glyphs, x)
    }
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        SIZE
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Drawn {
        self.blend(x, y, colour, 1.0);
        Ok(())
    }

    /// Draws the box around the line: every line of a histogram is level or upright.
    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        let wide = style.stroke_width() as i32;
        let (before, after) = ((wide - 1) / 2, wide / 2);
        for y in from.1.min(to.1) - before..=from.1.max(to.1) + after {
            for x in from.0.min(to.0) - before..=from.0.max(to.0) + after {
                self.blend(x, y, style.color(), 1.0);
            }
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        points.windows(2).try_for_each(|ends| self.draw_line(ends[0], ends[1], style))
    }

    /// Fills the pixels whose middle lies inside: exact for the level and upright edges drawn here.
    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        let next = points.iter().cycle().skip(1);
        let edges: Vec<_> = points.iter().zip(next).filter(|(a, b)| a.0 == b.0 && a.1 != b.1).collect();
        for y in 0..SIZE.1 as i32 {
            let crosses = edges.iter().filter(|(a, b)| (a.1.min(b.1)..a.1.max(b.1)).contains(&y));
            let mut crosses: Vec<i32> = crosses.map(|(a, _)| a.0).collect();
            crosses.sort_unstable();
            for pair in crosses.chunks_exact(2) {
                (pair[0]..pair[1]).for_each(|x| self.blend(x, y, style.color(), 1.0));
            }
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        words: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let (_, end) = self.set(words, style.size());
        Ok((end.ceil() as u32, (style.size() / PER_EM).ceil() as u32))
    }

    fn draw_text<S: BackendTextStyle>(&mut self, words: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let (glyphs, end) = self.set(words, style.size());
        let em = (style.size() / PER_EM) as f32;
        let left = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -end / 2.0,
            HPos::Right => -end,
        };
        let base = match style.anchor().v_pos {
            VPos::Top => 0.76 * em,
            VPos::Center => 0.36 * em,
            VPos::Bottom => -0.24 * em,
        };
        for mut glyph in glyphs {
            glyph.position = Point { x: glyph.position.x + left, y: base.round() };
            let Some(shape) = self.font.outline_glyph(glyph) else { continue };
            let (dx, dy) = (shape.px_bounds().min.x as i32, shape.px_bounds().min.y as i32);
            shape.draw(|i, j, cover| {
                let (right, down) = style.transform().transform(i as i32 + dx, j as i32 + dy);
                self.blend(x + right, y + down, style.color(), f64::from(cover));
            });
        }
        Ok(())
    }
}
