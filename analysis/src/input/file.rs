//! Files that may be missing, cut off or not what they should be.

use crate::number;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{fs, io, path::Path};

/// Larger files than this are not read: they are none of ours.
const LARGEST_BYTES: u64 = 1 << 30;

/// A file's bytes; `Ok(None)` when there is none.
pub(super) fn bytes(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let cannot = |e: io::Error| format!("cannot be read: {e}");
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(cannot(e)),
        // A pipe or a device would never end.
        Ok(found) if !found.is_file() => return Err("cannot be read: not a file".into()),
        Ok(found) if found.len() > LARGEST_BYTES => return Err("cannot be read: too large".into()),
        Ok(_) => {}
    }
    // The whole file at once: an error in the middle of reading could not be told from its end.
    fs::read(path).map(Some).map_err(cannot)
}

fn required(path: &Path, warnings: &mut Vec<String>) -> Option<Vec<u8>> {
    let found = bytes(path).and_then(|bytes| bytes.ok_or_else(|| "missing".into()));
    found.map_err(|why| warnings.push(format!("{}: {why}", name(path)))).ok()
}

/// The rows of a file that every run has.
pub(super) fn rows<T: DeserializeOwned>(path: &Path, warnings: &mut Vec<String>) -> Vec<T> {
    let Some(bytes) = required(path, warnings) else { return Vec::new() };
    let rows = csv::Reader::from_reader(bytes.as_slice()).into_deserialize();
    collect(path, rows.map(|row| row.map_err(|e| e.to_string())), warnings)
}

/// The rows of a file that some runs have.
pub(super) fn optional_rows<T: DeserializeOwned>(
    path: &Path,
    warnings: &mut Vec<String>,
) -> Vec<T> {
    if fs::symlink_metadata(path).is_err() { Vec::new() } else { rows(path, warnings) }
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
) -> Option<(csv::StringRecord, Vec<Result<csv::StringRecord, String>>)> {
    let bytes = required(path, warnings)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    match reader.headers().cloned() {
        Ok(header) => {
            Some((header, reader.into_records().map(|r| r.map_err(|e| e.to_string())).collect()))
        }
        Err(e) => {
            warnings.push(format!("{}: {e}", name(path)));
            None
        }
    }
}

pub(super) fn json(path: &Path, warnings: &mut Vec<String>) -> Value {
    let Some(bytes) = required(path, warnings) else { return Value::Null };
    serde_json::from_slice(&bytes).unwrap_or_else(|e| {
        warnings.push(format!("{}: not JSON: {e}", name(path)));
        Value::Null
    })
}

/// A file that some runs have, read as a whole by `parse`.
pub(super) fn optional<T>(
    path: &Path,
    warnings: &mut Vec<String>,
    parse: impl FnOnce(&[u8]) -> anyhow::Result<T>,
) -> Option<T> {
    let parsed = match bytes(path) {
        Ok(bytes) => parse(&bytes?).map_err(|e| format!("{e:#}")),
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
    fn a_folder_in_the_place_of_a_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut warnings = Vec::new();
        assert_eq!(json(folder.path(), &mut warnings), Value::Null);
        assert!(warnings[0].ends_with("not a file"), "{warnings:?}");
    }
}
