//! Learns to read handwritten digits of 8 x 8 pixels: `cargo run --release -p nn --example digits`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use nn::layers::Dense;
use nn::{Activation, Fit, Loss, Model, Network, Optimizer, Tensor};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let mut digits = include_str!("../data/optdigits.csv").lines().skip(1).collect::<Vec<_>>();
    digits.shuffle(rng);

    let (mut pixels, mut classes) = (Vec::new(), Vec::new());
    for line in &digits {
        let numbers = line.split(',').map(str::parse::<f32>).collect::<Result<Vec<_>, _>>()?;
        pixels.extend(numbers[..64].iter().map(|pixel| pixel / 16.0));
        classes.extend((0..10).map(|class| f32::from(u8::from(class as f32 == numbers[64]))));
    }
    let pixels = Tensor::from_vec([digits.len(), 64], pixels)?;
    let classes = Tensor::from_vec([digits.len(), 10], classes)?;

    // The last fifth is held out.
    let (rows, split) = (digits.len(), digits.len() * 4 / 5);
    let training = (pixels.view().rows(0..split)?, classes.view().rows(0..split)?);
    let held_out = (pixels.view().rows(split..rows)?, classes.view().rows(split..rows)?);

    let hidden = Dense { activation: Activation::Relu, ..Dense::new(256) };
    let output = Dense { activation: Activation::Softmax, ..Dense::new(10) };
    let network = Network::new([64], vec![Box::new(hidden), Box::new(output)], rng)?;
    let loss = Loss::CategoricalCrossentropy { from_logits: false, label_smoothing: 0.1 };
    let mut model = Model::new(network, loss, Optimizer::adam(2e-3))?;
    println!("{}", model.summary());

    let settings = Fit { epochs: 60, batch: 32, validation: Some(held_out) };
    let history = model.fit(training.0, training.1, settings, rng)?;
    for (number, epoch) in history.iter().enumerate().filter(|(number, _)| number % 10 == 9) {
        let held_out = epoch.validation.map_or(f64::NAN, |score| 100.0 * score.accuracy);
        println!("epoch {}: loss {:.4}, held out: {held_out:.1} % right", number + 1, epoch.training.loss);
    }
    Ok(())
}
