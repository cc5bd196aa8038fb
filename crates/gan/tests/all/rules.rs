//! How steps are taken: every objective and penalty against finite differences of what it reports, and the rest of the
//! rules against their definitions.

use gan::{Augment, Objective, Penalty, Rules, StepScore, Trainer};
use nn::layers::{
    BatchNormalization, Dense, Flatten, LabelEmbedding, Lambda, LayerConfig, MinibatchStd, Projection,
    Reshape, SpectralNormalization,
};
use nn::{Activation, Layer, Network, Optimizer, Sgd, Shape, Workspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tensor_ops::Tensor;

const BATCH: usize = 6;
const LATENT: usize = 2;
const ROW: usize = 3;

fn dense(units: usize, activation: Activation) -> Box<dyn Layer<f64>> {
    Box::new(Dense { activation, ..Dense::new(units) })
}

/// G, and D with a Lambda and two kinds of curved activations, both of which take steps of just their gradients. Their
/// rows are images where the rules say how to change them.
fn trainer(rules: Rules) -> Trainer<f64> {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let decorate = Lambda::new("concat([x, square(x - mean(x, axis=1))], axis=1)").unwrap();
    let mut discriminator: Vec<Box<dyn Layer<f64>>> = vec![
        Box::new(decorate),
        dense(4, Activation::Tanh),
        dense(3, Activation::Silu),
        dense(1, Activation::Sigmoid),
    ];
    let (mut generator, mut seen) = (generator(), Shape::from([rules.packing * ROW]));
    if rules.augment.is_on() {
        seen = [1, ROW, 1].into();
        generator.push(Box::new(Reshape { target_shape: seen.to_vec() }));
        discriminator.insert(0, Box::new(Flatten {}));
    }
    joined(generator, (discriminator, seen), rules, rng)
}

/// Both, with steps of just their gradients.
fn joined(
    generator: Vec<Box<dyn Layer<f64>>>,
    (discriminator, seen): (Vec<Box<dyn Layer<f64>>>, Shape),
    rules: Rules,
    rng: &mut ChaCha8Rng,
) -> Trainer<f64> {
    let generator = Network::new([LATENT], generator, rng).unwrap();
    let discriminator = Network::new(seen, discriminator, rng).unwrap();
    let sgd = Optimizer::Sgd(Sgd { learning_rate: 1.0, ..Sgd::default() });
    Trainer::new((generator, sgd), (discriminator, sgd), rules).unwrap()
}

fn generator() -> Vec<Box<dyn Layer<f64>>> {
    vec![dense(4, Activation::Tanh), dense(ROW, Activation::Linear)]
}

fn random(columns: usize, seed: u64) -> Tensor<f64> {
    rows_of(BATCH, columns, seed)
}

fn rows_of(rows: usize, columns: usize, seed: u64) -> Tensor<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Tensor::from_fn([rows, columns], || rng.random_range(-1.0..1.0))
}

fn d_step(trainer: &mut Trainer<f64>) -> StepScore {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mixing = Tensor::from_fn([BATCH / trainer.rules().packing], || rng.random_range(0.0..1.0));
    let (real, latent) = (random(ROW, 1), random(LATENT, 2));
    trainer.draw_changes(BATCH, &mut rng);
    trainer.discriminator_step(real.view(), latent.view(), Some(mixing.view())).unwrap()
}

