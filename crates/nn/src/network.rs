//! Layers with their parameters.

use rand::Rng;
use tensor_ops::{Scalar, Shape, Tensor, View, all_finite};

use crate::finite::check_update;
use crate::layers::Sequential;
use crate::{
    Activation, Dual, Error, Layer, Load, Optimizer, OptimizerState, Parameter, Result, WHOLE_BATCH, Wanted,
    Workspace, weights,
};

/// A stack of layers, built for inputs of one shape, with its parameters.
#[derive(Debug)]
pub struct Network<T> {
    layers: Sequential<T>,
    input: Shape,
    output: Shape,
    load: Load,
    parameters: Vec<Parameter<T>>,
    /// What [`Network::advance`] works in.
    advancing: Workspace<T>,
}

impl<T: Scalar> Network<T> {
    /// Checks the shapes of all layers and draws their parameters.
    ///
    /// # Shapes
    /// `input` is that of one row, without the batch.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Setting`] of the first layer that cannot work, with its number.
    pub fn new(input: impl Into<Shape>, layers: Vec<Box<dyn Layer<T>>>, rng: &mut impl Rng) -> Result<Self> {
        let input = input.into();
        let layers = Sequential::new(layers);
        let (output, load) = Self::measure(input, &layers)?;
        let owners = parameter_owners(&layers);
        let specs = layers.parameters(input)?;
        let parameters = specs.into_iter().zip(owners).map(|(spec, layer)| Parameter {
            layer,
            name: spec.name,
            value: spec.initializer.draw(spec.shape, rng),
            trainable: spec.learned,
            learned: spec.learned,
        });
        let parameters = parameters.collect();
        Ok(Self { parameters, layers, input, output, load, advancing: Workspace::default() })
    }

