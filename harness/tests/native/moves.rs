//! The action `migrate`: a server moves, and its images cross an emulated link.

use crate::{machine::Place, text};
use limosa_record::row::{self, EventRow, TrialRow, event};
use limosa_testkit::{Outcome, assert_less, compare, skip};
use std::{path::Path, process::Output};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025-wan.yaml");

fn experiment(scheme: &str, timeline: &str) -> String {
    format!(
        "version: 1
topology: {TOPOLOGY}
repetitions: 1
time_limit: 60s
workload: {{download: {{path: /random, size: 12MB}}}}
transport: {{profile: paper-2025, idle_timeout: 40s, ladder: fast}}
variants:
  rsync: {{scheme: {scheme}, ballast: {{size: 20MB, dirty: 8Mbit/s, hot: 10%}}}}
  stream: {{scheme: {scheme}, ballast: {{size: 20MB}}}}
  page-server: {{scheme: {scheme}, ballast: {{size: 20MB}}}}
timeline:
{timeline}"
    )
}

fn run(folder: &Path, experiment: &str, code: i32) -> (Vec<TrialRow>, Vec<EventRow>) {
    let (output, run) = crate::run_with(folder, "move", experiment, &["--jobs", "3"]);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    let trials = row::read(&run.trials()).expect("trials.csv");
    (trials, row::read(&run.events()).expect("events.csv"))
}

const ANNOUNCE: &str = "  - at: 500ms
    announce: {node: server, to: server-b}
";

const MOVE: &str = "  - at: 1500ms
    migrate: {node: server, to: server-b, technique: cold, transfer: rsync}
    only: [rsync]
  - at: 1500ms
    migrate: {node: server, to: server-b, technique: cold, transfer: stream}
    only: [stream]
  - at: 1500ms
    migrate: {node: server, to: server-b, technique: cold, transfer: page-server}
    only: [page-server]
";

/// 20 MB that cannot be compressed take 1.6 s at 100 Mbit/s.
fn the_images_of_a_server_cross_the_link_and_it_lives_on_the_other_side() -> Outcome {
    compare(images_cross)
}

fn images_cross() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (trials, events) =
        run(folder.path(), &experiment("multipath", &format!("{ANNOUNCE}{MOVE}")), 0);
    for trial in &trials {
        let name = &*trial.variant;
        assert_eq!((&*trial.status, trial.body_matches), ("ok", Some(true)), "{:?}", trial.reason);
        assert_eq!(trial.technique.as_deref(), Some("cold"));
        assert_eq!(trial.transfer.as_deref(), Some(name));
        let image = trial.image_bytes.expect("bytes of the images");
        assert!(image > 20_000_000 && trial.transfer_size_bytes == Some(image), "{image}");
        assert!(trial.dumped_pages.expect("pages") > 20_000_000 / 4096);
        let data_s = trial.transfer_data_s.expect("time of the data");
        assert!((1.55..3.0).contains(&data_s), "{name}: {data_s} s");
        let parts = [trial.checkpoint_s, trial.transfer_s, trial.restore_s];
        let sum: f64 = parts.iter().map(|p| p.expect("a part of the downtime")).sum();
        let downtime = trial.downtime_s.expect("the downtime");
        assert!((sum - downtime).abs() < 1e-6, "{parts:?} of {downtime}");
        assert!(trial.resume_delay_s.is_some() && trial.reconnects == Some(0));
        // Acknowledgements of what was in flight when the server was frozen, and what followed.
        assert_less(Some(0), trial.unread_packets);
        assert_less(trial.unread_packets.map(|n| 20 * n), trial.unread_bytes);
        let order: Vec<&str> = events
            .iter()
            .filter(|e| e.variant == name && e.source == "harness")
            .map(|e| &*e.event)
            .collect();
        let mut expected =
            ["announce", "checkpoint", event::TRANSFER_SETUP, event::TRANSFER, "restore"];
        // CRIU's own server is there before the checkpoint, whose pages it takes.
        if name == "page-server" {
            expected.swap(1, 2);
        }
        assert_eq!(order, expected);
    }
}

fn a_link_that_dies_under_the_images_leaves_the_server_where_it_was() -> Outcome {
    compare(link_dies)
}

fn link_dies() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let cut = format!("{MOVE}  - at: 2500ms\n    link_down: {{link: wan}}\n");
    // A client of `multipath` that was told of another address waits for the server there.
    let (trials, events) = run(folder.path(), &experiment("quic", &cut), 5);
    for trial in &trials {
        let name = &*trial.variant;
        assert_eq!(trial.status, "aborted", "{:?}", trial.reason);
        let reason = trial.reason.as_deref().unwrap_or_default();
        assert!(reason.starts_with("source resumed: "), "{name}: {reason}");
        // The client got everything from where the server had been all the time.
        assert_eq!((trial.body_matches, trial.reconnects), (Some(true), Some(0)), "{name}");
        // CRIU's own server takes pages during the checkpoint, which is then never done.
        assert_eq!(trial.checkpoint_s.is_some(), name != "page-server");
        assert!(trial.restore_s.is_none());
        assert_eq!((trial.downtime_s, trial.transfer_data_s), (None, None));
        let at_ns = |what: &str| {
            let found = events.iter().find(|e| e.variant == name && e.event == what);
            found.unwrap_or_else(|| panic!("{name}: no {what}")).started_ns
        };
        let waited_s = (at_ns(event::SOURCE_RESUMED) - at_ns("link_down")) as f64 / 1e9;
        assert!((14.0..19.0).contains(&waited_s), "{name}: resumed after {waited_s} s");
    }
}

