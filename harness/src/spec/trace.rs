//! Recorded links: files in mahimahi's format, one line per opportunity to send 1500 bytes, with its
//! time in ms since the start. They are what the user wrote as much as the file that names them, so
//! they are read with it.

use super::{
    Experiment, Shape, Topology,
    load::{Location, Problem, Step},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::Path,
};

/// Most lines of a recording: three hours at 1 Gbit/s.
const MAX_LINES: usize = 10_000_000;

/// Longest line; longer ones are no recording.
const MAX_LINE_BYTES: usize = 200;

/// Recordings by the path that the file names them by.
pub type Traces = BTreeMap<String, Trace>;

/// A recorded link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Times of opportunities in ms, ascending; the last one, above 0, is the recording's length.
    pub opportunities_ms: Vec<u32>,
}

/// A file that has shapes in it.
pub(super) trait Shaped {
    /// All shapes with the way to each.
    fn shapes(&self) -> Vec<(Vec<Step>, &Shape)>;
}

impl Shaped for Topology {
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
                all.extend(shape.as_ref().map(|shape| (way(), shape)));
            }
        }
        all
    }
}

/// Reads a recording.
///
/// # Errors
/// Anything wrong with it; a file that cannot be opened is a problem of the file that names it,
/// which is given as a message only.
pub(super) fn read(path: &Path) -> Result<Trace, Box<Wrong>> {
    let unread = |e: io::Error| Wrong::Open(super::load::plain_io(&e));
    // Opening a pipe or a terminal would wait for somebody at its other end.
    let kind = fs::metadata(path).map_err(unread)?.file_type();
    if kind.is_dir() {
        return Err(Wrong::Open("is a folder, not a file".into()).into());
    }
    if !kind.is_file() {
        return Err(Wrong::Open("is no plain file".into()).into());
    }
    parse(path, BufReader::new(File::open(path).map_err(unread)?))
}

/// What a recording says; `path` is for messages.
///
/// # Errors
/// Anything wrong with it.
pub fn parse(path: &Path, mut reader: impl BufRead) -> Result<Trace, Box<Wrong>> {
    let mut opportunities_ms: Vec<u32> = Vec::new();
    let problem = |line: usize, text: &str, message: String, hint: &str| {
        let location = (line > 0).then_some(Location { line, column: 1 });
        let source_line = (line > 0).then(|| text.to_owned());
        let hint = Some(hint.to_owned()).filter(|h| !h.is_empty());
        let file = path.to_owned();
        Box::new(Wrong::Content(Problem { file, location, source_line, message, hint }))
    };
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let mut part = io::Read::take(&mut reader, MAX_LINE_BYTES as u64);
        let length = part.read_until(b'\n', &mut bytes);
        match length.map_err(|e| problem(0, "", super::load::plain_io(&e), "")) {
            Ok(0) => break,
            other => other?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        if line > MAX_LINES {
            let message = format!("has more than {MAX_LINES} lines");
            return Err(problem(0, "", message, "cut it: it is played again and again"));
        }
        let Ok(ms) = text.parse::<u32>() else {
            let short: String = text.chars().take(60).collect();
            let message = format!("`{short}` is not a time in whole milliseconds");
            let hint =
                "a recording has one number per line, a time in ms at which 1500 bytes may pass";
            return Err(problem(line, &short, message, hint));
        };
        if let Some(before) = opportunities_ms.last().filter(|before| **before > ms) {
            let message = format!("{ms} ms comes after {before} ms");
            return Err(problem(line, text, message, "the times of a recording ascend"));
        }
        opportunities_ms.push(ms);
    }
    match opportunities_ms.last() {
        None => Err(problem(0, "", "is empty".into(), "a recording has one number per line")),
        Some(0) => {
            let message = "the last time of a recording is its length, and here it is 0 ms".into();
            Err(problem(opportunities_ms.len(), "0", message, ""))
        }
        Some(_) => Ok(Trace { opportunities_ms }),
    }
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

    fn wrong(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        fs::write(&path, text).unwrap();
        match *read(&path).unwrap_err() {
            Wrong::Content(p) => {
                format!("{}: {}", p.location.map_or(0, |l| l.line), p.message)
            }
            Wrong::Open(message) => message,
        }
    }

    #[test]
    fn what_is_wrong_with_a_recording_is_told_with_its_line() {
        assert_eq!(wrong("1\n2\nx\n"), "3: `x` is not a time in whole milliseconds");
        assert_eq!(wrong("1\n\n2\n"), "2: `` is not a time in whole milliseconds");
        assert_eq!(wrong("-1\n"), "1: `-1` is not a time in whole milliseconds");
        assert_eq!(wrong("1.5\n"), "1: `1.5` is not a time in whole milliseconds");
        assert_eq!(wrong("5\n4\n"), "2: 4 ms comes after 5 ms");
        assert_eq!(
            wrong("0\n0\n"),
            "2: the last time of a recording is its length, and here it is 0 ms"
        );
        assert_eq!(wrong(""), "0: is empty");
        assert!(wrong(&"9".repeat(1000)).starts_with("1: `999"));
        assert_eq!(wrong(&"1\n".repeat(MAX_LINES + 1)), "0: has more than 10000000 lines");
    }

    #[test]
    fn several_opportunities_may_share_a_millisecond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        fs::write(&path, "0\n1\n1\n7").unwrap();
        assert_eq!(read(&path).unwrap().opportunities_ms, [0, 1, 1, 7]);
        let missing = *read(&folder.path().join("none")).unwrap_err();
        assert!(matches!(missing, Wrong::Open(m) if m == "there is no such file"));
    }

    #[test]
    fn regression_a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        for path in [&pipe, Path::new("/dev/zero")] {
            let wrong = *read(path).unwrap_err();
            assert!(matches!(&wrong, Wrong::Open(m) if m == "is no plain file"), "{wrong:?}");
        }
    }
}
