//! From trials to numbers per variant.
//!
//! Input: the trials with their numbers. Output: the rows of `summary.csv`, one [`Variant`] per variant
//! for the closing table, and what migration costs ([`Excess`]). Statistics are over the trials with
//! the status `ok`, suspect ones included; beside them stands the mean of all trials that have a
//! value and that of the trials which are neither failed nor suspect. Sources: see [`stats`].

pub(crate) mod difference;

pub(crate) use difference::difference_name;

use crate::{
    input::{Input, Trial},
    stats,
};
use limosa_record::row::SummaryRow;
use serde_json::Value;

/// What a variant showed, in short.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Its migration scheme; empty when no trial says so.
    pub scheme: String,
    /// Trials with the status `ok`.
    pub ok: usize,
    /// Trials with any other status.
    pub failed: usize,
    /// Trials, `ok` or not, with the verdict `suspect`.
    pub suspect: usize,
    /// Turnaround time in seconds; `None` when no trial has one.
    pub turnaround: Option<SummaryRow>,
    /// What the paper reports for it.
    pub reference: Option<Reference>,
}

/// A published turnaround time to compare with.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Mean in seconds.
    pub mean_s: f64,
    /// Smallest value in seconds.
    pub min_s: Option<f64>,
    /// Largest value in seconds.
    pub max_s: Option<f64>,
    /// Where it was published.
    pub source: String,
}

/// How much longer a variant with migration takes than its `-none` sibling.
#[derive(Debug, Clone, PartialEq)]
pub struct Excess {
    /// The variant `X-migrate…`.
    pub variant: String,
    /// The variant `X-none`.
    pub baseline: String,
    /// Mean difference of the turnaround times in seconds: over pairs of the same repetition, or
    /// the difference of the means where no repetition has both.
    pub mean_s: f64,
    /// 95 % bootstrap interval of it; `None` below five pairs (trials).
    pub ci95_s: Option<stats::Interval>,
    /// The same difference in the paper's figures, when both are known.
    pub reference_s: Option<f64>,
}

/// What one trial, or one pair of trials, has to say about one metric.
pub(crate) struct Observation {
    pub value: Option<f64>,
    pub ok: bool,
    pub suspect: bool,
}

/// One row of statistics; `None` when no `ok` trial has a value.
pub(crate) fn summarise(
    variant: &str,
    baseline: Option<&str>,
    metric: &str,
    seen: &[Observation],
) -> Option<SummaryRow> {
    let of = |keep: fn(&Observation) -> bool| -> Vec<f64> {
        seen.iter().filter(|o| keep(o)).filter_map(|o| o.value).collect()
    };
    let (all, ok, valid) = (of(|_| true), of(|o| o.ok), of(|o| o.ok && !o.suspect));
    let ci95 = stats::mean_ci95(&ok);
    let valid_ci95 = if valid.len() == ok.len() { ci95 } else { stats::mean_ci95(&valid) };
    Some(SummaryRow {
        variant: variant.into(),
        metric: metric.into(),
        n: ok.len() as u64,
        mean: stats::mean(&ok)?,
        median: stats::median(&ok)?,
        min: stats::quantile(&ok, 0.0)?,
        max: stats::quantile(&ok, 1.0)?,
        p05: stats::quantile(&ok, 0.05)?,
        p95: stats::quantile(&ok, 0.95)?,
        ci95_low: ci95.map(|ci| ci.0),
        ci95_high: ci95.map(|ci| ci.1),
        baseline: baseline.map(String::from),
        trials: seen.len() as u64,
        failed: seen.iter().filter(|o| !o.ok).count() as u64,
        suspect: seen.iter().filter(|o| o.suspect).count() as u64,
        all_n: all.len() as u64,
        all_mean: stats::mean(&all)?,
        valid_n: valid.len() as u64,
        valid_mean: stats::mean(&valid),
        valid_ci95_low: valid_ci95.map(|ci| ci.0),
        valid_ci95_high: valid_ci95.map(|ci| ci.1),
    })
}

/// One row per variant and metric that has values, then the paired differences.
pub(crate) fn rows(input: &Input, variants: &[String]) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    for variant in variants {
        let trials: Vec<&Trial> = input.of(variant).collect();
        for metric in &input.metrics {
            let seen = |t: &&Trial| Observation {
                value: t.number(metric),
                ok: t.is_ok(),
                suspect: t.is_suspect(),
            };
            let seen: Vec<_> = trials.iter().map(seen).collect();
            rows.extend(summarise(variant, None, metric, &seen));
        }
    }
    rows.extend(difference::rows(input, variants));
    rows
}

/// The row of a variant's (or a difference's) metric.
pub(crate) fn find<'a>(
    rows: &'a [SummaryRow],
    variant: &str,
    metric: &str,
) -> Option<&'a SummaryRow> {
    rows.iter().find(|r| r.variant == variant && r.metric == metric)
}

pub(crate) fn variants(input: &Input, rows: &[SummaryRow]) -> Vec<Variant> {
    let variant = |name: String| {
        let trials: Vec<_> = input.of(&name).collect();
        let ok = trials.iter().filter(|t| t.is_ok()).count();
        Variant {
            scheme: trials.first().map(|t| t.row.scheme.clone()).unwrap_or_default(),
            ok,
            failed: trials.len() - ok,
            suspect: trials.iter().filter(|t| t.is_suspect()).count(),
            turnaround: find(rows, &name, "turnaround_s").cloned(),
            reference: reference(input, &name),
            name,
        }
    };
    input.variants().into_iter().map(variant).collect()
}

fn reference(input: &Input, variant: &str) -> Option<Reference> {
    let published = input.reference.as_ref().and_then(|f| f.find(variant, "turnaround_s"));
    if let Some(p) = published {
        let (mean_s, min_s, max_s) = (p.mean, p.min, p.max);
        return Some(Reference { mean_s, min_s, max_s, source: p.at.clone() });
    }
    // Runs of the first versions have it in their plan.
    // By keys, not by a JSON pointer: a variant's name may hold a slash.
    let found = input.plan.get("variants")?.get(variant)?.get("reference")?;
    let number = |key: &str| found.get(key)?.as_f64().filter(|v| v.is_finite());
    Some(Reference {
        mean_s: number("mean_s")?,
        min_s: number("min_s"),
        max_s: number("max_s"),
        source: found.get("source").and_then(Value::as_str).unwrap_or_default().into(),
    })
}
