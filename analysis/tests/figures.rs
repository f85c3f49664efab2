//! The numbers of the figures are those of the tables.

mod held;
#[expect(dead_code, reason = "other tests use the rest")]
mod paper_like;

use limosa_analysis::analyse;
use limosa_record::dir::RunDir;
use std::path::PathBuf;

/// Analyses a run and holds its figures against its tables.
fn check(run: &RunDir) -> held::Held {
    analyse(run).unwrap_or_else(|e| panic!("{}: {e:#}", run.root().display()));
    let held = held::hold(run);
    let wrong = held.wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{}, {} wrong:\n{wrong}", run.root().display(), held.wrong.len());
    held
}

#[test]
fn figures_of_a_made_up_run_are_its_tables() {
    let folder = tempfile::tempdir().unwrap();
    for repetitions in [1, 4, 20] {
        let run = RunDir::new(folder.path().join(repetitions.to_string()));
        paper_like::write(&run, repetitions).unwrap();
        let held = check(&run);
        assert!(held.figures >= 12 && held.areas >= 4, "{held:?}");
    }
}

#[test]
fn figures_of_made_up_responses_are_their_tables() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::new(folder.path());
    paper_like::responses::write(&run).unwrap();
    let held = check(&run);
    assert!(held.figures >= 8 && held.numbers > 5000, "{held:?}");
}

/// `LIMOSA_RUNS=results/a/latest:results/b/latest cargo test … -- --ignored --nocapture`
#[test]
#[ignore = "needs run directories in LIMOSA_RUNS, separated by colons"]
fn figures_of_these_runs_are_their_tables() {
    let named = std::env::var("LIMOSA_RUNS").unwrap_or_default();
    let runs: Vec<PathBuf> = std::env::split_paths(&named).collect();
    assert!(!runs.is_empty(), "LIMOSA_RUNS names no run");
    for run in runs {
        let held::Held { figures, numbers, areas, .. } = check(&RunDir::new(&run));
        println!("{}: {figures} figures, {numbers} numbers, {areas} areas", run.display());
    }
}

/// A check that finds nothing wrong must be able to find something.
#[test]
fn a_number_that_is_not_in_the_tables_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::new(folder.path());
    paper_like::write(&run, 2).unwrap();
    check(&run);
    for name in ["throughput-quic-none", "turnaround", "phases", "lanes-multipath-migrate", "stall"]
    {
        let file = run.figures().join(format!("{name}.csv"));
        let text = std::fs::read_to_string(&file).unwrap();
        // The first digit of the last number of a line in the middle.
        let end = text.len() / 2 + text[text.len() / 2..].find('\n').unwrap();
        let at = text[..end].rfind(',').unwrap() + 1;
        let digit = if &text[at..=at] == "8" { "7" } else { "8" };
        let planted = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
        std::fs::write(&file, planted).unwrap();
        assert!(!held::hold(&run).wrong.is_empty(), "{name}");
        std::fs::write(&file, text).unwrap();
    }
    assert!(held::hold(&run).wrong.is_empty());
}
