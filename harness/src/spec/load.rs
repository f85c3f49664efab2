//! Text to [`Experiment`] and [`Topology`], or an error with file, line, column and a hint.

use super::{
    Experiment, FORMAT_VERSION, Topology, Traces,
    hint::{did_you_mean, similar},
    positions::Positions,
    trace::{self, Shaped, Wrong},
};
use limosa_record::read::{self, Content};
use serde::{
    Deserialize,
    de::{self, DeserializeOwned, DeserializeSeed},
};
use std::{
    collections::HashSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// The largest file that is read; a topology of a thousand nodes has 200 kB, a timeline of a hundred
/// thousand steps 6 MB.
pub(super) const MAX_FILE_BYTES: u64 = 8 << 20;

/// Most elements of a list, steps of a timeline among them.
const MAX_ELEMENTS: usize = 100_000;

/// So many mistakes are told; who has more has made one of them many times.
pub const MOST_TOLD: usize = 20;

/// Most brackets that are open at a time. The reader of YAML takes time with the square of them: half
/// a minute for a hundred thousand.
const MAX_DEPTH: usize = 200;

/// A file that was read, kept so that later checks can point into it.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// Where it came from.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What it says.
    pub value: T,
    /// The recordings that its shapes name.
    pub traces: Traces,
    /// Whether only root may read it, so that messages do not quote it.
    pub private: bool,
    /// Where its values stand, once that was asked for.
    positions: OnceLock<Positions>,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An experiment.
    Experiment,
    /// A topology.
    Topology,
}

/// A file of either kind.
pub trait Format: DeserializeOwned {
    /// Which kind.
    const PURPOSE: Purpose;
    /// The version of the format that it says it has.
    fn version(&self) -> u32;
}

impl Format for Experiment {
    const PURPOSE: Purpose = Purpose::Experiment;
    fn version(&self) -> u32 {
        self.version
    }
}

impl Format for Topology {
    const PURPOSE: Purpose = Purpose::Topology;
    fn version(&self) -> u32 {
        self.version
    }
}

/// A place in a file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One step of the way to a value: into a mapping or into a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The value of this key.
    Key(String),
    /// The element of this number, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<&String> for Step {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// What is wrong with a file, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub location: Option<Location>,
    /// The line itself, to be shown.
    pub source_line: Option<String>,
    /// What is wrong, as a lowercase fragment.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// All that is wrong with an experiment and its topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SpecError(pub Vec<Problem>);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().take(MOST_TOLD).enumerate() {
            if i > 0 {
                write!(f, "\nerror: ")?;
            }
            write!(f, "{problem}")?;
        }
        match self.0.len().saturating_sub(MOST_TOLD) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more problems"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Location { line, column }) = self.location {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let (Some(Location { line, column }), Some(text)) = (self.location, &self.source_line) {
            let gutter = line.to_string().len();
            write!(f, "\n  {line} | {text}\n  {:gutter$} | {:2$}^", "", "", column - 1)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl<T> Document<T> {
    /// A problem with the value at `way`.
    pub fn problem(&self, way: &[Step], message: String, hint: Option<String>) -> Problem {
        let location = self.positions().locate(way);
        let line = location.and_then(|l| self.positions().line(&self.text, l.line));
        let line = line.filter(|_| !self.private);
        problem_at(&self.path, line, location, message, hint)
    }

    /// Where the value at `way` stands.
    pub fn location(&self, way: &[Step]) -> Option<Location> {
        self.positions().locate(way)
    }

    fn positions(&self) -> &Positions {
        self.positions.get_or_init(|| Positions::of(&self.text))
    }
}

fn problem_at(
    file: &Path,
    line: Option<&str>,
    location: Option<Location>,
    message: String,
    hint: Option<String>,
) -> Problem {
    // A long line would hide the message; the position is enough then.
    let source_line = line.filter(|l| l.chars().count() <= 160).map(|l| l.replace('\t', " "));
    Problem { file: file.into(), location, source_line, message, hint }
}

