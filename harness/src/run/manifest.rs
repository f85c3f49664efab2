//! `manifest.json`: what made these results, so that they can be made again.

use crate::{plan::Plan, run::verdict};
use anyhow::Result;
use limosa_lab::{
    lab::Backend,
    sys::netns::{Netns, Role, settings_here},
};
use limosa_record::{
    clock,
    dir::{RunDir, write_whole},
    node::Scheme,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
};

/// Set for the inner Limosa in a guest.
pub const INSIDE_VARIABLE: &str = "LIMOSA_GUEST";

/// Writes the manifest of a run; `criu` is the version of the one that is used, `links` what
/// carries shaped links.
///
/// # Errors
/// When the file cannot be written.
pub fn write(run: &RunDir, plan: &Plan, criu: Option<&str>, links: Backend) -> Result<()> {
    let system = rustix::system::uname();
    let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = rustix::system::sysinfo().totalram;
    let distribution = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let distribution = distribution.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    let manifest = json!({
        "limosa": env!("CARGO_PKG_VERSION"),
        "started_utc": clock::utc(clock::now_ns()),
        "command": env::args().collect::<Vec<_>>(),
        "topology": plan.experiment.topology,
        "seed": plan.experiment.seed,
        "machine": {
            "where": if env::var_os(INSIDE_VARIABLE).is_some() { "guest" } else { "host" },
            "kernel": format!("{} {}", text(system.sysname()), text(system.release())),
            "architecture": text(system.machine()),
            "distribution": distribution.map(|d| d.trim_matches('"')),
            "processors": processors,
            "memory_bytes": memory,
            "criu": criu,
        },
        "links": links.name(),
        "network_settings": network_settings(plan)?,
        "thresholds": verdict::LIMITS,
        "renditions": renditions(plan),
    });
    write_whole(&run.manifest(), format!("{manifest:#}\n").as_bytes())?;
    Ok(())
}

/// All settings of the kernel's networks: of a host in full, of routers and switches where they
/// differ from a host's, and of this machine what no namespace has for itself.
fn network_settings(plan: &Plan) -> Result<serde_json::Value> {
    let roles = [Role::Host, Role::Router, Role::Silent];
    let made = Netns::create_with(&roles, plan.network.tcp_congestion.as_deref())?;
    let [host, router, switch] = [0, 1, 2].map(|n| made.get(n).map(Netns::settings).transpose());
    let (host, router, switch) =
        (host?.unwrap_or_default(), router?.unwrap_or_default(), switch?.unwrap_or_default());
    let beyond = |mut all: BTreeMap<String, String>| {
        all.retain(|name, value| host.get(name) != Some(value));
        all
    };
    let mut machine = settings_here();
    machine.retain(|name, _| !host.contains_key(name));
    let (router, switch) = (beyond(router), beyond(switch));
    Ok(json!({"host": host, "router": router, "switch": switch, "machine": machine}))
}

/// What stands for what in the schemes of this run, by scheme.
fn renditions(plan: &Plan) -> serde_json::Map<String, serde_json::Value> {
    let schemes: BTreeSet<Scheme> = plan.variants.values().filter_map(|v| v.scheme).collect();
    let rows = |scheme| json!(limosa_nodes::renditions(scheme).collect::<Vec<_>>());
    let name = |scheme| json!(scheme).as_str().unwrap_or_default().to_owned();
    schemes.into_iter().map(|scheme| (name(scheme), rows(scheme))).collect()
}
