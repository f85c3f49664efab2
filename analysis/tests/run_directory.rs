//! Whole run directories: complete, in pieces, and damaged.

#[expect(dead_code, reason = "shared with the other tests, which use all of it")]
mod paper_like;

use limosa_analysis::{Analysis, analyse, compare};
use limosa_record::{
    dir::RunDir,
    row::{self, ClientRow, ModelRow, RequestRow, RowFile, SummaryRow, TrialRow},
};
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
    variant,metric,n,mean,median,min,max,p05,p95,ci95_low,ci95_high,baseline,trials,failed,suspect,all_n,all_mean,valid_n,valid_mean,valid_ci95_low,valid_ci95_high
    q,turnaround_s,5,2.8,3.0,1.0,5.0,1.0,4.8,1.4,4.2,,6,1,1,6,169.0,4,3.25,,
    one,turnaround_s,1,2.0,2.0,2.0,2.0,2.0,2.0,,,,1,0,0,1,2.0,1,2.0,,
    one - q,turnaround_s,1,-1.0,-1.0,-1.0,-1.0,-1.0,-1.0,,,q,1,0,0,1,-1.0,1,-1.0,,
    ");
    let counts: Vec<_> = analysis.variants.iter().map(|v| (v.ok, v.failed, v.suspect)).collect();
    assert_eq!(counts, [(5, 1, 1), (1, 0, 0)]);
    assert_eq!(row::read::<SummaryRow>(&run.summary()).unwrap(), analysis.summary);
}

#[test]
fn the_dated_page_holds_medians_and_ranges() {
    let (_folder, run) = folder();
    let mut trials = [trial("q", 1, Some(3.0)), trial("q", 2, Some(1.0)), trial("a|b", 1, None)];
    trials[0].started_utc = "2026-11-28T01:02:03Z".into();
    write_trials(&run, &trials);
    analyse(&run).unwrap();
    insta::assert_snapshot!(fs::read_to_string(run.measured()).unwrap(), @r"
    # Limosa run, measured on 2026-11-28

    3 trials of 2 variants: 2 ok, 1 failed, 0 suspect.

    `limosa report` wrote this page from the rows of one run. Each cell is a median over the trials that are ok, followed by [the smallest–the largest value].

    | variant | ok / failed / suspect | turnaround (s) |
    |---|---|---|
    | `q` | 2 / 0 / 0 | 2.00 [1.00–3.00] |
    | `a\|b` | 0 / 1 / 0 | – |
    ");
}

#[test]
fn the_clients_of_a_server_are_points_of_a_figure() {
    let (_folder, run) = folder();
    write_trials(&run, &[trial("crowd", 1, Some(9.0)), trial("crowd", 2, None)]);
    let mut clients = RowFile::append(&run.clients()).unwrap();
    let row = |repetition, client, resume_delay_s| ClientRow {
        variant: "crowd".into(),
        repetition,
        client: Some(client),
        resume_delay_s,
        ..ClientRow::default()
    };
    for row in [row(1, 1, Some(0.25)), row(1, 2, Some(0.5)), row(1, 3, None), row(2, 1, Some(7.0))]
    {
        clients.write(&row).unwrap();
    }
    let analysis = analyse(&run).unwrap();
    let name = "resume-delay-of-clients.svg";
    assert!(analysis.figures.iter().any(|f| f.ends_with(name)), "{:?}", analysis.figures);
    // Those of failed trials and those that never waited are no points.
    assert!(report(&run).contains("2 clients in all"));
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
            "throughput-multipath-migrate.svg",
            "lanes-quic-migrate.svg",
            "lanes-multipath-migrate.svg",
            "phases.svg",
            "stall.svg",
            "resume-delay.svg",
            "rtt.svg",
        ]
    );
    // The two that migrate have a second picture.
    assert_eq!(page.matches("<svg").count(), figures.len() + 2);
    let words = [
        "nakano-2025",
        "checkpoint 10 s",
        "109.3 [105.8–114.2]",
        "44.46",
        "6.12.0",
        "two code bases",
        "eth0 → server-b",
        "href=\"trials/quic-none/1\"",
        "limosa run experiment.yaml",
    ];
    for word in words {
        assert!(page.contains(word), "{word} is missing");
    }
    assert!(page.matches("<script").count() == 1 && !page.contains("src="));
    // Names of XML are no addresses; there are no others.
    assert_eq!(page.matches("http").count(), page.matches("http://www.w3.org").count() + 1);
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
    let mut file = RowFile::append(&run.requests()).unwrap();
    file.write(&RequestRow {
        variant: "../<script>\u{1}&".into(),
        repetition: 1,
        request: 1,
        object: "<script>".into(),
        t_s: 1.0,
        response_s: Some(1.0),
        served_by: Some("<script>".into()),
        outcome: "ok".into(),
        first_byte_s: None,
        access: "read".into(),
        version: None,
        client: None,
    })
    .unwrap();
    let analysis = analyse(&run).unwrap();
    assert!(analysis.figures.iter().all(|p| p.parent() == Some(&run.figures())));
    // Turnaround, throughput, mean response, responses.
    assert_eq!(analysis.figures.len(), 4);
    assert_eq!(report(&run).matches("<script").count(), 1, "the page's own");
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

