//! Nodes that are any other program: they start, move, end, and fail in words.

use crate::text;
use limosa_record::{
    dir::RunDir,
    row::{self, EventRow, TrialRow},
};
use std::{fs, path::Path, process::Output};

const RACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/rack.yaml");
const NGINX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/nginx.yaml");

fn limosa(folder: &Path, args: &[&str]) -> Output {
    crate::limosa()
        .args(["run", "--on", "host", "--links", "user", "--allow-commands"])
        .args(args)
        .current_dir(folder)
        .env("TMPDIR", folder)
        .output()
        .expect("start limosa")
}

/// A short download from a server of Limosa's own, with another node and a timeline.
fn beside(folder: &Path, node: &str, timeline: &str) -> (Output, RunDir) {
    let experiment = format!(
        "version: 1
topology: {RACK}
repetitions: 1
time_limit: 60s
nodes:
  server: {{on: server-a, role: server}}
  client: {{on: client, role: client}}
  other:
    on: server-a
{node}
workload: {{download: {{path: /random, size: 8MB}}}}
variants:
  one: {{scheme: quic}}
timeline: [{timeline}]
"
    );
    fs::write(folder.join("beside.yaml"), experiment).expect("write the experiment");
    let output = limosa(folder, &["beside.yaml"]);
    (output, RunDir::new(folder.join("results/beside/latest")))
}

fn trials(run: &RunDir) -> Vec<TrialRow> {
    row::read(&run.trials()).expect("trials.csv")
}

const MOVE: &str =
    "{at: 300ms, migrate: {node: other, to: server-b, technique: cold, transfer: stream}}";

/// Says its PID and a number, ten times a second, until it is asked to end.
const TICKER: &str = "    command:
      - sh
      - -c
      - 'trap \"echo asked to end; exit 7\" TERM; echo started as $$ in $HOME; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done'
    env: {HOME: /nowhere}
    ready: {line: tick 1}";

fn a_program_goes_on_where_it_was_and_ends_when_it_is_asked_to() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (output, run) = beside(folder.path(), TICKER, MOVE);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let trial = trials(&run).remove(0);
    assert_eq!((&*trial.status, trial.technique.as_deref()), ("ok", Some("cold")));
    assert!(trial.downtime_s.is_some() && trial.image_bytes > Some(100_000), "{trial:?}");
    let log = fs::read_to_string(run.root().join(&trial.folder).join("other/stdout.log"));
    let log = log.expect("what it said");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.first(), Some(&"started as 1 in /nowhere"), "{log}");
    assert_eq!(lines.last(), Some(&"asked to end"), "{log}");
    let ticks = lines[1..lines.len() - 1].iter().map(|line| line.strip_prefix("tick "));
    let ticks: Vec<usize> =
        ticks.map(|n| n.and_then(|n| n.parse().ok()).expect("a tick")).collect();
    assert_eq!(ticks, (1..=ticks.len()).collect::<Vec<_>>(), "{log}");
    assert!(ticks.len() > 5, "{log}");
}

fn what_criu_cannot_dump_stays_where_it_is_with_its_reason() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // criu keeps files without a name only when they are small.
    let node = "    command: [sh, -c, 'exec 3>ghost; head -c 3000000 /dev/zero >&3; rm ghost; \
                echo begun; trap \"echo asked to end; exit 0\" TERM; while :; do sleep 0.1; done']
    ready: {line: begun}";
    let (output, run) = beside(folder.path(), node, MOVE);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let trial = trials(&run).remove(0);
    let reason = trial.reason.clone().unwrap_or_default();
    assert_eq!(trial.status, "aborted", "{reason}");
    assert!(
        reason.starts_with("source resumed: checkpoint node `other`: dump process"),
        "{reason}"
    );
    assert!(reason.contains("Error (criu/") && reason.contains("ghost"), "{reason}");
    // It went on, and so did everything else.
    assert_eq!(trial.body_matches, Some(true));
    let log = fs::read_to_string(run.root().join(&trial.folder).join("other/stdout.log"));
    assert_eq!(log.expect("what it said"), "begun\nasked to end\n");
}

fn a_program_that_ends_at_once_or_is_never_there_is_told() {
    let cases = [
        (
            "    command: [sh, -c, 'echo cannot open the door >&2; exit 3']\n    ready: {line: x}",
            5,
            "node `other` ended too early: exited with 3: cannot open the door\n  see: ",
        ),
        (
            "    command: [sh, -c, 'echo alas >&2; exit 4']",
            5,
            "node `other` ended too early: exited with 4: alas",
        ),
        ("    command: [no-such-program]", 4, "program (`no-such-program` is not there)"),
    ];
    let folder = tempfile::tempdir().expect("temporary folder");
    for (node, code, expected) in cases {
        let (output, run) = beside(folder.path(), node, "");
        assert_eq!(output.status.code(), Some(code), "{node}: {}", text(&output));
        let told = match code {
            5 => trials(&run).remove(0).reason.unwrap_or_default(),
            _ => text(&output),
        };
        assert!(told.contains(expected), "{node}: {told}");
    }
}

/// The client would see any reset, and its program would not come back on a busy address: here it
/// goes there and back again.
fn nginx_takes_its_address_and_its_connection_along() {
    let (experiment, topology) =
        limosa::spec::load_experiment(Path::new(NGINX)).expect("the experiment");
    let plan = limosa::plan::resolve(&experiment, &topology).expect("the plan");
    limosa::machine::setup::programs::get(&plan).expect("get nginx");
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = limosa(
        folder.path(),
        &[NGINX, "--reps", "1", "--only", "http-rsync", "--only", "http-stream"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let run = RunDir::new(folder.path().join("results/nginx/latest"));
    for trial in trials(&run) {
        let name = &*trial.variant;
        assert_eq!((&*trial.status, trial.body_matches), ("ok", Some(true)), "{:?}", trial.reason);
        assert_eq!((trial.reconnects, trial.bytes), (Some(0), Some(20_000_000)), "{name}");
        assert!(trial.downtime_s.is_some() && trial.resume_delay_s.is_some(), "{name}");
        let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
        let connected = |e: &&EventRow| e.variant == name && e.event == "connected";
        assert_eq!(events.iter().filter(connected).count(), 1, "{name}");
    }
}

limosa_testkit::tests![
    a_program_goes_on_where_it_was_and_ends_when_it_is_asked_to,
    what_criu_cannot_dump_stays_where_it_is_with_its_reason,
    a_program_that_ends_at_once_or_is_never_there_is_told,
    nginx_takes_its_address_and_its_connection_along,
];
