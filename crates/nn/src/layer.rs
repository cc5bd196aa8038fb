//! What every layer is: a description of a computation, its gradient, and what it wants to be given.

use tensor_ops::{Scalar, Shape, Tensor, View};

use crate::{Activation, Error, Initializer, Mode, Result};

/// What [`Layer::rows_together`] says where each row may depend on all others of a batch.
pub const WHOLE_BATCH: usize = usize::MAX;

/// A layer: settings alone. Its parameters belong to the [`Network`](crate::Network), what a pass remembers
/// to a [`Workspace`], so one layer can serve several passes and threads at a time.
///
/// The first axis of every input is the batch. The README of this crate shows how to write one.
pub trait Layer<T: Scalar>: std::fmt::Debug + Send + Sync {
    /// The layer's name in tables, files and errors, in snake case.
    fn name(&self) -> &'static str;

    /// The shape of one row of the output, given that of one row of the input (both without the batch).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) where the layer cannot take such rows, and
    /// [`Error::Setting`](crate::Error::Setting) where it can take none.
    fn output_shape(&self, input: Shape) -> Result<Shape>;

    /// The parameters that the layer needs for rows of this shape, in the order in which it is given them.
    ///
    /// # Errors
    /// As [`Layer::output_shape`].
    fn parameters(&self, _input: Shape) -> Result<Vec<ParameterSpec>> {
        Ok(Vec::new())
    }

    /// How many parameters that is, whatever the shape.
    fn parameter_count(&self) -> usize {
        0
    }

    /// How many multiply-adds a row takes on its way forward, roughly: from it follows how work is shared.
    ///
    /// # Errors
    /// As [`Layer::output_shape`].
    fn multiply_adds(&self, _input: Shape) -> Result<usize> {
        Ok(0)
    }

    /// How many rows that follow each other have to be in the same pass, because they depend on each other; 1 where each
    /// row goes its own way, [`WHOLE_BATCH`] where all of a batch belong together while the network learns. Of a container,
    /// the layers inside are asked.
    fn rows_together(&self) -> usize {
        1
    }

    /// Improves what the layer keeps beside what is learned. Called after each step of an optimizer, with the gradients
    /// that the step was taken by and a workspace of its own. What a layer has added to the gradient of a parameter that
    /// it keeps, no optimizer reads: so what it has seen in a batch reaches this function.
    ///
    /// # Errors
    /// Where the shapes do not fit.
    fn advance(
        &self,
        _parameters: &mut [Parameter<T>],
        _gradients: &[Tensor<T>],
        _workspace: &mut Workspace<T>,
    ) -> Result<()> {
        Ok(())
    }

    /// Computes `workspace.output` from the input.
    ///
    /// # Errors
    /// Where the shapes do not fit.
    fn forward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()>;

    /// After a [`Layer::forward`] of the same input and workspace: computes, from the gradient of a loss with
    /// respect to the output, what is `wanted` of the gradients of the parameters, which are added to `gradients`,
    /// one for each, and of the input's, which overwrites `workspace.grad_input`.
    ///
    /// # Errors
    /// Where the shapes do not fit.
    fn backward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        grad_output: View<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()>;

    /// After a [`Layer::forward`] of `input.value` in the workspace: computes how the output changes as the input moves
    /// along `input.tangent`, which becomes `tangents.output`.
    ///
    /// With [`Layer::backward_tangent`], this is what gradient penalties need. A layer that will not be used under one
    /// can leave out both.
    ///
    /// # Errors
    /// [`Error::NoTangents`](crate::Error::NoTangents) where the layer has left it out.
    fn forward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        _input: Dual<'_, T>,
        _workspace: &Workspace<T>,
        _tangents: &mut Workspace<T>,
    ) -> Result<()> {
        Err(Error::NoTangents { layer: self.name() })
    }

    /// After a [`Layer::backward`] that wanted the gradient of the input, and a [`Layer::forward_tangent`]: computes
    /// how what is `wanted` of the gradients changes as input and gradient of the output move along their tangents.
    /// That is added to `gradients`, and overwrites `tangents.grad_input`.
    ///
    /// # Errors
    /// As [`Layer::forward_tangent`].
    #[allow(clippy::too_many_arguments, reason = "what it depends on")]
    fn backward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        _input: Dual<'_, T>,
        _grad_output: Dual<'_, T>,
        _wanted: Wanted,
        _gradients: &mut [Tensor<T>],
        _workspace: &Workspace<T>,
        _tangents: &mut Workspace<T>,
    ) -> Result<()> {
        Err(Error::NoTangents { layer: self.name() })
    }

    /// The result of the last forward pass. A layer that only reshapes hands its input through.
    fn output<'a>(&self, _input: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        workspace.output.view()
    }

    /// The result of the last backward pass. A layer that only reshapes hands the gradient through.
    fn grad_input<'a>(&self, _grad_output: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        workspace.grad_input.view()
    }

    /// The activation that the layer leaves off when [`Workspace::logits`] says so.
    fn final_activation(&self) -> Activation {
        Activation::Linear
    }

    /// The layers inside, for a container.
    fn children(&self) -> &[Box<dyn Layer<T>>] {
        &[]
    }

    /// The shape of one row of the input of the layer inside at `place`, given that of the container's.
    ///
    /// # Errors
    /// As [`Layer::output_shape`].
    fn child_input(&self, _place: usize, input: Shape) -> Result<Shape> {
        Ok(input)
    }
}

