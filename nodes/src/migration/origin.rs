//! The old server's decisions: events and times in, commands out.
//!
//! Each object goes through these states:
//!
//! ```text
//!   waiting ──next──▶ sent ──held, current──▶ owned by the new server (cut chosen)
//!                      ▲ │ held, but written meanwhile
//!                      │ ▼
//!                     dirty ──after MAX_ROUNDS──▶ stopped: writes are held
//! ```
//!
//! Objects owned by the new server become dirty, too, when a write that this server has
//! acknowledged is not confirmed soon.

use super::{Verdict, margin::Seen};
use crate::store::{Id, Version, wire::To};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// How often an object may have changed when its confirmation comes before its writes are held.
pub(crate) const MAX_ROUNDS: u32 = 4;

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Tell the new server the cut of one object for one client.
    Commit {
        /// The object.
        id: Id,
        /// The client.
        client: u16,
        /// The first request that the new server answers.
        cut: u64,
    },
    /// Nothing is on its way; so many objects were sent since the round before.
    Round {
        /// Number of the round, from 1.
        round: u32,
        /// Objects sent in it.
        objects: u64,
        /// When its first object was sent.
        since: Instant,
    },
    /// Writes to this object were held since then and go on now.
    Stopped {
        /// The object.
        id: Id,
        /// Since when.
        since: Instant,
    },
    /// Release the clients.
    Complete,
    /// The new server is gone.
    TakenBack,
}

/// What to send next in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// This object, as it is now.
    Push(Id),
    /// Nothing before this time.
    At(Instant),
    /// Nothing before something happens.
    Idle,
}

#[derive(Debug)]
struct Moving {
    priority: u64,
    /// What this server holds.
    version: Version,
    /// What was sent last on this connection.
    sent: Option<Version>,
    /// What the new server holds for certain.
    held: Option<Version>,
    /// Confirmations that were not current.
    rounds: u32,
    stopped: Option<Instant>,
    owned: bool,
    /// Per client, the first request that the new server answers.
    cuts: BTreeMap<u16, u64>,
}

/// The old server's state.
#[derive(Debug)]
pub(crate) struct Origin {
    dual: bool,
    objects: BTreeMap<Id, Moving>,
    /// By priority: what was never sent.
    waiting: BTreeSet<(u64, Id)>,
    /// What has changed since it was sent, and when it is to be sent again.
    dirty: BTreeMap<Id, Instant>,
    /// Sent and not confirmed.
    under_way: BTreeSet<Id>,
    seen: BTreeMap<u16, Seen>,
    link_rtt: Duration,
    round: u32,
    round_objects: u64,
    round_since: Option<Instant>,
    complete: bool,
    taken_back: bool,
    commands: Vec<Command>,
}

impl Origin {
    /// Starts to hand over these objects, given with priority and version. `dual` for the scheme
    /// dual-path: ownership passes object by object.
    pub(crate) fn new(dual: bool, objects: impl Iterator<Item = (Id, u64, Version)>) -> Self {
        let moving = |priority, version| Moving {
            priority,
            version,
            sent: None,
            held: None,
            rounds: 0,
            stopped: None,
            owned: false,
            cuts: BTreeMap::new(),
        };
        let objects: BTreeMap<_, _> =
            objects.map(|(id, priority, version)| (id, moving(priority, version))).collect();
        Self {
            dual,
            waiting: objects.iter().map(|(id, m)| (m.priority, id.clone())).collect(),
            objects,
            dirty: BTreeMap::new(),
            under_way: BTreeSet::new(),
            seen: BTreeMap::new(),
            link_rtt: Duration::ZERO,
            round: 0,
            round_objects: 0,
            round_since: None,
            complete: false,
            taken_back: false,
            commands: Vec::new(),
        }
    }

    /// Commands that have accumulated.
    pub(crate) fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// A connection to the new server is there, which holds these objects already; what else was
    /// under way is to be sent again, and commits may have been lost.
    pub(crate) fn connected(&mut self, held: &[(Id, Version)], now: Instant) {
        self.under_way.clear();
        for (id, m) in &mut self.objects {
            (m.sent, m.held) = (None, None);
            self.dirty.remove(id);
            self.waiting.insert((m.priority, id.clone()));
            for (client, cut) in &m.cuts {
                let (id, client, cut) = (id.clone(), *client, *cut);
                self.commands.push(Command::Commit { id, client, cut });
            }
        }
        for (id, version) in held {
            self.held(id, *version, now);
        }
        if self.complete {
            self.commands.push(Command::Complete);
        }
    }

    /// The round trip to the new server.
    pub(crate) fn link_rtt(&mut self, rtt: Duration) {
        self.link_rtt = rtt;
    }

    /// A request has arrived; to be called once for each.
    pub(crate) fn arrived(
        &mut self,
        client: u16,
        number: u64,
        to: To,
        rtt: Duration,
        now: Instant,
    ) {
        self.seen.entry(client).or_default().request(number, rtt, now);
        if to == To::Gone {
            self.take_back();
        }
    }

    /// The new server is gone: this one answers everything again.
    pub(crate) fn take_back(&mut self) {
        if !std::mem::replace(&mut self.taken_back, true) {
            self.objects.values_mut().for_each(|m| m.stopped = None);
            self.commands.push(Command::TakenBack);
        }
    }

    /// Whether a write to the object may be applied now.
    pub(crate) fn may_write(&self, id: &str) -> bool {
        self.objects.get(id).is_none_or(|m| m.stopped.is_none())
    }

