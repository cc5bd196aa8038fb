//! Whole runs: the same configuration gives the same bytes, also after a checkpoint, and broken ones are refused.

use gan::{Config, Distribution, Error, Session};
use nn::weights::Reader;
use tensor_ops::{DType, Scalar, Tensor, with_threads};

/// A run of 7 epochs in stages of 3, on rows of 4 numbers.
const SMALL: &str = r#"
[data]
kind = "normal"
mean = 4.0
std = 1.25

[latent]
distribution = "uniform"
low = 0.0
high = 1.0
dim = 3

[generator]
input = [3]
layers = [
    { layer = "dense", units = 8, activation = "relu" },
    { layer = "dense", units = 4 },
]

[discriminator]
input = [4]
layers = [
    { layer = "lambda", expression = "concat([x, square(x - mean(x, axis=1))], axis=1)" },
    { layer = "dense", units = 8, activation = "tanh" },
    { layer = "dense", units = 1, activation = "sigmoid" },
]

[train]
seed = 5
batch = 1
epochs = 7
stage = 3
generator_steps = 2

[evaluate]
rows = 6
"#;

fn config(overrides: &[&str]) -> Config {
    let overrides: Vec<String> = overrides.iter().map(|&setting| setting.to_owned()).collect();
    Config::parse(SMALL, &overrides).unwrap()
}

fn session<T: Scalar>(overrides: &[&str]) -> Session<T> {
    Session::new(config(overrides)).unwrap()
}

/// Runs to the end. The result of each stage, as text that tells any two numbers apart.
fn finish<T: Scalar>(session: &mut Session<T>) -> Vec<String> {
    let mut stages = Vec::new();
    loop {
        if session.stage_is_due() {
            stages.push(format!("{:?}", session.finish_stage().unwrap()));
        }
        if session.is_done() {
            return stages;
        }
        session.run_epoch().unwrap();
    }
}

/// The stages and the last checkpoint of a run.
fn run<T: Scalar>(overrides: &[&str]) -> (Vec<String>, Vec<u8>) {
    let mut session = session::<T>(overrides);
    (finish(&mut session), session.to_checkpoint().unwrap())
}