    /// The shape of one row of the output, and what a pass would cost, of a network that is not built: neither takes any
    /// memory.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn measure(input: impl Into<Shape>, layers: &Sequential<T>) -> Result<(Shape, Load)> {
        let input = input.into();
        Ok((check_layers(layers.children(), input)?, load_of(layers, input)?))
    }

    /// The shape of one row of the input.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// The shape of one row of the output.
    #[must_use]
    pub fn output_shape(&self) -> Shape {
        self.output
    }

    /// What a pass costs.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load
    }

    /// Takes a step of an optimizer with each parameter that is trainable, then lets the layers
    /// [`advance`](Network::advance). `name` stands before a tensor's name in errors.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is a gradient for each parameter, of its shape; [`Error::NotFinite`] for a gradient or
    /// a parameter, when all have changed.
    pub fn update(
        &mut self,
        name: &str,
        optimizer: &Optimizer,
        state: &mut OptimizerState<T>,
        gradients: &[Tensor<T>],
    ) -> Result<()> {
        let finite = state.update(optimizer, &mut self.parameters, gradients)?;
        self.advance(gradients)?;
        let mut kept = self.parameters.iter().filter(|parameter| !parameter.trainable);
        if finite && kept.all(|parameter| all_finite(parameter.value.data())) {
            return Ok(());
        }
        check_update(name, &self.parameters, gradients)
    }

    /// Lets the layers improve what they keep beside what is learned: to be called after each step of an optimizer, with
    /// the gradients that it was taken by.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is a gradient for each parameter, of its shape.
    pub fn advance(&mut self, gradients: &[Tensor<T>]) -> Result<()> {
        let shapes = self.parameters.iter().map(|parameter| parameter.value.shape());
        if !shapes.eq(gradients.iter().map(Tensor::shape)) {
            let (place, expected) = ("advance".to_owned(), "a gradient for each parameter".to_owned());
            return Err(Error::Shape { place, expected, found: Shape::from([gradients.len()]) });
        }
        self.layers.advance(&mut self.parameters, gradients, &mut self.advancing)
    }

    /// The layers, as one.
    #[must_use]
    pub fn layers(&self) -> &Sequential<T> {
        &self.layers
    }

    /// The parameters, layer by layer.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter<T>] {
        &self.parameters
    }

    /// The parameters, to be changed.
    pub fn parameters_mut(&mut self) -> &mut [Parameter<T>] {
        &mut self.parameters
    }

    /// A zero gradient for each parameter: the buffers that [`Network::backward`] writes to.
    #[must_use]
    pub fn gradients(&self) -> Vec<Tensor<T>> {
        self.parameters.iter().map(|parameter| Tensor::zeros(parameter.value.shape())).collect()
    }

    /// Sets whether the whole network learns.
    pub fn set_trainable(&mut self, trainable: bool) {
        self.parameters.iter_mut().for_each(|parameter| parameter.trainable = trainable && parameter.learned);
    }

    /// Sets whether a layer learns, and, if it is a container, all layers inside. `path` leads to it: the
    /// layer's number, then that of a layer in it, and so on.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is no such layer.
    pub fn set_layer_trainable(&mut self, path: &[usize], trainable: bool) -> Result<()> {
        let mut first = 0;
        let mut layer: &dyn Layer<T> = &self.layers;
        for &place in path {
            let Some(child) = layer.children().get(place) else {
                let (setting, expected) = ("path", "the numbers of layers");
                let place = "set_layer_trainable".to_owned();
                return Err(Error::Setting { place, setting, expected, found: format!("{path:?}") });
            };
            first += layer.children().iter().take(place).map(|child| child.parameter_count()).sum::<usize>();
            layer = child.as_ref();
        }
        let own = self.parameters.iter_mut().skip(first).take(layer.parameter_count());
        own.for_each(|parameter| parameter.trainable = trainable && parameter.learned);
        Ok(())
    }

    /// The activation of the last layer, which [`Workspace::logits`] leaves off.
    #[must_use]
    pub fn final_activation(&self) -> Activation {
        self.layers.final_activation()
    }

    /// Computes the output, which lies in the workspace.
    ///
    /// # Errors
    /// [`Error::Shape`] unless `input` is a batch of rows of [`Network::input_shape`].
    pub fn forward<'a>(&self, input: View<'a, T>, workspace: &'a mut Workspace<T>) -> Result<View<'a, T>> {
        if input.shape().rank() != self.input.rank() + 1 || input.shape().without_first() != self.input {
            let expected = format!("a batch of rows {}", self.input);
            return Err(Error::Shape { place: "network input".to_owned(), expected, found: input.shape() });
        }
        self.layers.forward(&self.parameters, input, workspace)?;
        Ok(self.layers.output(input, workspace))
    }

    /// After a [`Network::forward`] of the same input and workspace: computes what is `wanted` of the gradients
    /// of the parameters that are trainable, which are added to `gradients`, and of the input's, which it returns.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn backward<'a>(
        &self,
        input: View<'_, T>,
        grad_output: View<'a, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &'a mut Workspace<T>,
    ) -> Result<View<'a, T>> {
        self.layers.backward(&self.parameters, input, grad_output, wanted, gradients, workspace)?;
        Ok(self.layers.grad_input(grad_output, workspace))
    }

    /// After a [`Network::forward`] of `input.value` in the workspace: how the output changes as the input moves along
    /// `input.tangent`.
    ///
    /// # Errors
    /// [`Error::NoTangents`] for a layer that has none.
    pub fn forward_tangent<'a>(
        &self,
        input: Dual<'a, T>,
        workspace: &Workspace<T>,
        tangents: &'a mut Workspace<T>,
    ) -> Result<View<'a, T>> {
        self.layers.forward_tangent(&self.parameters, input, workspace, tangents)?;
        Ok(self.layers.output(input.tangent, tangents))
    }

    /// After a [`Network::backward`] that wanted the gradient of the input, and a [`Network::forward_tangent`]: how
    /// what is `wanted` of the gradients changes as input and gradient of the output move along their tangents. That of
    /// the parameters is added to `gradients`, that of the input is returned.
    ///
    /// With the tangent v of the input and none of `grad_output`, which is 1 in each row, what is added to `gradients`
    /// is the gradient of the sum over all rows of v dD/dx with respect to the parameters: with v = dP/d(dD/dx), that
    /// of a penalty P on the gradient of the input.
    ///
    /// # Errors
    /// [`Error::NoTangents`] for a layer that has none.
    pub fn backward_tangent<'a>(
        &self,
        input: Dual<'_, T>,
        grad_output: Dual<'a, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &'a mut Workspace<T>,
    ) -> Result<View<'a, T>> {
        let Self { layers, parameters, .. } = self;
        layers.backward_tangent(parameters, input, grad_output, wanted, gradients, workspace, tangents)?;
        Ok(layers.grad_input(grad_output.tangent, tangents))
    }

    /// The output for a batch.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn predict(&self, input: View<'_, T>) -> Result<Tensor<T>> {
        Ok(self.forward(input, &mut Workspace::default())?.to_tensor())
    }

    /// The weights as the bytes of a safetensors file, each by its [`Parameter::key`].
    ///
    /// # Errors
    /// [`Error::Weights`] where the format cannot hold them.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let tensors = self.parameters.iter().map(|p| (p.key(), &p.value));
        weights::write(tensors, ("format", "nn".to_owned()))
    }

    /// Takes the weights from the bytes of a safetensors file; all or, on an error, none.
    ///
    /// # Errors
    /// [`Error::Weights`], which names the first tensor that is missing, has another shape or type, or holds a
    /// NaN or infinity.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let file = weights::Reader::new(bytes)?;
        let values = self.parameters.iter().map(|p| file.tensor(&p.key(), p.value.shape()));
        let values = values.collect::<Result<Vec<_>>>()?;
        self.parameters.iter_mut().zip(values).for_each(|(parameter, value)| parameter.value = value);
        Ok(())
    }

    /// A table of the layers: output shape, number of parameters, and whether they are trainable.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut rows = vec![["layer", "output shape", "parameters", "trainable"].map(str::to_owned)];
        let mut next = 0;
        self.summarize(&self.layers, self.input, 0, &mut next, &mut rows);
        let mut widths = [0; 4];
        for row in &rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
        }
        let mut table = String::new();
        for [layer, shape, count, trainable] in rows {
            let line = format!(
                "{layer:<0$}  {shape:<1$}  {count:>2$}  {trainable}",
                widths[0], widths[1], widths[2]
            );
            table += line.trim_end();
            table += "\n";
        }
        let count = |parameters: &mut dyn Iterator<Item = &Parameter<T>>| -> usize {
            parameters.map(|parameter| parameter.value.shape().len()).sum()
        };
        let total = count(&mut self.parameters.iter());
        let trainable = count(&mut self.parameters.iter().filter(|parameter| parameter.trainable));
        table + &format!("parameters: {total}, trainable: {trainable}\n")
    }

    fn summarize(
        &self,
        container: &dyn Layer<T>,
        input: Shape,
        depth: usize,
        next: &mut usize,
        rows: &mut Vec<[String; 4]>,
    ) {
        for (number, layer) in container.children().iter().enumerate() {
            let own = self.parameters.get(*next..*next + layer.parameter_count()).unwrap_or_default();
            let count: usize = own.iter().map(|parameter| parameter.value.shape().len()).sum();
            let learned = own.iter().filter(|parameter| parameter.learned).count();
            let trainable = match own.iter().filter(|parameter| parameter.trainable).count() {
                _ if own.is_empty() => "",
                0 => "no",
                n if n == learned => "yes",
                _ => "partly",
            };
            let input = container.child_input(number, input).unwrap_or(input);
            let shape = layer.output_shape(input).unwrap_or(input);
            let name = format!("{}{number} {}", "  ".repeat(depth), layer.name());
            rows.push([name, shape.to_string(), count.to_string(), trainable.to_owned()]);
            if layer.children().is_empty() {
                *next += own.len();
            } else {
                self.summarize(layer.as_ref(), input, depth + 1, next, rows);
            }
        }
    }
}

