//! File descriptors of a lab: are there enough, before anything is built?
//!
//! Kernel interface: getrlimit(2) with RLIMIT_NOFILE, proc_pid_fd(5).

use super::{Carrier, is_shaped};
use crate::plan::Network;
use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// Of each namespace: itself, its netlink socket, its control socket.
const PER_NAMESPACE: u64 = 3;

/// Of each link in user space: two TAP devices.
const PER_USER_LINK: u64 = 2;

/// For everything else: nodes, logs, sockets.
const SLACK: u64 = 64;

/// Raises this process' limit if it must and may.
///
/// # Errors
/// When the network needs more than the limit.
pub(super) fn suffice(network: &Network, carrier: Carrier<'_>) -> Result<()> {
    let open = fs::read_dir("/proc/self/fd").context("list open files")?.count() as u64;
    let wanted = open + needed(network, carrier);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| wanted <= soft) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|hard| wanted > hard) {
        let (links, hard) = (network.links.len(), limit.maximum.unwrap_or(0));
        bail!(
            "{} nodes and {links} links need {wanted} file descriptors, and this process may open {hard}\n  hint: ulimit -Hn {wanted}",
            network.places.len()
        );
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("raise the limit of open files")
}

fn needed(network: &Network, carrier: Carrier<'_>) -> u64 {
    let shaped = network.links.iter().filter(|l| is_shaped(l)).count() as u64;
    let each = match carrier {
        Carrier::Kernel => PER_NAMESPACE,
        Carrier::User { .. } => PER_USER_LINK,
    };
    network.places.len() as u64 * PER_NAMESPACE + shaped * each + SLACK
}
