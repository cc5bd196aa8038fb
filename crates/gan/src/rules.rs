//! How the steps of D and G are taken.

use std::ops::Range;

use nn::{Load, Network};
use tensor_ops::{Scalar, Shape, View};

use crate::augment::Change;
use crate::{Augment, Error, Objective, Penalty, Result};

/// How steps are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// What D and G strive for.
    pub objective: Objective,
    /// What keeps D smooth.
    pub penalty: Penalty,
    /// How many rows D sees as one (PacGAN: Lin et al., 2018): its input is as many times as long as a row.
    pub packing: usize,
    /// The largest norm of all gradients of D, or of G, together; longer ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Where the random numbers of layers such as dropout start.
    pub noise: u64,
    /// How images are changed before D sees them.
    pub augment: Augment,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            objective: Objective::default(),
            penalty: Penalty::default(),
            packing: 1,
            clip_norm: None,
            noise: 0,
            augment: Augment::default(),
        }
    }
}

impl Rules {
    pub(crate) fn check(&self, made: Shape, seen: Shape) -> Result<()> {
        self.objective.check()?;
        self.penalty.check()?;
        let refuse = |field, expected: String, found: String| Err(Error::Setting { field, expected, found });
        if self.packing == 0 || (self.packing > 1 && made.rank() != 1) {
            let expected = "at least 1, and 1 where rows have more than one axis".to_owned();
            return refuse("train.packing", expected, self.packing.to_string());
        }
        let packed = self.packing.checked_mul(made.len());
        let fits =
            if self.packing == 1 { made == seen } else { packed.is_some_and(|numbers| *seen == [numbers]) };
        if !fits {
            let packed = if self.packing == 1 { "" } else { "that, packed, is " };
            let expected = format!("an output {packed}{seen}, the discriminator's input");
            return refuse("generator.layers", expected, made.to_string());
        }
        self.augment.check(made)?;
        match self.clip_norm {
            Some(norm) if !(norm > 0.0 && norm.is_finite()) => {
                refuse("train.clip_norm", "a number > 0".to_owned(), norm.to_string())
            }
            _ => Ok(()),
        }
    }

    /// How many rows of a batch the networks take together: those that D sees as one, and those that depend on each other.
    pub(crate) fn together(&self, load: Load) -> usize {
        self.packing * load.together.max(1)
    }

    /// How many rows D sees of a batch of latents.
    pub(crate) fn rows_of<T>(&self, place: &str, batch: View<'_, T>, load: Load) -> nn::Result<usize> {
        let unit = self.together(load);
        match batch.shape().first() {
            Some(&rows) if rows > 0 && rows.is_multiple_of(unit) => Ok(rows / self.packing),
            _ => Err(nn::Error::Shape {
                place: place.to_owned(),
                expected: match unit {
                    1 => "at least one row".to_owned(),
                    unit => format!("a multiple of {unit} rows, which belong together"),
                },
                found: batch.shape(),
            }),
        }
    }

    /// Real rows as D sees them.
    pub(crate) fn packed<'a, T: Scalar>(
        &self,
        place: &str,
        real: View<'a, T>,
        discriminator: &Network<T>,
        rows: usize,
    ) -> nn::Result<View<'a, T>> {
        let seen = discriminator.input_shape();
        let (all, numbers) = (rows.saturating_mul(self.packing), rows.saturating_mul(seen.len()));
        if real.shape().len() != numbers || real.shape().first() != Some(&all) {
            let expected = format!("{all} real rows, {numbers} numbers in all");
            return Err(nn::Error::Shape { place: place.to_owned(), expected, found: real.shape() });
        }
        Ok(real.reshape(seen.with_first(rows)?)?)
    }

    /// The changes of images in a range, real ones from place 0 on, fake ones from `rows` on; none where nothing changes.
    pub(crate) fn changes<'a>(
        &self,
        place: &str,
        changes: &'a [Change],
        rows: usize,
    ) -> nn::Result<impl Fn(usize, &Range<usize>) -> &'a [Change] + use<'a>> {
        let expected = if self.augment.is_on() { 2 * rows } else { 0 };
        if changes.len() != expected {
            let place = place.to_owned();
            let expected = format!("{expected} changes of images, drawn before the step");
            return Err(nn::Error::Shape { place, expected, found: [changes.len()].into() });
        }
        Ok(move |first: usize, range: &Range<usize>| {
            changes.get(first + range.start..first + range.end).unwrap_or_default()
        })
    }

    /// What a row of D's costs, with the rows of G's in it.
    pub(crate) fn load<T: Scalar>(&self, generator: &Network<T>, discriminator: &Network<T>) -> Load {
        (0..self.packing).fold(discriminator.load(), |load, _| load.and(generator.load()))
    }
}
