//! Chance: reproducible random numbers and the two models of loss.
//!
//! Input: a seed and a share. Output: decisions, one per packet. Every kind of decision has a
//! sequence of its own, so that, say, another loss rate does not change which packets are late.

use crate::shape::LossPlan;
use limosa_record::random::SplitMix64;
use limosa_record::random::seed_of;

/// The sequence for one kind of decision.
#[derive(Debug, Clone)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) fn new(seed: u64, kind: &str) -> Self {
        Self(SplitMix64(seed_of(&[&seed.to_le_bytes(), kind.as_bytes()])))
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, ratio: f64) -> bool {
        ratio > 0.0 && self.0.unit() < ratio
    }

    /// See [`SplitMix64::below`].
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }
}

/// Which packets get lost.
#[derive(Debug)]
pub(super) struct Loss {
    plan: LossPlan,
    random: Random,
    bad: bool,
}

impl Loss {
    pub(super) fn new(plan: LossPlan, seed: u64) -> Self {
        Self { plan, random: Random::new(seed, "loss"), bad: false }
    }

    /// Whether the next packet is lost. As in netem's `loss gemodel`, a packet meets the state that
    /// the one before it left, and the state changes with the packet.
    pub(super) fn next(&mut self) -> bool {
        match self.plan {
            LossPlan::Random { ratio } => self.random.chance(ratio),
            LossPlan::GilbertElliott {
                to_bad_ratio,
                to_good_ratio,
                bad_loss_ratio,
                good_loss_ratio,
            } => {
                let (change, loss) = match self.bad {
                    true => (to_good_ratio, bad_loss_ratio),
                    false => (to_bad_ratio, good_loss_ratio),
                };
                self.bad ^= self.random.chance(change);
                self.random.chance(loss)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_seeds_have_sequences_of_their_own() {
        let first = |seed, kind| Random::new(seed, kind).0.next();
        assert_eq!(first(1, "loss"), first(1, "loss"));
        assert_ne!(first(1, "loss"), first(2, "loss"));
        assert_ne!(first(1, "loss"), first(1, "duplicate"));
    }

    #[test]
    fn random_loss_has_its_share() {
        let mut loss = Loss::new(LossPlan::Random { ratio: 0.02 }, 7);
        let lost = (0..100_000).filter(|_| loss.next()).count() as f64;
        // Three standard deviations of a binomial distribution.
        assert!((lost - 2000.0).abs() < 3.0 * (100_000.0 * 0.02 * 0.98_f64).sqrt(), "{lost}");
        let mut never = Loss::new(LossPlan::Random { ratio: 0.0 }, 7);
        let mut always = Loss::new(LossPlan::Random { ratio: 1.0 }, 7);
        assert!((0..1000).all(|_| !never.next() && always.next()));
    }

    #[test]
    fn gilbert_elliott_has_its_stationary_loss_and_burst_length() {
        let (to_bad_ratio, to_good_ratio) = (0.01, 0.25);
        let plan = LossPlan::GilbertElliott {
            to_bad_ratio,
            to_good_ratio,
            bad_loss_ratio: 1.0,
            good_loss_ratio: 0.0,
        };
        let mut loss = Loss::new(plan, 3);
        let lost: Vec<bool> = (0..1_000_000).map(|_| loss.next()).collect();
        let share = lost.iter().filter(|l| **l).count() as f64 / lost.len() as f64;
        let bursts = lost.windows(2).filter(|w| !w[0] && w[1]).count() as f64;
        let length = share * lost.len() as f64 / bursts;
        // Gilbert 1960: p ÷ (p + r) lost, in bursts of 1 ÷ r.
        let wanted = to_bad_ratio / (to_bad_ratio + to_good_ratio);
        assert!((share / wanted - 1.0).abs() < 0.05, "{share} {wanted}");
        assert!((length * to_good_ratio - 1.0).abs() < 0.05, "{length}");
    }
}
