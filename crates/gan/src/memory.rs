//! Whether there is as much memory as something would take, asked before it is begun.

use std::hint::black_box;

use nn::layers::{LayerConfig, Sequential};
use nn::{Load, Network, Optimizer};
use tensor_ops::Scalar;

use crate::config::shape_of;
use crate::{Config, Error, NetworkConfig, Result};

/// More than this, in bytes, no run takes.
const MOST: usize = 1 << 38;

/// Whether the system would give so many bytes now. They are asked for and given back at once, untouched, which costs
/// nothing.
pub(crate) fn is_there(bytes: usize) -> bool {
    let mut asked = Vec::<u8>::new();
    // Seen by nobody, it might be left out by the compiler.
    bytes <= MOST && black_box(&mut asked).try_reserve_exact(bytes).is_ok() && black_box(&asked).is_empty()
}

impl Config {
    /// Refuses what no machine could hold, or not this one, from the shapes alone: before anything is read or allocated.
    ///
    /// # Errors
    /// [`Error::Network`] for a layer that cannot work, [`Error::Setting`] for what asks for most of too much.
    pub(crate) fn check_memory<T: Scalar>(&self) -> Result<()> {
        let measure = |place, config: &NetworkConfig| {
            let layers = Sequential::new(config.layers.iter().map(LayerConfig::build).collect());
            Network::<T>::measure(shape_of(place, config)?, &layers).map_err(Error::network(place))
        };
        let (row, generator) = measure("generator", &self.generator)?;
        let (_, discriminator) = measure("discriminator", &self.discriminator)?;
        let number = size_of::<T>();
        let product = |sizes: &[usize]| sizes.iter().fold(1, |all: usize, size| all.saturating_mul(*size));
        // Weights, gradients and what the optimizer remembers; and what comes out of the layers for a row.
        let network = |load: Load, optimizer: &Optimizer, copies| {
            let copies = 2 + optimizer.slots().len() + copies;
            product(&[load.parameters, copies, number]).saturating_add(product(&[load.outputs, number]))
        };
        let averages = usize::from(self.train.ema_decay.is_some());
        let whole = generator.and(discriminator);
        let kept = if whole.whole_batch { whole.outputs } else { 0 };
        let given = row.len().saturating_add(self.latent.dim());
        let wanted = [
            ("generator.layers", network(generator, &self.optimizer.generator, averages)),
            ("discriminator.layers", network(discriminator, &self.optimizer.discriminator, 0)),
            ("train.batch", product(&[self.train.batch, given.saturating_add(kept), number])),
            (
                "evaluate.rows",
                product(&[self.evaluate.rows, given.saturating_add(row.len()), size_of::<f64>()]),
            ),
        ];
        let bytes = wanted.iter().fold(0_usize, |all, (_, bytes)| all.saturating_add(*bytes));
        match wanted.into_iter().max_by_key(|(_, bytes)| *bytes) {
            Some((field, most)) if !is_there(bytes) => {
                let expected = "what fits into memory".to_owned();
                Err(Error::Setting { field, expected, found: format!("{most} bytes of {bytes} at least") })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_there_and_a_terabyte_is_not() {
        assert!(is_there(0) && is_there(1 << 20));
        assert!(!is_there(1 << 40) && !is_there(usize::MAX));
    }
}
