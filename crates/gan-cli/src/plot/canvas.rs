//! A plotters backend that draws into pixels in memory, by tiny-skia.

use std::convert::Infallible;

use ab_glyph::{Font, FontRef, Glyph, Point, PxScale, ScaleFont};
use plotters::backend::DrawingBackend;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind};
use tiny_skia::{FillRule, Paint, Path, PathBuilder, PixmapMut, Rect, Stroke, Transform};

use super::{FONT, PER_EM};

/// A plotters backend that draws into RGBA pixels.
pub(super) struct Canvas<'a> {
    pixels: PixmapMut<'a>,
    font: FontRef<'static>,
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl<'a> Canvas<'a> {
    /// A canvas of `size` pixels, four bytes each, all of them opaque.
    pub(super) fn new(pixels: &'a mut [u8], size: (u32, u32)) -> Result<Self, String> {
        let pixels = PixmapMut::from_bytes(pixels, size.0, size.1).ok_or("the picture has no size")?;
        let font = FontRef::try_from_slice(FONT).map_err(|error| error.to_string())?;
        Ok(Canvas { pixels, font })
    }

    fn blend(&mut self, x: i32, y: i32, colour: BackendColor, cover: f64) {
        let (wide, high) = (self.pixels.width() as i32, self.pixels.height() as i32);
        if x < 0 || y < 0 || x >= wide || y >= high {
            return;
        }
        let at = 4 * (y as usize * wide as usize + x as usize);
        let (r, g, b) = colour.rgb;
        for (old, new) in self.pixels.data_mut().iter_mut().skip(at).zip([r, g, b]) {
            let (from, to) = (f64::from(*old), f64::from(new));
            *old = (from + (to - from) * colour.alpha * cover).round() as u8;
        }
    }

    fn stroke<S: BackendStyle>(&mut self, path: Option<Path>, style: &S) {
        let width = style.stroke_width() as f32;
        // A line of an odd width lies on the middles of pixels, one of an even width between them.
        let shift = if style.stroke_width() % 2 == 1 { 0.5 } else { 0.0 };
        if let Some(path) = path.and_then(|path| path.transform(Transform::from_translate(shift, shift))) {
            let stroke = Stroke { width, ..Stroke::default() };
            self.pixels.stroke_path(&path, &paint(style), &stroke, Transform::identity(), None);
        }
    }

    fn fill<S: BackendStyle>(&mut self, path: Option<Path>, style: &S) {
        if let Some(path) = path {
            self.pixels.fill_path(&path, &paint(style), FillRule::Winding, Transform::identity(), None);
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

fn paint<S: BackendStyle>(style: &S) -> Paint<'static> {
    let BackendColor { rgb: (r, g, b), alpha } = style.color();
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, (255.0 * alpha).round() as u8);
    paint
}

fn path(points: impl IntoIterator<Item = BackendCoord>, closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (place, (x, y)) in points.into_iter().enumerate() {
        if place == 0 { builder.move_to(x as f32, y as f32) } else { builder.line_to(x as f32, y as f32) }
    }
    if closed {
        builder.close();
    }
    builder.finish()
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.pixels.width(), self.pixels.height())
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

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.stroke(path([from, to], false), style);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        points: I,
        style: &S,
    ) -> Drawn {
        self.stroke(path(points, false), style);
        Ok(())
    }

    /// A full rectangle takes whole pixels, so that no seam shows between neighbours.
    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        if fill {
            let (left, right, top, bottom) =
                (from.0.min(to.0), from.0.max(to.0), from.1.min(to.1), from.1.max(to.1));
            let area = Rect::from_ltrb(left as f32, top as f32, right as f32, bottom as f32);
            self.fill(area.map(PathBuilder::from_rect), style);
        } else {
            self.stroke(path([from, (to.0, from.1), to, (from.0, to.1)], true), style);
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let circle = PathBuilder::from_circle(x as f32 + 0.5, y as f32 + 0.5, radius as f32);
        if fill {
            self.fill(circle, style)
        } else {
            self.stroke(circle, style)
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        points: I,
        style: &S,
    ) -> Drawn {
        self.fill(path(points, true), style);
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