/// Checks that a run gives the same on one, two and four threads, and without being told how many.
#[track_caller]
fn check_threads<T: Scalar>(overrides: &[&str]) {
    let expected = run::<T>(overrides);
    assert_eq!(expected.0.len(), config(overrides).stages() as usize);
    for threads in [1, 2, 4] {
        let found = with_threads(threads, || run::<T>(overrides)).unwrap();
        assert!(found == expected, "another result on {threads} threads");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes_at_batch_1() {
    check_threads::<f32>(&[]);
    check_threads::<f64>(&["train.precision=f64"]);
}

/// The products of 300 rows of 60 numbers with G's kernel of 60 x 64 are large enough to be shared, in blocks with a
/// tail.
const WIDE: [&str; 8] = [
    "train.batch=300",
    "train.epochs=3",
    "train.stage=2",
    "evaluate.rows=301",
    "generator.input=[60]",
    "latent.dim=60",
    "generator.layers.0.units=64",
    "discriminator.layers.1.units=61",
];

#[test]
fn any_number_of_threads_gives_the_same_bytes_at_batch_300() {
    check_threads::<f32>(&WIDE);
    let mut wide = WIDE.to_vec();
    wide.push("train.precision=f64");
    check_threads::<f64>(&wide);
}

#[test]
fn convolutions_give_the_same_bytes_on_any_number_of_threads() {
    let layers = "generator.layers=[{ layer = \"reshape\", target_shape = [4, 1] }, \
                  { layer = \"conv1d\", filters = 40, kernel_size = 3, padding = \"same\", activation = \"relu\" }, \
                  { layer = \"conv1d\", filters = 1, kernel_size = 1 }, { layer = \"flatten\" }]";
    let settings = ["train.batch=2500", "train.epochs=2", "generator.input=[4]", "latent.dim=4", layers];
    check_threads::<f32>(&settings);
}

#[test]
fn another_seed_gives_another_run() {
    assert_ne!(run::<f32>(&["train.seed=6"]), run::<f32>(&[]));
    assert_eq!(run::<f32>(&["train.seed=5"]), run::<f32>(&[]));
}

/// Stops after `steps` steps, goes on in a new session on three threads, and checks that nothing shows it.
#[track_caller]
fn check_resume<T: Scalar>(overrides: &[&str], steps: usize, finish_stage_first: bool) {
    let (expected, last) = run::<T>(overrides);
    let mut first = session::<T>(overrides);
    let mut stages = Vec::new();
    for _ in 0..steps {
        if first.stage_is_due() {
            stages.push(format!("{:?}", first.finish_stage().unwrap()));
        }
        first.run_step().unwrap();
    }
    if finish_stage_first && first.stage_is_due() {
        stages.push(format!("{:?}", first.finish_stage().unwrap()));
    }
    let bytes = first.to_checkpoint().unwrap();

    let mut second = session::<T>(overrides);
    second.restore(&bytes).unwrap();
    let in_epoch = config(overrides).train.discriminator_steps + config(overrides).train.generator_steps;
    assert_eq!((second.epoch(), second.step()), ((steps / in_epoch) as u64, steps % in_epoch));
    assert!(second.to_checkpoint().unwrap() == bytes, "another checkpoint right after step {steps}");
    stages.extend(with_threads(3, || finish(&mut second)).unwrap());
    assert_eq!(stages, expected, "stopped after step {steps}");
    assert!(second.to_checkpoint().unwrap() == last, "another end after step {steps}");
}

/// 60 steps, so that each of the first 50 is followed by others.
const LONG: &str = "train.epochs=20";

#[test]
fn a_run_goes_on_from_any_step_as_if_it_had_never_stopped() {
    for steps in 0..=50 {
        check_resume::<f32>(&[LONG], steps, steps % 2 == 0);
        check_resume::<f64>(&[LONG, "train.precision=f64", "train.batch=3"], steps, steps % 2 == 1);
    }
    // Before and after the end of a stage, and of the run.
    for finish_stage_first in [false, true] {
        check_resume::<f32>(&[], 9, finish_stage_first);
        check_resume::<f32>(&[], 21, finish_stage_first);
    }
}

#[test]
fn other_optimizers_and_normal_latents_go_on_too() {
    let latent = "latent={ distribution = \"normal\", mean = 0.0, std = 1.0, dim = 3 }";
    for optimizer in [
        "{ kind = \"sgd\", learning_rate = 0.01, momentum = 0.9 }",
        "{ kind = \"rmsprop\" }",
        "{ kind = \"adamw\" }",
        "{ kind = \"adam\", amsgrad = true }",
    ] {
        let setting = format!("optimizer.discriminator={optimizer}");
        check_resume::<f32>(&[latent, &setting], 13, true);
    }
}

/// What else a run can carry: the average of G, schedules, random places between rows, real rows for G, and what layers
/// keep.
const EVERYTHING: &[&str] = &[
    "objective.kind=relativistic_paired",
    "penalty={ r1 = 0.1, wgan_gp = 0.2, schedule = { shape = \"linear\" } }",
    "train.batch=8",
    "train.packing=2",
    "train.discriminator_steps=2",
    "train.ema_decay=0.8",
    "train.clip_norm=0.5",
    "train.schedule={ shape = \"cosine\", warm_up = 0.3 }",
    "discriminator.input=[8]",
    r#"discriminator.layers=[
        { layer = "spectral_normalization", inner = { layer = "dense", units = 8, activation = "tanh" } },
        { layer = "minibatch_std" },
        { layer = "dense", units = 1 }]"#,
];

#[test]
fn a_run_with_everything_goes_on_from_any_step() {
    for steps in 0..=50 {
        check_resume::<f32>(&[EVERYTHING, &[LONG]].concat(), steps, true);
    }
    let (_, bytes) = run::<f32>(EVERYTHING);
    let file = Reader::new(&bytes).unwrap();
    let average: Tensor<f32> = file.any_tensor("ema.generator.0.kernel").unwrap();
    let generator: Tensor<f32> = file.any_tensor("generator.0.kernel").unwrap();
    assert_ne!(average, generator);
    assert_eq!(file.any_tensor::<f32>("discriminator.0.vector_u").unwrap().shape(), [8].into());
}

/// Layers that draw random numbers, and layers that keep statistics.
const RANDOM: &[&str] = &[
    "train.batch=5",
    "train.ema_decay=0.8",
    "penalty={ r1 = 0.1, r2 = 0.1 }",
    r#"generator.layers=[
        { layer = "dense", units = 8, activation = "relu" },
        { layer = "batch_normalization" },
        { layer = "dense", units = 4 }]"#,
    r#"discriminator.layers=[
        { layer = "dense", units = 8, activation = "tanh" },
        { layer = "batch_normalization", momentum = 0.8 },
        { layer = "dropout", rate = 0.4 },
        { layer = "dense", units = 1 }]"#,
];

