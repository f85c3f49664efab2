//! How fast and how true this machine emulates, in one table.
//!
//! Input: nothing; it builds networks of its own, as root. Output: [`Row`]s, each beside the figure
//! that was measured when harness/README.md was last written (`bench/noted.json`). What this machine
//! cannot do has the reason instead of a figure. Takes about a minute, and means something only
//! while nothing else runs.

mod bare;
mod labs;
mod links;
mod moves;
mod nodes;

use crate::{
    machine::{doctor, setup},
    plan::{self},
    spec::{self, Links},
};
use anyhow::{Context, Result, ensure};
use limosa_lab::{
    journal::WorkFolder,
    lab::{Backend, Carrier, Lab},
    network::Network,
    sys::criu::Criu,
};
use serde::Serialize;
use std::{collections::BTreeMap, fs, path::PathBuf, pin::Pin};

/// What is measured: its key in JSON, which ends in its unit, and what it is called.
pub const FIGURES: &[(&str, &str)] = &[
    ("hosts_built_per_s", "hosts built per second, in a lab of 100"),
    ("lab_up_s", "lab of 100 hosts, up"),
    ("lab_down_s", "lab of 100 hosts, down"),
    ("kernel_rtt_error_ms", "kernel links: RTT beyond 2 × 25 ms"),
    ("kernel_rate_error_percent", "kernel links: rate against 100 Mbit/s"),
    ("kernel_packets_per_s", "kernel links: packets sent one by one"),
    ("kernel_cpu_per_packet_us", "kernel links: processor time per packet, ends included"),
    ("user_rtt_error_ms", "user links: RTT beyond 2 × 25 ms"),
    ("user_rate_error_percent", "user links: rate against 100 Mbit/s"),
    ("user_packets_per_s", "user links: packets sent one by one"),
    ("user_cpu_per_packet_us", "user links: processor time per packet, ends included"),
    ("engine_packets_per_s", "user links: packets sent in trains"),
    ("engine_full_cpu_per_packet_us", "user links: the engine's part, at full speed"),
    ("engine_cpu_per_packet_us", "user links: the engine's part, in trains at 100 Mbit/s"),
    ("engine_lone_cpu_per_packet_us", "user links: the same, packet by packet"),
    ("engine_timer_p99_ms", "user links: lateness of a departure, 99th percentile"),
    ("loopback_goodput_gbps", "nodes: goodput over loopback"),
    ("lab_goodput_mbps", "nodes: goodput through a link of 100 Mbit/s"),
    ("idle_dump_ms", "checkpoint of an idle server"),
    ("idle_restore_ms", "restore of an idle server"),
    ("loaded_dump_ms", "checkpoint of a server that sends 100 Mbit/s"),
    ("loaded_restore_ms", "restore of a server that sends 100 Mbit/s"),
    ("criu_dump_overhead_percent", "checkpoint of a server, beyond the bare criu command"),
    ("criu_restore_overhead_percent", "restore of a server, beyond the bare criu command"),
    ("criu_dump_100mb_overhead_percent", "the same checkpoint with 100 MB more of memory"),
    ("criu_restore_100mb_overhead_percent", "the same restore with 100 MB more of memory"),
];

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name, which ends in its unit.
    pub key: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What was measured now.
    pub value: Option<f64>,
    /// Why nothing was.
    pub missing: Option<String>,
    /// What was measured when harness/README.md was last written.
    pub noted: Option<f64>,
}

/// Some figures by key.
type Figures = BTreeMap<&'static str, f64>;

/// What the measurements share.
struct Bench {
    /// This program, for nodes and the engine.
    program: PathBuf,
    work: WorkFolder,
}

impl Bench {
    /// A network from the text of a topology.
    fn network(&self, topology: &str, links: Links) -> Result<Network> {
        let file = self.work.path().join("topology.yaml");
        fs::write(&file, topology).with_context(|| format!("write {}", file.display()))?;
        let document = spec::load_topology(&file)?;
        Ok(plan::resolve_topology(&document, links)?)
    }

    /// That network, live.
    fn lab(&self, topology: &str, links: Links) -> Result<Lab> {
        let network = self.network(topology, links)?;
        let log = self.work.path().join("engine.log");
        let backend = match network.needs_shaping() {
            true => doctor::examine_for(&network, links).links().map_err(anyhow::Error::msg)?.0,
            false => Backend::Kernel,
        };
        let carrier = match backend {
            Backend::User => Carrier::User { program: &self.program, log: &log },
            Backend::Kernel => Carrier::Kernel,
        };
        Lab::up(&network, 0, carrier)
    }

