//! What layers do beside their gradients: modes, moving statistics, labels and branches.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nn::layers::LayerConfig;
use nn::{Error, Loss, Mode, Model, Network, Optimizer, Parameter, Shape, Tensor, Workspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A network of layers as TOML's inline tables name them, in JSON.
fn network(input: impl Into<Shape>, layers: &str) -> nn::Result<Network<f64>> {
    let layers: Vec<LayerConfig> = serde_json::from_str(layers).unwrap();
    let layers = layers.iter().map(LayerConfig::build).collect();
    Network::new(input, layers, &mut ChaCha8Rng::seed_from_u64(1))
}

fn random(shape: impl Into<Shape>) -> Tensor<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    Tensor::from_fn(shape, || rng.random_range(-1.0..3.0))
}

fn model(input: impl Into<Shape>, layers: &str) -> Model<f64> {
    Model::new(network(input, layers).unwrap(), Loss::MeanSquaredError, Optimizer::adam(0.01)).unwrap()
}

/// A step on a batch of so many rows, with targets of 0.
fn step(model: &mut Model<f64>, rows: usize) -> nn::Result<()> {
    let input = random(model.network().input_shape().with_first(rows)?);
    let target = Tensor::zeros(model.network().output_shape().with_first(rows)?);
    model.train_on_batch(input.view(), target.view()).map(|_| ())
}

fn parameter<'a>(model: &'a Model<f64>, name: &str) -> &'a Parameter<f64> {
    model.network().parameters().iter().find(|parameter| parameter.name == name).unwrap()
}

#[track_caller]
fn check_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "found {found}, expected {expected}");
    }
}

/// What moving statistics are after a step from where they start, on the rows of [`step`].
fn moved(rows: usize, features: usize, momentum: f64) -> [Vec<f64>; 2] {
    let input = random([rows, features]);
    let column = |feature: usize| input.data().iter().skip(feature).step_by(features);
    let mean = |feature| column(feature).sum::<f64>() / rows as f64;
    let variance =
        |feature: usize| column(feature).map(|x| (x - mean(feature)).powi(2)).sum::<f64>() / rows as f64;
    let means = (0..features).map(|feature| (1.0 - momentum) * mean(feature));
    let variances = (0..features).map(|feature| momentum + (1.0 - momentum) * variance(feature));
    [means.collect(), variances.collect()]
}

#[test]
fn a_step_moves_the_statistics_by_those_of_the_whole_batch() {
    for layer in [
        r#"[{"layer": "batch_normalization", "momentum": 0.9}, {"layer": "dense", "units": 1}]"#,
        // Nothing to learn, and after frozen layers: still kept.
        r#"[{"layer": "batch_normalization", "momentum": 0.9, "center": false, "scale": false},
            {"layer": "dense", "units": 1}]"#,
        r#"[{"layer": "add", "branches": [
                [{"layer": "batch_normalization", "momentum": 0.9}], [{"layer": "dense", "units": 3}]]}]"#,
    ] {
        // So many rows that other networks would cut them into shards.
        for rows in [2, 5, 4000] {
            let mut model = model([3], layer);
            step(&mut model, rows).unwrap();
            let [means, variances] = moved(rows, 3, 0.9);
            check_near(parameter(&model, "moving_mean").value.data(), &means);
            check_near(parameter(&model, "moving_variance").value.data(), &variances);
        }
    }
}