#[test]
fn dropout_and_moving_statistics_go_on_too() {
    for steps in 0..=50 {
        check_resume::<f32>(&[RANDOM, &[LONG]].concat(), steps, true);
    }
    let (_, bytes) = run::<f32>(RANDOM);
    let file = Reader::new(&bytes).unwrap();
    for name in ["generator.1.moving_mean", "discriminator.1.moving_mean", "ema.generator.1.moving_mean"] {
        let moving: Tensor<f32> = file.any_tensor(name).unwrap();
        assert!(moving.data().iter().any(|&x| x != 0.0), "{name}");
    }
    let other = run::<f32>(&[RANDOM, &["train.seed=6"]].concat());
    assert!(other.1 != bytes);
}

#[test]
fn samples_come_from_the_average_of_g() {
    let mut session = session::<f32>(EVERYTHING);
    finish(&mut session);
    let latent = Tensor::full([2, 3], 0.4);
    let made = session.generate(&latent, |_| 0).unwrap();
    assert_eq!(made, session.trainer().average().unwrap().predict(latent.view()).unwrap());
    assert_ne!(made, session.trainer().generator().predict(latent.view()).unwrap());
}

/// A run may be made longer: only the number of epochs is new.
#[test]
fn a_finished_run_can_be_made_longer() {
    let (_, bytes) = run::<f32>(&["train.epochs=6"]);
    let mut longer = session::<f32>(&[]);
    longer.restore(&bytes).unwrap();
    finish(&mut longer);
    assert!(longer.to_checkpoint().unwrap() == run::<f32>(&[]).1);
}

#[test]
fn tensors_of_a_checkpoint_have_telling_names() {
    let (_, bytes) = run::<f32>(&[]);
    let mut expected = Vec::new();
    for network in ["generator", "discriminator"] {
        for parameter in ["0.kernel", "0.bias", "1.kernel", "1.bias"] {
            expected.push(format!("{network}.{parameter}"));
            for moment in ["first_moment", "second_moment"] {
                expected.push(format!("optimizer.{network}.{parameter}.{moment}"));
            }
        }
    }
    expected.sort();
    let file = Reader::new(&bytes).unwrap();
    let found: Vec<String> = file.tensors().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(found, expected);
    assert!(file.tensors().iter().all(|(_, dtype, _)| dtype == "F32"));
    let kernel: Tensor<f32> = file.any_tensor("generator.1.kernel").unwrap();
    assert_eq!(kernel.shape(), [8, 4].into());
}

/// A session in the middle of a stage, and its checkpoint.
fn halfway<T: Scalar>() -> (Session<T>, Vec<u8>) {
    let precision = match T::DTYPE {
        DType::F32 => "train.precision=f32",
        DType::F64 => "train.precision=f64",
    };
    let mut session = session(&[precision]);
    (0..2).for_each(|_| session.run_epoch().unwrap());
    let bytes = session.to_checkpoint().unwrap();
    (session, bytes)
}

#[test]
fn samples_follow_from_their_seed_and_disturb_nothing() {
    let (session, before) = halfway::<f32>();
    let rows = session.sample(2_500, 7, None).unwrap();
    assert_eq!(rows.shape(), [2_500, 4].into());
    assert_eq!(session.sample(2_500, 7, None).unwrap(), rows);
    assert_ne!(session.sample(2_500, 8, None).unwrap(), rows);
    assert_eq!(session.sample(10, 7, None).unwrap().data(), &rows.data()[..40]);
    assert_eq!(session.sample(0, 7, None).unwrap().shape(), [0, 4].into());
    assert_eq!(session.evaluate(9, 3).unwrap(), session.evaluate(9, 3).unwrap());
    assert!(session.to_checkpoint().unwrap() == before);
}

#[test]
fn rows_are_generated_one_by_one_as_all_at_once() {
    let (session, _) = halfway::<f64>();
    let latent = Tensor::from_vec([3, 3], (0..9).map(f64::from).collect()).unwrap();
    let all = session.generate(&latent, |_| 0).unwrap();
    for row in 0..3 {
        let one = session.generate(&latent.view().rows(row..row + 1).unwrap().to_tensor(), |_| 0).unwrap();
        for (a, b) in one.data().iter().zip(&all.data()[4 * row..]) {
            approx::assert_relative_eq!(a, b, max_relative = 1e-12);
        }
    }
}

