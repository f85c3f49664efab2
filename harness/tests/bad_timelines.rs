//! Timelines that cannot work, the message that each gives, and sizes.
//!
//! The messages are one snapshot, so that they can be read in one sitting.

use limosa::{plan, spec};
use std::{fmt::Write, fs, path::Path};

const TOPOLOGY: &str = "\
version: 1
nodes:
  client: {}
  switch: {kind: switch}
  router: {kind: router}
  server-a: {}
  server-b: {}
links:
  - {ends: [client.eth0, switch]}
  - {ends: [switch, router.eth0], shape: {rate: 10Mbit/s, delay: 5ms}}
  - {ends: [router.eth1, server-a.eth0]}
  - {ends: [router.eth2, server-b.eth0]}
";

const EXPERIMENT: &str = "\
version: 1
topology: net
repetitions: 3
time_limit: 60s
workload:
  download: {path: /random, size: 10MB}
variants:
  quic-none: {scheme: quic}
  multipath-migrate:
    scheme: multipath
    transport: {idle_timeout: 30s}
timeline:
  - at: 1s
    announce: {node: server, to: server-b}
    only: [multipath-migrate]
  - at: 2s
    checkpoint: {node: server, as: image}
    only: [multipath-migrate]
  - after: image + 10s
    restore: {from: image, on: server-b}
    only: [multipath-migrate]
expect:
  client: {exited: 0}
";

fn load(folder: &Path, experiment: &str, topology: &str) -> Result<plan::Plan, spec::SpecError> {
    fs::write(folder.join("net.yaml"), topology).unwrap();
    let file = folder.join("x.yaml");
    fs::write(&file, experiment).unwrap();
    let (experiment, topology) = spec::load_experiment(&file)?;
    plan::resolve(&experiment, &topology)
}

