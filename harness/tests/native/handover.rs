//! Hand-overs between a server and its CRIU copy, on this kernel: what was on the wire, what is on
//! the servers, and what becomes of the client when one of the two dies.

use crate::text;
use limosa_analysis::wire;
use limosa_record::{
    dir::RunDir,
    row::{self, RequestRow, TrialRow},
};
use std::{fs, path::Path, process::Command};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/amio-2023.yaml");

/// Four seconds of hand-over with writes; `steps` is added to the timeline.
fn experiment(seconds: u32, steps: &str) -> String {
    format!(
        "version: 1
topology: {TOPOLOGY}
repetitions: 1
time_limit: 60s
nodes:
  server: {{on: server-old, role: server}}
  client: {{on: client, role: client}}
workload:
  requests:
    objects: {{count: 400, size: 1KB, order: shuffled}}
    arrivals: {{poisson: 10ms}}
    writes: 20%
    duration: {seconds}s
transport: {{key_log: true, qlog: true}}
capture: [client, server-old, server-new]
variants:
  move: {{scheme: dual-path}}
timeline:
  - at: 500ms
    checkpoint: {{node: server, as: image, leave_running: true}}
  - after: image + 200ms
    restore: {{from: image, on: server-new, as: server-new}}
    name: copy
  - after: copy + 200ms
    name: handover
    handover: {{from: server, to: server-new, rate: 800kbit/s}}
{steps}"
    )
}

fn run(folder: &Path, experiment: &str) -> (TrialRow, Vec<RequestRow>, RunDir) {
    fs::write(folder.join("move.yaml"), experiment).expect("write the experiment");
    let output = Command::new(env!("CARGO_BIN_EXE_limosa"))
        .args(["run", "move.yaml", "--on", "host", "--links", "user"])
        .current_dir(folder)
        .output()
        .expect("start limosa");
    let run = RunDir::new(folder.join("results/move/latest"));
    let mut trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials.len(), 1, "{}", text(&output));
    let requests = row::read(&run.requests()).expect("requests.csv");
    let trial = trials.remove(0);
    assert_eq!(trial.status, "ok", "{}", text(&output));
    (trial, requests, run)
}

/// The copy knows the keys of its origin's connections. Nothing that it sends may be under them.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_copy_never_sends_under_its_origins_keys() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (trial, requests, run) = run(folder.path(), &experiment(8, ""));
    assert_eq!((trial.requests_failed, trial.requests_lost), (Some(0), Some(0)));
    assert_eq!((trial.answered_twice, trial.writes_missing), (Some(0), Some(0)));
    assert!(trial.transfer_s.is_some(), "the migration was not complete");
    for server in ["server", "server-new"] {
        let answers = requests.iter().filter(|r| r.served_by.as_deref() == Some(server)).count();
        assert!(answers > 50, "{server} answered {answers} times");
    }
    let attempt = run.root().join(&trial.folder);
    // The client has the secrets of both of its connections.
    let keys = wire::read_keys(&attempt.join("client/keys.log")).expect("a key log");
    let mut datagrams = Vec::new();
    for place in ["client", "server-old", "server-new"] {
        let file = attempt.join(format!("{place}.pcap"));
        datagrams.extend(wire::read_pcap(&file).expect("a capture"));
    }
    // The servers' own connection is no copy's.
    datagrams.retain(|d| d.from.port() == 4433 || d.to.port() == 4433);
    datagrams.sort_by_key(|d| d.time_ns);
    let opened = wire::open(&datagrams, &keys);
    let packets = &opened.packets;
    assert!(packets.len() > 2000, "{} packets were opened", packets.len());
    assert!(opened.closed * 100 < packets.len(), "{} were not opened", opened.closed);
    let from = |address: &str| packets.iter().filter(|p| p.from.to_string() == address).count();
    assert!(from("10.0.0.2:4433") > 100 && from("10.1.0.2:4433") > 100, "both servers were seen");
    // One connection's keys are one server's: whoever sent first under them is the only sender.
    let reused = wire::reused(packets);
    assert!(reused.is_empty(), "{} packet numbers were used twice: {:?}", reused.len(), reused[0]);
    for (at, keys) in keys.iter().enumerate() {
        let mut senders: Vec<_> = packets.iter().filter(|p| p.keys == at).map(|p| p.from).collect();
        senders.sort();
        senders.dedup();
        assert!(senders.len() < 2, "{} was used by {senders:?}", keys.name);
    }
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn the_client_stays_with_the_old_server_when_the_new_one_dies() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let kill = "  - after: handover + 2s\n    kill: {node: server-new}\n";
    let (trial, requests, _) = run(folder.path(), &experiment(8, kill));
    assert_eq!((trial.requests_failed, trial.requests_lost), (Some(0), Some(0)));
    assert_eq!(trial.writes_missing, Some(0));
    assert_eq!(requests.last().and_then(|r| r.served_by.clone()), Some("server".into()));
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn what_has_arrived_is_served_when_the_old_server_dies() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let kill = "  - after: handover + 2s\n    kill: {node: server}\n";
    let (trial, requests, _) = run(folder.path(), &experiment(8, kill));
    assert!(trial.objects_lost.is_some_and(|n| n > 50 && n < 350), "{:?}", trial.objects_lost);
    assert!(trial.requests_lost.is_some_and(|n| n > 50), "{:?}", trial.requests_lost);
    let late = requests.iter().rev().take(100);
    assert!(late.clone().any(|r| r.outcome == "ok"), "reads of what arrived go on");
    assert!(late.clone().all(|r| r.outcome == "ok" || r.outcome == "lost"));
}

/// Cut for two seconds in the middle: the push goes on where it was.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_cut_link_between_the_servers_only_delays_the_migration() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let cut = "  - after: handover + 1s\n    name: cut\n    link_down: {link: wan}\n  - after: cut + 2s\n    link_up: {link: wan}\n";
    let (trial, ..) = run(folder.path(), &experiment(14, cut));
    assert_eq!((trial.requests_failed, trial.requests_lost), (Some(0), Some(0)));
    assert_eq!((trial.answered_twice, trial.writes_missing), (Some(0), Some(0)));
}
