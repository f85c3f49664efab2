//! Published figures to hold a run against.
//!
//! Input: `reference.yaml` of the run directory, a copy of `experiments/<experiment>.reference.yaml`.
//! Output: each published figure beside ours, with the ratio or with the reason why there is none.

use crate::{
    input::{Input, cut},
    stats, summary,
};
use anyhow::{Context, ensure};
use limosa_record::row::SummaryRow;
use serde::Deserialize;

/// A file of published figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    version: u32,
    /// What is cited.
    pub source: String,
    pub figures: Vec<Published>,
}

/// One published figure, in the unit of its metric.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published {
    /// Where in the source, as `figure 7`.
    pub at: String,
    /// What it is, as the metrics of `summary.csv`.
    pub metric: String,
    /// The variant that shows ours; when left out all of them together.
    #[serde(default)]
    pub variant: Option<String>,
    /// For a difference, the variant that is subtracted.
    #[serde(default)]
    pub baseline: Option<String>,
    pub mean: f64,
    #[serde(default)]
    pub min: Option<f64>,
    #[serde(default)]
    pub max: Option<f64>,
    /// Why ours must not be divided by it.
    #[serde(default)]
    pub not_comparable: Option<String>,
}

/// A published figure and ours.
pub(crate) struct Beside<'a> {
    pub published: &'a Published,
    /// Mean of ours with its interval, when the run has it.
    pub ours: Option<(f64, Option<stats::Interval>)>,
    /// Ours ÷ published, when both are there and can be compared.
    pub ratio: Option<f64>,
}

impl File {
    pub(crate) fn parse(yaml: &[u8]) -> anyhow::Result<Self> {
        let mut file: Self =
            serde_yaml::from_slice(yaml).context("not a file of published figures")?;
        ensure!(file.version == 1, "version {} is not known", file.version);
        let numbers = file.figures.iter().flat_map(|f| [Some(f.mean), f.min, f.max]);
        ensure!(numbers.flatten().all(f64::is_finite), "a number in it is not finite");
        file.shorten();
        Ok(file)
    }

    fn shorten(&mut self) {
        let short = |text: &mut String| *text = cut(text).into_owned();
        short(&mut self.source);
        for figure in &mut self.figures {
            let more = [&mut figure.variant, &mut figure.baseline, &mut figure.not_comparable];
            more.into_iter().flatten().chain([&mut figure.at, &mut figure.metric]).for_each(short);
        }
    }

    /// The published figure of a variant's metric.
    pub(crate) fn find(&self, variant: &str, metric: &str) -> Option<&Published> {
        let of = |f: &&Published| f.baseline.is_none() && f.variant.as_deref() == Some(variant);
        self.figures.iter().filter(of).find(|f| f.metric == metric)
    }

    /// All of them beside ours.
    pub(crate) fn beside<'a>(&'a self, input: &Input, rows: &[SummaryRow]) -> Vec<Beside<'a>> {
        let one = |published: &'a Published| {
            let ours = ours(published, input, rows);
            let comparable = published.not_comparable.is_none() && published.mean != 0.0;
            let ratio = ours.filter(|_| comparable).map(|(mean, _)| mean / published.mean);
            Beside { published, ours, ratio }
        };
        self.figures.iter().map(one).collect()
    }
}

fn ours(
    published: &Published,
    input: &Input,
    rows: &[SummaryRow],
) -> Option<(f64, Option<stats::Interval>)> {
    let metric = published.metric.as_str();
    let Some(variant) = &published.variant else {
        let ok = input.trials.iter().filter(|t| t.is_ok());
        let values: Vec<f64> = ok.filter_map(|t| t.number(metric)).collect();
        return Some((stats::mean(&values)?, stats::mean_ci95(&values)));
    };
    let name = match &published.baseline {
        Some(baseline) => summary::difference_name(variant, baseline),
        None => variant.clone(),
    };
    let row = summary::find(rows, &name, metric)?;
    Some((row.mean, row.ci95_low.zip(row.ci95_high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_files_are_right() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments");
        let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        let files: Vec<_> =
            files.filter(|f| f.to_string_lossy().ends_with(".reference.yaml")).collect();
        assert!(files.len() > 1);
        for file in files {
            let parsed = File::parse(&std::fs::read(&file).unwrap());
            let parsed = parsed.unwrap_or_else(|e| panic!("{}: {e:#}", file.display()));
            let of_all = |f: &&Published| f.variant.is_none() && f.baseline.is_some();
            assert_eq!(parsed.figures.iter().find(of_all), None);
        }
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let text = "version: 1\nsource: a paper\nfigures:\n  - {at: figure 7, variant: q, metric: turnaround_s, mean: 64.82}\n";
        let file = File::parse(text.as_bytes()).unwrap();
        assert_eq!(file.find("q", "turnaround_s").unwrap().mean, 64.82);
        assert_eq!(file.find("q", "stall_s"), None);
        for (from, to) in [("64.82", ".nan"), ("version: 1", "version: 2"), ("mean", "meen")] {
            assert!(File::parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }
}
