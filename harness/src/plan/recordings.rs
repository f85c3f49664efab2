//! The recordings of a plan or a network on disk: a run and a lab keep copies, by which they can be
//! repeated and from which another process takes what a plan's JSON only names.

use super::{Action, Plan, StepPlan};
use anyhow::Result;
use limosa_lab::recordings::{keep, load};
use limosa_lab::shape::ShapePlan;
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan,
        spec::{self, Links},
    };
    use limosa_lab::network::Network;
    use std::{fs, sync::Arc};

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
