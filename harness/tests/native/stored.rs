//! What a run directory holds is what was run, and it is enough to run it again.

use crate::{
    machine::{Place, lab, limosa, text},
    run,
};
use anyhow::Context;
use limosa_lab::{
    lab::pinned::PinnedLab,
    sys::ping::{Ping, ping},
};
use limosa_record::{
    dir::RunDir,
    row::{self, TrialRow},
};
use std::{
    fs,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

const TOPOLOGY: &str = "version: 1
nodes: {client: {kind: host}, server: {kind: host}}
links:
  - ends: [client.eth0, server.eth0]
    name: wan
    shape: SHAPE
";

const EXPERIMENT: &str = "version: 1
topology: ./net.yaml
repetitions: 1
time_limit: 60s
workload: {download: {path: /random, size: SIZE}}
nodes:
  server: {on: server, role: server}
  client: {on: client, role: client}
variants:
  q: {scheme: quic}
";

fn experiment(size: &str) -> String {
    EXPERIMENT.replace("SIZE", size)
}

fn trial(run: &RunDir) -> TrialRow {
    let rows: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    rows.into_iter().next().expect("a trial")
}

fn latest(folder: &Path, name: &str) -> RunDir {
    RunDir::new(folder.join("results").join(name).join("latest"))
}

fn regression_a_file_that_is_edited_before_its_turn_is_run_and_stored_as_it_was() {
    let place = Place::of("");
    let at = |name: &str| place.path().join(name);
    let net = TOPOLOGY.replace("SHAPE", "{rate: 20Mbit/s, delay: 5ms}");
    fs::write(at("net.yaml"), &net).expect("write the topology");
    fs::write(at("a.yaml"), experiment("4MB")).expect("write a");
    fs::write(at("b.yaml"), experiment("1MB")).expect("write b");
    let words = ["run", "a.yaml", "b.yaml", "--on", "host", "--links", crate::LINKS];
    let mut limosa = place.limosa(&words);
    let log = fs::File::create(at("log")).expect("make a log");
    let mut child = limosa.stdout(Stdio::null()).stderr(log).spawn().expect("start limosa");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !latest(place.path(), "a").plan().exists() {
        assert!(Instant::now() < deadline, "a has not begun");
        sleep(Duration::from_millis(10));
    }
    fs::write(at("b.yaml"), experiment("2MB")).expect("edit b");
    fs::write(at("net.yaml"), net.replace("20Mbit/s", "50Mbit/s")).expect("edit the topology");
    let status = child.wait().expect("wait for limosa");
    let log = fs::read_to_string(at("log")).unwrap_or_default();
    assert_eq!(status.code(), Some(0), "{log}");
    let b = latest(place.path(), "b");
    assert_eq!(trial(&b).bytes, Some(1_000_000));
    assert_eq!(fs::read_to_string(b.experiment()).expect("read"), experiment("1MB"));
    assert_eq!(fs::read_to_string(b.topology()).expect("read"), net);
    assert_eq!(place.left(), [""; 0]);
}

/// A million lines once made a plan.json of 44 MB, which was sent to the engine again and again.
fn a_long_recording_is_named_in_the_plan_kept_as_a_file_and_played() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let at = |name: &str| folder.path().join(name);
    // Ten packets in each millisecond: 120 Mbit/s.
    let lines: String = (1..=1_000_000_u32).map(|n| format!("{}\n", n / 10)).collect();
    fs::write(at("long.trace"), &lines).expect("write the recording");
    let net = TOPOLOGY.replace("SHAPE", "{trace: long.trace, delay: 5ms}");
    fs::write(at("net.yaml"), net).expect("write the topology");
    let (output, run) = run(folder.path(), "long", &experiment("4MB"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let plan = fs::metadata(run.plan()).expect("plan.json").len();
    assert!(plan <= 10_000, "plan.json has {plan} bytes");
    let kept: Vec<_> = fs::read_dir(run.root().join("traces")).expect("list").flatten().collect();
    assert_eq!(kept.len(), 1, "one copy for both ways");
    assert_eq!(fs::read(kept[0].path()).expect("read the copy"), lines.as_bytes());
    let goodput = trial(&run).goodput_bps.expect("a goodput");
    assert!((20e6..118e6).contains(&goodput), "{goodput} bit/s");

    // Again from what the run left, without the files that it was made of.
    for name in ["long.trace", "net.yaml", "long.yaml"] {
        fs::remove_file(at(name)).expect("remove a file");
    }
    let again = limosa()
        .args(["run", "experiment.yaml", "--on", "host", "--links", crate::LINKS, "--out"])
        .arg(at("again"))
        .current_dir(run.root())
        .env("TMPDIR", folder.path())
        .output()
        .expect("start limosa");
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    let again = RunDir::new(at("again/experiment/latest"));
    assert_eq!(trial(&again).body_matches, Some(true));
    let kept_again = again.root().join("traces").join(kept[0].file_name());
    assert_eq!(fs::read(kept_again).expect("read the copy"), lines.as_bytes());
}

/// The process that keeps a lab gets the recording by a file, too.
fn a_lab_plays_a_recording() {
    let place = Place::of("");
    let at = |name: &str| place.path().join(name);
    fs::write(at("t.trace"), "1\n2\n3\n4\n").expect("write the recording");
    let net = TOPOLOGY.replace("SHAPE", "{trace: t.trace, delay: 20ms}");
    fs::write(at("net.yaml"), net).expect("write the topology");
    let name = &*lab("recording");
    let ask = |words: &[&str]| place.limosa(words).output().expect("start limosa");
    let up = ask(&["up", "net.yaml", "--links", crate::LINKS, "--name", name]);
    assert!(up.status.success(), "{}", text(&up));
    let rtt = PinnedLab::open(name).and_then(|pinned| {
        let to = pinned.network.address("server").context("the server has no address")?;
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_secs(2));
        let wish = Ping { to, from: None, count: 3, interval, timeout };
        ping(pinned.lab.place("client")?, &wish)
    });
    let told = text(&ask(&["inspect", name]));
    let down = text(&ask(&["down", name]));
    assert!(told.contains("recording of 4 packets in 4ms"), "{told}\n{down}");
    let rtt = rtt.expect("ping through the lab");
    assert!(rtt.lost() == 0 && rtt.min_ns().is_some_and(|ns| ns >= 40_000_000), "{rtt:?}\n{told}");
}

limosa_testkit::tests![
    regression_a_file_that_is_edited_before_its_turn_is_run_and_stored_as_it_was,
    a_long_recording_is_named_in_the_plan_kept_as_a_file_and_played,
    a_lab_plays_a_recording,
];
