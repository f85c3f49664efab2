//! Run directories that are damaged in every way: what can be shown is shown, the rest is named, and
//! nothing panics.

#[expect(dead_code, reason = "shared with the other tests, which use all of it")]
mod paper_like;

use limosa_analysis::{analyse, compare};
use limosa_record::dir::RunDir;
use proptest::prelude::*;
use std::{fs, path::PathBuf};

fn folder() -> (tempfile::TempDir, RunDir) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::new(folder.path());
    (folder, run)
}

/// The files that an analysis reads.
const FILES: [fn(&RunDir) -> PathBuf; 8] = [
    RunDir::trials,
    RunDir::throughput,
    RunDir::events,
    RunDir::requests,
    RunDir::manifest,
    RunDir::plan,
    RunDir::reference,
    RunDir::model,
];

#[derive(Debug, Clone)]
enum Damage {
    Gone,
    /// So much of it is left.
    Cut(f64),
    /// So much of it is something else.
    Overwritten(f64, Vec<u8>),
    /// Another file of the run is there.
    Foreign(usize),
    Folder,
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = proptest::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        Just(Damage::Gone),
        (0.0..1.0).prop_map(Damage::Cut),
        (0.0..1.0, bytes).prop_map(|(at, bytes)| Damage::Overwritten(at, bytes)),
        (0..FILES.len()).prop_map(Damage::Foreign),
        Just(Damage::Folder),
    ]
}

fn wreck(run: &RunDir, file: usize, damage: &Damage) {
    let path = FILES[file](run);
    let mut content = fs::read(&path).unwrap_or_default();
    let at = |share: f64| (content.len() as f64 * share) as usize;
    match damage {
        Damage::Gone => content.clear(),
        Damage::Cut(share) => content.truncate(at(*share)),
        Damage::Overwritten(share, bytes) => {
            let (start, n) = (at(*share), bytes.len());
            let end = (start + n).min(content.len());
            content.splice(start..end, bytes.iter().copied());
        }
        Damage::Foreign(other) => content = fs::read(FILES[*other](run)).unwrap_or_default(),
        Damage::Folder => {}
    }
    if path.is_dir() {
        return;
    }
    let _ = fs::remove_file(&path);
    match damage {
        Damage::Gone => {}
        Damage::Folder => fs::create_dir(&path).unwrap(),
        _ => fs::write(&path, content).unwrap(),
    }
}

fn odd_number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|x| x.to_string()),
        (-10.0..1e4_f64).prop_map(|x| x.to_string()),
        Just(String::new()),
        Just("NaN".into()),
        "\\PC{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_whole_is_shown_and_the_rest_is_named(
        damages in proptest::collection::vec((0..FILES.len(), damage()), 1..4)
    ) {
        let (_folder, run) = folder();
        paper_like::write(&run, 2).unwrap();
        paper_like::responses::write_few(&run).unwrap();
        prop_assert_eq!(analyse(&run).unwrap().warnings, [""; 0]);
        for (file, damage) in &damages {
            wreck(&run, *file, damage);
        }
        let analysis = analyse(&run).unwrap();
        let page = fs::read_to_string(run.report()).unwrap();
        for (file, damage) in &damages {
            let path = FILES[*file](&run);
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let told = analysis.warnings.iter().any(|w| w.starts_with(&name));
            // Some runs have no requests, references and model.
            let needed = [0, 1, 2, 4, 5].contains(file);
            if path.is_dir() || needed && !path.exists() {
                prop_assert!(told, "{} is not named after {:?}: {:?}", name, damage, analysis.warnings);
            }
        }
        // A damaged rest does not take the whole trials with it.
        if damages.iter().all(|(file, _)| *file != 0) {
            prop_assert!(page.contains("multipath-migrate") && page.contains("turnaround time (s)"));
        }
        compare(&[run.clone(), run]).unwrap();
    }

    #[test]
    fn no_bytes_panic(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_folder, run) = folder();
        for file in FILES {
            fs::write(file(&run), &content).unwrap();
        }
        analyse(&run).unwrap();
    }

    #[test]
    fn no_values_panic(
        rows in proptest::collection::vec(("[ab<]{0,2}", odd_number(), odd_number(), odd_number(), any::<u64>()), 0..12)
    ) {
        let (_folder, run) = folder();
        let mut trials = csv::Writer::from_path(run.trials()).unwrap();
        let mut throughput = csv::Writer::from_path(run.throughput()).unwrap();
        let mut events = csv::Writer::from_path(run.events()).unwrap();
        let mut requests = csv::Writer::from_path(run.requests()).unwrap();
        let header = "experiment,variant,repetition,seed,status,scheme,turnaround_s,stall_s,restore_s,bytes,started_utc,folder";
        trials.write_record(header.split(',')).unwrap();
        throughput.write_record(["variant", "repetition", "path", "t_s", "interval_s", "bytes"]).unwrap();
        events.write_record(["variant", "repetition", "source", "event", "detail", "planned_ns", "started_ns", "done_ns"]).unwrap();
        requests.write_record(["variant", "repetition", "request", "object", "t_s", "response_s", "served_by", "outcome"]).unwrap();
        for (i, (variant, a, b, c, bytes)) in rows.iter().enumerate() {
            let (n, bytes) = (i.to_string(), bytes.to_string());
            let ns = (*bytes).parse::<u64>().map(|n| (n as i64).to_string()).unwrap_or_default();
            trials.write_record(["e", variant, &n, "1", "ok", "quic", a, b, c, &bytes, "", ""]).unwrap();
            throughput.write_record([variant, "1", b, a, c, &bytes]).unwrap();
            let kinds = ["handshake_started", "checkpoint", "restore", "gap", "probe", "path_established"];
            let source = if (1..3).contains(&(i % 6)) { "harness" } else { "client" };
            let detail = format!("path {n} from {a} to {b}");
            events.write_record([variant, &n, source, kinds[i % 6], &detail, "", &ns, ""]).unwrap();
            requests.write_record([variant, &n, &n, c, a, b, c, "ok"]).unwrap();
        }
        drop((trials, throughput, events, requests));
        analyse(&run).unwrap();
    }
}
