//! Looking for a server at an address: paths that are opened to it, rung by rung of a ladder, until
//! one of them is answered.

use super::ladder::Schedule;
use crate::client::Client;
use noq::{Connection, FourTuple, PathError, PathId, PathStatus};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A rung that is later than this moves all later ones.
const LATE: Duration = Duration::from_millis(50);

/// Why a path could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The peer's connection ids are not here yet: try again soon.
    Later,
    /// No path id is left: probes that are open must do.
    Exhausted,
}

/// The search for a server at one address.
#[derive(Debug)]
pub(super) struct Detector {
    /// The address.
    pub(super) remote: SocketAddr,
    schedule: Schedule,
    started: Instant,
    /// The next rung.
    next: u32,
    probes: Vec<Probe>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    id: PathId,
    until: Option<Instant>,
}

impl Detector {
    /// Begins to look; the first probe is due at once.
    pub(super) fn new(remote: SocketAddr, schedule: Schedule, now: Instant) -> Self {
        Self { remote, schedule, started: now, next: 0, probes: vec![] }
    }

    /// Whether this path is one of its probes.
    pub(super) fn has(&self, id: PathId) -> bool {
        self.probes.iter().any(|probe| probe.id == id)
    }

    /// Whether a path is to be opened now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.rung_time().is_some_and(|time| time <= now)
    }

    /// When there is something to do next.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let expiry = self.probes.iter().filter_map(|probe| probe.until);
        expiry.chain(self.rung_time()).min()
    }

    /// Probes whose time is up; they are to be closed.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<PathId> {
        let expired = |probe: &Probe| probe.until.is_some_and(|until| until <= now);
        let ids = self.probes.iter().filter(|p| expired(p)).map(|p| p.id).collect();
        self.probes.retain(|probe| !expired(probe));
        ids
    }

    /// A probe was opened. `last`: no path id may be spent on another one, so that this one stays
    /// and only noq's own repetitions go on.
    pub(super) fn opened(&mut self, id: PathId, last: bool, now: Instant) {
        let kept = self.schedule.kept(self.next);
        // After a stall of this process the missed rungs must not go out in one burst.
        let late = self.rung_time().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if late > LATE {
            self.started += late;
        }
        self.next += 1;
        if last {
            self.schedule = Schedule::Join;
        }
        let until = kept.filter(|_| !last).map(|kept| now + kept);
        self.probes.push(Probe { id, until });
    }

    /// A probe could not be opened.
    pub(super) fn refused(&mut self, why: Refusal) {
        if why == Refusal::Exhausted {
            for probe in &mut self.probes {
                probe.until = None;
            }
            self.next += 1;
        }
    }

    /// A path was abandoned by either side.
    pub(super) fn abandoned(&mut self, id: PathId) {
        self.probes.retain(|probe| probe.id != id);
    }

    /// Its probes, which are to be closed when the search is over.
    pub(super) fn into_probes(self) -> impl Iterator<Item = PathId> {
        self.probes.into_iter().map(|probe| probe.id)
    }

    fn rung_time(&self) -> Option<Instant> {
        self.schedule.rung(self.next).map(|offset| self.started + offset)
    }
}

/// Opens a path from one of the client's interfaces.
pub(super) fn open(
    client: &Client,
    connection: &Connection,
    interface: usize,
    remote: SocketAddr,
) -> Result<PathId, Refusal> {
    let local = client.config.local.get(interface).copied();
    let opening = connection.open_path(FourTuple::new(remote, local), PathStatus::Available);
    if let Some(id) = opening.path_id() {
        return Ok(id);
    }
    // A rejected open is ready at once.
    match futures_util::FutureExt::now_or_never(opening) {
        Some(Err(PathError::RemoteCidsExhausted)) => Err(Refusal::Later),
        _ => {
            tracing::warn!(interface, %remote, "no path can be opened");
            Err(Refusal::Exhausted)
        }
    }
}
