//! A layer whose kernel is divided by its spectral norm, the most by which it can stretch a vector.
//!
//! With W the kernel as a matrix `[inputs, outputs]` and u an estimate of its first right singular vector, the layer
//! inside computes with W / s, s = abs(W u) / abs(u). After each step of an optimizer, power iterations improve u:
//! v = W u / abs(W u), u = v W / abs(v W). Gradients go through s, with u held.
//!
//! Reference: Miyato et al., 2018.
//!
//! ```
//! use nn::{Network, layers::{Dense, LayerConfig, SpectralNormalization}};
//! use rand::SeedableRng;
//!
//! let layer = SpectralNormalization::new(LayerConfig::Dense(Dense::new(4)));
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let mut network = Network::<f64>::new([3], vec![layer.build()], rng)?;
//! let gradients = network.gradients();
//! (0..50).try_for_each(|_| network.advance(&gradients))?;
//! let x = tensor_ops::Tensor::from_vec([1, 3], vec![0.6, 0.0, 0.8])?;
//! let y = network.predict(x.view())?;
//! let length = y.data().iter().map(|y| y * y).sum::<f64>().sqrt();
//! assert!(length <= 1.0);
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View};

use super::LayerConfig;
use crate::error::check_setting;
use crate::{
    Activation, Dual, Error, Initializer, Layer, Parameter, ParameterSpec, Result, Wanted, Workspace,
};

/// A layer with a kernel, normalised, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpectralNormalization {
    /// The layer inside.
    pub inner: Box<LayerConfig>,
    /// Power iterations after each step, at least 1.
    #[serde(default = "one")]
    pub power_iterations: usize,
}

fn one() -> usize {
    1
}

impl SpectralNormalization {
    /// A normalised layer with one power iteration after each step.
    #[must_use]
    pub fn new(inner: LayerConfig) -> Self {
        Self { inner: Box::new(inner), power_iterations: 1 }
    }

    /// The layer itself.
    #[must_use]
    pub fn build<T: Scalar>(&self) -> Box<dyn Layer<T>> {
        Box::new(Normalised { inner: self.inner.build(), power_iterations: self.power_iterations })
    }
}

#[derive(Debug)]
struct Normalised<T> {
    inner: Box<dyn Layer<T>>,
    power_iterations: usize,
}

/// The scratch: the parameters that the layer inside is given, the gradient of its kernel, W u / abs(W u), and u / abs(u).
const KERNEL: usize = 0;
const BIAS: usize = 1;
const GRAD_KERNEL: usize = 2;
const V: usize = 3;
const U: usize = 4;
const SCRATCH: usize = 5;

impl<T: Scalar> Normalised<T> {
    /// Computes u / abs(u) and W u / abs(W u); returns the spectral norm.
    fn singular_vectors(parameters: &[Parameter<T>], scratch: &mut [Tensor<T>]) -> T {
        let (kernel, Some(own)) = (&parameters[0].value, parameters.last()) else { return T::one() };
        let units = own.value.data().len();
        scratch[U].copy_from(own.value.view());
        normalise(scratch[U].data_mut());
        let (before, after) = scratch.split_at_mut(U);
        let v = &mut before[V];
        v.resize([kernel.data().len() / units.max(1)]);
        for (v, row) in v.data_mut().iter_mut().zip(kernel.data().chunks_exact(units)) {
            *v = row.iter().zip(after[0].data()).map(|(&w, &u)| w * u).sum();
        }
        normalise(v.data_mut())
    }

    /// Lends the normalised parameters, and the spectral norm, to `work`.
    fn with_parameters<R>(
        &self,
        parameters: &[Parameter<T>],
        scratch: &mut [Tensor<T>],
        work: impl FnOnce(&[Parameter<T>], T, &mut [Tensor<T>]) -> R,
    ) -> R {
        let norm = Self::singular_vectors(parameters, scratch);
        let scale = T::one() / norm;
        scratch[KERNEL].copy_from(parameters[0].value.view());
        scratch[KERNEL].data_mut().iter_mut().for_each(|w| *w *= scale);
        let biased = parameters.len() > 2;
        if biased {
            scratch[BIAS].copy_from(parameters[1].value.view());
        }
        // The same parameters with other values, in buffers that are kept.
        let mut lent = [KERNEL, BIAS].map(|place| {
            let Parameter { layer, name, trainable, learned, .. } = parameters[place];
            Parameter { layer, name, value: std::mem::take(&mut scratch[place]), trainable, learned }
        });
        let result = work(&lent[..1 + usize::from(biased)], norm, scratch);
        for (place, parameter) in lent.iter_mut().enumerate() {
            scratch[place] = std::mem::take(&mut parameter.value);
        }
        result
    }

    /// Adds to the gradient of W, from that of W / s: (G - sum(G W / s) v u^T) / s.
    fn add_gradient(normalised: &Tensor<T>, norm: T, scratch: &[Tensor<T>], gradient: &mut Tensor<T>) {
        let (grad, v, u) = (scratch[GRAD_KERNEL].data(), scratch[V].data(), scratch[U].data());
        let along: T = grad.iter().zip(normalised.data()).map(|(&g, &w)| g * w).sum();
        let rows = gradient.data_mut().chunks_exact_mut(u.len()).zip(grad.chunks_exact(u.len())).zip(v);
        for ((sums, grads), &v) in rows {
            for ((sum, &g), &u) in sums.iter_mut().zip(grads).zip(u) {
                *sum += (g - along * v * u) / norm;
            }
        }
    }
}

