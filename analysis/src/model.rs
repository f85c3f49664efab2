//! The thesis' model of response times during a background migration, for the dual-path scheme and
//! for post-copy.
//!
//! Input: the parameters of a variant, from `model.json` in the run directory. Output: the expected
//! response time of a request that is sent `t` after the start of the migration. Source: Amio,
//! Choudhury & Mohaimen, "Seamless Service Migration in Cloud Edge Networks with QUIC", Islamic University
//! of Technology, 2023, chapter 3 and figures 3.8 and 3.9. Symbols: `r_old`, `r_new` are the
//! response times of the old and of the new server, `s` what fetching a missing object from the
//! other server adds, `t'` the time that pushing everything takes. At `t` the new server holds the
//! object with probability `t / t'`: requests are uniformly random and the rate of the push is steady.

pub(crate) mod measured;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which of the two schemes a variant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Both servers get each request; the new one answers if it holds the object, else the old one.
    DualPath,
    /// The new server alone, which fetches from the old one what it does not hold yet.
    PostCopy,
}

impl Scheme {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::DualPath => "dual-path",
            Self::PostCopy => "post-copy",
        }
    }
}

/// The parameters of one variant. `model.json` maps the names of variants to these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// The scheme.
    pub scheme: Scheme,
    /// `r_old`: response time of the old server, in seconds.
    pub r_old_s: f64,
    /// `r_new`: response time of the new server, in seconds.
    pub r_new_s: f64,
    /// `s`: what fetching an object from the old server adds to the new one's response time, in seconds.
    pub s_s: f64,
    /// `t'`: how long pushing everything takes, in seconds.
    pub push_s: f64,
    /// When the migration starts (`t` = 0), in seconds since the start of the client's handshake.
    pub start_s: f64,
}

impl Parameters {
    /// Reads `model.json`.
    ///
    /// # Errors
    /// When it is not JSON of this form, or a time in it makes no sense.
    pub fn parse(json: &[u8]) -> anyhow::Result<BTreeMap<String, Self>> {
        let all: BTreeMap<String, Self> =
            serde_json::from_slice(json).context("not the parameters of a model")?;
        for (variant, p) in &all {
            let times = [p.r_old_s, p.r_new_s, p.s_s, p.push_s, p.start_s];
            let sane = times.iter().all(|t| (0.0..crate::series::LONGEST_S).contains(t));
            ensure!(sane, "variant {variant} has a time that is negative or too long");
            ensure!(p.push_s > p.r_new_s, "variant {variant}: push_s must be longer than r_new_s");
        }
        Ok(all)
    }

    /// E\[CRT\] in seconds of a request sent `t` seconds after the start of the migration:
    ///
    /// - dual-path: `r_old` for t ≤ r_new, then `r_old + (t/t')(r_new − r_old)`;
    /// - post-copy: no service (`None`) for t ≤ r_new, then `r_new + (1 − t/t') s`;
    /// - both: `r_new` after t'.
    pub fn expected_s(&self, t: f64) -> Option<f64> {
        let held = (t / self.push_s).min(1.0);
        match self.scheme {
            Scheme::DualPath if t <= self.r_new_s => Some(self.r_old_s),
            Scheme::DualPath => Some(self.r_old_s + held * (self.r_new_s - self.r_old_s)),
            Scheme::PostCopy if t <= self.r_new_s => None,
            Scheme::PostCopy => Some(self.r_new_s + (1.0 - held) * self.s_s),
        }
    }

    /// Mean of [`Self::expected_s`] over r_new < t ≤ t', in seconds: both curves are straight there, so
    /// it is their value half-way.
    pub fn mean_s(&self) -> f64 {
        let middle = (self.r_new_s + self.push_s) / 2.0;
        self.expected_s(middle).unwrap_or(f64::INFINITY)
    }

