//! Differences between variants.
//!
//! Pairs are made of trials with the same repetition: a run goes repetition by repetition, so these two
//! ran close to each other in time and shared what the machine was doing, and the mean of their
//! differences has a narrower interval than the difference of two means. (Their seeds are not the
//! same, because a trial's seed is a hash of its variant too.) The interval is the bootstrap of the
//! mean of the differences: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

use super::{Excess, Observation, Variant, find, summarise};
use crate::{
    input::{Input, Trial},
    stats,
};
use limosa_record::row::SummaryRow;
use std::collections::BTreeMap;

/// Metrics that say what a client felt; the others describe the trial and the machine.
pub(crate) const METRICS: [&str; 12] = [
    "turnaround_s",
    "goodput_bps",
    "downtime_s",
    "stall_s",
    "resume_delay_s",
    "reconnects",
    "requests_failed",
    "first_response_s",
    "response_mean_s",
    "response_p95_s",
    "response_max_s",
    "image_bytes",
];
/// With more variants than this only those with and without a migration are paired.
const MOST_VARIANTS: usize = 8;

/// How a difference is named in `summary.csv`.
pub(crate) fn difference_name(variant: &str, baseline: &str) -> String {
    format!("{variant} - {baseline}")
}

/// The variant without a migration that belongs to one with.
pub(crate) fn sibling<'a>(variant: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (stem, _) = variant.split_once("-migrate")?;
    let mut names = names;
    names.find(|name| name.strip_suffix("-none") == Some(stem))
}

/// Variant and baseline of every difference that is worth a row.
fn pairs(variants: &[String]) -> Vec<(&str, &str)> {
    let names = || variants.iter().map(String::as_str);
    let siblings: Vec<_> = names().filter_map(|v| Some((v, sibling(v, names())?))).collect();
    if variants.len() > MOST_VARIANTS {
        return siblings;
    }
    let mut pairs = siblings.clone();
    for (i, later) in names().enumerate() {
        for earlier in names().take(i) {
            if !siblings.contains(&(later, earlier)) && !siblings.contains(&(earlier, later)) {
                pairs.push((later, earlier));
            }
        }
    }
    pairs
}

pub(super) fn rows(input: &Input, variants: &[String]) -> Vec<SummaryRow> {
    let metrics: Vec<_> = input.metrics.iter().filter(|m| METRICS.contains(&m.as_str())).collect();
    let mut trials: BTreeMap<&str, BTreeMap<u32, &Trial>> = BTreeMap::new();
    for trial in &input.trials {
        trials.entry(&trial.row.variant).or_default().insert(trial.row.repetition, trial);
    }
    let mut rows = Vec::new();
    for (variant, baseline) in pairs(variants) {
        let Some((a, b)) = trials.get(variant).zip(trials.get(baseline)) else { continue };
        let both: Vec<(&Trial, &Trial)> =
            a.iter().filter_map(|(repetition, a)| Some((*a, *b.get(repetition)?))).collect();
        for metric in &metrics {
            let seen = |(a, b): &(&Trial, &Trial)| Observation {
                value: a.number(metric).zip(b.number(metric)).map(|(a, b)| a - b),
                ok: a.is_ok() && b.is_ok(),
                suspect: a.is_suspect() || b.is_suspect(),
            };
            let seen: Vec<_> = both.iter().map(seen).collect();
            let name = difference_name(variant, baseline);
            rows.extend(summarise(&name, Some(baseline), metric, &seen));
        }
    }
    rows
}

/// Every `X-migrate…` beside its `X-none`, when both have a turnaround time.
pub(crate) fn excesses(input: &Input, variants: &[Variant], rows: &[SummaryRow]) -> Vec<Excess> {
    let times = |variant: &str| -> Vec<f64> {
        let ok = input.of(variant).filter(|t| t.is_ok());
        ok.filter_map(|t| t.number("turnaround_s")).collect()
    };
    let excess = |variant: &Variant| {
        let names = variants.iter().map(|v| v.name.as_str());
        let baseline = sibling(&variant.name, names)?;
        let name = difference_name(&variant.name, baseline);
        let (mean_s, ci95_s) = match find(rows, &name, "turnaround_s") {
            Some(paired) => (paired.mean, paired.ci95_low.zip(paired.ci95_high)),
            None => {
                let (with, without) = (times(&variant.name), times(baseline));
                let mean = stats::mean(&with)? - stats::mean(&without)?;
                (mean, stats::difference_ci95(&with, &without))
            }
        };
        let published = variants.iter().find(|v| v.name == baseline)?.reference.as_ref();
        let reference = variant.reference.as_ref().zip(published);
        Some(Excess {
            variant: variant.name.clone(),
            baseline: baseline.into(),
            mean_s,
            ci95_s,
            reference_s: reference.map(|(with, without)| with.mean_s - without.mean_s),
        })
    };
    variants.iter().filter_map(excess).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_paired_with_their_siblings_first() {
        let names = ["q-none", "q-migrate", "m-migrate-fast"].map(String::from);
        assert_eq!(
            pairs(&names),
            [
                ("q-migrate", "q-none"),
                ("m-migrate-fast", "q-none"),
                ("m-migrate-fast", "q-migrate")
            ]
        );
        let many: Vec<_> = (0..9).map(|i| format!("v{i}")).chain(names).collect();
        assert_eq!(pairs(&many), [("q-migrate", "q-none")]);
    }
}
