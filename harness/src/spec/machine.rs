//! Where the server is, said by DNS; and machines that move as a whole.

use limosa_record::unit::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A DNS server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// The place where it runs.
    pub on: String,
}

/// Whose record is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The server.
    pub node: String,
}

/// Which machine moves where to. The place of the node stands for the machine: it has a link
/// to a router, which is its host, and one to another router, which will be; only the first is plugged in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relocate {
    /// The server.
    pub node: String,
    /// The router that will be its host.
    pub to: String,
    /// How long it stands still, as the last of its memory is copied.
    pub pause: Time,
    /// The new address is announced so long after it goes on; it never is when left out, and all goes
    /// through the tunnel.
    #[serde(default)]
    pub join: Option<Time>,
}