/// Reads an experiment and the topology that it names.
///
/// # Errors
/// Anything wrong with either file's text.
pub fn load_experiment(
    path: &Path,
) -> Result<(Document<Experiment>, Document<Topology>), SpecError> {
    let experiment: Document<Experiment> = load(path)?;
    let wanted = &experiment.value.topology;
    let candidates = topology_candidates(path, wanted);
    let Some(file) = candidates.iter().find(|p| p.is_file()) else {
        let looked = candidates.iter().map(|p| format!("`{}`", p.display())).collect::<Vec<_>>();
        let message = format!("there is no topology `{wanted}`");
        let hint = Some(format!("looked for {}", looked.join(" and ")));
        return Err(SpecError(vec![experiment.problem(&["topology".into()], message, hint)]));
    };
    let topology = load_topology(file)?;
    Ok((experiment, topology))
}

/// Reads a topology.
///
/// # Errors
/// Anything wrong with the file's text.
pub fn load_topology(path: &Path) -> Result<Document<Topology>, SpecError> {
    load(path)
}

/// A bare name is a file of `topologies/` beside the experiment's folder; anything else is a path.
fn topology_candidates(experiment: &Path, wanted: &str) -> Vec<PathBuf> {
    let folder = experiment.parent().unwrap_or(Path::new(""));
    // A run directory can be run again: it has the topology beside the experiment, under this name.
    if folder.join("plan.json").is_file() && folder.join("topology.yaml").is_file() {
        return vec![folder.join("topology.yaml")];
    }
    let is_path = wanted.contains('/') || wanted.ends_with(".yaml");
    if is_path {
        return vec![folder.join(wanted)];
    }
    let name = format!("{wanted}.yaml");
    // An experiment often has the name of its topology, so its own folder comes second.
    vec![folder.join("../topologies").join(&name), folder.join(&name)]
}

/// Reads one file of either kind.
fn load<T: Format + Shaped>(path: &Path) -> Result<Document<T>, SpecError> {
    let failed = |message: String, hint: &str| {
        let hint = Some(hint.to_owned()).filter(|h| !h.is_empty());
        let file = path.to_owned();
        SpecError(vec![Problem { file, location: None, source_line: None, message, hint }])
    };
    let content = read_once(path, MAX_FILE_BYTES).map_err(|message| {
        let hint = match path.symlink_metadata() {
            Ok(_) => "",
            Err(_) => T::PURPOSE.shipped(),
        };
        failed(message, hint)
    })?;
    let text = String::from_utf8(content.bytes);
    let text = text.map_err(|_| failed("is not UTF-8 text".into(), ""))?;
    let parsed = parse(path, text);
    if content.private {
        let mut document =
            parsed.map_err(|e| SpecError(e.0.into_iter().map(unquoted).collect()))?;
        document.private = true;
        return with_traces(document);
    }
    with_traces(parsed?)
}

/// What is in a file that a user names.
///
/// # Errors
/// Why not, as a lowercase fragment.
pub(super) fn read_once(path: &Path, most: u64) -> Result<Content, String> {
    read::content(path, most).map_err(|e| plain_io(&e))
}

/// What a text of either kind says, without the recordings that it names; `path` is for messages.
///
/// # Errors
/// Anything wrong with the text.
pub fn parse<T: Format>(path: &Path, text: String) -> Result<Document<T>, SpecError> {
    let failed = |location: Option<Location>, message, hint| {
        let line = location.and_then(|l| text.lines().nth(l.line - 1));
        SpecError(vec![problem_at(path, line, location, message, hint)])
    };
    if text.trim().is_empty() {
        return Err(failed(None, "is empty".into(), None));
    }
    if let Some(location) = too_deep(&text) {
        let message =
            format!("brackets are open in each other here, more than {MAX_DEPTH} of them");
        return Err(failed(Some(location), message, None));
    }
    let unique = Unique.deserialize(serde_yaml::Deserializer::from_str(&text));
    match unique.and_then(|()| serde_yaml::from_str::<T>(&text)) {
        Ok(value) => {
            check_version(path, &text, Some(value.version()))?;
            let positions = OnceLock::new();
            Ok(Document {
                path: path.to_owned(),
                text,
                value,
                traces: Traces::new(),
                private: false,
                positions,
            })
        }
        Err(e) => {
            // A file of another version should be told so, not be blamed for unknown fields.
            check_version(path, &text, version_of(&text))?;
            check_purpose(path, &text, T::PURPOSE)?;
            let location = e.location().map(|l| Location { line: l.line(), column: l.column() });
            let (message, hint) = yaml_message(&e.to_string());
            let location = location.or_else(|| culprit(&message, &text));
            Err(failed(location, message, hint))
        }
    }
}

