//! Layers one after the other, as one layer.

use tensor_ops::{Scalar, Shape, Tensor, View};

use super::{missing_pass, unexpected};
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

    /// The output of the first layers, as many as there are workspaces.
    fn output_of<'a>(&self, input: View<'a, T>, workspaces: &'a [Workspace<T>]) -> View<'a, T> {
        let layers = self.layers.iter().zip(workspaces);
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
            (own, rest) = own_parameters(layer.as_ref(), rest)?;
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
        check_pass(self, parameters, &workspace.children)?;
        let mut before = workspace.children.as_mut_slice();
        for layer in self.layers.iter().rev() {
            let Some((child, rest)) = before.split_last_mut() else { return missing_pass("sequential") };
            let first = parameters.len() - layer.parameter_count();
            let own;
            (parameters, own) = parameters.split_at(first);
            let (rest_gradients, own_gradients) = gradients.split_at_mut(first.min(gradients.len()));
            let wanted_here = Self::wanted_of(wanted, own, parameters);
            if !wanted_here.input && !wanted_here.parameters {
                return Ok(());
            }
            let layer_input = self.output_of(input, rest);
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
            (own, rest) = own_parameters(layer.as_ref(), rest)?;
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
        check_pass(self, parameters, &workspace.children)?;
        let mut before = tangents.children.as_mut_slice();
        for (layer, child) in self.layers.iter().zip(&workspace.children).rev() {
            let Some((tangents, rest)) = before.split_last_mut() else { return missing_pass("sequential") };
            let first = parameters.len() - layer.parameter_count();
            let own;
            (parameters, own) = parameters.split_at(first);
            let (rest_gradients, own_gradients) = gradients.split_at_mut(first.min(gradients.len()));
            let wanted_here = Self::wanted_of(wanted, own, parameters);
            if !wanted_here.input && !wanted_here.parameters {
                return Ok(());
            }
            let layer_input = Dual {
                value: self.output_of(input.value, workspace.children.get(..rest.len()).unwrap_or_default()),
                tangent: self.output_of(input.tangent, rest),
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
        self.output_of(input, &workspace.children)
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
        self.layers.iter().take(place).try_fold(input, |shape, layer| layer.output_shape(shape))
    }
}

type Split<'a, T> = (&'a [Parameter<T>], &'a [Parameter<T>]);

/// The parameters of a layer, and those after it.
pub(super) fn own_parameters<'a, T: Scalar>(
    layer: &dyn Layer<T>,
    parameters: &'a [Parameter<T>],
) -> Result<Split<'a, T>> {
    let (count, found) = (layer.parameter_count(), Shape::from([parameters.len()]));
    match parameters.split_at_checked(count) {
        Some(both) => Ok(both),
        None => unexpected(layer.name(), format!("{count} parameters"), found),
    }
}

/// Refuses parameters of another container, and the workspaces of another pass than one through all layers of this.
pub(super) fn check_pass<T: Scalar>(
    container: &dyn Layer<T>,
    parameters: &[Parameter<T>],
    children: &[Workspace<T>],
) -> Result<()> {
    let (count, found) = (container.parameter_count(), Shape::from([parameters.len()]));
    if parameters.len() != count {
        return unexpected(container.name(), format!("{count} parameters"), found);
    }
    if children.len() == container.children().len() { Ok(()) } else { missing_pass(container.name()) }
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
        let count = layer.parameter_count();
        let found = Shape::from([parameters.len().min(gradients.len())]);
        let split = std::mem::take(&mut parameters).split_at_mut_checked(count);
        let (Some(of_parameters), Some(of_gradients)) = (split, gradients.split_at_checked(count)) else {
            return unexpected(layer.name(), format!("{count} parameters and gradients"), found);
        };
        (own, parameters) = of_parameters;
        (own_gradients, gradients) = of_gradients;
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