    /// The `r_old` in seconds at which both schemes answer equally fast, `r_new + s`: dual-path is
    /// better below it, post-copy above it.
    pub fn crossover_r_old_s(&self) -> f64 {
        self.r_new_s + self.s_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures 3.8 (s = 2.2) and 3.9 (s = 0.7).
    fn figure(scheme: Scheme, s_s: f64) -> Parameters {
        Parameters { scheme, r_old_s: 1.5, r_new_s: 0.5, s_s, push_s: 2.9, start_s: 0.0 }
    }

    #[track_caller]
    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 0.0005, "{got}, the thesis has {want}");
    }

    /// The lines are the thesis' own: 1.5 − .3448 t, 2.7 − .7586 t and 1.2 − .2414 t.
    #[test]
    fn the_lines_of_figures_3_8_and_3_9() {
        let lines = [
            (figure(Scheme::DualPath, 2.2), 1.5, 0.3448),
            (figure(Scheme::PostCopy, 2.2), 2.7, 0.7586),
            (figure(Scheme::PostCopy, 0.7), 1.2, 0.2414),
        ];
        for (model, intercept, slope) in lines {
            for t in [0.51, 1.0, 2.0, 2.9] {
                near(model.expected_s(t).unwrap(), intercept - slope * t);
            }
        }
    }

    #[test]
    fn the_values_just_after_the_new_server_answers() {
        let t = 0.5 + 1e-9;
        near(figure(Scheme::DualPath, 2.2).expected_s(t).unwrap(), 1.328);
        near(figure(Scheme::PostCopy, 2.2).expected_s(t).unwrap(), 2.321);
        near(figure(Scheme::PostCopy, 0.7).expected_s(t).unwrap(), 1.079);
    }

    #[test]
    fn before_that_one_scheme_serves_and_the_other_does_not() {
        assert_eq!(figure(Scheme::DualPath, 2.2).expected_s(0.5), Some(1.5));
        assert_eq!(figure(Scheme::PostCopy, 2.2).expected_s(0.5), None);
        assert_eq!(figure(Scheme::PostCopy, 2.2).expected_s(5.0), Some(0.5));
    }

    #[test]
    fn the_means_over_the_migration() {
        near(figure(Scheme::DualPath, 2.2).mean_s(), 0.914);
        near(figure(Scheme::PostCopy, 2.2).mean_s(), 1.410);
        let worse = figure(Scheme::DualPath, 0.7).mean_s() > figure(Scheme::PostCopy, 0.7).mean_s();
        assert!(worse, "with s = 0.7 dual-path is worse");
    }

    /// post − dual = −(1 − t/t')(r_old − r_new − s): its sign turns at r_old = r_new + s, at every t.
    #[test]
    fn the_crossover() {
        for (r_old_s, dual_is_better) in [(1.19, true), (1.21, false)] {
            let at = |scheme| Parameters { r_old_s, ..figure(scheme, 0.7) };
            near(at(Scheme::DualPath).crossover_r_old_s(), 1.2);
            for t in [0.6, 1.5, 2.8] {
                let [dual, post] =
                    [Scheme::DualPath, Scheme::PostCopy].map(|s| at(s).expected_s(t).unwrap());
                assert_eq!(dual < post, dual_is_better, "t = {t}");
                near(post - dual, -(1.0 - t / 2.9) * (r_old_s - 0.5 - 0.7));
            }
        }
    }

    #[test]
    fn parameters_are_json() {
        let text = br#"{"d": {"scheme": "dual-path", "r_old_s": 1.5, "r_new_s": 0.5, "s_s": 2.2, "push_s": 2.9, "start_s": 0}}"#;
        assert_eq!(Parameters::parse(text).unwrap()["d"], figure(Scheme::DualPath, 2.2));
        let wrong = String::from_utf8_lossy(text).replace("2.9", "0.1");
        let told = Parameters::parse(wrong.as_bytes()).unwrap_err().to_string();
        assert_eq!(told, "variant d: push_s must be longer than r_new_s");
    }
}
