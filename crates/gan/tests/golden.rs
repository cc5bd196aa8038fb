//! Runs every case of a folder of golden values (see `golden/README.md`) and prints a line a case.
//!
//! Usage: `golden [DIR]`; without DIR, the folder in this repository. Fails if any case fails.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gan::{Objective, Penalty, Rules, Trainer, evaluate};
use nn::layers::LayerConfig;
use nn::weights::Reader;
use nn::{Loss, Mode, Network, Optimizer, OptimizerState, Parameter, Wanted, Workspace};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use tensor_ops::{Shape, Tensor};

/// Relative to the larger of 1 and the value.
const TOLERANCE: f64 = 1e-10;
/// Over whole runs rounding adds up.
const RUN_TOLERANCE: f64 = 1e-9;

type Failure = Box<dyn std::error::Error>;

/// What became of a case.
enum Outcome {
    /// The largest relative error.
    Compared(f64, f64),
    Unsupported,
}

fn main() -> ExitCode {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map_or(default, PathBuf::from);
    match run(&folder) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Runs all cases; the number of those that failed.
fn run(folder: &Path) -> Result<usize, Failure> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err("expected safetensors files, found none".into());
    }
    let (mut ok, mut failed, mut unsupported) = (0, 0, 0);
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let line = match run_file(&file) {
            Ok(Outcome::Compared(error, tolerance)) if error <= tolerance => {
                ok += 1;
                format!("ok           {error:.1e}")
            }
            Ok(Outcome::Compared(error, tolerance)) => {
                failed += 1;
                format!("FAIL         {error:.1e}, above {tolerance:.0e}")
            }
            Ok(Outcome::Unsupported) => {
                unsupported += 1;
                "unsupported".to_owned()
            }
            Err(error) => {
                failed += 1;
                format!("FAIL         {error}")
            }
        };
        println!("{name:<36} {line}");
    }
    println!("{ok} ok, {failed} FAIL, {unsupported} unsupported");
    Ok(failed)
}

fn run_file(path: &Path) -> Result<Outcome, Failure> {
    let bytes = std::fs::read(path)?;
    let file = Reader::new(&bytes)?;
    let case: Map<String, Value> = serde_json::from_str(file.metadata("case").ok_or("no metadata `case`")?)?;
    match text(&case, "kind") {
        "layer" => run_layer(&case, &file),
        "loss" => run_loss(&case, &file),
        "optimizer" => run_optimizer(&case, &file),
        "gan" => run_gan(&case, &file),
        "metric" => run_metric(&case, &file),
        "objective" => run_objective(&case, &file),
        "penalty" => run_penalty(&case, &file),
        _ => Ok(Outcome::Unsupported),
    }
}

fn text<'a>(case: &'a Map<String, Value>, key: &str) -> &'a str {
    case.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(case: &Map<String, Value>, key: &str) -> Result<f64, Failure> {
    Ok(case.get(key).and_then(Value::as_f64).ok_or_else(|| format!("no number `{key}`"))?)
}

/// The largest difference, relative to the larger of 1 and the value. A wrong shape is an infinite difference.
fn compare(found: &Tensor<f64>, expected: &Tensor<f64>) -> f64 {
    if found.shape() != expected.shape() {
        return f64::INFINITY;
    }
    let error = |(a, b): (&f64, &f64)| (a - b).abs() / b.abs().max(1.0);
    found.data().iter().zip(expected.data()).map(error).fold(0.0, worse)
}

/// The larger of two errors, where NaN is the largest of all.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The layer that a Keras class with its constructor's arguments stands for; `None` for one we do not have.
fn layer_of(case: &Map<String, Value>) -> Result<Option<LayerConfig>, Failure> {
    let mut config = case.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    let name = match text(case, "layer") {
        "Dense" => "dense",
        "Conv1D" => "conv1d",
        "Conv2D" => "conv2d",
        "Conv2DTranspose" => "conv2d_transpose",
        "Activation" => "activation",
        "LeakyReLU" => "leaky_relu",
        "Reshape" => "reshape",
        "Flatten" => "flatten",
        "BatchNormalization" => "batch_normalization",
        "LayerNormalization" => "layer_normalization",
        "MaxPooling2D" => "max_pooling2d",
        "AveragePooling2D" => "average_pooling2d",
        "GlobalAveragePooling2D" => "global_average_pooling2d",
        "UpSampling2D" => "up_sampling2d",
        "GroupNormalization" => "group_normalization",
        "Lambda" => {
            let formula = config.remove("doc").unwrap_or_default();
            let formula = formula.as_str().unwrap_or_default();
            let formula = formula.replace("concatenate(", "concat(").replace(", keepdims", "");
            config.insert("expression".to_owned(), formula.into());
            "lambda"
        }
        _ => return Ok(None),
    };
    config.insert("layer".to_owned(), name.into());
    Ok(Some(serde_json::from_value(config.into())?))
}

