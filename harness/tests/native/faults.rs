//! Every point × kind of fault that a run on this kernel passes: what is told, what the row says, and
//! that the machine is clean afterwards.

use super::{
    machine::{Place, lab, moving},
    text,
};
use limosa_record::fault::VARIABLE;
use std::{path::Path, process::Output, thread};

/// A fault, what limosa's exit code is with it, and what is found in the trial's reason or, when there
/// is no row, in what limosa says.
type Case = (&'static str, i32, &'static str);

/// How an experiment is made, and what goes wrong in it.
type Experiment = (fn() -> String, Case);

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
    ("server/asked/Announce:die", 5, "node `server`"),
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

/// A server that moves with its images, a copy that takes over, and files that are copied.
const ELSEWHERE: &[Experiment] = &[
    (stream, ("criu/dump:refuse", 5, "source resumed: checkpoint node `server`: dump process")),
    (
        stream,
        (
            "transfer/connect:refuse",
            5,
            "source resumed: connect the two places: Operation not permitted",
        ),
    ),
    (stream, ("transfer/file:full", 5, "source resumed: take files into")),
    (stream, ("transfer/file@3:full", 5, FULL)),
    (stream, ("criu/restore:die", 5, "the source has ended, and its images do not live")),
    (rsync, ("write/rsyncd.conf:full", 5, FULL)),
    (
        rsync,
        (
            "transfer/rsync:refuse",
            5,
            "source resumed: rsync exited with 1: rsync: --no-such-option",
        ),
    ),
    (rsync, ("transfer/rsync:die", 5, "source resumed: rsync killed by signal 9")),
    (pages, ("criu/page-server:refuse", 5, "source resumed: criu page-server")),
    (pages, ("criu/page-server:die", 5, "source resumed: checkpoint node `server`: dump process")),
    (copy, ("criu/dump:die", 5, "checkpoint failed: checkpoint node `server`")),
    (copy, ("criu/restore:refuse", 5, "restore failed: restore `server-new` on `server-b`")),
    (
        copy,
        ("server/asked/BecomeTarget:refuse", 5, "ask node `server-new`: Operation not permitted"),
    ),
    (
        copy,
        ("server/asked/BecomeTarget:die", 5, "node `server-new` ended too early: killed by signal"),
    ),
    (
        copy,
        (
            "server/asked/Handover:refuse",
            5,
            "handover failed: ask node `server`: Operation not permitted",
        ),
    ),
    (copy, ("server/asked/Handover:die", 5, "node `server` ended too early: killed by signal")),
    (push, ("write/file.bin:full", 5, FULL)),
    (push, ("transfer/rsync:refuse", 5, "rsync exited with 1: rsync: --no-such-option")),
    (push, ("transfer/rsync:die", 5, "rsync killed by signal 9")),
];

/// Each limit of a transfer has words of its own.
const HANGING_TRANSFERS: &[Experiment] = &[
    (stream, ("transfer/file@2:hang", 5, "source resumed: nothing has moved for 15s")),
    (rsync, ("transfer/rsync:hang", 5, "source resumed: rsync has done nothing for 20s")),
    (pages, ("criu/page-server:hang", 5, "source resumed: no page has come for 15s")),
    (push, ("transfer/rsync:hang", 5, "rsync has done nothing for 20s")),
    (copy, ("server/asked/BecomeTarget:hang", 5, "ask node `server-new`: no answer within 5s")),
];

const TOPOLOGIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies");

/// A download over `topology` while something is done with the server.
fn download(topology: &str, size: &str, scheme: &str, timeline: &str) -> String {
    format!(
        "version: 1
topology: {TOPOLOGIES}/{topology}.yaml
repetitions: 1
time_limit: 60s
workload: {{download: {{path: /random, size: {size}}}}}
transport: {{profile: paper-2025, idle_timeout: 40s}}
variants:
  move: {{scheme: {scheme}}}
timeline:
{timeline}"
    )
}

fn migrate(transfer: &str) -> String {
    let step = format!(
        "  - at: 500ms\n    migrate: {{node: server, to: server-b, technique: cold, transfer: {transfer}}}\n"
    );
    download("nakano-2025-wan", "3MB", "quic", &step)
}

fn stream() -> String {
    migrate("stream")
}

fn rsync() -> String {
    migrate("rsync")
}

fn pages() -> String {
    migrate("page-server")
}

fn copy() -> String {
    let steps = "  - at: 300ms
    checkpoint: {node: server, as: image, leave_running: true}
  - after: image + 100ms
    restore: {from: image, on: server-b, as: server-new}
    name: copy
  - after: copy
    handover: {from: server, to: server-new, rate: 40Mbit/s}
";
    download("nakano-2025", "12MB", "dual-path", steps)
}

fn push() -> String {
    format!(
        "version: 1
topology: {TOPOLOGIES}/amio-2023-servers.yaml
repetitions: 1
time_limit: 60s
workload: {{push: {{from: server-source, to: server-destination}}}}
variants:
  move: {{push: {{size: 1MB, content: random}}}}
"
    )
}

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

fn wrong_in(place: &Place, case: Case) -> Vec<String> {
    let output = place.experiment(&[]).env(VARIABLE, case.0).output().expect("start limosa");
    wrong(place, case, &output)
}

fn all_wrong(cases: &[Case]) -> Vec<String> {
    cases.iter().flat_map(|case| wrong_in(&Place::new("60s"), *case)).collect()
}