/// Makes a vector as long as 1, unless it is 0; returns how long it was, or 1.
fn normalise<T: Scalar>(vector: &mut [T]) -> T {
    let length = vector.iter().map(|&x| x * x).sum::<T>().sqrt();
    let length = if length > T::zero() { length } else { T::one() };
    vector.iter_mut().for_each(|x| *x /= length);
    length
}

impl<T: Scalar> Layer<T> for Normalised<T> {
    fn name(&self) -> &'static str {
        "spectral_normalization"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let iterations = self.power_iterations;
        check_setting(
            iterations > 0,
            "spectral_normalization",
            "power_iterations",
            "at least 1",
            iterations,
        )?;
        self.inner.output_shape(input)
    }

    fn parameters(&self, input: Shape) -> Result<Vec<ParameterSpec>> {
        let mut specs = self.inner.parameters(input)?;
        match &specs[..] {
            [kernel] | [kernel, _] if kernel.name == "kernel" && self.inner.children().is_empty() => {
                let u = Shape::from([kernel.shape.last_dim()]);
                specs.push(ParameterSpec::new("vector_u", u, Initializer::GlorotNormal).kept());
                Ok(specs)
            }
            _ => Err(Error::Setting {
                place: "spectral_normalization".to_owned(),
                setting: "inner",
                expected: "a layer with a kernel",
                found: self.inner.name().to_owned(),
            }),
        }
    }

    fn parameter_count(&self) -> usize {
        self.inner.parameter_count() + 1
    }

    fn multiply_adds(&self, input: Shape) -> Result<usize> {
        self.inner.multiply_adds(input)
    }

    fn advance(
        &self,
        parameters: &mut [Parameter<T>],
        _gradients: &[Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let Some((own, [kernel, ..])) = parameters.split_last_mut() else { return Ok(()) };
        let next = &mut workspace.output;
        next.resize(own.value.shape());
        let u = own.value.data_mut();
        for _ in 0..self.power_iterations {
            next.fill(T::zero());
            for row in kernel.value.data().chunks_exact(u.len()) {
                let v: T = row.iter().zip(&*u).map(|(&w, &u)| w * u).sum();
                next.data_mut().iter_mut().zip(row).for_each(|(next, &w)| *next += v * w);
            }
            // A kernel of zeros leaves u where it is.
            if next.data().iter().any(|&x| x != T::zero()) {
                normalise(next.data_mut());
                u.copy_from_slice(next.data());
            }
        }
        Ok(())
    }

    fn forward(
        &self,
        parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        workspace.scratch(SCRATCH);
        workspace.children(1)[0].logits = workspace.logits;
        let Workspace { scratch, children, .. } = workspace;
        self.with_parameters(parameters, scratch, |lent, _, _| {
            self.inner.forward(lent, input, &mut children[0])
        })
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
        let Workspace { scratch, children, .. } = workspace;
        self.with_parameters(parameters, scratch, |lent, norm, scratch| {
            if !wanted.parameters {
                return self.inner.backward(lent, input, grad_output, wanted, &mut [], &mut children[0]);
            }
            start_gradient(lent, scratch, gradients);
            self.inner.backward(
                lent,
                input,
                grad_output,
                wanted,
                &mut gradients[..lent.len()],
                &mut children[0],
            )?;
            std::mem::swap(&mut scratch[GRAD_KERNEL], &mut gradients[0]);
            Self::add_gradient(&lent[0].value, norm, scratch, &mut gradients[0]);
            Ok(())
        })
    }

    fn forward_tangent(
        &self,
        parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        tangents.scratch(SCRATCH);
        let Workspace { scratch, children, .. } = tangents;
        children.resize_with(1, Workspace::default);
        self.with_parameters(parameters, scratch, |lent, _, _| {
            self.inner.forward_tangent(lent, input, &workspace.children[0], &mut children[0])
        })
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
        let Workspace { scratch, children, .. } = tangents;
        let (inner, own) = (&workspace.children[0], &mut children[0]);
        self.with_parameters(parameters, scratch, |lent, norm, scratch| {
            if !wanted.parameters {
                return self.inner.backward_tangent(lent, input, grad_output, wanted, &mut [], inner, own);
            }
            start_gradient(lent, scratch, gradients);
            let inside = &mut gradients[..lent.len()];
            self.inner.backward_tangent(lent, input, grad_output, wanted, inside, inner, own)?;
            std::mem::swap(&mut scratch[GRAD_KERNEL], &mut gradients[0]);
            Self::add_gradient(&lent[0].value, norm, scratch, &mut gradients[0]);
            Ok(())
        })
    }

    fn output<'a>(&self, input: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        self.inner.output(input, &workspace.children[0])
    }

    fn grad_input<'a>(&self, grad_output: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        self.inner.grad_input(grad_output, &workspace.children[0])
    }

    fn final_activation(&self) -> Activation {
        self.inner.final_activation()
    }
}

/// Puts zeros in the place of the kernel's gradient, which waits in the scratch.
fn start_gradient<T: Scalar>(lent: &[Parameter<T>], scratch: &mut [Tensor<T>], gradients: &mut [Tensor<T>]) {
    scratch[GRAD_KERNEL].resize(lent[0].value.shape());
    scratch[GRAD_KERNEL].fill(T::zero());
    std::mem::swap(&mut scratch[GRAD_KERNEL], &mut gradients[0]);
}
