//! The steps of a timeline and their actions; [`super::attack`] and [`super::machine`] have further ones.

use super::{Attack, Name, Publish, Relocate, Search, Shape};
use limosa_record::unit::{Rate, Size, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of the timeline: when, and exactly one action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Time since the start of the handshake.
    #[serde(default)]
    pub at: Option<Time>,
    /// Time since another step was done: its name, as `image`, or with a delay, as `image + 10s`.
    /// `connected` is when the client's handshake was confirmed, `first_byte` when the first byte of
    /// a body or of an answer arrived; with several clients, when it was so for all of them.
    #[serde(default)]
    pub after: Option<String>,
    /// Time since so much of the download's body had arrived, as `10MB`, or with a delay, as `10MB +
    /// 200ms`; with several clients, since each of them had so much.
    #[serde(default)]
    pub after_bytes: Option<String>,
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
    pub image: Name,
    /// The node goes on; what is restored is a copy of it.
    #[serde(default)]
    pub leave_running: bool,
}

/// Which images come to life where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Name of the images, as in `checkpoint`.
    pub from: Name,
    /// The place.
    pub on: String,
    /// Name of the copy, when the node went on.
    #[serde(default, rename = "as")]
    pub name: Option<Name>,
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
    pub both: Option<Box<Shape>>,
    /// From its first end to its second.
    #[serde(default)]
    pub a_to_b: Option<Box<Shape>>,
    /// From its second end to its first.
    #[serde(default)]
    pub b_to_a: Option<Box<Shape>>,
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

/// The actions: their names, the fields of a step that ask for them, and what they take. Everything
/// else that goes through all actions goes by this list.
macro_rules! actions {
    ($($verb:ident $field:ident $wish:ident)*) => {
        /// What a step does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Verb {
            $(#[doc = concat!("`", stringify!($field), "`")] $verb,)*
        }

        impl Verb {
            /// All of them, in the order of the reference.
            pub const ALL: &[Self] = &[$(Self::$verb),*];

            /// The word for it in files and in the column `event`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$verb => stringify!($field),)*
                }
            }
        }

        /// An action as the user wrote it.
        #[derive(Debug, Clone, Copy)]
        pub enum Wish<'s> {
            $(#[doc = concat!("`", stringify!($field), "`")] $verb(&'s $wish),)*
        }

        impl Wish<'_> {
            /// Which one it is.
            pub fn verb(self) -> Verb {
                match self {
                    $(Self::$verb(_) => Verb::$verb,)*
                }
            }
        }

        impl Step {
            /// Its action.
            ///
            /// # Errors
            /// All that it has, when that is not one.
            pub fn wish(&self) -> Result<Wish<'_>, Vec<Verb>> {
                let mut all = Vec::with_capacity(1);
                $(all.extend(self.$field.as_ref().map(Wish::$verb));)*
                match all[..] {
                    [one] => Ok(one),
                    _ => Err(all.into_iter().map(Wish::verb).collect()),
                }
            }
        }
    };
}

actions! {
    Announce announce Announce
    Barrier barrier Barrier
    Publish publish Publish
    Checkpoint checkpoint Checkpoint
    Restore restore Restore
    Migrate migrate Migrate
    Relocate relocate Relocate
    Handover handover Handover
    Attack attack Attack
    Search search Search
    Shape shape Reshape
    LinkDown link_down LinkName
    LinkUp link_up LinkName
    Kill kill Kill
}
