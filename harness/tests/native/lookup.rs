//! A server that does not know where it will be: its client asks the DNS.

use crate::text;
use limosa_record::row::{self, EventRow, TrialRow, event};

/// The server comes to another place and, two seconds after its record is written, goes back.
fn experiment() -> String {
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/casu-2022-dns.yaml");
    format!(
        "version: 1
topology: {topology}
repetitions: 1
time_limit: 60s
dns: {{on: dns}}
workload:
  requests:
    objects: {{count: 10, size: 1KB}}
    arrivals: {{every: 50ms}}
    duration: 8s
variants:
  lookup: {{scheme: lookup}}
timeline:
  - at: 1s
    checkpoint: {{node: server, as: image}}
  - after: image + 500ms
    restore: {{from: image, on: server-b}}
    name: there
  - after: there + 300ms
    publish: {{node: server}}
    name: known
  - after: known + 2s
    checkpoint: {{node: server, as: second}}
  - after: second + 500ms
    restore: {{from: second, on: server-a}}
    name: back
  - after: back
    publish: {{node: server}}
"
    )
}

fn a_client_finds_a_server_that_did_not_know_where_it_would_be() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (output, run) = crate::run(folder.path(), "lookup", &experiment());
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    let [trial] = &trials[..] else { panic!("{}", text(&output)) };
    assert_eq!(trial.status, "ok", "{}", text(&output));
    assert_eq!((trial.reconnects, trial.requests_failed), (Some(0), Some(0)), "{trial:?}");
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    let of = |source: &str, event: &str| -> Vec<&EventRow> {
        events.iter().filter(|e| e.source == source && e.event == event).collect()
    };
    let (published, found) = (of("harness", "publish"), of("client", event::LOOKED_UP));
    let paths = of("client", event::PATH_ESTABLISHED);
    assert_eq!((published.len(), found.len(), paths.len()), (2, 2, 2), "{found:?} {paths:?}");
    for ((published, found), path) in published.iter().zip(&found).zip(&paths) {
        let known_ns = published.started_ns;
        let after = |e: &EventRow| (e.started_ns - known_ns) as f64 / 1e9;
        eprintln!("found after {:.3} s, a path after {:.3} s", after(found), after(path));
        assert!(known_ns < found.started_ns && found.started_ns <= path.started_ns);
    }
    assert!(of("client", event::ASKED).len() > 2);
}

limosa_testkit::tests![a_client_finds_a_server_that_did_not_know_where_it_would_be[compared],];
