//! Bad luck and bad words while one path follows a server: what is lost, wrong or repeated must not
//! cost a client its connection.

use crate::text;
use limosa_analysis::wire;
use limosa_record::{
    dir::RunDir,
    row::{self, EventRow, TrialRow, event},
};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/casu-2022.yaml");

/// A client sends 20 requests per second for 9 s; every variant has a mishap of its own.
fn experiment() -> String {
    format!(
        "version: 1
topology: {TOPOLOGY}
repetitions: 1
time_limit: 60s
capture: [server-a]
workload:
  requests:
    objects: {{count: 10, size: 1KB}}
    arrivals: {{every: 50ms}}
    duration: 9s
variants:
  lost: {{scheme: proactive}}
  late: {{scheme: proactive}}
  wrong: {{scheme: proactive}}
  elsewhere: {{scheme: proactive, transport: {{idle_timeout: 2s}}}}
  elsewhere-speaking: {{scheme: symmetric}}
  row: {{scheme: reactive}}
  there-and-back: {{scheme: synchronized-symmetric}}
  back-and-forth: {{scheme: proactive}}
timeline:
  - at: 1s
    link_down: {{link: access}}
    name: cut
    only: [lost, late]
  - after: cut + 50ms
    announce: {{node: server, to: server-b}}
    name: told
    only: [lost, late]
  - after: told + 400ms
    link_up: {{link: access}}
    name: mended
    only: [lost]
  - after: mended
    barrier: {{node: server, deadline: 3s}}
    only: [lost]
  - after: told
    barrier: {{node: server, deadline: 300ms}}
    name: waited
    only: [late]
  - after: waited + 50ms
    link_up: {{link: access}}
    only: [late]
  - at: 500ms
    announce: {{node: server, to: 224.0.0.1}}
    only: [wrong]
  - at: 600ms
    announce: {{node: server, to: 127.0.0.1}}
    only: [wrong]
  - at: 700ms
    announce: {{node: server, to: client}}
    only: [wrong]
  - at: 800ms
    announce: {{node: server, to: 192.0.2.1}}
    only: [wrong]
  - at: 1400ms
    announce: {{node: server, to: server-b}}
    only: [wrong, elsewhere, row, there-and-back, back-and-forth]
  - at: 1500ms
    barrier: {{node: server, deadline: 3s}}
    only: [wrong, elsewhere, row, there-and-back, back-and-forth]
  - at: 3s
    checkpoint: {{node: server, as: image}}
  - after: image + 200ms
    restore: {{from: image, on: server-b}}
    name: there
    only: [lost, late, wrong, row, there-and-back, back-and-forth]
  - after: image + 200ms
    restore: {{from: image, on: server-c}}
    only: [elsewhere, elsewhere-speaking]
  - after: there + 200ms
    announce: {{node: server, to: server-c}}
    only: [row]
  - after: there + 500ms
    announce: {{node: server, to: server-a}}
    only: [there-and-back, back-and-forth]
  - after: there + 800ms
    checkpoint: {{node: server, as: second}}
    only: [row, there-and-back, back-and-forth]
  - after: second + 200ms
    restore: {{from: second, on: server-c}}
    only: [row]
  - after: second + 200ms
    restore: {{from: second, on: server-a}}
    name: back
    only: [there-and-back, back-and-forth]
  - after: back + 800ms
    announce: {{node: server, to: server-b}}
    only: [back-and-forth]
  - after: back + 1300ms
    checkpoint: {{node: server, as: third}}
    only: [back-and-forth]
  - after: third + 200ms
    restore: {{from: third, on: server-b}}
    only: [back-and-forth]
"
    )
}

/// What was seen of one variant.
struct Seen {
    trial: TrialRow,
    events: Vec<EventRow>,
}

impl Seen {
    fn all(&self, source: &str, event: &str) -> Vec<&EventRow> {
        self.events.iter().filter(|e| e.source == source && e.event == event).collect()
    }

    /// Where the client's path led, one after the other.
    fn followed(&self) -> Vec<&str> {
        let paths = self.all("client", event::PATH_ESTABLISHED);
        paths.iter().filter_map(|e| e.detail.rsplit_once(" to ")).map(|(_, to)| to).collect()
    }

