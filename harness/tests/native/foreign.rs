//! Programs that know nothing of Limosa, moved with their address: what they may see of it, what
//! their ends mean, and a QUIC connection between two of them.

use crate::text;
use limosa_record::{
    dir::RunDir,
    row::{self, EventRow, TrialRow, event},
};
use std::{fs, path::Path, process::Output};

const RACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/rack.yaml");
const NGINX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/nginx-quic.yaml");

/// Sends numbered datagrams, a thousand per second, to whom has sent it one, and ends with the first
/// that the kernel refuses to send: no program on the same host could tell why.
const SENDER: &str = r#"
use strict; use Socket;
$SIG{TERM} = sub { exit 0 };
socket(my $s, PF_INET, SOCK_DGRAM, 0) or die "socket: $!";
bind($s, pack_sockaddr_in(5000, inet_aton("10.1.0.100"))) or die "bind: $!";
print STDERR "has its port\n";
my $peer = recv($s, my $hello, 100, 0) // die "recv: $!";
for (my $i = 1; ; $i++) {
    send($s, pack("N", $i) . ("x" x 100), 0, $peer) // die "send of $i: $!";
    select(undef, undef, undef, 0.001);
}
"#;

/// Takes datagrams for 9 s, and is content when it never waited for one for long.
const TAKER: &str = r#"
use strict; use Socket;
socket(my $s, PF_INET, SOCK_DGRAM, 0) or die "socket: $!";
send($s, "hello", 0, pack_sockaddr_in(5000, inet_aton("10.1.0.100"))) // die "send: $!";
my ($begun, $n) = (time, 0);
while (time < $begun + 9) {
    my $ready = ""; vec($ready, fileno($s), 1) = 1;
    select($ready, undef, undef, 10) or die "nothing came any more after $n";
    recv($s, my $datagram, 1000, 0) // die "recv: $!";
    $n = unpack("N", $datagram);
}
print "the last one was $n\n";
"#;

fn limosa(folder: &Path, args: &[&str]) -> Output {
    crate::limosa()
        .args(["run", "--on", "host", "--links", crate::LINKS, "--allow-commands"])
        .args(args)
        .current_dir(folder)
        .env("TMPDIR", folder)
        .output()
        .expect("start limosa")
}

fn trials(run: &RunDir) -> Vec<TrialRow> {
    row::read(&run.trials()).expect("trials.csv")
}

fn said(run: &RunDir, trial: &TrialRow, file: &str) -> String {
    fs::read_to_string(run.root().join(&trial.folder).join(file)).expect("what it said")
}

/// Text as a block of a YAML file.
fn block(text: &str, indent: usize) -> String {
    text.lines().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

/// Both programs at both ends, and a timeline.
fn strangers(folder: &Path, sender: &str, timeline: &str) -> (Output, RunDir) {
    let experiment = format!(
        "version: 1
topology: {RACK}
repetitions: 1
time_limit: 60s
nodes:
  server:
    on: server-a
    role: server
    address: 10.1.0.100
    command: [perl, sender.pl]
    ready: {{udp: 5000}}
    files:
      sender.pl: |
{}  client:
    on: client
    role: client
    command: [perl, taker.pl]
    files:
      taker.pl: |
{}workload: {{download: {{path: /random, size: 1MB}}}}
variants:
  one: {{}}
timeline: [{timeline}]
",
        block(sender, 8),
        block(TAKER, 8)
    );
    fs::write(folder.join("strangers.yaml"), experiment).expect("write the experiment");
    let output = limosa(folder, &["strangers.yaml"]);
    (output, RunDir::new(folder.join("results/strangers/latest")))
}

/// Three techniques, one after the other: the source is dead, stopped for the way of its images, or
/// gives its pages away while it stands still.
fn a_sender_never_sees_its_address_gone() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for timeline in [
        "{at: 1s, checkpoint: {node: server, as: i}}, {after: i + 300ms, restore: {from: i, on: server-b}}",
        "{at: 1s, migrate: {node: server, to: server-b, technique: cold, transfer: stream}}",
        "{at: 1s, migrate: {node: server, to: server-b, technique: cold, transfer: page-server}, name: there}, \
         {after: there + 500ms, migrate: {node: server, to: server-a, technique: cold, transfer: stream}}",
    ] {
        let (output, run) = strangers(folder.path(), SENDER, timeline);
        assert_eq!(output.status.code(), Some(0), "{timeline}: {}", text(&output));
        let trial = trials(&run).remove(0);
        assert_eq!((&*trial.status, &*trial.scheme), ("ok", ""), "{:?}", trial.reason);
        assert!(trial.downtime_s.is_some() && trial.turnaround_s.is_none(), "{trial:?}");
        assert_eq!(said(&run, &trial, "server/stderr.log"), "has its port\n");
        let last = said(&run, &trial, "client/stdout.log");
        let last: u64 =
            last.trim().rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        assert!(last > 500, "{last}");
        let ends = "server: exited with 0, when asked to end; client: exited with 0";
        assert_eq!(trial.ends.as_deref(), Some(ends));
        let events: Vec<EventRow> = row::read(&run.events()).expect("events.csv");
        assert_eq!(events.iter().filter(|e| e.event == event::EXITED).count(), 2);
    }
}

