//! The rows of the tables that a report makes out of the others.

use serde::{Deserialize, Serialize};

/// One row of `summary.csv`: one metric over the trials of one variant, or its paired difference
/// between two variants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    /// Name of the variant; for a difference `A - B`, A minus B.
    pub variant: String,
    /// Name of the column of `trials.csv`, or a number per trial computed from `requests.csv`.
    pub metric: String,
    /// Trials that are `ok` and have a value; for a difference pairs of them.
    pub n: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// 5th percentile.
    pub p05: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Lower end of the 95 % bootstrap interval of the mean.
    pub ci95_low: Option<f64>,
    /// Upper end of it.
    pub ci95_high: Option<f64>,
    /// For a difference the variant that is subtracted.
    pub baseline: Option<String>,
    /// Trials (pairs) of any status.
    pub trials: u64,
    /// Those that are not `ok`, or for a pair one of which is not.
    pub failed: u64,
    /// Those that are `suspect`.
    pub suspect: u64,
    /// Trials with a value, whatever their status and verdict.
    pub all_n: u64,
    /// Their mean.
    pub all_mean: f64,
    /// Trials with a value that are `ok` and not `suspect`.
    pub valid_n: u64,
    /// Their mean.
    pub valid_mean: Option<f64>,
    /// Lower end of the 95 % bootstrap interval of that mean.
    pub valid_ci95_low: Option<f64>,
    /// Upper end of it.
    pub valid_ci95_high: Option<f64>,
}

/// One row of `model.csv`: measured response times in one part of a migration beside the model's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRow {
    /// Name of the variant.
    pub variant: String,
    /// `dual-path` or `post-copy`.
    pub scheme: String,
    /// `0` before the new server can answer, `1` to `10` for the tenths after that, or `all` of them.
    pub part: String,
    /// Start of the part since the start of the migration.
    pub from_s: f64,
    /// End of the part.
    pub to_s: f64,
    /// Answered requests that were sent in it.
    pub n: u64,
    /// Their mean response time.
    pub mean_s: Option<f64>,
    /// Lower end of the 99 % bootstrap interval of that mean.
    pub ci99_low_s: Option<f64>,
    /// Upper end of it.
    pub ci99_high_s: Option<f64>,
    /// Mean of the model over the times of the same requests; empty where it has no finite value.
    pub model_s: Option<f64>,
    /// Whether the model lies in the interval.
    pub inside: Option<bool>,
    /// Measured mean ÷ model's mean − 1.
    pub difference_ratio: Option<f64>,
}

/// One row of `security.csv`: whether one trial held against one kind of attack.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SecurityRow {
    /// Name of the variant.
    pub variant: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
    /// `data_before_validation`, `amplification`, `connection_id_on_two_paths`,
    /// `connection_survives` or `secrets_on_disk`.
    pub check: String,
    /// Whether it did what it should.
    pub passed: bool,
    /// Packets that were sent to an address before it had answered.
    pub packets: Option<u64>,
    /// UDP payload of these.
    pub bytes: Option<u64>,
    /// These by the bytes that had come from there.
    pub ratio: Option<f64>,
    /// The largest allowed ratio (RFC 9000, section 8).
    pub limit_ratio: Option<f64>,
    /// Secrets that were found.
    pub secrets: Option<u64>,
    /// More about it, in words.
    pub detail: String,
}

/// One row of `comparison.csv`: one metric of one variant in a run and in the run it is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRow {
    /// Name of the variant.
    pub variant: String,
    /// Name of the metric, as in `summary.csv`.
    pub metric: String,
    /// The run that it is compared with: the first one.
    pub baseline_run: String,
    /// The other run.
    pub run: String,
    /// Trials in the first run.
    pub baseline_n: u64,
    /// Their mean.
    pub baseline_mean: f64,
    /// Lower end of the 95 % bootstrap interval of that mean.
    pub baseline_ci95_low: Option<f64>,
    /// Upper end of it.
    pub baseline_ci95_high: Option<f64>,
    /// Trials in the other run.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// Lower end of the 95 % bootstrap interval of that mean.
    pub ci95_low: Option<f64>,
    /// Upper end of it.
    pub ci95_high: Option<f64>,
    /// `mean` − `baseline_mean`.
    pub difference: f64,
    /// Lower end of the 95 % bootstrap interval of the difference.
    pub difference_ci95_low: Option<f64>,
    /// Upper end of it.
    pub difference_ci95_high: Option<f64>,
    /// Whether that interval leaves out 0; empty below five trials each.
    pub differs: Option<bool>,
}
