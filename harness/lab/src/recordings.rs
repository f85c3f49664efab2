//! The recordings of a network on disk: a run and a lab keep copies, by which they can be repeated and
//! from which another process takes what a plan's JSON only names.

use crate::{network::Network, shape::TraceStage};
use anyhow::{Context, Result, bail, ensure};
use limosa_record::{
    dir::write_whole,
    read::plain_file,
    recording::{MAX_BYTES, Recording},
};
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

impl Network {
    /// What its links play.
    pub fn traces(&self) -> impl Iterator<Item = &TraceStage> {
        let both = self.links.iter().flat_map(|l| [&l.a_to_b, &l.b_to_a]);
        both.flatten().filter_map(|s| s.trace.as_ref())
    }

    /// The same, to be changed.
    pub fn traces_mut(&mut self) -> impl Iterator<Item = &mut TraceStage> {
        let both = self.links.iter_mut().flat_map(|l| [&mut l.a_to_b, &mut l.b_to_a]);
        both.flatten().filter_map(|s| s.trace.as_mut())
    }

    /// Writes a copy of each recording below a folder.
    ///
    /// # Errors
    /// When one cannot be written, or has not been read.
    pub fn keep_recordings(&self, folder: &Path) -> Result<()> {
        keep(self.traces(), folder)
    }

    /// Reads all recordings from their copies below a folder.
    ///
    /// # Errors
    /// When one is missing, or is not the one that was planned.
    pub fn load_recordings(&mut self, folder: &Path) -> Result<()> {
        load(self.traces_mut(), folder)
    }
}

/// Writes a copy of each recording below a folder.
///
/// # Errors
/// When one cannot be written, or has not been read.
pub fn keep<'a>(traces: impl Iterator<Item = &'a TraceStage>, folder: &Path) -> Result<()> {
    let mut kept = HashSet::new();
    for trace in traces.filter(|t| kept.insert(&t.file)) {
        let path = below(folder, &trace.file)?;
        if let Some(home) = path.parent() {
            fs::create_dir_all(home).with_context(|| format!("make {}", home.display()))?;
        }
        write_whole(&path, &trace.recording()?.text)?;
    }
    Ok(())
}

/// Reads all recordings from their copies below a folder.
///
/// # Errors
/// When one is missing, or is not the one that was planned.
pub fn load<'a>(traces: impl Iterator<Item = &'a mut TraceStage>, folder: &Path) -> Result<()> {
    let mut known: HashMap<String, Arc<Recording>> = HashMap::new();
    for trace in traces {
        let recording = match known.get(&trace.file) {
            Some(recording) => recording.clone(),
            None => Arc::new(read(&below(folder, &trace.file)?)?),
        };
        let (file, found) = (&trace.file, &recording.sha256);
        ensure!(*found == trace.sha256, "{file} is not the recording that was planned");
        known.insert(file.clone(), recording.clone());
        trace.recording.0 = Some(recording);
    }
    Ok(())
}

fn read(path: &Path) -> Result<Recording> {
    let text = plain_file(path, MAX_BYTES).with_context(|| format!("read {}", path.display()))?;
    match Recording::parse(text) {
        Ok(recording) => Ok(recording),
        Err(mistake) => bail!("{}:{}: {}", path.display(), mistake.line, mistake.message),
    }
}

/// Plans name their copies themselves, but anybody may have written a file.
fn below(folder: &Path, file: &str) -> Result<PathBuf> {
    let plain = Path::new(file).components().all(|c| matches!(c, Component::Normal(_)));
    ensure!(plain && !file.is_empty(), "`{file}` is no file of a run directory");
    Ok(folder.join(file))
}
