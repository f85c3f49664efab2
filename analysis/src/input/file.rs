//! Files that may be missing, cut off or not what they should be.

use crate::number;
use anyhow::Context;
use csv::StringRecord;
use limosa_record::{
    read::{self, Content},
    row::cells,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{borrow::Cow, io, path::Path};

/// Larger files than this are not read: they are none of ours.
const LARGEST_BYTES: u64 = 1 << 30;
/// The same for files that are no tables.
const LARGEST_PARSED_BYTES: u64 = 4 << 20;

/// A file's content; `Ok(None)` when there is none. The whole file at once: an error in the middle of
/// reading could not be told from its end.
fn content(path: &Path, most: u64) -> Result<Option<Content>, String> {
    match read::content(path, most) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("cannot be read: {e}")),
        Ok(content) => Ok(Some(content)),
    }
}

/// A file of a run that has to be there.
pub(crate) fn of_run(path: &Path) -> anyhow::Result<Vec<u8>> {
    read::plain_file(path, LARGEST_BYTES).with_context(|| format!("read {}", path.display()))
}

/// A file's bytes for the page, which is for others, too: `Ok(None)` when there is none, or only root may
/// read it.
pub(crate) fn shown(path: &Path, most: u64) -> Result<Option<Vec<u8>>, String> {
    let content = content(path, most)?.filter(|content| !content.private);
    Ok(content.map(|content| content.bytes))
}

/// Why something in a file is wrong, without quoting what only root may read.
fn why(content: &Content, why: String) -> String {
    if content.private { "not what it should be (only root may read it)".into() } else { why }
}

fn required(path: &Path, warnings: &mut Vec<String>) -> Option<Content> {
    let found = content(path, LARGEST_BYTES);
    let found = found.and_then(|content| content.ok_or_else(|| "missing".into()));
    found.map_err(|why| warnings.push(format!("{}: {why}", name(path)))).ok()
}

/// Longer cells and strings are cut: nobody reads them, and a page shows some of them many times.
const LONGEST_TEXT: usize = 2000;

/// The beginning of a text that is too long for a page, and how long it is.
pub(crate) fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return text.into();
    }
    let end = text.floor_char_boundary(LONGEST_TEXT);
    format!("{}… ({} in all)", &text[..end], number::bytes(text.len() as f64)).into()
}

fn shortened(record: StringRecord) -> StringRecord {
    match record.iter().any(|cell| cell.len() > LONGEST_TEXT) {
        true => record.iter().map(|cell| cut(cell).into_owned()).collect(),
        false => record,
    }
}

/// The same value with shorter strings and names.
fn shortened_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(shortened_json).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (cut(&name).into_owned(), shortened_json(value)))
            .collect(),
        other => other,
    }
}

/// The rows of a file that every run has.
pub(super) fn rows<T: DeserializeOwned>(path: &Path, warnings: &mut Vec<String>) -> Vec<T> {
    let Some(content) = required(path, warnings) else { return Vec::new() };
    let mut reader = csv::Reader::from_reader(content.bytes.as_slice());
    // A header that cannot be read is told by the first row.
    let header = reader.headers().cloned().unwrap_or_default();
    let row = |record: csv::Result<StringRecord>| {
        let told = |e: csv::Error| why(&content, e.to_string());
        let record = record.map(cells::original).map(shortened).map_err(told)?;
        record.deserialize(Some(&header)).map_err(told)
    };
    collect(path, reader.into_records().map(row), warnings)
}

/// The rows of a file that some runs have.
pub(super) fn optional_rows<T: DeserializeOwned>(
    path: &Path,
    warnings: &mut Vec<String>,
) -> Vec<T> {
    if path.symlink_metadata().is_err() { Vec::new() } else { rows(path, warnings) }
}

/// The rows that can be read; the others are counted in a warning.
pub(super) fn collect<T>(
    path: &Path,
    rows: impl Iterator<Item = Result<T, String>>,
    warnings: &mut Vec<String>,
) -> Vec<T> {
    let (mut good, mut bad, mut first) = (Vec::new(), 0, None);
    for row in rows {
        match row {
            Ok(row) => good.push(row),
            Err(e) => {
                bad += 1;
                first.get_or_insert(e);
            }
        }
    }
    if let Some(e) = first {
        let lines = number::count(bad, "row");
        warnings.push(format!("{}: {lines} left out, the first because of: {e}", name(path)));
    } else if good.is_empty() {
        warnings.push(format!("{}: no rows", name(path)));
    }
    good
}

/// The records of a CSV file and its header.
pub(super) fn table(
    path: &Path,
    warnings: &mut Vec<String>,
) -> Option<(StringRecord, Vec<Result<StringRecord, String>>)> {
    let content = required(path, warnings)?;
    let mut reader = csv::Reader::from_reader(content.bytes.as_slice());
    match reader.headers().cloned() {
        Ok(header) => {
            let records = reader.into_records();
            let records = records.map(|r| {
                r.map(cells::original).map(shortened).map_err(|e| why(&content, e.to_string()))
            });
            Some((header, records.collect()))
        }
        Err(e) => {
            warnings.push(format!("{}: {}", name(path), why(&content, e.to_string())));
            None
        }
    }
}

pub(super) fn json(path: &Path, warnings: &mut Vec<String>) -> Value {
    let Some(content) = required(path, warnings) else { return Value::Null };
    serde_json::from_slice(&content.bytes).map(shortened_json).unwrap_or_else(|e| {
        let why = why(&content, format!("not JSON: {e}"));
        warnings.push(format!("{}: {why}", name(path)));
        Value::Null
    })
}

/// A file that some runs have, read as a whole by `parse`.
pub(super) fn optional<T>(
    path: &Path,
    warnings: &mut Vec<String>,
    parse: impl FnOnce(&[u8]) -> anyhow::Result<T>,
) -> Option<T> {
    let parsed = match content(path, LARGEST_PARSED_BYTES) {
        Ok(content) => {
            let content = content?;
            parse(&content.bytes).map_err(|e| why(&content, format!("{e:#}")))
        }
        Err(why) => Err(why),
    };
    parsed.map_err(|why| warnings.push(format!("{}: {why}", name(path)))).ok()
}

pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use limosa_record::row::ThroughputRow;
    use std::fs;

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

    /// A cell of 5 MB once made a page of 20 MB.
    #[test]
    fn regression_long_cells_and_strings_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let (long, path) = ("ü".repeat(2_500_000), folder.path().join("throughput.csv"));
        let header = "variant,repetition,path,t_s,interval_s,bytes";
        fs::write(&path, format!("{header}\n{long},1,eth0,0,0.1,5\n")).unwrap();
        let mut warnings = Vec::new();
        let rows = rows::<ThroughputRow>(&path, &mut warnings);
        assert!(rows[0].variant.len() < 2100 && rows[0].variant.ends_with("… (5 MB in all)"));
        assert_eq!((rows[0].bytes, warnings.len()), (5, 0));
        let path = folder.path().join("manifest.json");
        fs::write(&path, format!("{{\"{long}\": [\"{long}\"]}}")).unwrap();
        assert!(json(&path, &mut warnings).to_string().len() < 5000);
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut warnings = Vec::new();
        assert_eq!(json(folder.path(), &mut warnings), Value::Null);
        assert!(warnings[0].ends_with("not a file"), "{warnings:?}");
    }
}
