//! The steps of a variant's timeline: every reference resolved, no cycle, nothing after the end, and
//! nothing that its nodes cannot do by then.

mod actions;
mod fits;
mod resolve;
mod walk;
mod when;

pub use fits::reference as actions_by_scheme;
pub(super) use resolve::{Context, resolve};
pub use when::{Anchor, When};

use crate::spec::{Attacked, Technique, Transfer, Verb};
use limosa_lab::shape::ShapePlan;
use limosa_record::unit::Time;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// One step: when, and what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Its name for other steps' `after`.
    pub name: Option<String>,
    /// When it starts.
    pub when: When,
    /// What it does.
    pub action: Action,
    /// Steps that have to be done before it, whatever its time: their numbers in the timeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<usize>,
}

/// A copy of a server that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPlan {
    /// Its name.
    pub name: String,
    /// Where it listens for the objects of its origin.
    pub migration: SocketAddr,
}

/// A server that moves with all that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigratePlan {
    /// The server.
    pub node: String,
    /// The place where it will be.
    pub to: String,
    /// When its memory travels.
    pub technique: Technique,
    /// What carries its images.
    pub transfer: Transfer,
    /// Whether they are compressed on the way.
    pub compress: bool,
    /// In how many rounds memory is copied while the server runs, at the most.
    #[serde(default)]
    pub rounds: u32,
    /// A round that has copied no more than this, or no less than the one before it, is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_bytes: Option<u64>,
    /// Whether the images stay in the trial's folder.
    #[serde(default)]
    pub keep_images: bool,
}

impl MigratePlan {
    /// Whether memory still travels when the server runs at its target.
    pub fn is_lazy(&self) -> bool {
        matches!(self.technique, Technique::PostCopy | Technique::Hybrid)
    }
}

/// Somebody else who sends to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttackPlan {
    /// What is sent.
    pub kind: Attacked,
    /// The node that is listened to.
    pub node: String,
    /// The place that it is sent from, with the servers' port.
    pub from: String,
    /// A link that is cut while the attacker listens.
    pub cut: Option<String>,
}

/// A machine that moves from one host to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelocatePlan {
    /// The server.
    pub node: String,
    /// The place that stands for its machine.
    pub machine: String,
    /// The old host.
    pub from: String,
    /// The new host.
    pub to: String,
    /// The link to the old host.
    pub unplug: String,
    /// The link to the new host.
    pub plug: String,
    /// The machine's interfaces on these links.
    pub old_interface: String,
    /// On the second one.
    pub new_interface: String,
    /// The new host's interface there.
    pub to_interface: String,
    /// The machine's addresses on these links.
    pub old: IpAddr,
    /// On the second one.
    pub new: IpAddr,
    /// The new host's address there.
    pub gateway: IpAddr,
    /// How long the machine stands still.
    pub pause: Time,
    /// How long it is reached through the tunnel only; for ever when empty.
    pub join: Option<Time>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The server tells its clients the address it will move to.
    Announce {
        /// The server.
        node: String,
        /// Where it will be.
        address: SocketAddr,
    },
    /// Waits until every client has acknowledged the newest announcement.
    Barrier {
        /// The server.
        node: String,
        /// Goes on without the others after this time.
        deadline: Time,
    },
    /// The server's record in the DNS becomes where it is now.
    Publish {
        /// The server.
        node: String,
    },
    /// CRIU freezes the node and writes it to images.
    Checkpoint {
        /// The node.
        node: String,
        /// Name of the images.
        image: String,
        /// Whether it goes on; else it ends.
        leave_running: bool,
    },
    /// CRIU brings the node to life in another place.
    Restore {
        /// The node.
        node: String,
        /// Name of the images.
        image: String,
        /// The place.
        on: String,
        /// What comes to life, when the node itself went on.
        copy: Option<CopyPlan>,
    },
    /// A server moves: checkpoint, transfer of its images, restore.
    Migrate(MigratePlan),
    /// A server's machine moves.
    Relocate(RelocatePlan),
    /// A server and its copy begin to share the work.
    Handover {
        /// The old server.
        from: String,
        /// The new one.
        to: String,
        /// Where clients reach the new one.
        service: SocketAddr,
        /// Where the old one reaches it.
        migration: SocketAddr,
        /// Rate at which objects move, in bytes per second.
        rate_bytes_per_s: u64,
    },
    /// Somebody else sends to a node.
    Attack(AttackPlan),
    /// Looks for a node's keys on the disk.
    Search {
        /// The node.
        node: String,
    },
    /// A link gets another shape.
    Shape {
        /// The link.
        link: String,
        /// New shape from its first end to its second.
        a_to_b: Option<ShapePlan>,
        /// New shape from its second end to its first.
        b_to_a: Option<ShapePlan>,
    },
    /// A link is cut.
    LinkDown {
        /// The link.
        link: String,
    },
    /// A link is mended.
    LinkUp {
        /// The link.
        link: String,
    },
    /// A node is killed.
    Kill {
        /// The node.
        node: String,
    },
}

impl Action {
    /// The word in the `event` column.
    pub fn name(&self) -> &'static str {
        self.verb().name()
    }

    /// What the user asked for.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Announce { .. } => Verb::Announce,
            Self::Barrier { .. } => Verb::Barrier,
            Self::Publish { .. } => Verb::Publish,
            Self::Checkpoint { .. } => Verb::Checkpoint,
            Self::Restore { .. } => Verb::Restore,
            Self::Migrate(_) => Verb::Migrate,
            Self::Relocate(_) => Verb::Relocate,
            Self::Handover { .. } => Verb::Handover,
            Self::Attack(_) => Verb::Attack,
            Self::Search { .. } => Verb::Search,
            Self::Shape { .. } => Verb::Shape,
            Self::LinkDown { .. } => Verb::LinkDown,
            Self::LinkUp { .. } => Verb::LinkUp,
            Self::Kill { .. } => Verb::Kill,
        }
    }
}
