//! The comparison as a page.

use super::Comparison;
use crate::{
    figure::{
        Figure,
        rows::{mean_in_words, shown},
        strip::{Row, Strip},
    },
    input::Input,
    number, report,
    series::LONGEST_S,
    summary::difference,
};
use limosa_record::row::ComparisonRow;
use maud::{Markup, html};

pub(super) fn page(comparison: &Comparison, inputs: &[Input]) -> String {
    let title = format!("{} runs side by side", comparison.runs.len());
    let felt: Vec<_> = comparison
        .rows
        .iter()
        .filter(|r| difference::METRICS.contains(&r.metric.as_str()))
        // What is the same in every trial of both runs is no news.
        .filter(|r| {
            let ends = [r.baseline_ci95_low, r.baseline_ci95_high, r.ci95_low, r.ci95_high];
            let same = |v: f64| (v - r.mean).abs() <= 1e-9 * v.abs();
            // Too few trials for an interval have their means.
            let none = ends.iter().all(Option::is_none) && same(r.baseline_mean);
            !none && !ends.iter().all(|end| end.is_some_and(same))
        })
        .collect();
    let figures =
        [("turnaround_s", "turnaround time (s)"), ("response_mean_s", "mean response time (s)")];
    let figures: Vec<_> =
        figures.into_iter().filter_map(|(m, x)| figure(comparison, inputs, m, x)).collect();
    let body = html! {
        h1 { (title) }
        p { "What the others are compared with: " strong { (comparison.runs.first().map_or("", String::as_str)) } "." }
        @if !comparison.notes.is_empty() {
            div.warn { p { strong { "What could not be compared" } } ul { @for n in &comparison.notes { li { (n) } } } }
        }
        h2 { "Did it make a difference?" }
        @if felt.is_empty() { p { "The runs have no variant with a value in common." } }
        @else {
            (table(&felt))
            p.note {
                "Means over the trials that are ok, with 95 % bootstrap intervals where there are five trials or more; "
                "the interval of the difference resamples each run on its own. With it around 0 no difference is seen, which "
                "is not to say that there is none. Left out: what is the same in all trials. All metrics are in " a href="comparison.csv" { "comparison.csv" } "."
            }
        }
        @for (i, figure) in figures.iter().enumerate() { (report::inline(i + 1, figure)) }
        h2 { "What is not the same" }
        @if comparison.changes.is_empty() { p { "Manifests and plans say the same." } }
        @else { div.scroll { table {
            thead { tr { th { "what" } @for run in &comparison.runs { th { (run) } } } }
            tbody { @for (what, values) in &comparison.changes { tr {
                th { (what.replace('_', " ")) } @for value in values { td { (value) } }
            } } }
        } } }
    };
    report::document(&title, body)
}

fn table(rows: &[&ComparisonRow]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "variant" small { "metric" } }
                th { "run" }
                th.num { "before" small { "mean (n)" } }
                th.num { "now" small { "mean (n)" } }
                th.num { "difference" small { "95 % interval" } }
                th { "" }
            } }
            tbody { @for r in rows { tr {
                th { (r.variant) small { (r.metric) } }
                td { (r.run) }
                td.num { (short(r, r.baseline_mean)) " (" (r.baseline_n) ")" (interval(r, r.baseline_ci95_low, r.baseline_ci95_high)) }
                td.num { (short(r, r.mean)) " (" (r.n) ")" (interval(r, r.ci95_low, r.ci95_high)) }
                td.num { (short(r, r.difference)) (interval(r, r.difference_ci95_low, r.difference_ci95_high)) }
                td { @match r.differs {
                    Some(true) => { strong { @if r.difference > 0.0 { "more" } @else { "less" } } },
                    Some(false) => "no difference seen",
                    None => "too few trials",
                } }
            } } }
        } }
    }
}

fn short(row: &ComparisonRow, value: f64) -> String {
    let m = row.metric.as_str();
    match m {
        _ if m.ends_with("_bps") => {
            format!("{} Mbit/s", number::amount((value / 1e4).round() / 100.0))
        }
        _ if m.ends_with("_bytes") => number::bytes(value),
        _ if m.ends_with("_s") => format!("{} s", number::seconds(value)),
        _ => number::amount(value),
    }
}

fn interval(row: &ComparisonRow, low: Option<f64>, high: Option<f64>) -> Markup {
    html! {
        @if let Some((low, high)) = low.zip(high) { small { (short(row, low)) " to " (short(row, high)) } }
    }
}

fn figure(comparison: &Comparison, inputs: &[Input], metric: &str, x_name: &str) -> Option<Figure> {
    let mut rows = Vec::new();
    for variant in inputs.first()?.variants() {
        for (input, name) in inputs.iter().zip(&comparison.runs) {
            let ok = input.of(&variant).filter(|t| t.is_ok());
            let value = |t: &crate::input::Trial| {
                let value = t.number(metric).filter(|v| (0.0..LONGEST_S).contains(v))?;
                Some((value, t.is_suspect()))
            };
            let points: Vec<_> = ok.filter_map(value).collect();
            let run = name.rsplit('/').next().unwrap_or(name);
            if !points.is_empty() {
                let name = format!("{variant}, {run}");
                rows.push(Row { name, points, published: None, wanted: None });
            }
        }
    }
    if rows.is_empty() {
        return None;
    }
    let (rows, left_out) = shown(rows);
    let caption = format!("Every trial of the runs. {}{left_out}", mean_in_words(&rows));
    let strip = Strip { title: x_name, x_name, point: "trial", from_zero: true, rows };
    Some(strip.figure(format!("comparison-{metric}.svg"), caption))
}
