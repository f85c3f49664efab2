//! From trials to numbers per variant.
//!
//! Input: the rows of `trials.csv` and the plan. Output: the rows of `summary.csv`, one [`Variant`]
//! per variant for the closing table, and what migration costs ([`Excess`]). Only trials with the
//! status `ok` count; suspect ones do count, and are counted.

use crate::{input::Input, stats};
use limosa_record::row::{SummaryRow, TrialRow};
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
    /// Difference of the mean turnaround times in seconds.
    pub mean_s: f64,
    /// 95 % bootstrap interval of the difference; `None` below two trials each.
    pub ci95_s: Option<stats::Interval>,
    /// The same difference in the paper's figures, when both are known.
    pub reference_s: Option<f64>,
}

type Metric = fn(&TrialRow) -> Option<f64>;

/// The columns of `trials.csv` that are summarised.
const METRICS: [(&str, Metric); 11] = [
    ("turnaround_s", |r| r.turnaround_s),
    ("goodput_bps", |r| r.goodput_bps),
    ("downtime_s", |r| r.downtime_s),
    ("stall_s", |r| r.stall_s),
    ("resume_delay_s", |r| r.resume_delay_s),
    ("checkpoint_s", |r| r.checkpoint_s),
    ("transfer_s", |r| r.transfer_s),
    ("restore_s", |r| r.restore_s),
    ("image_bytes", |r| r.image_bytes.map(|n| n as f64)),
    ("reconnects", |r| r.reconnects.map(|n| n as f64)),
    ("bytes", |r| r.bytes.map(|n| n as f64)),
];

pub(crate) fn is_ok(row: &TrialRow) -> bool {
    row.status == "ok"
}

pub(crate) fn is_suspect(row: &TrialRow) -> bool {
    row.verdict.as_deref() == Some("suspect")
}

fn values(trials: &[TrialRow], variant: &str, metric: Metric) -> Vec<f64> {
    let ok = trials.iter().filter(|r| is_ok(r) && r.variant == variant);
    ok.filter_map(metric).filter(|v| v.is_finite()).collect()
}

fn summarise(variant: &str, metric: &str, values: &[f64]) -> Option<SummaryRow> {
    let ci95 = stats::mean_ci95(values);
    Some(SummaryRow {
        variant: variant.into(),
        metric: metric.into(),
        n: values.len() as u64,
        mean: stats::mean(values)?,
        median: stats::median(values)?,
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        p05: stats::quantile(values, 0.05)?,
        p95: stats::quantile(values, 0.95)?,
        ci95_low: ci95.map(|ci| ci.0),
        ci95_high: ci95.map(|ci| ci.1),
    })
}

/// One row per variant and metric that has values.
pub(crate) fn rows(trials: &[TrialRow], variants: &[String]) -> Vec<SummaryRow> {
    let each = variants.iter().flat_map(|v| METRICS.map(|(name, metric)| (v, name, metric)));
    each.filter_map(|(v, name, metric)| summarise(v, name, &values(trials, v, metric))).collect()
}

/// The row of a variant's metric.
pub(crate) fn find<'a>(
    rows: &'a [SummaryRow],
    variant: &str,
    metric: &str,
) -> Option<&'a SummaryRow> {
    rows.iter().find(|r| r.variant == variant && r.metric == metric)
}

pub(crate) fn variants(input: &Input, rows: &[SummaryRow]) -> Vec<Variant> {
    let variant = |name: String| {
        let trials: Vec<_> = input.trials.iter().filter(|r| r.variant == name).collect();
        let ok = trials.iter().filter(|r| is_ok(r)).count();
        Variant {
            scheme: trials.first().map(|r| r.scheme.clone()).unwrap_or_default(),
            ok,
            failed: trials.len() - ok,
            suspect: trials.iter().filter(|r| is_suspect(r)).count(),
            turnaround: find(rows, &name, "turnaround_s").cloned(),
            reference: reference(&input.plan, &name),
            name,
        }
    };
    input.variants().into_iter().map(variant).collect()
}

fn reference(plan: &Value, variant: &str) -> Option<Reference> {
    // By keys, not by a JSON pointer: a variant's name may hold a slash.
    let found = plan.get("variants")?.get(variant)?.get("reference")?;
    let number = |key: &str| found.get(key)?.as_f64().filter(|v| v.is_finite());
    Some(Reference {
        mean_s: number("mean_s")?,
        min_s: number("min_s"),
        max_s: number("max_s"),
        source: found.get("source").and_then(Value::as_str).unwrap_or_default().into(),
    })
}

/// Every `X-migrate…` beside its `X-none`, when both have a turnaround time.
pub(crate) fn excesses(trials: &[TrialRow], variants: &[Variant]) -> Vec<Excess> {
    let excess = |variant: &Variant| {
        let (stem, _) = variant.name.split_once("-migrate")?;
        let baseline = variants.iter().find(|v| v.name.strip_suffix("-none") == Some(stem))?;
        let turnaround = |v: &Variant| values(trials, &v.name, |r| r.turnaround_s);
        let (with, without) = (turnaround(variant), turnaround(baseline));
        let reference = variant.reference.as_ref().zip(baseline.reference.as_ref());
        Some(Excess {
            variant: variant.name.clone(),
            baseline: baseline.name.clone(),
            mean_s: stats::mean(&with)? - stats::mean(&without)?,
            ci95_s: stats::difference_ci95(&with, &without),
            reference_s: reference.map(|(with, without)| with.mean_s - without.mean_s),
        })
    };
    variants.iter().filter_map(excess).collect()
}
