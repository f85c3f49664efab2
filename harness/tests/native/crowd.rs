//! Many clients of one server that moves.

use crate::text;
use limosa_record::row::{self, ClientRow, EventRow, RequestRow, TrialRow, event};
use limosa_testkit::assert_not_more;
use std::{collections::HashSet, path::Path};

const CLIENTS: usize = 20;

/// A server with many clients is away for half a second.
fn experiment(workload: &str) -> String {
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");
    format!(
        "version: 1
topology: {topology}
repetitions: 1
time_limit: 60s
transport: {{ladder: fast}}
workload:
{workload}
variants:
  proactive: {{scheme: proactive, clients: {CLIENTS}}}
  multipath: {{scheme: multipath, clients: {CLIENTS}}}
timeline:
  - at: 500ms
    announce: {{node: server, to: server-b}}
    name: announced
  - after: announced
    barrier: {{node: server, deadline: 5s}}
    name: heard
  - after: heard + 500ms
    checkpoint: {{node: server, as: image}}
  - after: image + 500ms
    restore: {{from: image, on: server-b}}
"
    )
}

/// Runs it: every client has waited through the restore and gone on, over one connection.
fn run(folder: &Path, workload: &str) -> (limosa_record::dir::RunDir, Vec<ClientRow>) {
    let (output, run) = crate::run(folder, "crowd", &experiment(workload));
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials.len(), 2, "{}", text(&output));
    let clients: Vec<ClientRow> = row::read(&run.clients()).expect("clients.csv");
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    for trial in &trials {
        let variant = &trial.variant;
        assert_eq!(trial.status, "ok", "{variant}: {}", text(&output));
        let many = Some(CLIENTS as u64);
        assert_eq!((trial.clients, trial.clients_resumed), (many, many), "{trial:?}");
        assert_eq!(trial.reconnects, Some(0), "{trial:?}");
        let of: Vec<_> = clients.iter().filter(|c| c.variant == *variant).collect();
        let mut delays: Vec<f64> = of.iter().filter_map(|c| c.resume_delay_s).collect();
        delays.sort_by(f64::total_cmp);
        eprintln!("{variant}: {delays:.3?}");
        assert_eq!(delays.len(), CLIENTS);
        let ends = (trial.resume_min_s, trial.resume_max_s);
        assert_eq!(ends, (delays.first().copied(), delays.last().copied()));
        assert_not_more(trial.resume_median_s, trial.resume_p95_s);
        let numbers: HashSet<_> = of.iter().filter_map(|c| c.client).collect();
        assert_eq!(numbers, (1..=CLIENTS as u16).collect());
        let named = |name: &str| {
            let of = events.iter().filter(|e| e.variant == *variant && e.event == name);
            of.collect::<Vec<_>>()
        };
        let barrier = named("barrier");
        assert!(barrier[0].detail.contains("all clients"), "{barrier:?}");
        let told: HashSet<_> = named(event::ANNOUNCEMENT).iter().map(|e| &e.source).collect();
        assert_eq!(told.len(), CLIENTS + 1, "the server and all clients: {told:?}");
    }
    (run, clients)
}

fn every_client_of_a_server_follows_it_and_has_a_row_of_its_own() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let body = "  download: {path: /random, size: 150KB, play: 240kbit/s}";
    let (_, clients) = run(folder.path(), body);
    assert!(clients.iter().all(|c| c.body_matches == Some(true) && c.bytes == Some(150_000)));
}

fn every_client_has_requests_of_its_own() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let requests = "  requests:
    objects: {count: 1000, size: 1KB}
    arrivals: {closed_loop: {outstanding: 1, think: 50ms}}
    duration: 5s";
    let (run, clients) = run(folder.path(), requests);
    assert!(clients.iter().all(|c| c.requests_failed == Some(0) && c.requests_ok > Some(9)));
    let requests: Vec<RequestRow> = row::read(&run.requests()).expect("requests.csv");
    let asked = |client: u16| -> Vec<_> {
        let of = requests.iter().filter(|r| r.variant == "multipath" && r.client == Some(client));
        of.map(|r| r.object.clone()).take(10).collect()
    };
    let sequences: HashSet<_> = (1..=CLIENTS as u16).map(asked).collect();
    assert_eq!(sequences.len(), CLIENTS, "no two ask for the same");
}

limosa_testkit::tests![
    every_client_of_a_server_follows_it_and_has_a_row_of_its_own[compared],
    every_client_has_requests_of_its_own[compared],
];