/// What a layer needs a parameter to be.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// The parameter's name, as in Keras: `kernel`, `bias`, ...
    pub name: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// Where it starts.
    pub initializer: Initializer,
    /// Whether optimizers may change it.
    pub learned: bool,
}

impl ParameterSpec {
    /// A parameter that is learned.
    #[must_use]
    pub fn new(name: &'static str, shape: Shape, initializer: Initializer) -> Self {
        Self { name, shape, initializer, learned: true }
    }

    /// The same, but kept by the layer itself: see [`Layer::advance`].
    #[must_use]
    pub fn kept(self) -> Self {
        Self { learned: false, ..self }
    }
}

/// Numbers that are learned, or kept by a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter<T> {
    /// Which layer it belongs to, counting, from 0, the layers that have parameters.
    pub layer: usize,
    /// Its name in that layer: `kernel`, `bias`, ...
    pub name: &'static str,
    /// Its value.
    pub value: Tensor<T>,
    /// Whether optimizers change it. Read at every step; gradients flow through the layer either way.
    pub trainable: bool,
    /// Whether it can be trainable; else the layer keeps it.
    pub learned: bool,
}

impl<T> Parameter<T> {
    /// The parameter's name in files: `LAYER.NAME`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}.{}", self.layer, self.name)
    }
}

/// Whether a step changes any of these: in one layer at least an optimizer changes some, or the layer keeps all of them.
pub(crate) fn learns<T>(parameters: &[Parameter<T>]) -> bool {
    let layers = parameters.chunk_by(|a, b| a.layer == b.layer);
    layers.into_iter().any(|own| own.iter().any(|p| p.trainable) || own.iter().all(|p| !p.learned))
}

/// A value, and its tangent: how fast it changes as something it depends on moves along a direction.
#[derive(Debug, Clone, Copy)]
pub struct Dual<'a, T> {
    /// The value.
    pub value: View<'a, T>,
    /// The tangent, of the same shape.
    pub tangent: View<'a, T>,
}

/// What a backward pass is to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The gradient of the input.
    pub input: bool,
    /// The gradients of the parameters.
    pub parameters: bool,
}

/// What one pass through a layer remembers, or the tangents of all that, in the same places. The caller keeps it and
/// hands it in again, so that after the first pass nothing is allocated.
#[derive(Debug, Clone)]
pub struct Workspace<T> {
    /// The result of the forward pass.
    pub output: Tensor<T>,
    /// The result of the backward pass.
    pub grad_input: Tensor<T>,
    /// Whatever else the layer remembers between the two, by its own count.
    pub scratch: Vec<Tensor<T>>,
    /// The workspaces of the layers inside, for a container.
    pub children: Vec<Workspace<T>>,
    /// The shape of the last input, for a layer that hands its gradient through.
    pub input_shape: Shape,
    /// Set before a forward pass: leave off the [`Layer::final_activation`], because the loss includes it.
    pub logits: bool,
    /// Set before a forward pass: what it is for.
    pub mode: Mode,
    /// Set before a forward pass: the class of each row, for layers that ask for it; empty where there are none.
    pub labels: Vec<usize>,
}

impl<T> Default for Workspace<T> {
    fn default() -> Self {
        Self {
            output: Tensor::default(),
            grad_input: Tensor::default(),
            scratch: Vec::new(),
            children: Vec::new(),
            input_shape: Shape::default(),
            logits: false,
            mode: Mode::default(),
            labels: Vec::new(),
        }
    }
}

impl<T: Scalar> Workspace<T> {
    /// The first `count` scratch tensors, made on first use.
    pub fn scratch(&mut self, count: usize) -> &mut [Tensor<T>] {
        if self.scratch.len() < count {
            self.scratch.resize_with(count, Tensor::default);
        }
        self.scratch.get_mut(..count).unwrap_or_default()
    }

    /// The workspaces of as many layers inside, made on first use, before a forward pass: each has these labels and this
    /// mode, with noise of its own.
    pub fn children(&mut self, count: usize) -> &mut [Workspace<T>] {
        self.children.resize_with(count, Workspace::default);
        for (place, child) in self.children.iter_mut().enumerate() {
            child.mode = self.mode.within(place as u64);
            child.labels.clone_from(&self.labels);
            child.logits = false;
        }
        &mut self.children
    }

    /// The activation a layer is to apply, given its own final one.
    pub(crate) fn activation(&self, own: Activation) -> Activation {
        if self.logits { Activation::Linear } else { own }
    }
}