/// Timelines of which each step is right by itself: what is wrong, the scheme, and the steps.
const TIMELINES: &[(&str, &str, &[&str])] = &[
    (
        "an announcement that nobody takes",
        "quic",
        &["at: 1s, announce: {node: server, to: server-b}"],
    ),
    (
        "an announcement before the server speaks",
        "symmetric",
        &["at: 1s, announce: {node: server, to: server-b}"],
    ),
    (
        "a move of two servers",
        "dual-path",
        &["at: 1s, migrate: {node: server, to: server-b, technique: cold, transfer: stream}"],
    ),
    (
        "a checkpoint of two servers",
        "post-copy",
        &[
            "at: 1s, checkpoint: {node: server, as: i}",
            "after: i, restore: {from: i, on: server-b}",
        ],
    ),
    (
        "a copy with nothing to do",
        "quic",
        &[
            "at: 1s, checkpoint: {node: server, as: i, leave_running: true}",
            "after: i, restore: {from: i, on: server-b, as: copy}",
        ],
    ),
    (
        "a handover without a copy",
        "dual-path",
        &["at: 1s, handover: {from: server, to: copy, rate: 1Mbit/s}"],
    ),
    (
        "a handover before its copy",
        "dual-path",
        &[
            "at: 1s, checkpoint: {node: server, as: i, leave_running: true}",
            "at: 5s, restore: {from: i, on: server-b, as: copy}",
            "at: 4s, handover: {from: server, to: copy, rate: 1Mbit/s}",
        ],
    ),
    (
        "a second handover",
        "dual-path",
        &[
            "at: 1s, checkpoint: {node: server, as: i, leave_running: true}",
            "after: i, name: a, restore: {from: i, on: server-b, as: copy}",
            "after: a, name: b, handover: {from: server, to: copy, rate: 1Mbit/s}",
            "after: b, handover: {from: server, to: copy, rate: 1Mbit/s}",
        ],
    ),
    (
        "two copies on one place",
        "dual-path",
        &[
            "at: 1s, checkpoint: {node: server, as: i, leave_running: true}",
            "after: i, name: a, restore: {from: i, on: server-b, as: copy}",
            "after: a, restore: {from: i, on: server-b, as: other}",
        ],
    ),
    (
        "an image that is used up",
        "multipath",
        &[
            "at: 1s, checkpoint: {node: server, as: i}",
            "after: i + 300ms, restore: {from: i, on: server-b}",
            "after: i + 1500ms, restore: {from: i, on: server-a}",
        ],
    ),
    (
        "a checkpoint of what is in an image",
        "multipath",
        &[
            "at: 1s, checkpoint: {node: server, as: i}",
            "after: i + 300ms, checkpoint: {node: server, as: j}",
            "after: j + 300ms, restore: {from: j, on: server-b}",
        ],
    ),
    (
        "a checkpoint of what was killed",
        "multipath",
        &["at: 1s, kill: {node: server}", "at: 2s, checkpoint: {node: server, as: i}"],
    ),
    (
        "two moves at one time",
        "multipath",
        &[
            "at: 1s, migrate: {node: server, to: server-b, technique: cold, transfer: stream}",
            "at: 1s, migrate: {node: server, to: server-a, technique: cold, transfer: stream}",
        ],
    ),
    (
        "an announcement by what is in an image",
        "multipath",
        &[
            "at: 1s, checkpoint: {node: server, as: i}",
            "at: 2s, announce: {node: server, to: server-b}",
            "after: i + 5s, restore: {from: i, on: server-b}",
        ],
    ),
    (
        "a move to where it has come to",
        "multipath",
        &[
            "at: 1s, name: a, migrate: {node: server, to: server-b, technique: cold, transfer: stream}",
            "after: a, migrate: {node: server, to: server-b, technique: cold, transfer: stream}",
        ],
    ),
    (
        "a move to the client's place",
        "multipath",
        &["at: 1s, migrate: {node: server, to: client, technique: cold, transfer: stream}"],
    ),
    (
        "a client that moves",
        "multipath",
        &[
            "at: 1s, checkpoint: {node: client, as: i}",
            "after: i, restore: {from: i, on: server-b}",
        ],
    ),
    (
        "a client that does not come back",
        "multipath",
        &["at: 1s, checkpoint: {node: client, as: i}"],
    ),
    ("a server that does not come back", "multipath", &["at: 1s, kill: {node: server}"]),
    ("a client that is killed and ends well", "multipath", &["at: 1s, kill: {node: client}"]),
    (
        "an attacker at the server's port",
        "multipath",
        &["at: 1s, attack: {kind: replay, node: client, from: server-a}"],
    ),
    (
        "a machine in a scheme without one",
        "quic",
        &["at: 1s, relocate: {node: server, to: router, pause: 1s}"],
    ),
    ("more bytes than there are", "quic", &["after_bytes: 11MB, link_up: {link: switch--router}"]),
    ("no bytes", "quic", &["after_bytes: 0B, link_up: {link: switch--router}"]),
    (
        "a step that is called like an anchor",
        "quic",
        &["at: 1s, name: connected, link_up: {link: switch--router}"],
    ),
    ("bytes and a time", "quic", &["at: 1s, after_bytes: 1MB, link_up: {link: switch--router}"]),
];

#[test]
fn each_timeline_that_cannot_work_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = String::new();
    for (what, scheme, steps) in TIMELINES {
        let steps: String = steps.iter().map(|step| format!("  - {{{step}}}\n")).collect();
        let text = format!(
            "version: 1\ntopology: net\nrepetitions: 1\ntime_limit: 60s\nworkload:\n  \
             download: {{path: /x, size: 10MB}}\nvariants:\n  v: {{scheme: {scheme}}}\ntimeline:\n{steps}"
        );
        let error = load(folder.path(), &text, TOPOLOGY).expect_err(what).to_string();
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        writeln!(told, "# {what}\nerror: {error}\n").unwrap();
    }
    insta::assert_snapshot!(told);
}

