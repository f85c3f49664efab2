//! A machine that moves under a download over MPTCP.

use crate::text;
use limosa_record::row::{self, EventRow, TrialRow};
use std::path::Path;

const EXPERIMENT: &str = "version: 1
topology: TOPOLOGY
repetitions: 1
time_limit: 60s
nodes:
  server: {on: machine, role: server}
  client: {on: client, role: client}
workload:
  download: {path: /random, size: 1MB, play: 2Mbit/s}
variants:
  joins: {scheme: mptcp-tunnel}
  stays: {scheme: mptcp-tunnel}
timeline:
  - at: 500ms
    only: [joins]
    relocate: {node: server, to: host-b, pause: 300ms, join: 500ms}
  - at: 500ms
    only: [stays]
    relocate: {node: server, to: host-b, pause: 300ms}
";

fn a_download_over_mptcp_survives_the_move_of_its_servers_machine() {
    if !Path::new(limosa_lab::sys::mptcp::SWITCH).exists() {
        limosa_testkit::skip("this kernel has no MPTCP");
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/le-mptcp.yaml");
    let (output, run) =
        crate::run(folder.path(), "mptcp", &EXPERIMENT.replace("TOPOLOGY", topology));
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials.len(), 2, "{}", text(&output));
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    for trial in &trials {
        assert_eq!(trial.status, "ok", "{}: {}", trial.variant, text(&output));
        assert_eq!((trial.body_matches, trial.reconnects), (Some(true), Some(0)), "{trial:?}");
        assert!(trial.resume_delay_s.is_some() && trial.downtime_s.is_some(), "{trial:?}");
        eprintln!("{}: {:?} s after the thaw", trial.variant, trial.resume_delay_s);
        let of = events.iter().filter(|e| e.variant == trial.variant && e.source == "harness");
        let names: Vec<&str> = of.map(|e| &*e.event).collect();
        let moved = ["relocate", "freeze", "tunnel", "thaw"];
        let joined = ["add_addr", "mp_join", "remove_addr", "released"];
        let wanted = moved.iter().chain(joined.iter().filter(|_| trial.variant == "joins"));
        assert!(wanted.clone().all(|w| names.contains(w)), "{names:?}");
        assert_eq!(wanted.count(), names.len(), "{names:?}");
    }
}

limosa_testkit::tests![a_download_over_mptcp_survives_the_move_of_its_servers_machine[compared],];
