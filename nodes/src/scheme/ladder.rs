//! When a detection path probes, and for how long each probe is kept: pure arithmetic.
//!
//! A probe is a path opened to the new address; noq sends a PATH_CHALLENGE at once and by itself
//! again after 1.0, 3.0, 5.0, 7.0 … s (its initial PTO of 1.0 s, doubled and capped at 2 s).
//! A schedule either closes a probe before the first repetition, so that its rungs are the only
//! datagrams on the wire, or makes use of the repetitions.

use limosa_record::node;
use std::time::Duration;

/// noq repeats a PATH_CHALLENGE after its initial PTO: 333 ms + 4 × 333 ms ÷ 2.
const BEFORE_REPETITION: Duration = Duration::from_millis(900);

/// The interval of the paper's ladder at the start: quic-go's RTO without an RTT sample.
const PAPER_FIRST: Duration = Duration::from_millis(500);
/// Where the doubling ends.
const PAPER_LONGEST: Duration = Duration::from_secs(60);

/// The interval of the fast ladder, and noq's repetition interval that it fills.
const FAST_INTERVAL: Duration = Duration::from_millis(100);
const FAST_RUNGS: u32 = 20;

/// When a detector probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schedule {
    /// One probe, repeated by noq: for a second path to a server that is there.
    Join,
    /// 0, 0.5, 1.5, 3.5, 7.5, 15.5 … s, the interval doubling up to 60 s.
    Paper,
    /// Every 100 ms. Twenty probes 100 ms apart are opened and kept; noq repeats each after 1 s
    /// and then every 2 s, so that together they are a comb of period 100 ms for as long as it
    /// takes, and no path id is spent after the twentieth.
    Fast,
}

impl From<node::Ladder> for Schedule {
    fn from(ladder: node::Ladder) -> Self {
        match ladder {
            node::Ladder::Paper => Self::Paper,
            node::Ladder::Fast => Self::Fast,
        }
    }
}

impl Schedule {
    /// Time of the `n`th probe since the start of the detector, counted from 0.
    pub(super) fn rung(self, n: u32) -> Option<Duration> {
        match self {
            Self::Join => (n == 0).then_some(Duration::ZERO),
            Self::Paper => Some((0..n).map(paper_interval).sum()),
            Self::Fast => (n < FAST_RUNGS).then(|| FAST_INTERVAL * n),
        }
    }

    /// How long the `n`th probe is kept when it is not answered; `None` is until the end.
    pub(super) fn kept(self, n: u32) -> Option<Duration> {
        match self {
            Self::Join | Self::Fast => None,
            Self::Paper => Some(paper_interval(n).min(BEFORE_REPETITION)),
        }
    }
}

/// Time between the `n`th probe of the paper's ladder and the next one.
fn paper_interval(n: u32) -> Duration {
    2u32.checked_pow(n).map_or(PAPER_LONGEST, |f| PAPER_FIRST.saturating_mul(f)).min(PAPER_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_of_the_paper() {
        let rungs: Vec<_> =
            (0..9).map(|n| Schedule::Paper.rung(n).unwrap().as_secs_f64()).collect();
        assert_eq!(rungs, [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 123.5]);
        let late = Schedule::Paper.rung(41).unwrap() - Schedule::Paper.rung(40).unwrap();
        assert_eq!(late, PAPER_LONGEST);
        assert_eq!(Schedule::Paper.kept(0), Some(PAPER_FIRST));
        assert_eq!(Schedule::Paper.kept(5), Some(BEFORE_REPETITION));
    }

    #[test]
    fn the_fast_ladder_leaves_no_gap_with_the_repetitions_of_noq() {
        let repetitions =
            [0.0, 0.999].into_iter().chain((0..15).map(|k| 2.997 + 2.0 * f64::from(k)));
        let starts: Vec<_> = (0..99).map_while(|n| Schedule::Fast.rung(n)).collect();
        let mut sent: Vec<f64> = repetitions
            .flat_map(|after| starts.iter().map(move |start| start.as_secs_f64() + after))
            .filter(|t| *t < 30.0)
            .collect();
        sent.sort_by(f64::total_cmp);
        let longest = sent.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max);
        assert!(longest < 0.105, "{longest}");
    }
}
