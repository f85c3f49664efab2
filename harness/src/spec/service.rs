//! What the servers hold and what the clients ask for: the object store and request workloads; and
//! what is copied where there are neither.

use limosa_record::{
    node::Order,
    unit::{Rate, Ratio, Size, Time},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What clients do. Exactly one field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// One GET of one body.
    #[serde(default)]
    pub download: Option<Download>,
    /// Reads and writes of objects.
    #[serde(default)]
    pub requests: Option<Requests>,
    /// No client and no server: data is copied from one place to another, as `push` of each variant
    /// says.
    #[serde(default)]
    pub push: Option<Push>,
}

/// From where to where data is copied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// The place that has the data.
    pub from: String,
    /// The place that gets it.
    pub to: String,
}

/// One file, and how it travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pushed {
    /// Size of the file.
    pub size: Size,
    /// What is in it.
    pub content: Content,
    /// Compress it on the way.
    #[serde(default)]
    pub compress: bool,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Zeros, in a file without blocks of its own, as `truncate` makes it.
    Zeros,
    /// Bytes that cannot be compressed, from the trial's seed.
    Random,
}

/// One body of seeded random bytes. The schemes `quic` and `multipath` get it in one stream, the
/// others in ranges, which are the objects that move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// The path that is asked for, as `/random`.
    pub path: String,
    /// Size of the body.
    pub size: Size,
    /// Size of a range; 1MB when left out.
    #[serde(default)]
    pub range: Option<Size>,
    /// The server sends it no faster than this, as a video that is played meanwhile (`quic` and
    /// `multipath`); as fast as the network allows when left out.
    #[serde(default)]
    pub play: Option<Rate>,
}

/// A sequence of requests to an object store. Everything random in it follows from the trial's
/// seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// What the server holds.
    pub objects: Objects,
    /// Which object each request is for; each as likely as any other when left out.
    #[serde(default)]
    pub choose: Choose,
    /// When requests are issued.
    pub arrivals: Arrivals,
    /// Share of writes; none when left out.
    #[serde(default)]
    pub writes: Option<Ratio>,
    /// Ends after so many requests.
    #[serde(default)]
    pub count: Option<u64>,
    /// No request is issued after this time.
    #[serde(default)]
    pub duration: Option<Time>,
}

/// Objects `0`, `1`, `2` … of one size, and others by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// How many objects are numbered.
    #[serde(default)]
    pub count: u64,
    /// Size of each of those.
    #[serde(default)]
    pub size: Option<Size>,
    /// In which order those move; by number when left out.
    #[serde(default)]
    pub order: Order,
    /// Further objects.
    #[serde(default)]
    pub named: Vec<Object>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// Its size.
    pub size: Size,
    /// Smaller numbers move earlier; numbered objects have 0, 1, 2 … in their order.
    #[serde(default)]
    pub priority: u64,
}

/// Which object a request is for. At most one field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    /// The k-th object with a probability proportional to k to the minus this exponent.
    #[serde(default)]
    pub zipf: Option<f64>,
    /// These, one after the other, again and again.
    #[serde(default)]
    pub script: Option<Vec<String>>,
}

/// When requests are issued. Exactly one field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    /// One each time this has passed, however long answers take.
    #[serde(default)]
    pub every: Option<Time>,
    /// At random with this mean pause, however long answers take (a Poisson process).
    #[serde(default)]
    pub poisson: Option<Time>,
    /// A new one when an old one is over.
    #[serde(default)]
    pub closed_loop: Option<ClosedLoop>,
}

/// Requests that wait for answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClosedLoop {
    /// How many are out at the same time.
    pub outstanding: u32,
    /// Pause between an answer and the next request; none when left out.
    #[serde(default)]
    pub think: Time,
}
