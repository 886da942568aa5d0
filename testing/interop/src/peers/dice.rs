//! Decisions from a seed.

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

/// What the driver asks its randomness.
pub trait Dice {
    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize;

    /// True once in `one_in` times.
    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// One of them.
    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).cloned()
    }

    /// Another order.
    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }

    /// Random bytes.
    fn bytes(&mut self, length: usize) -> Vec<u8>;
}

impl Dice for ChaCha20Rng {
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next_u64() % end).unwrap_or(0)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill_bytes(&mut bytes);
        bytes
    }
}
