//! `manifest.json`: what made these results, so that they can be made again.

use crate::{lab::Backend, plan::Plan, verdict};
use anyhow::Result;
use limosa_record::{
    clock,
    dir::{RunDir, write_whole},
};
use serde_json::json;
use std::{env, fs};

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
        "thresholds": verdict::LIMITS,
        "renditions": {
            "announce": "noq's ADD_ADDRESS frame stands for the paper's MIGRATION frame",
            "detection": "a probe is an RFC 9000 PATH_CHALLENGE on a new path of RFC 10069",
        },
    });
    write_whole(&run.manifest(), format!("{manifest:#}\n").as_bytes())?;
    Ok(())
}
