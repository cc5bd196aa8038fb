//! How steps are taken: every objective and penalty against finite differences of what it reports, and the rest of the
//! rules against their definitions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gan::{Objective, Penalty, Rules, StepScore, Trainer};
use nn::layers::{Dense, Lambda, LayerConfig, MinibatchStd, SpectralNormalization};
use nn::{Activation, Layer, Network, Optimizer, Sgd};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tensor_ops::Tensor;

const BATCH: usize = 6;
const LATENT: usize = 2;
const ROW: usize = 3;

fn dense(units: usize, activation: Activation) -> Box<dyn Layer<f64>> {
    Box::new(Dense { activation, ..Dense::new(units) })
}

/// G, and D with a Lambda and two kinds of curved activations, both of which take steps of just their gradients.
fn trainer(rules: Rules) -> Trainer<f64> {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let decorate = Lambda::new("concat([x, square(x - mean(x, axis=1))], axis=1)").unwrap();
    let discriminator: Vec<Box<dyn Layer<f64>>> = vec![
        Box::new(decorate),
        dense(4, Activation::Tanh),
        dense(3, Activation::Silu),
        dense(1, Activation::Sigmoid),
    ];
    let generator = Network::new([LATENT], generator(), rng).unwrap();
    let discriminator = Network::new([rules.packing * ROW], discriminator, rng).unwrap();
    let sgd = Optimizer::Sgd(Sgd { learning_rate: 1.0, ..Sgd::default() });
    Trainer::new((generator, sgd), (discriminator, sgd), rules).unwrap()
}

fn generator() -> Vec<Box<dyn Layer<f64>>> {
    vec![dense(4, Activation::Tanh), dense(ROW, Activation::Linear)]
}

fn random(columns: usize, seed: u64) -> Tensor<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Tensor::from_fn([BATCH, columns], || rng.random_range(-1.0..1.0))
}

fn d_step(trainer: &mut Trainer<f64>) -> StepScore {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mixing = Tensor::from_fn([BATCH / trainer.rules().packing], || rng.random_range(0.0..1.0));
    let (real, latent) = (random(ROW, 1), random(LATENT, 2));
    trainer.discriminator_step(real.view(), latent.view(), Some(mixing.view())).unwrap()
}

fn g_step(trainer: &mut Trainer<f64>) -> StepScore {
    trainer.generator_step(random(LATENT, 2).view(), Some(random(ROW, 1).view())).unwrap()
}

fn objectives() -> [Objective; 7] {
    [
        Objective::NonSaturating { label_smoothing: 0.0 },
        Objective::NonSaturating { label_smoothing: 0.2 },
        Objective::Minimax { label_smoothing: 0.0 },
        Objective::LeastSquares {},
        Objective::Hinge {},
        Objective::Wasserstein {},
        Objective::RelativisticPaired {},
    ]
}

fn penalties() -> [Penalty; 6] {
    let none = Penalty::default();
    [
        none,
        Penalty { r1: 0.7, ..none },
        Penalty { r2: 0.6, ..none },
        Penalty { r1: 0.7, r2: 0.3, ..none },
        Penalty { wgan_gp: 2.0, ..none },
        Penalty { r1: 0.2, r2: 0.4, wgan_gp: 1.5, ..none },
    ]
}

/// Checks that what a step takes off each parameter of `network` is the derivative of loss and penalty.
#[track_caller]
fn check_gradient(
    rules: Rules,
    step: fn(&mut Trainer<f64>) -> StepScore,
    network: fn(&mut Trainer<f64>) -> &mut Network<f64>,
) {
    let mut stepped = trainer(rules);
    let before = network(&mut stepped).parameters().to_vec();
    step(&mut stepped);
    for (place, (before, after)) in before.iter().zip(network(&mut stepped).parameters()).enumerate() {
        for index in 0..before.value.shape().len() {
            let at = |offset: f64| {
                let mut moved = trainer(rules);
                network(&mut moved).parameters_mut()[place].value.data_mut()[index] += offset;
                let score = step(&mut moved);
                score.loss + score.penalty
            };
            let central = |h: f64| (at(h) - at(-h)) / (2.0 * h);
            let numeric = (4.0 * central(5e-4) - central(1e-3)) / 3.0;
            let gradient = before.value.data()[index] - after.value.data()[index];
            let difference = (gradient - numeric).abs();
            assert!(difference < 1e-9, "{rules:?}, {} [{index}]: {gradient} {numeric}", before.key());
        }
    }
}

#[test]
fn a_step_of_d_follows_the_gradient_of_its_loss_and_penalties() {
    for objective in objectives() {
        for penalty in penalties() {
            for packing in [1, 2] {
                let rules = Rules { objective, penalty, packing, ..Rules::default() };
                check_gradient(rules, d_step, |trainer| trainer.networks_mut().1);
            }
        }
    }
}

