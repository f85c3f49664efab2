//! The report's tables of numbers: variants, what migration costs, trials that went wrong.

use crate::{Analysis, Excess, Reference, input::Input, number, summary};
use limosa_record::row::{SummaryRow, TrialRow};
use maud::{Markup, html};

type Column = (&'static str, &'static str, fn(f64) -> String);

/// Columns beside the turnaround time: heading, metric, how its numbers read.
const COLUMNS: [Column; 4] = [
    ("downtime (s)", "downtime_s", number::seconds),
    ("longest stall (s)", "stall_s", number::seconds),
    ("resume delay (s)", "resume_delay_s", number::seconds),
    ("reconnects", "reconnects", number::amount),
];

pub(super) fn variants(analysis: &Analysis) -> Markup {
    let columns: Vec<_> = (COLUMNS.iter())
        .filter(|(_, metric, _)| analysis.summary.iter().any(|r| r.metric == *metric))
        .collect();
    let references = analysis.variants.iter().any(|v| v.reference.is_some());
    html! {
        h2 { "Variants" }
        @if analysis.variants.is_empty() { p { "No trial has been recorded." } }
        @else {
            div.scroll { table {
                thead { tr {
                    th { "variant" }
                    th.num { "trials" small { "ok / failed / suspect" } }
                    th.num { "turnaround (s)" small { "mean [min–max]" } small { "95 % interval" } }
                    @if references { th.num { "published (s)" small { "mean [min–max]" } } }
                    @for (heading, ..) in &columns { th.num { (heading) } }
                } }
                tbody { @for v in &analysis.variants { tr {
                    th { (v.name) @if !v.scheme.is_empty() { small { (v.scheme) } } }
                    td.num { (v.ok) " / " (v.failed) " / " (v.suspect) }
                    td.num {
                        (v.turnaround.as_ref().map_or_else(none, mean_and_range))
                        @if let Some(ci) = v.turnaround.as_ref().and_then(interval) { small { (ci) } }
                    }
                    @if references {
                        td.num { (v.reference.as_ref().map_or_else(none, published)) }
                    }
                    @for (_, metric, text) in &columns {
                        @let row = summary::find(&analysis.summary, &v.name, metric);
                        td.num { (row.map_or_else(none, |r| text(r.mean))) }
                    }
                } } }
            } }
            p.note {
                "Means over the trials with status ok, suspect ones included; “–” where there is no "
                "value. Intervals are those of the mean: percentile bootstrap, fixed seed. All metrics "
                "with their quantiles are in " code { "summary.csv" } "."
            }
        }
    }
}

fn none() -> String {
    "–".into()
}

fn mean_and_range(t: &SummaryRow) -> String {
    let [mean, min, max] = [t.mean, t.min, t.max].map(number::seconds);
    format!("{mean} [{min}–{max}]")
}

fn interval(t: &SummaryRow) -> Option<String> {
    let (low, high) = t.ci95_low.zip(t.ci95_high)?;
    Some(format!("{}–{}", number::seconds(low), number::seconds(high)))
}

fn published(r: &Reference) -> String {
    let mean = number::seconds(r.mean_s);
    match r.min_s.zip(r.max_s) {
        Some((min, max)) => {
            format!("{mean} [{}–{}]", number::seconds(min), number::seconds(max))
        }
        None => mean,
    }
}

pub(super) fn excesses(excesses: &[Excess]) -> Markup {
    html! {
        @if !excesses.is_empty() {
            h2 { "What migration costs" }
            @for e in excesses { p {
                strong { (e.variant) } @if e.mean_s < 0.0 { " is faster by " } @else { " takes longer by " }
                strong { (number::seconds(e.mean_s.abs())) " s" }
                " on average than " (e.baseline)
                @if let Some((low, high)) = e.ci95_s {
                    " (95 % interval of the difference " (number::seconds(low)) " to "
                    (number::seconds(high)) " s)"
                }
                @if let Some(published) = e.reference_s {
                    "; in the published values the difference is " (number::seconds(published)) " s"
                }
                "."
            } }
        }
    }
}

pub(super) fn problems(input: &Input) -> Markup {
    let bad = |r: &&TrialRow| !summary::is_ok(r) || summary::is_suspect(r);
    let rows: Vec<_> = (input.trials.iter().filter(bad).map(|r| (r, false)))
        .chain(input.superseded.iter().map(|r| (r, true)))
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
                tbody { @for (r, superseded) in rows { tr {
                    th { (r.variant) }
                    td.num { (r.repetition) }
                    td {
                        (r.status) @if summary::is_suspect(r) { ", suspect" }
                        @if superseded { small { "run again later" } }
                    }
                    td {
                        @for reason in [&r.reason, &r.verdict_reason].into_iter().flatten() {
                            div { (reason) }
                        }
                    }
                    td { code { (r.folder) } }
                } } }
            } }
        }
    }
}
