//! Measured requests beside the model: per tenth of the migration, over the whole of it, and the
//! crossover of a sweep.
//!
//! Only answered requests of trials that are `ok` count. The model is averaged over the times at
//! which the very same requests were sent, so that chance in these times does not look like an error
//! of the model. Tenths divide r_new < t ≤ t', where both schemes serve; what is before that is part 0.

use super::{Parameters, Scheme};
use crate::{input::Input, stats};
use limosa_record::row::ModelRow;
use std::collections::BTreeMap;

const TENTHS: usize = 10;

/// One variant's requests beside its model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    pub variant: String,
    pub parameters: Parameters,
    /// Time since the start of the migration and response time of each request of the migration.
    pub requests: Vec<(f64, f64)>,
    /// Part 0, the ten tenths, all.
    pub rows: Vec<ModelRow>,
}

impl Comparison {
    pub(crate) fn tenths(&self) -> impl Iterator<Item = &ModelRow> {
        self.rows.iter().filter(|r| r.part != "0" && r.part != "all")
    }

    pub(crate) fn whole(&self) -> Option<&ModelRow> {
        self.rows.iter().find(|r| r.part == "all")
    }

    pub(crate) fn inside(&self) -> usize {
        self.tenths().filter(|r| r.inside == Some(true)).count()
    }
}

/// Every variant that has parameters and requests, in the order of `variants`.
pub(crate) fn compare(input: &Input, variants: &[String]) -> Vec<Comparison> {
    let one = |variant: &String| {
        let parameters = *input.model.get(variant)?;
        let requests = requests(input, variant, &parameters);
        (!requests.is_empty()).then(|| {
            let rows = rows(variant, &parameters, &requests);
            Comparison { variant: variant.clone(), parameters, requests, rows }
        })
    };
    variants.iter().filter_map(one).collect()
}

fn requests(input: &Input, variant: &str, p: &Parameters) -> Vec<(f64, f64)> {
    let ok: Vec<u32> = input.of(variant).filter(|t| t.is_ok()).map(|t| t.row.repetition).collect();
    let counts = |r: &&limosa_record::row::RequestRow| {
        r.variant == variant && r.outcome == "ok" && ok.contains(&r.repetition)
    };
    let timed = input.requests.iter().filter(counts).filter_map(|r| {
        let (t, response) = (r.t_s - p.start_s, r.response_s?);
        let usable = t > 0.0 && t <= p.push_s && response >= 0.0 && response.is_finite();
        usable.then_some((t, response))
    });
    timed.collect()
}

fn rows(variant: &str, p: &Parameters, requests: &[(f64, f64)]) -> Vec<ModelRow> {
    let (from, to) = (p.r_new_s, p.push_s);
    // The last edge is the end itself, from which a sum may differ in its last digit.
    let edge = |i: usize| match i {
        TENTHS => to,
        _ => from + (to - from) * i as f64 / TENTHS as f64,
    };
    let tenths = (1..=TENTHS).map(|i| (i.to_string(), edge(i - 1), edge(i)));
    let parts = std::iter::once(("0".into(), 0.0, from)).chain(tenths);
    let parts = parts.chain([("all".into(), from, to)]);
    let row = |(part, from_s, to_s): (String, f64, f64)| {
        let within: Vec<_> =
            requests.iter().filter(|(t, _)| *t > from_s && *t <= to_s).copied().collect();
        let times: Vec<f64> = within.iter().map(|(_, response)| *response).collect();
        let expected: Option<Vec<f64>> = within.iter().map(|(t, _)| p.expected_s(*t)).collect();
        let model_s = expected.and_then(|e| stats::mean(&e));
        let mean_s = stats::mean(&times);
        let ci99 = stats::mean_interval(&times, 0.99);
        let both = mean_s.zip(model_s.filter(|m| *m > 0.0));
        ModelRow {
            variant: variant.into(),
            scheme: p.scheme.name().into(),
            part,
            from_s,
            to_s,
            n: times.len() as u64,
            mean_s,
            ci99_low_s: ci99.map(|ci| ci.0),
            ci99_high_s: ci99.map(|ci| ci.1),
            model_s,
            inside: ci99.zip(model_s).map(|(ci, m)| ci.0 <= m && m <= ci.1),
            difference_ratio: both.map(|(mean, model)| mean / model - 1.0),
        }
    };
    parts.map(row).collect()
}

/// Where the measured schemes of a sweep over `r_old` answer equally fast.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Crossover {
    /// `r_new` and `s` of the sweep, in seconds.
    pub r_new_s: f64,
    pub s_s: f64,
    /// Where the straight line of least squares through the sweep's differences is zero.
    pub r_old_s: f64,
    /// Variants of the sweep that were used.
    pub points: usize,
}

