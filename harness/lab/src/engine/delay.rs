//! The second stage of a direction: delay, jitter and random faults, as netem makes them.
//!
//! Input: packets with the times at which they left the queue. Output: the packets with the times
//! at which they are due at the far end, in that order. Pure: driven by given times, in nanoseconds.
//!
//! The decisions on a packet come in netem's order (net/sched/sch_netem.c, netem_enqueue): whether it
//! is doubled, lost, corrupted, dropped because the line is full, and then its delay. A double goes
//! before its original, through the same decisions except the first; a packet that is both
//! doubled and lost passes once.

use super::random::{Loss, Random};
use crate::shape::DelayStage;
use std::collections::VecDeque;

/// Packets on their way.
#[derive(Debug)]
pub(super) struct Line<P> {
    stage: DelayStage,
    /// By due time; equal times in order of arrival.
    flying: VecDeque<(u64, P)>,
    loss: Loss,
    duplicate: Random,
    corrupt: Random,
    jitter: Random,
    reorder: Random,
}

/// A packet that can be doubled and corrupted.
pub(super) trait Fragile: Clone {
    /// Turns one random bit over.
    fn corrupt(&mut self, random: &mut Random);
}

/// What became of packets that entered the line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) lost: u64,
    pub(super) full: u64,
    pub(super) duplicated: u64,
    pub(super) corrupted: u64,
    pub(super) reordered: u64,
}

impl<P: Fragile> Line<P> {
    pub(super) fn new(stage: DelayStage, seed: u64) -> Self {
        Self {
            stage,
            flying: VecDeque::new(),
            loss: Loss::new(stage.loss, seed),
            duplicate: Random::new(seed, "duplicate"),
            corrupt: Random::new(seed, "corrupt"),
            jitter: Random::new(seed, "jitter"),
            reorder: Random::new(seed, "reorder"),
        }
    }

    /// Changes what happens to later packets and starts the random numbers anew; what is on its
    /// way keeps its time.
    pub(super) fn reshape(&mut self, stage: DelayStage, seed: u64) {
        let flying = std::mem::take(&mut self.flying);
        *self = Self { flying, ..Self::new(stage, seed) };
    }

    /// The shortest time that a packet may spend here: nobody need look for it sooner.
    pub(super) fn shortest_ns(&self) -> u64 {
        match self.stage.reorder_ratio > 0.0 {
            true => 0,
            false => self.stage.delay_ns.saturating_sub(self.stage.jitter_ns),
        }
    }

    /// A packet enters at `at_ns`.
    pub(super) fn push(&mut self, at_ns: u64, packet: P, fate: &mut Fate) {
        let double = self.duplicate.chance(self.stage.duplicate_ratio);
        fate.duplicated += u64::from(double);
        let lost = self.loss.next();
        match (double, lost) {
            (true, false) => {
                if self.loss.next() {
                    fate.lost += 1;
                } else {
                    self.enter(at_ns, packet.clone(), fate);
                }
                self.enter(at_ns, packet, fate);
            }
            (false, false) => self.enter(at_ns, packet, fate),
            (true, true) => {
                fate.lost += 1;
                self.enter(at_ns, packet, fate);
            }
            (false, true) => fate.lost += 1,
        }
    }

    fn enter(&mut self, at_ns: u64, mut packet: P, fate: &mut Fate) {
        if self.corrupt.chance(self.stage.corrupt_ratio) {
            packet.corrupt(&mut self.corrupt);
            fate.corrupted += 1;
        }
        if self.flying.len() >= self.stage.limit_packets as usize {
            fate.full += 1;
            return;
        }
        if self.reorder.chance(self.stage.reorder_ratio) {
            fate.reordered += u64::from(!self.flying.is_empty());
            self.insert(at_ns, packet);
            return;
        }
        let due = at_ns + self.delay();
        let last = self.flying.back().map_or(0, |(due, _)| *due);
        // Without reordering a packet leaves no earlier than the one before it.
        let due = if self.stage.jitter_reorders { due } else { due.max(last) };
        self.insert(due, packet);
    }

    /// Uniform in delay ± jitter (netem's tabledist without a table).
    fn delay(&mut self) -> u64 {
        let DelayStage { delay_ns, jitter_ns, .. } = self.stage;
        match jitter_ns {
            0 => delay_ns,
            _ => (delay_ns + self.jitter.below(2 * jitter_ns)).saturating_sub(jitter_ns),
        }
    }

    fn insert(&mut self, due_ns: u64, packet: P) {
        let late = self.flying.back().is_none_or(|(last, _)| *last <= due_ns);
        if late {
            self.flying.push_back((due_ns, packet));
        } else {
            let place = self.flying.partition_point(|(due, _)| *due <= due_ns);
            self.flying.insert(place, (due_ns, packet));
        }
    }

    /// When the next packet is due, if one is on its way.
    pub(super) fn due(&self) -> Option<u64> {
        self.flying.front().map(|(due, _)| *due)
    }

