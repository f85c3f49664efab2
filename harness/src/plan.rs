//! The fully resolved experiment: what will be built, who runs where, what happens when.
//!
//! [`resolve`] is pure: it looks at nothing but the two files. Every reference is checked here, so
//! that what comes later can only fail because of the machine.

mod addresses;
mod dns;
mod experiment;
mod neighbours;
mod network;
mod nodes;
mod push;
mod reach;
mod recordings;
mod routes;
mod segments;
mod service;
mod shape;
mod subnets;
mod timeline;
mod variant;

pub use dns::{DNS_NAME, DnsPlan};
pub use experiment::{resolve, resolve_topology};
pub use nodes::{CommandPlan, NodePlan, refuse_commands};
pub use push::{PushPlan, PushRoute};
pub use reach::{Crossing, NoWay, Reach, Way};
pub use service::{DownloadPlan, WorkloadPlan};
pub use timeline::{
    Action, Anchor, AttackPlan, CopyPlan, MigratePlan, RelocatePlan, StepPlan, When,
    actions_by_scheme,
};

use crate::spec::{Expect, Links, Role, Transfer};
use indexmap::IndexMap;
use limosa_lab::{network::Network, shape::ShapePlan};
use limosa_record::{
    node::{Ballast, Scheme, Transport},
    unit::Time,
};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// UDP port of the QUIC servers.
pub const SERVER_PORT: u16 = 4433;

/// UDP port at which a new server takes the objects of the old one.
pub const MIGRATION_PORT: u16 = 4434;

/// TCP port at which files are taken; rsync's own.
pub const TRANSFER_PORT: u16 = 873;

/// TCP port at which CRIU takes or gives pages of memory.
pub const PAGES_PORT: u16 = 874;

/// An experiment with everything decided; written as `plan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it is called and what it shows.
    pub experiment: About,
    /// What shall carry the packets of shaped links.
    pub links: Links,
    /// The network that each trial builds.
    pub network: Network,
    /// The processes, by name.
    pub nodes: IndexMap<String, NodePlan>,
    /// The DNS server, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsPlan>,
    /// What the client does.
    pub workload: WorkloadPlan,
    /// What is compared, by name.
    pub variants: IndexMap<String, VariantPlan>,
    /// All trials in the order in which they run: repetition by repetition.
    pub trials: Vec<TrialPlan>,
    /// How long a trial may take at most.
    pub time_limit: Time,
    /// Places that are captured.
    pub capture: Vec<String>,
    /// How nodes must end.
    pub expect: IndexMap<String, Expect>,
}

/// Name and description of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Name of the file without its ending.
    pub name: String,
    /// What it shows.
    pub description: Option<String>,
    /// Name of the topology.
    pub topology: String,
    /// Repetitions of each variant.
    pub repetitions: u32,
    /// Seed of the experiment.
    pub seed: u64,
}

/// One of the things that are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantPlan {
    /// The migration scheme; a push has none.
    pub scheme: Option<Scheme>,
    /// All transport settings; the seed is the trial's. A push has none.
    pub transport: Option<Transport>,
    /// Where the client connects first; under the workload `push` where rsync's daemon listens.
    pub connect: SocketAddr,
    /// Where it tries again when its connection has died.
    pub fallback: Vec<SocketAddr>,
    /// The client's own addresses, in the order of its interfaces.
    pub local: Vec<IpAddr>,
    /// The client's interfaces of those addresses.
    pub interfaces: Vec<String>,
    /// Addresses of servers that the client reaches from another than its first interface, each
    /// with that interface's number in `interfaces`.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub behind: IndexMap<IpAddr, usize>,
    /// What happens, in the order of planned times as far as they are known.
    pub timeline: Vec<StepPlan>,
    /// Links that have another shape in this variant, both directions, by name.
    pub shapes: IndexMap<String, ShapePlan>,
    /// Clients in the client's process.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub clients: u16,
    /// Memory of the server that only weighs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ballast: Option<Ballast>,
    /// What is copied, under the workload `push`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushPlan>,
}

fn one() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_one(clients: &u16) -> bool {
    *clients == 1
}

/// One variant, tried once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialPlan {
    /// Name of the variant.
    pub variant: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
    /// Seed of everything random in it.
    pub seed: u64,
}

impl VariantPlan {
    /// The server that the client reaches through its i-th interface: under the schemes with two
    /// servers the second interface, if another, is the one towards the new server.
    pub fn server_behind(&self, interface: usize) -> SocketAddr {
        let new = self.fallback.first().filter(|_| self.hands_over() && interface == 1);
        new.copied().unwrap_or(self.connect)
    }

    /// Whether two servers share the work while objects move.
    pub fn hands_over(&self) -> bool {
        self.scheme.is_some_and(Scheme::hands_over)
    }

