//! What the user wrote: the YAML of a topology and of an experiment, field by field.
//!
//! Reading never looks at the machine, so a file that is right on one machine is right on all.
//! The doc comments here become the descriptions in `schema.json`.

mod attack;
mod load;
mod machine;
mod named;
mod node;
mod service;
mod trace;

pub use attack::{Attack, Attacked, Search};
pub use load::{
    Document, Location, Problem, SpecError, Step as PathStep, load_experiment, load_topology, parse,
};
pub use machine::{Dns, Publish, Relocate};
pub use named::Named;
pub use node::{Node, Ready, Role};
pub use service::{
    Arrivals, Choose, ClosedLoop, Content, Download, Object, Objects, Push, Pushed, Requests,
    Workload,
};
pub use trace::{Trace, Traces, Wrong, parse as parse_trace};

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

/// Settings of one interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Addresses with their prefix length, as `10.1.0.3/24`; one per family at most. Families
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

/// One step of the timeline: when, and exactly one action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Time since the start of the handshake.
    #[serde(default)]
    pub at: Option<Time>,
    /// Time since another step was done: its name, as `image`, or with a delay, as `image + 10s`.
    #[serde(default)]
    pub after: Option<String>,
    /// A name for other steps' `after`; a checkpoint is also named by its `as`.
    #[serde(default)]
    pub name: Option<String>,
    /// Variants that take this step; all when left out.
    #[serde(default)]
    pub only: Option<Vec<String>>,
    /// The server tells its clients where it will move.
    #[serde(default)]
    pub announce: Option<Announce>,
    /// Waits until all clients have acknowledged the newest announcement.
    #[serde(default)]
    pub barrier: Option<Barrier>,
    /// The record of the server in the DNS becomes where it is now.
    #[serde(default)]
    pub publish: Option<Publish>,
    /// The node is frozen, written to images by CRIU and ended.
    #[serde(default)]
    pub checkpoint: Option<Checkpoint>,
    /// The node lives again, in another place, from its images.
    #[serde(default)]
    pub restore: Option<Restore>,
    /// The server moves: a checkpoint, the way of its images through the network, and a restore.
    #[serde(default)]
    pub migrate: Option<Migrate>,
    /// The server's whole machine moves to another host (the scheme `mptcp-tunnel`).
    #[serde(default)]
    pub relocate: Option<Relocate>,
    /// A copy of a running server and its origin begin to share the work: objects move, and then
    /// the origin is released.
    #[serde(default)]
    pub handover: Option<Handover>,
    /// Somebody else sends to a node: what it holds against is in `security.csv`.
    #[serde(default)]
    pub attack: Option<Attack>,
    /// Looks for the keys of a node's connections in images and all else on the disk.
    #[serde(default)]
    pub search: Option<Search>,
    /// A link gets another shape.
    #[serde(default)]
    pub shape: Option<Reshape>,
    /// A link is cut.
    #[serde(default)]
    pub link_down: Option<LinkName>,
    /// A cut link is mended.
    #[serde(default)]
    pub link_up: Option<LinkName>,
    /// A node is killed (SIGKILL).
    #[serde(default)]
    pub kill: Option<Kill>,
}

/// Whom the announcement is about, and where it will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// The server.
    pub node: String,
    /// The place it will move to, or any IP address.
    pub to: String,
}

/// Whose clients are waited for, and how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Barrier {
    /// The server.
    pub node: String,
    /// After this time it goes on; who has not acknowledged is named in `events.csv`.
    pub deadline: Time,
}

/// Which node is written to which images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The node.
    pub node: String,
    /// Name of the images.
    #[serde(rename = "as")]
    pub image: String,
    /// The node goes on; what is restored is a copy of it.
    #[serde(default)]
    pub leave_running: bool,
}

/// Which images come to life where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Name of the images, as in `checkpoint`.
    pub from: String,
    /// The place.
    pub on: String,
    /// Name of the copy, when the node went on.
    #[serde(default, rename = "as")]
    pub name: Option<String>,
}

/// Who moves where, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// The server.
    pub node: String,
    /// The place.
    pub to: String,
    /// When its memory travels.
    pub technique: Technique,
    /// What carries its images from place to place.
    pub transfer: Transfer,
    /// Compress them on the way (zstd).
    #[serde(default)]
    pub compress: bool,
    /// Pre-copy: rounds in which memory is copied while the node runs; with `below` at the most.
    #[serde(default)]
    pub rounds: Option<u32>,
    /// Pre-copy: rounds end when one has copied no more than this, or no less than the one before.
    #[serde(default)]
    pub below: Option<Size>,
    /// The images are kept in the trial's folder; else they are removed. Whatever the server knew
    /// is in them, keys included.
    #[serde(default)]
    pub keep_images: bool,
}

/// When the memory of a node that moves travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Technique {
    /// All of it while the node is stopped.
    Cold,
    /// While it runs, in rounds; what has changed since the last one while it is stopped.
    PreCopy,
    /// When it runs at its target and touches it, and the rest in the background.
    PostCopy,
    /// One round while it runs; what has changed since then as under post-copy.
    Hybrid,
}

/// What carries files between two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transfer {
    /// The real rsync, over its daemon protocol.
    Rsync,
    /// One TCP connection with a tar archive in it.
    Stream,
    /// CRIU's own for memory, while it is dumped; what else there is follows in a stream.
    PageServer,
}

/// Who hands over to whom, and how fast objects move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The server.
    pub from: String,
    /// Its copy, as named by `restore`.
    pub to: String,
    /// Steady rate at which objects move in the background.
    pub rate: Rate,
}

/// A link's new shape; a direction that is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// Name of the link.
    pub link: String,
    /// Both directions.
    #[serde(default)]
    pub both: Option<Shape>,
    /// From its first end to its second.
    #[serde(default)]
    pub a_to_b: Option<Shape>,
    /// From its second end to its first.
    #[serde(default)]
    pub b_to_a: Option<Shape>,
}

/// Which link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkName {
    /// Name of the link.
    pub link: String,
}

/// Which node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// The node.
    pub node: String,
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
