//! What is fuzzed: everything that reads what somebody else has written, from bytes to the answer or
//! the refusal. Nothing here may panic, hang or take memory without bound.
//!
//! `seeds/TARGET/` has a small start for each, and whatever was ever found: `cargo test -p limosa --test
//! seeds` replays all of it. To look for more, with nightly Rust, a C++ compiler and cargo-fuzz:
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir harness/fuzz plan harness/fuzz/corpus/plan harness/fuzz/seeds/plan experiments
//! ```

use limosa::{
    plan,
    spec::{self, Document, Experiment, Links, Topology},
};
use limosa_lab::sys::netlink::Answers;
use limosa_record::{
    dir::RunDir,
    row::{
        self, EventRow, NodeEventRow, NodeRequestRow, RequestRow, SummaryRow, ThroughputRow,
        TrialRow,
    },
};
use std::{fs, path::Path};

/// Begins the topology in a plan's input, and each file in a report's.
const MARK: &str = "\n%%% ";

/// The network of an experiment that comes without one.
const TOPOLOGIES: [(&str, &str); 4] = [
    ("nakano-2025", include_str!("../../../topologies/nakano-2025.yaml")),
    ("amio-2023", include_str!("../../../topologies/amio-2023.yaml")),
    ("amio-2023-servers", include_str!("../../../topologies/amio-2023-servers.yaml")),
    ("nakano-2025-wan", include_str!("../../../topologies/nakano-2025-wan.yaml")),
];

/// A text as an experiment and as a topology.
pub fn spec(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let told = [
        spec::parse::<Experiment>(Path::new("x.yaml"), text.to_string()).map(drop),
        spec::parse::<Topology>(Path::new("x.yaml"), text.into()).map(drop),
    ];
    for error in told.into_iter().filter_map(Result::err) {
        assert!(error.to_string().starts_with("x.yaml:"), "{error}");
    }
}

/// An experiment with the topology that follows it or that it names.
pub fn plan(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (experiment, own) = text.split_once(MARK).map_or((&*text, None), |(a, b)| (a, Some(b)));
    let experiment: Result<Document<Experiment>, _> =
        spec::parse(Path::new("x.yaml"), experiment.into());
    let wanted = experiment.as_ref().map_or("", |e| &*e.value.topology);
    let known = TOPOLOGIES.iter().find(|(name, _)| *name == wanted).unwrap_or(&TOPOLOGIES[0]).1;
    let topology = own.unwrap_or(known).to_owned();
    let Ok(topology) = spec::parse::<Topology>(Path::new("net.yaml"), topology) else { return };
    if let Ok(experiment) = experiment {
        match plan::resolve(&experiment, &topology) {
            Ok(plan) => drop((plan.bytes(), plan.needs_criu(), plan.needs_user_links())),
            Err(error) => assert!(!error.0.is_empty() && !error.to_string().is_empty()),
        }
    } else if let Err(error) = plan::resolve_topology(&topology, Links::Auto) {
        assert!(!error.0.is_empty() && !error.to_string().is_empty());
    }
}

/// A recorded link.
pub fn trace(bytes: &[u8]) {
    if let Ok(trace) = spec::parse_trace(Path::new("x"), bytes.to_vec()) {
        assert!(trace.opportunities_ms.is_sorted());
        assert!(trace.opportunities_ms.last().is_some_and(|last| *last > 0));
    }
}

/// A CSV file, as rows of each kind.
pub fn rows(bytes: &[u8]) {
    drop(row::parse::<TrialRow>(bytes));
    drop(row::parse::<ThroughputRow>(bytes));
    drop(row::parse::<EventRow>(bytes));
    drop(row::parse::<RequestRow>(bytes));
    drop(row::parse::<SummaryRow>(bytes));
    drop(row::parse::<NodeEventRow>(bytes));
    drop(row::parse::<NodeRequestRow>(bytes));
}

/// Files of a run directory, each behind its name: the whole analysis of them.
pub fn report(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let folder = tempfile::tempdir().expect("a folder");
    let run = RunDir::new(folder.path());
    for file in text.split(MARK) {
        let (name, content) = file.split_once('\n').unwrap_or((file, ""));
        let path = match name.trim_start_matches("%%% ") {
            "throughput" => run.throughput(),
            "events" => run.events(),
            "requests" => run.requests(),
            "reference" => run.reference(),
            "plan" => run.plan(),
            "manifest" => run.manifest(),
            _ => run.trials(),
        };
        fs::write(path, content).expect("write a file");
    }
    limosa_analysis::analyse(&run).expect("only what cannot be written is an error");
}

/// What the kernel may answer.
pub fn netlink(bytes: &[u8]) {
    for answer in Answers(bytes) {
        let Ok(answer) = answer else { continue };
        drop(answer.error());
        drop(answer.content());
    }
}