    /// Over one connection all requests were answered.
    fn is_unharmed(&self) {
        let trial = &self.trial;
        assert_eq!((trial.reconnects, trial.requests_failed), (Some(0), Some(0)), "{trial:?}");
    }
}

const B: &str = "10.2.0.1:4433";
const C: &str = "10.3.0.1:4433";
const A: &str = "10.1.0.1:4433";

fn bad_luck_does_not_cost_a_client_its_connection() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (output, run) = crate::run_with(folder.path(), "luck", &experiment(), &["--jobs", "8"]);
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials.len(), 8, "{}", text(&output));
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    let seen = |name: &str| {
        let trial = trials.iter().find(|t| t.variant == name).expect(name).clone();
        assert_eq!(trial.status, "ok", "{name}: {:?}", trial.reason);
        Seen { trial, events: events.iter().filter(|e| e.variant == name).cloned().collect() }
    };
    an_announcement_that_is_lost_twice_is_sent_again(&seen("lost"), &run);
    whoever_has_not_acknowledged_is_named(&seen("late"));
    bad_addresses_are_counted_and_the_old_path_stays(&seen("wrong"));
    a_server_that_is_elsewhere_is_connected_to_again(&seen("elsewhere"));
    for (name, way) in [
        ("elsewhere-speaking", &[C][..]),
        ("row", &[B, C]),
        ("there-and-back", &[B, A]),
        ("back-and-forth", &[B, A, B]),
    ] {
        let seen = seen(name);
        seen.is_unharmed();
        assert_eq!(seen.followed(), way, "{name}");
    }
}

fn an_announcement_that_is_lost_twice_is_sent_again(seen: &Seen, run: &RunDir) {
    seen.is_unharmed();
    assert_eq!(seen.followed(), [B]);
    let cut = (
        seen.all("harness", "announce")[0].started_ns,
        seen.all("harness", "link_up")[0].started_ns,
    );
    let capture = run.root().join(&seen.trial.folder).join("server-a.pcap");
    let datagrams = wire::read_pcap(&capture).expect("a capture");
    let lost = datagrams
        .iter()
        .filter(|d| d.from.to_string() == A && d.time_ns > cut.0 && d.time_ns < cut.1);
    assert!(lost.count() >= 2, "nothing was sent again while the link was cut");
    assert!(seen.all("client", event::ANNOUNCEMENT)[0].started_ns > cut.1);
    assert!(seen.all("harness", "barrier")[0].detail.contains("all clients"));
}

fn whoever_has_not_acknowledged_is_named(seen: &Seen) {
    seen.is_unharmed();
    let barrier = seen.all("harness", "barrier")[0];
    assert!(barrier.detail.starts_with("without 10.0.0.1:"), "{barrier:?}");
    let waited_s = (barrier.done_ns.expect("an end") - barrier.started_ns) as f64 / 1e9;
    assert!(waited_s >= 0.3, "{waited_s}");
    assert_eq!(seen.followed(), [B], "the announcement came after all");
}

fn bad_addresses_are_counted_and_the_old_path_stays(seen: &Seen) {
    seen.is_unharmed();
    assert_eq!(seen.trial.announcements_refused, Some(3));
    let refused = seen.all("client", event::ANNOUNCEMENT_REFUSED);
    for bad in ["224.0.0.1:4433", "127.0.0.1:4433", "10.0.0.1:4433"] {
        assert!(refused.iter().any(|e| e.detail.starts_with(bad)), "{bad}: {refused:?}");
    }
    // Nobody can know that no host is there: it is probed in vain.
    let probed = seen.all("client", event::PROBE);
    assert!(probed.iter().any(|e| e.detail.ends_with("192.0.2.1:4433")), "{probed:?}");
    assert_eq!(seen.followed(), [B]);
}

/// Not where it was announced: the connection dies by its idle timeout, and the next one is made
/// where the server is.
fn a_server_that_is_elsewhere_is_connected_to_again(seen: &Seen) {
    assert_eq!(seen.trial.reconnects, Some(1), "{:?}", seen.trial);
    assert!(seen.followed().is_empty());
    let connected = seen.all("client", event::CONNECTED);
    let to = connected.last().and_then(|e| e.detail.split(' ').next());
    assert_eq!(to, Some(C));
}

limosa_testkit::tests![bad_luck_does_not_cost_a_client_its_connection[compared],];
