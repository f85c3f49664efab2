//! The decisions of the scheme, without sockets and clocks: events and times in, commands out.
//!
//! Each interface is in one of these states; a probe is a path that was opened and not answered:
//!
//! ```text
//!                 announced, frame arrived here / close the path
//!   serving ────────────────────────────────────────────────────────▶ detecting (active)
//!      │ announced, frame arrived on the other one                        │ answered
//!      ▼                                                                  ▼
//!   continuing ──────────────────────────────────────────▶ detecting ──▶ serving
//!              silence, or the other one was answered      (additional)
//!              / fresh ladder
//! ```
//!
//! A silent old path stays formally open until a detection succeeds: noq refuses to close the last
//! path, and PATH_ABANDON could not be delivered before anyway.

use super::super::{
    detector::{Detector, Refusal},
    ladder::Schedule,
};
use noq::PathId;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Pause before a path that was lost for no known reason is opened again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Open a path from this interface and report with [`Machine::opened`] or
    /// [`Machine::refused`].
    Open {
        /// Index of the interface.
        interface: usize,
        /// The server's address.
        remote: SocketAddr,
        /// Whether it looks for the moved server.
        probe: bool,
    },
    /// Close this path.
    Close(PathId),
    /// This path led to where the server was.
    Retire(PathId),
    /// Note that the old server has fallen silent on this interface.
    Silent(usize),
}

/// The scheme's state on one connection.
#[derive(Debug)]
pub(super) struct Machine {
    ladder: Schedule,
    interfaces: Vec<Interface>,
    /// Where the server is, as far as known.
    home: SocketAddr,
    /// Where it said that it will be.
    target: Option<SocketAddr>,
    /// Path ids that may still be spent on probes.
    ids_left: u32,
}

#[derive(Debug, Default)]
struct Interface {
    /// The established path to where the server is now.
    serving: Option<PathId>,
    /// The path to where the server was: the continuation path, or what is left of it.
    old: Option<PathId>,
    /// The detection path.
    detector: Option<Detector>,
    /// Not before this time is a lost path opened again.
    reopen_at: Option<Instant>,
}

impl Machine {
    /// A connection whose handshake used the first interface.
    pub(super) fn new(
        ladder: Schedule,
        interfaces: usize,
        home: SocketAddr,
        first: PathId,
        ids_left: u32,
    ) -> Self {
        let mut interfaces: Vec<_> = (0..interfaces.max(1)).map(|_| Interface::default()).collect();
        interfaces[0].serving = Some(first);
        Self { ladder, interfaces, home, target: None, ids_left }
    }

    /// Established paths and their interfaces.
    pub(super) fn serving(&self) -> impl Iterator<Item = (usize, PathId)> {
        self.interfaces.iter().enumerate().filter_map(|(i, f)| Some((i, f.serving?)))
    }

    /// The continuation path, as long as it is one.
    pub(super) fn continuation(&self) -> Option<(usize, PathId)> {
        let continuing = |f: &&Interface| f.old.is_some() && f.detector.is_none();
        let i = self.interfaces.iter().position(|f| continuing(&f))?;
        Some((i, self.interfaces[i].old?))
    }

    /// The server said that it will move; the frame arrived on `interface`.
    pub(super) fn announced(
        &mut self,
        address: SocketAddr,
        interface: usize,
        now: Instant,
    ) -> Vec<Command> {
        if self.target == Some(address) || (self.target.is_none() && self.home == address) {
            return Vec::new();
        }
        self.target = Some(address);
        let mut commands = Vec::new();
        for f in &mut self.interfaces {
            close_probes(f.detector.take(), None, &mut commands);
            if let Some(path) = f.serving.take() {
                commands.extend(f.old.replace(path).map(Command::Close));
            }
        }
        let others = |(i, f): (usize, &Interface)| i != interface && f.old.is_some();
        let continued = self.interfaces.iter().enumerate().any(others);
        let Some(arrived) = self.interfaces.get_mut(interface) else { return commands };
        if continued {
            commands.extend(arrived.old.take().map(Command::Close));
        }
        arrived.detect(address, self.ladder, now);
        commands.extend(self.tick(now, false));
        commands
    }

