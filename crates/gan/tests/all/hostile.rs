//! Whatever a caller passes is computed or refused: no panic, whatever the numbers, sizes and shapes.

use std::fs;

use gan::{
    Augment, Component, Config, Distribution, Images, Judgement, Latent, Modes, Objective, Penalty, Points,
    Rules, Session, Table, Trainer, evaluate,
};
use nn::layers::{Dense, Flatten, MinibatchStd};
use nn::{Layer, Network, Optimizer, Shape, Tensor, View, Workspace};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn seeded() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(1)
}

fn number() -> impl Strategy<Value = f64> {
    let special = [0.0, -0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 1e-310];
    prop_oneof![4 => -3.0..3.0_f64, 1 => prop::num::f64::ANY, 2 => select(special.to_vec())]
}

fn numbers(most: usize) -> impl Strategy<Value = Vec<f64>> {
    vec(number(), 0..most)
}

/// Sizes of a small tensor, or of an empty one that may be as large as they come beside.
fn sizes() -> impl Strategy<Value = [usize; 3]> {
    let small = [0..6_usize, 0..5, 1..4].prop_map(|sizes: [usize; 3]| sizes);
    prop_oneof![5 => small, 1 => select(vec![[usize::MAX, 0, 1], [0, usize::MAX, 7], [3, 0, usize::MAX]])]
}

/// Of two axes where the last is 1, else of three.
fn tensor(sizes: [usize; 3], numbers: &[f64]) -> Tensor<f64> {
    let shape = if sizes[2] == 1 { Shape::from([sizes[0], sizes[1]]) } else { Shape::from(sizes) };
    let mut numbers = numbers.iter().cycle();
    Tensor::from_fn(shape, || numbers.next().copied().unwrap_or(0.5))
}

fn any_tensor() -> impl Strategy<Value = Tensor<f64>> {
    (sizes(), numbers(8)).prop_map(|(sizes, numbers)| tensor(sizes, &numbers))
}

fn distribution() -> impl Strategy<Value = Distribution> {
    let component =
        [number(), number(), number()].prop_map(|[weight, mean, std]| Component { weight, mean, std });
    let mixture = vec(component, 0..4).prop_map(Distribution::Mixture);
    let single = (0..6_usize, [number(), number(), number()]).prop_map(|(kind, [a, b, c])| match kind {
        0 => Distribution::Normal { mean: a, std: b },
        1 => Distribution::Uniform { low: a, high: b },
        2 => Distribution::Exponential { rate: a },
        3 => Distribution::LogNormal { mu: a, sigma: b },
        4 => Distribution::StudentT { degrees: a, location: b, scale: c },
        _ => Distribution::Laplace { location: a, scale: b },
    });
    prop_oneof![4 => single, 1 => mixture]
}

fn objectives() -> [Objective; 6] {
    [
        Objective::NonSaturating { label_smoothing: 0.1 },
        Objective::Minimax { label_smoothing: f64::NAN },
        Objective::LeastSquares {},
        Objective::Hinge {},
        Objective::Wasserstein {},
        Objective::RelativisticPaired {},
    ]
}

