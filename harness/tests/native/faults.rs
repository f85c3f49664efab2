//! Every point × kind of fault that a run on this kernel passes: what is told, what the row says, and
//! that the machine is clean afterwards.

use super::{machine::Place, text};
use limosa_record::fault::VARIABLE;
use std::{path::Path, process::Output, sync::Mutex, thread};

/// A fault, what limosa's exit code is with it, and what is found in the trial's reason or, when there
/// is no row, in what limosa says.
type Case = (&'static str, i32, &'static str);

const FULL: &str = "No space left on device";

/// The run cannot go on: no row is made of that, and the exit code says whose fault it is.
const RUN: &[Case] = &[
    ("netns:refuse", 4, "it lacks network namespaces"),
    ("write/journal:full", 4, FULL),
    ("write/experiment.yaml:full", 4, FULL),
    ("write/topology.yaml:full", 4, FULL),
    ("write/plan.json:full", 4, FULL),
    ("write/latest:full", 4, FULL),
    ("write/manifest.json:full", 4, FULL),
    ("write/ca.pem:full", 4, FULL),
    ("write/random:full", 4, FULL),
    ("write/throughput.csv@2:full", 4, FULL),
    ("write/events.csv@3:full", 4, FULL),
    ("write/trials.csv:full", 4, FULL),
    ("write/summary.csv:full", 4, FULL),
    ("write/report.html:full", 4, FULL),
];

/// The trial fails and has a row.
const TRIAL: &[Case] = &[
    ("tap@2:refuse", 5, "create TAP"),
    ("engine:refuse", 5, "start the link engine: Operation not permitted"),
    ("netlink@9:refuse", 5, "Operation not permitted"),
    ("write/calibration.csv:full", 5, FULL),
    ("write/config.json:full", 5, FULL),
    ("write/client.pcap:full", 5, FULL),
    ("write/dump.log:full", 5, FULL),
    ("write/restore.log:full", 5, FULL),
    ("write/stderr.log:full", 5, FULL),
    (
        "server/start:refuse",
        5,
        "node `server` ended too early: exited with 1: error: Operation not permitted",
    ),
    ("server/start:die", 5, "node `server` ended too early: killed by signal"),
    ("client/start:die", 5, "node `client` ended too early: killed by signal"),
    ("server/asked/Status:die", 5, "node `server` ended too early"),
    ("client/asked/Status:refuse", 5, "Operation not permitted"),
    ("client/asked/Start:die", 5, "ask node `client`: no answer within 5s"),
    (
        "server/asked/Announce:refuse",
        5,
        "announce failed: ask node `server`: Operation not permitted",
    ),
    ("server/asked/Announce:die", 5, "(source process dead; see "),
    ("client/write/body:die", 5, "node `client` ended too early: killed by signal"),
    ("client/write/body:full", 5, FULL),
    ("client/write/result.json:full", 5, FULL),
    ("criu/dump:refuse", 5, "checkpoint failed: checkpoint node `server`: dump process"),
    ("criu/dump:die", 5, "criu killed by signal 9"),
    ("criu/dump-early:refuse", 5, "checkpoint failed"),
    ("criu/dump-parasite:refuse", 5, "checkpoint failed"),
    ("criu/dump-pages:refuse", 5, "checkpoint failed"),
    ("criu/restore:refuse", 5, "restore failed: restore node `server` on `server-b`"),
    ("criu/restore:die", 5, "criu killed by signal 9"),
    ("criu/restore-late:refuse", 5, "restore failed"),
];

/// Everything that can hang has a limit and a message of its own: the size of the download, the
/// trial's limit, and the case.
const HANGS: &[(&str, &str, Case)] = &[
    ("4MB", "60s", ("server/start:hang", 5, "node `server` never said ready")),
    ("4MB", "60s", ("server/asked/Announce:hang", 5, "ask node `server`: no answer within 5s")),
    (
        "80MB",
        "60s",
        ("criu/dump:hang", 5, "criu was killed after 30s (source process still running"),
    ),
    (
        "4MB",
        "60s",
        ("criu/restore:hang", 5, "criu was killed after 30s (source process not concerned"),
    ),
    ("4MB", "4s", ("client/write/body@9:hang", 5, "not over after 4s")),
    ("4MB", "60s", ("server/asked/Stop:hang", 0, "")),
];

/// What is wrong after a run with a fault.
fn wrong(place: &Place, (fault, code, wanted): Case, output: &Output) -> Vec<String> {
    let told = text(output);
    let mut wrong = Vec::new();
    if output.status.code() != Some(code) {
        wrong.push(format!("{fault}: {} instead of {code}: {told}", output.status));
    }
    let folder = place.path().join("results/move/latest");
    let rows = if folder.exists() { place.trials("move") } else { Vec::new() };
    let said = match &rows[..] {
        [row] if code != 4 => row.reason.clone().unwrap_or_default(),
        _ => told,
    };
    if !said.contains(wanted) {
        wrong.push(format!("{fault}: `{wanted}` is not in: {said}"));
    }
    if (code == 5 || code == 0) && rows.len() != 1 {
        wrong.push(format!("{fault}: {} rows", rows.len()));
    }
    wrong.extend(place.left().into_iter().map(|left| format!("{fault}: left: {left}")));
    wrong
}

fn all_wrong(cases: &[Case], time_limit: &str, size: &str) -> Vec<String> {
    let mut all = Vec::new();
    for case in cases {
        let place = Place::with(time_limit, size);
        let output = place.experiment(&[]).env(VARIABLE, case.0).output().expect("start limosa");
        all.extend(wrong(&place, *case, &output));
    }
    all
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_run_that_cannot_go_on_says_whose_fault_it_is() {
    let wrong = all_wrong(RUN, "60s", "4MB");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_trial_in_which_something_fails_has_a_row_that_says_what() {
    let wrong = all_wrong(TRIAL, "60s", "4MB");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn everything_that_can_hang_has_a_limit() {
    let all = Mutex::new(Vec::new());
    // They wait most of the time, so they wait together.
    thread::scope(|scope| {
        for (size, limit, case) in HANGS {
            let all = &all;
            scope.spawn(move || all.lock().unwrap().extend(all_wrong(&[*case], limit, size)));
        }
    });
    let wrong = all.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The kernel refuses the first request, the second, and so on until all are granted.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_lab_is_built_as_a_whole_or_not_at_all() {
    const NAME: &str = "limosa-test-fault";
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");
    let place = Place::new("60s");
    for point in ["netns", "tap", "engine", "netlink"] {
        let mut granted = 0;
        for n in 1.. {
            let up = ["up", topology, "--links", "user", "--name", NAME];
            let mut up = place.limosa(&up);
            let output =
                up.env(VARIABLE, format!("{point}@{n}:refuse")).output().expect("start limosa");
            if output.status.success() {
                granted = n - 1;
                break;
            }
            assert!(text(&output).contains("Operation not permitted"), "{n}: {}", text(&output));
            assert!(!Path::new("/run/limosa/labs").join(NAME).exists(), "{point}@{n}");
            assert_eq!(place.left(), [""; 0], "{point}@{n}");
        }
        let down = place.limosa(&["down", NAME]).output().expect("start limosa");
        assert!(down.status.success(), "{}", text(&down));
        assert_eq!(place.left(), [""; 0], "{point}");
        println!("{point}: refused at each of {granted} steps");
        assert!(granted > 0, "{point} was never passed");
    }
}