#[test]
fn a_step_of_g_follows_the_gradient_of_its_loss() {
    for objective in objectives() {
        for packing in [1, 3] {
            let rules = Rules { objective, packing, ..Rules::default() };
            check_gradient(rules, g_step, |trainer| trainer.networks_mut().0);
        }
    }
}

/// D of layers whose rows or parameters depend on each other.
fn coupled() -> Trainer<f64> {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let normalised = |units, activation| {
        let inner = LayerConfig::Dense(Dense { activation, ..Dense::new(units) });
        SpectralNormalization::new(inner).build()
    };
    let discriminator: Vec<Box<dyn Layer<f64>>> = vec![
        normalised(4, Activation::Tanh),
        Box::new(MinibatchStd { group: 3 }),
        normalised(3, Activation::Silu),
        dense(1, Activation::Linear),
    ];
    let generator = Network::new([LATENT], generator(), rng).unwrap();
    let discriminator = Network::new([ROW], discriminator, rng).unwrap();
    let sgd = Optimizer::Sgd(Sgd { learning_rate: 1.0, ..Sgd::default() });
    let penalty = Penalty { r1: 0.2, r2: 0.4, wgan_gp: 1.5, ..Penalty::default() };
    Trainer::new((generator, sgd), (discriminator, sgd), Rules { penalty, ..Rules::default() }).unwrap()
}

#[test]
fn penalties_go_through_layers_that_couple_rows_or_weights() {
    let mut stepped = coupled();
    let before = stepped.discriminator().parameters().to_vec();
    d_step(&mut stepped);
    for (place, (before, after)) in before.iter().zip(stepped.discriminator().parameters()).enumerate() {
        if !before.learned {
            assert_ne!(before.value, after.value, "power iterations move u");
            continue;
        }
        for index in 0..before.value.shape().len() {
            let at = |offset: f64| {
                let mut moved = coupled();
                moved.networks_mut().1.parameters_mut()[place].value.data_mut()[index] += offset;
                let score = d_step(&mut moved);
                score.loss + score.penalty
            };
            let central = |h: f64| (at(h) - at(-h)) / (2.0 * h);
            let numeric = (4.0 * central(5e-4) - central(1e-3)) / 3.0;
            let gradient = before.value.data()[index] - after.value.data()[index];
            let difference = (gradient - numeric).abs();
            assert!(difference < 1e-8, "{} [{index}]: {gradient} {numeric}", before.key());
        }
    }
    let (real, latent) = (random(ROW, 1), random(LATENT, 2));
    let rows = |tensor: &Tensor<f64>| tensor.view().rows(0..4).unwrap().to_tensor();
    let error =
        stepped.discriminator_step(rows(&real).view(), rows(&latent).view(), None).unwrap_err().to_string();
    assert_eq!(
        error,
        "discriminator step: expected a multiple of 3 rows, which belong together, found [4, 2]"
    );
}

