//! Whether there is as much memory as something would take, asked before it is begun.

use std::hint::black_box;

/// More than this, in bytes, no run takes.
const MOST: usize = 1 << 38;

/// Whether the system would give so many bytes now. They are asked for and given back at once, untouched, which costs
/// nothing.
pub(crate) fn is_there(bytes: usize) -> bool {
    let mut asked = Vec::<u8>::new();
    // Seen by nobody, it might be left out by the compiler.
    bytes <= MOST && black_box(&mut asked).try_reserve_exact(bytes).is_ok() && black_box(&asked).is_empty()
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
