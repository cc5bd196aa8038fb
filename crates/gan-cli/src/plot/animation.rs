//! Pictures one after the other, as an animated PNG.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::line;

/// Seconds that a picture is shown: a share of the whole, but no longer than the second number.
const WHOLE: f64 = 8.0;
const LONGEST: f64 = 0.5;
/// The most bytes that the pixels of one may take.
const MOST_BYTES: usize = 1 << 28;
/// Seconds that the last one is shown.
const LAST: u16 = 2;

/// An animation of PNG files that are all of one size.
///
/// # Errors
/// [`gan::Error::File`] where one cannot be read or has another size.
pub(crate) fn animate(pictures: &[PathBuf]) -> gan::Result<Vec<u8>> {
    let mut size = None;
    let mut frames = Vec::new();
    for picture in pictures {
        let failed = |message: String| gan::Error::File { path: picture.clone(), message };
        let (found, pixels) =
            decode(picture).map_err(|problem| failed(format!("expected a PNG: {problem}")))?;
        let (width, height) = *size.get_or_insert(found);
        if found != (width, height) {
            let message = format!("expected {width} x {height} pixels, found {} x {}", found.0, found.1);
            return Err(failed(message));
        }
        frames.push(pixels);
    }
    encode(&frames, size.unwrap_or_default()).map_err(|error| gan::Error::Io {
        path: PathBuf::from("run.apng"),
        action: "draw the animation",
        source: std::io::Error::other(line(error)),
    })
}

fn decode(path: &Path) -> Result<((u32, u32), Vec<u8>), String> {
    let file = File::open(path).map_err(line)?;
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(line)?;
    let info = reader.info();
    if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
        return Err("found other pixels than 8 bits of red, green and blue".to_owned());
    }
    let size = info.size();
    let length = reader.output_buffer_size().filter(|length| *length <= MOST_BYTES);
    let mut pixels = vec![0; length.ok_or_else(|| format!("found {} x {} pixels", size.0, size.1))?];
    reader.next_frame(&mut pixels).map_err(line)?;
    Ok((size, pixels))
}

fn encode(frames: &[Vec<u8>], (width, height): (u32, u32)) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_animated(frames.len() as u32, 0)?;
    let milliseconds = 1000.0 * (WHOLE / frames.len() as f64).min(LONGEST);
    encoder.set_frame_delay(milliseconds as u16, 1000)?;
    let mut writer = encoder.write_header()?;
    for (number, frame) in frames.iter().enumerate() {
        if number + 1 == frames.len() {
            writer.set_frame_delay(LAST, 1)?;
        }
        writer.write_image_data(frame)?;
    }
    writer.finish()?;
    Ok(bytes)
}
