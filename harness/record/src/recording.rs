//! Recorded links: mahimahi's format (Netravali et al., ATC 2015), one line per opportunity to send
//! 1500 bytes, with its time in ms since the start.
//!
//! Input: the bytes of a file. Output: a [`Recording`], or what is wrong in which line. A plan names a
//! recording by a path, its SHA-256 and its length, and a run keeps a copy of the file.

use sha2::{Digest, Sha256};
use std::fmt;

/// Most lines of a recording: three hours at 1 Gbit/s.
pub const MAX_LINES: usize = 10_000_000;

/// Larger files are no recordings: so many lines with the longest times have 90 MB.
pub const MAX_BYTES: u64 = 128 << 20;

/// A recorded link.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// Times of opportunities in ms, ascending; the last one, above 0, is the recording's length.
    pub opportunities_ms: Vec<u32>,
    /// The file as it was written; empty where only the times are needed.
    pub text: Vec<u8>,
    /// SHA-256 of the text, in hexadecimal.
    pub sha256: String,
}

/// What is wrong with a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1; 0 when it is no line in particular.
    pub line: usize,
    /// The beginning of that line.
    pub text: String,
    /// What is wrong, as a lowercase fragment.
    pub message: String,
    /// What to do; may be empty.
    pub hint: &'static str,
}

/// Of a wrong line no more is shown.
const SHOWN_CHARS: usize = 60;

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: Vec<u8>) -> Result<Self, Mistake> {
        let opportunities_ms = times(&text)?;
        let sha256 = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { opportunities_ms, text, sha256 })
    }

    /// Its length in ms.
    pub fn length_ms(&self) -> u32 {
        self.opportunities_ms.last().copied().unwrap_or(0)
    }
}

/// Millions of numbers help nobody.
impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opportunities = self.opportunities_ms.len();
        write!(f, "Recording({} of {opportunities} opportunities)", self.sha256)
    }
}

fn times(text: &[u8]) -> Result<Vec<u32>, Mistake> {
    let whole = |message: String, hint| Mistake { line: 0, text: String::new(), message, hint };
    let mut times: Vec<u32> = Vec::new();
    // What follows the last line's end is no line.
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    for (line, number) in body.split(|byte| *byte == b'\n').zip(1..) {
        let wrong =
            |message: String, hint| Mistake { line: number, text: shown(line), message, hint };
        if text.is_empty() {
            break;
        }
        if number > MAX_LINES {
            let message = format!("has more than {MAX_LINES} lines");
            return Err(whole(message, "cut it: it is played again and again"));
        }
        let found = str::from_utf8(line).ok().and_then(|line| line.trim().parse::<u32>().ok());
        let Some(ms) = found else {
            let message = format!("`{}` is not a time in whole milliseconds", shown(line));
            let hint =
                "a recording has one number per line, a time in ms at which 1500 bytes may pass";
            return Err(wrong(message, hint));
        };
        if let Some(before) = times.last().filter(|before| **before > ms) {
            let message = format!("{ms} ms comes after {before} ms");
            return Err(wrong(message, "the times of a recording ascend"));
        }
        times.push(ms);
    }
    match times.last() {
        None => Err(whole("is empty".into(), "a recording has one number per line")),
        Some(0) => {
            let message = "the last time of a recording is its length, and here it is 0 ms".into();
            Err(Mistake { line: times.len(), text: "0".into(), message, hint: "" })
        }
        Some(_) => Ok(times),
    }
}

fn shown(line: &[u8]) -> String {
    // A character has at most four bytes.
    let beginning = &line[..line.len().min(4 * SHOWN_CHARS)];
    String::from_utf8_lossy(beginning).trim().chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let mistake = Recording::parse(text.into()).unwrap_err();
        format!("{}: {}", mistake.line, mistake.message)
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
        assert_eq!(wrong("\n"), "1: `` is not a time in whole milliseconds");
        assert!(wrong(&"9".repeat(1000)).starts_with("1: `999"));
        assert_eq!(wrong(&"1\n".repeat(MAX_LINES + 1)), "0: has more than 10000000 lines");
    }

    #[test]
    fn several_opportunities_may_share_a_millisecond() {
        let recording = Recording::parse(b"0\n1\n1\n7".to_vec()).unwrap();
        assert_eq!(
            (&recording.opportunities_ms[..], recording.length_ms()),
            (&[0, 1, 1, 7][..], 7)
        );
        // As sha256sum says it.
        assert!(recording.sha256.starts_with("ad228f71b7c71f5f"), "{}", recording.sha256);
    }
}
