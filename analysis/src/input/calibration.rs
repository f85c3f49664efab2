//! The idle network that each trial began with: `calibration.csv` in the trial's folder.

use super::{Trial, file};
use crate::number;
use limosa_record::{dir::RunDir, row::CalibrationRow};
use std::path::{Component, Path};

/// Whether a folder that a file names lies below the run directory.
pub(crate) fn is_below(folder: &str) -> bool {
    !folder.is_empty() && Path::new(folder).components().all(|c| matches!(c, Component::Normal(_)))
}

/// All that there are; what cannot be read is counted in one warning.
pub(super) fn read(
    run: &RunDir,
    trials: &[Trial],
    warnings: &mut Vec<String>,
) -> Vec<CalibrationRow> {
    let (mut found, mut broken) = (Vec::new(), 0);
    for trial in trials.iter().filter(|t| is_below(&t.row.folder)) {
        let path = run.root().join(&trial.row.folder).join("calibration.csv");
        let mut problems = Vec::new();
        let rows = file::optional_rows::<CalibrationRow>(&path, &mut problems);
        broken += usize::from(!problems.is_empty());
        found.extend(rows);
    }
    if broken > 0 {
        warnings.push(format!("calibration.csv: broken in {}", number::count(broken, "trial")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stay_below_the_run_directory() {
        let told = ["trials/a/1", "", "../x", "/etc", "trials/../../x"].map(is_below);
        assert_eq!(told, [true, false, false, false, false]);
    }
}
