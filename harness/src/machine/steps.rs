//! Steps of a setup: one line each on standard error with the time it took, the output of programs in a log file, and where
//! those programs are.
//!
//! Input: closures and commands. Output: lines, a log, and errors that name the log.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Does `work` under a one-line heading.
pub fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _ = write!(io::stderr(), "setup: {title} … ");
    let started = Instant::now();
    let result = work();
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(_) => tell!("{seconds:.1} s"),
        Err(_) => tell!("failed after {seconds:.1} s"),
    }
    result
}

/// Log file for the output of programs.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// An empty log at `path`.
    pub fn create(path: PathBuf) -> Result<Self> {
        limosa_record::dir::create(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle for a program's output.
    pub fn output(&self) -> Result<Stdio> {
        Ok(self.open()?.into())
    }

    fn open(&self) -> Result<File> {
        limosa_record::dir::append(&self.path, 0o666)
            .with_context(|| format!("open {}", self.path.display()))
    }

    /// Runs `command` with its output in the log; anything but success is an error.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        writeln!(self.open()?, "+ {command:?}").context("write the log")?;
        let status = command
            .stdin(Stdio::null())
            .stdout(self.output()?)
            .stderr(self.output()?)
            .status()
            .with_context(|| format!("run {}", command.get_program().display()))?;
        if !status.success() {
            bail!(
                "{} failed ({status}): {} (log: {})",
                command.get_program().display(),
                self.last_line(),
                self.path.display()
            );
        }
        Ok(())
    }

    /// The line that most likely says what went wrong.
    pub fn last_line(&self) -> String {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        telling_line(&text).to_owned()
    }
}

fn telling_line(text: &str) -> &str {
    let lines = || text.lines().rev().filter(|line| !line.trim().is_empty());
    lines()
        .take(20)
        .find(|line| line.starts_with("E:") || line.to_lowercase().contains("error"))
        .or_else(|| lines().next())
        .unwrap_or("no output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_line_goes_before_the_last_one() {
        assert_eq!(telling_line("a\nE: no space\nbye\n\n"), "E: no space");
        assert_eq!(telling_line("a\nb\n"), "b");
        assert_eq!(telling_line(""), "no output");
    }
}
