//! A target without room for the images.

use crate::text;
use limosa_record::{
    dir::RunDir,
    row::{self, TrialRow},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const RACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/rack.yaml");
const LIMOSA: &str = env!("CARGO_BIN_EXE_limosa");

/// A file system of this size in memory, gone with the value.
struct Small(PathBuf);

impl Small {
    fn new(path: &Path, bytes: u64) -> Self {
        fs::create_dir(path).expect("make a folder");
        let size = format!("size={bytes}");
        let mount = ["-t", "tmpfs", "-o", &size, "limosa-test"];
        let status = Command::new("mount").args(mount).arg(path).status().expect("start mount");
        assert!(status.success());
        Self(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|s| s.success()), "unmount {}", self.0.display());
    }
}

/// The images fit once, at the source, but not a second time.
fn a_full_disk_at_the_target_leaves_the_server_where_it_was() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // This program, the body twice, images of 60 MB and some, and half as much again.
    let program = fs::metadata(LIMOSA).expect("look at limosa").len();
    let small = Small::new(&folder.path().join("small"), program + 120_000_000);
    let experiment = format!(
        "version: 1
topology: {RACK}
repetitions: 1
time_limit: 60s
workload: {{download: {{path: /random, size: 8MB}}}}
variants:
  rsync: {{scheme: quic, ballast: {{size: 60MB}}}}
  stream: {{scheme: quic, ballast: {{size: 60MB}}}}
timeline:
  - {{at: 300ms, migrate: {{node: server, to: server-b, technique: cold, transfer: rsync}}, only: [rsync]}}
  - {{at: 300ms, migrate: {{node: server, to: server-b, technique: cold, transfer: stream}}, only: [stream]}}
"
    );
    fs::write(folder.path().join("room.yaml"), experiment).expect("write the experiment");
    let output = crate::limosa()
        .args(["run", "room.yaml", "--on", "host", "--links", "user"])
        .current_dir(folder.path())
        .env("TMPDIR", &small.0)
        .output()
        .expect("start limosa");
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let run = RunDir::new(folder.path().join("results/room/latest"));
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials.len(), 2);
    for trial in trials {
        let reason = trial.reason.unwrap_or_default();
        assert_eq!(trial.status, "aborted", "{}: {reason}", trial.variant);
        assert!(reason.starts_with("source resumed: "), "{}: {reason}", trial.variant);
        assert!(reason.contains("No space left on device"), "{}: {reason}", trial.variant);
        assert_eq!((trial.body_matches, trial.reconnects), (Some(true), Some(0)), "{reason}");
    }
    let left: Vec<_> = fs::read_dir(&small.0).expect("list").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

limosa_testkit::tests![a_full_disk_at_the_target_leaves_the_server_where_it_was,];
