//! A server that moves by each technique for its memory, in the guest, whose kernel can do all of them.

use limosa_record::{
    dir::RunDir,
    row::{self, TrialRow},
};
use std::{fs, process::Command};

const TOPOLOGY: &str = include_str!("../../../topologies/nakano-2025-wan.yaml");

/// Small, because a guest may be emulated.
const EXPERIMENT: &str = "version: 1
topology: topology.yaml
repetitions: 1
time_limit: 120s
workload: {download: {path: /random, size: 8MB}}
transport: {profile: paper-2025, idle_timeout: 60s, ladder: fast}
variants:
  pre-copy: {scheme: multipath, ballast: {size: 8MB, dirty: 400kbit/s}}
  post-copy: {scheme: multipath, ballast: {size: 8MB}}
  hybrid: {scheme: multipath, ballast: {size: 8MB}}
timeline:
  - after: connected + 200ms
    announce: {node: server, to: server-b}
    name: announced
  - after: announced + 500ms
    migrate: {node: server, to: server-b, technique: pre-copy, transfer: page-server, rounds: 2}
    only: [pre-copy]
  - after: announced + 500ms
    migrate: {node: server, to: server-b, technique: post-copy, transfer: stream}
    only: [post-copy]
  - after: announced + 500ms
    migrate: {node: server, to: server-b, technique: hybrid, transfer: stream}
    only: [hybrid]
";

fn a_downloading_server_moves_by_each_technique() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
    write("topology.yaml", TOPOLOGY).and(write("x.yaml", EXPERIMENT)).expect("write the files");
    let output = Command::new(crate::criu::program())
        .args(["run", "x.yaml", "--on", "host"])
        .current_dir(folder.path())
        .output()
        .expect("start limosa");
    let text = [output.stdout, output.stderr].concat();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&text));
    let run = RunDir::new(folder.path().join("results/x/latest"));
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    let ballast = 8_000_000 / 4096;
    for trial in &trials {
        assert_eq!((&*trial.status, trial.body_matches), ("ok", Some(true)), "{:?}", trial.reason);
        assert_eq!(
            (trial.reconnects, trial.technique.as_deref()),
            (Some(0), Some(&*trial.variant))
        );
        assert_eq!(trial.links, "kernel", "the guest's kernel has netem");
        println!("{trial:?}");
    }
    let of = |name: &str| trials.iter().find(|t| t.variant == name).expect("a row");
    let first = |trial: &TrialRow| {
        let pages = trial.round_pages.as_deref().and_then(|p| p.split(' ').next()?.parse().ok());
        pages.unwrap_or(0_u64)
    };
    let pre = of("pre-copy");
    assert!(pre.rounds == Some(2) && first(pre) > ballast, "{pre:?}");
    // The server's own memory may change altogether and grow, the ballast does not.
    let few = |pages: Option<u64>| pages.is_some_and(|pages| (1..ballast).contains(&pages));
    assert!(few(pre.dumped_pages) && pre.skipped_pages > Some(ballast * 9 / 10), "{pre:?}");
    let post = of("post-copy");
    assert!(post.lazy_pages > Some(ballast) && post.lazy_faults_pages > Some(0), "{post:?}");
    let hybrid = of("hybrid");
    assert!(hybrid.rounds == Some(1) && first(hybrid) > ballast, "{hybrid:?}");
    assert!(few(hybrid.lazy_pages), "{hybrid:?}");
}

limosa_testkit::tests![a_downloading_server_moves_by_each_technique[inside, compared],];
