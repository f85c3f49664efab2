//! Random numbers that follow from a seed and a purpose: SplitMix64 started from SHA-256 so that different purposes get unrelated sequences.

use limosa_record::random::SplitMix64;
use sha2::{Digest, Sha256};

/// A sequence of random numbers. Not for anything secret.
#[derive(Debug, Clone)]
pub(crate) struct Random(SplitMix64);

impl Random {
    /// The sequence for this purpose.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(purpose);
        let digest = digest.finalize();
        Self(SplitMix64(digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))))
    }

    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.unit()
    }

    /// Uniform in 0..n, n at least 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0.below(n as u64) as usize
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_means_are_right_and_the_sequence_follows_from_the_seed() {
        let (mut a, mut b) = (Random::new(1, "x"), Random::new(1, "x"));
        assert!((0..9).all(|_| a.next() == b.next()));
        assert_ne!(Random::new(1, "x").next(), Random::new(1, "y").next());
        assert_ne!(Random::new(1, "x").next(), Random::new(2, "x").next());
        let mean = (0..100_000).map(|_| a.exponential()).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        let mut counts = [0; 5];
        (0..50_000).for_each(|_| counts[a.below(5)] += 1);
        assert!(counts.iter().all(|n| (9_500..10_500).contains(n)), "{counts:?}");
    }
}
