//! What the user wrote: the YAML of a topology and of an experiment, field by field.
//!
//! Reading never looks at the machine, so a file that is right on one machine is right on all.
//! The doc comments here become the descriptions in `schema.json`.

mod attack;
mod documents;
mod hint;
mod load;
mod machine;
mod name;
mod named;
mod node;
mod positions;
mod service;
mod step;
mod trace;

pub use attack::{Attack, Attacked, Search};
pub use documents::{Documents, load_all};
pub use hint::known;
pub use load::{
    Document, Format, Location, MOST_TOLD, Problem, Purpose, SpecError, Step as PathStep,
    load_experiment, load_topology, parse,
};
pub use machine::{Dns, Publish, Relocate};
pub use name::{Name, check_free, of_file};
pub use named::Named;
pub use node::{Node, Ready, Role};
pub use service::{
    Arrivals, Choose, ClosedLoop, Content, Download, Object, Objects, Push, Pushed, Requests,
    Workload,
};
pub use step::{
    Announce, Barrier, Checkpoint, Handover, Kill, LinkName, Migrate, Reshape, Restore, Step,
    Technique, Transfer, Verb, Wish,
};
pub use trace::{Trace, Traces, Wrong, parse as parse_trace};

use limosa_lab::network::Kind;
use limosa_record::{
    node::{Congestion, Ladder, PoolOrder, Profile, Scheme},
    unit::{Rate, Ratio, Size, Time},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The only version of both formats so far.
pub const FORMAT_VERSION: u32 = 1;

/// A network: places and the links between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Version of this format: 1.
    pub version: u32,
    /// What it shows, in a sentence.
    #[serde(default)]
    pub description: Option<String>,
    /// Address families that every interface gets an address of; both when left out.
    #[serde(default = "both_families")]
    pub families: Vec<Family>,
    /// Congestion control of the kernel's TCP in all nodes, as `bbr`; `cubic` when left out.
    #[serde(default)]
    pub tcp_congestion: Option<String>,
    /// Hosts, switches and routers by name.
    pub nodes: Named<Place>,
    /// Links; their order is the order in which addresses are given.
    pub links: Vec<Link>,
}

fn both_families() -> Vec<Family> {
    vec![Family::Ipv4, Family::Ipv6]
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, from 10.0.0.0/8.
    Ipv4,
    /// IPv6, from fd00::/16.
    Ipv6,
}

/// A place in the network: one namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// What it does with packets; a host when left out.
    #[serde(default)]
    pub kind: Kind,
    /// Settings of interfaces that need any, by interface name.
    #[serde(default)]
    pub interfaces: Named<Interface>,
}

/// Settings of one interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Addresses with their prefix length, as `10.1.0.3/24`, all of a family in one subnet. Families
    /// without one here get an address chosen by Limosa.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// A link between two places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its two ends, as `node.interface`; for a switch `node` is enough.
    pub ends: [String; 2],
    /// A name for the timeline; `<first node>--<second node>` when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Shape of both directions.
    #[serde(default)]
    pub shape: Option<Shape>,
    /// Shape from the first end to the second.
    #[serde(default)]
    pub a_to_b: Option<Shape>,
    /// Shape from the second end to the first.
    #[serde(default)]
    pub b_to_a: Option<Shape>,
}

/// What happens to packets in one direction of a link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Rate of the token bucket (tbf). Unlimited when left out.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// Depth of the token bucket; the larger of 2 packets and 1 ms at `rate` when left out.
    #[serde(default)]
    pub burst: Option<Size>,
    /// Longest time in the queue, in tc's sense: the queue holds rate × latency + burst.
    #[serde(default)]
    pub latency: Option<Time>,
    /// A recorded link instead of `rate`, in user-space links: a file in mahimahi's format, its path
    /// from this file's folder. Each line is a time in ms at which 1500 bytes may pass; after the
    /// last one the recording starts again.
    #[serde(default)]
    pub trace: Option<String>,
    /// Size of the queue before the rate limit, instead of `latency`. One bandwidth-delay product
    /// of the link's round trip, and 32 packets at the least, when both are left out.
    #[serde(default)]
    pub queue: Option<Size>,
    /// Propagation delay.
    #[serde(default)]
    pub delay: Option<Time>,
    /// Uniform variation of the delay, ± this; keeps the order of packets.
    #[serde(default)]
    pub jitter: Option<Time>,
    /// Jitter may change the order of packets.
    #[serde(default)]
    pub jitter_reorder: bool,
    /// Share of packets lost at random.
    #[serde(default)]
    pub loss: Option<Ratio>,
    /// Losses that come in bursts, instead of `loss`.
    #[serde(default)]
    pub burst_loss: Option<BurstLoss>,
    /// Share of packets sent twice.
    #[serde(default)]
    pub duplicate: Option<Ratio>,
    /// Share of packets with one bit turned.
    #[serde(default)]
    pub corrupt: Option<Ratio>,
    /// Share of packets that skip the delay and so overtake others.
    #[serde(default)]
    pub reorder: Option<Ratio>,
}

/// Gilbert-Elliott loss: the link is good or bad, and each packet finds it in one of the two (tc's
/// `loss gemodel p r 1-h 1-k`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BurstLoss {
    /// Probability per packet that a good link turns bad (tc's `p`).
    pub to_bad: Ratio,
    /// Probability per packet that a bad link turns good (tc's `r`).
    pub to_good: Ratio,
    /// Share of packets lost while it is bad (tc's `1-h`); all when left out.
    #[serde(default = "all")]
    pub loss_in_bad: Ratio,
    /// Share of packets lost while it is good (tc's `1-k`); none when left out.
    #[serde(default = "none")]
    pub loss_in_good: Ratio,
}

