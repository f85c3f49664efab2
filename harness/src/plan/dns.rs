//! The DNS server of an experiment.

use super::{Network, NodePlan};
use crate::spec::{Document, Experiment, Kind, Problem, Role};
use indexmap::IndexMap;
use limosa_record::node::Scheme;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// UDP port of DNS servers.
const DNS_PORT: u16 = 53;

/// The name of the server (RFC 6761: nobody else has it).
pub const DNS_NAME: &str = "server.limosa.test";

/// Where dnsmasq runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsPlan {
    /// The place.
    pub on: String,
    /// Its address there, as the client knows it.
    pub address: SocketAddr,
}

/// The DNS server, and what is wrong with it or lacks it.
pub(super) fn resolve(
    experiment: &Document<Experiment>,
    network: &Network,
    nodes: &IndexMap<String, NodePlan>,
    problems: &mut Vec<Problem>,
) -> Option<DnsPlan> {
    let spec = &experiment.value;
    let Some(wish) = &spec.dns else {
        for (name, _) in spec.variants.iter().filter(|(_, v)| v.scheme == Some(Scheme::Lookup)) {
            let way = ["variants".into(), name.into(), "scheme".into()];
            let hint = Some("add `dns: {on: dns}`, where `dns` is a host of the topology".into());
            let message = "there is no DNS server to ask where the server is".into();
            problems.push(experiment.problem(&way, message, hint));
        }
        return None;
    };
    let client = nodes.values().find(|n| n.role == Some(Role::Client))?;
    let host = network.places.get(&wish.on).is_some_and(|p| p.kind == Kind::Host);
    let address = network.address_toward(&wish.on, &client.on).filter(|_| host);
    let Some(ip) = address else {
        let hosts = network.places.iter().filter(|(_, p)| p.kind == Kind::Host);
        let hosts: Vec<_> = hosts.map(|(name, _)| format!("`{name}`")).collect();
        let hint = Some(format!("the hosts are {}", hosts.join(", ")));
        let message = format!("there is no host `{}` in the topology", wish.on);
        problems.push(experiment.problem(&["dns".into(), "on".into()], message, hint));
        return None;
    };
    Some(DnsPlan { on: wish.on.clone(), address: SocketAddr::new(ip, DNS_PORT) })
}

impl super::Plan {
    /// Whether anything is asked of a DNS server.
    pub fn needs_dnsmasq(&self) -> bool {
        self.dns.is_some()
    }
}
