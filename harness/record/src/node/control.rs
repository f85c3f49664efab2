//! What the harness asks a running node, and what it answers. One JSON datagram each; every
//! request may be repeated, because a datagram may be lost.

use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};

/// What the harness asks a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Is it there, and how far is it?
    Status,
    /// To a client: start the handshake now.
    Start,
    /// To a server: tell all clients that it will move to this address.
    Announce(SocketAddr),
    /// To a server that was restored elsewhere: speak to all clients, from where it is now.
    Speak,
    /// To a copy of a server: forget where it comes from and become the new server. It answers
    /// when nothing of the copied connections can be sent any more.
    BecomeTarget(Target),
    /// To a server: hand all objects and all clients over to the new server.
    Handover(Handover),
    /// To a server: write `objects.csv` into its folder.
    Objects,
    /// Close all connections and exit with 0.
    Stop,
}

impl Request {
    /// Its name, without what comes with it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status => "Status",
            Self::Start => "Start",
            Self::Announce(_) => "Announce",
            Self::Speak => "Speak",
            Self::BecomeTarget(_) => "BecomeTarget",
            Self::Handover(_) => "Handover",
            Self::Objects => "Objects",
            Self::Stop => "Stop",
        }
    }
}

/// What a copy needs to become the new server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name from now on, as in the column `served_by`.
    pub name: String,
    /// Its own folder for rows and logs; made when it is not there.
    pub folder: PathBuf,
    /// Where to listen for the old server's objects; the wildcard address and a port.
    pub migration: SocketAddr,
}

/// What a server needs to hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The new server's service address, told to all clients at once; `None` when the harness
    /// announces it by itself.
    pub to: Option<SocketAddr>,
    /// Where the new server listens for objects.
    pub migration: SocketAddr,
    /// Steady rate of the push in the background, bytes of objects per second.
    pub rate_bytes_per_s: u64,
}

/// What a node answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Why the request could not be carried out; the other fields then mean nothing.
    pub error: Option<String>,
    /// Client: when it began its first handshake, CLOCK_REALTIME in ns.
    pub handshake_started_ns: Option<i64>,
    /// Client: bytes of the body so far; 0 again after a reconnect.
    pub body_bytes: u64,
    /// Client: requests of the workload that are over.
    #[serde(default)]
    pub requests: u64,
    /// Client: since when all clients of this process have a connection, CLOCK_REALTIME in ns.
    #[serde(default)]
    pub connected_ns: Option<i64>,
    /// Client: since when all of them have the first byte of a body or of an answer.
    #[serde(default)]
    pub first_byte_ns: Option<i64>,
    /// Client: since when all of them have had so many bytes of their bodies, for each of
    /// `marks_bytes` in its configuration.
    #[serde(default)]
    pub marks_ns: Vec<Option<i64>>,
    /// Server: live connections of clients.
    pub connections: u64,
    /// Server: clients that have not acknowledged the newest announcement, by their addresses.
    #[serde(default)]
    pub unheard: Vec<String>,
    /// Server: how far a migration is; `None` before it takes part in one.
    #[serde(default)]
    pub migration: Option<MigrationStatus>,
    /// Server: the answer to [`Request::Objects`].
    #[serde(default)]
    pub objects: Option<ObjectsDigest>,
}

/// How far a migration is, as one server sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationStatus {
    /// Whether this is the new server.
    pub target: bool,
    /// Whether the connection between the servers is there.
    pub connected: bool,
    /// Objects in all.
    pub objects: u64,
    /// Objects of which the new server holds some version.
    pub held: u64,
    /// Objects for which the new server answers.
    pub owned: u64,
    /// Objects that are nowhere any more, known when the old server was found dead.
    pub lost: u64,
    /// Bytes of objects sent (old server) or received (new server).
    pub bytes: u64,
    /// The new server owns everything and the clients were told.
    pub complete: bool,
    /// The old server took everything back.
    pub taken_back: bool,
}

/// What a server holds; the rows are in `objects.csv`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsDigest {
    /// Objects that it holds.
    pub held: u64,
    /// SHA-256 over the lines `id version sha256`, in the order of the identifiers.
    pub sha256: String,
}