/// A server with 20 MB, or so many, that moves by a technique and something else that happens.
fn live_experiment(technique: &str, ballast: &str, extra: &str, further: &str) -> String {
    let variants = format!("  it: {{scheme: multipath, ballast: {{size: {ballast}}}}}\n");
    format!(
        "version: 1\ntopology: {TOPOLOGY}\nrepetitions: 1\ntime_limit: 60s\n\
         workload: {{download: {{path: /random, size: 12MB}}}}\n\
         transport: {{profile: paper-2025, idle_timeout: 50s, ladder: fast}}\n\
         variants:\n{variants}timeline:\n{ANNOUNCE}  - at: 1500ms\n    \
         migrate: {{node: server, to: server-b, technique: {technique}, transfer: stream{extra}}}\n{further}"
    )
}

/// Where a kernel cannot do it, that is what is told, and the test is skipped.
fn skip_where_out_of_reach(output: &Output, missing: &str) {
    if output.status.code() == Some(4) {
        let text = text(output);
        assert!(text.contains(&format!("it lacks {missing} (")), "{text}");
        skip(format!("this kernel lacks {missing}; nothing was begun, as it should be"));
    }
}

/// Where the kernel can do it, it is done; elsewhere nothing is begun.
fn live(technique: &str, extra: &str, missing: &str) -> (TrialRow, Vec<EventRow>) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let experiment = live_experiment(technique, "20MB", extra, "");
    let (output, run) = crate::run(folder.path(), "live", &experiment);
    assert_eq!(run.trials().exists(), output.status.code() != Some(4), "{}", text(&output));
    skip_where_out_of_reach(&output, missing);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let mut trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    let trial = trials.remove(0);
    assert_eq!((&*trial.status, trial.body_matches), ("ok", Some(true)), "{:?}", trial.reason);
    assert_eq!(trial.technique.as_deref(), Some(technique));
    assert_eq!(trial.reconnects, Some(0));
    (trial, row::read(&run.events()).expect("events.csv"))
}

fn a_round_copies_memory_and_the_checkpoint_what_has_changed_or_nothing_is_begun() {
    let (trial, events) = live("pre-copy", ", rounds: 2", "soft-dirty pages");
    assert_eq!(trial.rounds, Some(2));
    let pages = trial.round_pages.expect("pages of the rounds");
    let pages: Vec<u64> = pages.split(' ').map(|n| n.parse().expect("a number")).collect();
    assert!(pages[0] > 20_000_000 / 4096 && pages[1] < pages[0] / 10, "{pages:?}");
    assert_less(trial.dumped_pages, Some(pages[0] / 10));
    assert_less(Some(pages[0] / 2), trial.skipped_pages);
    assert_less(Some(20_000_000), trial.rounds_sent_bytes);
    assert_less(trial.downtime_s, trial.migration_s);
    assert_eq!(events.iter().filter(|e| e.event == event::PRE_DUMP).count(), 2);
}

fn memory_follows_a_server_or_nothing_is_begun() {
    let (trial, events) = live("post-copy", "", "lazy pages");
    let pages = trial.lazy_pages.expect("pages that followed");
    assert!(pages > 20_000_000 / 4096, "{pages}");
    assert_less(trial.image_bytes, Some(5_000_000));
    let faults = trial.lazy_faults_pages.expect("pages that were waited for");
    assert!(faults > 0 && faults < pages, "{faults}");
    // A page that is waited for takes at least a round trip of the link.
    assert_less(Some(19.0), trial.lazy_latency_mean_ms);
    assert_less(trial.downtime_s, trial.migration_s);
    assert!(trial.lazy_s.is_some());
    assert!(events.iter().any(|e| e.event == event::LAZY_PAGES));
}

/// 100 MB need 8 s at 100 Mbit/s.
fn a_link_that_dies_under_pages_that_follow_costs_the_server_and_it_is_told_how_much_was_missing() {
    let cut = "  - at: 5s\n    link_down: {link: wan}\n";
    let place = Place::of(&live_experiment("post-copy", "100MB", "", cut));
    let output = place.experiment(&[]).output().expect("start limosa");
    assert_eq!(place.left(), [""; 0]);
    skip_where_out_of_reach(&output, "lazy pages");
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let trial = place.trials("move").remove(0);
    let reason = trial.reason.unwrap_or_default();
    assert_eq!(trial.status, "failed", "{reason}");
    let pages = |before: &str| -> u64 {
        let number = reason.split_once(before).and_then(|(_, rest)| rest.split(' ').next());
        number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{reason}"))
    };
    let (missing, all) = (pages("the server is lost: "), pages("of its "));
    assert!(all > 100_000_000 / 4096 && 0 < missing && missing < all, "{reason}");
    assert!(reason.contains("no page has come for 15s"), "{reason}");
    assert!(trial.restore_s.is_some() && trial.lazy_pages.is_none(), "{reason}");
}

limosa_testkit::tests![
    the_images_of_a_server_cross_the_link_and_it_lives_on_the_other_side,
    a_link_that_dies_under_the_images_leaves_the_server_where_it_was,
    a_round_copies_memory_and_the_checkpoint_what_has_changed_or_nothing_is_begun,
    memory_follows_a_server_or_nothing_is_begun,
    a_link_that_dies_under_pages_that_follow_costs_the_server_and_it_is_told_how_much_was_missing,
];
