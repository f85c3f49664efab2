//! Ours beside the published figures, with the ratio or with the reason why there is none.

use crate::{Analysis, input::Input, number, reference::Beside, summary};
use maud::{Markup, html};

pub(super) fn published(input: &Input, analysis: &Analysis) -> Markup {
    let Some(file) = &input.reference else { return html! {} };
    let all = file.beside(input, &analysis.summary);
    html! {
        h2 { "Beside the published figures" }
        p { "Published in " (file.source) "." }
        div.scroll { table {
            thead { tr {
                th { "what" }
                th { "where" }
                th.num { "published" small { "mean [min–max]" } }
                th.num { "ours" small { "mean [95 % interval]" } }
                th { "ours ÷ published" }
            } }
            tbody { @for b in &all { tr {
                th { (subject(b)) small { (b.published.metric) } }
                td { (b.published.at) }
                td.num {
                    (value(b, b.published.mean))
                    @if let Some((min, max)) = b.published.min.zip(b.published.max) {
                        small { "[" (value(b, min)) "–" (value(b, max)) "]" }
                    }
                }
                td.num { @match b.ours {
                    None => "–",
                    Some((mean, ci)) => {
                        (value(b, mean))
                        @if let Some((low, high)) = ci { small { "[" (value(b, low)) ", " (value(b, high)) "]" } }
                    }
                } }
                @match (b.ratio, &b.published.not_comparable) {
                    (Some(ratio), _) => { td { strong { (number::seconds(ratio)) } } }
                    (None, Some(why)) => { td.why { "not comparable: " (why) } }
                    (None, None) => { td { "–" } }
                }
            } } }
        } }
    }
}

pub(super) fn subject(b: &Beside<'_>) -> String {
    match (&b.published.variant, &b.published.baseline) {
        (Some(variant), Some(baseline)) => {
            summary::difference_name(variant, baseline).replace(" - ", " − ")
        }
        (Some(variant), None) => variant.clone(),
        (None, _) => "all trials".into(),
    }
}

/// In the metric's own unit, shortened where that has many digits.
pub(super) fn value(b: &Beside<'_>, value: f64) -> String {
    match b.published.metric.as_str() {
        m if m.ends_with("_bps") => {
            format!("{} Mbit/s", number::amount((value / 1e4).round() / 100.0))
        }
        m if m.ends_with("_bytes") => number::bytes(value),
        m if m.ends_with("_ms") => format!("{} ms", number::seconds(value)),
        m if m.ends_with("_s") => format!("{} s", number::seconds(value)),
        _ => number::amount(value),
    }
}
