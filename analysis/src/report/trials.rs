//! Every trial: what went wrong with it if anything did, its verdict, and links to what it left.

use super::statement;
use crate::{
    input::{Input, Trial, is_below},
    number,
};
use maud::{Markup, html};
use std::{fs, path::Path};

/// Trials that are shown without a click.
const OPEN: usize = 120;
/// Trials that are listed; all are in trials.csv.
const MOST_LISTED: usize = 2000;
/// Trials that are listed with what went wrong with them.
const MOST_PROBLEMS: usize = 400;
/// Links of one trial.
const MOST_LINKS: usize = 8;
/// Folders below a trial's that are looked into.
const DEPTH: usize = 3;

pub(super) fn problems(input: &Input) -> Markup {
    let bad = |t: &&Trial| !t.is_ok() || t.is_suspect();
    let rows: Vec<_> = (input.trials.iter().filter(bad).map(|t| (t, false)))
        .chain(input.superseded.iter().map(|t| (t, true)))
        .collect();
    html! {
        @if !input.trials.is_empty() { h2 { "Failed and suspect trials" } }
        @if rows.is_empty() && !input.trials.is_empty() {
            p { "None: every trial is ok, and none is suspect." }
        }
        @if !rows.is_empty() {
            div.scroll { table {
                thead { tr {
                    th { "variant" } th.num { "repetition" } th { "status" } th { "reason" }
                    th { "folder" }
                } }
                tbody { @for (trial, superseded) in rows.iter().take(MOST_PROBLEMS) { tr {
                    @let r = &trial.row;
                    th { (r.variant) }
                    td.num { (r.repetition) }
                    td {
                        (verdict(trial))
                        @if *superseded { small { "run again later" } }
                    }
                    td {
                        @for reason in [&r.reason, &r.verdict_reason].into_iter().flatten() {
                            div { (reason) }
                        }
                    }
                    td { (link(&r.folder, &r.folder)) }
                } } }
            } }
            (more(rows.len(), MOST_PROBLEMS))
        }
    }
}

/// Where the rows are that are not listed.
fn more(all: usize, listed: usize) -> Markup {
    let rest = all.saturating_sub(listed);
    html! {
        @if rest > 0 { p.note { (number::count(rest, "more trial")) " in " a href="trials.csv" { "trials.csv" } "." } }
    }
}

fn verdict(trial: &Trial) -> Markup {
    html! {
        @if trial.is_ok() { "ok" } @else { span.bad { (trial.row.status) } }
        @if trial.is_suspect() { ", " span.bad { "suspect" } }
    }
}

fn link(folder: &str, text: &str) -> Markup {
    html! {
        @if is_below(folder) { a href=(address(folder)) { (text) } }
        @else { code { (text) } }
    }
}

/// A relative address; what has a meaning in addresses is escaped.
fn address(path: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_./~".contains(&b);
    path.bytes()
        .map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

pub(super) fn every(input: &Input) -> Markup {
    let n = input.trials.len();
    let time = |t: &Trial, metric: &str| t.number(metric).map_or("–".into(), number::seconds);
    let has = |metric: &str| input.trials.iter().any(|t| t.number(metric).is_some());
    let all = [
        ("turnaround (s)", "turnaround_s"),
        ("stall (s)", "stall_s"),
        ("resume delay (s)", "resume_delay_s"),
        ("mean response (s)", "response_mean_s"),
    ];
    let columns: Vec<_> = all.into_iter().filter(|(_, metric)| has(metric)).collect();
    html! {
        @if n > 0 {
            h2 { "Every trial" }
            details open[n <= OPEN] {
                summary { (statement::trials(input)) ", each with its verdict and its logs" }
                div.scroll { table {
                    thead { tr {
                        th { "variant" } th.num { "repetition" } th { "verdict" }
                        @for (heading, _) in &columns { th.num { (heading) } }
                        th.num { "seed" } th { "left behind" }
                    } }
                    tbody { @for t in input.trials.iter().take(MOST_LISTED) { tr {
                        td { (t.row.variant) }
                        td.num { (t.row.repetition) }
                        td { (verdict(t)) }
                        @for (_, metric) in &columns { td.num { (time(t, metric)) } }
                        td.num { (t.row.seed) }
                        td { (links(input, t, n)) }
                    } } }
                } }
                (more(n, MOST_LISTED))
            }
        }
    }
}

/// The folder, and its logs when there are not too many trials to list them all.
fn links(input: &Input, trial: &Trial, trials: usize) -> Markup {
    let folder = &trial.row.folder;
    let mut logs = Vec::new();
    if is_below(folder) && trials <= 400 {
        find_logs(&input.root.join(folder), "", 0, &mut logs);
        logs.sort();
    }
    html! {
        @if folder.is_empty() { "–" } @else { (link(folder, "folder")) }
        @for log in &logs { " · " (link(&format!("{folder}/{log}"), log.trim_end_matches(".log"))) }
    }
}

/// Logs that hold anything, below a folder.
fn find_logs(root: &Path, below: &str, depth: usize, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (Ok(kind), Ok(name)) = (entry.file_type(), entry.file_name().into_string()) else {
            continue;
        };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if found.len() >= MOST_LINKS {
            return;
        }
        if kind.is_dir() && depth < DEPTH {
            find_logs(root, &path, depth + 1, found);
        } else if path.ends_with(".log") && entry.metadata().is_ok_and(|m| m.len() > 0) {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(address("trials/a b#1/2"), "trials/a%20b%231/2");
    }

    #[test]
    fn logs_are_found_below() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("criu/image/restore");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("restore.log"), "x").unwrap();
        fs::write(folder.path().join("empty.log"), "").unwrap();
        let mut found = Vec::new();
        find_logs(folder.path(), "", 0, &mut found);
        assert_eq!(found, ["criu/image/restore/restore.log"]);
    }
}