fn g_step(trainer: &mut Trainer<f64>) -> StepScore {
    trainer.draw_changes(BATCH, &mut ChaCha8Rng::seed_from_u64(9));
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
    assert!(before != network(&mut stepped).parameters(), "{rules:?}: nothing was learned");
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

#[test]
fn steps_on_changed_images_follow_the_gradient_too() {
    let augment = Augment { flip: true, shift: 0.4, brightness: 0.5, contrast: 0.5, ..Augment::default() };
    for objective in [Objective::default(), Objective::RelativisticPaired {}] {
        let rules = Rules { objective, augment, ..Rules::default() };
        check_gradient(rules, d_step, |trainer| trainer.networks_mut().1);
        check_gradient(rules, g_step, |trainer| trainer.networks_mut().0);
    }
    let mut trainer = trainer(Rules { augment, ..Rules::default() });
    trainer.draw_changes(BATCH - 1, &mut ChaCha8Rng::seed_from_u64(9));
    let error = trainer.generator_step(random(LATENT, 2).view(), None).unwrap_err().to_string();
    assert_eq!(error, "generator step: expected 12 changes of images, drawn before the step, found [10]");
}

/// So many rows that they are cut into several shards.
const MANY: usize = 1200;

/// Checks that steps report the loss and the accuracy of all rows, as D's logits of them give it.
#[track_caller]
fn check_scores(rules: Rules, last: Activation, labels: &[usize]) {
    let rng = &mut ChaCha8Rng::seed_from_u64(5);
    let (mut generator, mut discriminator) = (generator(), vec![dense(64, Activation::Tanh), dense(1, last)]);
    generator[0] = dense(64, Activation::Tanh);
    if !labels.is_empty() {
        generator.insert(0, Box::new(LabelEmbedding::new(3, 2)));
        discriminator[1] = Box::new(Projection::new(3));
    }
    let seen = Shape::from([rules.packing * ROW]);
    let mut trainer = joined(generator, (discriminator, seen), rules, rng);
    let (real, latent) = (rows_of(MANY, ROW, 1), rows_of(MANY, LATENT, 2));
    trainer.set_labels(labels);
    let load = trainer.generator().load().and(trainer.discriminator().load());
    assert!(load.shards(MANY / rules.packing) > 1);

    let workspace = || Workspace { labels: labels.to_vec(), ..Workspace::default() };
    let logits = |rows: &Tensor<f64>| {
        let seen = seen.with_first(MANY / rules.packing).unwrap();
        let mut workspace = Workspace { logits: last == Activation::Sigmoid, ..workspace() };
        let rows = rows.view().reshape(seen).unwrap();
        trainer.discriminator().forward(rows, &mut workspace).unwrap().to_tensor()
    };
    let fake = trainer.generator().forward(latent.view(), &mut workspace()).unwrap().to_tensor();
    let (of_real, of_fake) = (logits(&real), logits(&fake));
    let count = of_real.shape().len();
    let both = [of_real.data(), of_fake.data()].concat();
    let both = Tensor::from_vec([2 * count, 1], both).unwrap();
    let gradient = &mut Tensor::default();
    let g = rules.objective.judge_generator(of_real.view(), of_fake.view(), count, gradient);
    let d = rules.objective.judge_discriminator(both.view(), count, gradient);

    // D's step leaves G as it is, so the logits of G's own step come from a D that is put back.
    let weights = trainer.discriminator().parameters().to_vec();
    let found = trainer.discriminator_step(real.view(), latent.view(), None).unwrap();
    approx::assert_relative_eq!(found.loss, d.loss, max_relative = 1e-12);
    assert_eq!(found.accuracy, d.right as f64 / (2 * count) as f64);
    trainer.networks_mut().1.parameters_mut().clone_from_slice(&weights);
    let found = trainer.generator_step(latent.view(), Some(real.view())).unwrap();
    approx::assert_relative_eq!(found.loss, g.loss, max_relative = 1e-12);
    assert_eq!(found.accuracy, g.right as f64 / count as f64);
}

#[test]
fn a_step_reports_the_loss_of_all_rows() {
    let labels: Vec<usize> = (0..MANY).map(|row| row * row % 3).collect();
    for objective in [Objective::default(), Objective::RelativisticPaired {}] {
        let rules = Rules { objective, ..Rules::default() };
        check_scores(rules, Activation::Sigmoid, &[]);
        check_scores(rules, Activation::Tanh, &[]);
        check_scores(rules, Activation::Linear, &labels);
        check_scores(Rules { packing: 2, ..rules }, Activation::Sigmoid, &[]);
    }
}

#[test]
fn penalties_add_up_also_where_real_rows_depend_on_fake_ones() {
    for depends in [false, true] {
        let of = |r1: f64, r2: f64| {
            let mut discriminator = vec![dense(4, Activation::Tanh), dense(1, Activation::Linear)];
            if depends {
                discriminator.insert(1, Box::new(BatchNormalization::default()));
            }
            let rules = Rules { penalty: Penalty { r1, r2, ..Penalty::default() }, ..Rules::default() };
            let rng = &mut ChaCha8Rng::seed_from_u64(3);
            d_step(&mut joined(generator(), (discriminator, [ROW].into()), rules, rng)).penalty
        };
        approx::assert_relative_eq!(of(0.7, 0.2), of(0.7, 0.0) + of(0.0, 0.2), max_relative = 1e-12);
        assert!(of(0.7, 0.0) > 0.0 && of(0.0, 0.2) > 0.0);
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
    let penalty = Penalty { r1: 0.2, r2: 0.4, wgan_gp: 1.5, ..Penalty::default() };
    joined(generator(), (discriminator, [ROW].into()), Rules { penalty, ..Rules::default() }, rng)
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

    let error = |penalty: Penalty, fake: &Tensor<f64>, mixing: &Tensor<f64>| {
        let rows = [real.view(), fake.view()];
        penalty.value_and_gradient(&network, rows, mixing.view(), &mut network.gradients()).err()
    };
    let few = Tensor::full([BATCH - 1], 0.25);
    assert_eq!(error(r1, &fake, &few), None);
    for error in [error(wgan_gp, &fake, &few), error(none, &rows_of(BATCH - 1, 3, 2), &mixing)] {
        let error = error.unwrap().to_string();
        assert!(
            error.starts_with("penalty: expected fake rows and mixing for real rows [6, 3], found"),
            "{error}"
        );
    }
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
fn the_penalty_can_change_between_steps() {
    let penalty = Penalty { r1: 1.0, ..Penalty::default() };
    let mut trainer = trainer(Rules { penalty, ..Rules::default() });
    assert!(d_step(&mut trainer).penalty > 0.0);
    trainer.set_penalty(Penalty::default());
    assert_eq!(d_step(&mut trainer).penalty, 0.0);
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

    // Of another length; where nothing is mixed, it is not looked at.
    let five = Tensor::full([5], 0.5);
    let error = trainer(rules)
        .discriminator_step(real.view(), latent.view(), Some(five.view()))
        .unwrap_err()
        .to_string();
    assert_eq!(error, "discriminator step: expected mixing of 6 numbers for wgan_gp, found [5]");
    let mut plain = trainer(Rules::default());
    plain.discriminator_step(real.view(), latent.view(), Some(five.view())).unwrap();

    let none = Tensor::zeros([0, LATENT]);
    let error = plain.generator_step(none.view(), None).unwrap_err().to_string();
    assert_eq!(error, "generator step: expected at least one row, found [0, 2]");
    // As many numbers in other rows.
    let error =
        plain.discriminator_step(rows_of(9, 2, 1).view(), latent.view(), None).unwrap_err().to_string();
    assert_eq!(error, "discriminator step: expected 6 real rows, 18 numbers in all, found [9, 2]");

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
