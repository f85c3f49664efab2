//! One server that moves again and again, back and forth, under one client that gets body after body.

use crate::{
    machine::{Place, number},
    text,
};
use limosa_record::{
    dir::RunDir,
    row::{self, EventRow, RequestRow},
};
use std::fs;

const RACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/rack.yaml");

/// The ways to move that this kernel has.
fn ways() -> Vec<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.expect("start a runtime").block_on(limosa::doctor::examine(None));
    let has = |what: &str| report.techniques.iter().any(|f| f.ok && f.name.contains(what));
    let mut ways = vec![
        "technique: cold, transfer: stream",
        "technique: cold, transfer: rsync",
        "technique: cold, transfer: stream, compress: true",
        "technique: cold, transfer: page-server",
    ];
    if has("soft-dirty") {
        ways.push("technique: pre-copy, transfer: rsync");
    }
    if has("lazy") {
        ways.push("technique: post-copy, transfer: stream");
    }
    if has("soft-dirty") && has("lazy") {
        ways.push("technique: hybrid, transfer: stream");
    }
    ways
}

/// `LIMOSA_MIGRATIONS` says how many moves; there are six times as many bodies and some, so that the
/// client is never done first.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_server_that_moves_again_and_again_loses_no_body() {
    let moves = number("LIMOSA_MIGRATIONS", 5);
    let bodies = 6 * moves + 20;
    let place = Place::new("60s");
    let experiment = format!(
        "version: 1
topology: {RACK}
repetitions: 1
time_limit: {}s
nodes:
  server: {{on: server-a, role: server, address: 10.1.0.100}}
  client: {{on: client, role: client}}
workload:
  requests:
    objects: {{count: 10, size: 1MB}}
    arrivals: {{closed_loop: {{outstanding: 1}}}}
    count: {bodies}
transport: {{idle_timeout: 60s}}
variants:
  roaming: {{scheme: quic}}
timeline:
{}",
        60 + 4 * moves,
        timeline(moves, &ways())
    );
    fs::write(place.path().join("roaming.yaml"), experiment).expect("write the experiment");
    let on = ["run", "roaming.yaml", "--on", "host", "--links", "user"];
    let output = place.limosa(&on).output().expect("start limosa");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let trial = place.trials("roaming").remove(0);
    assert_eq!((&*trial.status, trial.reconnects), ("ok", Some(0)), "{:?}", trial.reason);
    let run = RunDir::new(place.path().join("results/roaming/latest"));
    let requests: Vec<RequestRow> = row::read(&run.requests()).expect("requests.csv");
    // The client holds each body against what object and version say it should be.
    let good = requests.iter().filter(|r| r.outcome == "ok").count() as u64;
    assert_eq!((requests.len() as u64, good), (bodies, bodies));
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    let restored = events.iter().filter(|e| e.event == "restore").count() as u64;
    assert_eq!(restored, moves);
    assert_eq!(place.left(), [""; 0]);
    let slowest = requests.iter().filter_map(|r| r.response_s).fold(0.0, f64::max);
    println!(
        "{moves} moves, {good} bodies of 1 MB, 0 connections lost, the slowest body took {slowest:.3} s; unread {:?} datagrams",
        trial.unread_packets
    );
}

/// From `server-a` to `server-b` and back, each a moment after the one before, in a random way.
fn timeline(moves: u64, ways: &[&str]) -> String {
    let step = |i: u64| {
        let to = if i.is_multiple_of(2) { "server-b" } else { "server-a" };
        // An odd multiplier's upper bits are as good as random for this (Knuth, 3.3.4).
        let way = ways[((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % ways.len()];
        let when = match i {
            0 => "at: 500ms".to_owned(),
            _ => format!("after: move-{} + 300ms", i - 1),
        };
        format!("  - {{{when}, name: move-{i}, migrate: {{node: server, to: {to}, {way}}}}}\n")
    };
    (0..moves).map(step).collect()
}
