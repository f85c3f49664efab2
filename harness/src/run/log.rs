//! What a run says, kept in its directory: nobody watches a terminal overnight.
//!
//! Input: each line that goes to standard error once a run has its directory. Output: the same line in
//! `harness.log`, behind the time in UTC.

use limosa_record::{clock, dir, text};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

static LOG: Mutex<Option<File>> = Mutex::new(None);

fn log() -> MutexGuard<'static, Option<File>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on lines go to this file, behind what is there.
///
/// # Errors
/// When it cannot be written.
pub fn to(file: &Path) -> io::Result<()> {
    // Somebody else may have made a link of this name in a run directory that is gone on with.
    *log() = Some(dir::append(file, 0o666)?);
    Ok(())
}

/// Notes a line. A log that cannot be written is no reason to end a run.
pub fn note(line: &str) {
    if let Some(file) = &mut *log() {
        let _ = writeln!(file, "{} {line}", clock::utc_stamp(clock::now_ns()));
    }
}

/// Standard error and the log, without anything that a terminal would obey.
#[derive(Debug, Clone, Copy, Default)]
pub struct Both;

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = text::visible(&text);
        note(text.trim_end_matches('\n'));
        // The terminal may have been closed.
        let _ = io::stderr().write_all(text.as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_log_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("harness.log");
        note("too early");
        to(&file).unwrap();
        note("one");
        Both.write_all(b"two\n").unwrap();
        *log() = None;
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = text.lines().filter_map(|l| l.split_once(' ')).map(|l| l.1).collect();
        assert_eq!(lines, ["one", "two"]);
    }
}
