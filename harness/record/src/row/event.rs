//! Names of the events that nodes write and other parts look for.

/// The client sent its first handshake packet.
pub const HANDSHAKE_STARTED: &str = "handshake_started";
/// A handshake was confirmed.
pub const CONNECTED: &str = "connected";
/// A path was validated.
pub const PATH_ESTABLISHED: &str = "path_established";
/// A path was closed by this end.
pub const PATH_CLOSED: &str = "path_closed";
/// A detection path sent a probe.
pub const PROBE: &str = "probe";
/// The migration announcement was sent (server) or arrived (client).
pub const ANNOUNCEMENT: &str = "announcement";
/// The client does not go by an announcement; the detail says why.
pub const ANNOUNCEMENT_REFUSED: &str = "announcement_refused";
/// A restored server spoke first to its clients.
pub const SPOKE: &str = "spoke";
/// The client asked the DNS where the server is.
pub const ASKED: &str = "asked";
/// The DNS named an address where the client had not looked for the server.
pub const LOOKED_UP: &str = "looked_up";
/// The old server has fallen silent.
pub const SILENT: &str = "silent";
/// The connection died.
pub const CONNECTION_LOST: &str = "connection_lost";
/// No byte of the body arrived from `started_ns` to `done_ns`.
pub const GAP: &str = "gap";
/// The last byte of the body arrived.
pub const DOWNLOAD_DONE: &str = "download_done";
/// The last request of a workload is over.
pub const REQUESTS_DONE: &str = "requests_done";
/// A handshake with the new server was confirmed.
pub const CONNECTED_TO_NEW: &str = "connected_to_new";
/// The new server answered for the first time.
pub const FIRST_ANSWER_BY_NEW: &str = "first_answer_by_new";
/// A copied server became the new one; nothing of its copied connections is sent any more.
pub const BECAME_TARGET: &str = "became_target";
/// The old server began to hand over.
pub const HANDOVER: &str = "handover";
/// A round of the push in the background, from its first object to its last.
pub const MIGRATION_ROUND: &str = "migration_round";
/// Writes to one object were held from `started_ns` to `done_ns`.
pub const SHORT_STOP: &str = "short_stop";
/// The connection between the servers was made or made again.
pub const PUSH_CONNECTED: &str = "push_connected";
/// The connection between the servers died.
pub const PUSH_LOST: &str = "push_lost";
/// The new server owns everything.
pub const MIGRATION_COMPLETE: &str = "migration_complete";
/// The old server let its clients go (server) or was let go (client).
pub const RELEASED: &str = "released";
/// The new server went on alone because the old one is gone.
pub const TAKEN_OVER: &str = "taken_over";
/// The old server went on alone because the new one is gone.
pub const TAKEN_BACK: &str = "taken_back";
/// Objects that are on no server any more; the detail begins with their number.
pub const OBJECTS_LOST: &str = "objects_lost";
/// The client found one of its two servers gone.
pub const SERVER_LOST: &str = "server_lost";
/// The programs of a transfer of files started, until its first file arrived.
pub const TRANSFER_SETUP: &str = "transfer_setup";
/// Files arrived, from the first one to the last.
pub const TRANSFER: &str = "transfer";
/// Memory of a server was copied while it ran.
pub const PRE_DUMP: &str = "pre_dump";
/// Memory followed a server that ran at its target already, until the last page was there.
pub const LAZY_PAGES: &str = "lazy_pages";
/// A server that was to move goes on where it was.
pub const SOURCE_RESUMED: &str = "source_resumed";
/// A connection was resumed from an earlier one.
pub const RESUMED: &str = "resumed";
/// A node that is a command has ended; the detail says how.
pub const EXITED: &str = "exited";
