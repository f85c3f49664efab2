//! The schemes `symmetric` and `synchronized-symmetric`: the server speaks first from its new
//! address, and the client follows. The synchronized one has said before that it will move, but not
//! where to.
//!
//! ```text
//!            a known connection id from a stranger / Search              moved
//!   idle ──────────────────────────────────────────────────▶ validating ─────▶ idle
//!     ▲                                                          │
//!     └───────── no answer for max(3 PTO, 300 ms) / Stop ────────┘
//! ```
//!
//! In the original the client sends its data to the stranger at once and validates meanwhile; when
//! that fails the connection is closed. noq never lets a server begin a path: it reads the packet,
//! and the client, whose socket has seen the address (see [`crate::strangers`]), opens a path
//! there. That costs **one round trip** more than the original. When it fails the old path stays,
//! and whoever has seen a packet of the connection has made the client send some PATH_CHALLENGEs.
//! The original's SERVER_MIGRATED is never sent again; here it is a PING, which is, at each PTO.
//! The vague announcement is an ADD_ADDRESS of the unspecified address.

use super::{Command, Machine};
use std::{net::SocketAddr, time::Instant};

/// The scheme's state.
#[derive(Debug)]
pub(super) struct Symmetric {
    synchronized: bool,
    /// Strangers count: they always do, or since the announcement.
    expecting: bool,
    /// When a stranger is given up.
    until: Option<Instant>,
}

impl Symmetric {
    /// `synchronized`: nobody is believed who has not been announced.
    pub(super) fn new(synchronized: bool) -> Self {
        Self { synchronized, expecting: !synchronized, until: None }
    }
}

impl Machine for Symmetric {
    fn announced(&mut self, _address: SocketAddr) -> Option<Command> {
        self.expecting = true;
        None
    }

    fn heard(&mut self) -> Option<Command> {
        None
    }

    fn timeout(&mut self, _now: Instant) -> Option<Command> {
        None
    }

    fn stranger(&mut self, address: SocketAddr, patient_until: Instant) -> Option<Command> {
        if !self.expecting || self.until.is_some() {
            return None;
        }
        self.until = Some(patient_until);
        Some(Command::Search(address))
    }

    fn tick(&mut self, now: Instant) -> Option<Command> {
        self.until.take_if(|until| *until <= now).map(|_| Command::Stop)
    }

    fn moved(&mut self, _address: SocketAddr) {
        (self.until, self.expecting) = (None, !self.synchronized);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_millis(300);

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 4433))
    }

    #[test]
    fn a_stranger_who_does_not_answer_is_given_up() {
        let mut machine = Symmetric::new(false);
        let start = Instant::now();
        let end = start + PATIENCE;
        assert_eq!(machine.stranger(at(6), end), Some(Command::Search(at(6))));
        assert_eq!(machine.stranger(at(7), end), None, "one after the other");
        assert_eq!(machine.tick(end - Duration::from_millis(1)), None);
        assert_eq!(machine.tick(end), Some(Command::Stop));
        assert_eq!(machine.stranger(at(2), end + PATIENCE), Some(Command::Search(at(2))));
        machine.moved(at(2));
        assert_eq!(machine.tick(end + 9 * PATIENCE), None);
        assert_eq!(machine.stranger(at(1), end), Some(Command::Search(at(1))), "and back again");
    }

    #[test]
    fn the_synchronized_one_believes_nobody_unannounced() {
        let mut machine = Symmetric::new(true);
        let end = Instant::now() + PATIENCE;
        assert_eq!(machine.stranger(at(2), end), None);
        assert_eq!(machine.announced(SocketAddr::from(([0; 4], 4433))), None);
        assert_eq!(machine.stranger(at(2), end), Some(Command::Search(at(2))));
        machine.moved(at(2));
        assert_eq!(machine.stranger(at(3), end), None, "each move is announced");
    }
}