#[test]
fn frozen_layers_keep_their_statistics() {
    let normalization = r#"{"layer": "batch_normalization"}"#;
    let without_parameters = r#"{"layer": "batch_normalization", "center": false, "scale": false}"#;
    let dense = r#"{"layer": "dense", "units": 3}"#;
    let mut frozen = model([3], &format!("[{normalization}, {dense}]"));
    frozen.network_mut().set_layer_trainable(&[0], false).unwrap();
    step(&mut frozen, 4).unwrap();
    assert_eq!(parameter(&frozen, "moving_mean").value.data(), [0.0; 3]);
    assert_eq!(parameter(&frozen, "moving_variance").value.data(), [1.0; 3]);

    // One that has nothing to freeze goes on keeping them, wherever it stands.
    let inner = format!(r#"{{"layer": "sequential", "layers": [{without_parameters}, {dense}]}}"#);
    let mut container = model([3], &format!("[{inner}]"));
    container.network_mut().set_layer_trainable(&[0], false).unwrap();
    step(&mut container, 4).unwrap();
    let [means, variances] = moved(4, 3, 0.99);
    check_near(parameter(&container, "moving_mean").value.data(), &means);
    check_near(parameter(&container, "moving_variance").value.data(), &variances);
}

#[test]
fn clipping_and_scoring_leave_statistics_alone() {
    let mut model = model([3], r#"[{"layer": "batch_normalization"}]"#);
    let (input, target) = (random([4, 3]), Tensor::zeros([4, 3]));
    model.test_on_batch(input.view(), target.view()).unwrap();
    assert_eq!(parameter(&model, "moving_mean").value.data(), [0.0; 3]);

    let mut gradients = model.network().gradients();
    gradients.iter_mut().for_each(|gradient| gradient.fill(10.0));
    nn::clip_norm(model.network().parameters(), &mut gradients, 1.0);
    assert_eq!(gradients[2].data(), [10.0; 3], "what is on its way to moving_mean is no gradient");
}

#[test]
fn statistics_are_saved_with_the_weights() {
    let mut saved = model([3], r#"[{"layer": "batch_normalization"}]"#);
    step(&mut saved, 4).unwrap();
    let mut loaded = network([3], r#"[{"layer": "batch_normalization"}]"#).unwrap();
    loaded.load_safetensors(&saved.network().to_safetensors().unwrap()).unwrap();
    assert_eq!(saved.network().parameters(), loaded.parameters());
}

#[test]
fn a_row_in_inference_does_not_depend_on_others() {
    let mut model = model([3], r#"[{"layer": "batch_normalization"}, {"layer": "dropout", "rate": 0.5}]"#);
    step(&mut model, 6).unwrap();
    let input = random([6, 3]);
    let all = model.predict(input.view()).unwrap();
    for row in 0..6 {
        let alone = model.predict(input.view().rows(row..row + 1).unwrap()).unwrap();
        assert_eq!(alone.data(), &all.data()[row * 3..][..3]);
    }
}

#[test]
fn one_number_of_a_feature_has_no_statistics_to_learn_from() {
    let error = step(&mut model([3], r#"[{"layer": "batch_normalization"}]"#), 1).unwrap_err().to_string();
    assert_eq!(
        error,
        "batch_normalization: expected a batch with at least 2 numbers of each feature to learn from, found [1, 3]"
    );
    step(&mut model([2, 3], r#"[{"layer": "batch_normalization"}]"#), 1).unwrap();
}

#[test]
fn advance_asks_for_a_gradient_of_each_parameter() {
    let mut network = network([3], r#"[{"layer": "batch_normalization"}]"#).unwrap();
    let error = network.advance(&[]).unwrap_err().to_string();
    assert_eq!(error, "advance: expected a gradient for each parameter, found [0]");
}

/// What dropout makes of ones, in two layers and a branch.
fn dropped(network: &Network<f64>, noise: u64) -> Vec<f64> {
    let mode = Mode::Training { noise };
    let mut workspace = Workspace { mode, ..Workspace::default() };
    network.forward(Tensor::full([1, 64], 1.0).view(), &mut workspace).unwrap().data().to_vec()
}

#[test]
fn what_is_left_out_follows_from_the_noise() {
    let half = r#"{"layer": "dropout", "rate": 0.5}"#;
    let once = network([64], &format!("[{half}]")).unwrap();
    assert_eq!(dropped(&once, 1), dropped(&once, 1));
    assert_ne!(dropped(&once, 1), dropped(&once, 2));

    // Each layer has noise of its own: of 64 numbers, the same are not left out twice.
    let branches = format!(r#"[{{"layer": "concatenate", "branches": [[{half}], [{half}]]}}]"#);
    let both = dropped(&network([64], &branches).unwrap(), 1);
    assert_ne!(both[..64], both[64..]);
    let twice = dropped(&network([64], &format!("[{half}, {half}]")).unwrap(), 1);
    assert!(twice.iter().filter(|&&y| y == 0.0).count() > 40, "{twice:?}");
}

#[test]
fn steps_of_a_model_draw_their_own_noise_and_can_be_repeated() {
    let layers = r#"[{"layer": "dense", "units": 9}, {"layer": "dropout", "rate": 0.5}]"#;
    let weights_after = |noise: u64, steps: usize| {
        let mut model = model([3], layers);
        model.set_noise(noise);
        (0..steps).for_each(|_| step(&mut model, 8).unwrap());
        model.network().to_safetensors().unwrap()
    };
    assert_eq!(weights_after(1, 3), weights_after(1, 3));
    assert_ne!(weights_after(1, 3), weights_after(2, 3));
}

#[test]
fn labels_reach_every_layer_and_are_checked() {
    let layers = r#"[
        {"layer": "sequential", "layers": [{"layer": "label_embedding", "classes": 3, "units": 2}]},
        {"layer": "add", "branches": [[], [{"layer": "dense", "units": 4, "activation": "tanh"}]]},
        {"layer": "projection", "classes": 3}]"#;
    let network = network([2], layers).unwrap();
    let input = Tensor::full([3, 2], 0.5);
    let with = |labels: Vec<usize>| {
        let mut workspace = Workspace { labels, ..Workspace::default() };
        network.forward(input.view(), &mut workspace).map(|output| output.data().to_vec())
    };
    let found = with(vec![0, 2, 0]).unwrap();
    assert_eq!(found[0], found[2]);
    assert_ne!(found[0], found[1]);
    for (labels, expected) in [
        (vec![], "label_embedding: expected a label for each of 3 rows, found none"),
        (vec![1], "label_embedding: expected a label for each of 3 rows, found 1"),
        (vec![0, 3, 4], "label_embedding: expected labels from 0 to below 3, found 3"),
    ] {
        let error = with(labels).unwrap_err();
        assert!(matches!(error, Error::Index { .. }));
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn numbers_that_stand_for_nothing_are_refused() {
    let network = network([1], r#"[{"layer": "embedding", "input_dim": 3, "output_dim": 2}]"#).unwrap();
    for (number, found) in [(3.0, "3"), (-0.5, "-0.5"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let error = network.predict(Tensor::full([1, 1], number).view()).unwrap_err().to_string();
        assert_eq!(error, format!("embedding: expected numbers from 0 to below 3, found {found}"));
    }
}

const BRANCHES: &str = r#"[
    {"layer": "concatenate", "branches": [[], [{"layer": "dense", "units": 2}, {"layer": "batch_normalization"}]]},
    {"layer": "add", "branches": [[], [{"layer": "dense", "units": 6}]]}]"#;

#[test]
fn branches_are_counted_named_and_frozen_as_other_layers() {
    let mut network = network([4], BRANCHES).unwrap();
    let keys: Vec<String> = network.parameters().iter().map(Parameter::key).collect();
    let normalization = ["1.gamma", "1.beta", "1.moving_mean", "1.moving_variance"];
    assert_eq!(keys, [&["0.kernel", "0.bias"][..], &normalization, &["2.kernel", "2.bias"]].concat());
    network.set_layer_trainable(&[0, 1, 0], false).unwrap();
    let expected = "\
layer                      output shape  parameters  trainable
0 concatenate              [6]                   18  partly
  0 sequential             [4]                    0
  1 sequential             [2]                   18  partly
    0 dense                [2]                   10  no
    1 batch_normalization  [2]                    8  yes
1 add                      [6]                   42  yes
  0 sequential             [6]                    0
  1 sequential             [6]                   42  yes
    0 dense                [6]                   42  yes
parameters: 60, trainable: 46
";
    assert_eq!(network.summary(), expected);
    let load = network.load();
    // 4 x 2 and 6 x 6: of the kernels alone.
    assert_eq!((load.multiply_adds, load.parameters, load.whole_batch), (44, 60, true));
}

#[test]
fn branches_that_do_not_fit_are_refused() {
    let error = |layers: &str| network([4], layers).unwrap_err().to_string();
    assert_eq!(
        error(r#"[{"layer": "add", "branches": []}]"#),
        "layer 0 (add): expected at least 1 branch, found [4]"
    );
    assert_eq!(
        error(r#"[{"layer": "add", "branches": [[], [{"layer": "dense", "units": 3}]]}]"#),
        "layer 0 (add): expected branches with outputs like that of the first, [4], found [3]"
    );
    assert_eq!(
        error(
            r#"[{"layer": "concatenate", "branches": [[], [{"layer": "reshape", "target_shape": [2, 2]}]]}]"#
        ),
        "layer 0 (concatenate): expected branches with outputs like that of the first, [4], found [2, 2]"
    );
}

#[test]
fn one_number_stands_for_both_axes() {
    let parse = |text: &str| serde_json::from_str::<LayerConfig>(text);
    let both = parse(r#"{"layer": "max_pooling2d", "pool_size": 3, "strides": 2}"#).unwrap();
    assert_eq!(both, parse(r#"{"layer": "max_pooling2d", "pool_size": [3, 3], "strides": [2, 2]}"#).unwrap());
    for layer in [
        r#"{"layer": "max_pooling2d"}"#,
        r#"{"layer": "average_pooling2d", "pool_size": [1, 2], "padding": "same"}"#,
        r#"{"layer": "up_sampling2d", "size": 3, "interpolation": "bilinear"}"#,
        r#"{"layer": "add", "branches": [[], [{"layer": "global_average_pooling2d"}]]}"#,
    ] {
        let layer = parse(layer).unwrap();
        assert_eq!(parse(&serde_json::to_string(&layer).unwrap()).unwrap(), layer);
    }
    let error = parse(r#"{"layer": "max_pooling2d", "pool_size": "two"}"#).unwrap_err().to_string();
    assert!(error.contains("expected a whole number or two"), "{error}");
}

#[test]
fn settings_out_of_range_are_refused() {
    for (layer, expected) in [
        (r#""batch_normalization", "momentum": 1.5"#, "momentum: expected a number from 0 to 1, found 1.5"),
        (r#""layer_normalization", "epsilon": 0"#, "epsilon: expected a number > 0, found 0"),
        (r#""group_normalization", "groups": 0"#, "groups: expected at least 1, found 0"),
        (r#""group_normalization", "groups": 3"#, "expected a multiple of 3 channels, found [4, 4, 2]"),
        (r#""dropout", "rate": 1"#, "rate: expected a number from 0 to below 1, found 1"),
        (r#""max_pooling2d", "pool_size": [2, 0]"#, "pool_size: expected at least 1, found [2, 0]"),
        (r#""average_pooling2d", "pool_size": 5"#, "expected at least 5 steps, found [4]"),
        (r#""up_sampling2d", "size": 0"#, "size: expected at least 1, found [0, 0]"),
        (r#""embedding", "input_dim": 0, "output_dim": 1"#, "input_dim: expected at least 1, found 0"),
        (r#""label_embedding", "classes": 1, "units": 0"#, "units: expected at least 1, found 0"),
        (r#""projection", "classes": 2"#, "expected rows of [features], found [4, 4, 2]"),
    ] {
        let error = network([4, 4, 2], &format!(r#"[{{"layer": {layer}}}]"#)).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}
