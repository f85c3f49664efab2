//! The schemes `proactive` and `reactive`: the server says where it will be, and the client goes
//! there at once, or at the first probe timeout.
//!
//! ```text
//!            announced / Search          moved
//!   idle ─────────────────────▶ searching ─────▶ idle                 proactive
//!
//!            announced       timeout / Search          moved
//!   idle ─────────────▶ armed ──────────────▶ searching ─────▶ idle   reactive
//!                             ◀──────────────
//!                               heard / Stop
//! ```
//!
//! In the original the proactive client stops listening to the old server, which has to be asked by
//! the application. Here the old path is used until the new one is there, because noq sends no data
//! elsewhere before: that costs nothing and loses nothing.

use super::{Command, Machine};
use std::{net::SocketAddr, time::Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Armed(SocketAddr),
    Searching(SocketAddr),
}

/// Either scheme's state.
#[derive(Debug)]
pub(super) struct Explicit {
    proactive: bool,
    state: State,
}

impl Explicit {
    /// `proactive` or else `reactive`.
    pub(super) fn new(proactive: bool) -> Self {
        Self { proactive, state: State::Idle }
    }
}

impl Machine for Explicit {
    fn announced(&mut self, address: SocketAddr) -> Option<Command> {
        let searching = matches!(self.state, State::Searching(_));
        if self.state == State::Searching(address) {
            return None;
        }
        // A newer announcement takes the older one's place.
        if self.proactive || searching {
            self.state = State::Searching(address);
            return Some(Command::Search(address));
        }
        self.state = State::Armed(address);
        None
    }

    fn heard(&mut self) -> Option<Command> {
        match self.state {
            State::Searching(address) if !self.proactive => {
                self.state = State::Armed(address);
                Some(Command::Stop)
            }
            _ => None,
        }
    }

    fn timeout(&mut self, _now: Instant) -> Option<Command> {
        let State::Armed(address) = self.state else { return None };
        self.state = State::Searching(address);
        Some(Command::Search(address))
    }

    fn tick(&mut self, _now: Instant) -> Option<Command> {
        None
    }

    fn moved(&mut self, _address: SocketAddr) {
        self.state = State::Idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 4433))
    }

    #[test]
    fn proactive_searches_at_once_and_whatever_the_old_server_says() {
        let mut machine = Explicit::new(true);
        assert_eq!(machine.timeout(Instant::now()), None, "nobody has said where to");
        assert_eq!(machine.announced(at(2)), Some(Command::Search(at(2))));
        assert_eq!(machine.announced(at(2)), None, "the same once more");
        assert_eq!(machine.heard(), None);
        assert_eq!(machine.timeout(Instant::now()), None);
        machine.moved(at(2));
        assert_eq!(machine.announced(at(1)), Some(Command::Search(at(1))), "and back again");
    }

    #[test]
    fn reactive_waits_for_the_first_probe_timeout() {
        let mut machine = Explicit::new(false);
        assert_eq!(machine.announced(at(2)), None);
        assert_eq!(machine.heard(), None);
        assert_eq!(machine.timeout(Instant::now()), Some(Command::Search(at(2))));
        assert_eq!(machine.timeout(Instant::now()), None, "once is enough");
        assert_eq!(machine.heard(), Some(Command::Stop), "the old server is still there");
        assert_eq!(machine.timeout(Instant::now()), Some(Command::Search(at(2))));
        machine.moved(at(2));
        assert_eq!(machine.timeout(Instant::now()), None, "a timeout without an announcement");
        assert_eq!(machine.announced(at(1)), None);
        assert_eq!(machine.timeout(Instant::now()), Some(Command::Search(at(1))));
    }

    #[test]
    fn a_newer_announcement_takes_the_older_ones_place() {
        let mut machine = Explicit::new(false);
        machine.announced(at(2));
        machine.timeout(Instant::now());
        assert_eq!(machine.announced(at(3)), Some(Command::Search(at(3))));
        let mut machine = Explicit::new(false);
        machine.announced(at(2));
        machine.announced(at(3));
        assert_eq!(machine.timeout(Instant::now()), Some(Command::Search(at(3))));
    }
}