/// The same problem without a word of the file, which only root may read.
pub(super) fn unquoted(problem: Problem) -> Problem {
    Problem {
        source_line: None,
        message: "what is here does not belong there".into(),
        hint: Some("only root may read the file, so nothing of it is shown".into()),
        ..problem
    }
}

pub(super) fn plain_io(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "may not be read".into(),
        _ => e.to_string(),
    }
}

/// Reads the recordings that a file names.
fn with_traces<T: Shaped>(mut document: Document<T>) -> Result<Document<T>, SpecError> {
    let folder = document.path.parent().unwrap_or(Path::new("")).to_owned();
    let (mut traces, mut problems) = (Traces::new(), Vec::new());
    for (way, shape) in document.value.shapes() {
        let Some(name) = &shape.trace else { continue };
        if traces.contains_key(name) {
            continue;
        }
        match trace::read(&folder, T::KIND, name) {
            Ok(trace) => drop(traces.insert(name.clone(), trace)),
            Err((file, wrong)) => match *wrong {
                Wrong::Content(problem) => problems.push(problem),
                Wrong::Open(why) => {
                    let way = [way, vec!["trace".into()]].concat();
                    let hint = Some("the path starts in the folder of this file".into());
                    let message = format!("`{}`: {why}", file.display());
                    problems.push(document.problem(&way, message, hint));
                }
            },
        }
    }
    document.traces = traces;
    if problems.is_empty() { Ok(document) } else { Err(SpecError(problems)) }
}

/// The version in a text that is wrong otherwise.
fn version_of(text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    serde_yaml::from_str(text).ok().map(|Head { version }| version)
}

fn check_version(path: &Path, text: &str, version: Option<u32>) -> Result<(), SpecError> {
    let Some(version) = version.filter(|v| *v != FORMAT_VERSION) else { return Ok(()) };
    let message = format!("version {version} of this format is not known");
    let hint = Some(format!("this Limosa reads version {FORMAT_VERSION}"));
    let positions = Positions::of(text);
    let location = positions.locate(&["version".into()]);
    Err(SpecError(vec![problem_at(
        path,
        location.and_then(|l| positions.line(text, l.line)),
        location,
        message,
        hint,
    )]))
}

impl Purpose {
    /// Where files of this kind are that come with Limosa.
    fn shipped(self) -> &'static str {
        match self {
            Self::Experiment => "the files that come with Limosa are in experiments/",
            Self::Topology => "the files that come with Limosa are in topologies/",
        }
    }
}

/// A topology where an experiment should be, or the other way round, has nothing that is right.
fn check_purpose(path: &Path, text: &str, wanted: Purpose) -> Result<(), SpecError> {
    let positions = Positions::of(text);
    let has = |key| positions.has_key(key);
    let (mark, message, hint) = match wanted {
        Purpose::Experiment if has("links") && !has("workload") && !has("variants") => {
            let hint = "`limosa up FILE` builds it; an experiment names it in `topology:`";
            ("links", "this is a topology, not an experiment", hint)
        }
        Purpose::Topology if !has("links") && (has("workload") || has("variants")) => {
            let mark = if has("workload") { "workload" } else { "variants" };
            let hint = "`limosa plan FILE` shows it, `limosa run FILE` runs it";
            (mark, "this is an experiment, not a topology", hint)
        }
        _ => return Ok(()),
    };
    let location = positions.locate(&[mark.into()]);
    let (message, hint) = (message.to_owned(), Some(hint.to_owned()));
    Err(SpecError(vec![problem_at(
        path,
        location.and_then(|l| positions.line(text, l.line)),
        location,
        message,
        hint,
    )]))
}

