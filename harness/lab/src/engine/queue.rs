//! The first stage of a direction: a queue, and a rate or a trace that empties it.
//!
//! Input: packets with their sizes and times of arrival. Output: the same packets, in order, each
//! with the exact time at which it left, whenever that is asked for. Pure: driven by given times,
//! in nanoseconds.
//!
//! Rates mean what they mean in tbf (net/sched/sch_tbf.c): a bucket of `burst_bytes` that is full at
//! first and gains `rate_bps` ÷ 8 bytes a second; a packet leaves when the bucket holds its bytes. The
//! queue drops what does not fit at its tail (sch_fifo.c).

use super::trace::Trace;
use crate::shape::{RateStage, ShapePlan};
use std::collections::VecDeque;

/// The queue holds this many bytes where nothing limits the rate; it is then always empty.
const UNLIMITED: u64 = u64::MAX;

/// Packets that wait, and what they wait for.
#[derive(Debug)]
pub(super) struct Queue<P> {
    waiting: VecDeque<Waiting<P>>,
    backlog_bytes: u64,
    limit_bytes: u64,
    /// When the last packet left: the next one was not at the head before.
    last_ns: u64,
    /// When the head leaves; computed once.
    due_ns: Option<u64>,
    meter: Meter,
}

#[derive(Debug)]
struct Waiting<P> {
    arrived_ns: u64,
    bytes: u32,
    packet: P,
}

#[derive(Debug)]
enum Meter {
    Open,
    Bucket(Bucket),
    Trace(Trace),
}

impl<P> Queue<P> {
    pub(super) fn new(shape: &ShapePlan, now_ns: u64) -> Self {
        let mut queue = Self {
            waiting: VecDeque::new(),
            backlog_bytes: 0,
            limit_bytes: UNLIMITED,
            last_ns: now_ns,
            due_ns: None,
            meter: Meter::Open,
        };
        queue.reshape(shape, now_ns);
        queue
    }

    /// Changes rate and limit; what waits stays. As in tbf, the bucket is then full; a trace begins.
    pub(super) fn reshape(&mut self, shape: &ShapePlan, now_ns: u64) {
        let (meter, limit_bytes) = match (&shape.trace, shape.rate) {
            (Some(trace), _) => {
                // The carrier refuses shapes whose recording it does not have.
                let recording = trace.recording.0.clone().unwrap_or_default();
                (Meter::Trace(Trace::new(recording, now_ns)), trace.limit_bytes.into())
            }
            (None, Some(rate)) => {
                (Meter::Bucket(Bucket::new(rate, now_ns)), rate.limit_bytes.into())
            }
            (None, None) => (Meter::Open, UNLIMITED),
        };
        (self.meter, self.limit_bytes) = (meter, limit_bytes);
        self.last_ns = self.last_ns.max(now_ns);
        self.due_ns = None;
    }

    /// Puts a packet behind the others, or drops it because it does not fit. Ask for all that has
    /// left by `now_ns` first: the backlog is that of `now_ns` then.
    pub(super) fn push(&mut self, now_ns: u64, bytes: u32, packet: P) -> Result<(), P> {
        // A packet larger than the bucket would block the queue for ever.
        let never = matches!(&self.meter, Meter::Bucket(bucket) if bytes > bucket.burst_bytes);
        if never || self.backlog_bytes + u64::from(bytes) > self.limit_bytes {
            return Err(packet);
        }
        self.backlog_bytes += u64::from(bytes);
        self.waiting.push_back(Waiting { arrived_ns: now_ns, bytes, packet });
        Ok(())
    }

    /// When the next packet leaves, if one waits.
    pub(super) fn due(&mut self) -> Option<u64> {
        let head = self.waiting.front()?;
        let ready = head.arrived_ns.max(self.last_ns);
        let meter = &self.meter;
        Some(*self.due_ns.get_or_insert_with(|| meter.due(ready, head.bytes)))
    }

    /// The next packet that has left by `now_ns`, with its time.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<(u64, P)> {
        let due = self.due().filter(|due| *due <= now_ns)?;
        let Waiting { arrived_ns, bytes, packet } = self.waiting.pop_front()?;
        self.meter.pass(arrived_ns.max(self.last_ns), due, bytes);
        self.backlog_bytes -= u64::from(bytes);
        (self.last_ns, self.due_ns) = (due, None);
        Some((due, packet))
    }

    /// Bytes that wait.
    pub(super) fn backlog_bytes(&self) -> u64 {
        self.backlog_bytes
    }

    /// Packets that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Throws all packets away.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = P> {
        (self.backlog_bytes, self.due_ns) = (0, None);
        self.waiting.drain(..).map(|w| w.packet)
    }
}

impl Meter {
    fn due(&self, ready_ns: u64, bytes: u32) -> u64 {
        match self {
            Self::Open => ready_ns,
            Self::Bucket(bucket) => bucket.due(ready_ns, bytes),
            Self::Trace(trace) => trace.due(ready_ns, bytes),
        }
    }

    fn pass(&mut self, ready_ns: u64, due_ns: u64, bytes: u32) {
        match self {
            Self::Open => {}
            Self::Bucket(bucket) => bucket.pass(due_ns, bytes),
            Self::Trace(trace) => trace.pass(ready_ns, bytes),
        }
    }
}

/// Tokens are counted in billionths of a bit, of which each nanosecond brings `rate_bps`: no
/// rounding ever adds up.
#[derive(Debug)]
struct Bucket {
    rate_bps: u128,
    burst_bytes: u32,
    tokens: u128,
    at_ns: u64,
}

/// Tokens of one byte.
const BYTE: u128 = 8_000_000_000;