/// CRIU cannot take along a large file without a name.
fn a_sender_that_cannot_be_dumped_goes_on_with_its_address() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let ghost =
        "open(my $g, '>', 'ghost') or die; print $g 'x' x 3000000; $g->flush; unlink 'ghost';\n";
    let sender = SENDER.replace(
        "use strict; use Socket;\n",
        &format!("use strict; use Socket; use IO::Handle;\n{ghost}"),
    );
    let move_it =
        "{at: 1s, migrate: {node: server, to: server-b, technique: cold, transfer: stream}}";
    let (output, run) = strangers(folder.path(), &sender, move_it);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let trial = trials(&run).remove(0);
    let reason = trial.reason.clone().unwrap_or_default();
    assert_eq!(trial.status, "aborted", "{reason}");
    assert!(reason.contains("ghost") && !reason.contains("then it"), "{reason}");
    assert_eq!(said(&run, &trial, "server/stderr.log"), "has its port\n");
    assert!(said(&run, &trial, "client/stdout.log").starts_with("the last one was "));
}

/// A short download from a server of Limosa's own, beside another node.
fn beside(folder: &Path, command: &str, more: &str) -> (Output, RunDir) {
    let experiment = format!(
        "version: 1
topology: {RACK}
repetitions: 1
time_limit: 15s
nodes:
  server: {{on: server-a, role: server}}
  client: {{on: client, role: client}}
  other: {{on: server-a, command: [perl, -e, '{command}']}}
workload: {{download: {{path: /random, size: 20MB}}}}
variants:
  one: {{scheme: quic}}
{more}"
    );
    fs::write(folder.join("beside.yaml"), experiment).expect("write the experiment");
    let output = limosa(folder, &["beside.yaml"]);
    (output, RunDir::new(folder.join("results/beside/latest")))
}

fn ends_are_waited_for_where_they_are_expected_and_mean_what_they_say() {
    let expect = |how: &str| format!("expect: {{other: {{{how}}}}}\n");
    let moved = "timeline:
  - {at: 300ms, checkpoint: {node: other, as: i}}
  - {after: i + 2500ms, restore: {from: i, on: server-b}}\n";
    // What it does, what is said of it, the code, the status, how its reason begins, and its end.
    let cases: [(&str, String, i32, &str, &str, &str); 6] = [
        ("exit 0", String::new(), 0, "ok", "", "other: exited with 0"),
        ("sleep 8; exit 3", expect("exited: 3"), 0, "ok", "", "other: exited with 3"),
        (
            "sleep 1; warn qq(lost it\\n); exit 1",
            expect("exited: 0"),
            5,
            "failed",
            "node `other` exited with 1, expected `other: {exited: 0}`: lost it\n  see: ",
            "other: exited with 1",
        ),
        (
            "sleep 100",
            expect("exited: 0"),
            5,
            "timeout",
            "not over after 15s: node `other` has not ended",
            "other: killed by signal 9, when asked to end",
        ),
        (
            "while (1) { $t = time; select(undef, undef, undef, 0.05); die qq(too late\\n) if time > $t + 1 }",
            moved.into(),
            5,
            "failed",
            "node `other` died 0.",
            "other: exited with 255",
        ),
        (
            "sleep 1; exit 4",
            expect("signaled: 9"),
            5,
            "failed",
            "node `other` exited with 4, expected `other: {signaled: 9}`",
            "other: exited with 4",
        ),
    ];
    let folder = tempfile::tempdir().expect("temporary folder");
    for (command, more, code, status, reason, end) in cases {
        let (output, run) = beside(folder.path(), command, &more);
        assert_eq!(output.status.code(), Some(code), "{command}: {}", text(&output));
        let trial = trials(&run).remove(0);
        let told = trial.reason.clone().unwrap_or_default();
        assert_eq!(trial.status, status, "{command}: {told}");
        assert!(told.starts_with(reason) && told.is_empty() == reason.is_empty(), "{told}");
        if told.contains("died") {
            let rest = " s after its restore on `server-b`: exited with 255: too late\n  see: ";
            assert!(told.contains(rest), "{told}");
        }
        assert_eq!(trial.ends.as_deref(), Some(end), "{command}");
    }
}

/// The shortest of the outages. The others are longer than a test should be.
fn nginx_and_curl_do_not_notice_that_nginx_moves() {
    let (experiment, topology) =
        limosa::spec::load_experiment(Path::new(NGINX)).expect("the experiment");
    let plan = limosa::plan::resolve(&experiment, &topology).expect("the plan");
    limosa::machine::setup::programs::get(&plan).expect("get nginx and curl");
    let folder = tempfile::tempdir().expect("temporary folder");
    let args = [NGINX, "--reps", "1", "--only", "stays", "--only", "away-300ms"];
    let output = limosa(folder.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let run = RunDir::new(folder.path().join("results/nginx-quic/latest"));
    for trial in trials(&run) {
        let name = &*trial.variant;
        assert_eq!((&*trial.status, trial.body_matches), ("ok", Some(true)), "{:?}", trial.reason);
        assert_eq!((trial.bytes, &*trial.scheme), (Some(20_000_000), ""), "{name}");
        assert_eq!(trial.downtime_s.is_some(), name != "stays", "{name}");
        assert!(!run.root().join(&trial.folder).join("client/body").exists(), "{name}");
    }
}

limosa_testkit::tests![
    a_sender_never_sees_its_address_gone,
    a_sender_that_cannot_be_dumped_goes_on_with_its_address,
    ends_are_waited_for_where_they_are_expected_and_mean_what_they_say,
    nginx_and_curl_do_not_notice_that_nginx_moves,
];
