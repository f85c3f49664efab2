//! File descriptors of a lab: are there enough, before anything is built?
//!
//! Kernel interface: getrlimit(2) with RLIMIT_NOFILE, proc_pid_fd(5).

use super::{Backend, Carrier, is_shaped};
use crate::{errors::NotReady, network::Network};
use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// Of each namespace: itself, its netlink socket, its control socket.
const PER_NAMESPACE: u64 = 3;

/// Of each link in user space: two TAP devices.
const PER_USER_LINK: u64 = 2;

/// For everything else: nodes, logs, sockets.
const SLACK: u64 = 64;

/// What the smallest experiment takes: two hosts with a link in user space.
pub const LEAST: u64 = 2 * PER_NAMESPACE + PER_USER_LINK + SLACK;

/// What this program takes to start a runtime for asynchronous code and to say what is wrong.
const FEWEST: u64 = 24;

/// Whether there are enough to do anything at all.
///
/// # Errors
/// When there are not.
pub fn enough_to_start() -> Result<(), NotReady> {
    match getrlimit(Resource::Nofile).current {
        Some(soft) if soft < FEWEST => {
            Err(NotReady(format!("this process may open {soft} files\n  hint: ulimit -n 1024")))
        }
        _ => Ok(()),
    }
}

/// How many files this process may open, or that these are too few for anything.
///
/// # Errors
/// The reason, in words.
pub fn enough_for_anything() -> Result<String, String> {
    match getrlimit(Resource::Nofile).maximum {
        Some(hard) if hard < LEAST => {
            Err(format!("this process may open {hard} files, and the smallest run takes {LEAST}"))
        }
        Some(hard) => Ok(format!("{hard} at a time")),
        None => Ok("any number".into()),
    }
}

/// Whether so many labs of a network may be up at a time.
///
/// # Errors
/// When they need more files than this process may open.
pub fn check(network: &Network, backend: Backend, labs: u64) -> Result<()> {
    let each = match backend {
        Backend::Kernel => PER_NAMESPACE,
        Backend::User => PER_USER_LINK,
    };
    raise(network, open_now()? + needed(network, each) * labs)
}

fn open_now() -> Result<u64> {
    Ok(fs::read_dir("/proc/self/fd").context("list open files")?.count() as u64)
}

/// Raises this process' limit if it must and may.
///
/// # Errors
/// When the network needs more than the limit.
pub(super) fn suffice(network: &Network, carrier: Carrier<'_>) -> Result<()> {
    let each = match carrier {
        Carrier::Kernel => PER_NAMESPACE,
        Carrier::User { .. } => PER_USER_LINK,
    };
    raise(network, open_now()? + needed(network, each))
}

fn raise(network: &Network, wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| wanted <= soft) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|hard| wanted > hard) {
        let (links, hard) = (network.links.len(), limit.maximum.unwrap_or(0));
        return Err(NotReady(format!(
            "{} nodes and {links} links need {wanted} file descriptors, and this process may open {hard}\n  hint: ulimit -Hn {wanted}",
            network.places.len()
        ))
        .into());
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("raise the limit of open files")
}

fn needed(network: &Network, each: u64) -> u64 {
    let shaped = network.links.iter().filter(|l| is_shaped(l)).count() as u64;
    network.places.len() as u64 * PER_NAMESPACE + shaped * each + SLACK
}