impl Crossover {
    pub(crate) fn model_s(&self) -> f64 {
        self.r_new_s + self.s_s
    }
}

/// For every `r_new`, `s` and `t'` that several `r_old` on both sides of the crossover were tried with
/// under both schemes: the `r_old` at which both means are equal. By the model their difference is a
/// straight line in `r_old`, so the line that fits all points best says it.
pub(crate) fn crossovers(comparisons: &[Comparison]) -> Vec<Crossover> {
    let key = |p: &Parameters| [p.r_new_s, p.s_s, p.push_s].map(f64::to_bits);
    let mut sweeps: BTreeMap<[u64; 3], BTreeMap<u64, [Option<f64>; 2]>> = BTreeMap::new();
    for c in comparisons {
        let scheme = usize::from(c.parameters.scheme == Scheme::PostCopy);
        let points = sweeps.entry(key(&c.parameters)).or_default();
        // The bits of numbers that are not negative are in the order of the numbers.
        let point = points.entry(c.parameters.r_old_s.to_bits()).or_default();
        point[scheme] = c.whole().and_then(|w| w.mean_s);
    }
    let crossover = |([r_new, s, _], points): ([u64; 3], BTreeMap<u64, [Option<f64>; 2]>)| {
        let gap = |(r_old, [dual, post]): (u64, [Option<f64>; 2])| {
            Some((f64::from_bits(r_old), post? - dual?))
        };
        let gaps: Vec<(f64, f64)> = points.into_iter().filter_map(gap).collect();
        let differs = |wins: fn(f64) -> bool| gaps.iter().any(|(_, gap)| wins(*gap));
        let r_old_s =
            (differs(|gap| gap > 0.0) && differs(|gap| gap <= 0.0)).then(|| zero_of_line(&gaps))?;
        Some(Crossover {
            r_new_s: f64::from_bits(r_new),
            s_s: f64::from_bits(s),
            r_old_s,
            points: gaps.len(),
        })
    };
    sweeps.into_iter().filter_map(crossover).collect()
}

/// Where the line of least squares through these points is zero.
fn zero_of_line(points: &[(f64, f64)]) -> f64 {
    let mean =
        |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (up, along) = points
        .iter()
        .fold((0.0, 0.0), |(up, along), p| (up + (p.0 - x) * (p.1 - y), along + (p.0 - x).powi(2)));
    x - y * along / up
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(scheme: Scheme, r_old_s: f64) -> Parameters {
        Parameters { scheme, r_old_s, r_new_s: 0.5, s_s: 0.7, push_s: 2.9, start_s: 0.0 }
    }

    /// Requests every 10 ms that hit or miss in turn, so that their mean follows the model.
    fn measured(scheme: Scheme, r_old_s: f64) -> Comparison {
        let parameters = parameters(scheme, r_old_s);
        let mut held = 0.0;
        let request = |i: i32| {
            let t = f64::from(i) * 0.01;
            held += t / parameters.push_s;
            let hit = held >= 1.0;
            held -= f64::from(hit);
            let miss = match scheme {
                Scheme::DualPath => r_old_s,
                Scheme::PostCopy => 0.5 + 0.7,
            };
            (t, if hit { 0.5 } else { miss })
        };
        let requests: Vec<_> = (1..=290).map(request).collect();
        let rows = rows("v", &parameters, &requests);
        Comparison { variant: "v".into(), parameters, requests, rows }
    }

    #[test]
    fn requests_that_follow_the_model_lie_on_it() {
        for scheme in [Scheme::DualPath, Scheme::PostCopy] {
            let c = measured(scheme, 1.5);
            assert_eq!((c.rows.len(), c.inside()), (12, 10), "{:?}", c.rows);
            let whole = c.whole().unwrap();
            assert_eq!(whole.n, 240);
            assert!(whole.difference_ratio.unwrap().abs() < 0.01, "{whole:?}");
        }
    }

    #[test]
    fn what_the_model_has_no_value_for_stays_empty() {
        let outage = &measured(Scheme::PostCopy, 1.5).rows[0];
        assert_eq!((outage.n, outage.model_s, outage.inside), (50, None, None));
        let served = &measured(Scheme::DualPath, 1.5).rows[0];
        assert_eq!(served.model_s, Some(1.5));
    }

    #[test]
    fn the_crossover_of_a_sweep_is_found() {
        let sweep = [0.9, 1.1, 1.3, 1.5].into_iter();
        let both = sweep.flat_map(|r| [Scheme::DualPath, Scheme::PostCopy].map(|s| measured(s, r)));
        let found = crossovers(&both.collect::<Vec<_>>());
        assert_eq!((found.len(), found[0].points), (1, 4));
        assert!((found[0].r_old_s / found[0].model_s() - 1.0).abs() < 0.01, "{found:?}");
    }
}
