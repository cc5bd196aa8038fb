//! Dropout: while a network learns, some numbers are left out at random.
//!
//! `y = x m / (1 - rate)`, where m is 0 with probability `rate` and else 1; in inference, `y = x`. Which ones are left out
//! follows from the noise of [`Mode::Training`] alone.
//!
//! Reference: Srivastava et al., 2014.
//!
//! ```
//! use nn::{Mode, Network, Tensor, Workspace, layers::Dropout};
//! use rand::SeedableRng;
//!
//! let rng = &mut rand_chacha::ChaCha8Rng::seed_from_u64(1);
//! let network = Network::<f64>::new([4], vec![Box::new(Dropout { rate: 0.5 })], rng)?;
//! let x = Tensor::full([1000, 4], 1.0);
//! assert_eq!(network.predict(x.view())?, x);
//! let mut workspace = Workspace { mode: Mode::Training { noise: 1 }, ..Workspace::default() };
//! let y = network.forward(x.view(), &mut workspace)?;
//! assert!(y.data().iter().all(|&y| y == 0.0 || y == 2.0));
//! assert!((y.data().iter().sum::<f64>() / 4000.0 - 1.0).abs() < 0.05);
//! # Ok::<(), nn::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use tensor_ops::{Scalar, Shape, Tensor, View, map_in_place, zip};

use super::{kept, kept_mut};
use crate::error::check_setting;
use crate::mode::random_bits;
use crate::{Dual, Layer, Mode, Parameter, Result, Wanted, Workspace};

/// Leaves numbers out while the network learns. Output and input have the same shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The share of numbers that are left out, from 0 to below 1.
    pub rate: f64,
}

/// How many random bits decide about a number: as many as each kind of number holds exactly.
const BITS: u32 = 24;

/// Fills with whole numbers below 2^24. Two of them come from the same 64 bits.
fn fill_with_bits<T: Scalar>(noise: u64, numbers: &mut [T]) {
    let whole = |bits: u64| T::from_f64(f64::from(bits as u32 >> (u32::BITS - BITS)));
    for (index, pair) in numbers.chunks_mut(2).enumerate() {
        let bits = random_bits(noise, index as u64);
        pair.iter_mut().zip([bits >> 32, bits]).for_each(|(number, bits)| *number = whole(bits));
    }
}

impl<T: Scalar> Layer<T> for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn output_shape(&self, input: Shape) -> Result<Shape> {
        let ok = (0.0..1.0).contains(&self.rate);
        check_setting(ok, "dropout", "rate", "a number from 0 to below 1", self.rate)?;
        Ok(input)
    }

    fn forward(
        &self,
        _parameters: &[Parameter<T>],
        input: View<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        workspace.scratch(1);
        let Workspace { output, scratch, mode, .. } = workspace;
        let [factors] = kept_mut("dropout", scratch)?;
        factors.resize(input.shape());
        match *mode {
            Mode::Inference => factors.fill(T::one()),
            Mode::Training { noise } => {
                fill_with_bits(noise, factors.data_mut());
                let left_out = T::from_f64((self.rate * f64::from(1 << BITS)).round());
                let kept = T::from_f64(1.0 / (1.0 - self.rate));
                map_in_place(factors, move |bits| if bits < left_out { T::zero() } else { kept });
            }
        }
        Ok(zip(input, factors.view(), output, |x, factor| x * factor)?)
    }

    fn backward(
        &self,
        _parameters: &[Parameter<T>],
        _input: View<'_, T>,
        grad_output: View<'_, T>,
        _wanted: Wanted,
        _gradients: &mut [Tensor<T>],
        workspace: &mut Workspace<T>,
    ) -> Result<()> {
        let Workspace { grad_input, scratch, .. } = workspace;
        let [factors] = kept("dropout", scratch)?;
        Ok(zip(grad_output, factors.view(), grad_input, |g, factor| g * factor)?)
    }

    fn forward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        input: Dual<'_, T>,
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        let [factors] = kept("dropout", &workspace.scratch)?;
        Ok(zip(input.tangent, factors.view(), &mut tangents.output, |x, factor| x * factor)?)
    }

    fn backward_tangent(
        &self,
        _parameters: &[Parameter<T>],
        _input: Dual<'_, T>,
        grad_output: Dual<'_, T>,
        _wanted: Wanted,
        _gradients: &mut [Tensor<T>],
        workspace: &Workspace<T>,
        tangents: &mut Workspace<T>,
    ) -> Result<()> {
        let [factors] = kept("dropout", &workspace.scratch)?;
        Ok(zip(grad_output.tangent, factors.view(), &mut tangents.grad_input, |g, factor| g * factor)?)
    }
}
