//! Hand-overs between a server and its CRIU copy, on this kernel: what was on the wire, what is on
//! the servers, and what becomes of the client when one of the two dies.

use crate::text;
use limosa_analysis::wire;
use limosa_record::{
    dir::RunDir,
    row::{self, EventRow, RequestRow, TrialRow, event},
};
use limosa_testkit::{Outcome, assert_less, compare};
use std::path::Path;

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/amio-2023.yaml");

/// Round trips of the topology: to the old server and to the new one.
const ROUND_TRIPS_S: [f64; 2] = [0.150, 0.050];

/// What no request may wait longer than beyond the longer round trip.
const PATIENCE_S: f64 = 0.020;

/// Everything is written down that there is.
const WATCHED: &str = "transport: {key_log: true, qlog: true}
capture: [client, server-old, server-new]
";

/// Four seconds of hand-over of 400 objects with reads and writes; `steps` is added to the
/// timeline.
fn experiment(seconds: u32, steps: &str) -> String {
    let workload = format!(
        "    objects: {{count: 400, size: 1KB, order: shuffled}}
    arrivals: {{poisson: 10ms}}
    writes: 20%
    duration: {seconds}s
"
    );
    with(&workload, WATCHED, steps)
}

/// A hand-over under a request workload.
fn with(workload: &str, settings: &str, steps: &str) -> String {
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
{workload}{settings}variants:
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
    let (output, run) = crate::run(folder, "move", experiment);
    let mut trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials.len(), 1, "{}", text(&output));
    let requests = row::read(&run.requests()).expect("requests.csv");
    let trial = trials.remove(0);
    assert_eq!(trial.status, "ok", "{}", text(&output));
    (trial, requests, run)
}

/// The copy knows the keys of its origin's connections. Nothing that it sends may be under them.
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
    // The client has the secrets of both of its connections, the old server those of the one
    // between the servers.
    let [mut keys, between] = ["client", "server"]
        .map(|node| wire::read_keys(&attempt.join(node).join("keys.log")).expect("a key log"));
    let known: Vec<String> = keys.iter().map(|keys| keys.name.clone()).collect();
    keys.extend(between.into_iter().filter(|keys| !known.contains(&keys.name)));
    let mut datagrams = Vec::new();
    for place in ["client", "server-old", "server-new"] {
        let file = attempt.join(format!("{place}.pcap"));
        datagrams.extend(wire::read_pcap(&file).expect("a capture"));
    }
    datagrams.sort_by_key(|d| d.time_ns);
    let opened = wire::open(&datagrams, &keys);
    let packets = &opened.packets;
    assert!(packets.len() > 2000, "{} packets were opened", packets.len());
    assert!(opened.closed * 100 < packets.len(), "{} were not opened", opened.closed);
    let from = |address: &str| packets.iter().filter(|p| p.from.to_string() == address).count();
    assert!(from("10.0.0.2:4433") > 100 && from("10.1.0.2:4433") > 100, "both servers were seen");
    let pushed = packets.iter().filter(|p| p.to.to_string() == "10.2.0.2:4434").count();
    assert!(pushed > 400, "{pushed} packets of objects between the servers");
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

/// While the copy is made the old server stands still, which is told by `checkpoint_s`; a request
/// may wait for that, and for nothing else.
fn late(trial: &TrialRow, requests: &[RequestRow], run: &RunDir) -> Vec<String> {
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    let step = |name: &str| events.iter().find(|e| e.source == "harness" && e.event == name);
    let begun = |name: &str| events.iter().find(|e| e.event == name).expect(name).started_ns;
    let zero_ns = begun(event::HANDSHAKE_STARTED);
    let frozen = step("checkpoint").expect("a checkpoint");
    let t_s = |ns: i64| (ns - zero_ns) as f64 / 1e9;
    let frozen = (t_s(frozen.started_ns), t_s(frozen.done_ns.expect("an end")));
    let bound_s = ROUND_TRIPS_S[0].max(ROUND_TRIPS_S[1]) + PATIENCE_S;
    let first_byte = |r: &RequestRow| r.first_byte_s.expect("an answer");
    let during = requests.iter().filter(|r| r.t_s + first_byte(r) > frozen.0);
    let too_late = during.filter(|r| {
        let first_byte_s = first_byte(r);
        let met = r.t_s < frozen.1 && r.t_s + first_byte_s > frozen.0;
        let freeze_s = if met { trial.checkpoint_s.unwrap_or(0.0) } else { 0.0 };
        first_byte_s > bound_s + freeze_s
    });
    too_late.map(|r| format!("{r:?}")).collect()
}