#[test]
fn responses_are_held_against_the_model() {
    let (_folder, run) = folder();
    paper_like::responses::write(&run).unwrap();
    let figures = analyse(&run).unwrap().figures;
    let models = figures.iter().filter(|f| f.to_string_lossy().contains("response-model"));
    // Far and near of the thesis, and two more of the sweep.
    assert_eq!(models.count(), 4);
    let rows: Vec<ModelRow> = row::read(&run.model_table()).unwrap();
    assert_eq!(rows.len(), 8 * 12);
    for whole in rows.iter().filter(|r| r.part == "all") {
        assert!(whole.n > 2000 && whole.difference_ratio.unwrap().abs() < 0.03, "{whole:?}");
    }
    let tenths = rows.iter().filter(|r| !["0", "all"].contains(&r.part.as_str()));
    assert!(tenths.filter(|r| r.inside != Some(true)).count() <= 3);
    assert!(report(&run).contains("Crossover"));
}

#[test]
fn two_runs_stand_side_by_side() {
    let [(_a, before), (_b, after)] = [folder(), folder()];
    let times = |by: f64| -> Vec<TrialRow> {
        let one = |i: u32| trial("q", i, Some(10.0 + f64::from(i % 5) * 0.1 + by));
        (1..=20).map(one).collect()
    };
    write_trials(&before, &times(0.0));
    write_trials(&after, &times(2.0));
    write_trials(&before, &[trial("gone", 1, Some(1.0))]);
    let told = compare(&[before.clone(), after.clone()]).unwrap();
    let row = told.rows.iter().find(|r| r.metric == "turnaround_s").unwrap();
    assert!((row.difference - 2.0).abs() < 1e-9 && row.differs == Some(true), "{row:?}");
    assert!(told.notes.iter().any(|n| n.ends_with(": gone")), "{:?}", told.notes);
    assert!(fs::read_to_string(after.comparison()).unwrap().contains("<svg"));
    assert!(after.comparison_table().exists() && !before.comparison().exists());
    let same = compare(&[before.clone(), before]).unwrap();
    assert_eq!(same.rows[0].differs, Some(false));
}

/// A comparison with itself once had to tell the two by their names.
#[test]
fn a_run_beside_itself_is_no_error() {
    let (_folder, run) = folder();
    write_trials(&run, &[trial("q", 1, Some(1.0))]);
    let told = compare(&[run.clone(), run]).unwrap();
    assert_eq!((told.runs.len(), told.rows[0].differs), (2, None));
}

#[test]
fn a_run_that_was_cut_off_says_of_how_many() {
    let (_folder, run) = folder();
    write_trials(&run, &[trial("q", 1, Some(1.0)), trial("q", 2, Some(2.0))]);
    let planned = vec![serde_json::json!({"variant": "q", "repetition": 1}); 72];
    fs::write(run.plan(), serde_json::json!({ "trials": planned }).to_string()).unwrap();
    let warnings = analyse(&run).unwrap().warnings;
    assert!(
        warnings.iter().any(|w| w.starts_with("trials.csv: 70 of 72 planned trials have no row")),
        "{warnings:?}"
    );
    let page = report(&run);
    assert!(page.contains("2 of 72 trials of 1 variant"), "{page}");
    // Two values have no interval, wherever it would stand.
    assert!(!page.contains("95 % interval") && !page.contains("mean and interval"));
}

/// Who reads that the transfer took two seconds looks for what was transferred.
#[test]
fn regression_a_wait_of_the_timeline_is_no_transfer() {
    let phases = |transfer: Option<&str>| {
        let (_folder, run) = folder();
        let moved = |repetition| TrialRow {
            scheme: "quic".into(),
            checkpoint_s: Some(0.1),
            transfer_s: Some(2.0),
            restore_s: Some(0.1),
            transfer: transfer.map(Into::into),
            ..trial("q-migrate", repetition, Some(9.0))
        };
        write_trials(&run, &[moved(1), moved(2)]);
        analyse(&run).unwrap();
        fs::read_to_string(run.figures().join("phases.svg")).unwrap() + &report(&run)
    };
    let (waited, carried) = (phases(None), phases(Some("rsync")));
    assert!(waited.contains("waited, as the timeline says: 2.00 s"));
    assert!(!waited.contains("transfer: 2.00 s") && !waited.contains("carrying it over"));
    assert!(carried.contains("transfer: 2.00 s") && carried.contains("carrying it over"));
    assert!(!carried.contains("waited, as the timeline says"));
}
