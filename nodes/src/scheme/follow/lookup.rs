//! The scheme `lookup`: nobody says where the server will be, not even the server itself knows. When
//! it is silent the client asks the DNS, again and again, until the record names another address.
//!
//! ```text
//!   idle ──timeout / Ask──▶ asking ──another address / Search──▶ searching
//!    ▲                      │    ▲                                 │    │
//!    └── heard / Stop ──────┘    └── another one / Search ─────────┘    │
//!    └──────────────────────────────── moved ───────────────────────────┘
//! ```
//!
//! It asks 100 ms after each answer, because a record with a TTL of 0 says nothing about the next moment
//! (RFC 1035, section 3.2.1), and goes on while it searches: the server may move again.
//!
//! The second future work of Nakano et al. 2025. noq takes packets only at addresses that it was
//! told of, so a restored server is told its own by who writes the record. Its ADD_ADDRESS reaches
//! the client over the new path, when there is nothing new in it.

use super::{Command, Machine};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Pause between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(100);

/// The scheme's state.
#[derive(Debug)]
pub(super) struct Lookup {
    home: SocketAddr,
    /// `None` while the server answers; else when to ask again.
    ask_at: Option<Instant>,
    target: Option<SocketAddr>,
}

impl Lookup {
    /// A server at this address.
    pub(super) fn new(home: SocketAddr) -> Self {
        Self { home, ask_at: None, target: None }
    }
}

impl Machine for Lookup {
    fn announced(&mut self, _address: SocketAddr) -> Option<Command> {
        None
    }

    fn heard(&mut self) -> Option<Command> {
        self.ask_at.take()?;
        self.target = None;
        Some(Command::Stop)
    }

    fn timeout(&mut self, now: Instant) -> Option<Command> {
        if self.ask_at.is_some() {
            return self.tick(now);
        }
        self.ask_at = Some(now + PAUSE);
        Some(Command::Ask)
    }

    fn tick(&mut self, now: Instant) -> Option<Command> {
        self.ask_at.take_if(|at| *at <= now)?;
        self.ask_at = Some(now + PAUSE);
        Some(Command::Ask)
    }

    fn looked_up(&mut self, address: SocketAddr, now: Instant) -> Option<Command> {
        // An answer that comes when the server has spoken again is old.
        *self.ask_at.as_mut()? = now + PAUSE;
        if address == self.home || self.target == Some(address) {
            return None;
        }
        self.target = Some(address);
        Some(Command::Search(address))
    }

    fn moved(&mut self, address: SocketAddr) {
        *self = Self::new(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 4433))
    }

    #[test]
    fn it_asks_until_the_record_names_another_address() {
        let (mut machine, start) = (Lookup::new(at(1)), Instant::now());
        let ms = |n| start + Duration::from_millis(n);
        assert_eq!(machine.tick(ms(0)), None);
        assert_eq!(machine.looked_up(at(2), ms(0)), None, "nobody has asked");
        assert_eq!(machine.timeout(ms(0)), Some(Command::Ask));
        assert_eq!(machine.timeout(ms(5)), None);
        assert_eq!(machine.looked_up(at(1), ms(20)), None, "where it is known to be silent");
        assert_eq!(machine.tick(ms(119)), None);
        assert_eq!(machine.tick(ms(120)), Some(Command::Ask));
        assert_eq!(machine.looked_up(at(2), ms(140)), Some(Command::Search(at(2))));
        assert_eq!(machine.tick(ms(240)), Some(Command::Ask));
        assert_eq!(machine.looked_up(at(2), ms(260)), None, "there it looks already");
        assert_eq!(machine.looked_up(at(3), ms(360)), Some(Command::Search(at(3))));
        machine.moved(at(3));
        assert_eq!(machine.tick(ms(999)), None);
        assert_eq!(machine.timeout(ms(999)), Some(Command::Ask), "and once more");
        assert_eq!(machine.looked_up(at(1), ms(1_000)), Some(Command::Search(at(1))));
    }

    #[test]
    fn a_word_of_the_old_server_ends_it() {
        let (mut machine, now) = (Lookup::new(at(1)), Instant::now());
        assert_eq!(machine.heard(), None);
        machine.timeout(now);
        assert_eq!(machine.heard(), Some(Command::Stop));
        assert_eq!(machine.looked_up(at(2), now), None, "an answer that comes too late");
    }
}
