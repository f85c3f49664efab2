//! The recordings of a plan or a network on disk: a run and a lab keep copies, by which they can be
//! repeated and from which another process takes what a plan's JSON only names.

use super::{Action, Network, Plan, ShapePlan, StepPlan, TraceStage};
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
    fn traces(&self) -> impl Iterator<Item = &TraceStage> {
        let both = self.links.iter().flat_map(|l| [&l.a_to_b, &l.b_to_a]);
        both.flatten().filter_map(|s| s.trace.as_ref())
    }

    fn traces_mut(&mut self) -> impl Iterator<Item = &mut TraceStage> {
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

impl Plan {
    /// As [`Network::keep_recordings`], with those of variants and timelines.
    ///
    /// # Errors
    /// As there.
    pub fn keep_recordings(&self, folder: &Path) -> Result<()> {
        let of_variants = self.variants.values().flat_map(|v| {
            let of_steps = v.timeline.iter().flat_map(StepPlan::shapes);
            v.shapes.values().chain(of_steps).filter_map(|s| s.trace.as_ref())
        });
        keep(self.network.traces().chain(of_variants), folder)
    }

    /// As [`Network::load_recordings`], with those of variants and timelines.
    ///
    /// # Errors
    /// As there.
    pub fn load_recordings(&mut self, folder: &Path) -> Result<()> {
        let of_variants = self.variants.values_mut().flat_map(|v| {
            let of_steps = v.timeline.iter_mut().flat_map(shapes_of_mut);
            v.shapes.values_mut().chain(of_steps).filter_map(|s| s.trace.as_mut())
        });
        load(self.network.traces_mut().chain(of_variants), folder)
    }
}

impl StepPlan {
    /// The shapes that it gives to a link.
    pub fn shapes(&self) -> impl Iterator<Item = &ShapePlan> {
        let both = match &self.action {
            Action::Shape { a_to_b, b_to_a, .. } => [a_to_b.as_ref(), b_to_a.as_ref()],
            _ => [None, None],
        };
        both.into_iter().flatten()
    }
}

fn shapes_of_mut(step: &mut StepPlan) -> impl Iterator<Item = &mut ShapePlan> {
    let both = match &mut step.action {
        Action::Shape { a_to_b, b_to_a, .. } => [a_to_b.as_mut(), b_to_a.as_mut()],
        _ => [None, None],
    };
    both.into_iter().flatten()
}

fn keep<'a>(traces: impl Iterator<Item = &'a TraceStage>, folder: &Path) -> Result<()> {
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

fn load<'a>(traces: impl Iterator<Item = &'a mut TraceStage>, folder: &Path) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan,
        spec::{self, Links},
    };

    /// A million opportunities on both ways of a link.
    fn network(folder: &Path) -> Network {
        let lines: String = (1..=1_000_000_u32).map(|n| format!("{}\n", n / 10)).collect();
        fs::write(folder.join("long.trace"), lines).unwrap();
        let file = folder.join("net.yaml");
        let text = "version: 1\nnodes: {a: {kind: host}, b: {kind: host}}\n\
                    links:\n  - ends: [a.eth0, b.eth0]\n    shape: {trace: long.trace, delay: 5ms}\n";
        fs::write(&file, text).unwrap();
        let topology = spec::load_topology(&file).unwrap_or_else(|e| panic!("{e}"));
        plan::resolve_topology(&topology, Links::Auto).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn a_recording_is_named_in_json_and_kept_as_a_file() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let network = network(from.path());
        network.keep_recordings(to.path()).unwrap();
        let json = serde_json::to_string_pretty(&network).unwrap();
        assert!(json.len() < 10_000, "{} bytes", json.len());
        let mut read: Network = serde_json::from_str(&json).unwrap();
        assert!(read.traces().all(|t| t.recording().is_err()));
        read.load_recordings(to.path()).unwrap();
        assert_eq!(read, network);
        let texts = |n: &Network| -> Vec<_> {
            n.traces().map(|t| t.recording().unwrap().clone()).collect()
        };
        assert_eq!(texts(&read), texts(&network));
        assert!(Arc::ptr_eq(&texts(&read)[0], &texts(&read)[1]), "once in memory");
    }

    #[test]
    fn another_recording_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut network = network(folder.path());
        network.keep_recordings(folder.path()).unwrap();
        let copy = folder.path().join(&network.traces().next().unwrap().file);
        fs::write(&copy, "1\n2\n").unwrap();
        let told = network.load_recordings(folder.path()).unwrap_err().to_string();
        assert!(told.ends_with("is not the recording that was planned"), "{told}");
        for odd in ["../x", "/etc/passwd", ""] {
            network.traces_mut().for_each(|t| t.file = odd.into());
            assert!(network.load_recordings(folder.path()).is_err(), "{odd}");
            assert!(network.keep_recordings(folder.path()).is_err(), "{odd}");
        }
    }
}
