//! Puts a file of rows right after the fact: rows are written as trials end, and the process may be
//! killed between two of them or within one.

use crate::{dir::write_whole, read};
use std::{io, ops::Range, path::Path};

/// Larger files are none of ours.
const LARGEST_BYTES: u64 = 8 << 30;

/// Keeps the rows of those trials that `place` (variant, repetition) has a place for, in the order
/// of the places, and cuts off a last row that is not whole. A file that is right stays untouched;
/// a missing one is right.
///
/// # Errors
/// When the file cannot be read or written, or has a row that is none; names the file.
pub fn arrange(path: &Path, place: impl Fn(&str, u32) -> Option<usize>) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let bytes = match read::content(path, LARGEST_BYTES) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(named)?.bytes,
    };
    let whole = &bytes[..end_of_rows(&bytes)];
    let (head, mut rows) = placed(whole, place).map_err(named)?;
    let kept: usize = rows.iter().map(|(_, range)| range.len()).sum();
    if head.len() + kept == bytes.len() && rows.is_sorted_by_key(|(place, _)| *place) {
        return Ok(());
    }
    rows.sort_by_key(|(place, _)| *place);
    let ranges = [head].into_iter().chain(rows.into_iter().map(|(_, range)| range));
    let parts: Vec<&[u8]> = ranges.map(|range| &whole[range]).collect();
    write_whole(path, &parts.concat())
}

/// Up to where rows are whole: a row ends with a line, but not with one inside quotes.
fn end_of_rows(bytes: &[u8]) -> usize {
    let (mut quoted, mut end) = (false, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => end = at + 1,
            _ => {}
        }
    }
    end
}

type Placed = (usize, Range<usize>);

/// Where the header is, and where each row is with its place.
fn placed(
    bytes: &[u8],
    place: impl Fn(&str, u32) -> Option<usize>,
) -> io::Result<(Range<usize>, Vec<Placed>)> {
    let odd = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes);
    let (mut head, mut columns, mut rows) = (0..0, None, Vec::new());
    let mut row = csv::StringRecord::new();
    let mut start = 0;
    while reader.read_record(&mut row).map_err(|e| odd(e.to_string()))? {
        let end = usize::try_from(reader.position().byte()).map_err(io::Error::other)?;
        let range = start..end;
        start = end;
        let Some((variant, repetition)) = columns else {
            let column = |name: &str| {
                let found = row.iter().position(|c| c == name);
                found.ok_or_else(|| odd(format!("there is no column `{name}`")))
            };
            columns = Some((column("variant")?, column("repetition")?));
            head = range;
            continue;
        };
        let repetition = row[repetition].parse().map_err(|_| {
            let line = row.position().map_or(0, csv::Position::line);
            odd(format!("line {line}: `{}` is not the number of a repetition", &row[repetition]))
        })?;
        rows.extend(place(&row[variant], repetition).map(|place| (place, range)));
    }
    Ok((head, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Trials are `a` 1, `a` 2, `b` 1.
    fn place(variant: &str, repetition: u32) -> Option<usize> {
        [("a", 1), ("a", 2), ("b", 1)].iter().position(|t| *t == (variant, repetition))
    }

    fn arranged(text: &str) -> io::Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.csv");
        fs::write(&file, text).unwrap();
        arrange(&file, place)?;
        Ok(fs::read_to_string(&file).unwrap())
    }

    #[test]
    fn rows_get_their_order_and_strangers_go() {
        let text = "n,variant,repetition\n1,b,1\n2,a,2\n3,c,1\n4,b,1\n5,a,1\n";
        assert_eq!(arranged(text).unwrap(), "n,variant,repetition\n5,a,1\n2,a,2\n1,b,1\n4,b,1\n");
    }

    #[test]
    fn a_torn_row_goes_wherever_it_was_torn() {
        let text = "variant,repetition,why\na,1,\"two\nlines, \"\"quoted\"\"\"\na,2,\"x\ny\"\n";
        let ends = [text.find('\n').unwrap(), text.find("a,2").unwrap() - 1, text.len() - 1];
        for cut in 0..=text.len() {
            let whole = ends.iter().rev().find(|end| **end < cut).map_or(0, |end| end + 1);
            assert_eq!(arranged(&text[..cut]).unwrap(), text[..whole], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_row_is_told() {
        let error = arranged("variant,repetition\na,x\n").unwrap_err().to_string();
        assert!(error.contains("x.csv: line 2: `x` is not the number"), "{error}");
        let error = arranged("variant,number\na,1\n").unwrap_err().to_string();
        assert!(error.contains("x.csv: there is no column `repetition`"), "{error}");
        assert!(arranged("variant,repetition\na,1,2\n").is_err());
    }
}
