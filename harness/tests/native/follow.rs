//! One path follows a server that CRIU moves: the schemes between QUIC and multipath.

use crate::text;
use limosa_record::row::{self, EventRow, RequestRow, TrialRow, event};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/casu-2022.yaml");

/// A server moves for a second while a client sends 20 requests per second, and later comes back.
fn experiment() -> String {
    let announced = "only: [proactive, reactive, pool, synchronized-symmetric]";
    format!(
        "version: 1
topology: {TOPOLOGY}
repetitions: 1
time_limit: 60s
workload:
  requests:
    objects: {{count: 10, size: 1KB}}
    arrivals: {{every: 50ms}}
    duration: 9s
variants:
  proactive: {{scheme: proactive}}
  reactive: {{scheme: reactive}}
  pool: {{scheme: pool, transport: {{pool_order: listed}}}}
  symmetric: {{scheme: symmetric}}
  synchronized-symmetric: {{scheme: synchronized-symmetric}}
timeline:
  - at: 500ms
    announce: {{node: server, to: server-b}}
    name: there
    {announced}
  - after: there
    barrier: {{node: server, deadline: 1s}}
    {announced}
  - at: 1500ms
    checkpoint: {{node: server, as: image}}
  - after: image + 1s
    restore: {{from: image, on: server-b}}
    name: away
  - after: away + 2s
    announce: {{node: server, to: server-a}}
    {announced}
  - after: away + 3s
    checkpoint: {{node: server, as: second}}
  - after: second + 500ms
    restore: {{from: second, on: server-a}}
"
    )
}

fn one_path_follows_a_server_there_and_back_again() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (output, run) = crate::run_with(folder.path(), "move", &experiment(), &["--jobs", "5"]);
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials.len(), 5, "{}", text(&output));
    let requests: Vec<RequestRow> = row::read(&run.requests()).expect("requests.csv");
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    for trial in &trials {
        assert_eq!(trial.status, "ok", "{}: {}", trial.variant, text(&output));
        assert_eq!((trial.reconnects, trial.requests_failed), (Some(0), Some(0)), "{trial:?}");
        assert!(requests.iter().filter(|r| r.variant == trial.variant).count() >= 175);
        let of = |source: &str, event: &str| -> Vec<&EventRow> {
            let wanted = |e: &&EventRow| {
                e.variant == trial.variant && e.source == source && e.event == event
            };
            events.iter().filter(wanted).collect()
        };
        let paths = of("client", event::PATH_ESTABLISHED);
        assert_eq!(paths.len(), 2, "{}: {paths:?}", trial.variant);
        let restores = of("harness", "restore");
        for (path, restore) in paths.iter().zip(&restores) {
            let late_s = (path.started_ns - restore.done_ns.expect("an end")) as f64 / 1e9;
            eprintln!("{}: a path {late_s:.3} s after the restore", trial.variant);
        }
        let spoke = of("server", event::SPOKE).len();
        assert_eq!(spoke, if trial.variant.contains("symmetric") { 2 } else { 0 });
        for barrier in of("harness", "barrier") {
            assert!(barrier.detail.contains("all clients"), "{barrier:?}");
        }
    }
}

limosa_testkit::tests![one_path_follows_a_server_there_and_back_again[compared],];
