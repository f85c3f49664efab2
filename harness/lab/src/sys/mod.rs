//! The kernel mechanisms, one per file; they know nothing of spec, plan or lab.

pub mod arrivals;
pub mod criu;
pub mod egress;
pub mod family;
pub mod flood;
pub mod freeze;
pub mod lag;
pub mod link;
pub mod listener;
pub mod machine;
pub mod mptcp;
pub mod negotiation;
pub mod netlink;
pub mod netns;
pub mod offload;
pub mod packet_cost;
pub mod ping;
pub mod process;
pub mod qdisc;
pub mod rtc;
pub mod sockets;
pub mod stamped;
pub mod tap;
pub mod which;
