//! How far ahead of what it has seen of a client the old server puts a cut.
//!
//! The commit should reach the new server before the request that it is about. Until then the
//! client sends `m = rate × lead` requests on average, where the lead is half a round trip between
//! the servers (the commit's way) plus half a round trip to the client (what is under way and not
//! seen yet), plus slack. Arrivals scatter by √m if they are Poisson; two of these cover nearly
//! all. When it is not enough a request waits for the commit; nothing else happens.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Over how long the rate is measured.
const WINDOW: Duration = Duration::from_secs(1);

/// For processing and jitter.
const SLACK: Duration = Duration::from_millis(10);

/// What was seen of a client.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The highest number.
    pub(super) highest: u64,
    recent: VecDeque<Instant>,
    rtt: Duration,
}

impl Seen {
    /// A request arrived; `rtt` is the round trip to the client.
    pub(super) fn request(&mut self, number: u64, rtt: Duration, now: Instant) {
        self.highest = self.highest.max(number);
        self.rtt = rtt;
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|t| now.saturating_duration_since(*t) > WINDOW) {
            self.recent.pop_front();
        }
    }

    /// The first request number that the new server is to answer.
    pub(super) fn cut(&self, link_rtt: Duration, now: Instant) -> u64 {
        let fresh = |t: &&Instant| now.saturating_duration_since(**t) <= WINDOW;
        let rate = self.recent.iter().filter(fresh).count() as f64 / WINDOW.as_secs_f64();
        let lead = link_rtt / 2 + self.rtt / 2 + SLACK;
        let m = rate * lead.as_secs_f64();
        self.highest + 2 + (m + 2.0 * m.sqrt()).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_grows_with_rate_and_round_trips() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        let rtt = Duration::from_millis(100);
        for n in 1..=200 {
            seen.request(n, rtt, start + Duration::from_millis(10 * n));
        }
        let now = start + Duration::from_millis(2_000);
        // 100 requests per second for 80 ms, and twice the root of 8.
        assert_eq!(seen.cut(Duration::from_millis(40), now), 200 + 2 + 14);
        assert!(seen.cut(Duration::from_millis(80), now) > 216);
        // A client that has fallen silent needs no margin but the smallest.
        assert_eq!(seen.cut(Duration::from_millis(40), now + 2 * WINDOW), 202);
    }
}