fn run_layer(case: &Map<String, Value>, file: &Reader<'_>) -> Result<Outcome, Failure> {
    let Some(config) = layer_of(case)? else { return Ok(Outcome::Unsupported) };
    let (input, upstream) = (file.any_tensor::<f64>("input")?, file.any_tensor("upstream")?);
    let mut network = network(input.shape().without_first(), vec![config])?;
    for parameter in network.parameters_mut() {
        let kind = if parameter.learned { "param" } else { "state" };
        parameter.value = file.tensor(&format!("{kind}.{}", parameter.name), parameter.value.shape())?;
    }
    let training = case.get("training").and_then(Value::as_bool) == Some(true);
    let mode = if training { Mode::Training { noise: 0 } } else { Mode::Inference };
    let (mut workspace, mut gradients) = (Workspace::default(), network.gradients());
    workspace.mode = mode;
    let output = network.forward(input.view(), &mut workspace)?.to_tensor();
    let wanted = Wanted { input: true, parameters: true };
    let grad_input =
        network.backward(input.view(), upstream.view(), wanted, &mut gradients, &mut workspace)?.to_tensor();
    let mut error = compare(&output, &file.any_tensor("output")?);
    error = worse(error, compare(&grad_input, &file.any_tensor("grad.input")?));
    network.advance(&gradients)?;
    for (parameter, gradient) in network.parameters().iter().zip(&gradients) {
        let (found, kind) =
            if parameter.learned { (gradient, "grad") } else { (&parameter.value, "state_after") };
        error = worse(error, compare(found, &file.any_tensor(&format!("{kind}.{}", parameter.name))?));
    }
    Ok(Outcome::Compared(error, TOLERANCE))
}

fn network(input: Shape, layers: Vec<LayerConfig>) -> Result<Network<f64>, Failure> {
    let layers = layers.iter().map(LayerConfig::build).collect();
    Ok(Network::new(input, layers, &mut ChaCha8Rng::seed_from_u64(0))?)
}

fn run_loss(case: &Map<String, Value>, file: &Reader<'_>) -> Result<Outcome, Failure> {
    let mut config = case.clone();
    config.remove("kind");
    let Ok(loss) = serde_json::from_value::<Loss>(config.into()) else { return Ok(Outcome::Unsupported) };
    let (prediction, target) = (file.any_tensor::<f64>("prediction")?, file.any_tensor("target")?);
    let mut gradient = Tensor::default();
    let value = loss.value_and_gradient(prediction.view(), target.view(), &mut gradient)?;
    let error = compare(&Tensor::full([1], value), &file.any_tensor("value")?);
    Ok(Outcome::Compared(worse(error, compare(&gradient, &file.any_tensor("grad.prediction")?)), TOLERANCE))
}

fn run_optimizer(case: &Map<String, Value>, file: &Reader<'_>) -> Result<Outcome, Failure> {
    let mut config = case.clone();
    let steps = number(case, "steps")? as usize;
    config.remove("steps");
    let name = config.remove("optimizer").unwrap_or_default();
    config.insert("kind".to_owned(), name);
    let Ok(optimizer) = serde_json::from_value::<Optimizer>(config.into()) else {
        return Ok(Outcome::Unsupported);
    };
    let mut parameters = Vec::new();
    while let Ok(value) = file.any_tensor::<f64>(&format!("param0.{}", parameters.len())) {
        parameters.push(Parameter {
            layer: parameters.len(),
            name: "kernel",
            value,
            trainable: true,
            learned: true,
        });
    }
    let mut state = OptimizerState::new(&optimizer, &parameters);
    let mut error = 0.0;
    for step in 0..steps {
        let gradient = |k| file.any_tensor(&format!("grad.{step}.{k}"));
        let gradients = (0..parameters.len()).map(gradient).collect::<nn::Result<Vec<_>>>()?;
        state.update(&optimizer, &mut parameters, &gradients)?;
        for (k, parameter) in parameters.iter().enumerate() {
            error = worse(error, compare(&parameter.value, &file.any_tensor(&format!("param.{step}.{k}"))?));
        }
    }
    Ok(Outcome::Compared(error, TOLERANCE))
}