#[test]
fn penalties_are_those_of_the_gradients_of_d() {
    // A linear D: its gradient is its kernel, at any point.
    let network =
        Network::new([3], vec![dense(1, Activation::Linear)], &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
    let square: f64 = network.parameters()[0].value.data().iter().map(|w| w * w).sum();
    let (real, fake, mixing) = (random(3, 1), random(3, 2), Tensor::full([BATCH], 0.25));
    let value = |penalty: Penalty| {
        let rows = [real.view(), fake.view()];
        penalty.value_and_gradient(&network, rows, mixing.view(), &mut network.gradients()).unwrap()
    };
    let none = Penalty::default();
    let [r1, r2, wgan_gp] =
        [Penalty { r1: 3.0, ..none }, Penalty { r2: 5.0, ..none }, Penalty { wgan_gp: 2.0, ..none }];
    approx::assert_relative_eq!(value(r1), 1.5 * square, max_relative = 1e-12);
    approx::assert_relative_eq!(value(r2), 2.5 * square, max_relative = 1e-12);
    approx::assert_relative_eq!(value(wgan_gp), 2.0 * (square.sqrt() - 1.0).powi(2), max_relative = 1e-12);
    assert_eq!(value(none), 0.0);
}

#[test]
fn gradients_are_clipped_to_a_norm_and_keep_their_direction() {
    let change = |clip_norm| {
        let mut trainer = trainer(Rules { clip_norm, ..Rules::default() });
        let before = trainer.discriminator().parameters().to_vec();
        d_step(&mut trainer);
        let after = trainer.discriminator().parameters();
        let changes = before.iter().zip(after).flat_map(|(before, after)| {
            before.value.data().iter().zip(after.value.data()).map(|(a, b)| a - b).collect::<Vec<_>>()
        });
        changes.collect::<Vec<f64>>()
    };
    let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let free = change(None);
    let clipped = change(Some(1e-2));
    assert!(norm(&free) > 1e-2);
    approx::assert_relative_eq!(norm(&clipped), 1e-2, max_relative = 1e-9);
    let scale = 1e-2 / norm(&free);
    free.iter().zip(&clipped).for_each(|(a, b)| approx::assert_abs_diff_eq!(a * scale, *b, epsilon = 1e-12));
    assert_eq!(change(Some(1e3)), free);
}

#[test]
fn the_average_follows_g_by_its_decay() {
    let mut trainer = trainer(Rules::default());
    let network = Network::new([LATENT], generator(), &mut ChaCha8Rng::seed_from_u64(77)).unwrap();
    trainer.keep_average(network, 0.75).unwrap();
    let values =
        |network: &Network<f64>| network.parameters().iter().flat_map(|p| p.value.data().to_vec()).collect();
    let mut expected: Vec<f64> = values(trainer.generator());
    assert_eq!(expected, values(trainer.average().unwrap()), "it starts where G is");
    for _ in 0..3 {
        d_step(&mut trainer);
        g_step(&mut trainer);
        let leader: Vec<f64> = values(trainer.generator());
        expected.iter_mut().zip(leader).for_each(|(own, leader)| *own = 0.75 * *own + 0.25 * leader);
        let found: Vec<f64> = values(trainer.sampler());
        found
            .iter()
            .zip(&expected)
            .for_each(|(a, b)| approx::assert_relative_eq!(a, b, max_relative = 1e-12));
    }
}

#[test]
fn the_rate_scales_a_step() {
    let moved = |rate: f64| {
        let mut trainer = trainer(Rules::default());
        let before = trainer.discriminator().parameters()[0].value.data()[0];
        trainer.set_rate(rate);
        d_step(&mut trainer);
        before - trainer.discriminator().parameters()[0].value.data()[0]
    };
    approx::assert_relative_eq!(moved(0.25), 0.25 * moved(1.0), max_relative = 1e-9);
    assert_eq!(moved(0.0), 0.0);
}

#[test]
fn what_a_step_needs_is_asked_for() {
    let relative = Rules { objective: Objective::RelativisticPaired {}, ..Rules::default() };
    let error = trainer(relative).generator_step(random(LATENT, 2).view(), None).unwrap_err().to_string();
    assert_eq!(error, "generator step: expected real rows, to which the objective compares, found []");

    let penalty = Penalty { wgan_gp: 1.0, ..Penalty::default() };
    let rules = Rules { penalty, ..Rules::default() };
    let (real, latent) = (random(ROW, 1), random(LATENT, 2));
    let error = trainer(rules).discriminator_step(real.view(), latent.view(), None).unwrap_err().to_string();
    assert_eq!(error, "discriminator step: expected mixing of 6 numbers for wgan_gp, found []");

    let rules = Rules { packing: 4, ..Rules::default() };
    let error = trainer(rules).discriminator_step(real.view(), latent.view(), None).unwrap_err().to_string();
    assert_eq!(
        error,
        "discriminator step: expected a multiple of 4 rows, which belong together, found [6, 2]"
    );
}

#[test]
fn a_layer_without_tangents_refuses_penalties() {
    #[derive(Debug)]
    struct Plain;
    impl Layer<f64> for Plain {
        fn name(&self) -> &'static str {
            "plain"
        }
        fn output_shape(&self, input: nn::Shape) -> nn::Result<nn::Shape> {
            Ok(input)
        }
        fn forward(
            &self,
            _: &[nn::Parameter<f64>],
            input: nn::View<'_, f64>,
            workspace: &mut nn::Workspace<f64>,
        ) -> nn::Result<()> {
            workspace.output.copy_from(input);
            Ok(())
        }
        fn backward(
            &self,
            _: &[nn::Parameter<f64>],
            _: nn::View<'_, f64>,
            grad_output: nn::View<'_, f64>,
            _: nn::Wanted,
            _: &mut [Tensor<f64>],
            workspace: &mut nn::Workspace<f64>,
        ) -> nn::Result<()> {
            workspace.grad_input.copy_from(grad_output);
            Ok(())
        }
    }
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let network = Network::new([3], vec![Box::new(Plain), dense(1, Activation::Linear)], rng).unwrap();
    let (rows, penalty) = (random(3, 1), Penalty { r1: 1.0, ..Penalty::default() });
    let rows = [rows.view(), rows.view()];
    let error = penalty.value_and_gradient(&network, rows, rows[0], &mut network.gradients()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "plain: expected a layer with tangents, which gradient penalties need, found none"
    );
}
