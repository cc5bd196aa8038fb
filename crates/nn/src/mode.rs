//! What a pass is for, and the random numbers that belong to it.

/// What a pass is for. Layers such as `Dropout` and `BatchNormalization` compute something else while a network learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// To use what was learned.
    #[default]
    Inference,
    /// To learn.
    Training {
        /// Where the random numbers of the pass start. The same noise gives the same pass.
        noise: u64,
    },
}

impl Mode {
    /// The mode of a part of this pass, such as a layer, a shard or a step of a run: with noise of its own in training.
    #[must_use]
    pub fn within(self, place: u64) -> Self {
        match self {
            Self::Inference => Self::Inference,
            Self::Training { noise } => Self::Training { noise: mix(noise ^ mix(place)) },
        }
    }
}

/// Number `index` of the stream that starts at `noise`: 64 random bits.
pub(crate) fn random_bits(noise: u64, index: u64) -> u64 {
    mix(noise.wrapping_add(index.wrapping_mul(STEP)))
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The next number of `SplitMix64` (Steele et al., 2014): neighbours become unlike each other.
fn mix(state: u64) -> u64 {
    let mut bits = state.wrapping_add(STEP);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // The first numbers from the state 1234567, as published with the generator.
        let expected = [6_457_827_717_110_365_317_u64, 3_203_168_211_198_807_973];
        let found = [0, 1].map(|index| random_bits(1_234_567, index));
        assert_eq!(found, expected);
    }

    #[test]
    fn places_have_noise_of_their_own() {
        let mode = Mode::Training { noise: 1 };
        let all = [mode, mode.within(0), mode.within(1), mode.within(0).within(1), mode.within(1).within(0)];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{all:?}");
        }
        assert_eq!(mode.within(7), mode.within(7));
        assert_eq!(Mode::Inference.within(7), Mode::Inference);
    }
}
