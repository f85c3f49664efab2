//! When the continuation path counts as silent.
//!
//! noq tells no application about probe timeouts, so silence is what the receiver sees: no packet
//! on the path for max(3 PTO, 300 ms) while a response is outstanding.

use crate::transport::MAX_ACK_DELAY;
use noq::PathId;
use std::time::{Duration, Instant};

/// Never sooner than this.
const SHORTEST: Duration = Duration::from_millis(300);
/// Watches one path.
#[derive(Debug, Default)]
pub(super) struct Silence {
    watched: Option<(usize, PathId)>,
    datagrams: u64,
    since: Option<Instant>,
}

impl Silence {
    /// Whether the path, which has received so many datagrams by now, is silent.
    pub(super) fn on(
        &mut self,
        path: Option<(usize, PathId)>,
        datagrams: u64,
        rtt: Duration,
        now: Instant,
    ) -> bool {
        if self.watched != path || self.datagrams != datagrams {
            (self.watched, self.datagrams, self.since) = (path, datagrams, Some(now));
        }
        // RFC 9002, section 6.2.1: PTO = smoothed_rtt + 4·rttvar + max_ack_delay. noq does not
        // show rttvar; an eighth of the round trip is much for a path that is busy.
        let pto = rtt + rtt / 2 + MAX_ACK_DELAY;
        self.lasted(now) >= SHORTEST.max(3 * pto)
    }

    /// How long nothing has come.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_starts_with_the_last_datagram_and_takes_three_pto() {
        let mut silence = Silence::default();
        let path = Some((1, PathId::ZERO));
        let start = Instant::now();
        let rtt = Duration::from_millis(50);
        let mut at =
            |ms, datagrams| silence.on(path, datagrams, rtt, start + Duration::from_millis(ms));
        assert!(!at(0, 7));
        assert!(!at(299, 7));
        assert!(at(300, 7));
        assert!(!at(310, 8));
        assert!(!at(600, 8));
        assert!(at(610, 8));
    }
}