/// The notebook's networks of the case's sizes, with the weights called `prefix.g.I.NAME` and `prefix.d.I.NAME`.
fn notebook(case: &Map<String, Value>, file: &Reader<'_>) -> Result<Trainer<f64>, Failure> {
    let size = |key| Ok::<_, Failure>(number(case, key)? as usize);
    let (features, g_width, d_width) = (size("ni_D")?, size("nh_G")?, size("nh_D")?);
    let generator: Vec<LayerConfig> = serde_json::from_value(json!([
        { "layer": "reshape", "target_shape": [features, 1] },
        { "layer": "conv1d", "filters": g_width, "kernel_size": 1, "activation": "relu" },
        { "layer": "conv1d", "filters": g_width, "kernel_size": 1, "activation": "sigmoid" },
        { "layer": "conv1d", "filters": 1, "kernel_size": 1 },
        { "layer": "flatten" },
    ]))?;
    let discriminator: Vec<LayerConfig> = serde_json::from_value(json!([
        { "layer": "lambda", "expression": "concat([x, square(x - mean(x, axis=1))], axis=1)" },
        { "layer": "dense", "units": d_width, "activation": "relu" },
        { "layer": "dense", "units": d_width, "activation": "relu" },
        { "layer": "dense", "units": 1, "activation": "sigmoid" },
    ]))?;
    let optimizer: Optimizer = serde_json::from_value(json!({
        "kind": "adam",
        "learning_rate": number(case, "learning_rate")?,
        "beta_1": number(case, "beta_1")?,
        "beta_2": number(case, "beta_2")?,
        "epsilon": number(case, "epsilon")?,
    }))?;
    let input = Shape::from([features]);
    let generator = (network(input, generator)?, optimizer);
    let mut trainer = Trainer::new(generator, (network(input, discriminator)?, optimizer), Rules::default())?;
    for (key, parameter) in keyed(&mut trainer) {
        parameter.value = file.tensor(&format!("init.{key}"), parameter.value.shape())?;
    }
    Ok(trainer)
}

/// All parameters of a trainer, by the names that cases give them.
fn keyed(trainer: &mut Trainer<f64>) -> Vec<(String, &mut Parameter<f64>)> {
    let (generator, discriminator) = trainer.networks_mut();
    let networks = [("g", generator), ("d", discriminator)].into_iter();
    networks
        .flat_map(|(prefix, network)| network.parameters_mut().iter_mut().map(move |p| (prefix, p)))
        .map(|(prefix, parameter)| (format!("{prefix}.{}", parameter.key()), parameter))
        .collect()
}

fn run_gan(case: &Map<String, Value>, file: &Reader<'_>) -> Result<Outcome, Failure> {
    let mut trainer = notebook(case, file)?;
    let mut error = 0.0;
    let mut check = |found: f64, name: String| -> Result<(), Failure> {
        error = worse(error, compare(&Tensor::full([1], found), &file.any_tensor(&name)?));
        Ok(())
    };
    let (epochs, steps) = (number(case, "epochs")? as usize, number(case, "n_iter_G")? as usize);
    let mut weights_error = 0.0;
    for e in 0..epochs {
        let real = file.any_tensor::<f64>(&format!("real.{e}"))?;
        let latent = file.any_tensor::<f64>(&format!("z_d.{e}"))?;
        let score = trainer.discriminator_step(real.view(), latent.view(), None)?;
        check(score.loss, format!("d_loss.{e}"))?;
        check(score.accuracy, format!("d_accuracy.{e}"))?;
        for j in 0..steps {
            let latent = file.any_tensor::<f64>(&format!("z_g.{e}.{j}"))?;
            let score = trainer.generator_step(latent.view(), None)?;
            check(score.loss, format!("g_loss.{e}.{j}"))?;
            check(score.accuracy, format!("g_accuracy.{e}.{j}"))?;
        }
        for (key, parameter) in keyed(&mut trainer) {
            let expected = file.any_tensor(&format!("after.{e}.{key}"))?;
            weights_error = worse(weights_error, compare(&parameter.value, &expected));
        }
    }
    let output = trainer.generator().predict(file.any_tensor::<f64>("final_z")?.view())?;
    let output_error = compare(&output, &file.any_tensor("final_output")?);
    Ok(Outcome::Compared(worse(worse(error, weights_error), output_error), RUN_TOLERANCE))
}

