//! Whether a server is still there.
//!
//! noq tells no application about probe timeouts, and a killed server says nothing. As long as a
//! server owes an answer it is watched: when nothing has come for half of the limit it is pinged,
//! which it must acknowledge at once; when nothing has come for the whole limit it is gone.

use std::time::{Duration, Instant};

/// Never sooner than this.
const SHORTEST: Duration = Duration::from_millis(750);
/// RFC 9000, section 18.2: the default of max_ack_delay.
const MAX_ACK_DELAY: Duration = Duration::from_millis(25);

/// What to do about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing.
    Fine,
    /// Make it say something.
    Ping,
    /// Do without it.
    Gone,
}

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    datagrams: u64,
    since: Instant,
    pinged: bool,
}

impl Pulse {
    /// Starts with a living connection.
    pub(super) fn new(now: Instant) -> Self {
        Self { datagrams: 0, since: now, pinged: false }
    }

    /// `datagrams` have come by now; `owes`: an answer is outstanding.
    pub(super) fn look(&mut self, datagrams: u64, owes: bool, rtt: Duration, now: Instant) -> Beat {
        if datagrams != self.datagrams || !owes {
            *self = Self { datagrams, since: now, pinged: false };
        }
        // RFC 9002, section 6.2.1: PTO = smoothed_rtt + 4·rttvar + max_ack_delay. noq does not
        // show rttvar; an eighth of the round trip is much for a path that is busy. Five of them
        // see a lost ping and its probes through.
        let pto = rtt + rtt / 2 + MAX_ACK_DELAY;
        let limit = SHORTEST.max(5 * pto);
        let silent = now.saturating_duration_since(self.since);
        if silent >= limit {
            Beat::Gone
        } else if silent >= limit / 2 && !std::mem::replace(&mut self.pinged, true) {
            Beat::Ping
        } else {
            Beat::Fine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_owes_an_answer_is_pinged_and_then_given_up() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let rtt = Duration::from_millis(20);
        let mut at = |ms, datagrams, owes| {
            pulse.look(datagrams, owes, rtt, start + Duration::from_millis(ms))
        };
        assert_eq!(at(0, 7, true), Beat::Fine);
        assert_eq!(at(5_000, 7, false), Beat::Fine, "it owes nothing");
        assert_eq!(at(5_374, 7, true), Beat::Fine);
        assert_eq!(at(5_375, 7, true), Beat::Ping);
        assert_eq!(at(5_400, 7, true), Beat::Fine, "one ping is enough");
        assert_eq!(at(5_500, 8, true), Beat::Fine);
        assert_eq!(at(6_249, 8, true), Beat::Ping);
        assert_eq!(at(6_250, 8, true), Beat::Gone);
    }
}
