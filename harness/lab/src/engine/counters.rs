//! What the engine counts.

use serde::{Deserialize, Serialize};

/// Totals of one direction of a link since the start or the last reset; packets are single
/// segments, bytes those of Ethernet frames without their checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DirectionCounters {
    /// Packets that came.
    pub in_packets: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Packets handed to the far end.
    pub out_packets: u64,
    /// Their bytes.
    pub out_bytes: u64,
    /// Packets dropped because the queue of the rate was full.
    pub queue_full_packets: u64,
    /// Packets lost at random, as wished.
    pub lost_packets: u64,
    /// Packets dropped because the delay line was full.
    pub line_full_packets: u64,
    /// Packets dropped because the link, or the interface at its far end, was down.
    pub link_down_packets: u64,
    /// Packets that the far end had no room for.
    pub reader_full_packets: u64,
    /// Packets that the kernel refused at the far end, as malformed ones.
    pub refused_packets: u64,
    /// Packets sent twice.
    pub duplicated_packets: u64,
    /// Packets with one bit turned over.
    pub corrupted_packets: u64,
    /// Packets that overtook others.
    pub reordered_packets: u64,
    /// Bytes that wait in the queue now.
    pub backlog_bytes: u64,
    /// Packets that wait in the queue now.
    pub backlog_packets: u64,
    /// Packets in the delay line now.
    pub flying_packets: u64,
    /// How late packets left.
    pub timer: TimerError,
}

/// Actual minus due time of departure, in nanoseconds; nothing leaves early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TimerError {
    /// Packets measured.
    pub packets: u64,
    /// Half of them were at most this late (to 6 %).
    pub median_ns: u64,
    /// 99 of 100 were at most this late (to 6 %).
    pub p99_ns: u64,
    /// The latest one.
    pub max_ns: u64,
}

/// Values to 6 %: sixteen steps to each doubling (as in HdrHistogram).
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    max: u64,
}

const STEPS: u64 = 16;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; (61 * STEPS) as usize], max: 0 }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, value: u64, times: u64) {
        self.counts[Self::step(value)] += times;
        self.max = self.max.max(value);
    }

    fn step(value: u64) -> usize {
        // Below 16 each value has its own step; then the four bits behind the first one count.
        let doublings = u64::from((value / STEPS).checked_ilog2().map_or(0, |d| d + 1));
        let within = if doublings == 0 { value } else { (value >> (doublings - 1)) - STEPS };
        (doublings * STEPS + within) as usize
    }

    /// The largest value of a step.
    fn top(step: usize) -> u64 {
        let (doublings, within) = (step as u64 / STEPS, step as u64 % STEPS);
        match doublings {
            0 => within,
            _ => ((u128::from(STEPS + within + 1) << (doublings - 1)) - 1) as u64,
        }
    }

    pub(super) fn summary(&self) -> TimerError {
        let packets: u64 = self.counts.iter().sum();
        let quantile = |share: f64| {
            let wanted = (packets as f64 * share).ceil() as u64;
            let mut seen = 0;
            let step = self.counts.iter().position(|count| {
                seen += count;
                seen >= wanted.max(1)
            });
            step.map_or(0, Self::top).min(self.max)
        };
        TimerError { packets, median_ns: quantile(0.5), p99_ns: quantile(0.99), max_ns: self.max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_cover_all_values_without_gaps() {
        for value in [0, 1, 15, 16, 17, 31, 32, 1000, 123_456_789, u64::MAX / 3, u64::MAX] {
            let step = Histogram::step(value);
            let top = Histogram::top(step);
            assert!(top >= value && (top - value) as f64 <= value as f64 / 16.0, "{value}");
            assert!(step == 0 || Histogram::top(step - 1) < value, "{value}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.summary(), TimerError::default());
        (1..=1000).for_each(|us| histogram.add(us * 1000, 1));
        let summary = histogram.summary();
        assert_eq!((summary.packets, summary.max_ns), (1000, 1_000_000));
        assert!((500_000..532_000).contains(&summary.median_ns), "{summary:?}");
        assert!((990_000..=1_000_000).contains(&summary.p99_ns), "{summary:?}");
    }
}
