//! Single steps: what each network learns from them, and what it does not.

use gan::{Rules, StepScore, Trainer};
use nn::layers::{Dense, Lambda};
use nn::{Activation, Layer, Network, Optimizer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tensor_ops::Tensor;

const BATCH: usize = 5;
const LATENT: usize = 3;
const ROW: usize = 4;

fn dense(units: usize, activation: Activation) -> Box<dyn Layer<f32>> {
    Box::new(Dense { activation, ..Dense::new(units) })
}

/// G of two layers and D of three, whose first has no parameters. The same each time.
fn trainer() -> Trainer<f32> {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let decorate = Lambda::new("concat([x, square(x - mean(x, axis=1))], axis=1)").unwrap();
    let generator = vec![dense(6, Activation::Tanh), dense(ROW, Activation::Linear)];
    let discriminator = vec![
        Box::new(decorate) as Box<dyn Layer<f32>>,
        dense(6, Activation::Tanh),
        dense(1, Activation::Sigmoid),
    ];
    let generator = Network::new([LATENT], generator, rng).unwrap();
    let discriminator = Network::new([ROW], discriminator, rng).unwrap();
    Trainer::new((generator, Optimizer::adam(0.01)), (discriminator, Optimizer::adam(0.01)), Rules::default())
        .unwrap()
}

fn real() -> Tensor<f32> {
    random(ROW, 1)
}

fn latent() -> Tensor<f32> {
    random(LATENT, 2)
}

fn random(columns: usize, seed: u64) -> Tensor<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Tensor::from_fn([BATCH, columns], || rng.random_range(-1.0..1.0))
}

fn d_step(trainer: &mut Trainer<f32>) -> StepScore {
    trainer.discriminator_step(real().view(), latent().view(), None).unwrap()
}

fn g_step(trainer: &mut Trainer<f32>) -> StepScore {
    trainer.generator_step(latent().view(), None).unwrap()
}

/// What a network has learned: the bytes of its weights and moments, layer by layer, and its steps.
#[derive(Debug, Clone, PartialEq)]
struct Learned {
    layers: Vec<Vec<u8>>,
    steps: u64,
}

/// G's and D's.
fn learned(trainer: &Trainer<f32>) -> [Learned; 2] {
    trainer.learners().map(|(_, learner)| {
        let mut layers = Vec::new();
        for (parameter, slots) in learner.network.parameters().iter().zip(&learner.state.slots) {
            layers.resize(parameter.layer + 1, Vec::new());
            let numbers = [&parameter.value].into_iter().chain(slots).flat_map(Tensor::data);
            layers[parameter.layer].extend(numbers.flat_map(|x| x.to_le_bytes()));
        }
        Learned { layers, steps: learner.state.step }
    })
}

/// Which layers with parameters a step changed, in G and in D.
fn changed(trainer: &mut Trainer<f32>, step: fn(&mut Trainer<f32>) -> StepScore) -> [Vec<bool>; 2] {
    let before = learned(trainer);
    step(trainer);
    let after = learned(trainer);
    [0, 1].map(|i| before[i].layers.iter().zip(&after[i].layers).map(|(a, b)| a != b).collect())
}

/// Checks which layers of G and D a D step changes, then which a G step does.
#[track_caller]
fn check_learning(trainer: &mut Trainer<f32>, generator: [bool; 2], discriminator: [bool; 2]) {
    assert_eq!(changed(trainer, d_step), [vec![false; 2], discriminator.to_vec()], "D step");
    assert_eq!(changed(trainer, g_step), [generator.to_vec(), vec![false; 2]], "G step");
}

#[test]
fn a_step_changes_one_network_and_leaves_every_byte_of_the_other() {
    let mut trainer = trainer();
    let before = learned(&trainer);
    g_step(&mut trainer);
    let after_g = learned(&trainer);
    assert_eq!(after_g[1], before[1]);
    assert!(after_g[0].layers.iter().zip(&before[0].layers).all(|(a, b)| a != b));
    d_step(&mut trainer);
    let after_d = learned(&trainer);
    assert_eq!(after_d[0], after_g[0]);
    assert!(after_d[1].layers.iter().zip(&before[1].layers).all(|(a, b)| a != b));
    assert_eq!(after_d.map(|network| network.steps), [1, 1]);
}

