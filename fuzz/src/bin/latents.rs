//! Latents and samples: .npy files.
#![no_main]

use gan::read_npy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = fuzz::file("z.npy", bytes);
    if let Some(latents) = fuzz::check(read_npy::<f32>(&path)) {
        assert!(latents.shape().len() > 0 && latents.data().iter().all(|x| x.is_finite()));
    }
    fuzz::check(read_npy::<f64>(&path));
});
