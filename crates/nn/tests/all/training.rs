//! Networks and models: what learns, what stays, what is saved, and what is refused.

use nn::layers::{Dense, LayerConfig, Sequential};
use nn::{Activation, Error, Fit, Layer, Loss, Model, Network, Optimizer, Scalar, Tensor, Wanted, Workspace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn dense<T: Scalar>(units: usize, activation: Activation) -> Box<dyn Layer<T>> {
    Box::new(Dense { activation, ..Dense::new(units) })
}

/// Dense 4, then a container of Dense 3 and Dense 1.
fn network<T: Scalar>(seed: u64) -> Network<T> {
    let inner = vec![dense(3, Activation::Tanh), dense(1, Activation::Sigmoid)];
    let layers: Vec<Box<dyn Layer<T>>> = vec![dense(4, Activation::Tanh), Box::new(Sequential::new(inner))];
    Network::new([2], layers, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
}

fn model(seed: u64) -> Model<f64> {
    Model::new(network(seed), Loss::BINARY_CROSSENTROPY, Optimizer::adam(0.05)).unwrap()
}

/// The four cases of exclusive or.
fn xor() -> (Tensor<f64>, Tensor<f64>) {
    let inputs = Tensor::from_vec([4, 2], vec![0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]).unwrap();
    (inputs, Tensor::from_vec([4, 1], vec![0.0, 1.0, 1.0, 0.0]).unwrap())
}

/// Which of the layers a training step changes.
fn changed_by_a_step(model: &mut Model<f64>) -> Vec<bool> {
    let values = |model: &Model<f64>| -> Vec<_> {
        model.network().parameters().iter().map(|p| p.value.clone()).collect()
    };
    let before = values(model);
    let (x, y) = xor();
    model.train_on_batch(x.view(), y.view()).unwrap();
    let after = values(model);
    before.chunks(2).zip(after.chunks(2)).map(|(before, after)| before != after).collect()
}

#[test]
fn trainable_is_read_at_every_step() {
    let mut model = model(1);
    assert_eq!(changed_by_a_step(&mut model), [true, true, true]);
    model.network_mut().set_layer_trainable(&[0], false).unwrap();
    assert_eq!(changed_by_a_step(&mut model), [false, true, true]);
    model.network_mut().set_layer_trainable(&[1], false).unwrap();
    assert_eq!(changed_by_a_step(&mut model), [false, false, false]);
    // The first layer learns through two frozen ones.
    model.network_mut().set_layer_trainable(&[0], true).unwrap();
    assert_eq!(changed_by_a_step(&mut model), [true, false, false]);
    model.network_mut().set_layer_trainable(&[1, 1], true).unwrap();
    assert_eq!(changed_by_a_step(&mut model), [true, false, true]);
    model.network_mut().set_trainable(true);
    assert_eq!(changed_by_a_step(&mut model), [true, true, true]);
    let error = model.network_mut().set_layer_trainable(&[1, 2], true).unwrap_err().to_string();
    assert_eq!(error, "set_layer_trainable: path: expected the numbers of layers, found [1, 2]");
}

#[test]
fn nothing_is_computed_that_nobody_wants() {
    let mut network = network::<f64>(1);
    network.set_layer_trainable(&[0], false).unwrap();
    let (x, _) = xor();
    let (mut workspace, mut gradients) = (Workspace::default(), network.gradients());
    gradients.iter_mut().for_each(|gradient| gradient.fill(1e6));
    let grad_output = Tensor::full([4, 1], 1.0);
    network.forward(x.view(), &mut workspace).unwrap();
    let wanted = Wanted { input: false, parameters: true };
    network.backward(x.view(), grad_output.view(), wanted, &mut gradients, &mut workspace).unwrap();
    let untouched: Vec<bool> = gradients.iter().map(|g| g.data().iter().all(|&x| x == 1e6)).collect();
    assert_eq!(untouched, [true, true, false, false, false, false]);
    assert!(workspace.children[0].grad_input.data().is_empty(), "the first layer's input needs no gradient");
    assert!(
        workspace.children[1].children[0].grad_input.data().is_empty(),
        "nor does a frozen layer's output"
    );
}

#[test]
fn fit_learns_exclusive_or() {
    let (x, y) = xor();
    let mut model = model(2);
    let settings = Fit { epochs: 400, batch: 3, validation: Some((x.view(), y.view())) };
    let history = model.fit(x.view(), y.view(), settings, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
    let last = history.last().unwrap().validation.unwrap();
    assert_eq!((history.len(), last.accuracy), (400, 1.0));
    assert!(last.loss < 0.05, "loss {}", last.loss);
    assert_eq!(model.evaluate(x.view(), y.view(), 3).unwrap(), last);
    let predictions = model.predict(x.view()).unwrap();
    assert!(predictions.data().iter().zip(y.data()).all(|(p, y)| (p - y).abs() < 0.2));
}

#[test]
fn batches_count_by_their_rows() {
    let ((x, y), mut model) = (xor(), model(2));
    let all = model.test_on_batch(x.view(), y.view()).unwrap();
    assert!(all.accuracy > 0.0);
    let uneven = model.evaluate(x.view(), y.view(), 3).unwrap();
    assert!((all.loss - uneven.loss).abs() < 1e-12 && all.accuracy == uneven.accuracy, "{all:?} {uneven:?}");
    let nothing = Tensor::zeros([0, 2]);
    for (x, y) in [(x.view(), Tensor::zeros([3, 1])), (nothing.view(), Tensor::zeros([0, 1]))] {
        assert!(matches!(model.evaluate(x, y.view(), 4), Err(Error::Shape { .. })));
    }
}

#[test]
fn batches_of_no_rows_are_refused() {
    let ((x, y), mut model) = (xor(), model(2));
    let settings = Fit { epochs: 1, batch: 0, validation: None };
    let fitted = model.fit(x.view(), y.view(), settings, &mut ChaCha8Rng::seed_from_u64(1)).unwrap_err();
    let evaluated = model.evaluate(x.view(), y.view(), 0).unwrap_err();
    for error in [fitted, evaluated] {
        assert_eq!(error.to_string(), "model: batch: expected at least 1, found 0");
    }
}

#[test]
fn the_same_seed_gives_the_same_model() {
    let train = |seed| {
        let (x, y) = xor();
        let mut model = model(seed);
        let settings = Fit { epochs: 5, batch: 2, validation: None };
        model.fit(x.view(), y.view(), settings, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
        model.network().to_safetensors().unwrap()
    };
    assert_eq!(train(4), train(4));
    assert_ne!(train(4), train(5));
}

#[test]
fn a_weight_that_is_not_finite_is_named() {
    let sgd = nn::Sgd { learning_rate: f64::MAX, ..nn::Sgd::default() };
    let mut model = Model::new(network(1), Loss::MeanSquaredError, Optimizer::Sgd(sgd)).unwrap();
    let (x, y) = (Tensor::full([1, 2], 1e3), Tensor::full([1, 1], 1e5));
    let error = model.train_on_batch(x.view(), y.view()).unwrap_err();
    assert!(matches!(&error, Error::NotFinite { what, .. } if what.starts_with("network.")), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let mut model = model(1);
    let before = model.network().to_safetensors().unwrap();
    let (x, y) = (Tensor::full([1, 2], f64::NAN), Tensor::full([1, 1], 1.0));
    let error = model.train_on_batch(x.view(), y.view()).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }));
    assert_eq!(error.to_string(), "the loss is NaN: expected a finite number");
    assert_eq!(before, model.network().to_safetensors().unwrap());
}

#[test]
fn a_sigmoid_and_its_loss_are_computed_from_the_logit() {
    let layers = vec![dense(1, Activation::Sigmoid)];
    let mut network = Network::<f64>::new([1], layers, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    network.parameters_mut()[0].value.fill(1.0);
    let mut model = Model::new(network, Loss::BINARY_CROSSENTROPY, Optimizer::adam(0.1)).unwrap();
    let (x, y) = (Tensor::full([1, 1], -800.0), Tensor::full([1, 1], 1.0));
    let score = model.train_on_batch(x.view(), y.view()).unwrap();
    assert_eq!((score.loss, score.accuracy), (800.0, 0.0));
    assert!(
        (model.network().parameters()[1].value.data()[0] - 0.1).abs() < 1e-6,
        "the bias followed its gradient"
    );
}

#[test]
fn weights_survive_a_round_trip() {
    fn check<T: Scalar>() {
        let (saved, mut loaded) = (network::<T>(1), network::<T>(2));
        assert_ne!(saved.parameters(), loaded.parameters());
        loaded.load_safetensors(&saved.to_safetensors().unwrap()).unwrap();
        assert_eq!(saved.parameters(), loaded.parameters());
        assert_eq!(saved.to_safetensors().unwrap(), loaded.to_safetensors().unwrap(), "bit for bit");
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn weights_that_do_not_fit_are_refused_whole() {
    let mut network = network::<f32>(1);
    let before = network.to_safetensors().unwrap();
    let mut refuse = |bytes: &[u8], message: &str| {
        let error = network.load_safetensors(bytes).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
        assert_eq!(before, network.to_safetensors().unwrap());
    };
    let other = |units: usize| {
        let rng = &mut ChaCha8Rng::seed_from_u64(0);
        Network::<f32>::new([2], vec![dense(units, Activation::Linear)], rng).unwrap()
    };
    refuse(&other(3).to_safetensors().unwrap(), "weights: 0.kernel: expected shape [2, 4], found [2, 3]");
    refuse(
        &other(4).to_safetensors().unwrap(),
        "weights: 1.kernel: expected a tensor of this name, found none",
    );
    refuse(&self::network::<f64>(1).to_safetensors().unwrap(), "weights: 0.kernel: expected F32, found F64");
    refuse(
        &before[..before.len() - 1],
        "weights: file: expected bytes of the SHA-256 in its header, found others",
    );
    refuse(b"nonsense", "weights: file: expected a whole safetensors file, found ");
    let mut poisoned = self::network::<f32>(1);
    poisoned.parameters_mut()[3].value.data_mut()[0] = f32::NAN;
    refuse(&poisoned.to_safetensors().unwrap(), "weights: 1.bias: expected finite numbers, found NaN");
}

#[test]
fn a_summary_is_a_table() {
    let mut network = network::<f32>(1);
    network.set_layer_trainable(&[1, 0], false).unwrap();
    let expected = "\
layer         output shape  parameters  trainable
0 dense       [4]                   12  yes
1 sequential  [1]                   19  partly
  0 dense     [3]                   15  no
  1 dense     [1]                    4  yes
parameters: 31, trainable: 16
";
    assert_eq!(network.summary(), expected);
}

#[test]
fn shapes_that_do_not_fit_are_named_with_their_layer() {
    let build = |text: &str| {
        let layers: Vec<LayerConfig> = serde_json::from_str(text).unwrap();
        let layers = layers.iter().map(LayerConfig::build::<f32>).collect();
        Network::new([6], layers, &mut ChaCha8Rng::seed_from_u64(0)).unwrap_err().to_string()
    };
    assert_eq!(
        build(r#"[{"layer": "dense", "units": 4}, {"layer": "reshape", "target_shape": [3]}]"#),
        "layer 1 (reshape): expected rows of 3 elements for [3], found [4]"
    );
    assert_eq!(
        build(r#"[{"layer": "conv1d", "filters": 1, "kernel_size": 1}]"#),
        "layer 0 (conv1d): expected rows of [steps, channels], found [6]"
    );
    let error = network::<f32>(1).predict(Tensor::zeros([1, 3]).view()).unwrap_err().to_string();
    assert_eq!(error, "network input: expected a batch of rows [2], found [1, 3]");
}

#[test]
fn configurations_are_strict() {
    let parse = |text: &str| serde_json::from_str::<LayerConfig>(text);
    for activation in [r#""leaky_relu""#, r#"{"leaky_relu": {"negative_slope": 0.2}}"#] {
        let layer =
            parse(&format!(r#"{{"layer": "dense", "units": 2, "activation": {activation}}}"#)).unwrap();
        let LayerConfig::Dense(dense) = &layer else { panic!("{layer:?}") };
        assert_eq!(dense.activation, Activation::LeakyRelu { negative_slope: 0.2 });
        let text = serde_json::to_string(&layer).unwrap();
        assert_eq!(parse(&text).unwrap(), layer);
    }
    for text in [
        r#"{"layer": "dense", "units": 2, "unit": 3}"#,
        r#"{"layer": "conv1d", "filters": 2, "kernel_size": 2, "stride": 1}"#,
        r#"{"layer": "activation", "activation": "relu", "slope": 1}"#,
        r#"{"layer": "leaky_relu", "alpha": 1}"#,
        r#"{"layer": "reshape", "target_shape": [1], "shape": [1]}"#,
        r#"{"layer": "lambda", "expression": "x", "axis": 1}"#,
        r#"{"layer": "sequential", "layers": [], "name": "a"}"#,
        r#"{"layer": "sequential", "layers": [{"layer": "flatten", "axis": 1}]}"#,
        r#"{"layer": "flatten", "units": 2}"#,
        r#"{"layer": "dense", "units": 2, "activation": {"elu": {"alpha": 1, "beta": 2}}}"#,
        r#"{"layer": "dense", "units": 2, "activation": {"relu": {}}}"#,
        r#"{"layer": "dens", "units": 2}"#,
        r#"{"layer": "dense", "units": 2, "activation": "rellu"}"#,
        r#"{"layer": "dense"}"#,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    let error = parse(r#"{"layer": "dense", "units": 2, "activation": "rellu"}"#).unwrap_err().to_string();
    let names = "linear, relu, leaky_relu, elu, sigmoid, tanh, softplus, silu or softmax";
    assert!(error.contains(names), "{error}");
}
