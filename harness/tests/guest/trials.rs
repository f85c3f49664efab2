//! Whole runs in a guest, as a user starts them.

use limosa_record::{
    dir::RunDir,
    fault::VARIABLE,
    row::{self, EventRow, ThroughputRow, TrialRow},
};
use std::{fs, path::Path, process::Command};

fn limosa(folder: &Path, arguments: &[&str]) -> (i32, String) {
    limosa_with("", folder, arguments)
}

/// With a fault, if it has a name.
fn limosa_with(fault: &str, folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_limosa"));
    if !fault.is_empty() {
        command.env(VARIABLE, fault);
    }
    let output = command.args(arguments).current_dir(folder).output().expect("start limosa");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// A copy of the files that come with Limosa, so that a test can change them.
fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    for kind in ["experiments", "topologies"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(kind);
        fs::create_dir(folder.path().join(kind)).expect("make a folder");
        for entry in fs::read_dir(from).expect("list files") {
            let path = entry.expect("an entry").path();
            fs::copy(&path, folder.path().join(kind).join(path.file_name().expect("a name")))
                .expect("copy a file");
        }
    }
    folder
}

fn one_short_trial_of_each_scheme() {
    let folder = files();
    let (code, text) =
        limosa(folder.path(), &["run", "experiments/quickstart.yaml", "--on", "guest"]);
    assert_eq!(code, 0, "{text}");
    let run = RunDir::new(folder.path().join("results/quickstart/latest"));
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    let of = |variant: &str| trials.iter().find(|t| t.variant == variant).expect("a row");
    assert_eq!(trials.len(), 5, "{text}");
    for trial in &trials {
        assert_eq!(trial.status, "ok", "{:?}", trial.reason);
        assert_eq!(trial.body_matches, Some(true));
        assert_eq!(trial.bytes, Some(12_000_000));
        let rtt = trial.rtt_first_ms.expect("a measured RTT");
        assert!((50.0..53.0).contains(&rtt), "{rtt} ms");
        if ["quic-migrate", "multipath-migrate"].contains(&&*trial.variant) {
            assert!(trial.downtime_s.is_some_and(|d| d > 2.0), "{:?}", trial.downtime_s);
        }
    }
    assert!(of("quic-migrate").reconnects >= Some(1));
    assert_eq!(of("multipath-migrate").reconnects, Some(0), "one connection from first to last");
    let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
    let steps = events.iter().filter(|e| e.planned_ns.is_some()).count();
    assert_eq!(steps, 2 + 3 + 3 + 3);
    let throughput: Vec<ThroughputRow> = row::read(&run.throughput()).expect("throughput.csv");
    let on = |path: &str| throughput.iter().any(|r| r.path == path && r.bytes > 0);
    assert!(on("eth0") && on("eth1"));
    for file in [run.summary(), run.report(), run.manifest(), run.plan(), run.experiment()] {
        assert!(file.is_file(), "{}", file.display());
    }
    let (code, text) = limosa(folder.path(), &["report", "results/quickstart/latest"]);
    assert_eq!(code, 0, "{text}");
}

/// The first guest dies, the first trial's client ends before its last step is due, and the second
/// one still runs.
fn neither_a_guest_that_dies_nor_a_trial_that_fails_stops_the_run() {
    let folder = files();
    let path = folder.path().join("experiments/quickstart.yaml");
    let text = fs::read_to_string(&path).expect("quickstart.yaml");
    // The download is over long before 50 s.
    let text = text.replace("  - at: 2s\n    checkpoint", "  - at: 50s\n    link_down: {link: router--server-a}\n    only: [quic-migrate]\n  - at: 2s\n    checkpoint");
    fs::write(&path, text).expect("write quickstart.yaml");
    let two = ["--only", "quic-migrate", "--only", "multipath-migrate"];
    let arguments = [&["run", "experiments/quickstart.yaml", "--on", "guest"][..], &two].concat();
    let (code, text) = limosa_with("guest/run:die", folder.path(), &arguments);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("the guest crashed; the rows so far are kept"), "{text}");
    let run = RunDir::new(folder.path().join("results/quickstart/latest"));
    assert!(run.root().join("guest-console-1.log").is_file());
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials[0].status, "failed");
    assert!(trials[0].reason.as_ref().is_some_and(|r| r.contains("before the step `link_down`")));
    assert_eq!(trials[1].status, "ok", "{:?}", trials[1].reason);
}

/// A guest that hangs has two limits, each with words of its own; one that dies at its start is
/// replaced.
fn a_guest_that_hangs_is_given_up() {
    let arguments =
        ["run", "experiments/quickstart.yaml", "--on", "guest", "--only", "quic-migrate"];
    for (fault, wanted, told) in [
        ("guest/boot:die", 0, "the guest crashed; the rows so far are kept"),
        ("guest/boot:hang", 4, "the guest did not come up within 120 s"),
        ("guest/run:hang", 4, "the guest reached its time limit of 480 s and was ended"),
    ] {
        let folder = files();
        let (code, text) = limosa_with(fault, folder.path(), &arguments);
        assert_eq!(code, wanted, "{fault}: {text}");
        assert!(text.contains(told), "{fault}: {text}");
    }
}

/// The plan names it, and the guest reads the copy in the run directory, which is all that it sees.
fn a_long_recording_is_played_in_a_guest() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let at = |name: &str| folder.path().join(name);
    let lines: String = (1..=1_000_000_u32).map(|n| format!("{}\n", n / 4)).collect();
    let net = "version: 1\nnodes: {client: {}, server: {}}\nlinks:\n  \
               - {ends: [client.eth0, server.eth0], name: wan, shape: {trace: t.trace, delay: 5ms}}\n";
    let experiment = "version: 1\ntopology: ./net.yaml\nrepetitions: 1\ntime_limit: 60s\n\
                      workload: {download: {path: /random, size: 2MB}}\n\
                      nodes:\n  server: {on: server, role: server}\n  client: {on: client, role: client}\n\
                      variants:\n  q: {scheme: quic}\n";
    for (name, text) in [("t.trace", &*lines), ("net.yaml", net), ("long.yaml", experiment)] {
        fs::write(at(name), text).expect("write a file");
    }
    let (code, text) = limosa(folder.path(), &["run", "long.yaml", "--on", "guest"]);
    assert_eq!(code, 0, "{text}");
    let run = RunDir::new(at("results/long/latest"));
    let plan = fs::metadata(run.plan()).expect("plan.json").len();
    assert!(plan <= 10_000, "plan.json has {plan} bytes");
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!((&*trials[0].links, trials[0].body_matches), ("user", Some(true)));
}

limosa_testkit::tests![
    one_short_trial_of_each_scheme[alone, compared],
    neither_a_guest_that_dies_nor_a_trial_that_fails_stops_the_run[alone, compared],
    a_long_recording_is_played_in_a_guest[alone, compared],
    a_guest_that_hangs_is_given_up[alone, night],
];