fn network(row: &[usize], layers: Vec<Box<dyn Layer<f64>>>) -> Network<f64> {
    Network::new(Shape::new(row).unwrap(), layers, &mut seeded()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn distributions(distribution in distribution(), places in numbers(6), count in 0..40_usize) {
        distribution.fill(&mut seeded(), &mut vec![0.0_f32; count]);
        for place in places {
            let _ = (distribution.cdf(place), distribution.quantile(place));
        }
    }

    #[test]
    fn points_and_latents(
        (weights, stds, point) in (numbers(4), numbers(4), numbers(4)),
        means in vec(numbers(4), 0..4),
        [a, b, c] in [number(), number(), number()],
        count in 0..9_usize,
    ) {
        let modes = Modes { weights, means, stds };
        let _ = modes.nearest(&point);
        for points in [Points::Modes(modes), Points::SwissRoll { noise: a }, Points::TwoMoons { noise: b }] {
            points.fill(&mut seeded(), &mut vec![0.0_f64; count]);
            let _ = points.width();
        }
        for latent in [Latent::Normal { mean: a, std: b, dim: count }, Latent::Uniform { low: a, high: b, dim: 0 }] {
            latent.truncate(&mut seeded(), &mut point.clone(), c);
            let _ = (latent.between(&point, &[a, b], c), latent.dim(), latent.distribution());
        }
    }

    #[test]
    fn measures(a in any_tensor(), b in any_tensor(), p in number()) {
        use evaluate::{energy_distance, ks_normal, ks_two_sample, mean_std, quantile, skewness, wasserstein_1};
        let (x, y) = (a.data(), b.data());
        let _ = (ks_two_sample(x, y), wasserstein_1(x, y), energy_distance(x, y), ks_normal(x, p, y.len() as f64));
        let _ = (mean_std(x), quantile(x, p), skewness(y));
        for (a, b) in [(a.view(), b.view()), (a.view(), a.view())] {
            let _ = (evaluate::sliced_wasserstein(a, b), evaluate::mmd_rbf(a, b, p), evaluate::frechet_distance(a, b));
        }
    }

    #[test]
    fn objectives_and_penalties(real in any_tensor(), fake in any_tensor(), mixing in any_tensor(), all in 0..9_usize, weight in number()) {
        let mut gradient = Tensor::default();
        for objective in objectives() {
            let _: Judgement = objective.judge_discriminator(real.view(), all, &mut gradient);
            let _: Judgement = objective.judge_generator(real.view(), fake.view(), all, &mut gradient);
        }
        let discriminator = network(&[2, 2], vec![Box::new(Flatten {}), Box::new(Dense::new(1))]);
        let penalty = Penalty { r1: weight, r2: 1.0, wgan_gp: 1.0, ..Penalty::default() };
        for count in 0..3 {
            let mut gradients = discriminator.gradients();
            gradients.truncate(count);
            let _ = penalty.value_and_gradient(&discriminator, [real.view(), fake.view()], mixing.view(), &mut gradients);
            let _ = penalty.value_and_gradient(&discriminator, [real.view(), real.view()], mixing.view(), &mut gradients);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn steps(
        tensors in [any_tensor(), any_tensor(), any_tensor()],
        (objective, packing, wide) in (0..6_usize, 0..4_usize, any::<bool>()),
        labels in vec(0..3_usize, 0..5),
        [weight, rate, decay] in [number(), number(), number()],
        batch in 0..4_usize,
    ) {
        let objective = objectives()[objective];
        let augment = Augment { flip: wide, shift: if wide { 0.5 } else { 0.0 }, ..Augment::default() };
        let penalty = Penalty { r1: weight.abs(), wgan_gp: 1.0, ..Penalty::default() };
        let rules = Rules { objective, penalty, packing, clip_norm: Some(rate), augment, ..Rules::default() };
        let row = if wide { vec![2, 2, 1] } else { vec![2] };
        let reshape = nn::layers::Reshape { target_shape: row.clone() };
        let made: usize = row.iter().product();
        let generator = network(&[3], vec![Box::new(Dense::new(made)), Box::new(reshape)]);
        let seen = if packing > 1 { vec![2 * packing] } else { row };
        let layers: Vec<Box<dyn Layer<f64>>> =
            vec![Box::new(Flatten {}), Box::new(MinibatchStd { group: 2 }), Box::new(Dense::new(1))];
        let discriminator = network(&seen, layers);
        let optimizer = Optimizer::adam(0.1);
        let Ok(mut trainer) = Trainer::new((generator, optimizer), (discriminator, optimizer), rules) else { return Ok(()) };
        let _ = trainer.keep_average(network(&[3], vec![Box::new(Dense::new(2))]), decay);
        trainer.set_rate(rate);
        trainer.draw_changes(batch, &mut seeded());
        let fitting = [tensor([batch, 3, 1], &[0.1]), tensor([batch * packing.max(1), made, 1], &[0.2])];
        for [latent, real] in [[&tensors[0], &tensors[1]], [&fitting[0], &fitting[1]], [&fitting[0], &tensors[1]]] {
            let (latent, real) = (latent.view(), real.view());
            let shaped = real.reshape([batch, 2, 2, 1]).unwrap_or(real);
            for real in [real, shaped] {
                let _ = trainer.discriminator_step(real, latent, Some(tensors[2].view()));
                let _ = trainer.discriminator_step(real, latent, None);
                let _ = trainer.generator_step(latent, Some(real));
            }
            trainer.set_labels(&labels);
            let _ = trainer.generator_step(latent, None);
            let (mut of_generator, mut of_discriminator) = (Workspace::default(), Workspace::default());
            let combined = trainer.combined();
            let _ = combined.backward(latent, real, &mut [], &mut of_generator, &mut of_discriminator);
            let _ = combined.forward(latent, &mut of_generator, &mut of_discriminator).map(drop);
            let _ = combined.backward(latent, real, &mut [], &mut of_generator, &mut of_discriminator);
        }
    }

    #[test]
    fn images(index in any::<usize>(), rows in any_tensor(), count in 0..200_usize, size in [0..3_usize, 0..3]) {
        let images = Images::digits();
        let mut filled = vec![0.0_f32; count];
        let _ = images.fill_labelled(&mut seeded(), &mut filled, &mut Vec::new());
        let _ = images.fill(&mut seeded(), &mut filled);
        images.restore(&mut filled);
        images.standardise(&mut filled);
        prop_assert_eq!(images.image(index).is_ok(), index < 1797);
        let rows = rows.cast();
        let _ = images.nearest(rows.view());
        let _ = images.nearest(View::new([1, filled.len()], &filled).unwrap());
        for channels in [0, 1, 2, 3, usize::MAX] {
            prop_assert!(Images::read_folder("nowhere".as_ref(), size, channels, true).is_err());
        }
    }
}

#[test]
fn tables_without_columns_are_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, "1,2\n3,5\n").unwrap();
    let mut table = Table::read(&path, false, None).unwrap();
    let more = [table.columns.clone(), table.columns.clone(), table.columns.clone()].concat();
    for columns in [Vec::new(), more] {
        table.columns = columns;
        let mut rows = [1.0_f64; 7];
        table.fill(&mut seeded(), &mut rows);
        table.restore(&mut rows);
        table.standardise(&mut rows);
        let _ = (table.header(), table.width());
    }
}

#[test]
fn sessions() {
    let config = |preset: &str| {
        let settings = ["train.epochs=1", "evaluate.rows=2"].map(str::to_owned);
        Config::parse(gan::preset(preset).unwrap(), &settings).unwrap()
    };
    for preset in ["notebook", "ring", "digits"] {
        let session = Session::<f64>::new(config(preset)).unwrap();
        let without = Session::<f64>::without_data(config(preset)).unwrap();
        for session in [&session, &without] {
            for count in [0, 1, 3, usize::MAX] {
                let _ = (session.sample(count, 0, Some(count)), session.latents(count, 1, Some(f64::NAN)));
                let _ = (session.latents(count.min(9), 1, Some(0.0)), session.check_room(count));
                let _ =
                    (session.evaluate(count, 1).is_ok(), session.generator_function(count.min(9)).is_ok());
            }
            for sizes in [[0, 0, 1], [2, 3, 1], [1, 1, 1], [usize::MAX, 0, 1], [0, usize::MAX, 9], [2, 64, 1]]
            {
                let rows = tensor(sizes, &[0.5, f64::NAN]);
                let _ = (session.generate(&rows, |_| 0), session.generate(&rows, |_| usize::MAX));
                let _ = session.discriminator_logits(rows.data(), &[]);
                let _ = session.evaluate_samples(rows, 1).map(drop);
            }
        }
        let mut session = session;
        let _ = (session.restore(&[]), session.finish_stage().map(drop), session.to_checkpoint());
    }
}
