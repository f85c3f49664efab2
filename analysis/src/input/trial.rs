//! Rows of `trials.csv`, with every number in them, also those of columns that this version does not
//! know, and numbers per trial that are computed from `requests.csv`.

use super::file;
use crate::stats;
use limosa_record::row::{RequestRow, TrialRow};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// Columns that say which trial it is; the others are numbers or are not summarised.
const IDENTITY: [&str; 6] =
    ["experiment", "variant", "repetition", "seed", "started_utc", "folder"];

/// One trial.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trial {
    pub row: TrialRow,
    /// Finite numbers by the name of their column.
    pub numbers: HashMap<String, f64>,
}

impl Trial {
    pub(crate) fn is_ok(&self) -> bool {
        self.row.status == "ok"
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.row.verdict.as_deref() == Some("suspect")
    }

    pub(crate) fn number(&self, metric: &str) -> Option<f64> {
        self.numbers.get(metric).copied()
    }
}

/// The columns that hold any number, and the rows.
pub(super) fn read(path: &Path, warnings: &mut Vec<String>) -> (Vec<String>, Vec<Trial>) {
    let Some((header, records)) = file::table(path, warnings) else { return Default::default() };
    let parse = |record: csv::StringRecord| {
        let row: TrialRow = record.deserialize(Some(&header)).map_err(|e| e.to_string())?;
        let cells = header.iter().zip(&record).filter(|(column, _)| !IDENTITY.contains(column));
        let number = |(column, cell): (&str, &str)| {
            let value: f64 = cell.parse().ok()?;
            value.is_finite().then(|| (column.to_owned(), value))
        };
        Ok(Trial { row, numbers: cells.filter_map(number).collect() })
    };
    let trials = file::collect(path, records.into_iter().map(|r| r.and_then(parse)), warnings);
    let held = |column: &&str| trials.iter().any(|t| t.numbers.contains_key(*column));
    (header.iter().filter(held).map(String::from).collect(), trials)
}

/// The last attempt of every trial, and the earlier ones.
pub(super) fn last_attempts(attempts: Vec<Trial>) -> (Vec<Trial>, Vec<Trial>) {
    let last: HashMap<_, _> = (attempts.iter().enumerate())
        .map(|(i, t)| ((t.row.variant.clone(), t.row.repetition), i))
        .collect();
    let (mut kept, mut superseded) = (Vec::new(), Vec::new());
    for (i, trial) in attempts.into_iter().enumerate() {
        let key = (trial.row.variant.clone(), trial.row.repetition);
        if last.get(&key) == Some(&i) { kept.push(trial) } else { superseded.push(trial) }
    }
    (kept, superseded)
}

/// Adds each trial's numbers of requests; returns their names.
pub(super) fn add_requests(trials: &mut [Trial], requests: &[RequestRow]) -> Vec<String> {
    let mut by_trial: BTreeMap<(&str, u32), Vec<&RequestRow>> = BTreeMap::new();
    for request in requests {
        by_trial.entry((&request.variant, request.repetition)).or_default().push(request);
    }
    const NAMES: [&str; 5] =
        ["requests", "requests_failed", "response_mean_s", "response_p95_s", "response_max_s"];
    let mut any = false;
    for trial in trials {
        let key = (trial.row.variant.as_str(), trial.row.repetition);
        let Some(rows) = by_trial.get(&key) else { continue };
        let ok = rows.iter().filter(|r| r.outcome == "ok");
        let times: Vec<f64> =
            ok.filter_map(|r| r.response_s).filter(|s| s.is_finite() && *s >= 0.0).collect();
        let failed = rows.iter().filter(|r| r.outcome != "ok").count();
        let numbers = [
            Some(rows.len() as f64),
            Some(failed as f64),
            stats::mean(&times),
            stats::quantile(&times, 0.95),
            stats::quantile(&times, 1.0),
        ];
        for (name, number) in NAMES.into_iter().zip(numbers) {
            // A column of the harness with the same name knows better.
            if let Some(number) = number {
                trial.numbers.entry(name.into()).or_insert(number);
            }
        }
        any = true;
    }
    if any { NAMES.map(String::from).to_vec() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_last_attempt_counts() {
        let trial = |status: &str| Trial {
            row: TrialRow { status: status.into(), ..Default::default() },
            ..Default::default()
        };
        let (kept, superseded) = last_attempts(vec![trial("failed"), trial("ok")]);
        assert_eq!((kept[0].is_ok(), superseded.len()), (true, 1));
    }

    #[test]
    fn columns_of_later_versions_are_numbers_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trials.csv");
        let text = "experiment,variant,repetition,seed,status,scheme,turnaround_s,started_utc,folder,lost_objects\n\
                    1,2,3,4,ok,quic,,6,7,8\n";
        fs::write(&path, text).unwrap();
        let (columns, trials) = read(&path, &mut Vec::new());
        assert_eq!(columns, ["lost_objects"]);
        assert_eq!(trials[0].number("lost_objects"), Some(8.0));
    }

    #[test]
    fn requests_give_numbers_per_trial() {
        let row = TrialRow { variant: "v".into(), repetition: 1, ..Default::default() };
        let mut trials = [Trial { row, ..Default::default() }];
        let request = |response_s: Option<f64>, outcome: &str| RequestRow {
            variant: "v".into(),
            repetition: 1,
            request: 1,
            object: String::new(),
            t_s: 0.0,
            response_s,
            served_by: None,
            outcome: outcome.into(),
            first_byte_s: response_s,
            access: "read".into(),
            version: None,
            client: None,
        };
        let requests = [request(Some(1.0), "ok"), request(Some(3.0), "ok"), request(None, "reset")];
        add_requests(&mut trials, &requests);
        let number = |name| trials[0].number(name).unwrap();
        assert_eq!((number("requests"), number("requests_failed")), (3.0, 1.0));
        assert_eq!((number("response_mean_s"), number("response_max_s")), (2.0, 3.0));
    }
}