#[test]
fn latents_of_another_size_are_refused() {
    let (session, _) = halfway::<f32>();
    let said = |shape: &[usize]| {
        let latent = Tensor::zeros(tensor_ops::Shape::new(shape).unwrap());
        session.generate(&latent, |_| 0).unwrap_err().to_string()
    };
    assert_eq!(said(&[2, 4]), "latent: expected latents of 3 numbers each, found [2, 4]");
    assert_eq!(said(&[2, 2]), "latent: expected latents of 3 numbers each, found [2, 2]");
    assert_eq!(said(&[3]), "latent: expected latents of 3 numbers each, found [3]");
    assert_eq!(said(&[]), "latent: expected latents of 3 numbers each, found []");
    assert!(session.generate(&Tensor::zeros([2, 3]), |_| 0).is_ok());
}

/// The error of a run that leaves the numbers that f32 has.
fn overflow(overrides: &[&str]) -> Error {
    let mut session = session::<f32>(overrides);
    loop {
        if let Err(error) = session.run_epoch() {
            return error;
        }
        assert!(!session.is_done(), "all epochs were finite");
    }
}

#[test]
fn a_run_that_overflows_stops_and_says_where() {
    let error = overflow(&["optimizer.generator={ kind = \"sgd\", learning_rate = 1e30 }"]);
    let message = error.to_string();
    let Error::NotFinite { epoch, step, what, value } = error else { panic!("{message}") };
    assert!((1..=7).contains(&epoch), "{message}");
    assert!(["D step 1", "G step 1", "G step 2"].contains(&&*step), "{message}");
    assert!(what == "D's loss" || what == "G's loss", "{message}");
    let end = "expected a finite number; a lower learning rate may help";
    assert_eq!(message, format!("epoch {epoch}, {step}: {what} is {value}: {end}"));
}

#[test]
fn an_evaluation_that_overflows_says_so() {
    let settings = [
        "optimizer.generator={ kind = \"sgd\", learning_rate = 1e38 }",
        "train.generator_steps=1",
        "train.discriminator_steps=0",
    ];
    let mut session = session::<f32>(&settings);
    session.run_epoch().unwrap();
    let message = session.finish_stage().unwrap_err().to_string();
    assert!(message.starts_with("epoch 1, evaluation: G's output is "), "{message}");
}

/// Sets the kernel and the bias of G or D, which has one layer with parameters.
fn set(parameters: &mut [nn::Parameter<f64>], kernel: &[f64], bias: &[f64]) {
    for (parameter, values) in parameters.iter_mut().zip([kernel, bias]) {
        parameter.value.data_mut().copy_from_slice(values);
    }
}

/// What is drawn of a G that multiplies each of four numbers by the same and adds these.
fn drawn(overrides: &[&str], factor: f64, bias: [f64; 4]) -> Option<Vec<[f64; 3]>> {
    let four = ["latent.dim=4", "generator.input=[4]", "generator.layers=[{ layer = \"dense\", units = 4 }]"];
    let mut session = session::<f64>(&[&four, overrides].concat());
    let kernel: Vec<f64> = (0..16).map(|i| if i % 5 == 0 { factor } else { 0.0 }).collect();
    set(session.trainer_mut().networks_mut().0.parameters_mut(), &kernel, &bias);
    session.generator_function(2).unwrap()
}

#[track_caller]
fn check_drawn(found: Option<Vec<[f64; 3]>>, expected: [[f64; 3]; 2]) {
    for (a, b) in found.unwrap().concat().iter().zip(expected.concat()) {
        approx::assert_relative_eq!(*a, b, max_relative = 1e-9);
    }
}

#[test]
fn g_is_drawn_as_a_function_of_one_number() {
    let data = Distribution::Normal { mean: 4.0, std: 1.25 };
    let q = |p| data.quantile(p);
    let low = "latent.low=-1.0";
    check_drawn(drawn(&[low], 3.0, [-1.0; 4]), [[-0.5, -2.5, q(0.25)], [0.5, 0.5, q(0.75)]]);
    check_drawn(drawn(&[low], -3.0, [-1.0; 4]), [[-0.5, 0.5, q(0.75)], [0.5, -2.5, q(0.25)]]);
    let normal = Distribution::Normal { mean: 2.0, std: 3.0 };
    // A quarter and three quarters of the way through what is drawn often enough to be seen.
    let [a, b] = [normal.quantile(1e-4), normal.quantile(1.0 - 1e-4)];
    let [a, b] = [0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b];
    let latent = "latent={ distribution = \"normal\", mean = 2.0, std = 3.0, dim = 4 }";
    let expected = [[a, a, q(normal.cdf(a))], [b, b, q(normal.cdf(b))]];
    check_drawn(drawn(&[latent], 1.0, [0.0; 4]), expected);
    let one = ["latent.dim=1", "generator.input=[1]", "discriminator.input=[1]"];
    let one = [&one[..], &["generator.layers=[{ layer = \"dense\", units = 1 }]"]].concat();
    let mut single = session::<f64>(&one);
    set(single.trainer_mut().networks_mut().0.parameters_mut(), &[2.0], &[1.0]);
    check_drawn(single.generator_function(2).unwrap(), [[0.25, 1.5, q(0.25)], [0.75, 2.5, q(0.75)]]);
}

