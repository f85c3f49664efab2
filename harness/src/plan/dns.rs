//! The DNS server of an experiment.

use super::{NodePlan, Reach};
use crate::plan::nodes::no_host;
use crate::spec::{Document, Experiment, Problem, Role};
use indexmap::IndexMap;
use limosa_lab::network::Network;
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
    reach: &Reach<'_>,
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
    let way = ["dns".into(), "on".into()];
    if let Some((message, hint)) = no_host(network, &wish.on) {
        problems.push(experiment.problem(&way, message, hint));
        return None;
    }
    let told = |no: super::NoWay| problems.push(experiment.problem(&way, no.why, Some(no.hint)));
    let ip = reach.way(&client.on, &wish.on).map_err(told).ok()?.to;
    Some(DnsPlan { on: wish.on.clone(), address: SocketAddr::new(ip, DNS_PORT) })
}

impl super::Plan {
    /// Whether anything is asked of a DNS server.
    pub fn needs_dnsmasq(&self) -> bool {
        self.dns.is_some()
    }
}
