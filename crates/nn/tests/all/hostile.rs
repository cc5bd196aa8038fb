//! Whatever a caller passes is computed or refused: no panic, whatever the settings, shapes, numbers and buffers.
//!
//! Each layer is built with settings that may be 0 or the largest, and called with parameters, inputs, gradients and
//! workspaces that belong to each other but for what is spoilt on purpose.

use std::sync::atomic::{AtomicUsize, Ordering};

use nn::layers::{Branches, Expression, LayerConfig, Sequential};
use nn::{
    Activation, Dual, Fit, Initializer, Layer, Load, Loss, Mode, Model, Network, Optimizer, OptimizerState,
    Parameter, ParameterSpec, Scalar, Schedule, ScheduleShape, Shape, Shards, Tensor, View, Wanted,
    Workspace, clip_norm, gradcheck, metrics, weights,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn seeded() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(1)
}

/// The number of a setting, as JSON has it.
fn setting() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1..4_usize, 1 => Just(0), 1 => Just(usize::MAX)]
}

fn activation() -> impl Strategy<Value = &'static str> {
    select(&["linear", "relu", "silu", "softmax", "tanh"][..])
}

const EXPRESSIONS: [&str; 6] = [
    "x",
    "concat([x, square(x - mean(x, axis=1))], axis=1)",
    "concat([x, x / 2, exp(x)], axis=-1)",
    "sum(x, axis=-1) * x^3 - log(x)",
    "sum(x, axis=3) + sqrt(abs(x)) / x",
    "mean(x, axis=2) - silu(x)",
];

