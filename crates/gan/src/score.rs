//! What a step saw, and whether its numbers are numbers.

use nn::{Network, check_finite, check_parameters};
use tensor_ops::{Scalar, View};

use crate::Combined;

/// What a step saw before it changed anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepScore {
    /// The mean loss over the batch.
    pub loss: f64,
    /// The share of rows that D, or in a step of G its opponent, gets right, from 0 to 1.
    pub accuracy: f64,
    /// The penalty on D's gradient, which is not part of the loss.
    pub penalty: f64,
}

impl StepScore {
    /// From the loss of D or G, the number of rows on the right side, and the penalty.
    pub(crate) fn new(whose: &str, [loss, right, penalty]: [f64; 3], rows: usize) -> nn::Result<Self> {
        check_finite(&[loss], || format!("{whose}'s loss"))?;
        check_finite(&[penalty], || format!("the penalty on {whose}'s gradient"))?;
        Ok(Self { loss, accuracy: right / rows as f64, penalty })
    }
}

/// Refuses rows that are not finite.
pub(crate) fn check_rows<T: Scalar>(latent: View<'_, T>, real: Option<View<'_, T>>) -> nn::Result<()> {
    check_finite(latent.data(), || "a latent".to_owned())?;
    real.map_or(Ok(()), |real| check_finite(real.data(), || "a real row".to_owned()))
}

/// The error that says why a loss is not finite: a weight, if it is that, else the one given.
pub(crate) fn culprit<T: Scalar>(networks: Combined<'_, T>, error: nn::Error) -> nn::Error {
    let check = |name, network: &Network<T>| check_parameters(name, network.parameters());
    let weights = check("generator", networks.generator);
    weights.and_then(|()| check("discriminator", networks.discriminator)).err().unwrap_or(error)
}
