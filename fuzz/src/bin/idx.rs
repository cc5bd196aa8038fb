//! IDX files, plain and gzipped: as images, and as labels of two images.
#![no_main]

use gan::Images;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = fuzz::file("bytes", bytes);
    if let Some(images) = fuzz::check(Images::read_idx(&path, None)) {
        assert!(images.facts().count > 0 && images.width() > 0);
    }
    let images = fuzz::file("images", &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7, 9]);
    if let Some(images) = fuzz::check(Images::read_idx(&images, Some(&path))) {
        assert!(images.facts().classes.as_ref().is_some_and(|classes| (1..=2).contains(&classes.len())));
    }
});
