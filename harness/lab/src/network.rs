//! A network as it is to be built: hosts, switches and routers, their interfaces with addresses, routes and
//! rules, and the links between them.

use crate::shape::ShapePlan;
use indexmap::IndexMap;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, net::IpAddr};

/// All places and links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Places by name.
    pub places: IndexMap<String, PlacePlan>,
    /// Links in the order of the file.
    pub links: Vec<LinkPlan>,
    /// Congestion control of the kernel's TCP; the usual one when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_congestion: Option<String>,
    /// The places where something runs or will run, where that is known and a segment is large.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub talkers: BTreeSet<String>,
}

/// What a place does with packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Has addresses and runs programs. With several interfaces it answers on each through that
    /// interface (a routing table and rule each).
    #[default]
    Host,
    /// An Ethernet bridge without addresses.
    Switch,
    /// Forwards packets between its interfaces.
    Router,
}

/// A place: one namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacePlan {
    /// What it does with packets.
    pub kind: Kind,
    /// Its interfaces, in the order of the links.
    pub interfaces: Vec<InterfacePlan>,
    /// Routes beside those that follow from the addresses.
    pub routes: Vec<RoutePlan>,
    /// Rules of multi-homed hosts.
    pub rules: Vec<RulePlan>,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePlan {
    /// Its name.
    pub name: String,
    /// Its Ethernet address: locally administered, numbered in the order of the links.
    #[serde(with = "mac")]
    pub mac: [u8; 6],
    /// Its addresses; none on a switch.
    pub addresses: Vec<IpNet>,
    /// Number of its segment.
    pub segment: usize,
}

/// An Ethernet address as people write it, `02:4c:00:00:00:01`.
mod mac {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mac: &[u8; 6], s: S) -> Result<S::Ok, S::Error> {
        let parts: Vec<String> = mac.iter().map(|b| format!("{b:02x}")).collect();
        s.serialize_str(&parts.join(":"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 6], D::Error> {
        let text = String::deserialize(d)?;
        let parts: Vec<u8> =
            text.split(':').filter_map(|p| u8::from_str_radix(p, 16).ok()).collect();
        parts.try_into().map_err(|_| D::Error::custom(format!("`{text}` is no Ethernet address")))
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePlan {
    /// Where to.
    pub to: IpNet,
    /// Through which router; `None` for a neighbour.
    pub via: Option<IpAddr>,
    /// Out of which interface.
    pub interface: String,
    /// Routing table.
    pub table: u32,
}

/// A rule: what comes from this address uses this table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulePlan {
    /// Source address.
    pub from: IpAddr,
    /// Routing table.
    pub table: u32,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// Its name.
    pub name: String,
    /// Place and interface of both ends.
    pub ends: [(String, String); 2],
    /// Shape from the first end to the second.
    pub a_to_b: Option<ShapePlan>,
    /// Shape from the second end to the first.
    pub b_to_a: Option<ShapePlan>,
}

impl Network {
    /// Whether any link has a shape.
    pub fn needs_shaping(&self) -> bool {
        self.links.iter().any(|l| l.a_to_b.is_some() || l.b_to_a.is_some())
    }

    /// Whether any link plays a recording, which only user-space links can.
    pub fn needs_user_links(&self) -> bool {
        let both = self.links.iter().flat_map(|l| [&l.a_to_b, &l.b_to_a]);
        both.flatten().any(|s| s.trace.is_some())
    }

    /// An interface of a place by name.
    pub fn interface(&self, place: &str, name: &str) -> Option<&InterfacePlan> {
        self.places.get(place)?.interfaces.iter().find(|i| i.name == name)
    }

    /// The interface of a place that has this address in its subnet.
    pub fn interface_near(&self, place: &str, address: IpAddr) -> Option<&InterfacePlan> {
        let interfaces = &self.places.get(place)?.interfaces;
        interfaces.iter().find(|i| i.addresses.iter().any(|net| net.contains(&address)))
    }

    /// The first address of a place, of the family that comes first.
    pub fn address(&self, place: &str) -> Option<IpAddr> {
        self.places.get(place)?.interfaces.iter().find_map(|i| i.addresses.first()).map(IpNet::addr)
    }
}
