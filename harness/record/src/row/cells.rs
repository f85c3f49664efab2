//! Between rows and the bytes of a CSV file: cells that a spreadsheet would run as a formula are written
//! with an apostrophe before them, and read without it.

use crate::text;
use csv::{ReaderBuilder, StringRecord, Writer, WriterBuilder};
use serde::{Deserialize, Serialize};
use std::io;

/// The bytes of some rows, with a header before them if that is asked for.
///
/// # Errors
/// When a row has no form in CSV.
pub fn bytes(rows: &[impl Serialize], header: bool) -> io::Result<Vec<u8>> {
    let mut writer =
        WriterBuilder::new().has_headers(header).buffer_capacity(1024).from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row)).map_err(io::Error::other)?;
    let bytes = finish(writer)?;
    if has_formula(&bytes) { tamed(&bytes) } else { Ok(bytes) }
}

/// A cell begins at the beginning, after a comma, a quote or the end of a line. This finds some cells
/// that are none, too, but never too few.
fn has_formula(bytes: &[u8]) -> bool {
    let begins = |before: u8| matches!(before, b',' | b'"' | b'\n');
    let odd = |byte: u8| matches!(byte, b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r');
    bytes.first().copied().is_some_and(odd)
        || bytes.windows(2).any(|pair| begins(pair[0]) && odd(pair[1]))
}

fn tamed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = WriterBuilder::new().flexible(true).from_writer(Vec::new());
    let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    for record in reader.into_records() {
        let record = record.map_err(io::Error::other)?;
        let cells = record.iter().map(text::cell);
        writer.write_record(cells.map(|cell| cell.into_owned())).map_err(io::Error::other)?;
    }
    finish(writer)
}

fn finish(writer: Writer<Vec<u8>>) -> io::Result<Vec<u8>> {
    writer.into_inner().map_err(|e| io::Error::other(e.to_string()))
}

/// A record as it was before it was written.
pub fn original(record: StringRecord) -> StringRecord {
    if record.iter().all(|cell| text::from_cell(cell).len() == cell.len()) {
        return record;
    }
    let mut restored: StringRecord = record.iter().map(text::from_cell).collect();
    restored.set_position(record.position().cloned());
    restored
}

/// The rows in a file's content, or what is wrong with each.
pub fn rows<T: for<'de> Deserialize<'de>>(
    content: impl io::Read,
) -> impl Iterator<Item = csv::Result<T>> {
    let mut reader = csv::Reader::from_reader(content);
    let header = reader.headers().cloned();
    let (header, broken) = match header {
        Ok(header) => (header, None),
        Err(e) => (StringRecord::new(), Some(Err(e))),
    };
    let records = reader.into_records();
    let rows = records.map(move |record| original(record?).deserialize(Some(&header)));
    broken.into_iter().chain(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Row {
        name: String,
        number: f64,
        reason: Option<String>,
    }

    #[test]
    fn a_formula_is_written_as_text_and_read_as_it_was() {
        let row = |name: &str, number| Row { name: name.into(), number, reason: None };
        let evil = "=HYPERLINK(\"http://x\",\"y\")";
        let all = [row(evil, -1.5), row("-2", 3.0), row("@a,b\nc", -0.0), row("plain", 1e300)];
        let written = bytes(&all, true).unwrap();
        let text = String::from_utf8(written.clone()).unwrap();
        assert!(text.starts_with("name,number,reason\n\"'=HYPERLINK(\"\"http"), "{text}");
        assert!(text.contains(",-1.5,\n-2,3.0,\n\"'@a,b\nc\",-0.0,\n"), "{text}");
        let read: Vec<Row> = rows(written.as_slice()).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, all);
    }

    #[test]
    fn a_file_without_a_header_has_no_rows() {
        assert_eq!(rows::<Row>(&b""[..]).count(), 0);
        assert!(rows::<Row>(&b"name,number\nx,y\n"[..]).all(|row| row.is_err()));
    }
}