/// Its twin is right: what is refused above is not refused for its form.
#[test]
fn timelines_that_work_are_not_refused() {
    let folder = tempfile::tempdir().unwrap();
    let move_it = "migrate: {node: server, to: server-b, technique: cold, transfer: stream}";
    for (scheme, steps) in [
        ("multipath", vec!["after: connected, announce: {node: server, to: server-b}".to_owned()]),
        ("multipath", vec![format!("after_bytes: 5MB + 200ms, {move_it}")]),
        // The order of the two depends on how fast the client is.
        (
            "multipath",
            vec![
                format!("after_bytes: 5MB, {move_it}"),
                "at: 2s, announce: {node: server, to: server-b}".into(),
            ],
        ),
        (
            "quic",
            vec![
                "at: 1s, checkpoint: {node: server, as: i}".into(),
                "at: 9s, restore: {from: i, on: server-b}".into(),
                "at: 12s, checkpoint: {node: server, as: j}".into(),
                "after: j, restore: {from: j, on: server-a}".into(),
            ],
        ),
        (
            "multipath",
            vec![
                "at: 1s, checkpoint: {node: client, as: i}".into(),
                "after: i, restore: {from: i, on: client}".into(),
            ],
        ),
        (
            "dual-path",
            vec![
                "at: 1s, checkpoint: {node: server, as: i, leave_running: true}".into(),
                "after: i, name: copy, restore: {from: i, on: server-b, as: new}".into(),
                "after: copy, name: over, handover: {from: server, to: new, rate: 8Mbit/s}".into(),
                "after: over + 2s, kill: {node: server}".into(),
            ],
        ),
    ] {
        let steps: String = steps.iter().map(|step| format!("  - {{{step}}}\n")).collect();
        let text = format!(
            "version: 1\ntopology: net\nrepetitions: 1\ntime_limit: 60s\nworkload:\n  \
             download: {{path: /x, size: 10MB}}\nvariants:\n  v: {{scheme: {scheme}}}\ntimeline:\n{steps}"
        );
        load(folder.path(), &text, TOPOLOGY).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn one_kind_of_file_in_the_place_of_the_other_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.yaml");
    fs::write(&file, TOPOLOGY).unwrap();
    let error = spec::load_experiment(&file).expect_err("a topology").to_string();
    assert!(error.contains("x.yaml:9:3: this is a topology, not an experiment"), "{error}");
    assert!(error.contains("hint: `limosa up FILE` builds it"), "{error}");
    fs::write(&file, EXPERIMENT).unwrap();
    let error = spec::load_topology(&file).expect_err("an experiment").to_string();
    assert!(error.contains("x.yaml:6:3: this is an experiment, not a topology"), "{error}");
}

/// Not by the clock, but by what would be far too much of it.
#[test]
fn many_mistakes_are_counted_and_many_steps_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let many = |step: &str, n: usize| {
        let head = EXPERIMENT.split("timeline:").next().unwrap();
        let steps: String =
            (0..n).map(|i| format!("  - {{{}}}\n", step.replace('N', &i.to_string()))).collect();
        format!("{head}timeline:\n{steps}")
    };
    let wrong = many("at: 1s, kill: {node: nobodyN}", 10_000);
    let error = load(folder.path(), &wrong, TOPOLOGY).expect_err("10,000 mistakes").to_string();
    assert_eq!(error.matches("there is no node `nobody").count(), 20);
    assert!(error.ends_with("… and 9980 more problems"), "{error}");
    let good = many("at: 1s, link_up: {link: switch--router}", 20_000);
    let plan = load(folder.path(), &good, TOPOLOGY).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(plan.variants[0].timeline.len(), 20_000);
    let chain = many("after: sN, name: tN, link_up: {link: switch--router}", 2)
        .replace("after: s0", "at: 1s");
    let chain = chain.replace("after: s1", "after: t0");
    load(folder.path(), &chain, TOPOLOGY).unwrap_or_else(|e| panic!("{e}"));
    let too_many = many("at: 1s, link_up: {link: switch--router}", 100_001);
    let error = load(folder.path(), &too_many, TOPOLOGY).expect_err("too many").to_string();
    assert!(error.contains("a list has more than 100000 elements"), "{error}");
}
