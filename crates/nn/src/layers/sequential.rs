//! Layers one after the other, as one layer.

use tensor_ops::{Scalar, Shape, Tensor, View};

use crate::layer::learns;
use crate::network::possible;
use crate::{Activation, Dual, Layer, Parameter, ParameterSpec, Result, Wanted, Workspace};

/// Layers one after the other: the output of each is the input of the next. Can itself stand in another.
#[derive(Debug)]
pub struct Sequential<T> {
    layers: Vec<Box<dyn Layer<T>>>,
}

impl<T: Scalar> Sequential<T> {
    /// A container of `layers`; without any, it passes its input through.
    #[must_use]
    pub fn new(layers: Vec<Box<dyn Layer<T>>>) -> Self {
        Self { layers }
    }

    /// The output of the first `count` layers.
    fn output_of<'a>(&self, count: usize, input: View<'a, T>, workspaces: &'a [Workspace<T>]) -> View<'a, T> {
        let layers = self.layers[..count].iter().zip(workspaces);
        layers.fold(input, |view, (layer, workspace)| layer.output(view, workspace))
    }

    /// What is wanted of a layer, given what is wanted of the whole, the layer's parameters, and those before it.
    fn wanted_of(wanted: Wanted, own: &[Parameter<T>], before: &[Parameter<T>]) -> Wanted {
        let learns = |parameters| wanted.parameters && learns(parameters);
        Wanted { input: wanted.input || learns(before), parameters: learns(own) }
    }
}

impl<T: Scalar> Layer<T> for Sequential<T> {
    fn name(&self) -> &'static str {
        "sequential"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        self.layers.iter().try_fold(input, |shape, layer| layer.output_shape(shape).and_then(possible))
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        let mut specs = Vec::new();
        let mut shape = input;
        for layer in &self.layers {
            specs.extend(layer.parameters(shape)?);
            shape = layer.output_shape(shape)?;
        }
        Ok(specs)
    }

    fn advance(
        &self,
        parameters: &mut [Parameter<T>],
        gradients: &[Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        advance_children(&self.layers, parameters, gradients, workspace)
    }

    fn forward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let logits = workspace.logits;
        let children = workspace.children(self.layers.len());
        if let Some(last) = children.last_mut() {
            last.logits = logits;
        }
        let mut view = input;
        let mut rest = parameters;
        for (layer, child) in self.layers.iter().zip(children) {
            let own;
            (own, rest) = rest.split_at(layer.parameter_count());
            layer.forward(own, view, child)?;
            view = layer.output(view, child);
        }
        Ok(())
    }

    fn backward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        grad_output: View<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let mut view = grad_output;
        let (mut parameters, mut gradients) = (parameters, gradients);
        let mut before = workspace.children.as_mut_slice();
        while let Some((child, rest)) = std::mem::take(&mut before).split_last_mut() {
            let layer = &self.layers[rest.len()];
            let first = parameters.len() - layer.parameter_count();
            let own;
            (parameters, own) = parameters.split_at(first);
            let (rest_gradients, own_gradients) = gradients.split_at_mut(first.min(gradients.len()));
            let wanted_here = Self::wanted_of(wanted, own, parameters);
            if !wanted_here.input && !wanted_here.parameters {
                return Ok(());
            }
            let layer_input = self.output_of(rest.len(), input, rest);
            layer.backward(own, layer_input, view, wanted_here, own_gradients, child)?;
            view = layer.grad_input(view, child);
            gradients = rest_gradients;
            before = rest;
        }
        Ok(())
    }

    fn forward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        tangents.children.resize_with(self.layers.len(), Workspace::default);
        let mut view = input;
        let mut rest = parameters;
        for ((layer, child), tangents) in
            self.layers.iter().zip(&workspace.children).zip(&mut tangents.children)
        {
            let own;
            (own, rest) = rest.split_at(layer.parameter_count());
            layer.forward_tangent(own, view, child, tangents)?;
            view = Dual {
                value: layer.output(view.value, child),
                tangent: layer.output(view.tangent, tangents),
            };
        }
        Ok(())
    }

    fn backward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        grad_output: Dual<'_, T>,
        wanted: Wanted,
        gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        let mut view = grad_output;
        let (mut parameters, mut gradients) = (parameters, gradients);
        let mut before = tangents.children.as_mut_slice();
        while let Some((tangents, rest)) = std::mem::take(&mut before).split_last_mut() {
            let (layer, child) = (&self.layers[rest.len()], &workspace.children[rest.len()]);
            let first = parameters.len() - layer.parameter_count();
            let own;
            (parameters, own) = parameters.split_at(first);
            let (rest_gradients, own_gradients) = gradients.split_at_mut(first.min(gradients.len()));
            let wanted_here = Self::wanted_of(wanted, own, parameters);
            if !wanted_here.input && !wanted_here.parameters {
                return Ok(());
            }
            let layer_input = Dual {
                value: self.output_of(rest.len(), input.value, &workspace.children),
                tangent: self.output_of(rest.len(), input.tangent, rest),
            };
            layer.backward_tangent(own, layer_input, view, wanted_here, own_gradients, child, tangents)?;
            view = Dual {
                value: layer.grad_input(view.value, child),
                tangent: layer.grad_input(view.tangent, tangents),
            };
            gradients = rest_gradients;
            before = rest;
        }
        Ok(())
    }

    fn output<'a>(&self, input: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        self.output_of(self.layers.len(), input, &workspace.children)
    }

    fn grad_input<'a>(&self, grad_output: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        let layers = self.layers.iter().zip(&workspace.children).rev();
        layers.fold(grad_output, |view, (layer, child)| layer.grad_input(view, child))
    }

    fn parameter_count(&self) -> usize {
        self.layers.iter().map(|layer| layer.parameter_count()).sum()
    }

    fn final_activation(&self) -> Activation {
        self.layers.last().map_or(Activation::Linear, |layer| layer.final_activation())
    }

    fn children(&self) -> &[Box<dyn Layer<T>>] {
        &self.layers
    }

    fn child_input(&self, place: usize, input: Shape) -> Result<Shape> {
        self.layers[..place].iter().try_fold(input, |shape, layer| layer.output_shape(shape))
    }
}

/// [`Layer::advance`] of all layers inside a container.
pub(super) fn advance_children<T: Scalar>(
    layers: &[Box<dyn Layer<T>>],
    parameters: &mut [Parameter<T>],
    gradients: &[Tensor<T>],
    workspace: &mut Workspace<T>,
) -> Result<()> {
    workspace.children.resize_with(layers.len(), Workspace::default);
    let (mut parameters, mut gradients) = (parameters, gradients);
    for (layer, child) in layers.iter().zip(&mut workspace.children) {
        let (own, own_gradients);
        (own, parameters) = std::mem::take(&mut parameters).split_at_mut(layer.parameter_count());
        (own_gradients, gradients) = gradients.split_at(layer.parameter_count());
        layer.advance(own, own_gradients, child)?;
    }
    Ok(())
}

/// The least number that both divide.
pub(crate) fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a.max(1), b.max(1));
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a.max(1) / x).saturating_mul(b.max(1))
}
