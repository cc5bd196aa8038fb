//! Pictures: PNG, JPEG, PGM and PPM.
#![no_main]

use gan::Images;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = fuzz::file("pictures/a.png", bytes);
    let folder = path.parent().unwrap();
    for channels in [1, 3] {
        if let Some(images) = fuzz::check(Images::read_folder(folder, [5, 7], channels, false)) {
            assert_eq!((images.facts().count, images.width()), (1, 35 * channels));
            if let Some(pixels) = fuzz::check(images.image(0)) {
                assert_eq!(pixels.len(), 35 * channels);
            }
        }
    }
});
