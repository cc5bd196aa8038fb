//! What a step does not cost: memory from the system, and other bits with other threads.

use gan::{Config, Session, preset};
use tensor_ops::{Scalar, with_threads};

/// A convolution that sees its neighbours, activations with and without their input, and sizes that leave tails.
const MIXED: [&str; 2] = [
    r#"generator.layers=[
        { layer = "reshape", target_shape = [100, 1] },
        { layer = "conv1d", filters = 17, kernel_size = 3, padding = "same", activation = "silu" },
        { layer = "conv1d", filters = 33, kernel_size = 1, activation = "tanh" },
        { layer = "conv1d", filters = 1, kernel_size = 1 },
        { layer = "flatten" }]"#,
    r#"discriminator.layers=[
        { layer = "dense", units = 65, activation = { leaky_relu = { negative_slope = 0.1 } } },
        { layer = "sequential", layers = [{ layer = "dense", units = 7, activation = "softmax" }] },
        { layer = "dense", units = 1, activation = "sigmoid" }]"#,
];
/// Wide enough for products that are packed, shared by columns, and multiplied by nalgebra.
const WIDE: [&str; 2] = [
    r#"generator.layers=[{ layer = "dense", units = 600, activation = "relu" }, { layer = "dense", units = 100 }]"#,
    r#"discriminator.layers=[
        { layer = "dense", units = 520, activation = "elu" },
        { layer = "dense", units = 600, activation = "softplus" },
        { layer = "dense", units = 1, activation = "sigmoid" }]"#,
];

/// Layers that are random, and some that put images together and apart.
const IMAGES: [&str; 5] = [
    r#"generator.layers=[
        { layer = "dense", units = 75 },
        { layer = "reshape", target_shape = [5, 5, 3] },
        { layer = "up_sampling2d", interpolation = "bilinear" },
        { layer = "dropout", rate = 0.1 },
        { layer = "add", branches = [[], [
            { layer = "dense", units = 3, activation = "tanh" }, { layer = "group_normalization", groups = 3 }]] },
        { layer = "dense", units = 1 },
        { layer = "flatten" }]"#,
    r#"discriminator.layers=[
        { layer = "reshape", target_shape = [10, 10, 1] },
        { layer = "concatenate", branches = [[], [{ layer = "dense", units = 4, activation = "silu" }]] },
        { layer = "max_pooling2d" },
        { layer = "average_pooling2d", pool_size = 3, strides = 1, padding = "same" },
        { layer = "layer_normalization" },
        { layer = "dropout", rate = 0.3 },
        { layer = "global_average_pooling2d" },
        { layer = "dense", units = 1 }]"#,
    "penalty.r1=0.1",
    "penalty.r2=0.1",
    "penalty.wgan_gp=0.1",
];
/// Layers that need the whole batch, after those of [`IMAGES`].
const BATCHES: [&str; 7] = [
    IMAGES[0],
    IMAGES[1],
    IMAGES[2],
    IMAGES[3],
    IMAGES[4],
    r#"generator.layers.1={ layer = "sequential", layers = [
        { layer = "batch_normalization" }, { layer = "reshape", target_shape = [5, 5, 3] }] }"#,
    r#"discriminator.layers.4={ layer = "batch_normalization" }"#,
];

/// Rows that are images, with labels.
const DIGITS: [&str; 4] = [
    r#"data={ kind = "digits" }"#,
    r#"generator.layers=[{ layer = "dense", units = 64 }, { layer = "reshape", target_shape = [8, 8, 1] }]"#,
    "discriminator.input=[8, 8, 1]",
    r#"discriminator.layers=[{ layer = "flatten" }, { layer = "dense", units = 1, activation = "sigmoid" }]"#,
];

/// All that a step can do: real rows for G, three penalties, packing, clipping, and a moving average.
const RULES: [&str; 10] = [
    "objective.kind=relativistic_paired",
    "penalty.r1=0.1",
    "penalty.r2=0.1",
    "penalty.wgan_gp=0.1",
    "train.packing=2",
    "train.clip_norm=0.5",
    "train.ema_decay=0.9",
    "train.schedule.shape=cosine",
    "discriminator.input=[200]",
    r#"discriminator.layers=[
        { layer = "lambda", expression = "concat([x, square(x - mean(x, axis=1))], axis=1)" },
        { layer = "spectral_normalization", inner = { layer = "dense", units = 50, activation = "silu" } },
        { layer = "minibatch_std", group = 4 },
        { layer = "dense", units = 50, activation = "tanh" },
        { layer = "dense", units = 1 }]"#,
];

fn session<T: Scalar>(batch: usize, changes: &[&str]) -> Session<T> {
    let mut settings = vec![format!("train.batch={batch}"), "train.epochs=1000".to_owned()];
    settings.extend(changes.iter().map(|&change| change.to_owned()));
    Config::parse(preset("notebook").unwrap(), &settings).and_then(Session::new).unwrap()
}

#[test]
fn a_step_after_the_first_allocates_nothing() {
    for (batch, changes) in [
        (1, &[][..]),
        (7, &[]),
        (64, &[]),
        (5, &MIXED),
        (40, &MIXED),
        (33, &WIDE),
        (48, &RULES),
        (40, &IMAGES),
        (9, &BATCHES),
        (32, &DIGITS),
    ] {
        let mut session = session::<f32>(batch, changes);
        let mut allocations = || {
            let epochs = || (0..3).for_each(|_| session.run_epoch().unwrap());
            with_threads(1, || allocation_counter::measure(epochs).count_total).unwrap()
        };
        assert!(allocations() > 0, "the first steps make their buffers");
        assert_eq!(allocations(), 0, "batch {batch}, {changes:?}");
    }
}

/// The state of a run after so many epochs on so many threads.
fn trained(threads: usize, batch: usize, changes: &[&str], epochs: usize) -> Vec<u8> {
    let mut session = session::<f32>(batch, changes);
    with_threads(threads, || (0..epochs).for_each(|_| session.run_epoch().unwrap())).unwrap();
    session.to_checkpoint().unwrap()
}

#[test]
fn two_hundred_steps_have_the_same_bits_on_any_number_of_threads() {
    for (batch, changes, epochs) in [
        (1, &[][..], 34),
        (13, &[], 34),
        (100, &[], 2),
        (1, &MIXED, 34),
        (37, &MIXED, 34),
        (530, &WIDE, 2),
        (88, &RULES, 34),
        (300, &IMAGES, 2),
        (60, &BATCHES, 4),
    ] {
        let one = trained(1, batch, changes, epochs);
        for threads in [2, 3, 4, 8] {
            assert!(trained(threads, batch, changes, epochs) == one, "batch {batch}, {threads} threads");
        }
    }
}

/// A stage leaves nothing behind in memory: a long run needs no more of it than a short one.
#[test]
fn stages_and_checkpoints_keep_no_memory() {
    let settings = ["train.stage=5", "evaluate.rows=10"];
    let mut session = session::<f32>(2, &settings);
    let mut stages = |count: usize| {
        let stages = || {
            for _ in 0..count {
                (0..5).for_each(|_| session.run_epoch().unwrap());
                session.finish_stage().unwrap();
                session.to_checkpoint().unwrap();
            }
        };
        with_threads(1, || allocation_counter::measure(stages)).unwrap()
    };
    stages(2);
    let used = stages(50);
    assert!(used.count_total > 50 && used.bytes_current == 0, "{used:?}");
}
