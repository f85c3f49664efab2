//! The first table: every scheme with and without a migration, and what the migration costs it.

use crate::{Analysis, Excess, Variant, number, summary};
use limosa_record::row::SummaryRow;
use maud::{Markup, html};

/// A scheme's two variants, as far as the run has them.
struct Line<'a> {
    with: Option<&'a Variant>,
    without: Option<&'a Variant>,
    excess: Option<&'a Excess>,
}

/// Columns that are there when any variant has them: heading, metric, how its numbers read.
type Column = (&'static str, &'static str, fn(f64) -> String);
const COLUMNS: [Column; 5] = [
    ("mean response (s)", "response_mean_s", number::seconds),
    ("failed requests", "requests_failed", number::amount),
    ("longest stall (s)", "stall_s", number::seconds),
    ("resume delay (s)", "resume_delay_s", number::seconds),
    ("new connections", "reconnects", number::amount),
];

fn lines(analysis: &Analysis) -> Vec<Line<'_>> {
    let find = |name: &str| analysis.variants.iter().find(|v| v.name == name);
    let mut lines = Vec::new();
    for v in &analysis.variants {
        if let Some(stem) = v.name.strip_suffix("-none") {
            let migrates = |o: &&Variant| {
                o.name.split_once("-migrate").is_some_and(|(other, _)| other == stem)
            };
            let before = lines.len();
            for with in analysis.variants.iter().filter(migrates) {
                let excess = analysis.excesses.iter().find(|e| e.variant == with.name);
                lines.push(Line { with: Some(with), without: Some(v), excess });
            }
            if lines.len() == before {
                lines.push(Line { with: None, without: Some(v), excess: None });
            }
        } else {
            let sibling = v.name.split_once("-migrate").map(|(stem, _)| format!("{stem}-none"));
            if sibling.and_then(|name| find(&name)).is_none() {
                lines.push(Line { with: Some(v), without: None, excess: None });
            }
        }
    }
    lines
}

/// How readers call a scheme.
fn scheme(name: &str) -> &str {
    match name {
        "quic" => "QUIC",
        "multipath" => "multipath QUIC",
        other => other,
    }
}

pub(super) fn headline(analysis: &Analysis) -> Markup {
    let lines = lines(analysis);
    let any = |test: fn(&Line<'_>) -> bool| lines.iter().any(test);
    let turnaround = any(|l| [l.with, l.without].iter().flatten().any(|v| v.turnaround.is_some()));
    let without = turnaround && any(|l| l.without.is_some());
    let with = turnaround && any(|l| l.with.is_some());
    let costs = any(|l| l.excess.is_some());
    let intervals = analysis.excesses.iter().any(|e| e.ci95_s.is_some());
    let published = any(|l| l.excess.is_some_and(|e| e.reference_s.is_some()));
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|(_, metric, _)| {
            let shown = |r: &&SummaryRow| r.metric == *metric && r.baseline.is_none();
            analysis.summary.iter().filter(shown).any(|r| r.max > 0.0)
        })
        .collect();
    html! {
        h2 { "What a migration costs" }
        @if lines.is_empty() { p { "No trial has been recorded." } }
        @else {
            div.scroll { table.headline {
                thead { tr {
                    th { "scheme" small { "variant" } }
                    th.num { "trials" small { "ok of all" } }
                    @if without { th.num.keep { "turnaround (s)" small { "without migration" } } }
                    @if with { th.num.keep { "turnaround (s)" small { "with migration" } } }
                    @if costs { th.num.keep { "difference (s)" small { "with − without a migration" } @if intervals { small { "95 % interval" } } } }
                    @if published { th.num { "published (s)" small { "the same difference" } } }
                    @for (heading, ..) in &columns { th.num { (heading) } }
                } }
                tbody { @for line in &lines { tr {
                    @let shown = line.with.or(line.without);
                    th { (scheme(shown.map_or("", |v| &v.scheme))) small { (shown.map_or("", |v| &v.name)) } }
                    td.num { (trials(line)) }
                    @if without { td.num { (time(line.without)) } }
                    @if with { td.num { (time(line.with)) } }
                    @if costs { td.num { (cost(line.excess)) } }
                    @if published { td.num {
                        (line.excess.and_then(|e| e.reference_s).map_or("–".into(), number::seconds))
                    } }
                    @for (_, metric, text) in &columns {
                        @let row = shown.and_then(|v| summary::find(&analysis.summary, &v.name, metric));
                        td.num { (row.map_or("–".into(), |r| text(r.mean))) }
                    }
                } } }
            } }
            p.note {
                "Means over the trials that are ok, suspect ones included"
                @if costs { "; the difference is the mean of those between trials of the same repetition" }
                ". Intervals are 95 % bootstrap intervals of these means; fewer than five values have none. “–”: no value."
            }
        }
    }
}

fn trials(line: &Line<'_>) -> Markup {
    let all = || [line.without, line.with].into_iter().flatten();
    let (ok, failed): (usize, usize) = (all().map(|v| v.ok).sum(), all().map(|v| v.failed).sum());
    let suspect: usize = all().map(|v| v.suspect).sum();
    html! {
        (ok) " of " (ok + failed)
        @if suspect > 0 { small { (suspect) " suspect" } }
    }
}

fn time(variant: Option<&Variant>) -> Markup {
    let Some(t) = variant.and_then(|v| v.turnaround.as_ref()) else { return html! { "–" } };
    html! {
        (number::seconds(t.mean))
        @if let Some((low, high)) = t.ci95_low.zip(t.ci95_high) {
            small { (number::seconds(low)) "–" (number::seconds(high)) }
        }
    }
}

fn cost(excess: Option<&Excess>) -> Markup {
    let Some(e) = excess else { return html! { "–" } };
    html! {
        strong { (signed(e.mean_s)) }
        @if let Some((low, high)) = e.ci95_s { small { (signed(low)) " to " (signed(high)) } }
    }
}

fn signed(s: f64) -> String {
    if s > 0.0 { format!("+{}", number::seconds(s)) } else { number::seconds(s) }
}
