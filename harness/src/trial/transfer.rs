//! Copies a folder's files from one place of a lab to another, through the network between them.
//!
//! Input: a [`Route`] and two folders. Output: a [`Report`] that keeps set-up, data and bytes apart.
//! Both folders are on this machine; what joins them is the emulated network alone.

pub mod pages;
pub mod rsync;
pub mod stream;

use limosa_lab::sys::netns::Netns;
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// A transfer in which nothing has moved for so long is given up.
pub const STALLED: Duration = Duration::from_secs(15);

/// Between which places.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The place that has the files.
    pub from: &'a Netns,
    /// Its own address.
    pub own: IpAddr,
    /// The place that gets them.
    pub to: &'a Netns,
    /// Where it listens, and nowhere else.
    pub at: SocketAddr,
}

/// What a transfer took. Times are CLOCK_REALTIME in ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How: `rsync`, `rsync -z`, `stream`, `stream, zstd`, `page-server`.
    pub method: String,
    /// Its first program was about to be started.
    pub started_ns: i64,
    /// The first file was made at the target.
    pub data_ns: i64,
    /// The last file was complete at the target.
    pub arrived_ns: i64,
    /// The sender's program had ended.
    pub done_ns: i64,
    /// Bytes in the files.
    pub size_bytes: u64,
    /// Bytes that the sender sent, as it counts them (payload of TCP).
    pub sent_bytes: u64,
    /// Bytes that it received.
    pub received_bytes: u64,
}