fn all() -> Ratio {
    Ratio(1.0)
}

fn none() -> Ratio {
    Ratio(0.0)
}

/// What carries the packets of shaped links.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Links {
    /// The kernel where it has netem (and the links can be done by it), else user space.
    #[default]
    Auto,
    /// The kernel's tbf and netem.
    Kernel,
    /// Limosa's own engine between two TAP devices.
    User,
}

/// An experiment: who talks to whom over which network, what happens when, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Version of this format: 1.
    pub version: u32,
    /// What it shows, in a sentence or two.
    #[serde(default)]
    pub description: Option<String>,
    /// The topology: the name of a file in `topologies/`, or a path from this file's folder.
    pub topology: String,
    /// How often each variant is tried.
    pub repetitions: u32,
    /// What carries the packets of shaped links; `auto` when left out.
    #[serde(default)]
    pub links: Links,
    /// Congestion control of the kernel's TCP in all places, as `bbr`; the topology's when left out.
    #[serde(default)]
    pub tcp_congestion: Option<String>,
    /// Seed of the whole experiment; a trial's own is a hash of it, the variant and the repetition.
    #[serde(default = "one")]
    pub seed: u64,
    /// How long a trial may take at most; 180 s when left out.
    #[serde(default = "three_minutes")]
    pub time_limit: Time,
    /// The processes. When left out: `server` on the place `server-a` (or `server`) and `client`
    /// on the place `client`.
    #[serde(default)]
    pub nodes: Option<Named<Node>>,
    /// A DNS server that knows where the server is (dnsmasq); none when left out.
    #[serde(default)]
    pub dns: Option<Dns>,
    /// What the client does, or what is copied without one.
    pub workload: Workload,
    /// Transport settings of all variants.
    #[serde(default)]
    pub transport: Transport,
    /// What is compared, by name.
    pub variants: Named<Variant>,
    /// What happens during a trial. Times count from the start of the client's handshake.
    #[serde(default)]
    pub timeline: Vec<Step>,
    /// Places whose interfaces are captured to `<place>.pcap` in each trial's folder.
    #[serde(default)]
    pub capture: Vec<String>,
    /// How nodes must end, by name; clients must exit with 0 when left out.
    #[serde(default)]
    pub expect: Named<Expect>,
}

fn one() -> u64 {
    1
}

fn three_minutes() -> Time {
    Time::from_secs(180)
}

/// Transport settings; what is left out is taken from the experiment, then from the profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// Which transport is imitated; `modern` when left out.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// The congestion controller; when left out `cubic` for `quic` and, for `multipath`, `olia`
    /// in the profile `modern` and `olia-mpquic` in `paper-2025`.
    #[serde(default)]
    pub congestion: Option<Congestion>,
    /// When a server that may have moved is probed again; when left out `paper` for `multipath` and
    /// `fast` for `proactive`, `reactive` and the symmetric ones.
    #[serde(default)]
    pub ladder: Option<Ladder>,
    /// The connection's idle timeout; 30 s when left out.
    #[serde(default)]
    pub idle_timeout: Option<Time>,
    /// Client and server send a PING when nothing was sent for so long; never when left out.
    #[serde(default)]
    pub keep_alive: Option<Time>,
    /// Length of one row of throughput; 100 ms when left out.
    #[serde(default)]
    pub sample_interval: Option<Time>,
    /// Write qlog files.
    #[serde(default)]
    pub qlog: Option<bool>,
    /// Write the TLS secrets of each connection, for Wireshark.
    #[serde(default)]
    pub key_log: Option<bool>,
    /// Congestion window of a new path; the profile's own when left out.
    #[serde(default)]
    pub initial_window: Option<Size>,
    /// In which order the scheme `pool` tries addresses; `random` when left out.
    #[serde(default)]
    pub pool_order: Option<PoolOrder>,
    /// Schemes with two servers: send the first requests to the new one with the first flight
    /// (0-RTT). Such data can be replayed, so it is off when left out.
    #[serde(default)]
    pub early_data: Option<bool>,
}

/// One thing that is compared with the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The migration scheme; all need one but those of the workload `push`.
    #[serde(default)]
    pub scheme: Option<Scheme>,
    /// What is copied, under the workload `push`.
    #[serde(default)]
    pub push: Option<Pushed>,
    /// So many clients, 1 to 200, in the process of the node `client`, each with a connection and
    /// random numbers of its own; one when left out.
    #[serde(default)]
    pub clients: Option<u16>,
    /// Memory of the server that only weighs.
    #[serde(default)]
    pub ballast: Option<Ballast>,
    /// Transport settings of this variant.
    #[serde(default)]
    pub transport: Transport,
    /// Links that have another shape in this variant, both directions, by name.
    #[serde(default)]
    pub shapes: Named<Shape>,
}

/// Memory of random bytes for a server that moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ballast {
    /// Its size.
    pub size: Size,
    /// Rate at which its pages change, each change of a page counted with all of its bytes; nothing
    /// changes when left out.
    #[serde(default)]
    pub dirty: Option<Rate>,
    /// Share of the pages that change, the hot spot; all when left out.
    #[serde(default)]
    pub hot: Option<Ratio>,
}

/// How a node must end. Exactly one field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// With this exit code.
    #[serde(default)]
    pub exited: Option<i32>,
    /// By this signal's number.
    #[serde(default)]
    pub signaled: Option<i32>,
}