impl Bucket {
    fn new(rate: RateStage, now_ns: u64) -> Self {
        Self {
            rate_bps: u128::from(rate.rate_bps.max(1)),
            burst_bytes: rate.burst_bytes,
            tokens: u128::from(rate.burst_bytes) * BYTE,
            at_ns: now_ns,
        }
    }

    fn tokens(&self, at_ns: u64) -> u128 {
        let gained = u128::from(at_ns.saturating_sub(self.at_ns)) * self.rate_bps;
        (self.tokens + gained).min(u128::from(self.burst_bytes) * BYTE)
    }

    fn due(&self, ready_ns: u64, bytes: u32) -> u64 {
        let missing = (u128::from(bytes) * BYTE).saturating_sub(self.tokens(ready_ns));
        let wait = missing.div_ceil(self.rate_bps);
        ready_ns.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    fn pass(&mut self, at_ns: u64, bytes: u32) {
        self.tokens = self.tokens(at_ns).saturating_sub(u128::from(bytes) * BYTE);
        self.at_ns = self.at_ns.max(at_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{DelayStage, LossPlan};
    use proptest::prelude::*;

    fn shape(rate_bps: u64, burst_bytes: u32, limit_bytes: u32) -> ShapePlan {
        let delay = DelayStage {
            delay_ns: 0,
            jitter_ns: 0,
            jitter_reorders: false,
            loss: LossPlan::Random { ratio: 0.0 },
            duplicate_ratio: 0.0,
            corrupt_ratio: 0.0,
            reorder_ratio: 0.0,
            limit_packets: 1000,
        };
        let rate = Some(RateStage { rate_bps, burst_bytes, limit_bytes });
        ShapePlan { rate, trace: None, delay }
    }

    fn all<P>(queue: &mut Queue<P>) -> Vec<(u64, P)> {
        std::iter::from_fn(|| queue.pop(u64::MAX - 1)).collect()
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let mut queue = Queue::new(&shape(8_000_000, 3000, 1_000_000), 1000);
        (0..4).for_each(|n| queue.push(1000, 1500, n).unwrap());
        // 1500 bytes at 1 byte per microsecond.
        let times: Vec<u64> = all(&mut queue).into_iter().map(|(t, _)| t).collect();
        assert_eq!(times, [1000, 1000, 1_501_000, 3_001_000]);
    }

    #[test]
    fn the_queue_drops_what_does_not_fit_and_never_takes_what_cannot_pass() {
        let mut queue = Queue::new(&shape(8_000_000, 1500, 4000), 0);
        assert_eq!(queue.push(0, 1501, 'x'), Err('x'));
        assert_eq!(queue.push(0, 1500, 'a'), Ok(()));
        assert_eq!(queue.pop(0), Some((0, 'a')));
        for name in ['b', 'c'] {
            assert_eq!(queue.push(0, 1500, name), Ok(()));
        }
        assert_eq!(queue.push(0, 1500, 'd'), Err('d'));
        assert_eq!((queue.backlog_bytes(), queue.len()), (3000, 2));
        assert_eq!(queue.drain().collect::<String>(), "bc");
        assert_eq!((queue.backlog_bytes(), queue.due()), (0, None));
    }

    #[test]
    fn a_new_rate_holds_for_what_waits() {
        let mut queue = Queue::new(&shape(8_000_000, 1500, 10_000), 0);
        (0..3).for_each(|n| queue.push(0, 1500, n).unwrap());
        assert_eq!(queue.pop(0), Some((0, 0)));
        assert_eq!(queue.due(), Some(1_500_000));
        queue.reshape(&shape(80_000_000, 1500, 10_000), 500_000);
        assert_eq!(all(&mut queue), [(500_000, 1), (650_000, 2)]);
        queue.push(9_000_000, 1500, 3).unwrap();
        queue.reshape(&ShapePlan { rate: None, ..shape(1, 1, 1) }, 9_000_000);
        assert_eq!(all(&mut queue), [(9_000_000, 3)]);
    }

    proptest! {
        /// tbf's promise: in any interval at most burst + rate × time leaves, in order, and under
        /// load the long-run rate is exact.
        #[test]
        fn rate_and_order_are_kept(
            rate in 8_000_u64..10_000_000_000,
            burst in 1514_u32..100_000,
            packets in prop::collection::vec((0_u64..200_000, 60_u32..=1514), 1..200),
        ) {
            let mut queue = Queue::new(&shape(rate, burst, u32::MAX), 0);
            let (mut now, mut left) = (0, Vec::new());
            for (n, (gap, bytes)) in packets.iter().enumerate() {
                now += gap;
                left.extend(std::iter::from_fn(|| queue.pop(now)));
                queue.push(now, *bytes, (n, *bytes, now)).unwrap();
            }
            left.extend(all(&mut queue));
            prop_assert_eq!(left.len(), packets.len());
            for (i, (start, (n, ..))) in left.iter().enumerate() {
                prop_assert_eq!(*n, i);
                let mut sum = 0;
                for (end, (_, bytes, arrived)) in &left[i..] {
                    prop_assert!(end >= arrived && end >= start);
                    sum += u128::from(*bytes) * BYTE;
                    let allowed = u128::from(burst) * BYTE + u128::from(end - start) * u128::from(rate);
                    prop_assert!(sum <= allowed);
                }
            }
        }

        #[test]
        fn the_long_run_rate_is_exact(rate in 8_000_u64..10_000_000_000) {
            let mut queue = Queue::new(&shape(rate, 2 * 1514, u32::MAX), 0);
            (0..1000).for_each(|n| queue.push(0, 1514, n).unwrap());
            let (last, _) = all(&mut queue).pop().unwrap();
            // Two packets pass on the full bucket; nothing is rounded but the last nanosecond.
            prop_assert_eq!(u128::from(last), (998 * 1514 * BYTE).div_ceil(rate.into()));
        }
    }
}
