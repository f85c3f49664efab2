//! The contract between the harness and a node process: its configuration file, the requests it
//! answers while it runs, and the result it leaves.
//!
//! A node is started as `limosa node CONFIG.json`. It answers [`Request`]s as JSON datagrams on a
//! UDP socket of its namespace's loopback, which a checkpoint carries along and which nobody
//! outside the namespace can reach. It writes its rows (see [`crate::row`]) into its own folder.

mod control;
mod workload;

use crate::unit::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// What a node is to do, written by the harness as the node's configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NodeConfig {
    /// A QUIC server.
    Server(ServerConfig),
    /// A QUIC client.
    Client(ClientConfig),
}

impl NodeConfig {
    /// Where it answers control requests (loopback).
    pub fn control(&self) -> SocketAddr {
        match self {
            Self::Server(server) => server.control,
            Self::Client(client) => client.control,
        }
    }
}

/// The configuration of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where to listen; the wildcard address, so that it can be restored anywhere.
    pub listen: SocketAddr,
    /// Where to answer control requests (loopback).
    pub control: SocketAddr,
    /// Folder for rows and logs of this node.
    pub folder: PathBuf,
    /// PEM file of the certificate chain.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub private_key: PathBuf,
    /// Folder whose files are served; `GET /random` reads `random` in it.
    pub www: PathBuf,
    /// The object store; a server without one serves files only and cannot hand over.
    #[serde(default)]
    pub store: Option<StoreConfig>,
    /// Memory that only weighs.
    #[serde(default)]
    pub ballast: Option<Ballast>,
    /// Scheme and transport settings.
    pub transport: Transport,
}

/// Memory of random bytes, some of whose pages change all the time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ballast {
    /// Its size.
    pub bytes: u64,
    /// Rate at which pages change, each change of a page counted with all of its bytes.
    pub dirty_bytes_per_s: u64,
    /// Share of the pages that change, from 0 to 1.
    pub hot_share: f64,
}

/// The configuration of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The server's address at the start.
    pub connect: SocketAddr,
    /// Addresses to try, in turn, when a connection has died (the scheme `quic`).
    pub fallback: Vec<SocketAddr>,
    /// The client's own addresses, one per interface; the first one is the default.
    pub local: Vec<IpAddr>,
    /// Servers' addresses that are reached from another of the client's addresses than the first,
    /// each with that one's number in `local`.
    #[serde(default)]
    pub behind: Vec<(IpAddr, usize)>,
    /// Where to answer control requests (loopback).
    pub control: SocketAddr,
    /// Folder for rows, logs and the result of this node.
    pub folder: PathBuf,
    /// PEM file of the certificate authority that the server must be signed by.
    pub ca: PathBuf,
    /// The name that the server's certificate must carry.
    pub server_name: String,
    /// The path to GET.
    pub path: String,
    /// Where the body is saved.
    pub save_as: PathBuf,
    /// The body is played: the server is asked to send so many bytes of it per second.
    #[serde(default)]
    pub play_bytes_per_s: Option<u64>,
    /// The body is asked for in ranges of so many bytes, one after the other (the scheme `http`).
    #[serde(default)]
    pub range_bytes: Option<u64>,
    /// What the client does.
    #[serde(default)]
    pub workload: Workload,
    /// Bytes of the body whose arrival it notes, in ascending order.
    #[serde(default)]
    pub marks_bytes: Vec<u64>,
    /// Whom it asks where the server is (the scheme `lookup`).
    #[serde(default)]
    pub resolver: Option<Resolver>,
    /// Tells the clients of one server apart; below 65 536.
    #[serde(default)]
    pub number: u16,
    /// So many clients are in this process, with the numbers 1, 2, 3 … and what follows from them;
    /// alone a client has `number` and is as it is described here.
    #[serde(default = "one_client")]
    pub clients: u16,
    /// Scheme and transport settings.
    pub transport: Transport,
}

impl ClientConfig {
    /// The number of the client's address from which a server is reached.
    pub fn interface_toward(&self, server: IpAddr) -> usize {
        self.behind.iter().find(|(to, _)| *to == server).map_or(0, |(_, number)| *number)
    }
}

/// A DNS server, and what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolver {
    /// Its address and port.
    pub server: SocketAddr,
    /// The server's name.
    pub name: String,
}

fn one_client() -> u16 {
    1
}

/// The folder of one of many clients in that of their process.
pub fn folder_of_client(process: &Path, number: u16) -> PathBuf {
    process.join(number.to_string())
}

/// How a running server's clients follow it to another address.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// One path; when the connection has died the client starts again from zero.
    Quic,
    /// Nakano et al. 2025: detection and continuation paths of one multipath connection.
    Multipath,
    /// Conforti, Puliafito et al.: to the announced address at once.
    Proactive,
    /// The same: to the announced address when the old one does not answer.
    Reactive,
    /// Casu: all addresses are announced beforehand and tried in turn when the server is silent.
    Pool,
    /// Casu: the server speaks first from its new address, and the client follows.
    Symmetric,
    /// The same, and the server has said before that it will move, but not where to.
    SynchronizedSymmetric,
    /// Nobody says where the server will be: the client asks the DNS when it is silent.
    Lookup,
    /// Le et al.: the server's whole machine moves under a connection of the kernel's MPTCP, while
    /// the old host sends on what is for the old address.
    MptcpTunnel,
    /// The thesis' proposal: connected to the old and the new server while objects move, each
    /// request goes to both and exactly one answers.
    DualPath,
    /// The thesis' comparison: control moves at once, missing objects are pulled on demand.
    PostCopy,
    /// HTTP/1.1 over one TCP connection to a server that is not Limosa's own. The client does
    /// nothing about a move: the server's address has to move along.
    Http,
}

