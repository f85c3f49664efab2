//! Reads what a run left behind, however much of it there is.
//!
//! Input: a run directory. Output: [`Input`], with one warning for each file that is missing or
//! broken and for rows that had to be left out; a file cut off in the middle gives its whole rows.

mod calibration;
mod file;
mod gaps;
mod trial;

pub(crate) use calibration::is_below;
pub(crate) use file::{cut, of_run, shown};
pub(crate) use trial::Trial;

use crate::{model, number, reference};
use limosa_record::{
    dir::RunDir,
    row::{CalibrationRow, ClientRow, EventRow, RequestRow, ThroughputRow},
};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf};

/// Everything that a run directory holds for the analysis.
pub(crate) struct Input {
    /// Where it was read from.
    pub root: PathBuf,
    /// The last attempt of every trial.
    pub trials: Vec<Trial>,
    /// Earlier attempts of trials that were run again.
    pub superseded: Vec<Trial>,
    /// Names of the trials' numbers, in the order of the columns.
    pub metrics: Vec<String>,
    /// By variant.
    pub throughput: BTreeMap<String, Vec<ThroughputRow>>,
    pub requests: Vec<RequestRow>,
    /// Of trials with several clients.
    pub clients: Vec<ClientRow>,
    /// By variant and repetition.
    pub events: BTreeMap<(String, u32), Vec<EventRow>>,
    /// Of all trials together, one per interface of the client.
    pub calibrations: Vec<CalibrationRow>,
    pub manifest: Value,
    pub plan: Value,
    /// What was published about the same experiment.
    pub reference: Option<reference::File>,
    /// Parameters of the model, per variant.
    pub model: BTreeMap<String, model::Parameters>,
    pub warnings: Vec<String>,
}

impl Input {
    pub(crate) fn read(run: &RunDir) -> Self {
        let mut warnings = Vec::new();
        let (columns, attempts) = trial::read(&run.trials(), &mut warnings);
        let (mut trials, superseded) = trial::last_attempts(attempts);
        if !superseded.is_empty() {
            let n = superseded.len();
            warnings.push(format!(
                "trials.csv: {} left out of all statistics because the trial was run again",
                number::count(n, "earlier attempt")
            ));
        }
        let mut throughput: BTreeMap<_, Vec<_>> = BTreeMap::new();
        // Where files are only copied, or the client is a command, nobody could have rows.
        let nobody = |t: &Trial| {
            t.row.scheme.is_empty() || (t.row.ends.is_some() && t.row.clients.is_none())
        };
        let told = match !trials.is_empty() && trials.iter().all(nobody) {
            true => &mut Vec::new(),
            false => &mut warnings,
        };
        for row in file::rows::<ThroughputRow>(&run.throughput(), told) {
            throughput.entry(row.variant.clone()).or_default().push(row);
        }
        let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in file::rows::<EventRow>(&run.events(), &mut warnings) {
            events.entry((row.variant.clone(), row.repetition)).or_default().push(row);
        }
        let manifest = file::json(&run.manifest(), &mut warnings);
        let plan = file::json(&run.plan(), &mut warnings);
        // These five are there only when the experiment has something to put in them.
        let requests: Vec<RequestRow> = file::optional_rows(&run.requests(), &mut warnings);
        let clients: Vec<ClientRow> = file::optional_rows(&run.clients(), &mut warnings);
        let reference = file::optional(&run.reference(), &mut warnings, reference::File::parse);
        let parameters = file::optional(&run.model(), &mut warnings, model::Parameters::parse);
        let calibrations = calibration::read(run, &trials, &mut warnings);
        let mut metrics = columns;
        for name in trial::add_requests(&mut trials, &requests) {
            if !metrics.contains(&name) {
                metrics.push(name);
            }
        }
        let mut input = Self {
            root: run.root().to_owned(),
            trials,
            superseded,
            metrics,
            throughput,
            requests,
            clients,
            events,
            calibrations,
            manifest,
            plan,
            reference,
            model: parameters.unwrap_or_default(),
            warnings,
        };
        let gaps = gaps::of(&input);
        input.warnings.extend(gaps);
        input
    }

    /// All variants: in the order of their first trial, then those that left no trial.
    pub(crate) fn variants(&self) -> Vec<String> {
        let planned = self.plan.get("variants").and_then(Value::as_object);
        let names = (self.trials.iter().map(|t| &t.row.variant))
            .chain(self.throughput.keys())
            .chain(planned.into_iter().flatten().map(|(name, _)| name));
        let mut seen = std::collections::HashSet::new();
        names.filter(|name| seen.insert(*name)).cloned().collect()
    }

    /// How many trials the plan has.
    pub(crate) fn planned(&self) -> Option<usize> {
        self.plan.get("trials").and_then(Value::as_array).map(Vec::len)
    }

    /// Trials of a variant.
    pub(crate) fn of<'a>(&'a self, variant: &'a str) -> impl Iterator<Item = &'a Trial> + Clone {
        self.trials.iter().filter(move |t| t.row.variant == variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_are_named_and_nothing_else_happens() {
        let folder = tempfile::tempdir().unwrap();
        let input = Input::read(&RunDir::new(folder.path()));
        assert!(input.trials.is_empty() && input.variants().is_empty());
        let files = ["trials.csv", "throughput.csv", "events.csv", "manifest.json", "plan.json"];
        assert_eq!(input.warnings, files.map(|f| format!("{f}: missing")));
    }
}
