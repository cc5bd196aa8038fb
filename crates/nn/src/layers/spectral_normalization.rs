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

use super::{LayerConfig, kept, kept_mut, unexpected};
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

const NAME: &str = "spectral_normalization";

/// The scratch: the parameters that the layer inside is given, the gradient of its kernel, W u / abs(W u), and u / abs(u).
const KERNEL: usize = 0;
const BIAS: usize = 1;
const GRAD_KERNEL: usize = 2;
/// Behind them lie v and u.
const SCRATCH: usize = 5;

impl<T: Scalar> Normalised<T> {
    /// Computes u / abs(u) and W u / abs(W u); returns the spectral norm.
    fn singular_vectors(kernel: &Tensor<T>, own: &Tensor<T>, [.., v, u]: &mut [Tensor<T>; SCRATCH]) -> T {
        let units = own.data().len().max(1);
        u.copy_from(own.view());
        normalise(u.data_mut());
        v.resize([kernel.data().len() / units]);
        for (v, row) in v.data_mut().iter_mut().zip(kernel.data().chunks_exact(units)) {
            *v = row.iter().zip(u.data()).map(|(&w, &u)| w * u).sum();
        }
        normalise(v.data_mut())
    }

    /// Lends the normalised parameters, and the spectral norm, to `work`.
    fn with_parameters<R>(
        &self,
        parameters: &[Parameter<T>],
        scratch: &mut [Tensor<T>],
        work: impl FnOnce(&[Parameter<T>], T, &mut [Tensor<T>; SCRATCH]) -> Result<R>,
    ) -> Result<R> {
        let scratch = kept_mut(NAME, scratch)?;
        let found = Shape::from([parameters.len()]);
        let (kernel, bias, own) = match parameters {
            [kernel, own] => (kernel, None, own),
            [kernel, bias, own] => (kernel, Some(bias), own),
            _ => return unexpected(NAME, "2 or 3 parameters", found),
        };
        let norm = Self::singular_vectors(&kernel.value, &own.value, scratch);
        let scale = T::one() / norm;
        scratch[KERNEL].copy_from(kernel.value.view());
        scratch[KERNEL].data_mut().iter_mut().for_each(|w| *w *= scale);
        if let Some(bias) = bias {
            scratch[BIAS].copy_from(bias.value.view());
        }
        // The same parameters with other values, in buffers that are kept.
        let lend = |&Parameter { layer, name, trainable, learned, .. }: &Parameter<T>,
                    buffer: &mut Tensor<T>| {
            Parameter { layer, name, value: std::mem::take(buffer), trainable, learned }
        };
        let mut lent = [lend(kernel, &mut scratch[KERNEL]), lend(bias.unwrap_or(own), &mut scratch[BIAS])];
        let result = match &lent {
            [kernel, _] if bias.is_none() => work(std::slice::from_ref(kernel), norm, scratch),
            all => work(all, norm, scratch),
        };
        scratch[KERNEL] = std::mem::take(&mut lent[KERNEL].value);
        scratch[BIAS] = std::mem::take(&mut lent[BIAS].value);
        result
    }

    /// Lends `work` the gradients of the layer inside, that of the kernel from 0 on, which is then added to what was there.
    #[expect(clippy::indexing_slicing, reason = "a kernel at least is lent, and there are as many gradients")]
    fn with_gradient(
        lent: &[Parameter<T>],
        norm: T,
        scratch: &mut [Tensor<T>; SCRATCH],
        gradients: &mut [Tensor<T>],
        work: impl FnOnce(&mut [Tensor<T>]) -> Result<()>,
    ) -> Result<()> {
        let found = Shape::from([gradients.len()]);
        let Some(inside) = gradients.get_mut(..lent.len()) else {
            return unexpected(NAME, format!("{} gradients", lent.len()), found);
        };
        scratch[GRAD_KERNEL].resize(lent[KERNEL].value.shape());
        scratch[GRAD_KERNEL].fill(T::zero());
        std::mem::swap(&mut scratch[GRAD_KERNEL], &mut inside[KERNEL]);
        let done = work(inside);
        std::mem::swap(&mut scratch[GRAD_KERNEL], &mut inside[KERNEL]);
        Self::add_gradient(&lent[KERNEL].value, norm, scratch, &mut inside[KERNEL]);
        done
    }

    /// Adds to the gradient of W, from that of W / s: (G - sum(G W / s) v u^T) / s.
    fn add_gradient(
        normalised: &Tensor<T>,
        norm: T,
        [_, _, grad, v, u]: &[Tensor<T>; SCRATCH],
        gradient: &mut Tensor<T>,
    ) {
        let (grad, v, u) = (grad.data(), v.data(), u.data());
        let along: T = grad.iter().zip(normalised.data()).map(|(&g, &w)| g * w).sum();
        let units = u.len().max(1);
        let rows = gradient.data_mut().chunks_exact_mut(units).zip(grad.chunks_exact(units)).zip(v);
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
        NAME
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let iterations = self.power_iterations;
        check_setting(iterations > 0, NAME, "power_iterations", "at least 1", iterations)?;
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
                place: NAME.to_owned(),
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
            for row in kernel.value.data().chunks_exact(u.len().max(1)) {
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
        workspace.children(1);
        let Workspace { scratch, children, logits, .. } = workspace;
        let [child] = kept_mut(NAME, children)?;
        child.logits = *logits;
        self.with_parameters(parameters, scratch, |lent, _, _| self.inner.forward(lent, input, child))
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
        let [child] = kept_mut(NAME, children)?;
        self.with_parameters(parameters, scratch, |lent, norm, scratch| {
            if !wanted.parameters {
                return self.inner.backward(lent, input, grad_output, wanted, &mut [], child);
            }
            Self::with_gradient(lent, norm, scratch, gradients, |inside| {
                self.inner.backward(lent, input, grad_output, wanted, inside, child)
            })
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
        let ([inner], [own]) = (kept(NAME, &workspace.children)?, kept_mut(NAME, children)?);
        self.with_parameters(parameters, scratch, |lent, _, _| {
            self.inner.forward_tangent(lent, input, inner, own)
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
        let ([inner], [own]) = (kept(NAME, &workspace.children)?, kept_mut(NAME, children)?);
        self.with_parameters(parameters, scratch, |lent, norm, scratch| {
            if !wanted.parameters {
                return self.inner.backward_tangent(lent, input, grad_output, wanted, &mut [], inner, own);
            }
            Self::with_gradient(lent, norm, scratch, gradients, |inside| {
                self.inner.backward_tangent(lent, input, grad_output, wanted, inside, inner, own)
            })
        })
    }

    fn output<'a>(&self, input: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        workspace.children.first().map_or(input, |child| self.inner.output(input, child))
    }

    fn grad_input<'a>(&self, grad_output: View<'a, T>, workspace: &'a Workspace<T>) -> View<'a, T> {
        workspace.children.first().map_or(grad_output, |child| self.inner.grad_input(grad_output, child))
    }

    fn final_activation(&self) -> Activation {
        self.inner.final_activation()
    }
}