    /// The next packet that is due by `now_ns`, with its time.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<(u64, P)> {
        self.due().filter(|due| *due <= now_ns)?;
        self.flying.pop_front()
    }

    /// The same, if it is the one that is wanted.
    pub(super) fn pop_if(&mut self, now_ns: u64, wanted: impl Fn(&P) -> bool) -> Option<(u64, P)> {
        self.flying.front().filter(|(due, packet)| *due <= now_ns && wanted(packet))?;
        self.flying.pop_front()
    }

    /// Packets on their way.
    pub(super) fn len(&self) -> usize {
        self.flying.len()
    }

    /// Throws all packets away.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = P> {
        self.flying.drain(..).map(|(_, packet)| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::LossPlan;
    use proptest::prelude::*;

    /// A number, and whether it is corrupt.
    type Packet = (u32, bool);

    impl Fragile for Packet {
        fn corrupt(&mut self, _: &mut Random) {
            self.1 = true;
        }
    }

    const MS: u64 = 1_000_000;

    fn plain() -> DelayStage {
        DelayStage {
            delay_ns: 25 * MS,
            jitter_ns: 0,
            jitter_reorders: false,
            loss: LossPlan::Random { ratio: 0.0 },
            duplicate_ratio: 0.0,
            corrupt_ratio: 0.0,
            reorder_ratio: 0.0,
            limit_packets: u32::MAX,
        }
    }

    /// Sends `count` packets, one each `gap_ns`.
    fn sent(stage: DelayStage, count: u32, gap_ns: u64) -> (Vec<(u64, Packet)>, Fate) {
        let (mut line, mut fate) = (Line::new(stage, 5), Fate::default());
        for n in 0..count {
            line.push(u64::from(n) * gap_ns, (n, false), &mut fate);
        }
        (std::iter::from_fn(|| line.pop(u64::MAX)).collect(), fate)
    }

    #[test]
    fn a_delay_delays() {
        let mut line = Line::new(plain(), 1);
        line.push(7, (1, false), &mut Fate::default());
        assert_eq!((line.due(), line.shortest_ns()), (Some(25 * MS + 7), 25 * MS));
        assert_eq!(line.pop(25 * MS + 6), None);
        assert_eq!(line.pop(25 * MS + 7), Some((25 * MS + 7, (1, false))));
    }

    #[test]
    fn faults_have_their_shares_and_are_counted() {
        let (received, fate) = sent(DelayStage { duplicate_ratio: 0.1, ..plain() }, 10_000, MS);
        assert_eq!(received.len() as u64, 10_000 + fate.duplicated);
        assert!(fate.duplicated.abs_diff(1000) < 100);
        let (received, fate) = sent(DelayStage { corrupt_ratio: 0.1, ..plain() }, 10_000, MS);
        let corrupt = received.iter().filter(|(_, p)| p.1).count() as u64;
        assert_eq!((received.len(), corrupt), (10_000, fate.corrupted));
        assert!(corrupt.abs_diff(1000) < 100);
        let (received, fate) = sent(DelayStage { limit_packets: 100, ..plain() }, 300, 0);
        assert_eq!((received.len(), fate.full), (100, 200));
        let loss = LossPlan::Random { ratio: 1.0 };
        let (received, fate) = sent(DelayStage { loss, duplicate_ratio: 1.0, ..plain() }, 10, 0);
        assert_eq!((received.len(), fate.lost), (10, 10), "doubled and lost passes once");
    }

    #[test]
    fn reordered_packets_skip_the_delay() {
        let (received, fate) = sent(DelayStage { reorder_ratio: 0.25, ..plain() }, 10_000, MS);
        let early = received.iter().filter(|(due, p)| *due == u64::from(p.0) * MS).count() as u64;
        assert!(early.abs_diff(2500) < 200 && early.abs_diff(fate.reordered) < 5);
        assert!(received.is_sorted_by_key(|(due, _)| *due));
    }

    #[test]
    fn a_new_shape_leaves_what_flies_alone_and_starts_its_chances_anew() {
        let lossy = DelayStage { loss: LossPlan::Random { ratio: 0.5 }, ..plain() };
        let (mut line, mut fate) = (Line::new(lossy, 5), Fate::default());
        let mut lost_of = |line: &mut Line<Packet>| -> Vec<bool> {
            let each = |n| {
                let before = fate.lost;
                line.push(0, (n, false), &mut fate);
                fate.lost > before
            };
            (0..100).map(each).collect()
        };
        let first = lost_of(&mut line);
        let flying = line.len();
        line.reshape(lossy, 5);
        assert_eq!(line.len(), flying);
        assert_eq!(lost_of(&mut line), first);
        line.reshape(lossy, 6);
        assert_ne!(lost_of(&mut line), first);
    }

    proptest! {
        #[test]
        fn jitter_stays_in_its_bounds_and_keeps_order_where_asked(
            reorders: bool, gap in 0_u64..5_000_000, jitter_ns in 1..25 * MS,
        ) {
            let stage = DelayStage { jitter_ns, jitter_reorders: reorders, ..plain() };
            let (received, _) = sent(stage, 500, gap);
            prop_assert_eq!(received.len(), 500);
            prop_assert!(received.is_sorted_by_key(|(due, _)| *due));
            for (due, (n, _)) in &received {
                let delay = due - u64::from(*n) * gap;
                prop_assert!(delay >= plain().delay_ns - jitter_ns);
                prop_assert!(delay < plain().delay_ns + jitter_ns);
            }
            if !reorders {
                prop_assert!(received.is_sorted_by_key(|(_, p)| p.0));
            }
        }
    }
}