impl Scheme {
    /// Whether two servers share the work while objects move, which needs an object store.
    pub fn hands_over(self) -> bool {
        matches!(self, Self::DualPath | Self::PostCopy)
    }

    /// Whether one connection goes on over other paths when the server has moved.
    pub fn follows(self) -> bool {
        !self.hands_over() && !matches!(self, Self::Quic | Self::Http | Self::MptcpTunnel)
    }

    /// Whether a restored server is the first to speak.
    pub fn speaks_first(self) -> bool {
        matches!(self, Self::Symmetric | Self::SynchronizedSymmetric)
    }
}

/// Which transport is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// The window-limited regime of the paper's 2017 stack: the congestion window is capped.
    #[serde(rename = "paper-2025")]
    Paper2025,
    /// The stack as it is.
    Modern,
}

/// The congestion controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Congestion {
    /// RFC 9438, each path for itself.
    Cubic,
    /// OLIA, coupled over the paths, as the draft defines it.
    Olia,
    /// OLIA as in Linux' mptcp_olia.c.
    OliaLinux,
    /// OLIA as in mp-quic, with its decrease factor of 0.85.
    OliaMpquic,
}

/// When a detection path probes the new address again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ladder {
    /// 0.5 s, doubling up to 60 s: the retransmission timer of the paper's stack.
    Paper,
    /// Every 100 ms.
    Fast,
}

/// In which order a client of the scheme `pool` tries the announced addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PoolOrder {
    /// At random, from the seed; the server's address at the time is one of them.
    #[default]
    Random,
    /// First the server's address at the time, then as they were announced.
    Listed,
}

/// Settings that both ends share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// The migration scheme.
    pub scheme: Scheme,
    /// Which transport is imitated.
    pub profile: Profile,
    /// The congestion controller.
    pub congestion: Congestion,
    /// The probe ladder of `multipath`.
    pub ladder: Ladder,
    /// The connection's idle timeout.
    pub idle_timeout: Time,
    /// Both sides send a PING after so long without a packet to send.
    pub keep_alive: Option<Time>,
    /// Servers get to know that they were moved, as one that CRIU restores with other addresses
    /// does and one behind a relay does not. No peer could tell.
    pub moves_noticed: bool,
    /// Length of one row of throughput.
    pub sample_interval: Time,
    /// Seed for everything random that is not cryptographic.
    pub seed: u64,
    /// Write a qlog into the node's folder.
    pub qlog: bool,
    /// Write the TLS secrets into the node's folder (`SSLKEYLOGFILE` format).
    pub key_log: bool,
    /// `dual-path` and `post-copy`: send the first requests to the new server with the first
    /// flight. Off by default: such data can be replayed (RFC 8446, section 8), here even to the
    /// other server, because both know the same sessions.
    #[serde(default)]
    pub early_data: bool,
    /// The congestion window that a path and the connection between two servers begin with, in
    /// bytes; `None` for the profile's own. A model without congestion control is only met when
    /// slow start is out of the way.
    #[serde(default)]
    pub initial_window_bytes: Option<u64>,
    /// In which order the scheme `pool` tries addresses.
    #[serde(default)]
    pub pool_order: PoolOrder,
}

/// What a client leaves as `result.json` when it ends, whatever way it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientResult {
    /// Why the download failed; `None` when the whole body arrived.
    pub error: Option<String>,
    /// Start of the first handshake, CLOCK_REALTIME in ns.
    pub handshake_started_ns: i64,
    /// Arrival of the last byte of the body, CLOCK_REALTIME in ns.
    pub finished_ns: Option<i64>,
    /// Bytes of the body in the file.
    pub bytes: u64,
    /// SHA-256 of the body in the file, in hexadecimal.
    pub sha256: Option<String>,
    /// How many times a new connection had to be made.
    pub reconnects: u64,
    /// The longest time without a byte of the body between the first and the last, in ns.
    pub longest_gap_ns: Option<i64>,
    /// How the requests of a request workload went.
    #[serde(default)]
    pub requests: Option<RequestCounts>,
    /// What the viewer of a body saw that was played.
    #[serde(default)]
    pub playback: Option<PlaybackResult>,
}

/// What the viewer of a body saw that was played from its first byte on, without a buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaybackResult {
    /// How long the picture stood still in all, in ns.
    pub stalled_ns: i64,
    /// Where the longest stop began: bytes of the body that had arrived.
    pub stopped_at_bytes: Option<u64>,
    /// Where it went on: offset of the next byte that arrived.
    pub resumed_at_bytes: Option<u64>,
}

/// How the requests of a workload went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Answered, and the body was what it should be.
    pub ok: u64,
    /// The object, or the version that the client has seen of it, is on no server any more.
    pub lost: u64,
    /// Everything else.
    pub failed: u64,
    /// How many of `ok` were writes.
    pub writes: u64,
    /// Requests that were answered by both servers; must be 0.
    pub answered_twice: u64,
}

pub use control::{Handover, MigrationStatus, ObjectsDigest, Reply, Request, Target};
pub use workload::{
    Arrivals, Catalogue, Choice, ListedObject, Order, Ranges, RequestWorkload, StoreConfig,
    Workload,
};

/// Name of the result file in a client's folder.
pub const RESULT_FILE: &str = "result.json";
