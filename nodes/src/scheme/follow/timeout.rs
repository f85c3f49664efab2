//! The probe timeout (RFC 9002, section 6.2) as an application can see it.
//!
//! noq tells nobody when its own fires. What can be seen is that an answer is waited for and that
//! no packet has come for one PTO since it was asked for or since the last packet.

use crate::transport::MAX_ACK_DELAY;
use std::time::{Duration, Instant};

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing new.
    Nothing,
    /// A packet has come.
    Heard,
    /// The timeout has passed, and still nothing.
    Timeout,
}

/// PTO = smoothed_rtt + 4·rttvar + max_ack_delay. noq does not show rttvar; an eighth of the round
/// trip is much for a path that is busy.
pub(super) fn pto(rtt: Duration) -> Duration {
    rtt + rtt / 2 + MAX_ACK_DELAY
}

/// Watches one path.
#[derive(Debug, Default)]
pub(super) struct ProbeTimeout {
    datagrams: u64,
    since: Option<Instant>,
}

impl ProbeTimeout {
    /// Looks at the path, which has received so many datagrams by now; `owes` says that an answer
    /// is waited for.
    pub(super) fn look(&mut self, datagrams: u64, owes: bool, rtt: Duration, now: Instant) -> Sign {
        if self.datagrams != datagrams {
            (self.datagrams, self.since) = (datagrams, owes.then_some(now));
            return Sign::Heard;
        }
        if !owes {
            self.since = None;
            return Sign::Nothing;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= pto(rtt) { Sign::Timeout } else { Sign::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_is_waited_for_can_be_late() {
        let mut timeout = ProbeTimeout::default();
        let start = Instant::now();
        let rtt = Duration::from_millis(18);
        let mut at = |ms, datagrams, owes| {
            timeout.look(datagrams, owes, rtt, start + Duration::from_millis(ms))
        };
        assert_eq!(at(0, 7, false), Sign::Heard);
        assert_eq!(at(5_000, 7, false), Sign::Nothing);
        assert_eq!(at(5_100, 7, true), Sign::Nothing, "it was just asked for");
        assert_eq!(at(5_151, 7, true), Sign::Nothing);
        assert_eq!(at(5_152, 7, true), Sign::Timeout, "1.5 round trips and 25 ms");
        assert_eq!(at(5_160, 8, true), Sign::Heard);
        assert_eq!(at(5_200, 8, true), Sign::Nothing);
        assert_eq!(at(5_212, 8, true), Sign::Timeout);
    }
}
