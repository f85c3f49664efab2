//! Recorded links of a file: which it names, and where they are read from. They are what the user
//! wrote as much as the file that names them, so they are read with it, once.

use super::{
    Experiment, Shape, Topology,
    load::{Location, Problem, Step, read_once, unquoted},
};
use limosa_record::recording::{self, Mistake, Recording};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Recordings by the path that the file names them by.
pub type Traces = BTreeMap<String, Trace>;

/// A recorded link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Where a run keeps its copy, below its directory.
    pub copy: String,
    /// What it says.
    pub recording: Arc<Recording>,
}

/// A file that has shapes in it.
pub(super) trait Shaped {
    /// What kind of file it is. The same path in two files is not the same recording when the files
    /// are in two folders.
    const KIND: &'static str;
    /// All shapes with the way to each.
    fn shapes(&self) -> Vec<(Vec<Step>, &Shape)>;
}

impl Shaped for Topology {
    const KIND: &'static str = "topology";

    fn shapes(&self) -> Vec<(Vec<Step>, &Shape)> {
        let mut all = Vec::new();
        for (i, link) in self.links.iter().enumerate() {
            for (field, shape) in
                [("shape", &link.shape), ("a_to_b", &link.a_to_b), ("b_to_a", &link.b_to_a)]
            {
                let way = || vec!["links".into(), i.into(), field.into()];
                all.extend(shape.as_ref().map(|shape| (way(), shape)));
            }
        }
        all
    }
}

impl Shaped for Experiment {
    const KIND: &'static str = "experiment";

    fn shapes(&self) -> Vec<(Vec<Step>, &Shape)> {
        let mut all = Vec::new();
        for (variant, plan) in self.variants.iter() {
            for (link, shape) in plan.shapes.iter() {
                let way = ["variants", variant, "shapes", link];
                all.push((way.map(Into::into).to_vec(), shape));
            }
        }
        for (i, step) in self.timeline.iter().enumerate() {
            let Some(new) = &step.shape else { continue };
            for (field, shape) in
                [("both", &new.both), ("a_to_b", &new.a_to_b), ("b_to_a", &new.b_to_a)]
            {
                let way = || vec!["timeline".into(), i.into(), "shape".into(), field.into()];
                all.extend(shape.as_deref().map(|shape| (way(), shape)));
            }
        }
        all
    }
}

/// Most characters of a copy's name that are the user's.
const MOST_NAMED: usize = 40;

/// The file of a run directory that holds a recording: its name, and what tells it from others.
fn copy_of(kind: &str, name: &str) -> String {
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let stem: String = stem.chars().take(MOST_NAMED).map(safe).collect();
    let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(name).finalize();
    let hash: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("traces/{stem}-{hash}.trace")
}

/// Reads the recording that a file of this kind names, from a run's own copy where there is one.
///
/// # Errors
/// Anything wrong with it; a file that cannot be opened is a problem of the file that names it,
/// which is given as a message only.
pub(super) fn read(folder: &Path, kind: &str, name: &str) -> Result<Trace, (PathBuf, Box<Wrong>)> {
    let copy = copy_of(kind, name);
    let kept = folder.join(&copy);
    // A run directory can be run again, from wherever it is.
    let is_kept = folder.join("plan.json").is_file() && kept.is_file();
    let path = if is_kept { kept } else { folder.join(name) };
    let content = read_once(&path, recording::MAX_BYTES).map_err(|why| Wrong::Open(why).into());
    let parsed = content.and_then(|content| {
        parse(&path, content.bytes).map_err(|wrong| match *wrong {
            Wrong::Content(problem) if content.private => {
                Box::new(Wrong::Content(unquoted(problem)))
            }
            other => Box::new(other),
        })
    });
    match parsed {
        Ok(recording) => Ok(Trace { copy, recording: Arc::new(recording) }),
        Err(wrong) => Err((path, wrong)),
    }
}

/// What a recording says; `path` is for messages.
///
/// # Errors
/// Anything wrong with it.
pub fn parse(path: &Path, text: Vec<u8>) -> Result<Recording, Box<Wrong>> {
    Recording::parse(text).map_err(|Mistake { line, text, message, hint }| {
        let location = (line > 0).then_some(Location { line, column: 1 });
        let source_line = location.map(|_| text);
        let hint = Some(hint.to_owned()).filter(|h| !h.is_empty());
        let file = path.to_owned();
        Box::new(Wrong::Content(Problem { file, location, source_line, message, hint }))
    })
}

/// What is wrong with a recording.
#[derive(Debug)]
pub enum Wrong {
    /// It cannot be opened.
    Open(String),
    /// What is in it.
    Content(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn wrong(name: &Path) -> String {
        let (path, wrong) = read(Path::new("/"), "topology", &name.to_string_lossy()).unwrap_err();
        assert_eq!(path, name);
        match *wrong {
            Wrong::Content(p) => format!("{}: {}", p.location.map_or(0, |l| l.line), p.message),
            Wrong::Open(message) => message,
        }
    }

    #[test]
    fn what_is_wrong_with_a_recording_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        fs::write(&path, "1\n2\nx\n").unwrap();
        assert_eq!(wrong(&path), "3: `x` is not a time in whole milliseconds");
        assert_eq!(wrong(&folder.path().join("none")), "there is no such file");
    }

    #[test]
    fn regression_a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        for path in [&pipe, Path::new("/dev/zero")] {
            assert_eq!(wrong(path), "is no plain file");
        }
    }

    #[test]
    fn copies_have_plain_names_that_do_not_meet() {
        let names = ["../lte/up.trace", "/a/up.trace", "up.trace", "..", "", "ü*\n/..x"];
        let copies: Vec<_> = names.map(|name| copy_of("topology", name)).into();
        assert!(copies[0].starts_with("traces/up-") && copies[0].ends_with(".trace"), "{copies:?}");
        let mut all = [copies, vec![copy_of("experiment", "up.trace")]].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), names.len() + 1);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let inner = |copy: &str| copy["traces/".len()..copy.len() - ".trace".len()].to_owned();
        assert!(all.iter().all(|copy| inner(copy).chars().all(plain)), "{all:?}");
    }
}
