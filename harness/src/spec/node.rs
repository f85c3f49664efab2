//! The processes of an experiment: Limosa's own server and client, and any other program.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A process in a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The place where it starts.
    pub on: String,
    /// What it is to the others; a `command` may be nothing to them.
    #[serde(default)]
    pub role: Option<Role>,
    /// A program instead of Limosa's own: its name or its absolute path, then its arguments. It
    /// works in a folder of its own, where `www` has the body of a download and `certs` a
    /// certificate, and may be moved like a server. A client that is a command starts last, and
    /// the trial is over when it has ended. Such an experiment runs only with `--allow-commands`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Variables of the command's environment, beside Limosa's own.
    #[serde(default)]
    pub env: IndexMap<String, String>,
    /// Files that the command finds in its folder, by name.
    #[serde(default)]
    pub files: IndexMap<String, String>,
    /// When the command is ready; at once when left out.
    #[serde(default)]
    pub ready: Option<Ready>,
    /// A client's command: the file in its folder that holds the body when it has ended. It is
    /// compared with what the server had, and removed.
    #[serde(default)]
    pub saves: Option<String>,
    /// An address of its own, in a subnet of its place, that moves along: connections survive.
    #[serde(default)]
    pub address: Option<IpAddr>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves files over QUIC, or by what its `command` does.
    Server,
    /// Fetches them from the server.
    Client,
}

/// When a command is ready. Exactly one field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// When it listens on this TCP port. Clients of a server connect there.
    #[serde(default)]
    pub tcp: Option<u16>,
    /// When it has a socket on this UDP port.
    #[serde(default)]
    pub udp: Option<u16>,
    /// When it answers on this UDP port as a QUIC server does: a packet of an unknown version with
    /// the versions that it has.
    #[serde(default)]
    pub quic: Option<u16>,
    /// When a line of its output has this text in it.
    #[serde(default)]
    pub line: Option<String>,
}

impl Ready {
    /// The UDP port that it is about, if it is about one.
    pub fn udp_port(&self) -> Option<u16> {
        self.udp.or(self.quic)
    }

    /// What is waited for, as in \"it is ready when it …\".
    pub fn condition(&self) -> String {
        match (self.tcp, self.udp, self.quic, &self.line) {
            (Some(port), ..) => format!("listens on TCP port {port}"),
            (_, Some(port), ..) => format!("has a socket on UDP port {port}"),
            (_, _, Some(port), _) => format!("answers QUIC clients on UDP port {port}"),
            (.., line) => format!("has said {:?}", line.as_deref().unwrap_or_default()),
        }
    }
}

impl Node {
    /// One of Limosa's own.
    pub fn own(on: &str, role: Role) -> Self {
        Self {
            on: on.into(),
            role: Some(role),
            command: None,
            env: IndexMap::new(),
            files: IndexMap::new(),
            ready: None,
            saves: None,
            address: None,
        }
    }
}
