//! Labs of many hosts: how long they take to build and to remove.

use super::{Bench, Figures, median};
use crate::spec::Links;
use anyhow::{Result, bail};
use limosa_lab::sys::{link, netns::Netns};
use std::{
    fmt::Write,
    time::{Duration, Instant},
};

/// Hosts on the switch: the size at which Mininet needs 4.1 s for building and removing.
const HOSTS: usize = 100;
const ROUNDS: usize = 5;

/// A kernel that has not removed the links by then never will.
const REMOVAL_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn measure(bench: &Bench) -> Result<Figures> {
    let star = star();
    let (mut up_s, mut down_s) = ([0.0; ROUNDS], [0.0; ROUNDS]);
    for round in 0..ROUNDS {
        let start = Instant::now();
        let lab = bench.lab(&star, Links::Kernel)?;
        up_s[round] = start.elapsed().as_secs_f64();
        // The switch is kept open to see its ports go: the kernel removes namespaces later.
        let switch = lab.place("switch")?.again()?;
        let start = Instant::now();
        drop(lab);
        wait_for_empty(&switch)?;
        down_s[round] = start.elapsed().as_secs_f64();
    }
    let (up, down) = (median(&mut up_s), median(&mut down_s));
    let hosts = HOSTS as f64 / up;
    Ok([("hosts_built_per_s", hosts), ("lab_up_s", up), ("lab_down_s", down)].into())
}

fn wait_for_empty(switch: &Netns) -> Result<()> {
    let deadline = Instant::now() + REMOVAL_LIMIT;
    while link::list(switch)?.iter().any(|l| l.name.starts_with("port")) {
        if Instant::now() > deadline {
            bail!("the kernel has not removed the links within {REMOVAL_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Hosts and a router on one switch, addressed and routed.
fn star() -> String {
    let mut nodes = "  switch: {kind: switch}\n  router: {kind: router}\n".to_owned();
    let mut links = "  - {ends: [router.eth0, switch]}\n".to_owned();
    for n in 1..=HOSTS {
        // Writing to a string does not fail.
        let _ = writeln!(nodes, "  h{n}: {{}}");
        let _ = writeln!(links, "  - {{ends: [h{n}.eth0, switch]}}");
    }
    format!("version: 1\nfamilies: [ipv4, ipv6]\nnodes:\n{nodes}links:\n{links}")
}
