//! Every variant's numbers, with and without the trials that one may doubt.

use crate::{Analysis, Reference, number, summary};
use limosa_record::row::SummaryRow;
use maud::{Markup, html};

type Column = (&'static str, &'static str, fn(f64) -> String);

/// Columns beside the turnaround time: heading, metric, how its numbers read.
const COLUMNS: [Column; 11] = [
    ("goodput (Mbit/s)", "goodput_bps", |bps| number::amount((bps / 1e4).round() / 100.0)),
    ("downtime (s)", "downtime_s", number::seconds),
    ("longest stall (s)", "stall_s", number::seconds),
    ("resume delay (s)", "resume_delay_s", number::seconds),
    ("image", "image_bytes", number::bytes),
    ("mean response (s)", "response_mean_s", number::seconds),
    ("copy: set-up (s)", "transfer_setup_s", number::seconds),
    ("copy: data (s)", "transfer_data_s", number::seconds),
    ("copy: files", "transfer_size_bytes", number::bytes),
    ("copy: sent", "transfer_sent_bytes", number::bytes),
    ("copy: size ÷ bytes on the way", "transfer_speedup_ratio", number::amount),
];

pub(super) fn variants(analysis: &Analysis) -> Markup {
    let columns: Vec<_> = (COLUMNS.iter())
        .filter(|(_, metric, _)| analysis.summary.iter().any(|r| r.metric == *metric))
        .collect();
    let turnaround = analysis.variants.iter().any(|v| v.turnaround.is_some());
    let references = analysis.variants.iter().any(|v| v.reference.is_some());
    let intervals = analysis
        .variants
        .iter()
        .filter_map(|v| v.turnaround.as_ref())
        .any(|t| t.ci95_low.is_some());
    let doubted = analysis.variants.iter().any(|v| v.suspect > 0);
    html! {
        @if !analysis.variants.is_empty() {
            h2 { "Every variant" }
            div.scroll { table {
                thead { tr {
                    th { "variant" }
                    th.num { "trials" small { "ok / failed / suspect" } }
                    @if turnaround { th.num { "turnaround (s)" small { "mean [min–max]" } @if intervals { small { "95 % interval" } } } }
                    @if turnaround && doubted { th.num { "without suspect" small { "mean (n)" } } }
                    @if references { th.num { "published (s)" small { "mean [min–max]" } } }
                    @for (heading, ..) in &columns { th.num { (heading) } }
                } }
                tbody { @for v in &analysis.variants { tr {
                    th { (v.name) @if !v.scheme.is_empty() { small { (v.scheme) } } }
                    td.num { (v.ok) " / " (v.failed) " / " (v.suspect) }
                    @let t = v.turnaround.as_ref();
                    @if turnaround { td.num {
                        (t.map_or_else(none, mean_and_range))
                        @if let Some(ci) = t.and_then(interval) { small { (ci) } }
                    } }
                    @if turnaround && doubted { td.num { (t.map_or_else(none, valid)) } }
                    @if references { td.num { (v.reference.as_ref().map_or_else(none, published)) } }
                    @for (_, metric, text) in &columns {
                        @let row = summary::find(&analysis.summary, &v.name, metric);
                        td.num { (row.map_or_else(none, |r| text(r.mean))) }
                    }
                } } }
            } }
            p.note {
                "Means over the trials with status ok; fewer than five have no interval. Every metric with its quantiles, with and without "
                "failed and suspect trials, and the paired differences between variants are in "
                a href="summary.csv" { "summary.csv" } "."
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

fn valid(t: &SummaryRow) -> String {
    t.valid_mean.map_or_else(none, |mean| format!("{} ({})", number::seconds(mean), t.valid_n))
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