#[test]
fn what_is_no_function_of_one_number_is_not_drawn() {
    // As many numbers as in a latent, all by the same function.
    assert_eq!(session::<f64>(&[]).generator_function(2).unwrap(), None);
    assert_eq!(drawn(&[], 1.0, [1.0, 0.0, 0.0, 0.0]), None);
    assert_eq!(drawn(&[], 1.0, [0.0, 0.0, 0.0, 1.0]), None);
    let mean = "generator.layers=[{ layer = \"lambda\", expression = \"x - mean(x, axis=1)\" }]";
    let others = session::<f64>(&["latent.dim=4", "generator.input=[4]", mean]);
    assert_eq!(others.generator_function(2).unwrap(), None);
    let points = ["data={ kind = \"two_moons\", noise = 0.1 }", "latent.dim=2", "generator.input=[2]"];
    let points = [&points[..], &["generator.layers=[]", "discriminator.input=[2]"]].concat();
    assert_eq!(session::<f64>(&points).generator_function(2).unwrap(), None);
}

#[test]
fn logits_are_counted_from_where_d_cannot_tell() {
    // More rows than D is shown at a time, of a length that no power of 2 divides.
    let rows: Vec<f64> = (0..3 * 1030).map(|i| f64::from(i % 7)).collect();
    let reference = [0.0, 0.0, 1.0, 0.0, 0.0, 2.0];
    for last in ["linear", "sigmoid"] {
        let layers =
            format!("discriminator.layers=[{{ layer = \"dense\", units = 1, activation = \"{last}\" }}]");
        for (objective, middle) in [
            ("non_saturating", 0.0),
            ("minimax", 0.0),
            ("hinge", 0.0),
            ("least_squares", 0.5),
            ("wasserstein", 5.0),
            ("relativistic_paired", 5.0),
        ] {
            let objective = format!("objective.kind={objective}");
            let settings = ["generator.layers.1.units=3", "discriminator.input=[3]", &layers, &objective];
            let mut session = session::<f64>(&settings);
            set(session.trainer_mut().networks_mut().1.parameters_mut(), &[1.0, 2.0, 3.0], &[0.5]);
            let found = session.discriminator_logits(&rows, &reference).unwrap().unwrap();
            assert_eq!(found.len(), 1030);
            for (found, row) in found.iter().zip(rows.chunks(3)) {
                let logit = row[0] + 2.0 * row[1] + 3.0 * row[2] + 0.5;
                approx::assert_relative_eq!(*found, logit - middle, max_relative = 1e-12);
            }
        }
    }
    // What D says of a row depends on others.
    let packed = ["train.batch=2", "train.packing=2", "discriminator.input=[8]"];
    let grouped = ["train.batch=2", "discriminator.layers.0={ layer = \"minibatch_std\", group = 2 }"];
    for overrides in [&packed[..], &grouped] {
        assert_eq!(session::<f64>(overrides).discriminator_logits(&rows, &reference).unwrap(), None);
    }
}

#[test]
fn samples_from_elsewhere_are_compared_as_those_of_g() {
    let (mut session, _) = halfway::<f64>();
    let made = session.evaluate(50, 3).unwrap();
    assert_eq!((made.evaluation.count, made.real.len(), made.epoch), (200, 200, 2));
    let found = session.evaluate_samples(made.generated.clone(), 3).unwrap();
    assert_eq!(
        (&found.evaluation, &found.real, &found.generated),
        (&made.evaluation, &made.real, &made.generated)
    );
    for shape in [[0, 4], [50, 3]] {
        let error = session.evaluate_samples(Tensor::zeros(shape), 3).unwrap_err().to_string();
        assert_eq!(error, format!("samples: expected rows of [4], one at least, found {shape:?}"));
    }
    assert_eq!(session.prepare_classifier(None, || panic!("these are no images")).unwrap(), None);
}
