//! Descriptive statistics of a handful of trials.
//!
//! Input: finite numbers in any order. Output: numbers; `None` where there are too few of them.
//! Sources: quantiles of type 7 after Hyndman & Fan, "Sample quantiles in statistical packages",
//! The American Statistician 50(4), 1996 (numpy's and R's default); the percentile bootstrap after
//! Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; the generator
//! SplitMix64 after Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA
//! 2014; a number below n by multiplication after Lemire, "Fast random integer generation in an
//! interval", ACM TOMACS 29(1), 2019, without his rejection step: its bias is below n / 2^64.

/// Every interval starts from this seed, so that a re-analysis gives the same digits.
const SEED: u64 = 0x4C49_4D4F_5341;
/// Resamples per bootstrap interval.
const RESAMPLES: usize = 10_000;
/// Values that are drawn for one at the most, so that thousands of trials do not take a minute...
const MOST_DRAWN: usize = 10_000_000;
/// ...but never fewer resamples than this.
const FEWEST_RESAMPLES: usize = 2_000;
/// Of fewer values there is no interval: resampled they give little but themselves, and what is drawn
/// from the smallest to the largest of two is no statement about a mean.
pub const FEWEST_FOR_AN_INTERVAL: usize = 5;

/// An interval, lower and upper end.
pub type Interval = (f64, f64);

/// The arithmetic mean; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    let n = values.len();
    (n > 0).then(|| values.iter().sum::<f64>() / n as f64)
}

/// The median: the quantile at one half.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The quantile of type 7 at `p` in 0..=1: with the sorted values at the positions 0 to n - 1,
/// the linearly interpolated value at (n - 1) p.
pub fn quantile(values: &[f64], p: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let position = last as f64 * p.clamp(0.0, 1.0);
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(low + (position - below as f64) * (high - low))
}

/// The percentile-bootstrap interval of the mean at a level as 0.95; `None` below
/// [`FEWEST_FOR_AN_INTERVAL`] values.
pub fn mean_interval(values: &[f64], level: f64) -> Option<Interval> {
    bootstrap(&[values], level, |means| means[0])
}

/// The 95 % percentile-bootstrap interval of the mean; `None` below [`FEWEST_FOR_AN_INTERVAL`] values.
pub fn mean_ci95(values: &[f64]) -> Option<Interval> {
    mean_interval(values, 0.95)
}

/// The 95 % percentile-bootstrap interval of mean(a) - mean(b) of two independent samples, each
/// resampled on its own; `None` when one has fewer than [`FEWEST_FOR_AN_INTERVAL`] values.
pub fn difference_ci95(a: &[f64], b: &[f64]) -> Option<Interval> {
    bootstrap(&[a, b], 0.95, |means| means[0] - means[1])
}

fn bootstrap(
    samples: &[&[f64]],
    level: f64,
    statistic: impl Fn(&[f64]) -> f64,
) -> Option<Interval> {
    if samples.iter().any(|s| s.len() < FEWEST_FOR_AN_INTERVAL) {
        return None;
    }
    let drawn_each = samples.iter().map(|s| s.len()).max().unwrap_or(1);
    let resamples = (MOST_DRAWN / drawn_each).clamp(FEWEST_RESAMPLES, RESAMPLES);
    let mut random = SplitMix64(SEED);
    let mut means = vec![0.0; samples.len()];
    let outcomes: Vec<f64> = (0..resamples)
        .map(|_| {
            for (mean, sample) in means.iter_mut().zip(samples) {
                let sum: f64 = sample.iter().map(|_| sample[random.below(sample.len())]).sum();
                *mean = sum / sample.len() as f64;
            }
            statistic(&means)
        })
        .collect();
    let tail = (1.0 - level) / 2.0;
    Some((quantile(&outcomes, tail)?, quantile(&outcomes, 1.0 - tail)?))
}

struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vectors {
        splitmix64_1234567: Vec<String>,
        cases: Vec<Case>,
        difference: Difference,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        values: Vec<f64>,
        mean: f64,
        median: f64,
        p05: f64,
        p25: f64,
        p75: f64,
        p95: f64,
        ci95: Interval,
        ci99: Interval,
        scipy_ci95: Interval,
        standard_error: f64,
    }

    #[derive(Deserialize)]
    struct Difference {
        a: Vec<f64>,
        b: Vec<f64>,
        ci95: Interval,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../tests/stats_vectors.json")).unwrap()
    }

    #[track_caller]
    fn same(got: Option<f64>, want: f64, what: &str) {
        let got = got.unwrap();
        assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{what}: {got}, numpy {want}");
    }

    #[test]
    fn numbers_are_those_of_numpy() {
        for case in vectors().cases {
            let (v, name) = (&case.values, &case.name);
            same(mean(v), case.mean, name);
            same(median(v), case.median, name);
            same(quantile(v, 0.05), case.p05, name);
            same(quantile(v, 0.25), case.p25, name);
            same(quantile(v, 0.75), case.p75, name);
            same(quantile(v, 0.95), case.p95, name);
            let Some(wide) = mean_interval(v, 0.99) else {
                assert!(v.len() < FEWEST_FOR_AN_INTERVAL, "{name}");
                continue;
            };
            same(Some(wide.0), case.ci99.0, name);
            same(Some(wide.1), case.ci99.1, name);
            let ci = mean_ci95(v).unwrap();
            same(Some(ci.0), case.ci95.0, name);
            same(Some(ci.1), case.ci95.1, name);
        }
    }

    /// Another generator gives another interval; both are within a tenth of a standard error.
    #[test]
    fn interval_is_close_to_scipys() {
        let long = |case: &Case| case.values.len() >= FEWEST_FOR_AN_INTERVAL;
        for case in vectors().cases.into_iter().filter(long) {
            let ci = mean_ci95(&case.values).unwrap();
            let far = (ci.0 - case.scipy_ci95.0).abs().max((ci.1 - case.scipy_ci95.1).abs());
            assert!(far <= 0.1 * case.standard_error, "{}: {ci:?}", case.name);
        }
    }

    #[test]
    fn difference_is_that_of_numpy() {
        let Difference { a, b, ci95 } = vectors().difference;
        let (low, high) = difference_ci95(&a, &b).unwrap();
        same(Some(low), ci95.0, "low");
        same(Some(high), ci95.1, "high");
    }

    #[test]
    fn generator_is_splitmix64() {
        let mut random = SplitMix64(1_234_567);
        for want in vectors().splitmix64_1234567 {
            assert_eq!(random.next().to_string(), want);
        }
    }

    #[test]
    fn too_few_values_have_no_statistic() {
        assert_eq!((mean(&[]), median(&[]), mean_ci95(&[1.0])), (None, None, None));
        assert_eq!(difference_ci95(&[1.0; 5], &[1.0; 4]), None);
        assert_eq!(
            (mean_ci95(&[1.0, 2.0, 3.0, 4.0]), mean_interval(&[1.0; 4], 0.99)),
            (None, None)
        );
        assert_eq!(mean_ci95(&[2.0; 5]), Some((2.0, 2.0)));
        assert_eq!(quantile(&[7.0], 0.95), Some(7.0));
    }
}