    /// A criu that works here.
    async fn criu(&self) -> Result<Criu> {
        let working = setup::criu::working(&self.program).await;
        Ok(working.context("there is no criu that works here")?.criu)
    }
}

/// Figures that are measured together: what is told before, how their keys begin, and the measurement.
type Part<'a> = (&'a str, &'a [&'a str], Pin<Box<dyn Future<Output = Result<Figures>> + 'a>>);

/// Everything, in order. Nothing is done before it is waited for.
fn parts(bench: &Bench) -> Vec<Part<'_>> {
    vec![
        (
            "labs",
            &["hosts_built_per_s", "lab_up_s", "lab_down_s"],
            Box::pin(async { labs::measure(bench) }),
        ),
        (
            "kernel links",
            &["kernel_"],
            Box::pin(async { links::measure(bench, "kernel", Links::Kernel) }),
        ),
        ("user links", &["user_"], Box::pin(async { links::measure(bench, "user", Links::User) })),
        ("the engine", &["engine_"], Box::pin(async { links::engine(bench) })),
        ("nodes", &["loopback_"], Box::pin(nodes::loopback(bench))),
        ("nodes on a link", &["lab_goodput"], Box::pin(nodes::through_a_link(bench))),
        ("checkpoints", &["idle_"], Box::pin(moves::measure(bench, false))),
        ("checkpoints under load", &["loaded_"], Box::pin(moves::measure(bench, true))),
        ("criu alone", &["criu_"], Box::pin(bare::measure(bench))),
    ]
}

/// Measures the figures whose key contains `only`, or all; `tell` is told what is next.
///
/// # Errors
/// When there is no place for files, or no such figure. What cannot be measured is no error but a
/// reason in its row.
pub async fn measure(only: Option<&str>, tell: impl Fn(&str)) -> Result<Vec<Row>> {
    let wanted = |key: &str| only.is_none_or(|only| key.contains(only));
    let names = || FIGURES.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(" ");
    ensure!(
        FIGURES.iter().any(|(key, _)| wanted(key)),
        "no figure is called so\n  hint: {}",
        names()
    );
    let program = std::env::current_exe().context("find this program")?;
    let bench = Bench { program, work: WorkFolder::new("bench")? };
    let noted = noted();
    let mut rows = Vec::new();
    for (name, begins, figures) in parts(&bench) {
        let is_part = |key: &str| wanted(key) && begins.iter().any(|b| key.starts_with(b));
        let part: Vec<_> = FIGURES.iter().filter(|(key, _)| is_part(key)).collect();
        if part.is_empty() {
            continue;
        }
        tell(name);
        let figures = figures.await.map_err(|e| format!("{e:#}"));
        rows.extend(part.into_iter().map(|(key, what)| {
            let (value, missing) = match &figures {
                Ok(figures) => (figures.get(key).copied(), None),
                Err(why) => (None, Some(why.clone())),
            };
            Row { key, what, value, missing, noted: noted.get(*key).copied() }
        }));
    }
    Ok(rows)
}

/// What was measured when harness/README.md was last written, by key.
pub fn noted() -> BTreeMap<String, f64> {
    let text = include_str!("bench/noted.json");
    // A test reads it, too: what is checked in can be read.
    serde_json::from_str(text).unwrap_or_default()
}

/// A figure with three digits and its unit, which is the end of its key.
pub fn text(key: &str, value: f64) -> String {
    let unit = match key.rsplit('_').next().unwrap_or_default() {
        _ if key.ends_with("_per_s") => "/s",
        "s" => " s",
        "ms" => " ms",
        "us" => " µs",
        "percent" => " %",
        "gbps" => " Gbit/s",
        "mbps" => " Mbit/s",
        _ => "",
    };
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}{unit}")
}

/// The middle one of an odd number of values, in order.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_shows_what_was_noted() {
        let readme = include_str!("../../README.md");
        let noted = noted();
        assert!(!noted.is_empty());
        for (key, value) in &noted {
            let (_, what) = FIGURES.iter().find(|(k, _)| k == key).expect(key);
            let line = format!("| {what} | {} |", text(key, *value));
            assert!(readme.contains(&line), "harness/README.md lacks `{line}`");
        }
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(text("lab_up_s", 0.25), "0.250 s");
        assert_eq!(text("user_packets_per_s", 123_456.7), "123457/s");
        assert_eq!(text("user_rate_error_percent", -1.234), "-1.23 %");
        assert_eq!(text("loopback_goodput_gbps", 4.5), "4.50 Gbit/s");
        assert_eq!(text("idle_dump_ms", 45.67), "45.7 ms");
    }
}
