//! One server that moves again and again, back and forth, under one client that gets body after body:
//! on this kernel, and in the guest, whose kernel can do all techniques.

use crate::{
    LINKS,
    machine::{Place, number, text},
};
use limosa_record::{
    dir::RunDir,
    row::{self, EventRow, RequestRow},
};
use std::{collections::BTreeMap, fs};

/// Both files as text: the guest has no folder of this project.
const TOPOLOGY: &str = include_str!("../../../topologies/rack.yaml");

/// Environment variable with the number of moves.
pub(crate) const MOVES: &str = "LIMOSA_MIGRATIONS";

/// Each technique with each way of the images that it allows. The first of them have all four
/// techniques and all three ways.
const WAYS: [&str; 11] = [
    "technique: cold, transfer: page-server",
    "technique: pre-copy, transfer: rsync, rounds: 2",
    "technique: post-copy, transfer: stream",
    "technique: hybrid, transfer: rsync",
    "technique: cold, transfer: stream",
    "technique: cold, transfer: rsync",
    "technique: cold, transfer: stream, compress: true",
    "technique: post-copy, transfer: rsync",
    "technique: pre-copy, transfer: page-server, rounds: 2",
    "technique: pre-copy, transfer: stream, rounds: 2",
    "technique: hybrid, transfer: stream",
];

/// Those of [`WAYS`] that this kernel has.
fn ways() -> Vec<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.expect("start a runtime").block_on(limosa::machine::doctor::examine(None));
    let has = |what: &str| report.techniques.iter().any(|f| f.ok && f.name.contains(what));
    let (tracked, lazy) = (has("soft-dirty"), has("lazy"));
    let possible = |way: &&str| match way.split([' ', ',']).nth(1) {
        Some("pre-copy") => tracked,
        Some("post-copy") => lazy,
        Some("hybrid") => tracked && lazy,
        _ => true,
    };
    WAYS.into_iter().filter(possible).collect()
}

fn moves() -> u64 {
    number(MOVES, 4)
}

/// After so many seconds the trial is given up.
pub(crate) fn longest_s() -> u64 {
    60 + 15 * moves()
}

/// There are so many bodies that the client is never done before the last move: the link lets through
/// five per second.
fn a_server_that_moves_again_and_again_loses_no_body() {
    let (moves, ways) = (moves(), ways());
    let bodies = 20 + 10 * moves;
    let place = Place::new("60s");
    let experiment = format!(
        "version: 1
topology: rack.yaml
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
        longest_s(),
        timeline(moves, &ways)
    );
    let write = |name: &str, text: &str| fs::write(place.path().join(name), text);
    write("rack.yaml", TOPOLOGY)
        .and_then(|()| write("roaming.yaml", &experiment))
        .expect("write the files");
    let on = ["run", "roaming.yaml", "--on", "host", "--links", LINKS];
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
        "{moves} moves, {good} bodies of 1 MB, 0 connections lost, the slowest body took {slowest:.3} s; \
         unread {:?} datagrams",
        trial.unread_packets
    );
    println!("{:?}", taken(moves, &ways));
}

/// The way of a move: each in its turn, and then a random one.
fn way<'a>(i: u64, ways: &[&'a str]) -> &'a str {
    // An odd multiplier's upper bits are as good as random for this (Knuth, 3.3.4).
    let random = || (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    ways.get(i as usize).unwrap_or_else(|| &ways[random() as usize % ways.len()])
}

/// How often each way was taken.
fn taken<'a>(moves: u64, ways: &[&'a str]) -> BTreeMap<&'a str, usize> {
    let mut taken = BTreeMap::new();
    for i in 0..moves {
        *taken.entry(way(i, ways)).or_default() += 1;
    }
    taken
}

/// From `server-a` to `server-b` and back, each a moment after the one before.
fn timeline(moves: u64, ways: &[&str]) -> String {
    let step = |i: u64| {
        let to = if i.is_multiple_of(2) { "server-b" } else { "server-a" };
        let way = way(i, ways);
        let when = match i {
            0 => "at: 500ms".to_owned(),
            _ => format!("after: move-{} + 300ms", i - 1),
        };
        format!("  - {{{when}, name: move-{i}, migrate: {{node: server, to: {to}, {way}}}}}\n")
    };
    (0..moves).map(step).collect()
}

limosa_testkit::tests![a_server_that_moves_again_and_again_loses_no_body[compared],];
