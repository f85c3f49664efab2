//! A node that does nothing, for finding out whether CRIU works here: the runtime, the sockets and
//! the signal handler are those of every node.

use crate::socket::NodeSocket;
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, Ipv6Addr};
use tokio::signal::unix::{SignalKind, signal};

/// What the node prints when it can be dumped.
pub const READY: &str = "ready";

/// Opens what a node opens, says [`READY`] and waits for SIGTERM.
///
/// # Errors
/// When a socket cannot be opened.
pub fn stand_by() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let _service = [
            NodeSocket::bind((Ipv4Addr::UNSPECIFIED, 0).into(), None)?,
            NodeSocket::bind((Ipv6Addr::UNSPECIFIED, 0).into(), None)?,
        ];
        let _control = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
        println!("{READY}");
        terminate.recv().await;
        Ok(())
    })
}
