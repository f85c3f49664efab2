//! The kernel mechanisms, one per file; they know nothing of spec, plan or lab.

pub mod criu;
pub mod flood;
pub mod link;
pub mod netlink;
pub mod netns;
pub mod offload;
pub mod ping;
pub mod process;
pub mod qdisc;
pub mod stamped;
pub mod tap;
