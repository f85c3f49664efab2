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

/// Each way to move, for one family of addresses: a seed decides which move takes which.
const WAYS: [&str; 3] = [
    "technique: cold, transfer: stream",
    "technique: cold, transfer: rsync",
    "technique: cold, transfer: stream, compress: true",
];

/// `LIMOSA_MIGRATIONS` says how many moves; there are six times as many bodies and some, so that the
/// client is never done first.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_server_that_moves_again_and_again_loses_no_body() {
    limosa::setup::tools().expect("get rsync");
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
        timeline(moves)
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

/// From `server-a` to `server-b` and back, each a moment after the one before.
fn timeline(moves: u64) -> String {
    let step = |i: u64| {
        let to = if i.is_multiple_of(2) { "server-b" } else { "server-a" };
        // An odd multiplier's upper bits are as good as random for this (Knuth, 3.3.4).
        let way = WAYS[((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % WAYS.len()];
        let when = match i {
            0 => "at: 500ms".to_owned(),
            _ => format!("after: move-{} + 300ms", i - 1),
        };
        format!("  - {{{when}, name: move-{i}, migrate: {{node: server, to: {to}, {way}}}}}\n")
    };
    (0..moves).map(step).collect()
}
