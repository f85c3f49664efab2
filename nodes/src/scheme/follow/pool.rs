//! The scheme `pool`: the server tells all addresses that it may ever have, long before it moves.
//! When it falls silent the client tries one after the other.
//!
//! ```text
//!   idle ──timeout / try the first──▶ trying ──turn over / try the next──▶ trying …
//!    ▲                                  │
//!    └────────── moved, or heard / Stop ┘
//! ```
//!
//! The order is random, and where the server is now is among the addresses, as in Casu's experiment;
//! or it is the order of the announcements, where it is now first. Turns take 200, 400, 800 … ms:
//! the 100 ms of a probe timeout without an RTT sample, doubled by each timeout. After the last
//! address the first one is tried again. Addresses that are told after the first move are ignored.

use super::{Command, Machine};
use crate::random::Random;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The first turn.
const FIRST_TURN: Duration = Duration::from_millis(200);

/// Where the doubling ends.
const LONGEST_TURN: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Trying {
    /// The addresses in the order in which they are tried.
    order: Vec<SocketAddr>,
    /// Number of the turn, from 0.
    turn: u32,
    until: Instant,
}

/// The scheme's state.
#[derive(Debug)]
pub(super) struct Pool {
    home: SocketAddr,
    addresses: Vec<SocketAddr>,
    /// `None` for the order of the announcements.
    random: Option<Random>,
    frozen: bool,
    trying: Option<Trying>,
}

impl Pool {
    /// A server at this address.
    pub(super) fn new(home: SocketAddr, random: Option<Random>) -> Self {
        Self { home, addresses: vec![home], random, frozen: false, trying: None }
    }

    fn order(&mut self) -> Vec<SocketAddr> {
        let home = self.home;
        let (mut order, others): (Vec<_>, Vec<_>) =
            self.addresses.iter().partition(|address| **address == home);
        order.extend(others);
        if let Some(random) = &mut self.random {
            // Fisher and Yates.
            for last in (1..order.len()).rev() {
                order.swap(last, random.below(last + 1));
            }
        }
        order
    }

    fn take_turn(&mut self, turn: u32, now: Instant) -> Option<Command> {
        let trying = self.trying.as_mut()?;
        let length = 2_u32.checked_pow(turn).map_or(LONGEST_TURN, |n| FIRST_TURN.saturating_mul(n));
        (trying.turn, trying.until) = (turn, now + length.min(LONGEST_TURN));
        let address = *trying.order.get(turn as usize % trying.order.len())?;
        // Where it is now, noq's own probes go.
        Some(if address == self.home { Command::Stop } else { Command::Try(address) })
    }
}

impl Machine for Pool {
    fn announced(&mut self, address: SocketAddr) -> Option<Command> {
        if !self.frozen && !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
        None
    }

    fn heard(&mut self) -> Option<Command> {
        self.trying.take().map(|_| Command::Stop)
    }

    fn timeout(&mut self, now: Instant) -> Option<Command> {
        if self.trying.is_some() || self.addresses.len() < 2 {
            return None;
        }
        self.trying = Some(Trying { order: self.order(), turn: 0, until: now });
        self.take_turn(0, now)
    }

    fn tick(&mut self, now: Instant) -> Option<Command> {
        let turn = self.trying.as_ref().filter(|trying| trying.until <= now)?.turn;
        self.take_turn(turn + 1, now)
    }

    fn moved(&mut self, address: SocketAddr) {
        (self.home, self.frozen, self.trying) = (address, true, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 4433))
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn addresses_are_tried_in_turns_that_double() {
        let mut pool = Pool::new(at(1), None);
        let start = Instant::now();
        assert_eq!(pool.timeout(start), None, "there is no other address");
        pool.announced(at(2));
        pool.announced(at(3));
        pool.announced(at(3));
        assert_eq!(pool.timeout(start), Some(Command::Stop), "first where it is");
        assert_eq!(pool.timeout(start + ms(100)), None);
        assert_eq!(pool.tick(start + ms(199)), None);
        assert_eq!(pool.tick(start + ms(200)), Some(Command::Try(at(2))));
        assert_eq!(pool.tick(start + ms(599)), None);
        assert_eq!(pool.tick(start + ms(600)), Some(Command::Try(at(3))));
        assert_eq!(pool.tick(start + ms(1_400)), Some(Command::Stop), "and from the beginning");
        pool.moved(at(3));
        assert_eq!(pool.tick(start + ms(9_000)), None);
        pool.announced(at(4));
        assert_eq!(pool.timeout(start), Some(Command::Stop));
        assert_eq!(pool.tick(start + ms(200)), Some(Command::Try(at(1))), "where it came from");
        assert_eq!(pool.tick(start + ms(600)), Some(Command::Try(at(2))));
        assert_eq!(pool.tick(start + ms(1_400)), Some(Command::Stop), "the pool is frozen");
    }

    #[test]
    fn a_word_of_the_old_server_ends_it() {
        let mut pool = Pool::new(at(1), None);
        pool.announced(at(2));
        let start = Instant::now();
        pool.timeout(start);
        assert_eq!(pool.heard(), Some(Command::Stop));
        assert_eq!(pool.heard(), None);
        assert_eq!(pool.tick(start + ms(500)), None);
    }

    /// With k addresses the turn in which the right one comes is uniform among k + 1.
    #[test]
    fn the_order_is_random_and_every_place_as_likely() {
        let mut places = [0_u32; 3];
        for seed in 0..3_000 {
            let mut pool = Pool::new(at(1), Some(Random::new(seed, "pool")));
            pool.announced(at(2));
            pool.announced(at(3));
            places[pool.order().iter().position(|a| *a == at(3)).unwrap()] += 1;
        }
        // 1000 ± 4 standard deviations.
        assert!(places.iter().all(|n| (897..1_104).contains(n)), "{places:?}");
    }
}