fn no_request_waits_longer_than_the_slower_server_takes() -> Outcome {
    let workload = "    objects: {count: 400, size: 1KB, order: shuffled}
    arrivals: {poisson: 10ms}
    writes: 20%
    duration: 8s
";
    // The bar is about who answers, so congestion control is kept out of it.
    let settings = "transport: {initial_window: 1MB}\n";
    compare(|| {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (trial, requests, run) = run(folder.path(), &with(workload, settings, ""));
        assert_eq!((trial.requests_failed, trial.requests_lost), (Some(0), Some(0)));
        assert_eq!((trial.answered_twice, trial.writes_missing), (Some(0), Some(0)));
        assert_less(Some(3.5), trial.transfer_s);
        let late = late(&trial, &requests, &run);
        assert!(late.is_empty(), "{} of {} waited too long: {late:#?}", late.len(), requests.len());
    })
}

fn an_object_that_changes_faster_than_it_travels_is_stopped_for_a_moment_and_handed_over() {
    let workload =
        "    objects: {named: [{id: hot, size: 1KB}, {id: cold, size: 200KB, priority: 1}]}
    choose: {script: [hot]}
    arrivals: {every: 5ms}
    writes: 100%
    duration: 7s
";
    let folder = tempfile::tempdir().expect("temporary folder");
    let (trial, _, run) = run(folder.path(), &with(workload, "", ""));
    assert_eq!((trial.requests_failed, trial.requests_lost), (Some(0), Some(0)));
    assert_eq!((trial.answered_twice, trial.writes_missing), (Some(0), Some(0)));
    assert!(trial.transfer_s.is_some(), "the migration was not complete");
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    let stops: Vec<_> = events.iter().filter(|e| e.event == event::SHORT_STOP).collect();
    assert_eq!(stops.len(), 1, "{stops:?}");
    assert!(stops[0].source == "server" && stops[0].detail.contains("hot"), "{stops:?}");
    assert_less(Some(stops[0].started_ns), stops[0].done_ns);
}

fn the_client_stays_with_the_old_server_when_the_new_one_dies() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let kill = "  - after: handover + 2s\n    kill: {node: server-new}\n";
    let (trial, requests, _) = run(folder.path(), &experiment(8, kill));
    assert_eq!((trial.requests_failed, trial.requests_lost), (Some(0), Some(0)));
    assert_eq!(trial.writes_missing, Some(0));
    assert_eq!(requests.last().and_then(|r| r.served_by.clone()), Some("server".into()));
}

fn what_has_arrived_is_served_when_the_old_server_dies() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let kill = "  - after: handover + 2s\n    kill: {node: server}\n";
    let (trial, requests, _) = run(folder.path(), &experiment(8, kill));
    assert!(trial.objects_lost.is_some_and(|n| n > 50 && n < 350), "{:?}", trial.objects_lost);
    assert!(trial.requests_lost.is_some_and(|n| n > 50), "{:?}", trial.requests_lost);
    let late = requests.iter().rev().take(100);
    assert!(late.clone().any(|r| r.outcome == "ok"), "reads of what arrived go on");
    assert!(late.clone().all(|r| r.outcome == "ok" || r.outcome == "lost"));
    let mut lost: Vec<f64> =
        late.filter(|r| r.outcome == "lost").filter_map(|r| r.response_s).collect();
    lost.sort_by(f64::total_cmp);
    // Those that are lost fail at once, and not only when the client gives up.
    assert_less(lost.get(lost.len() / 2).copied(), Some(0.1));
}

/// Cut for two seconds in the middle: the push goes on where it was.
fn a_cut_link_between_the_servers_only_delays_the_migration() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let cut = "  - after: handover + 1s\n    name: cut\n    link_down: {link: wan}\n  - after: cut + 2s\n    link_up: {link: wan}\n";
    let (trial, ..) = run(folder.path(), &experiment(14, cut));
    assert_eq!((trial.requests_failed, trial.requests_lost), (Some(0), Some(0)));
    assert_eq!((trial.answered_twice, trial.writes_missing), (Some(0), Some(0)));
}

limosa_testkit::tests![
    a_copy_never_sends_under_its_origins_keys[compared],
    no_request_waits_longer_than_the_slower_server_takes,
    an_object_that_changes_faster_than_it_travels_is_stopped_for_a_moment_and_handed_over[compared],
    the_client_stays_with_the_old_server_when_the_new_one_dies[compared],
    what_has_arrived_is_served_when_the_old_server_dies[compared],
    a_cut_link_between_the_servers_only_delays_the_migration[compared],
];
