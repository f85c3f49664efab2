//! A lab to play with: `up`, `exec`, `inspect`, `down`; and `clean`.

use super::{dispatch::become_root, show};
use crate::{
    cli::{args::exit, signals},
    machine::doctor,
    plan::{self, NoWay, Reach},
    spec::{self, Links},
};
use anyhow::{Context, Result};
use limosa_lab::{
    errors::NotReady,
    journal,
    lab::{Lab, pinned::PinnedLab},
    network::{Kind, Network},
    sys::link,
};
use serde_json::json;
use std::{io::ErrorKind, os::unix::process::CommandExt, path::Path, process::Command};

/// Exit codes of `exec` when the program is not there, and when it is none.
const NO_SUCH_PROGRAM: u8 = 127;
const NO_PROGRAM: u8 = 126;

/// `limosa up TOPOLOGY`
pub(super) fn up(topology: &Path, name: Option<&str>, links: Links) -> Result<u8> {
    let document = spec::load_topology(topology)?;
    let network = plan::resolve_topology(&document, links)?;
    become_root()?;
    signals::end_at_once()?;
    journal::clean_quietly();
    let report = doctor::examine_for(&network, links);
    if !report.host_ready() {
        let lacks = report.host_lacks();
        return Err(NotReady(format!("this machine lacks {lacks}\n  hint: limosa doctor")).into());
    }
    let (backend, why) = report.links().map_err(NotReady)?;
    let stem = topology.file_stem().map(|s| s.to_string_lossy().into_owned());
    let name = name.map(ToOwned::to_owned).or(stem).context("the lab has no name")?;
    let pinned = PinnedLab::create(&name, &network, backend)?;
    let hosts =
        network.places.iter().filter(|(_, p)| p.kind == Kind::Host).map(|(n, _)| n.as_str());
    let hosts: Vec<_> = hosts.collect();
    say!("lab {name} is up: {}", hosts.join(", "));
    if network.needs_shaping() {
        say!("{}", show::links_text(backend, &why));
    }
    propose(&name, &network, &hosts);
    drop(pinned);
    Ok(exit::OK)
}

/// A command that works, and what does not reach each other.
fn propose(lab: &str, network: &Network, hosts: &[&str]) {
    let reach = Reach::new(network);
    let Some((first, others)) = hosts.split_first() else { return };
    let ways: Vec<_> = others.iter().map(|other| reach.way(first, other)).collect();
    if let Some(way) = ways.iter().rev().find_map(|way| way.as_ref().ok()) {
        say!("try: limosa exec {lab} {first} -- ping -c 3 {}", way.to);
    }
    let mut none = ways.iter().filter_map(|way| way.as_ref().err());
    if let Some(NoWay { why, hint }) = none.next() {
        let further = match none.count() {
            0 => String::new(),
            n => format!(" (and so on for {n} more)"),
        };
        say!("note: {why}{further}\n  hint: {hint}");
    }
}

/// `limosa exec LAB NODE -- CMD…`
pub(super) fn exec(lab: &str, node: &str, command: &[String]) -> Result<u8> {
    become_root()?;
    PinnedLab::place(lab, node)?.enter_this_thread()?;
    let [program, arguments @ ..] = command else { return Ok(exit::USAGE) };
    // The namespace is this thread's alone, and exec keeps only this thread.
    let error = Command::new(program).args(arguments).exec();
    // As a shell would.
    let code = match error.kind() {
        ErrorKind::NotFound => NO_SUCH_PROGRAM,
        ErrorKind::PermissionDenied => NO_PROGRAM,
        _ => return Err(error).with_context(|| format!("start `{program}`")),
    };
    tell!("error: start `{program}`: {error}");
    Ok(code)
}

/// `limosa inspect LAB`
pub(super) fn inspect(name: &str, json: bool) -> Result<u8> {
    become_root()?;
    let pinned = PinnedLab::open(name)?;
    let lab: &Lab = &pinned.lab;
    let mut places = serde_json::Map::new();
    for (place, plan) in &pinned.network.places {
        let counters = link::list(lab.place(place)?)?;
        let mut interfaces = Vec::new();
        for interface in &plan.interfaces {
            let live = counters.iter().find(|l| l.name == interface.name);
            interfaces.push(json!({
                "name": interface.name,
                "addresses": interface.addresses,
                "up": live.map(|l| l.up),
                "rx_bytes": live.map(|l| l.counters.rx_bytes),
                "tx_bytes": live.map(|l| l.counters.tx_bytes),
            }));
        }
        places.insert(place.clone(), json!({"kind": plan.kind, "interfaces": interfaces}));
    }
    let shapes = serde_json::to_value(lab.shapes()?)?;
    if json {
        say_json!(&json!({"lab": name, "places": places, "shapes": shapes}));
        return Ok(exit::OK);
    }
    say!("lab {name}");
    for (place, value) in &places {
        say!("  {place} ({})", value["kind"].as_str().unwrap_or_default());
        for i in value["interfaces"].as_array().into_iter().flatten() {
            let addresses = i["addresses"].as_array().into_iter().flatten();
            let addresses: Vec<_> = addresses.filter_map(|a| a.as_str()).collect();
            let state = if i["up"] == true { "up" } else { "down" };
            say!(
                "    {:<8} {state:<5} {} (in {} bytes, out {} bytes)",
                i["name"].as_str().unwrap_or_default(),
                addresses.join(" "),
                i["rx_bytes"],
                i["tx_bytes"]
            );
        }
    }
    for s in shapes.as_array().into_iter().flatten() {
        say!(
            "  {} {}",
            s["link"].as_str().unwrap_or_default(),
            s["direction"].as_str().unwrap_or_default()
        );
        for stage in ["rate", "delay"] {
            let v = &s[stage];
            say!(
                "    {stage}: {} (sent {} packets, dropped {})",
                v["shape"].as_str().unwrap_or("none"),
                v["sent_packets"],
                v["dropped_packets"]
            );
        }
    }
    Ok(exit::OK)
}

/// `limosa down LAB`
pub(super) fn down(name: &str) -> Result<u8> {
    become_root()?;
    signals::end_at_once()?;
    PinnedLab::remove(name)?;
    say!("lab {name} is gone");
    Ok(exit::OK)
}

/// `limosa clean`
pub(super) fn clean() -> Result<u8> {
    become_root()?;
    let undone = journal::clean()?;
    undone.iter().for_each(|what| say!("{what}"));
    if undone.is_empty() {
        say!("nothing to clean");
    }
    Ok(exit::OK)
}
