//! Delivery opportunities of a recorded link (mahimahi: Netravali et al., ATC 2015).
//!
//! Input: a trace and the time at which it starts. Output: when a packet that heads the queue has
//! passed. Pure: driven by given times, in nanoseconds.

use limosa_record::recording::Recording;
use std::sync::Arc;

/// What one opportunity passes, counted as mahimahi does: IP packets, without Ethernet headers.
const OPPORTUNITY_BYTES: u64 = 1500;
/// Length of an Ethernet header.
const ETHERNET_BYTES: u32 = 14;
const NS_PER_MS: u64 = 1_000_000;

/// A trace that runs, over and over.
#[derive(Debug)]
pub(super) struct Trace {
    recording: Arc<Recording>,
    start_ns: u64,
    /// The opportunity that is next to be used; opportunities are numbered over all rounds.
    next: u64,
    /// What is left of the one before it, for a packet that waited already when it came.
    left_bytes: u64,
}

impl Trace {
    /// Starts a trace; without opportunities nothing ever passes.
    pub(super) fn new(recording: Arc<Recording>, start_ns: u64) -> Self {
        Self { recording, start_ns, next: 0, left_bytes: 0 }
    }

    fn opportunities_ms(&self) -> &[u32] {
        &self.recording.opportunities_ms
    }

    /// When a packet has passed that heads the queue from `ready_ns` on.
    pub(super) fn due(&self, ready_ns: u64, bytes: u32) -> u64 {
        self.passage(ready_ns, bytes).map_or(u64::MAX, |(last, _)| self.time(last))
    }

    /// The same, and uses the opportunities up.
    pub(super) fn pass(&mut self, ready_ns: u64, bytes: u32) {
        if let Some((last, left)) = self.passage(ready_ns, bytes) {
            (self.next, self.left_bytes) = (last + 1, left);
        }
    }

    /// The opportunity that passes a packet's last byte, and what is then left of it.
    fn passage(&self, ready_ns: u64, bytes: u32) -> Option<(u64, u64)> {
        if self.opportunities_ms().is_empty() {
            return None;
        }
        let bytes = u64::from(bytes.saturating_sub(ETHERNET_BYTES).max(1));
        // Opportunities that nothing waited for are lost, and so is what was left of one.
        let first = self.next.max(self.first_from(ready_ns));
        let in_time = self.next > 0 && self.time(self.next - 1) >= ready_ns;
        let left = if in_time { self.left_bytes } else { 0 };
        match bytes.checked_sub(left) {
            None | Some(0) => Some((self.next - 1, left - bytes)),
            Some(more) => {
                let count = more.div_ceil(OPPORTUNITY_BYTES);
                Some((first + count - 1, count * OPPORTUNITY_BYTES - more))
            }
        }
    }

    fn length_ns(&self) -> u64 {
        self.opportunities_ms().last().map_or(1, |ms| u64::from(*ms).max(1)) * NS_PER_MS
    }

    fn time(&self, number: u64) -> u64 {
        let count = self.opportunities_ms().len() as u64;
        let within = u64::from(self.opportunities_ms()[(number % count) as usize]) * NS_PER_MS;
        self.start_ns + number / count * self.length_ns() + within
    }

    /// The first opportunity at or after a time.
    fn first_from(&self, at_ns: u64) -> u64 {
        let since = at_ns.saturating_sub(self.start_ns);
        // One that falls on the end of a round belongs to it and not to the next one.
        let round = since.saturating_sub(1) / self.length_ns();
        let within = (since - round * self.length_ns()).div_ceil(NS_PER_MS);
        let number = self.opportunities_ms().partition_point(|ms| u64::from(*ms) < within);
        round * self.opportunities_ms().len() as u64 + number as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u32 = 1514;

    fn starting(opportunities_ms: Vec<u32>, start_ns: u64) -> Trace {
        Trace::new(Arc::new(Recording { opportunities_ms, ..Recording::default() }), start_ns)
    }

    fn trace(opportunities_ms: Vec<u32>) -> Trace {
        starting(opportunities_ms, 0)
    }

    /// Passage times in milliseconds of packets that all wait from `ready_ms` on.
    fn passages(trace: &mut Trace, ready_ms: u64, sizes: &[u32]) -> Vec<u64> {
        let mut ready = ready_ms * NS_PER_MS;
        let each = |size: &u32| {
            let due = trace.due(ready, *size);
            trace.pass(ready, *size);
            ready = due;
            due / NS_PER_MS
        };
        sizes.iter().map(each).collect()
    }

    #[test]
    fn each_opportunity_passes_one_full_packet_and_the_trace_starts_again() {
        let mut trace = trace(vec![1, 1, 5, 10]);
        assert_eq!(passages(&mut trace, 0, &[FULL; 9]), [1, 1, 5, 10, 11, 11, 15, 20, 21]);
    }

    #[test]
    fn small_packets_share_an_opportunity_and_large_ones_take_several() {
        let mut trace = trace(vec![1, 2, 3, 4]);
        assert_eq!(passages(&mut trace, 0, &[514, 514, 514, 514, 3014]), [1, 1, 1, 2, 4]);
    }

    #[test]
    fn unused_opportunities_are_lost() {
        let mut trace = trace(vec![1, 2, 3, 10]);
        assert_eq!(passages(&mut trace, 0, &[514]), [1]);
        // What was left at 1 ms and the opportunity at 2 ms are gone.
        assert_eq!(trace.due(2_500_000, FULL), 3 * NS_PER_MS);
        assert_eq!(passages(&mut trace, 4, &[FULL, FULL]), [10, 11]);
        // Years later, at once.
        assert_eq!(passages(&mut trace, 1_000_000_000_004, &[FULL]), [1_000_000_000_010]);
    }

    #[test]
    fn a_trace_of_nothing_passes_nothing() {
        assert_eq!(trace(Vec::new()).due(5, FULL), u64::MAX);
        let mut zero = starting(vec![0], 7);
        assert_eq!(zero.due(7, FULL), 7);
        zero.pass(7, FULL);
        assert_eq!(zero.due(7, FULL), 7 + NS_PER_MS);
    }
}