    /// Time passes; `silent` says that nothing came on the continuation path for too long.
    pub(super) fn tick(&mut self, now: Instant, silent: bool) -> Vec<Command> {
        let mut commands = Vec::new();
        let (target, home) = (self.target, self.home);
        for (index, f) in self.interfaces.iter_mut().enumerate() {
            let continuing = f.old.is_some();
            if f.detector.is_none() && f.serving.is_none() {
                match target {
                    Some(remote) if !continuing || silent => {
                        commands.extend(continuing.then_some(Command::Silent(index)));
                        f.detect(remote, self.ladder, now);
                    }
                    None if f.reopen_at.is_none_or(|at| at <= now) => {
                        f.detect(home, Schedule::Join, now);
                    }
                    _ => {}
                }
            }
            if let Some(detector) = &mut f.detector {
                commands.extend(detector.expire(now).into_iter().map(Command::Close));
                if detector.is_due(now) {
                    let (remote, probe) = (detector.remote, target.is_some());
                    commands.push(Command::Open { interface: index, remote, probe });
                }
            }
        }
        commands
    }

    /// When [`Self::tick`] has something to do next, silence aside.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let wait = |f: &Interface| f.detector.as_ref().map_or(f.reopen_at, Detector::next_time);
        self.interfaces.iter().filter_map(wait).min()
    }

    /// A path was opened as commanded.
    pub(super) fn opened(&mut self, interface: usize, id: PathId, now: Instant) {
        self.ids_left = self.ids_left.saturating_sub(1);
        let (count, left) = (self.interfaces.len() as u32, self.ids_left);
        if let Some(detector) = self.detector(interface) {
            detector.opened(id, left < count, now);
        }
    }

    /// A path could not be opened as commanded.
    pub(super) fn refused(&mut self, interface: usize, why: Refusal) {
        if let Some(detector) = self.detector(interface) {
            detector.refused(why);
        }
    }

    /// A probe was answered.
    pub(super) fn established(&mut self, id: PathId, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        let Some(index) = self.interfaces.iter().position(|f| f.probes(id)) else {
            let known = |f: &Interface| f.serving == Some(id) || f.old == Some(id);
            let stray = !self.interfaces.iter().any(known);
            return stray.then_some(Command::Close(id)).into_iter().collect();
        };
        let f = &mut self.interfaces[index];
        close_probes(f.detector.take(), Some(id), &mut commands);
        commands.extend(f.serving.replace(id).map(Command::Close));
        if self.target.is_some() {
            for f in &mut self.interfaces {
                commands.extend(f.old.take().map(Command::Retire));
            }
            if self.interfaces.iter().all(|f| f.serving.is_some()) {
                self.home = self.target.take().unwrap_or(self.home);
            }
        }
        commands.extend(self.tick(now, false));
        commands
    }

    /// A path was abandoned by either side.
    pub(super) fn abandoned(&mut self, id: PathId, now: Instant) {
        for f in &mut self.interfaces {
            if let Some(detector) = &mut f.detector {
                detector.abandoned(id);
            }
            if f.serving.take_if(|path| *path == id).is_some() {
                f.reopen_at = Some(now + REOPEN_PAUSE);
            }
            f.old.take_if(|path| *path == id);
        }
    }

    /// The peer has given back a path id.
    pub(super) fn discarded(&mut self) {
        self.ids_left += 1;
    }

    /// The interface of a path that is in use or being opened.
    pub(super) fn interface_of(&self, id: PathId) -> Option<usize> {
        let has = |f: &Interface| f.serving == Some(id) || f.old == Some(id) || f.probes(id);
        self.interfaces.iter().position(has)
    }

    fn detector(&mut self, interface: usize) -> Option<&mut Detector> {
        self.interfaces.get_mut(interface)?.detector.as_mut()
    }
}

impl Interface {
    fn detect(&mut self, remote: SocketAddr, schedule: Schedule, now: Instant) {
        self.reopen_at = None;
        self.detector = Some(Detector::new(remote, schedule, now));
    }

    fn probes(&self, id: PathId) -> bool {
        self.detector.as_ref().is_some_and(|detector| detector.has(id))
    }
}

fn close_probes(detector: Option<Detector>, keep: Option<PathId>, commands: &mut Vec<Command>) {
    let probes = detector.into_iter().flat_map(Detector::into_probes);
    commands.extend(probes.filter(|id| Some(*id) != keep).map(Command::Close));
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
