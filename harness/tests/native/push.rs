//! The workload `push`: the real rsync between two places, as a user starts it.

use crate::text;
use limosa_record::{
    dir::RunDir,
    row::{self, EventRow, TrialRow, event},
};
use std::{fs, path::Path};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/amio-2023-servers.yaml");

fn experiment(variants: &str) -> String {
    format!(
        "version: 1
topology: {TOPOLOGY}
repetitions: 1
time_limit: 40s
workload: {{push: {{from: server-source, to: server-destination}}}}
variants:
{variants}"
    )
}

fn run(folder: &Path, experiment: &str, code: i32) -> (Vec<TrialRow>, RunDir) {
    let (output, run) = crate::run(folder, "copy", experiment);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    (row::read(&run.trials()).expect("trials.csv"), run)
}

/// rsync's own statistics must agree with what the link lets through: 10 MB in 0.08 s at 1 Gbit/s.
fn rsync_copies_through_the_emulated_link_and_its_parts_are_told_apart() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let variants = "  random: {push: {size: 10MB, content: random}}
  random-z: {push: {size: 10MB, content: random, compress: true}}
  zeros-z: {push: {size: 10MB, content: zeros, compress: true}}
  far: {push: {size: 10MB, content: random}, shapes: {lan: {rate: 100Mbit/s, delay: 20ms}}}
";
    let (trials, run) = run(folder.path(), &experiment(variants), 0);
    for trial in &trials {
        let name = &trial.variant;
        assert_eq!((&*trial.status, &*trial.scheme), ("ok", ""), "{name}: {:?}", trial.reason);
        assert_eq!(trial.transfer_size_bytes, Some(10_000_000));
        assert_eq!((trial.body_matches, trial.turnaround_s), (Some(true), None));
        let how = if name.ends_with("-z") { "rsync -z" } else { "rsync" };
        assert_eq!(trial.transfer.as_deref(), Some(how));
        let sent = trial.transfer_sent_bytes.expect("bytes sent");
        let expected = if name == "zeros-z" { 300..3_000 } else { 10_000_000..10_020_000 };
        assert!(expected.contains(&sent), "{name} sent {sent} bytes");
        let parts = (trial.transfer_setup_s.zip(trial.transfer_data_s)).expect("both parts");
        let whole = trial.transfer_s.expect("the whole");
        assert!(parts.0 > 0.0 && parts.0 + parts.1 <= whole, "{name}: {parts:?} of {whole}");
        let link_s = match &**name {
            "zeros-z" => 0.0,
            "far" => 0.8,
            _ => 0.08,
        };
        assert!(parts.1 >= link_s * 0.97, "{name}: {} s is faster than the link", parts.1);
    }
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    assert_eq!(events.iter().filter(|e| e.event == event::TRANSFER).count(), 4);
    let left = fs::read_dir(folder.path()).expect("list the folder");
    let left = left.filter(|e| {
        e.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().starts_with("limosa-run-"))
    });
    assert_eq!(left.count(), 0, "files of the copies are left");
}

fn a_link_that_dies_in_the_middle_of_a_copy_is_told_by_rsync() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let variants = "  cut: {push: {size: 200MB, content: random}}
timeline:
  - at: 500ms
    link_down: {link: lan}
";
    let (trials, run) = run(folder.path(), &experiment(variants), 5);
    assert_eq!(trials[0].status, "failed");
    let reason = trials[0].reason.as_deref().unwrap_or_default();
    assert!(reason.contains("rsync") && reason.contains("timeout"), "{reason}");
    assert_eq!(trials[0].transfer_data_s, None);
    let log = run.root().join(&trials[0].folder).join("rsync/rsync.log");
    assert!(reason.contains("rsync.log") && log.exists(), "{reason}");
}

limosa_testkit::tests![
    rsync_copies_through_the_emulated_link_and_its_parts_are_told_apart[compared],
    a_link_that_dies_in_the_middle_of_a_copy_is_told_by_rsync[compared],
];
