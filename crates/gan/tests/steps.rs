//! What a step of D or of G changes, and what it leaves alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gan::{Learner, Trainer};
use nn::layers::LayerConfig;
use nn::{Network, Optimizer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tensor_ops::Tensor;

fn network(layers: serde_json::Value, seed: u64) -> Network<f32> {
    let layers: Vec<LayerConfig> = serde_json::from_value(layers).unwrap();
    let layers = layers.iter().map(LayerConfig::build).collect();
    Network::new([6], layers, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
}

fn trainer() -> Trainer<f32> {
    let generator = network(
        json!([
            { "layer": "reshape", "target_shape": [6, 1] },
            { "layer": "conv1d", "filters": 5, "kernel_size": 1, "activation": "tanh" },
            { "layer": "conv1d", "filters": 1, "kernel_size": 1 },
            { "layer": "flatten" },
        ]),
        1,
    );
    let discriminator = network(
        json!([
            { "layer": "lambda", "expression": "concat([x, square(x - mean(x, axis=1))], axis=1)" },
            { "layer": "dense", "units": 4, "activation": "tanh" },
            { "layer": "dense", "units": 1, "activation": "sigmoid" },
        ]),
        2,
    );
    Trainer::new((generator, Optimizer::adam(0.01)), (discriminator, Optimizer::adam(0.01))).unwrap()
}

fn rows(seed: u64) -> Tensor<f32> {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    Tensor::from_fn([3, 6], || rng.random())
}

fn d_step(trainer: &mut Trainer<f32>) {
    trainer.discriminator_step(rows(3).view(), rows(4).view()).unwrap();
}

fn g_step(trainer: &mut Trainer<f32>) {
    trainer.generator_step(rows(5).view()).unwrap();
}

/// Every bit that a learner consists of: its parameters, and what its optimizer remembers.
fn bits(learner: &Learner<f32>) -> (Vec<Vec<u32>>, u64) {
    let values =
        learner.network.parameters().iter().map(|p| &p.value).chain(learner.state.slots.iter().flatten());
    let bits = |tensor: &Tensor<f32>| tensor.data().iter().map(|x| x.to_bits()).collect();
    (values.map(bits).collect(), learner.state.step)
}

/// Whether a step changes G, and whether it changes D.
fn changed(trainer: &mut Trainer<f32>, step: fn(&mut Trainer<f32>)) -> [bool; 2] {
    let before = trainer.learners().map(|(_, learner)| bits(learner));
    step(trainer);
    let after = trainer.learners().map(|(_, learner)| bits(learner));
    [before[0] != after[0], before[1] != after[1]]
}

/// Which of G's or D's layers a step changes.
fn changed_layers(trainer: &mut Trainer<f32>, step: fn(&mut Trainer<f32>), which: usize) -> Vec<bool> {
    let values = |trainer: &Trainer<f32>| -> Vec<_> {
        trainer.learners()[which].1.network.parameters().iter().map(|p| p.value.clone()).collect()
    };
    let before = values(trainer);
    step(trainer);
    let after = values(trainer);
    before.chunks(2).zip(after.chunks(2)).map(|(before, after)| before != after).collect()
}

#[test]
fn each_step_changes_its_own_network_alone() {
    let mut trainer = trainer();
    for _ in 0..3 {
        assert_eq!(changed(&mut trainer, d_step), [false, true]);
        assert_eq!(changed(&mut trainer, g_step), [true, false]);
    }
}

#[test]
fn flipping_trainable_takes_effect_at_once() {
    let mut trainer = trainer();
    assert_eq!(changed_layers(&mut trainer, d_step, 1), [true, true]);
    trainer.networks_mut().1.set_layer_trainable(&[1], false).unwrap();
    assert_eq!(changed_layers(&mut trainer, d_step, 1), [false, true]);
    trainer.networks_mut().1.set_trainable(false);
    assert_eq!(changed_layers(&mut trainer, d_step, 1), [false, false]);
    trainer.networks_mut().1.set_trainable(true);
    assert_eq!(changed_layers(&mut trainer, d_step, 1), [true, true]);

    assert_eq!(changed_layers(&mut trainer, g_step, 0), [true, true]);
    trainer.networks_mut().0.set_layer_trainable(&[2], false).unwrap();
    assert_eq!(changed_layers(&mut trainer, g_step, 0), [true, false]);
    trainer.networks_mut().0.set_trainable(false);
    assert_eq!(changed_layers(&mut trainer, g_step, 0), [false, false]);
    trainer.networks_mut().0.set_trainable(true);
    assert_eq!(changed_layers(&mut trainer, g_step, 0), [true, true]);
}

#[test]
fn a_frozen_discriminator_passes_the_same_gradient_on() {
    let (mut free, mut frozen) = (trainer(), trainer());
    frozen.networks_mut().1.set_trainable(false);
    for trainer in [&mut free, &mut frozen] {
        assert_eq!(changed(trainer, g_step), [true, false]);
    }
    assert_eq!(bits(free.learners()[0].1), bits(frozen.learners()[0].1));
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let mut trainer = trainer();
    let before = trainer.learners().map(|(_, learner)| bits(learner));
    let bad = Tensor::full([3, 6], f32::NAN);
    let error = trainer.discriminator_step(bad.view(), rows(1).view()).unwrap_err();
    assert!(matches!(error, nn::Error::NotFinite { .. }));
    assert!(trainer.generator_step(bad.view()).is_err());
    assert_eq!(before, trainer.learners().map(|(_, learner)| bits(learner)));
}

#[test]
fn losses_are_those_of_the_logits() {
    let mut trainer = trainer();
    // D says 1 with a logit of 500, whatever it sees: a probability would have been rounded to 1.
    for parameter in trainer.networks_mut().1.parameters_mut() {
        parameter.value.fill(0.0);
    }
    trainer.networks_mut().1.parameters_mut()[3].value.fill(500.0);
    let score = trainer.discriminator_step(rows(1).view(), rows(2).view()).unwrap();
    assert_eq!((score.loss, score.accuracy), (250.0, 0.5));
    let score = trainer.generator_step(rows(2).view()).unwrap();
    assert!(score.loss < 1e-30 && score.accuracy == 1.0);
}
