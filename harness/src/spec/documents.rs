//! All that a run is made of, each file read once.

use super::{
    Document, Experiment, Problem, SpecError, Topology,
    load::{MAX_FILE_BYTES, load_experiment, read_once},
    of_file,
};
use std::path::Path;

/// Everything that an experiment is made of, each file read once: what is planned, what is run and
/// what is stored are the same.
#[derive(Debug, Clone)]
pub struct Documents {
    /// The experiment.
    pub experiment: Document<Experiment>,
    /// The topology that it names.
    pub topology: Document<Topology>,
    /// The published figures that stand beside it, as they are.
    pub reference: Option<Vec<u8>>,
}

/// Reads an experiment, the topology that it names and the published figures beside it.
///
/// # Errors
/// Anything wrong with either file's text, or figures that cannot be read.
pub fn load_all(path: &Path) -> Result<Documents, SpecError> {
    let (experiment, topology) = load_experiment(path)?;
    let reference = reference(path)?;
    Ok(Documents { experiment, topology, reference })
}

/// What a file `X.reference.yaml` beside `X.yaml` holds.
fn reference(experiment: &Path) -> Result<Option<Vec<u8>>, SpecError> {
    // A file whose name cannot be that of results, which the plan tells, has none beside it.
    if of_file(experiment).is_err() {
        return Ok(None);
    }
    // In a run directory, from where a run can be repeated, they have the name that they get there.
    let beside =
        [experiment.with_extension("reference.yaml"), experiment.with_file_name("reference.yaml")];
    let Some(file) = beside.into_iter().find(|f| f.symlink_metadata().is_ok()) else {
        return Ok(None);
    };
    let content = match read_once(&file, MAX_FILE_BYTES) {
        // Results are for others, too.
        Ok(content) if content.private => Err("only root may read it".to_owned()),
        other => other,
    };
    content.map(|content| Some(content.bytes)).map_err(|message| {
        let hint = Some("these are the published figures, which a run's report shows".to_owned());
        SpecError(vec![Problem { file, location: None, source_line: None, message, hint }])
    })
}
