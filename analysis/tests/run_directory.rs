//! Whole run directories: complete, in pieces, and damaged.

mod paper_like;

use limosa_analysis::{Analysis, analyse};
use limosa_record::{
    dir::RunDir,
    row::{self, RowFile, SummaryRow, TrialRow},
};
use proptest::prelude::*;
use std::fs;

fn folder() -> (tempfile::TempDir, RunDir) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::new(folder.path());
    (folder, run)
}

fn report(run: &RunDir) -> String {
    fs::read_to_string(run.report()).unwrap()
}

fn trial(variant: &str, repetition: u32, turnaround_s: Option<f64>) -> TrialRow {
    TrialRow {
        variant: variant.into(),
        repetition,
        status: if turnaround_s.is_some() { "ok" } else { "failed" }.into(),
        turnaround_s,
        ..TrialRow::default()
    }
}

fn write_trials(run: &RunDir, trials: &[TrialRow]) {
    let mut file = RowFile::append(&run.trials()).unwrap();
    trials.iter().for_each(|t| file.write(t).unwrap());
}

#[test]
fn summary_holds_ok_trials_and_known_metrics_only() {
    let (_folder, run) = folder();
    let trials = [3.0, 1.0, 4.0, 1.0, 5.0].iter().zip(1..).map(|(s, r)| trial("q", r, Some(*s)));
    let mut trials: Vec<_> =
        trials.chain([trial("q", 6, None), trial("one", 1, Some(2.0))]).collect();
    trials[5].turnaround_s = Some(1000.0);
    trials[1].verdict = Some("suspect".into());
    write_trials(&run, &trials);
    let analysis = analyse(&run).unwrap();
    insta::assert_snapshot!(fs::read_to_string(run.summary()).unwrap(), @"
    variant,metric,n,mean,median,min,max,p05,p95,ci95_low,ci95_high
    q,turnaround_s,5,2.8,3.0,1.0,5.0,1.0,4.8,1.4,4.2
    one,turnaround_s,1,2.0,2.0,2.0,2.0,2.0,2.0,,
    ");
    let counts: Vec<_> = analysis.variants.iter().map(|v| (v.ok, v.failed, v.suspect)).collect();
    assert_eq!(counts, [(5, 1, 1), (1, 0, 0)]);
    assert_eq!(row::read::<SummaryRow>(&run.summary()).unwrap(), analysis.summary);
}

#[test]
fn a_whole_run_is_shown_and_gives_the_same_bytes_again() {
    let (_folder, run) = folder();
    paper_like::write(&run, 3).unwrap();
    let first = analyse(&run).unwrap();
    let page = report(&run);
    assert_eq!(first.warnings, [""; 0]);
    let figures: Vec<_> = first.figures.iter().map(|p| p.file_name().unwrap()).collect();
    assert_eq!(
        figures,
        [
            "turnaround.svg",
            "throughput-quic-none.svg",
            "throughput-multipath-none.svg",
            "throughput-quic-migrate.svg",
            "throughput-multipath-migrate.svg"
        ]
    );
    assert_eq!(page.matches("<svg").count(), 5);
    for word in ["nakano-2025", "checkpoint 10 s", "109.3 [105.8–114.2]", "44.46", "6.12.0"] {
        assert!(page.contains(word), "{word} is missing");
    }
    assert!(!page.contains("<script") && !page.contains("src="));
    assert_eq!(analyse(&run).unwrap(), first);
    assert_eq!(report(&run), page);
}

#[test]
fn excess_compares_a_variant_with_its_sibling() {
    let (_folder, run) = folder();
    let times = [("a-migrate-late", 9.0), ("a-none", 4.0), ("b-migrate", 1.0), ("c-none", 1.0)];
    write_trials(&run, &times.map(|(variant, s)| trial(variant, 1, Some(s))));
    let excesses = analyse(&run).unwrap().excesses;
    let told: Vec<_> =
        excesses.iter().map(|e| (e.variant.as_str(), e.baseline.as_str(), e.mean_s)).collect();
    assert_eq!(told, [("a-migrate-late", "a-none", 5.0)]);
}

#[test]
fn every_file_may_be_missing() {
    let files =
        [RunDir::trials, RunDir::throughput, RunDir::events, RunDir::manifest, RunDir::plan];
    for missing in files {
        let (_folder, run) = folder();
        paper_like::write(&run, 2).unwrap();
        fs::remove_file(missing(&run)).unwrap();
        let Analysis { warnings, variants, .. } = analyse(&run).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].ends_with(": missing") && report(&run).contains(&warnings[0]));
        assert_eq!(variants.len(), 4);
    }
}

#[test]
fn every_file_may_be_cut_off() {
    let (_folder, run) = folder();
    paper_like::write(&run, 1).unwrap();
    for path in [run.trials(), run.throughput(), run.events(), run.manifest(), run.plan()] {
        let content = fs::read(&path).unwrap();
        fs::write(&path, &content[..content.len() * 2 / 3]).unwrap();
        analyse(&run).unwrap();
    }
    assert!(report(&run).contains("not JSON"));
}

#[test]
fn names_from_files_do_not_become_markup_or_paths() {
    let (_folder, run) = folder();
    write_trials(&run, &[trial("../<script>\u{1}&", 1, Some(1.0))]);
    let throughput =
        "variant,repetition,path,t_s,interval_s,bytes\n../<script>\u{1}&,1,<b>,0,1,9\n";
    fs::write(run.throughput(), throughput).unwrap();
    let analysis = analyse(&run).unwrap();
    assert!(analysis.figures.iter().all(|p| p.parent() == Some(&run.figures())));
    assert!(analysis.figures.len() == 2 && !report(&run).contains("<script"));
}

/// An axis up to 1e300 Mbit/s made the search for its ticks run for ever.
#[test]
fn regression_endless_axis() {
    let (_folder, run) = folder();
    let throughput =
        "variant,repetition,path,t_s,interval_s,bytes\nq,1,e,0,1e-300,9\nq,1,e,0,1,9\n";
    fs::write(run.throughput(), throughput).unwrap();
    let analysis = analyse(&run).unwrap();
    assert_eq!(analysis.figures.len(), 1);
    assert!(analysis.warnings.iter().any(|w| w.contains("1 row left out of the figures")));
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
    fn no_bytes_panic(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_folder, run) = folder();
        fs::write(run.trials(), &content).unwrap();
        fs::write(run.plan(), &content).unwrap();
        analyse(&run).unwrap();
    }

    #[test]
    fn no_values_panic(
        rows in proptest::collection::vec(("[ab<]{0,2}", odd_number(), odd_number(), odd_number(), any::<u64>()), 0..12)
    ) {
        let (_folder, run) = folder();
        let mut trials = csv::Writer::from_path(run.trials()).unwrap();
        let mut throughput = csv::Writer::from_path(run.throughput()).unwrap();
        let header = "experiment,variant,repetition,seed,status,scheme,turnaround_s,stall_s,bytes,started_utc,folder";
        trials.write_record(header.split(',')).unwrap();
        throughput.write_record(["variant", "repetition", "path", "t_s", "interval_s", "bytes"]).unwrap();
        for (i, (variant, a, b, c, bytes)) in rows.iter().enumerate() {
            let (n, bytes) = (i.to_string(), bytes.to_string());
            trials.write_record(["e", variant, &n, "1", "ok", "quic", a, b, &bytes, "", ""]).unwrap();
            throughput.write_record([variant, "1", b, a, c, &bytes]).unwrap();
        }
        drop((trials, throughput));
        analyse(&run).unwrap();
    }
}