/// Checks that each layer takes what the one before gives; the shape of the last output.
fn check_layers<T: Scalar>(layers: &[Box<dyn Layer<T>>], input: Shape) -> Result<Shape> {
    let mut shape = input;
    for (number, layer) in layers.iter().enumerate() {
        let at_layer = |error| match error {
            Error::Shape { place, expected, found } => {
                Error::Shape { place: format!("layer {number} ({place})"), expected, found }
            }
            Error::Setting { place, setting, expected, found } => {
                Error::Setting { place: format!("layer {number} ({place})"), setting, expected, found }
            }
            other => other,
        };
        let output = layer.output_shape(shape).and_then(possible).map_err(at_layer)?;
        let given = layer.parameters(shape).map_err(at_layer)?.len();
        if given != layer.parameter_count() {
            return Err(Error::Setting {
                place: format!("layer {number} ({})", layer.name()),
                setting: "parameter_count",
                expected: "the number of the layer's parameters",
                found: format!("{} for {given}", layer.parameter_count()),
            });
        }
        shape = output;
    }
    Ok(shape)
}

/// A shape that a layer gives, unless no memory could hold it.
pub(crate) fn possible(shape: Shape) -> Result<Shape> {
    Ok(Shape::new(&shape)?)
}

/// What a pass through a layer costs, for rows of the shape `input`.
fn load_of<T: Scalar>(layer: &dyn Layer<T>, input: Shape) -> Result<Load> {
    if !layer.children().is_empty() {
        let children = layer.children().iter().enumerate();
        let loads = children.map(|(place, child)| load_of(child.as_ref(), layer.child_input(place, input)?));
        return loads.into_iter().try_fold(Load::default(), |load, child| Ok(load.and(child?)));
    }
    let output = layer.output_shape(input)?;
    let specs = layer.parameters(input)?;
    let parameters = specs.iter().map(|spec| spec.shape.len()).fold(0, usize::saturating_add);
    let multiply_adds = layer.multiply_adds(input)?;
    let (together, whole_batch) = match layer.rows_together() {
        WHOLE_BATCH => (1, true),
        rows => (rows, false),
    };
    Ok(Load { multiply_adds, outputs: output.len(), parameters, together, whole_batch })
}

/// For each parameter the number of its layer, among those that have parameters.
fn parameter_owners<T: Scalar>(layers: &Sequential<T>) -> Vec<usize> {
    fn collect<T: Scalar>(layer: &dyn Layer<T>, next: &mut usize, owners: &mut Vec<usize>) {
        if layer.children().is_empty() {
            owners.extend(std::iter::repeat_n(*next, layer.parameter_count()));
            *next += usize::from(layer.parameter_count() > 0);
        }
        layer.children().iter().for_each(|child| collect(child.as_ref(), next, owners));
    }
    let mut owners = Vec::new();
    collect(layers, &mut 0, &mut owners);
    owners
}