#[test]
fn the_same_steps_give_the_same_bytes() {
    let run = || {
        let mut trainer = trainer();
        let scores = [d_step(&mut trainer), g_step(&mut trainer), d_step(&mut trainer)];
        (scores, learned(&trainer))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_layer_of_d_is_frozen_and_thawed_at_once() {
    let trainer = &mut trainer();
    check_learning(trainer, [true; 2], [true; 2]);
    trainer.networks_mut().1.set_layer_trainable(&[1], false).unwrap();
    check_learning(trainer, [true; 2], [false, true]);
    trainer.networks_mut().1.set_layer_trainable(&[2], false).unwrap();
    check_learning(trainer, [true; 2], [false; 2]);
    trainer.networks_mut().1.set_layer_trainable(&[1], true).unwrap();
    check_learning(trainer, [true; 2], [true, false]);
    trainer.networks_mut().1.set_layer_trainable(&[2], true).unwrap();
    check_learning(trainer, [true; 2], [true; 2]);
}

#[test]
fn a_layer_of_g_is_frozen_and_thawed_at_once() {
    let trainer = &mut trainer();
    trainer.networks_mut().0.set_layer_trainable(&[0], false).unwrap();
    check_learning(trainer, [false, true], [true; 2]);
    trainer.networks_mut().0.set_layer_trainable(&[0], true).unwrap();
    trainer.networks_mut().0.set_layer_trainable(&[1], false).unwrap();
    check_learning(trainer, [true, false], [true; 2]);
    trainer.networks_mut().0.set_layer_trainable(&[1], true).unwrap();
    check_learning(trainer, [true; 2], [true; 2]);
}

#[test]
fn whole_networks_are_frozen_and_thawed_at_once() {
    let trainer = &mut trainer();
    for (generator, discriminator) in [(true, false), (false, true), (false, false), (true, true)] {
        trainer.networks_mut().0.set_trainable(generator);
        trainer.networks_mut().1.set_trainable(discriminator);
        check_learning(trainer, [generator; 2], [discriminator; 2]);
    }
}

#[test]
fn a_frozen_d_hands_the_same_gradient_to_g() {
    let (mut free, mut frozen) = (trainer(), trainer());
    frozen.networks_mut().1.set_trainable(false);
    for _ in 0..3 {
        assert_eq!(g_step(&mut free), g_step(&mut frozen));
    }
    assert_eq!(learned(&free), learned(&frozen));
    assert_ne!(learned(&frozen)[0], learned(&trainer())[0]);
}

/// What a frozen layer would have learned does not come back when it is thawed.
#[test]
fn a_thawed_layer_goes_on_from_where_it_was() {
    let trainer = &mut trainer();
    d_step(trainer);
    let before = learned(trainer)[1].layers[0].clone();
    trainer.networks_mut().1.set_layer_trainable(&[1], false).unwrap();
    for _ in 0..3 {
        d_step(trainer);
    }
    trainer.networks_mut().1.set_layer_trainable(&[1], true).unwrap();
    assert_eq!(learned(trainer)[1].layers[0], before);
}

/// Sets the bias of D's last layer, and so, about, every logit.
fn set_logits(trainer: &mut Trainer<f32>, logit: f32) {
    let bias = trainer.networks_mut().1.parameters_mut().last_mut().unwrap();
    bias.value.fill(logit);
}

#[test]
fn losses_at_huge_logits_are_finite_and_right() {
    for logit in [1e3, 1e6, 1e30_f32] {
        let size = f64::from(logit);
        for (sign, real_loss, fake_loss) in [(1.0, 0.0, size), (-1.0, size, 0.0)] {
            let trainer = &mut trainer();
            set_logits(trainer, sign * logit);
            let d = d_step(trainer);
            approx::assert_relative_eq!(d.loss, (real_loss + fake_loss) / 2.0, max_relative = 1e-2);
            assert_eq!(d.accuracy, 0.5);
            set_logits(trainer, sign * logit);
            let g = g_step(trainer);
            approx::assert_relative_eq!(g.loss, real_loss, max_relative = 1e-2, epsilon = 1e-12);
        }
    }
}

/// A sigmoid of -1e3 is 0 in f32, and its logarithm would be infinite.
#[test]
fn a_g_that_d_sees_through_still_learns() {
    let trainer = &mut trainer();
    set_logits(trainer, -1e3);
    assert_eq!(changed(trainer, g_step), [vec![true; 2], vec![false; 2]]);
}

/// Checks that a step fails for a number that is not finite and that no byte has changed.
#[track_caller]
fn check_refused(trainer: &mut Trainer<f32>, real: &Tensor<f32>, latent: &Tensor<f32>) {
    let before = learned(trainer);
    let error = trainer.discriminator_step(real.view(), latent.view(), None).unwrap_err();
    assert!(matches!(error, nn::Error::NotFinite { .. }), "{error}");
    assert_eq!(learned(trainer), before);
}

#[test]
fn a_batch_with_nan_or_infinity_is_refused_and_changes_nothing() {
    let trainer = &mut trainer();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut broken = real();
        broken.data_mut()[ROW + 1] = value;
        check_refused(trainer, &broken, &latent());
    }
    let mut broken = latent();
    broken.data_mut()[1] = f32::NAN;
    check_refused(trainer, &real(), &broken);
    let before = learned(trainer);
    let error = trainer.generator_step(broken.view(), None).unwrap_err();
    assert!(matches!(error, nn::Error::NotFinite { .. }), "{error}");
    assert_eq!(learned(trainer), before);
    // The buffers still hold NaN; the next steps must not see it.
    check_learning(trainer, [true; 2], [true; 2]);
}

#[test]
fn a_batch_of_another_shape_is_refused_and_changes_nothing() {
    let trainer = &mut trainer();
    let before = learned(trainer);
    assert!(trainer.discriminator_step(random(ROW + 1, 1).view(), latent().view(), None).is_err());
    assert!(trainer.discriminator_step(real().view(), random(LATENT + 1, 1).view(), None).is_err());
    assert!(trainer.generator_step(random(LATENT + 1, 1).view(), None).is_err());
    assert_eq!(learned(trainer), before);
}

#[test]
fn an_optimizer_out_of_range_is_refused() {
    let networks = || {
        let rng = &mut ChaCha8Rng::seed_from_u64(3);
        let network = |input, units, rng: &mut ChaCha8Rng| {
            Network::<f32>::new([input], vec![dense(units, Activation::Linear)], rng).unwrap()
        };
        (network(LATENT, ROW, rng), network(ROW, 1, rng))
    };
    let (generator, discriminator) = networks();
    let (good, bad) = (Optimizer::adam(0.01), Optimizer::adam(f64::NAN));
    let error =
        Trainer::new((generator, good), (discriminator, bad), Rules::default()).unwrap_err().to_string();
    assert_eq!(error, "optimizer.discriminator: adam: learning_rate: expected a number >= 0, found NaN");
}