fn run_metric(case: &Map<String, Value>, file: &Reader<'_>) -> Result<Outcome, Failure> {
    let a = file.any_tensor::<f64>("a")?;
    let b = || file.any_tensor::<f64>("b");
    let value = match (text(case, "metric"), text(case, "distribution")) {
        ("ks_two_sample", _) => evaluate::ks_two_sample(a.data(), b()?.data()),
        ("wasserstein_1", _) => evaluate::wasserstein_1(a.data(), b()?.data()),
        ("ks_one_sample", "normal") => {
            evaluate::ks_normal(a.data(), number(case, "mean")?, number(case, "std")?)
        }
        ("energy_distance", _) => evaluate::energy_distance(a.data(), b()?.data()),
        ("mmd_rbf", _) => evaluate::mmd_rbf(a.view(), b()?.view(), number(case, "bandwidth")?),
        ("frechet_distance", _) => evaluate::frechet_distance(a.view(), b()?.view())?,
        _ => return Ok(Outcome::Unsupported),
    };
    Ok(Outcome::Compared(compare(&Tensor::full([1], value), &file.any_tensor("value")?), TOLERANCE))
}

fn run_objective(case: &Map<String, Value>, file: &Reader<'_>) -> Result<Outcome, Failure> {
    let Ok(objective) = serde_json::from_value::<Objective>(json!({ "kind": text(case, "objective") }))
    else {
        return Ok(Outcome::Unsupported);
    };
    let (real, fake) = (file.any_tensor::<f64>("real_logits")?, file.any_tensor::<f64>("fake_logits")?);
    let rows = real.shape().len();
    let logits = Tensor::from_vec([2 * rows, 1], [real.data(), fake.data()].concat())?;
    let (mut of_d, mut of_g) = (Tensor::default(), Tensor::default());
    let d_loss = objective.judge_discriminator(logits.view(), rows, &mut of_d).loss;
    let g_loss = objective.judge_generator(real.view(), fake.view(), rows, &mut of_g).loss;
    let mut error = compare(&of_g, &file.any_tensor("grad_g.fake_logits")?);
    for (name, rows) in [("real", 0..rows), ("fake", rows..2 * rows)] {
        let gradient = of_d.view().rows(rows)?.to_tensor();
        error = worse(error, compare(&gradient, &file.any_tensor(&format!("grad_d.{name}_logits"))?));
    }
    for (name, loss) in [("d_loss", d_loss), ("g_loss", g_loss)] {
        error = worse(error, compare(&Tensor::full([1], loss), &file.any_tensor(name)?));
    }
    Ok(Outcome::Compared(error, TOLERANCE))
}

fn run_penalty(case: &Map<String, Value>, file: &Reader<'_>) -> Result<Outcome, Failure> {
    let (weight, slope) = (number(case, "weight")?, number(case, "negative_slope")?);
    let penalty = match text(case, "penalty") {
        "r1" => Penalty { r1: weight, ..Penalty::default() },
        "wgan_gp" => Penalty { wgan_gp: weight, ..Penalty::default() },
        _ => return Ok(Outcome::Unsupported),
    };
    let activation = match text(case, "activation") {
        "leaky_relu" => json!({ "leaky_relu": { "negative_slope": slope } }),
        name => json!(name),
    };
    let mut layers = Vec::new();
    if case.get("add_decorate").and_then(Value::as_bool) == Some(true) {
        layers.push(
            json!({ "layer": "lambda", "expression": "concat([x, square(x - mean(x, axis=1))], axis=1)" }),
        );
    }
    for layer in 0.. {
        let Ok(bias) = file.any_tensor::<f64>(&format!("param.{layer}.bias")) else { break };
        let units = bias.shape().len();
        let last = units == 1;
        let activation = if last { json!("linear") } else { activation.clone() };
        layers.push(json!({ "layer": "dense", "units": units, "activation": activation }));
    }
    let real = file.any_tensor::<f64>("real")?;
    let mut discriminator = network(real.shape().without_first(), serde_json::from_value(layers.into())?)?;
    for parameter in discriminator.parameters_mut() {
        parameter.value = file.tensor(&format!("param.{}", parameter.key()), parameter.value.shape())?;
    }
    let fake = file.any_tensor("fake").unwrap_or_else(|_| real.clone());
    let mixing = file.any_tensor("alpha").unwrap_or_default();
    let mut gradients = discriminator.gradients();
    let rows = [real.view(), fake.view()];
    let value = penalty.value_and_gradient(&discriminator, rows, mixing.view(), &mut gradients)?;
    let mut error = compare(&Tensor::full([1], value), &file.any_tensor("value")?);
    for (parameter, gradient) in discriminator.parameters().iter().zip(&gradients) {
        error = worse(error, compare(gradient, &file.any_tensor(&format!("grad.{}", parameter.key()))?));
    }
    Ok(Outcome::Compared(error, TOLERANCE))
}