/// Where more brackets are open than any file has, in quotes or out of them.
fn too_deep(text: &str) -> Option<Location> {
    let mut depth = 0_usize;
    for (text, line) in text.lines().zip(1..) {
        for (c, column) in text.chars().zip(1..) {
            match c {
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Some(Location { line, column });
            }
        }
    }
    None
}

/// Where the two things stand that the reader refuses without a place: aliases that unfold to too
/// much, and a second document.
fn culprit(message: &str, text: &str) -> Option<Location> {
    let alias = |line: &str| line.find('*').filter(|at| !line[..*at].contains('#'));
    let lines = || text.lines().zip(1..);
    if message.contains("aliases") {
        let found = lines().find_map(|(text, line)| Some((line, alias(text)?)));
        return found.map(|(line, at)| Location { line, column: at + 1 });
    }
    // Else what stands first, at the very left, is a whole document by itself.
    let content = |text: &str| !text.trim().is_empty() && !text.starts_with('#');
    let first = lines().find(|(text, _)| content(text))?.1;
    let ends = |text: &str| text.starts_with("---") || text.starts_with("...");
    let second = lines().filter(|(text, line)| ends(text) && *line > first).last();
    Some(Location { line: second.map_or(first, |(_, line)| line), column: 1 })
}

/// Says it in the user's words: the position is shown in its own way, a list of what would have
/// been right becomes the hint, and the names of our own types mean nothing to anybody.
fn yaml_message(full: &str) -> (String, Option<String>) {
    let message = full.rsplit_once(" at line ").map_or(full, |(head, _)| head);
    let message = message.replace("unknown variant", "unknown value");
    if message.contains("repetition limit") {
        return ("its aliases unfold to too much".into(), Some("write it out".into()));
    }
    if message.contains("more than one document") {
        let hint = "a line with `---` or `...` ends one, and so does a value that is no mapping";
        let hint = Some(hint.to_owned());
        return ("there is more than one document in it".into(), hint);
    }
    if let Some((head, expected)) = message.split_once(", expected one of ") {
        let names = expected.split('`').skip(1).step_by(2);
        let near = head.split('`').nth(1).and_then(|wrong| similar(wrong, names));
        let near = near.map_or(String::new(), |name| format!("{}; ", did_you_mean(name)));
        return (head.into(), Some(format!("{near}one of {expected}")));
    }
    match message.split_once(", expected ") {
        Some((head, expected)) if expected.starts_with('`') => {
            (head.into(), Some(format!("there is only {expected}")))
        }
        Some((head, "u32" | "u64")) => (format!("{head}, expected a whole number"), None),
        Some((head, expected)) if expected.starts_with("struct ") => {
            (format!("{head}, expected a mapping"), None)
        }
        _ => (message, None),
    }
}

/// Walks through everything and refuses a key that its mapping has already. The error comes from
/// reading the key, so that it carries the key's position.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Unique {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(NewKey(&mut seen))?.is_some() {
            map.next_value_seed(Self)?;
        }
        Ok(())
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut count = 0;
        while seq.next_element_seed(Self)?.is_some() {
            count += 1;
            if count > MAX_ELEMENTS {
                let message = format!("a list has more than {MAX_ELEMENTS} elements");
                return Err(de::Error::custom(message));
            }
        }
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

struct NewKey<'a>(&'a mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();
    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_str(self)
    }
}

impl de::Visitor<'_> for NewKey<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.into()) {
            Ok(())
        } else {
            Err(E::custom(format!("`{key}` is there twice")))
        }
    }
}
