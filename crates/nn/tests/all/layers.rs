//! What layers do beside their gradients: modes, moving statistics, labels and branches.

use nn::layers::LayerConfig;
use nn::{
    Activation, Dual, DualNumber, Error, Layer, Loss, Mode, Model, Network, Optimizer, Parameter, Shape,
    Tensor, View, Wanted, Workspace,
};
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
fn what_a_layer_keeps_is_never_trainable() {
    let mut network = network([3], r#"[{"layer": "batch_normalization"}]"#).unwrap();
    for trainable in [false, true] {
        network.set_trainable(trainable);
        let found: Vec<bool> = network.parameters().iter().map(|parameter| parameter.trainable).collect();
        assert_eq!(found, [trainable, trainable, false, false]);
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
    // Numbers at even and at odd places are left out alike.
    for place in [0, 1] {
        let zeros = dropped(&once, 1).iter().skip(place).step_by(2).filter(|&&y| y == 0.0).count();
        assert!((8..24).contains(&zeros), "{zeros} of 32");
    }
    let few = dropped(&network([64], r#"[{"layer": "dropout", "rate": 0.125}]"#).unwrap(), 1);
    assert!((1..20).contains(&few.iter().filter(|&&y| y == 0.0).count()), "{few:?}");
    // What is kept makes up for what is left out.
    assert!(dropped(&once, 1).iter().all(|&y| y == 0.0 || y == 2.0));
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
    assert_ne!(both, parse(r#"{"layer": "max_pooling2d", "pool_size": 3, "strides": 1}"#).unwrap());
    for layer in [
        r#"{"layer": "max_pooling2d"}"#,
        r#"{"layer": "average_pooling2d", "pool_size": [1, 2], "padding": "same"}"#,
        r#"{"layer": "up_sampling2d", "size": 3, "interpolation": "bilinear"}"#,
        r#"{"layer": "lambda", "expression": "x + 1"}"#,
        r#"{"layer": "add", "branches": [[], [{"layer": "global_average_pooling2d"}]]}"#,
    ] {
        let layer = parse(layer).unwrap();
        assert_eq!(parse(&serde_json::to_string(&layer).unwrap()).unwrap(), layer);
    }
    let error = parse(r#"{"layer": "max_pooling2d", "pool_size": "two"}"#).unwrap_err().to_string();
    assert!(error.contains("expected a whole number or two"), "{error}");
}

#[test]
fn settings_left_out_are_those_of_keras() {
    for (layer, whole) in [
        (r#""minibatch_std""#, r#""minibatch_std", "group": 4"#),
        (r#""max_pooling2d""#, r#""max_pooling2d", "pool_size": [2, 2], "padding": "valid""#),
        (
            r#""conv2d", "filters": 3, "kernel_size": 2"#,
            r#""conv2d", "filters": 3, "kernel_size": [2, 2], "strides": [1, 1], "dilation_rate": [1, 1],
               "use_bias": true, "bias_initializer": "zeros", "kernel_initializer": "glorot_uniform""#,
        ),
        (
            r#""embedding", "input_dim": 3, "output_dim": 2"#,
            r#""embedding", "input_dim": 3, "output_dim": 2,
               "embeddings_initializer": {"random_uniform": [-0.05, 0.05]}"#,
        ),
        (r#""leaky_relu""#, r#""leaky_relu", "negative_slope": 0.3"#),
        (r#""up_sampling2d""#, r#""up_sampling2d", "size": [2, 2], "interpolation": "nearest""#),
        (
            r#""spectral_normalization", "inner": {"layer": "flatten"}"#,
            r#""spectral_normalization", "inner": {"layer": "flatten"}, "power_iterations": 1"#,
        ),
        (
            r#""batch_normalization""#,
            r#""batch_normalization", "momentum": 0.99, "epsilon": 0.001, "center": true, "scale": true"#,
        ),
        (
            r#""group_normalization""#,
            r#""group_normalization", "groups": 32, "epsilon": 0.001, "center": true, "scale": true"#,
        ),
    ] {
        let parse =
            |text: &str| -> LayerConfig { serde_json::from_str(&format!(r#"{{"layer": {text}}}"#)).unwrap() };
        assert_eq!(parse(layer), parse(whole));
    }
}

/// Each kind of layer that computes each row by itself, and a row for it.
const LAYERS: [(&[usize], &str); 18] = [
    (&[4], r#""dense", "units": 3, "activation": "softmax""#),
    (&[5, 2], r#""conv1d", "filters": 3, "kernel_size": 2, "padding": "same""#),
    (&[5, 2], r#""conv1d", "filters": 3, "kernel_size": 2, "strides": 2, "activation": "elu""#),
    (&[4, 5, 2], r#""conv2d", "filters": 3, "kernel_size": 3, "strides": 2, "padding": "same""#),
    (&[4, 5, 2], r#""conv2d_transpose", "filters": 3, "kernel_size": 3, "strides": 2, "padding": "same""#),
    (&[4, 5, 2], r#""max_pooling2d", "padding": "same""#),
    (&[4, 5, 2], r#""average_pooling2d", "pool_size": 3, "strides": [1, 2]"#),
    (&[4, 5, 2], r#""global_average_pooling2d""#),
    (&[4, 3, 2], r#""up_sampling2d", "size": [2, 3]"#),
    (&[4, 3, 2], r#""up_sampling2d", "size": [2, 3], "interpolation": "bilinear""#),
    (&[4, 6], r#""group_normalization", "groups": 3"#),
    (&[4, 6], r#""layer_normalization""#),
    (&[4], r#""spectral_normalization", "inner": {"layer": "dense", "units": 3}"#),
    (&[2, 6], r#""reshape", "target_shape": [3, 4]"#),
    (&[2, 6], r#""flatten""#),
    (&[6], r#""lambda", "expression": "concat([x, square(x - mean(x, axis=1))], axis=1)""#),
    (&[6], r#""concatenate", "branches": [[], [{"layer": "activation", "activation": "silu"}]]"#),
    (&[6], r#""add", "branches": [[], [{"layer": "leaky_relu"}]]"#),
];

#[test]
fn layers_compute_each_row_by_itself() {
    for (row, layer) in LAYERS {
        let network = network(Shape::new(row).unwrap(), &format!(r#"[{{"layer": {layer}}}]"#)).unwrap();
        let input = random(network.input_shape().with_first(3).unwrap());
        let all = network.predict(input.view()).unwrap();
        for (index, expected) in all.data().chunks_exact(all.data().len() / 3).enumerate() {
            let alone = network.predict(input.view().rows(index..index + 1).unwrap()).unwrap();
            assert_eq!(alone.data(), expected, "row {index} of {layer}");
        }
    }
}

/// Gradients of the input and of the parameters, and then how they change as input and gradient of the output move; where
/// those of the parameters are not wanted, there is no place for them.
fn gradients(network: &Network<f64>, wanted: Wanted) -> [(Vec<f64>, Vec<Tensor<f64>>); 2] {
    let (layers, parameters) = (network.layers(), network.parameters());
    let shapes = [network.input_shape(), network.output_shape()].map(|row| row.with_first(2).unwrap());
    let [x, g] = shapes.map(random);
    let (mut workspace, mut tangents) = (Workspace::default(), Workspace::default());
    let start = || if wanted.parameters { network.gradients() } else { Vec::new() };
    let (mut once, mut moved) = (start(), start());
    // They move by themselves: x to x + t x.
    let [input, grad] = [&x, &g].map(|values| Dual { value: values.view(), tangent: values.view() });
    layers.forward(parameters, x.view(), &mut workspace).unwrap();
    layers.backward(parameters, x.view(), g.view(), wanted, &mut once, &mut workspace).unwrap();
    let of_input = layers.grad_input(g.view(), &workspace).data().to_vec();
    // The tangents need the gradient of the input, wanted or not.
    let all = Wanted { input: true, parameters: wanted.parameters };
    layers.backward(parameters, x.view(), g.view(), all, &mut start(), &mut workspace).unwrap();
    layers.forward_tangent(parameters, input, &workspace, &mut tangents).unwrap();
    layers.backward_tangent(parameters, input, grad, wanted, &mut moved, &workspace, &mut tangents).unwrap();
    let of_moved = layers.grad_input(g.view(), &tangents).data().to_vec();
    [(of_input, once), (of_moved, moved)]
}

#[test]
fn what_is_wanted_does_not_depend_on_what_else_is() {
    for (row, layer) in LAYERS {
        let layers = format!(
            r#"[{{"layer": "add", "branches": [[], [{{"layer": "layer_normalization"}}]]}}, {{"layer": {layer}}},
                {{"layer": "flatten"}}, {{"layer": "dense", "units": 2, "activation": "tanh"}}]"#
        );
        let network = network(Shape::new(row).unwrap(), &layers).unwrap();
        let all = gradients(&network, Wanted { input: true, parameters: true });
        let of_input = gradients(&network, Wanted { input: true, parameters: false });
        let of_parameters = gradients(&network, Wanted { input: false, parameters: true });
        for place in [0, 1] {
            assert_eq!(of_input[place].0, all[place].0, "{layer}");
            assert_eq!(of_parameters[place].1, all[place].1, "{layer}");
            assert!(all[place].1.iter().any(|gradient| gradient.data().iter().any(|&x| x != 0.0)), "{layer}");
        }
    }
}

/// A layer that only hands its input through, and leaves out all that it can.
#[derive(Debug)]
struct Plain;

impl Layer<f64> for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }
    fn output_shape(&self, input: Shape) -> nn::Result<Shape> {
        Ok(input)
    }
    fn forward(
        &self,
        _: &[Parameter<f64>],
        x: View<'_, f64>,
        workspace: &mut Workspace<f64>,
    ) -> nn::Result<()> {
        workspace.output.copy_from(x);
        Ok(())
    }
    fn backward(
        &self,
        _: &[Parameter<f64>],
        _: View<'_, f64>,
        grad_output: View<'_, f64>,
        _: Wanted,
        _: &mut [Tensor<f64>],
        workspace: &mut Workspace<f64>,
    ) -> nn::Result<()> {
        workspace.grad_input.copy_from(grad_output);
        Ok(())
    }
}

#[test]
fn a_layer_that_leaves_out_its_tangents_says_so() {
    let x = random([2, 3]);
    let both = Dual { value: x.view(), tangent: x.view() };
    let (workspace, tangents) = (&Workspace::default(), &mut Workspace::default());
    let wanted = Wanted { input: true, parameters: false };
    for error in [
        Plain.forward_tangent(&[], both, workspace, tangents).unwrap_err(),
        Plain.backward_tangent(&[], both, both, wanted, &mut [], workspace, tangents).unwrap_err(),
    ] {
        assert_eq!(error, Error::NoTangents { layer: "plain" });
    }
}

/// What a layer makes of numbers: of a row, or of as many rows as there are.
#[track_caller]
fn check_values(row: &[usize], layer: &str, input: &[f64], expected: &[f64]) {
    let network = network(Shape::new(row).unwrap(), &format!(r#"[{{"layer": {layer}}}]"#)).unwrap();
    let (shape, rows) = (network.input_shape(), input.len() / network.input_shape().len());
    assert_eq!(rows * network.output_shape().len(), expected.len(), "{layer}");
    let input = Tensor::from_vec(shape.with_first(rows).unwrap(), input.to_vec());
    check_near(network.predict(input.unwrap().view()).unwrap().data(), expected);
}

#[test]
fn images_are_pooled_and_enlarged() {
    let image = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 7.0, 8.0, 6.0];
    check_values(&[3, 3, 1], r#""max_pooling2d""#, &image, &[5.0]);
    check_values(&[3, 3, 1], r#""max_pooling2d", "strides": 1"#, &image, &[5.0, 9.0, 8.0, 9.0]);
    check_values(&[3, 3, 1], r#""average_pooling2d", "strides": 1"#, &image, &[3.0, 4.75, 6.0, 7.0]);
    // What lies beyond the edges does not count.
    let padded = r#""average_pooling2d", "padding": "same""#;
    check_values(&[3, 3, 1], padded, &image, &[3.0, 6.0, 7.5, 6.0]);
    let padded = r#""max_pooling2d", "padding": "same""#;
    check_values(&[3, 3, 1], padded, &image.map(|x| -x), &[-1.0, -3.0, -7.0, -6.0]);
    check_values(&[3, 3, 1], r#""global_average_pooling2d""#, &image, &[5.0]);

    let small = [0.0, 4.0, 8.0, 16.0];
    let nearest = [0.0, 0.0, 0.0, 4.0, 4.0, 4.0, 8.0, 8.0, 8.0, 16.0, 16.0, 16.0];
    check_values(&[2, 2, 1], r#""up_sampling2d", "size": [1, 3]"#, &small, &nearest);
    let bilinear = [0.0, 1.0, 3.0, 4.0, 2.0, 3.25, 5.75, 7.0, 6.0, 7.75, 11.25, 13.0, 8.0, 10.0, 14.0, 16.0];
    check_values(&[2, 2, 1], r#""up_sampling2d", "interpolation": "bilinear""#, &small, &bilinear);
}

#[test]
fn a_softmax_of_large_numbers_is_finite() {
    let ten = 10.0_f64.ln();
    check_values(
        &[2],
        r#""activation", "activation": "softmax""#,
        &[1000.0, 1000.0 + ten],
        &[1.0 / 11.0, 10.0 / 11.0],
    );
}

#[test]
fn images_grow_by_what_a_transposed_kernel_reaches() {
    for (settings, [height, width]) in [
        (r#""kernel_size": 2"#, [6, 5]),
        (r#""kernel_size": 3, "strides": 2"#, [11, 9]),
        (r#""kernel_size": 3, "dilation_rate": 2"#, [9, 8]),
        (r#""kernel_size": 3, "strides": 2, "padding": "same""#, [10, 8]),
    ] {
        let layer = format!(r#"[{{"layer": "conv2d_transpose", "filters": 3, {settings}}}]"#);
        let network = network([5, 4, 2], &layer).unwrap();
        assert_eq!(network.output_shape(), Shape::from([height, width, 3]), "{settings}");
    }
}

#[test]
fn groups_of_rows_get_how_much_they_differ() {
    // Two rows that differ by 2 in one of two features, then one that is alone.
    let rows = [1.0, 5.0, 3.0, 5.0, 7.0, 7.0];
    let [two, one] = [(1.0 + 1e-8_f64).sqrt() / 2.0 + 0.5e-4, 1e-4];
    let expected = [1.0, 5.0, two, 3.0, 5.0, two, 7.0, 7.0, one];
    check_values(&[2], r#""minibatch_std", "group": 2"#, &rows, &expected);
    // Also far away from 0, where squares are too large to be subtracted.
    let ([a, b, c], std) = ([0.0, 1.0, 3.0].map(|x| 1e9 + x), (14.0 / 9.0 + 1e-8_f64).sqrt());
    check_values(&[1], r#""minibatch_std", "group": 3"#, &[a, b, c], &[a, std, b, std, c, std]);
}

#[test]
fn a_kernel_of_zeros_has_no_direction_to_be_scaled_along() {
    let inner = r#"{"layer": "dense", "units": 2, "kernel_initializer": "zeros"}"#;
    let layer = format!(r#""spectral_normalization", "inner": {inner}"#);
    check_values(&[2], &layer, &[4.0, -1.0], &[0.0, 0.0]);
}

#[test]
fn activations_are_those_of_their_formulas() {
    let x: [f64; 4] = [-2.0, -0.5, 0.0, 1.5];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let formulas: [(&str, &dyn Fn(f64) -> f64); 8] = [
        (r#""linear""#, &|x| x),
        (r#""relu""#, &|x| x.max(0.0)),
        (r#"{"leaky_relu": {"negative_slope": 0.25}}"#, &|x| x.max(0.25 * x)),
        (r#"{"elu": {"alpha": 0.5}}"#, &|x| if x > 0.0 { x } else { 0.5 * (x.exp() - 1.0) }),
        (r#""sigmoid""#, &sigmoid),
        (r#""tanh""#, &|x| x.tanh()),
        (r#""softplus""#, &|x| (1.0 + x.exp()).ln()),
        (r#""silu""#, &|x| x * sigmoid(x)),
    ];
    for (activation, formula) in formulas {
        let layer = format!(r#""activation", "activation": {activation}"#);
        check_values(&[4], &layer, &x, &x.map(formula));
    }
}

#[test]
fn axes_of_expressions_count_from_either_end() {
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    for (expression, expected) in [
        ("sum(x, axis=1)", &[5.0, 7.0, 9.0][..]),
        ("sum(x, axis=-2)", &[5.0, 7.0, 9.0]),
        ("mean(x, axis=2)", &[2.0, 5.0]),
        ("mean(x, axis=-1)", &[2.0, 5.0]),
        ("concat([x, x], axis=2)", &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0]),
    ] {
        check_values(&[2, 3], &format!(r#""lambda", "expression": "{expression}""#), &x, expected);
    }
}

#[test]
fn rows_belong_together_as_all_layers_ask() {
    let together = |groups: &[usize]| {
        let layers: Vec<String> =
            groups.iter().map(|group| format!(r#"{{"layer": "minibatch_std", "group": {group}}}"#)).collect();
        network([2], &format!("[{}]", layers.join(","))).unwrap().load().together
    };
    assert_eq!([together(&[4]), together(&[4, 6]), together(&[2, 3, 4])], [4, 12, 12]);
    let inside = r#"[{"layer": "minibatch_std", "group": 6},
        {"layer": "sequential", "layers": [{"layer": "minibatch_std", "group": 4}]}]"#;
    assert_eq!(network([2], inside).unwrap().load().together, 12);
    let beside = r#"[{"layer": "add", "branches": [
        [{"layer": "minibatch_std", "group": 6}], [{"layer": "minibatch_std", "group": 4}]]}]"#;
    assert_eq!(network([2], beside).unwrap().load().together, 12);
}

#[test]
fn work_is_counted_by_the_places_a_kernel_is_at() {
    for (row, layer, multiply_adds) in [
        (&[4][..], r#""dense", "units": 3"#, 4 * 3),
        (&[5, 2], r#""conv1d", "filters": 3, "kernel_size": 2"#, 4 * 2 * 2 * 3),
        (&[5, 4, 2], r#""conv2d", "filters": 3, "kernel_size": [2, 3]"#, 4 * 2 * 2 * 3 * 2 * 3),
        (&[5, 4, 2], r#""conv2d_transpose", "filters": 3, "kernel_size": 2"#, 5 * 4 * 2 * 2 * 2 * 3),
        (&[4], r#""spectral_normalization", "inner": {"layer": "dense", "units": 3}"#, 4 * 3),
        (&[4], r#""sequential", "layers": [{"layer": "dense", "units": 3}]"#, 4 * 3),
        (&[4], r#""activation", "activation": "tanh""#, 0),
    ] {
        let network = network(Shape::new(row).unwrap(), &format!(r#"[{{"layer": {layer}}}]"#)).unwrap();
        assert_eq!(network.load().multiply_adds, multiply_adds, "{layer}");
    }
}

#[test]
fn labels_are_wanted_by_those_who_read_them_or_hold_such() {
    let wanted = |layer: &str| {
        serde_json::from_str::<LayerConfig>(&format!(r#"{{"layer": {layer}}}"#)).unwrap().wants_labels()
    };
    let inside = r#"[{"layer": "flatten"}, {"layer": "projection", "classes": 2}]"#;
    assert!(wanted(r#""label_embedding", "classes": 2, "units": 1"#));
    assert!(wanted(&format!(r#""sequential", "layers": {inside}"#)));
    assert!(wanted(&format!(r#""add", "branches": [[], {inside}]"#)));
    assert!(!wanted(r#""sequential", "layers": [{"layer": "flatten"}]"#));
}

#[test]
fn a_step_turns_the_vector_of_a_kernel_to_its_largest_direction() {
    let layer = r#"{"layer": "spectral_normalization", "power_iterations": 60,
        "inner": {"layer": "dense", "units": 2, "bias_initializer": {"constant": 5}}}"#;
    let mut model = Model::new(
        network([2], &format!("[{layer}]")).unwrap(),
        Loss::MeanSquaredError,
        Optimizer::Sgd(nn::Sgd { learning_rate: 0.0, ..nn::Sgd::default() }),
    )
    .unwrap();
    // Its singular values are 4 and 2, and the larger one's vectors (1, 1) / sqrt(2) and (0.6, 0.8).
    let half = 0.5_f64.sqrt();
    let kernel = [4.0 * half, 2.0 * half, 0.8 * half, 4.4 * half];
    model.network_mut().parameters_mut()[0].value.data_mut().copy_from_slice(&kernel);
    step(&mut model, 2).unwrap();
    let u: Vec<f64> = parameter(&model, "vector_u").value.data().iter().map(|u| u.abs()).collect();
    check_near(&u, &[0.6, 0.8]);
    let output = model.predict(Tensor::from_vec([1, 2], vec![4.0, 0.0]).unwrap().view()).unwrap();
    check_near(output.data(), &[4.0 * half + 5.0, 2.0 * half + 5.0]);
}

#[test]
fn a_normalised_layer_ends_in_the_activation_of_the_one_inside() {
    let inner = r#"{"layer": "dense", "units": 1, "activation": "sigmoid"}"#;
    let network =
        network([2], &format!(r#"[{{"layer": "spectral_normalization", "inner": {inner}}}]"#)).unwrap();
    assert_eq!(network.final_activation(), Activation::Sigmoid);
}

#[test]
fn slopes_at_a_kink_are_those_from_the_left() {
    let (zero, one, mut slope) = (Tensor::full([1], 0.0), Tensor::full([1], 1.0), Tensor::default());
    for (activation, expected) in [
        (Activation::Relu, 0.0),
        (Activation::LeakyRelu { negative_slope: 0.25 }, 0.25),
        (Activation::Elu { alpha: 0.5 }, 0.5),
    ] {
        activation.backward(zero.view(), zero.view(), one.view(), &mut slope).unwrap();
        assert_eq!(slope.data(), [expected], "{activation:?}");
        // Its forward passes, by themselves and in place, say the same.
        let mut moved = [DualNumber::new(0.0, 1.0)];
        let mut output = Tensor::default();
        activation.forward(View::new([1], &moved).unwrap(), &mut output);
        activation.apply(&mut moved);
        assert_eq!([moved[0].tangent, output.data()[0].tangent], [expected; 2], "{activation:?}");
    }
    for expression in ["relu(x)", "abs(x)"] {
        let layer = format!(r#"[{{"layer": "lambda", "expression": "{expression}"}}]"#);
        assert_eq!(grad_input(&network([1], &layer).unwrap(), &[0.0], &[1.0]), [0.0]);
    }
}

/// The gradient of a row, from that of what a network makes of it.
fn grad_input(network: &Network<f64>, row: &[f64], grad_output: &[f64]) -> Vec<f64> {
    let of = |shape: Shape, values: &[f64]| {
        Tensor::from_vec(shape.with_first(1).unwrap(), values.to_vec()).unwrap()
    };
    let (row, grad) = (of(network.input_shape(), row), of(network.output_shape(), grad_output));
    let mut workspace = Workspace::default();
    network.forward(row.view(), &mut workspace).unwrap();
    let wanted = Wanted { input: true, parameters: false };
    network.backward(row.view(), grad.view(), wanted, &mut [], &mut workspace).unwrap().data().to_vec()
}

#[test]
fn the_first_of_the_largest_gets_the_gradient() {
    let network = network([2, 2, 1], r#"[{"layer": "max_pooling2d"}]"#).unwrap();
    assert_eq!(grad_input(&network, &[1.0, 3.0, 3.0, 3.0], &[1.0]), [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn rows_without_numbers_are_refused() {
    let images: &[&[usize]] = &[&[0, 5, 2], &[4, 0, 2], &[4, 5, 0], &[4, 5]];
    for (layer, rows) in [
        (r#""dense", "units": 1"#, &[&[0][..], &[3, 0], &[]][..]),
        (r#""conv1d", "filters": 1, "kernel_size": 1"#, &[&[0, 2], &[5, 0], &[5]]),
        (r#""conv2d", "filters": 1, "kernel_size": 1"#, images),
        (r#""conv2d_transpose", "filters": 1, "kernel_size": 1"#, images),
        (r#""max_pooling2d", "pool_size": 1"#, images),
        (r#""average_pooling2d", "pool_size": 1"#, images),
        (r#""up_sampling2d""#, images),
        (r#""projection", "classes": 2"#, &[&[0], &[2, 2]]),
        (r#""minibatch_std""#, &[&[0], &[3, 0], &[]]),
        (r#""layer_normalization""#, &[&[0], &[3, 0], &[]]),
    ] {
        for row in rows {
            let found = network(Shape::new(row).unwrap(), &format!(r#"[{{"layer": {layer}}}]"#));
            let error = found.map(|_| "no error").unwrap_err().to_string();
            assert!(
                error.contains(": expected ") && error.ends_with(&format!("found {row:?}")),
                "{layer}: {error}"
            );
        }
    }
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
        (r#""conv1d", "filters": 0, "kernel_size": 1"#, "filters: expected at least 1, found 0"),
        (r#""conv1d", "filters": 1, "kernel_size": 0"#, "kernel_size: expected at least 1, found 0"),
        (
            r#""conv1d", "filters": 1, "kernel_size": 1, "strides": 0"#,
            "strides: expected at least 1, found 0",
        ),
        (r#""conv2d", "filters": 0, "kernel_size": 1"#, "filters: expected at least 1, found 0"),
        (
            r#""conv2d", "filters": 1, "kernel_size": [0, 1]"#,
            "kernel_size: expected at least 1, found [0, 1]",
        ),
        (
            r#""conv2d", "filters": 1, "kernel_size": 1, "dilation_rate": [1, 0]"#,
            "dilation_rate: expected at least 1, found [1, 0]",
        ),
        (
            r#""spectral_normalization", "inner": {"layer": "dense", "units": 1}, "power_iterations": 0"#,
            "power_iterations: expected at least 1, found 0",
        ),
        (r#""up_sampling2d", "size": 0"#, "size: expected at least 1, found [0, 0]"),
        (r#""embedding", "input_dim": 0, "output_dim": 1"#, "input_dim: expected at least 1, found 0"),
        (r#""label_embedding", "classes": 1, "units": 0"#, "units: expected at least 1, found 0"),
        (r#""leaky_relu", "negative_slope": -0.5"#, "negative_slope: expected a number >= 0, found -0.5"),
        (
            r#""activation", "activation": {"leaky_relu": {"negative_slope": -1}}"#,
            "negative_slope: expected a number >= 0, found -1",
        ),
        (
            r#""dense", "units": 1, "activation": {"elu": {"alpha": -1}}"#,
            "alpha: expected a number >= 0, found -1",
        ),
        (r#""minibatch_std", "group": 1"#, "group: expected at least 2, found 1"),
        (
            r#""spectral_normalization", "inner": {"layer": "layer_normalization"}"#,
            "inner: expected a layer with a kernel, found layer_normalization",
        ),
        (r#""projection", "classes": 2"#, "expected rows of [features], found [4, 4, 2]"),
        (
            r#""lambda", "expression": "sum(x, axis=4)""#,
            "with an axis 4 beside the batch, found [2, 4, 4, 2]",
        ),
    ] {
        let error = network([4, 4, 2], &format!(r#"[{{"layer": {layer}}}]"#)).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}
