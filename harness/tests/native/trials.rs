//! Whole runs, as a user starts them.

use crate::machine::note_doubts;
use limosa_record::{
    dir::RunDir,
    row::{self, TrialRow},
};
use limosa_testkit::{Outcome, assert_less, compare};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/quickstart.yaml");
const STOP_AND_COPY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/amio-2023-stop-and-copy.yaml");

fn start(folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).expect("make a log");
    crate::limosa()
        .args(["run", QUICKSTART, "--on", "host", "--links", "user", "-v"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start limosa")
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn trials(folder: &Path) -> Vec<TrialRow> {
    let run = RunDir::new(folder.join("results/quickstart/latest"));
    note_doubts(&run);
    row::read(&run.trials()).expect("trials.csv")
}

fn a_server_moves_on_this_kernel() -> Outcome {
    compare(|| {
        let folder = tempfile::tempdir().expect("temporary folder");
        let status = start(folder.path()).wait().expect("wait for limosa");
        assert_eq!(status.code(), Some(0), "{}", log(folder.path()));
        for trial in trials(folder.path()) {
            assert_eq!((&*trial.status, &*trial.links), ("ok", "user"), "{:?}", trial.reason);
            assert_eq!(trial.body_matches, Some(true));
            let rtt = trial.rtt_first_ms.expect("a measured RTT");
            assert!((50.0..51.0).contains(&rtt), "{rtt} ms");
        }
    })
}

/// A playback goes on at the byte where it stopped, because the server's memory has moved; who has to
/// connect anew begins again.
fn a_playback_resumes_where_it_was_stopped() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = crate::limosa()
        .args(["run", STOP_AND_COPY, "--on", "host", "--links", "user", "--reps", "1"])
        .current_dir(folder.path())
        .output()
        .expect("start limosa");
    let run = RunDir::new(folder.path().join("results/amio-2023-stop-and-copy/latest"));
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    let trial = |variant: &str| {
        let found = trials.iter().find(|t| t.variant == variant);
        found.filter(|t| t.status == "ok").unwrap_or_else(|| panic!("{}", crate::text(&output)))
    };
    // The hash of the whole body says that no byte is missing and none came twice.
    assert!(trials.iter().all(|t| t.body_matches == Some(true)), "{trials:#?}");
    let moved = trial("stop-and-copy");
    assert_eq!(moved.reconnects, Some(0));
    assert_eq!(moved.playback_stopped_at_bytes, moved.playback_resumed_at_bytes);
    // Four seconds at 4 Mbit/s, less what was under way.
    let stopped = moved.playback_stopped_at_bytes.expect("a stop");
    assert!((1_700_000..2_050_000).contains(&stopped), "{stopped}");
    let stall = moved.playback_stall_s.expect("a stall");
    assert!(stall >= moved.downtime_s.expect("a downtime"), "{moved:#?}");
    let again = trial("begin-again");
    assert_eq!((again.reconnects, again.playback_resumed_at_bytes), (Some(1), Some(0)));
    assert_less(Some(1_700_000), again.playback_stopped_at_bytes);
    assert_less(trial("none").playback_stall_s, Some(1.0));
}

/// The link engine among the children of a process.
fn engine_of(parent: u32) -> Option<PathBuf> {
    fs::read_dir("/proc").ok()?.flatten().map(|e| e.path()).find(|process| {
        let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
        let is_child = read("status").lines().any(|l| l == format!("PPid:\t{parent}"));
        is_child && read("cmdline").split('\0').nth(1) == Some("engine")
    })
}

fn an_engine_that_is_killed_fails_its_trial_and_no_other() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut limosa = start(folder.path());
    let deadline = Instant::now() + Duration::from_secs(60);
    let engine = loop {
        if let Some(engine) =
            engine_of(limosa.id()).filter(|_| log(folder.path()).contains("download"))
        {
            break engine;
        }
        assert!(Instant::now() < deadline, "no engine: {}", log(folder.path()));
        std::thread::sleep(Duration::from_millis(20));
    };
    let pid = engine.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a PID");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill the engine");
    let status = limosa.wait().expect("wait for limosa");
    assert_eq!(status.code(), Some(5), "{}", log(folder.path()));
    let trials = trials(folder.path());
    assert_eq!(trials[0].status, "failed", "{}", log(folder.path()));
    let reason = trials[0].reason.as_deref().unwrap_or_default();
    assert!(reason.contains("the link engine was killed by signal 9"), "{reason}");
    assert_eq!(trials[1].status, "ok", "{:?}", trials[1].reason);
}

limosa_testkit::tests![
    a_server_moves_on_this_kernel,
    a_playback_resumes_where_it_was_stopped[compared],
    an_engine_that_is_killed_fails_its_trial_and_no_other,
];