/// A layer, as JSON.
fn layer() -> impl Strategy<Value = String> {
    let plain = (
        0..21_usize,
        [setting(), setting(), setting(), setting()],
        activation(),
        any::<bool>(),
        -1.0..2.0_f64,
    );
    let plain = plain.prop_map(|(kind, [a, b, c, d], activation, yes, x)| {
        let padding = if yes { "same" } else { "valid" };
        match kind {
            0 => format!(r#""dense", "units": {a}, "activation": "{activation}", "use_bias": {yes}"#),
            1 => format!(
                r#""conv1d", "filters": {a}, "kernel_size": {b}, "strides": {c}, "dilation_rate": {d}, "padding": "{padding}""#
            ),
            2 | 3 => format!(
                r#""conv2d{}", "filters": {a}, "kernel_size": {b}, "strides": [{c}, 1], "dilation_rate": [1, {d}],
                   "padding": "{padding}", "activation": "{activation}""#,
                if kind == 2 { "" } else { "_transpose" }
            ),
            4 => format!(r#""activation", "activation": "{activation}""#),
            5 => format!(r#""leaky_relu", "negative_slope": {x}"#),
            6 => format!(r#""reshape", "target_shape": [{a}, {b}, {c}]"#),
            7 => r#""flatten""#.to_owned(),
            8 => format!(r#""lambda", "expression": "{}""#, EXPRESSIONS[a % EXPRESSIONS.len()]),
            9 => format!(r#""minibatch_std", "group": {a}"#),
            10 => format!(r#""batch_normalization", "momentum": {x}, "scale": {yes}"#),
            11 => format!(r#""layer_normalization", "epsilon": {x}, "center": {yes}"#),
            12 => format!(r#""group_normalization", "groups": {a}"#),
            13 => format!(r#""dropout", "rate": {x}"#),
            14 | 15 => format!(
                r#""{}_pooling2d", "pool_size": {a}, "strides": [{b}, {c}], "padding": "{padding}""#,
                if kind == 14 { "max" } else { "average" }
            ),
            16 => r#""global_average_pooling2d""#.to_owned(),
            17 => format!(
                r#""up_sampling2d", "size": [{a}, {b}], "interpolation": "{}""#,
                if yes { "nearest" } else { "bilinear" }
            ),
            18 => format!(r#""embedding", "input_dim": {a}, "output_dim": {b}"#),
            19 => format!(r#""label_embedding", "classes": {a}, "units": {b}"#),
            _ => format!(r#""projection", "classes": {a}"#),
        }
    });
    let plain = plain.prop_map(|inside| format!(r#"{{ "layer": {inside} }}"#));
    plain.prop_recursive(2, 6, 3, |inside| {
        prop_oneof![
            vec(inside.clone(), 0..3).prop_map(|l| format!(r#"{{ "layer": "sequential", "layers": [{}] }}"#, l.join(", "))),
            (any::<bool>(), vec(vec(inside.clone(), 0..2), 0..3)).prop_map(|(add, branches)| {
                let name = if add { "add" } else { "concatenate" };
                let branches: Vec<_> = branches.iter().map(|l| format!("[{}]", l.join(", "))).collect();
                format!(r#"{{ "layer": "{name}", "branches": [{}] }}"#, branches.join(", "))
            }),
            (inside, 0..3_usize).prop_map(|(inner, count)| {
                format!(r#"{{ "layer": "spectral_normalization", "inner": {inner}, "power_iterations": {count} }}"#)
            }),
        ]
    })
}

fn row() -> impl Strategy<Value = Vec<usize>> {
    let usual = select(vec![vec![3], vec![4, 2], vec![4, 4, 2], vec![5, 4, 1], vec![2]]);
    prop_oneof![6 => usual, 1 => vec(0..3_usize, 0..=6)]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.0..3.0_f64, 1 => prop::num::f64::ANY]
}

fn tensor(shape: Shape, numbers: &[f64]) -> Tensor<f64> {
    let mut numbers = numbers.iter().cycle();
    Tensor::from_fn(shape, || *numbers.next().unwrap())
}

/// All that the passes of a layer are given.
#[derive(Clone)]
struct Passes {
    parameters: Vec<Parameter<f64>>,
    gradients: Vec<Tensor<f64>>,
    input: Tensor<f64>,
    input_tangent: Tensor<f64>,
    grad_output: Tensor<f64>,
    grad_tangent: Tensor<f64>,
    workspace: Workspace<f64>,
    tangents: Workspace<f64>,
    wanted: Wanted,
}

impl Passes {
    /// Parameters that fit where there are some, else none.
    fn new(layer: &dyn Layer<f64>, row: &[usize], batch: usize, numbers: &[f64], wanted: Wanted) -> Self {
        let row = Shape::new(row).unwrap();
        let input = tensor(row.with_first(batch).unwrap_or(row), numbers);
        let small = |specs: &Vec<nn::ParameterSpec>| specs.iter().all(|spec| spec.shape.len() < 2000);
        let specs = layer.parameters(row).ok().filter(small).unwrap_or_default();
        let own = |spec: &nn::ParameterSpec| Parameter {
            layer: 0,
            name: spec.name,
            value: tensor(spec.shape, numbers),
            trainable: spec.learned,
            learned: spec.learned,
        };
        let parameters: Vec<_> = specs.iter().map(own).collect();
        let gradients = parameters.iter().map(|parameter| parameter.value.clone()).collect();
        let output = layer.output_shape(row).and_then(|shape| Ok(shape.with_first(batch)?)).ok();
        let grad_output = tensor(output.filter(|shape| shape.len() < 2000).unwrap_or(row), numbers);
        let labels = (0..batch).map(|row| row % 2).collect();
        let workspace = Workspace { labels, mode: Mode::Training { noise: 1 }, ..Workspace::default() };
        Self {
            input_tangent: input.clone(),
            grad_tangent: grad_output.clone(),
            tangents: Workspace::default(),
            parameters,
            gradients,
            input,
            grad_output,
            workspace,
            wanted,
        }
    }

    /// Spoils one thing.
    fn spoil(&mut self, what: usize, other: &Tensor<f64>, strange: &Workspace<f64>) {
        let number = other.shape().rank();
        match what {
            0 => self.parameters.truncate(number),
            1 => self.parameters.iter_mut().skip(number).take(1).for_each(|p| p.value = other.clone()),
            2 => self.parameters.clear(),
            3 => self.gradients.truncate(number),
            4 => {
                self.gradients.iter_mut().skip(number).take(1).for_each(|gradient| *gradient = other.clone())
            }
            5 => self.input = other.clone(),
            6 => self.input_tangent = other.clone(),
            7 => self.grad_output = other.clone(),
            8 => self.grad_tangent = other.clone(),
            9 => self.workspace = Workspace::default(),
            10 => self.tangents = Workspace::default(),
            11 => spoil(&mut self.workspace, number, other),
            12 => spoil(&mut self.tangents, number, other),
            13 => self.workspace.labels = vec![number; self.workspace.labels.len()],
            14 => self.workspace.labels.truncate(number),
            15 => self.workspace = strange.clone(),
            16 => self.tangents = strange.clone(),
            17 => self.workspace.mode = Mode::Inference,
            18 => self.workspace.grad_input = other.clone(),
            _ => self.workspace.logits = true,
        }
    }

    /// All passes, in their order, each as far as it gets; before each, `spoil` is called with its number.
    fn run(&mut self, layer: &dyn Layer<f64>, mut spoil: impl FnMut(usize, &mut Self)) {
        for pass in 0..4 {
            spoil(pass, self);
            let Self { parameters, gradients, workspace, tangents, wanted, .. } = self;
            let input = Dual { value: self.input.view(), tangent: self.input_tangent.view() };
            let grad = Dual { value: self.grad_output.view(), tangent: self.grad_tangent.view() };
            let _ = match pass {
                0 => layer.forward(parameters, input.value, workspace),
                1 => layer.backward(parameters, input.value, grad.value, *wanted, gradients, workspace),
                2 => layer.forward_tangent(parameters, input, workspace, tangents),
                _ => layer.backward_tangent(parameters, input, grad, *wanted, gradients, workspace, tangents),
            };
            let _ = layer.output(input.value, workspace);
            let _ = layer.output(input.tangent, tangents);
            let _ = layer.grad_input(grad.value, workspace);
            let _ = layer.grad_input(grad.tangent, tangents);
        }
        let _ = layer.advance(&mut self.parameters, &self.gradients, &mut self.workspace);
    }
}

/// Spoils a workspace, or the last one inside it.
fn spoil(workspace: &mut Workspace<f64>, number: usize, other: &Tensor<f64>) {
    match number {
        0 => workspace.scratch.clear(),
        1 => workspace.scratch.truncate(1),
        2 => workspace.scratch.iter_mut().take(1).for_each(|tensor| *tensor = other.clone()),
        3 => workspace.scratch.iter_mut().for_each(|tensor| *tensor = other.clone()),
        4 => workspace.output = other.clone(),
        5 => workspace.children.truncate(1),
        _ => workspace.children.clear(),
    }
    if let Some(child) = workspace.children.last_mut() {
        spoil(child, number, other);
    }
}

fn built<T: Scalar>(json: &str) -> Box<dyn Layer<T>> {
    serde_json::from_str::<LayerConfig>(json).unwrap_or_else(|error| panic!("{json}: {error}")).build()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn layers(
        [json, stranger] in [layer(), layer()],
        (row, batch) in (row(), 0..4_usize),
        numbers in vec(number(), 1..6),
        wanted in [any::<bool>(), any::<bool>()],
        (first, what, other) in (0..4_usize, vec(0..20_usize, 0..3), row()),
    ) {
        let layer = built(&json);
        let other = tensor(Shape::new(&other).unwrap(), &numbers);
        let wanted = Wanted { input: wanted[0], parameters: wanted[1] };
        let _ = (layer.multiply_adds(Shape::new(&row).unwrap()), layer.child_input(first, Shape::new(&row).unwrap()));
        let stranger = built(&stranger);
        let mut strange = Passes::new(&*stranger, &row, batch, &numbers, wanted);
        strange.run(&*stranger, |_, _| {});
        let mut passes = Passes::new(&*layer, &row, batch, &numbers, wanted);
        passes.run(&*layer, |pass, passes| {
            if pass == first {
                what.iter().for_each(|&what| passes.spoil(what, &other, &strange.workspace));
            }
        });
    }
}

/// A layer whose results have another shape after each pass.
#[derive(Debug)]
struct Fickle {
    shapes: Vec<Shape>,
    passes: AtomicUsize,
}

impl Fickle {
    fn next(&self) -> Shape {
        self.shapes[self.passes.fetch_add(1, Ordering::Relaxed) % self.shapes.len()]
    }
}

impl Layer<f64> for Fickle {
    fn name(&self) -> &'static str {
        "fickle"
    }

    fn output_shape(&self, _: Shape) -> nn::Result<Shape> {
        Ok(self.next())
    }

    fn parameters(&self, _: Shape) -> nn::Result<Vec<ParameterSpec>> {
        Ok(vec![ParameterSpec::new("kernel", Shape::from([2]), Initializer::Zeros)])
    }

    fn parameter_count(&self) -> usize {
        1
    }

    fn forward(
        &self,
        _: &[Parameter<f64>],
        _: View<'_, f64>,
        workspace: &mut Workspace<f64>,
    ) -> nn::Result<()> {
        workspace.output.resize(self.next());
        Ok(())
    }

    fn backward(
        &self,
        _: &[Parameter<f64>],
        _: View<'_, f64>,
        _: View<'_, f64>,
        _: Wanted,
        gradients: &mut [Tensor<f64>],
        workspace: &mut Workspace<f64>,
    ) -> nn::Result<()> {
        gradients.iter_mut().for_each(|gradient| gradient.resize(self.next()));
        workspace.grad_input.resize(self.next());
        Ok(())
    }

    fn forward_tangent(
        &self,
        _: &[Parameter<f64>],
        _: Dual<'_, f64>,
        _: &Workspace<f64>,
        tangents: &mut Workspace<f64>,
    ) -> nn::Result<()> {
        tangents.output.resize(self.next());
        Ok(())
    }

    fn backward_tangent(
        &self,
        _: &[Parameter<f64>],
        _: Dual<'_, f64>,
        _: Dual<'_, f64>,
        _: Wanted,
        gradients: &mut [Tensor<f64>],
        _: &Workspace<f64>,
        tangents: &mut Workspace<f64>,
    ) -> nn::Result<()> {
        gradients.iter_mut().for_each(|gradient| gradient.resize(self.next()));
        tangents.grad_input.resize(self.next());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn layers_beside_one_that_keeps_no_promise(
        jsons in [layer(), layer()],
        (row, batch) in (row(), 0..4_usize),
        shapes in vec(row(), 1..5),
        (numbers, kind) in (vec(number(), 1..6), 0..4),
    ) {
        let shapes = shapes.iter().map(|sizes| Shape::new(sizes).unwrap()).collect();
        let fickle: Box<dyn Layer<f64>> = Box::new(Fickle { shapes, passes: AtomicUsize::new(0) });
        let [a, b] = jsons.each_ref().map(|json| built(json));
        let layer: Box<dyn Layer<f64>> = match kind {
            0 => fickle,
            1 => Box::new(Sequential::new(vec![a, fickle, b])),
            2 => Box::new(Branches::add(vec![Sequential::new(vec![a]), Sequential::new(vec![fickle])])),
            _ => Box::new(Branches::concatenate(vec![Sequential::new(vec![fickle]), Sequential::new(vec![b])])),
        };
        let wanted = Wanted { input: true, parameters: true };
        let mut passes = Passes::new(&*layer, &row, batch, &numbers, wanted);
        passes.run(&*layer, |_, _| {});
        let Passes { parameters, input, workspace, .. } = passes;
        let _ = gradcheck::check_layer(&*layer, &parameters, &input, &workspace, &mut seeded());
        let _ = gradcheck::check_tangents(&*layer, &parameters, &input, &workspace, &mut seeded());
    }

    #[test]
    fn gradient_checks(
        (json, other_json) in (layer(), layer()),
        (row, batch) in (row(), 0..3_usize),
        numbers in vec(number(), 1..6),
        (what, other, count) in (vec(0..20_usize, 0..2), row(), 0..9_usize),
    ) {
        let (layer, dual, another) = (built(&json), built(&json), built(&other_json));
        let wanted = Wanted { input: true, parameters: true };
        let other = tensor(Shape::new(&other).unwrap(), &numbers);
        let mut passes = Passes::new(&*layer, &row, batch, &numbers, wanted);
        what.iter().for_each(|&what| passes.spoil(what, &other, &Workspace::default()));
        let Passes { parameters, input, workspace, .. } = passes;
        let _ = gradcheck::check_layer(&*layer, &parameters, &input, &workspace, &mut seeded());
        let _ = gradcheck::check_tangents(&*layer, &parameters, &input, &workspace, &mut seeded());
        for dual in [&*dual, &*another] {
            let _ = gradcheck::check_exact(&*layer, dual, &parameters, &input, &workspace, &mut seeded());
            let _ = gradcheck::check_exact_tangents(&*layer, dual, &parameters, &input, &workspace, &mut seeded());
        }
        let loss = losses()[count % 7];
        let _ = (gradcheck::check_loss(loss, &input, other.view()), gradcheck::check_loss(loss, &other, other.view()));
        let _ = gradcheck::check_exact_loss(loss, &input, input.view());
    }

    #[test]
    fn networks(
        layers in vec(layer(), 0..4),
        (row, other, batch) in (row(), row(), 0..5_usize),
        numbers in vec(number(), 1..6),
        path in vec(0..3_usize, 0..3),
        (loss, count) in (0..7_usize, 0..9_usize),
    ) {
        let layers = layers.iter().map(|json| built(json)).collect();
        let input = Shape::new(&row).unwrap();
        let Ok(mut network) = Network::<f64>::new(input, layers, &mut seeded()) else { return Ok(()) };
        let (other, gradients) = (tensor(Shape::new(&other).unwrap(), &numbers), network.gradients());
        let _ = (network.set_layer_trainable(&path, count == 0), network.summary(), network.advance(&gradients[..count.min(gradients.len())]));
        let input = tensor(input.with_first(batch).unwrap_or(input), &numbers);
        let output = network.predict(input.view()).unwrap_or_else(|_| other.clone());
        let _ = (network.predict(other.view()), network.load_safetensors(&[0; 9]));
        let mut workspace = Workspace::default();
        let wanted = Wanted { input: true, parameters: true };
        let _ = network.backward(input.view(), other.view(), wanted, &mut network.gradients(), &mut workspace).map(drop);
        let _ = network.forward(input.view(), &mut workspace).map(drop);
        let _ = network.backward(other.view(), output.view(), wanted, &mut [], &mut workspace).map(drop);
        if count > 5 {
            network.parameters_mut().iter_mut().take(1).for_each(|parameter| parameter.value = other.clone());
        }
        let Ok(mut model) = Model::new(network, losses()[loss], Optimizer::adam(0.1)) else { return Ok(()) };
        for (input, target) in [(&input, &output), (&other, &output), (&input, &other)] {
            let (input, target) = (input.view(), target.view());
            let _ = (model.train_on_batch(input, target), model.test_on_batch(input, target));
            let _ = (model.evaluate(input, target, 0), model.evaluate(input, target, usize::MAX));
            let fit = Fit { epochs: if batch == 0 { usize::MAX } else { 1 }, batch: count, validation: Some((input, target)) };
            if batch > 0 || model.evaluate(input, target, 1).is_err() {
                let _ = model.fit(input, target, fit, &mut seeded());
            }
        }
    }

    #[test]
    fn losses_and_metrics(
        shapes in [row(), row()],
        numbers in vec(prop::num::f64::ANY, 1..6),
        share in prop::num::f64::ANY,
        activation in activation(),
    ) {
        let [prediction, target] = shapes.map(|sizes| tensor(Shape::new(&sizes).unwrap(), &numbers));
        let (mut gradient, mut values) = (target.clone(), prediction.clone());
        for other in [&target, &prediction] {
            let (p, t) = (prediction.view(), other.view());
            let _ = (metrics::accuracy(p, t, share), metrics::count_right(p, t, 0.5));
            for loss in losses() {
                let _ = loss.share_of_value_and_gradient(p, t, share, &mut gradient, &mut values);
            }
            let activation: Activation = serde_json::from_str(&format!("\"{activation}\"")).unwrap();
            activation.forward(p, &mut gradient);
            let _ = activation.backward(p, t, p, &mut gradient);
            let _ = activation.backward(p, p, t, &mut gradient);
            let _ = activation.backward_tangent(p, p, t, Dual { value: t, tangent: p }, &mut gradient);
        }
    }

    #[test]
    fn the_rest(
        (sizes, other) in (row(), row()),
        numbers in vec(prop::num::f64::ANY, 4),
        [rows, a, b, c] in [any::<usize>(), any::<usize>(), any::<usize>(), any::<usize>()],
        (text, bytes) in (".{0,40}", vec(any::<u8>(), 0..80)),
        step in any::<u64>(),
    ) {
        use Initializer::{Constant, GlorotNormal, GlorotUniform, HeNormal, HeUniform, Identity, RandomUniform, Zeros};
        let shape = Shape::new(&sizes).unwrap();
        let (x, y) = (numbers[0], numbers[1]);
        for initializer in [Zeros, GlorotNormal, GlorotUniform, HeNormal, HeUniform, Identity(x), Constant(x), RandomUniform(x, y)] {
            let _ = initializer.draw::<f32>(shape, &mut seeded());
            let _ = initializer.draw::<f32>([0, usize::MAX, usize::MAX].into(), &mut seeded());
        }
        let value = tensor(shape, &numbers);
        let mut parameters = vec![Parameter { layer: 0, name: "kernel", value, trainable: true, learned: true }];
        let mut gradients = vec![tensor(Shape::new(&other).unwrap(), &numbers)];
        clip_norm(&parameters, &mut gradients, x);
        let mut state = OptimizerState::new(&Optimizer::adam(x), &parameters);
        state.step = step;
        state.slots.iter_mut().for_each(|slots| slots.truncate(rows % 3));
        let _ = state.update(&Optimizer::adam(y), &mut parameters, &gradients);
        let load = Load { multiply_adds: a, outputs: b, parameters: c, together: rows % 7, whole_batch: false };
        let _ = (load.shards(rows), load.and(load).shards(usize::MAX), load.and(Load::default()));
        let run = Shards::<f64, (), 1>::default().run(load, rows % 1000, &mut gradients, |range, (), _| Ok([range.len() as f64]));
        prop_assert_eq!(run.unwrap(), [(rows % 1000) as f64]);
        for shape in [ScheduleShape::Constant, ScheduleShape::Linear, ScheduleShape::Cosine, ScheduleShape::Exponential] {
            let schedule = Schedule { shape, warm_up: x, end: y };
            let _ = (schedule.check(), schedule.factor(numbers[2]));
        }
        let _ = text.parse::<Expression>().map(|expression| expression.to_string());
        if let Ok(file) = weights::Reader::new(&bytes) {
            let _ = (file.tensors(), file.any_tensor::<f32>("a"), file.metadata("a"));
        }
    }
}

fn losses() -> [Loss; 7] {
    [
        Loss::BINARY_CROSSENTROPY,
        Loss::CATEGORICAL_CROSSENTROPY,
        Loss::MeanSquaredError,
        Loss::MeanAbsoluteError,
        Loss::Hinge,
        Loss::BinaryCrossentropy { from_logits: true, label_smoothing: 0.1 },
        Loss::CategoricalCrossentropy { from_logits: true, label_smoothing: 2.0 },
    ]
}
