//! Paths to where the server was, on their way out.
//!
//! What the server had sent on the old path when it was stopped, and what its probe timeout sent
//! there before this client came, is lost, and the server cannot know: noq sends again what a closed
//! path has lost only three PTO after the close. So the old path is not closed at once. The client
//! makes it a backup, so that nothing goes there any more, not even acknowledgements of what came
//! from there. The server, which has seen that its old address is gone, speaks on it once more from
//! the new one as soon as all its clients have come. Acknowledged, that packet shows what before it
//! was lost, and it is sent again two round trips after the new path was established. Then, or when
//! the server has not spoken in time, the old path is closed.
//!
//! A server that does not notice its move never speaks, and an acknowledgement that it gets after an
//! outage makes noq's PTO of that path as long as the outage; so under such a server the old path
//! *is* closed at once.

use crate::transport::MAX_ACK_DELAY;
use noq::{Connection, PathId, PathStatus};
use std::time::Instant;

/// The paths of one connection.
#[derive(Debug)]
pub(super) struct Retired {
    moves_noticed: bool,
    paths: Vec<Path>,
}

#[derive(Debug)]
struct Path {
    id: PathId,
    datagrams: u64,
    until: Instant,
}

impl Retired {
    /// None yet; `moves_noticed` as in the settings.
    pub(super) fn new(moves_noticed: bool) -> Self {
        Self { moves_noticed, paths: vec![] }
    }

    /// Retires a path. `false` when it has to be closed at once.
    pub(super) fn add(&mut self, connection: &Connection, id: PathId, now: Instant) -> bool {
        let Some(path) = connection.path(id) else { return false };
        let stats = path.stats();
        if !self.moves_noticed || path.set_status(PathStatus::Backup).is_err() {
            return false;
        }
        let until = now + 3 * stats.rtt + MAX_ACK_DELAY;
        self.paths.push(Path { id, datagrams: stats.udp_rx.datagrams, until });
        true
    }

    /// Those that are to be closed now: the server has spoken there, or it would have.
    pub(super) fn take(&mut self, connection: &Connection, now: Instant) -> Vec<PathId> {
        let over = |path: &mut Path| {
            let heard = connection.path_stats(path.id).map(|stats| stats.udp_rx.datagrams);
            path.until <= now || heard != Some(path.datagrams)
        };
        self.paths.extract_if(.., over).map(|path| path.id).collect()
    }
}
