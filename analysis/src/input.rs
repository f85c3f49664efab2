//! Reads what a run left behind, however much of it there is.
//!
//! Input: a run directory. Output: [`Input`], with one warning for each file that is missing or
//! broken and for rows that had to be left out; a file cut off in the middle gives its whole rows.

use crate::number;
use limosa_record::{
    dir::RunDir,
    row::{EventRow, ThroughputRow, TrialRow},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::HashMap, fs, io, path::Path};

/// Everything that a run directory holds for the analysis.
pub(crate) struct Input {
    /// The last attempt of every trial.
    pub trials: Vec<TrialRow>,
    /// Earlier attempts of trials that were run again.
    pub superseded: Vec<TrialRow>,
    pub throughput: Vec<ThroughputRow>,
    pub events: Vec<EventRow>,
    pub manifest: Value,
    pub plan: Value,
    pub warnings: Vec<String>,
}

impl Input {
    pub(crate) fn read(run: &RunDir) -> Self {
        let mut warnings = Vec::new();
        let attempts = rows::<TrialRow>(&run.trials(), &mut warnings);
        let (trials, superseded) = last_attempts(attempts);
        if !superseded.is_empty() {
            let n = superseded.len();
            warnings.push(format!(
                "trials.csv: {} left out of all statistics because the trial was run again",
                number::count(n, "earlier attempt")
            ));
        }
        Self {
            trials,
            superseded,
            throughput: rows(&run.throughput(), &mut warnings),
            events: rows(&run.events(), &mut warnings),
            manifest: json(&run.manifest(), &mut warnings),
            plan: json(&run.plan(), &mut warnings),
            warnings,
        }
    }

    /// All variants: in the order of their first trial, then those that left no trial.
    pub(crate) fn variants(&self) -> Vec<String> {
        let planned = self.plan.get("variants").and_then(Value::as_object);
        let names = (self.trials.iter().map(|r| &r.variant))
            .chain(self.throughput.iter().map(|r| &r.variant))
            .chain(planned.into_iter().flatten().map(|(name, _)| name));
        let mut seen = std::collections::HashSet::new();
        names.filter(|name| seen.insert(*name)).cloned().collect()
    }
}

fn last_attempts(attempts: Vec<TrialRow>) -> (Vec<TrialRow>, Vec<TrialRow>) {
    let last: HashMap<_, _> = (attempts.iter().enumerate())
        .map(|(i, row)| ((row.variant.clone(), row.repetition), i))
        .collect();
    let (mut kept, mut superseded) = (Vec::new(), Vec::new());
    for (i, row) in attempts.into_iter().enumerate() {
        let is_last = last.get(&(row.variant.clone(), row.repetition)) == Some(&i);
        if is_last { kept.push(row) } else { superseded.push(row) }
    }
    (kept, superseded)
}

fn bytes(path: &Path, warnings: &mut Vec<String>) -> Option<Vec<u8>> {
    // The whole file at once: an error in the middle of reading could not be told from its end.
    let why = match fs::read(path) {
        Ok(bytes) => return Some(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => "missing".into(),
        Err(e) => format!("cannot be read: {e}"),
    };
    warnings.push(format!("{}: {why}", name(path)));
    None
}

fn rows<T: DeserializeOwned>(path: &Path, warnings: &mut Vec<String>) -> Vec<T> {
    let Some(bytes) = bytes(path, warnings) else { return Vec::new() };
    let (mut rows, mut bad, mut first) = (Vec::new(), 0, None);
    for row in csv::Reader::from_reader(bytes.as_slice()).into_deserialize() {
        match row {
            Ok(row) => rows.push(row),
            Err(e) => {
                bad += 1;
                first.get_or_insert(e);
            }
        }
    }
    if let Some(e) = first {
        let lines = number::count(bad, "row");
        warnings.push(format!("{}: {lines} left out, the first because of: {e}", name(path)));
    } else if rows.is_empty() {
        warnings.push(format!("{}: no rows", name(path)));
    }
    rows
}

fn json(path: &Path, warnings: &mut Vec<String>) -> Value {
    let Some(bytes) = bytes(path, warnings) else { return Value::Null };
    serde_json::from_slice(&bytes).unwrap_or_else(|e| {
        warnings.push(format!("{}: not JSON: {e}", name(path)));
        Value::Null
    })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
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

    #[test]
    fn a_truncated_file_gives_its_whole_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("throughput.csv");
        let text =
            "variant,repetition,path,t_s,interval_s,bytes\nq,1,eth0,0,0.1,5\nq,1,eth0,0.1,0.";
        fs::write(&path, text).unwrap();
        let mut warnings = Vec::new();
        assert_eq!(rows::<ThroughputRow>(&path, &mut warnings).len(), 1);
        assert!(warnings[0].starts_with("throughput.csv: 1 row left out"), "{warnings:?}");
    }

    #[test]
    fn the_last_attempt_counts() {
        let row = |status: &str| TrialRow { status: status.into(), ..Default::default() };
        let (kept, superseded) = last_attempts(vec![row("failed"), row("ok")]);
        assert_eq!((kept[0].status.as_str(), superseded.len()), ("ok", 1));
    }
}
