//! What a server's object store holds, and what a client asks for.

use crate::unit::Time;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The object store of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The server's name, as in the column `served_by`.
    pub name: String,
    /// What it holds.
    pub catalogue: Catalogue,
    /// PEM file of the authority that the other server must be signed by.
    pub ca: PathBuf,
    /// The name that the other server's certificate must carry.
    pub server_name: String,
}

/// Which objects there are. Their first contents follow from seed, identifier and size, so that
/// both ends can tell right bytes from wrong ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Seed of the contents and of a shuffled order.
    pub seed: u64,
    /// So many objects, called `0`, `1`, `2` …
    #[serde(default)]
    pub count: u64,
    /// Size of each of them in bytes.
    #[serde(default)]
    pub size_bytes: u64,
    /// In which order objects move that have no priority of their own.
    #[serde(default)]
    pub order: Order,
    /// Further objects.
    #[serde(default)]
    pub listed: Vec<ListedObject>,
    /// A file below `www` that is served in ranges as well.
    #[serde(default)]
    pub ranges: Option<Ranges>,
}

/// One object of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedObject {
    /// Identifier: letters, digits, `-`, `_`, `.` and `/`.
    pub id: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Smaller numbers move earlier; the counted objects and the ranges have 0, 1, 2 … in their
    /// order.
    pub priority: u64,
}

/// A file that is cut into objects `name/0`, `name/1` … for a download in ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranges {
    /// Name of the file below `www`, as `random`.
    pub file: String,
    /// Size of a range in bytes; the last one is shorter.
    pub size_bytes: u64,
}

/// In which order objects move.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// By number.
    #[default]
    Ascending,
    /// The highest number first.
    Descending,
    /// At random, from the seed.
    Shuffled,
}

/// What a client does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Downloads one file: in one stream under `quic` and `multipath`, in ranges under the others.
    #[default]
    Download,
    /// Reads and writes objects.
    Requests(RequestWorkload),
}

/// A sequence of requests. Everything random in it follows from the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestWorkload {
    /// What the server holds; ranges are not chosen by `uniform` and `zipf`.
    pub catalogue: Catalogue,
    /// Which object.
    pub choice: Choice,
    /// When.
    pub arrivals: Arrivals,
    /// Share of writes, 0 to 1.
    #[serde(default)]
    pub writes: f64,
    /// Ends after so many requests.
    #[serde(default)]
    pub count: Option<u64>,
    /// No request is issued after this time since the start.
    #[serde(default)]
    pub duration: Option<Time>,
    /// Seed of choice, arrivals and kind.
    pub seed: u64,
}

/// Which object a request is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// Each as likely as any other.
    Uniform,
    /// The object with rank k is asked for with a probability proportional to k^-exponent; ranks
    /// follow the order of the catalogue, counted objects first.
    Zipf {
        /// The exponent, 0 or more.
        exponent: f64,
    },
    /// These, one after the other, from the beginning again when it is over.
    Script(Vec<String>),
}

/// When requests are issued.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At a steady rate, however long answers take.
    Fixed {
        /// Requests per second.
        per_s: f64,
    },
    /// With exponentially distributed pauses, however long answers take.
    Poisson {
        /// Mean requests per second.
        per_s: f64,
    },
    /// A new request when an old one is over.
    ClosedLoop {
        /// Requests that are out at the same time.
        outstanding: u32,
        /// Pause between an answer and the next request.
        think: Time,
    },
}