    /// Bytes of the body from whose arrival steps count, in ascending order.
    pub fn marks_bytes(&self) -> Vec<u64> {
        let marks = self.timeline.iter().filter_map(|s| match s.when {
            When::Since(Anchor::Bytes(size), _) => Some(size.0),
            _ => None,
        });
        marks.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Names of the copies that its timeline makes.
    pub fn copies(&self) -> impl Iterator<Item = &str> {
        self.timeline.iter().filter_map(|s| match &s.action {
            Action::Restore { copy: Some(copy), .. } => Some(&*copy.name),
            _ => None,
        })
    }
}

impl Plan {
    /// Whether any variant moves a process with CRIU.
    pub fn needs_criu(&self) -> bool {
        let moves =
            |s: &StepPlan| matches!(s.action, Action::Checkpoint { .. } | Action::Migrate(_));
        self.variants.values().any(|v| v.timeline.iter().any(moves))
    }

    /// The programs that it starts beside Limosa's own, by node.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &CommandPlan)> {
        self.nodes.iter().filter_map(|(name, node)| Some((&**name, node.command.as_ref()?)))
    }

    /// Whether a trial goes on until a node has ended, which is a command that says how it will end.
    /// A server's end comes when it is asked to.
    pub fn awaits(&self, node: &str) -> bool {
        let command = self.nodes.get(node).is_some_and(|n| n.command.is_some());
        let server = self.nodes.get(node).is_some_and(|n| n.role == Some(Role::Server));
        command && !server && self.expect.contains_key(node)
    }

    /// Whether any variant copies files with rsync.
    pub fn needs_rsync(&self) -> bool {
        self.variants.values().any(|v| v.push.is_some())
            || self.migrates(|m| m.transfer == Transfer::Rsync)
    }

    /// Whether any server's memory is copied while it runs, for which the kernel has to note what
    /// changes.
    pub fn needs_dirty_tracking(&self) -> bool {
        self.migrates(|m| m.rounds > 0)
    }

    /// Whether any server runs before its memory is there, which the kernel has to stop at it.
    pub fn needs_lazy_pages(&self) -> bool {
        self.migrates(MigratePlan::is_lazy)
    }

    fn migrates(&self, how: impl Fn(&MigratePlan) -> bool) -> bool {
        let found = |s: &StepPlan| matches!(&s.action, Action::Migrate(m) if how(m));
        self.variants.values().any(|v| v.timeline.iter().any(found))
    }

    /// Whether any variant speaks MPTCP.
    pub fn needs_mptcp(&self) -> bool {
        self.variants.values().any(|v| v.scheme == Some(Scheme::MptcpTunnel))
    }

    /// Bytes that a trial needs room for: what a server holds, or the largest file that is copied.
    /// Ballast counts three times: it is in the server and in its images at both places; a body
    /// once for each client.
    pub fn bytes(&self) -> u64 {
        let body = self.workload.download().map_or(0, |d| d.size.0);
        let of = |v: &VariantPlan| {
            let ballast = v.ballast.map_or(0, |b| b.bytes.saturating_mul(3));
            let bodies = body.saturating_mul(u64::from(v.clients.saturating_sub(1)));
            let pushed = v.push.as_ref().map_or(0, |p| p.size.0);
            pushed.saturating_add(ballast).saturating_add(bodies)
        };
        let largest = self.variants.values().map(of).max().unwrap_or(0);
        self.workload.bytes().saturating_add(largest)
    }

    /// The variant with the address of the place wherever a node has its own, which is nowhere
    /// before a trial.
    pub fn at_places(&self, variant: &VariantPlan) -> VariantPlan {
        let mut variant = variant.clone();
        for at in std::iter::once(&mut variant.connect).chain(&mut variant.fallback) {
            let own = self.nodes.values().find(|n| n.address == Some(at.ip()));
            let near = own.and_then(|n| self.network.interface_near(&n.on, at.ip()));
            let net = near.and_then(|i| i.addresses.iter().find(|net| net.contains(&at.ip())));
            if let Some(net) = net {
                at.set_ip(net.addr());
            }
        }
        variant
    }

    /// The network as a variant has it.
    pub fn network_of(&self, variant: &VariantPlan) -> Network {
        let mut network = self.network.clone();
        for link in &mut network.links {
            if let Some(shape) = variant.shapes.get(&link.name) {
                link.a_to_b = Some(shape.clone());
                link.b_to_a = Some(shape.clone());
            }
        }
        network
    }

    /// Whether any link has a shape, that is, needs netem or the engine.
    pub fn needs_shaping(&self) -> bool {
        self.network.needs_shaping()
    }

    /// Whether any link plays a recording, now or during a trial, which the kernel cannot.
    pub fn needs_user_links(&self) -> bool {
        let plays = |s: &Option<ShapePlan>| s.as_ref().is_some_and(|s| s.trace.is_some());
        let step = |s: &StepPlan| match &s.action {
            Action::Shape { a_to_b, b_to_a, .. } => plays(a_to_b) || plays(b_to_a),
            _ => false,
        };
        self.network.needs_user_links()
            || self.variants.values().any(|v| v.shapes.values().any(|s| s.trace.is_some()))
            || self.variants.values().any(|v| v.timeline.iter().any(step))
    }
}
