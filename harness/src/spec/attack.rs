//! Steps that do what somebody else would do to a trial's nodes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who sends what to whom. The attacker listens to the node for 0.3 s and takes the last packet of an
/// established connection that it sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// What is made of it.
    pub kind: Attacked,
    /// The node that is listened to.
    pub node: String,
    /// The place from which it is sent, with the servers' port.
    pub from: String,
    /// A link that is cut while the attacker listens, so that its packet is the first to arrive.
    #[serde(default)]
    pub cut: Option<String>,
}

/// What an attacker makes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Attacked {
    /// It is sent to where it was going.
    Replay,
    /// What looks like a stateless reset is sent to where it came from.
    Reset,
}

/// Whose keys are looked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The node, whose key log is on.
    pub node: String,
}
