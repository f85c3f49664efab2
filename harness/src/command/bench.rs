//! `limosa bench`: how fast this machine builds labs.

use super::become_root;
use crate::{
    cli::exit,
    lab::{Carrier, Lab},
    plan::{self, Network},
    spec::{Document, Family, Kind, Link, Links, Named, Place, Topology},
    sys::{link, netns::Netns},
};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// Hosts on the switch: the size at which Mininet needs 4.1 s for building and removing.
const HOSTS: usize = 100;
const ROUNDS: usize = 5;
/// A kernel that has not removed the links by then never will.
const REMOVAL_LIMIT: Duration = Duration::from_secs(30);

/// `limosa bench`
pub(super) fn bench(json: bool) -> Result<u8> {
    become_root()?;
    let network = star(HOSTS)?;
    let mut up_s = Vec::new();
    let mut down_s = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let lab = Lab::up(&network, 0, Carrier::Kernel)?;
        up_s.push(start.elapsed().as_secs_f64());
        // The switch is kept open to see its ports go: the kernel removes namespaces later.
        let switch = lab.place("switch")?.again()?;
        let start = Instant::now();
        drop(lab);
        wait_for_empty(&switch)?;
        down_s.push(start.elapsed().as_secs_f64());
    }
    let middle = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (up, down) = (middle(&mut up_s), middle(&mut down_s));
    if json {
        println!(
            "{:#}",
            json!({"hosts": HOSTS, "rounds": ROUNDS, "up_median_s": up, "down_median_s": down, "up_s": up_s, "down_s": down_s})
        );
    } else {
        println!("{HOSTS} hosts on one switch, addressed and routed, median of {ROUNDS}:");
        println!("  built in   {up:.3} s [{:.3}–{:.3}]", up_s[0], up_s[ROUNDS - 1]);
        println!("  removed in {down:.3} s [{:.3}–{:.3}]", down_s[0], down_s[ROUNDS - 1]);
    }
    Ok(exit::OK)
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

fn star(hosts: usize) -> Result<Network> {
    let place = |kind| Place { kind, interfaces: Named::default() };
    let mut nodes = Named::default();
    nodes.0.insert("switch".into(), place(Kind::Switch));
    nodes.0.insert("router".into(), place(Kind::Router));
    let names: Vec<String> = (1..=hosts).map(|i| format!("h{i}")).collect();
    nodes.0.extend(names.iter().map(|n| (n.clone(), place(Kind::Host))));
    let link = |end: String| Link {
        ends: [end, "switch".into()],
        name: None,
        shape: None,
        a_to_b: None,
        b_to_a: None,
    };
    let ends = names.iter().map(|n| format!("{n}.eth0")).chain(["router.eth0".into()]);
    let value = Topology {
        version: 1,
        description: None,
        families: vec![Family::Ipv4, Family::Ipv6],
        nodes,
        links: ends.map(link).collect(),
    };
    let document = Document {
        path: PathBuf::from("star.yaml"),
        text: String::new(),
        value,
        traces: Default::default(),
    };
    plan::resolve_topology(&document, Links::Auto).context("plan a star")
}
