//! Timelines that `plan` accepts run: random ones, on a lab of which the checks know nothing.
//!
//! A timeline that fails however long its actions take is one that `plan` should have refused.

mod generator;
mod world;

use generator::{Allowed, Generator};
use limosa::{
    plan::{self, Plan},
    spec::{self, Document, Experiment, Topology},
    trial::timeline,
};
use limosa_record::random::SplitMix64;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use world::World;

const ANY: Allowed = Allowed {
    schemes: &[
        "quic",
        "multipath",
        "proactive",
        "reactive",
        "pool",
        "symmetric",
        "synchronized-symmetric",
        "lookup",
        "mptcp-tunnel",
        "dual-path",
        "dual-path",
        "post-copy",
        "post-copy",
        "http",
    ],
    commands: true,
    bytes: true,
    steps: 6,
    until: 60,
};

/// Everything but variants, timeline and expectations.
fn head(scheme: &str, generator: &mut Generator) -> String {
    let below = |generator: &mut Generator, n| generator.random.below(n);
    let server = match scheme {
        "http" => {
            let address = ["", ", address: 10.1.0.77"][below(generator, 2) as usize];
            format!("{{on: server-a, role: server, command: [x], ready: {{tcp: 8080}}{address}}}")
        }
        _ => "{on: server-a, role: server}".to_owned(),
    };
    let other =
        ["", "  other: {on: server-b, command: [sleep, inf]}\n"][below(generator, 2) as usize];
    let dns = if scheme == "lookup" || below(generator, 2) == 0 { "dns: {on: dns}\n" } else { "" };
    let logged = ["", "transport: {key_log: true}\n"][below(generator, 2) as usize];
    format!(
        "version: 1\ntopology: net\nrepetitions: 1\ntime_limit: 60s\nnodes:\n  server: {server}\n  \
         client: {{on: client, role: client}}\n{other}{dns}{logged}workload: {{download: {{path: /x, size: 200KB}}}}\n"
    )
}

fn topology() -> Document<Topology> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies/casu-2022-dns.yaml");
    let text = fs::read_to_string(&file).unwrap();
    spec::parse(&file, text).unwrap()
}

fn resolve(text: &str, topology: &Document<Topology>) -> Result<Plan, spec::SpecError> {
    let experiment: Document<Experiment> = spec::parse(&PathBuf::from("x.yaml"), text.to_owned())
        .unwrap_or_else(|e| panic!("{e}\n{text}"));
    plan::resolve(&experiment, topology)
}

/// Runs the only variant of a plan; `slowness` is what an action takes at the most, in ms.
fn run(plan: &Plan, seed: u64, slowness: u64) -> Result<(), String> {
    let variant = &plan.variants[0];
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(plan, variant, seed, slowness).map_err(|e| format!("{e:#}"))?;
        let steps = timeline::drive(&variant.timeline, 0, &world, |_| {}).await;
        steps.map_err(|e| format!("{e:#}"))?;
        world.end().map_err(|e| format!("{e:#}"))
    })
}

/// How long actions take at the most, in ms: from nothing to more than between most steps.
const SLOWNESS: [u64; 5] = [1, 30, 200, 1000, 4000];

/// What else is tried before a timeline counts as one that cannot run: so many times, up to so slow.
const MORE: u64 = 200;
const SLOWEST: u64 = 12_000;

fn accepted_timelines_run(wanted: usize) {
    let topology = topology();
    let mut generator = Generator { random: SplitMix64(14), allowed: ANY };
    let (mut tried, mut accepted, mut sometimes) = (0_u64, 0, 0);
    let mut by_action: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong: Vec<String> = Vec::new();
    while accepted < wanted {
        tried += 1;
        let mut names = 0;
        let variant = generator.variant(&mut names);
        let head = head(variant.scheme, &mut generator);
        let text = generator.text(&head, &[variant]);
        let Ok(plan) = resolve(&text, &topology) else { continue };
        accepted += 1;
        plan.variants[0]
            .timeline
            .iter()
            .for_each(|s| *by_action.entry(s.action.name()).or_default() += 1);
        let runs = SLOWNESS.map(|slowness| run(&plan, tried, slowness));
        let failed = runs.iter().filter_map(|run| run.as_ref().err()).collect::<Vec<_>>();
        sometimes += usize::from(!failed.is_empty() && failed.len() < SLOWNESS.len());
        // Some work only where the client is as slow as a rare network is.
        let at_all = || (0..MORE).any(|n| run(&plan, n, SLOWEST * (n % 4 + 1) / 4).is_ok());
        if failed.len() == SLOWNESS.len() && !at_all() {
            wrong.push(format!("number {tried}: {failed:?}\n{text}"));
        }
    }
    println!(
        "{accepted} of {tried} timelines accepted, {} fail always, {sometimes} for some durations; actions: {by_action:?}",
        wrong.len()
    );
    let shown = wrong[..wrong.len().min(5)].join("\n");
    assert!(wrong.is_empty(), "{} of {accepted} cannot run, the first ones:\n{shown}", wrong.len());
    for verb in spec::Verb::ALL.iter().filter(|verb| **verb != spec::Verb::Relocate) {
        assert!(by_action.contains_key(verb.name()), "no accepted timeline has `{}`", verb.name());
    }
}

#[test]
fn a_timeline_that_is_accepted_runs() {
    accepted_timelines_run(300);
}

#[test]
#[ignore = "takes a while; the night runs it"]
fn two_thousand_timelines_that_are_accepted_run() {
    accepted_timelines_run(2_000);
}
