//! Random numbers that follow from a seed and a purpose: splitmix64 (Steele, Lea and Flood 2014),
//! started from SHA-256 so that different purposes get unrelated sequences.

use sha2::{Digest, Sha256};

/// A sequence of random numbers. Not for anything secret.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence for this purpose.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(purpose);
        let digest = digest.finalize();
        Self(digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    }

    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in 0..n; the bias of 2⁻⁶⁴ n is far below what a run could show.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
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
