//! Several runs side by side: did a change make a difference?
//!
//! Input: run directories; the first is what the others are compared with. Output: [`Comparison`], and
//! in the last run's directory `comparison.csv` and `comparison.html`. Trials of two runs have nothing
//! in common but the variant, so each run is resampled on its own ([`stats::difference_ci95`]).

mod page;

use crate::{input::Input, number, report, stats, write_rows};
use limosa_record::{
    dir::{RunDir, write_whole},
    row::ComparisonRow,
    text,
};
use std::{collections::BTreeMap, fs};

/// Runs side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Names of the runs, the first one being what the others are compared with.
    pub runs: Vec<String>,
    /// One per run but the first, variant and metric that both runs have.
    pub rows: Vec<ComparisonRow>,
    /// What is not the same in the runs' manifests and plans: what, then one value per run.
    pub changes: Vec<(String, Vec<String>)>,
    /// What could not be compared, one sentence each.
    pub notes: Vec<String>,
}

/// Changes that are listed.
const MOST_CHANGES: usize = 40;
/// What differs between any two runs.
const ALWAYS: [&str; 2] = ["started_utc", "command"];

/// Compares runs and writes `comparison.csv` and `comparison.html` into the last one.
///
/// # Errors
/// Only when these cannot be written: whatever is missing or broken in a run is a note.
pub fn compare(runs: &[RunDir]) -> anyhow::Result<Comparison> {
    let inputs: Vec<Input> = runs.iter().map(Input::read).collect();
    let names = names(runs);
    let mut notes = Vec::new();
    for (name, input) in names.iter().zip(&inputs) {
        notes.extend(input.warnings.iter().map(|w| format!("{name}: {w}")));
    }
    let mut rows = Vec::new();
    if let Some((first, others)) = inputs.split_first() {
        for (input, name) in others.iter().zip(&names[1..]) {
            rows.extend(rows_of((&names[0], first), (name, input)));
            notes.extend(alone((&names[0], first), (name, input)));
        }
    }
    let comparison = Comparison { changes: changes(&inputs), runs: names, rows, notes };
    if let Some(last) = runs.last() {
        write_rows(&last.comparison_table(), &comparison.rows)?;
        let page = page::page(&comparison, &inputs);
        write_whole(&last.comparison(), text::visible(&page).as_bytes())?;
    }
    Ok(comparison)
}

/// The last part of each path, or as much of the paths as tells them apart.
fn names(runs: &[RunDir]) -> Vec<String> {
    let real =
        |run: &RunDir| fs::canonicalize(run.root()).unwrap_or_else(|_| run.root().to_owned());
    let last = |parts: usize| -> Vec<String> {
        let name = |run: &RunDir| {
            let path = real(run);
            let mut words: Vec<_> = path.iter().rev().take(parts).collect();
            words.reverse();
            words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join("/")
        };
        runs.iter().map(name).collect()
    };
    let apart = |names: &Vec<String>| {
        let all: std::collections::HashSet<_> = names.iter().collect();
        all.len() == names.len()
    };
    // The same run twice has no two names; then it is told by its whole path.
    (2..6).map(last).find(apart).unwrap_or_else(|| last(usize::MAX))
}

type Run<'a> = (&'a String, &'a Input);

fn values(input: &Input, variant: &str, metric: &str) -> Vec<f64> {
    input.of(variant).filter(|t| t.is_ok()).filter_map(|t| t.number(metric)).collect()
}

fn rows_of((base_name, base): Run<'_>, (name, input): Run<'_>) -> Vec<ComparisonRow> {
    let mut rows = Vec::new();
    for variant in base.variants() {
        for metric in &base.metrics {
            let (a, b) = (values(base, &variant, metric), values(input, &variant, metric));
            let Some((was, is)) = stats::mean(&a).zip(stats::mean(&b)) else { continue };
            let (ci_a, ci_b) = (stats::mean_ci95(&a), stats::mean_ci95(&b));
            let difference = stats::difference_ci95(&b, &a);
            // Sums of the same numbers in another order differ in their last digits.
            let nothing = 1e-9 * was.abs().max(is.abs());
            rows.push(ComparisonRow {
                variant: variant.clone(),
                metric: metric.clone(),
                baseline_run: base_name.clone(),
                run: name.clone(),
                baseline_n: a.len() as u64,
                baseline_mean: was,
                baseline_ci95_low: ci_a.map(|ci| ci.0),
                baseline_ci95_high: ci_a.map(|ci| ci.1),
                n: b.len() as u64,
                mean: is,
                ci95_low: ci_b.map(|ci| ci.0),
                ci95_high: ci_b.map(|ci| ci.1),
                difference: is - was,
                difference_ci95_low: difference.map(|ci| ci.0),
                difference_ci95_high: difference.map(|ci| ci.1),
                differs: difference.map(|(low, high)| low > nothing || high < -nothing),
            });
        }
    }
    rows
}

/// Variants that only one of two runs has.
fn alone((base_name, base): Run<'_>, (name, input): Run<'_>) -> Vec<String> {
    let (a, b) = (base.variants(), input.variants());
    let only = |these: &[String], others: &[String], run: &str| {
        let only: Vec<_> =
            these.iter().filter(|v| !others.contains(v)).map(String::as_str).collect();
        (!only.is_empty()).then(|| {
            format!("{} only in {run}: {}", number::count(only.len(), "variant"), only.join(", "))
        })
    };
    [only(&a, &b, base_name), only(&b, &a, name)].into_iter().flatten().collect()
}

fn changes(inputs: &[Input]) -> Vec<(String, Vec<String>)> {
    let mut found: BTreeMap<(usize, String), Vec<Option<String>>> = BTreeMap::new();
    for (i, input) in inputs.iter().enumerate() {
        for (file, value) in [&input.manifest, &input.plan].into_iter().enumerate() {
            let mut lines = Vec::new();
            report::leaves(value, "", &mut lines);
            let word = |key: &str| key.split(' ').next().unwrap_or_default().to_owned();
            // The list of trials follows from the rest of the plan.
            let passes = |word: &str| !ALWAYS.contains(&word) && (file, word) != (1, "trials");
            let kept = lines.into_iter().filter(|(key, _)| passes(&word(key)));
            for (key, value) in kept {
                let values = found.entry((file, key)).or_insert_with(|| vec![None; inputs.len()]);
                values[i] = Some(value);
            }
        }
    }
    let differs = |values: &Vec<Option<String>>| values.iter().any(|v| *v != values[0]);
    let shown = |((_, key), values): ((usize, String), Vec<Option<String>>)| {
        (key, values.into_iter().map(|v| v.unwrap_or_else(|| "–".into())).collect())
    };
    found.into_iter().filter(|(_, v)| differs(v)).map(shown).take(MOST_CHANGES).collect()
}
