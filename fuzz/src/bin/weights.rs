//! Files of weights, of this and of other programs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nn::weights::Reader;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Reader::new(bytes) else { return };
    for (name, ..) in file.tensors() {
        let _ = file.any_tensor::<f32>(&name);
        let _ = file.any_tensor::<f64>(&name);
    }
});
