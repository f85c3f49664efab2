//! Random timelines that `plan` accepts, on this kernel: none fails for what it could have told.

#[path = "../timelines/generator.rs"]
mod generator;

use crate::machine::number;
use ::limosa::{
    plan,
    spec::{self, Document, Experiment, Topology},
};
use generator::{Allowed, Generator, Variant};
use limosa_record::{
    random::SplitMix64,
    row::{self, TrialRow},
};
use std::{fs, path::Path};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/casu-2022-dns.yaml");

/// What needs no other program, and five seconds.
const HERE: Allowed = Allowed {
    schemes: &[
        "quic",
        "multipath",
        "proactive",
        "reactive",
        "pool",
        "symmetric",
        "synchronized-symmetric",
        "dual-path",
        "post-copy",
    ],
    commands: false,
    bytes: false,
    steps: 5,
    until: 40,
};

/// Trials of one run, several at a time.
const BATCH: u64 = 10;

/// What depends on how the network and the client behave at the time, and on nothing in the file.
const NOT_THE_PLANS: [&str; 2] = ["sent nothing for", "no live connection"];

fn head() -> String {
    format!(
        "version: 1
topology: {TOPOLOGY}
repetitions: 1
time_limit: 90s
workload:
  requests: {{objects: {{count: 10, size: 1KB}}, arrivals: {{every: 50ms}}, duration: 9s}}
transport: {{key_log: true, ladder: fast, idle_timeout: 8s}}
"
    )
}

fn is_accepted(text: String, topology: &Document<Topology>) -> bool {
    let experiment: Document<Experiment> = spec::parse(Path::new("x.yaml"), text).expect("YAML");
    plan::resolve(&experiment, topology).is_ok()
}

/// `LIMOSA_TIMELINES` says how many.
fn timelines_that_are_accepted_run_here() {
    let wanted = number("LIMOSA_TIMELINES", 5);
    let topology = fs::read_to_string(TOPOLOGY).expect("the topology");
    let topology = spec::parse(Path::new(TOPOLOGY), topology).expect("a topology");
    let seed = number("LIMOSA_TIMELINES_SEED", 50);
    let mut generator = Generator { random: SplitMix64(seed), allowed: HERE };
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut done, mut names, mut wrong, mut others) = (0, 0, Vec::new(), Vec::new());
    while done < wanted {
        let mut batch: Vec<Variant> = Vec::new();
        while (batch.len() as u64) < BATCH.min(wanted - done) {
            let variant = generator.variant(&mut names);
            let moves =
                variant.steps.iter().any(|s| s.contains("restore") || s.contains("migrate"));
            let text = generator.text(&head(), std::slice::from_ref(&variant));
            if variant.expect.is_none() && moves && is_accepted(text, &topology) {
                batch.push(variant);
            }
        }
        done += batch.len() as u64;
        let text = generator.text(&head(), &batch);
        let name = format!("random-{done}");
        let (output, run) = crate::run_with(folder.path(), &name, &text, &["--jobs", "4"]);
        let trials: Vec<TrialRow> = row::read(&run.trials()).unwrap_or_default();
        assert_eq!(trials.len(), batch.len(), "{}", crate::text(&output));
        for trial in trials.iter().filter(|trial| trial.status != "ok") {
            let number: usize = trial.variant[1..].parse().expect("a number");
            let told = format!(
                "{} {}: {}\n{}",
                trial.status,
                batch[number].scheme,
                trial.reason.clone().unwrap_or_default(),
                batch[number].steps.join("\n")
            );
            let fault = !NOT_THE_PLANS.iter().any(|other| told.contains(other));
            if fault { wrong.push(told) } else { others.push(told) }
        }
    }
    println!(
        "{done} timelines ran; {} failed for what happened in the network:\n{}",
        others.len(),
        others.join("\n")
    );
    assert!(wrong.is_empty(), "{} of {done} failed:\n{}", wrong.len(), wrong.join("\n\n"));
}

limosa_testkit::tests![timelines_that_are_accepted_run_here,];