/// Experiments with a fault each, the parts beside each other.
fn wrong_beside_each_other<'c>(parts: impl Iterator<Item = &'c [(String, Case)]>) -> Vec<String> {
    let one = |(experiment, case): &(String, Case)| wrong_in(&Place::of(experiment), *case);
    thread::scope(|scope| {
        let part = |part: &'c [(String, Case)]| {
            scope.spawn(move || part.iter().flat_map(one).collect::<Vec<_>>())
        };
        let threads: Vec<_> = parts.map(part).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread of cases")).collect()
    })
}

fn a_run_that_cannot_go_on_says_whose_fault_it_is() {
    let wrong = all_wrong(RUN);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_trial_in_which_something_fails_has_a_row_that_says_what() {
    let wrong = all_wrong(TRIAL);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_move_a_copy_and_a_push_in_which_something_fails_have_rows_that_say_what() {
    let cases: Vec<_> = ELSEWHERE.iter().map(|(text, case)| (text(), *case)).collect();
    // Three at a time: they wait for downloads most of the time.
    let wrong = wrong_beside_each_other(cases.chunks(cases.len().div_ceil(3)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Killed when criu has got hold of it, in the first of two trials: by itself, and on its way.
fn a_server_that_dies_under_its_dump_costs_its_trial_and_not_the_next() {
    let on_its_way = "the source has ended, too: checkpoint node `server`: dump process";
    let cases = [
        (moving("60s", "1MB"), "checkpoint failed: checkpoint node `server`: dump process"),
        (stream(), on_its_way),
        (pages(), on_its_way),
    ];
    let one = |(experiment, wanted): (String, &str)| {
        // A client that nobody has told anything looks elsewhere when its connection has timed out.
        let experiment = experiment.replace("idle_timeout: 40s", "idle_timeout: 2s");
        let place = Place::of(&experiment.replace("repetitions: 1", "repetitions: 2"));
        let mut run = place.experiment(&[]);
        let output = run.env(VARIABLE, "criu/source:die").output().expect("start limosa");
        assert_eq!(output.status.code(), Some(5), "{}", text(&output));
        let [first, second] = &place.trials("move")[..] else { panic!("{}", text(&output)) };
        let reason = first.reason.as_deref().unwrap_or_default();
        assert_eq!(first.status, "failed", "{reason}");
        assert!(reason.contains(wanted), "{reason}");
        assert!(reason.contains("criu exited with 1: Error"), "{reason}");
        assert!(reason.contains("source process dead"), "{reason}");
        assert_eq!((&*second.status, second.body_matches), ("ok", Some(true)), "{second:?}");
        assert_eq!(place.left(), [""; 0]);
    };
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || one(case));
        }
    });
}

/// The source is stopped while its images travel; a harness that dies then takes it along.
fn a_harness_that_dies_under_travelling_images_leaves_nothing_that_clean_does_not_find() {
    let place = Place::of(&stream());
    let mut run = place.experiment(&[]);
    let output = run.env(VARIABLE, "transfer/file@2:die").output().expect("start limosa");
    assert_eq!(output.status.code(), None, "{}", text(&output));
    place.clean();
    assert_eq!(place.left(), [""; 0]);
}

fn everything_that_can_hang_has_a_limit() {
    let moves = HANGS.iter().map(|(size, limit, case)| (moving(limit, size), *case));
    let others = HANGING_TRANSFERS.iter().map(|(text, case)| (text(), *case));
    let cases: Vec<_> = moves.chain(others).collect();
    // They wait for limits most of the time.
    let wrong = wrong_beside_each_other(cases.chunks(1));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The kernel refuses the first request, the second, and so on until all are granted.
fn a_lab_is_built_as_a_whole_or_not_at_all() {
    let name = &*lab("fault");
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");
    let place = Place::new("60s");
    for point in ["netns", "tap", "engine", "netlink"] {
        let mut granted = 0;
        for n in 1.. {
            let up = ["up", topology, "--links", "user", "--name", name];
            let mut up = place.limosa(&up);
            let output =
                up.env(VARIABLE, format!("{point}@{n}:refuse")).output().expect("start limosa");
            if output.status.success() {
                granted = n - 1;
                break;
            }
            assert!(text(&output).contains("Operation not permitted"), "{n}: {}", text(&output));
            assert!(!Path::new("/run/limosa/labs").join(name).exists(), "{point}@{n}");
            assert_eq!(place.left(), [""; 0], "{point}@{n}");
        }
        let down = place.limosa(&["down", name]).output().expect("start limosa");
        assert!(down.status.success(), "{}", text(&down));
        assert_eq!(place.left(), [""; 0], "{point}");
        println!("{point}: refused at each of {granted} steps");
        assert!(granted > 0, "{point} was never passed");
    }
}

limosa_testkit::tests![
    a_run_that_cannot_go_on_says_whose_fault_it_is,
    a_trial_in_which_something_fails_has_a_row_that_says_what,
    a_move_a_copy_and_a_push_in_which_something_fails_have_rows_that_say_what,
    a_server_that_dies_under_its_dump_costs_its_trial_and_not_the_next,
    a_harness_that_dies_under_travelling_images_leaves_nothing_that_clean_does_not_find,
    everything_that_can_hang_has_a_limit,
    a_lab_is_built_as_a_whole_or_not_at_all,
];
