//! Measured response times beside the model, as a table.

use crate::{
    model::measured::{Comparison, crossovers},
    number,
};
use limosa_record::row::ModelRow;
use maud::{Markup, html};

pub(super) fn model(modelled: &[Comparison]) -> Markup {
    if modelled.is_empty() {
        return html! {};
    }
    let crossovers = crossovers(modelled);
    html! {
        h2 { "Measured response times beside the model" }
        div.scroll { table {
            thead { tr {
                th { "variant" small { "scheme" } }
                th.num { "requests" small { "in the migration" } }
                th.num { "measured mean (ms)" small { "99 % interval" } }
                th.num { "model (ms)" small { "at the same times" } }
                th.num { "difference" }
                th.num { "tenths of the migration" small { "model inside the 99 % interval" } }
            } }
            tbody { @for c in modelled { @if let Some(whole) = c.whole() { tr {
                th { (c.variant) small { (whole.scheme) } }
                td.num { (whole.n) }
                td.num { (whole.mean_s.map_or("–".into(), number::milliseconds)) @if let Some(ci) = interval(whole) { small { (ci) } } }
                td.num { (whole.model_s.map_or("–".into(), number::milliseconds)) }
                td.num { (whole.difference_ratio.map_or("–".into(), number::percent)) }
                td.num { (c.inside()) " of 10" }
            } } } }
        } }
        p.note {
            "Over r_new < t ≤ t', where both schemes serve. Every tenth is in " a href="model.csv" { "model.csv" } "."
        }
        @for c in &crossovers { p {
            "Crossover: over the sweep of " (number::count(c.points, "value")) " of r_old both schemes answer equally fast at r_old = "
            strong { (number::milliseconds(c.r_old_s)) " ms" } "; by the model that is r_new + s = "
            (number::milliseconds(c.model_s())) " ms, a difference of " (number::percent(c.r_old_s / c.model_s() - 1.0)) "."
        } }
    }
}

fn interval(row: &ModelRow) -> Option<String> {
    let (low, high) = row.ci99_low_s.zip(row.ci99_high_s)?;
    Some(format!("{}–{}", number::milliseconds(low), number::milliseconds(high)))
}