    /// A write was applied. `both`: the client has sent it to the new server as well.
    pub(crate) fn written(&mut self, id: &Id, version: Version, both: bool, now: Instant) {
        // The new server gets the write twice if this is too short, and late if it is too long.
        let grace = Duration::from_millis(200) + 2 * self.link_rtt;
        let Some(m) = self.objects.get_mut(id) else { return };
        m.version = m.version.max(version);
        let theirs = m.cuts.get(&version.client).is_some_and(|cut| version.number >= *cut);
        let waits = m.sent.is_none() && m.held.is_none();
        if waits || theirs || m.held >= Some(m.version) {
            return;
        }
        let due = if both && m.held.is_some() { now + grace } else { now };
        self.dirty.entry(id.clone()).or_insert(due);
    }

    /// Whether this server answers.
    pub(crate) fn judge(
        &mut self,
        id: &str,
        client: u16,
        number: u64,
        to: To,
        now: Instant,
    ) -> Verdict {
        if to != To::Both || !self.dual || self.taken_back {
            return Verdict::Answer;
        }
        let Some((id, m)) = self.objects.get_key_value(id) else { return Verdict::Answer };
        let id = id.clone();
        if m.owned && !m.cuts.contains_key(&client) {
            // A client that came after the object had passed.
            self.choose_cut(&id, client, now);
        }
        let cut = self.objects.get(&id).and_then(|m| m.cuts.get(&client));
        if cut.is_some_and(|cut| number >= *cut) { Verdict::NotMine } else { Verdict::Answer }
    }

    /// The next object to send in the background; it counts as sent.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        if self.taken_back {
            return Next::Idle;
        }
        if let Some((_, id)) = self.waiting.first().cloned() {
            self.sends(&id, now);
            return Next::Push(id);
        }
        let due = self.dirty.iter().min_by_key(|(_, at)| **at).map(|(id, at)| (id.clone(), *at));
        match due {
            Some((id, at)) if at <= now => {
                self.sends(&id, now);
                Next::Push(id)
            }
            Some((_, at)) => Next::At(at),
            None => Next::Idle,
        }
    }

    /// Sends this object out of turn; false when there is no such object.
    pub(crate) fn pulled(&mut self, id: &str, now: Instant) -> bool {
        let Some(id) = self.objects.get_key_value(id).map(|(id, _)| id.clone()) else {
            return false;
        };
        self.sends(&id, now);
        true
    }

    fn sends(&mut self, id: &Id, now: Instant) {
        let Some(m) = self.objects.get_mut(id) else { return };
        m.sent = Some(m.version);
        self.waiting.remove(&(m.priority, id.clone()));
        self.dirty.remove(id);
        self.under_way.insert(id.clone());
        self.round_objects += 1;
        self.round_since.get_or_insert(now);
    }

    /// The new server holds this version, or a newer one.
    pub(crate) fn held(&mut self, id: &str, version: Version, now: Instant) {
        let Some((id, m)) = self.objects.get_key_value(id) else { return };
        let (id, sent) = (id.clone(), m.sent);
        let Some(m) = self.objects.get_mut(&id) else { return };
        m.held = m.held.max(Some(version));
        if m.held >= sent {
            self.under_way.remove(&id);
        }
        if m.held >= Some(m.version) {
            self.waiting.remove(&(m.priority, id.clone()));
            self.dirty.remove(&id);
            if let Some(since) = m.stopped.take() {
                self.commands.push(Command::Stopped { id: id.clone(), since });
            }
            if !std::mem::replace(&mut m.owned, true) && self.dual {
                let clients: Vec<u16> = self.seen.keys().copied().collect();
                clients.into_iter().for_each(|client| self.choose_cut(&id, client, now));
            }
        } else if !m.owned {
            m.rounds += 1;
            if m.rounds >= MAX_ROUNDS {
                m.stopped.get_or_insert(now);
            }
            if !self.waiting.contains(&(m.priority, id.clone())) {
                self.dirty.entry(id).or_insert(now);
            }
        }
        self.settle();
    }

    fn choose_cut(&mut self, id: &Id, client: u16, now: Instant) {
        let seen = self.seen.entry(client).or_default();
        let cut = seen.cut(self.link_rtt, now);
        if let Some(m) = self.objects.get_mut(id) {
            m.cuts.insert(client, cut);
            self.commands.push(Command::Commit { id: id.clone(), client, cut });
        }
    }

    fn settle(&mut self) {
        let quiet = self.waiting.is_empty() && self.dirty.is_empty() && self.under_way.is_empty();
        if !quiet || self.taken_back {
            return;
        }
        if let Some(since) = self.round_since.take() {
            self.round += 1;
            let objects = std::mem::take(&mut self.round_objects);
            self.commands.push(Command::Round { round: self.round, objects, since });
        }
        if !self.complete && self.objects.values().all(|m| m.owned) {
            self.complete = true;
            self.commands.push(Command::Complete);
        }
    }

    /// Objects, how many of them are held and owned by the new server; complete; taken back.
    pub(crate) fn status(&self) -> (u64, u64, u64, bool, bool) {
        let count = |f: fn(&Moving) -> bool| self.objects.values().filter(|m| f(m)).count() as u64;
        let (held, owned) = (count(|m| m.held.is_some()), count(|m| m.owned));
        (self.objects.len() as u64, held, owned, self.complete, self.taken_back)
    }
}
