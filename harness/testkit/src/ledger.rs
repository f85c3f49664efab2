//! What came out otherwise than held or broken, kept until the end of `cargo test`.
//!
//! All test binaries of one `cargo test` have the same parent, so a file is named after that: its
//! process number and start. The test `summary` reads it.

use crate::Outcome;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// One test's outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    suite: String,
    test: String,
    outcome: Outcome,
    seconds: f64,
}

/// The folder of all files that outlive a test binary: beside what was built.
pub(crate) fn folder() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    let built = this.ancestors().nth(2).map(PathBuf::from).unwrap_or_default();
    let folder = built.join("limosa-tests");
    // What cannot be made is told by whoever writes into it.
    let _ = fs::create_dir_all(&folder);
    folder
}

fn file() -> PathBuf {
    let parent = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    // proc_pid_stat(5): the start is field 22, and the state, field 3, comes first behind the name.
    let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    folder().join(format!("session-{parent}-{}.jsonl", start.unwrap_or("0")))
}

/// Notes an outcome.
pub(crate) fn enter(suite: &str, test: &str, outcome: &Outcome, seconds: f64) {
    let entry = Entry { suite: suite.into(), test: test.into(), outcome: outcome.clone(), seconds };
    let file = OpenOptions::new().create(true).append(true).open(file());
    let line = serde_json::to_string(&entry).unwrap_or_default() + "\n";
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("{suite}: {test} is {outcome:?}, and missing in the summary: {error}");
    }
}

/// Prints all tests of this `cargo test` that were inconclusive or skipped, with their reasons.
pub fn summary() {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let entries: Vec<Entry> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    forget_old_ones();
    let mut any = false;
    for (title, wanted) in [
        ("Inconclusive: the machine was too busy to tell", false),
        ("Skipped: this machine cannot run them", true),
    ] {
        let why = |outcome: &Outcome| match outcome {
            Outcome::Inconclusive(why) if !wanted => Some(why.clone()),
            Outcome::Skipped(why) if wanted => Some(why.clone()),
            _ => None,
        };
        let found: Vec<_> = entries.iter().filter_map(|e| Some((e, why(&e.outcome)?))).collect();
        if !found.is_empty() {
            any = true;
            println!("\n{title}:");
        }
        for (entry, why) in found {
            println!("    {} {}: {}", entry.suite, entry.test, why.replace('\n', " "));
        }
    }
    if !any {
        println!("\nNo test was inconclusive or skipped.");
    }
    println!();
}

fn forget_old_ones() {
    const OLD: Duration = Duration::from_secs(24 * 3600);
    for entry in fs::read_dir(folder()).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok();
        let age = age.and_then(|then| SystemTime::now().duration_since(then).ok());
        if entry.file_name().to_string_lossy().starts_with("session-") && age > Some(OLD) {
            // Another `cargo test` may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
}
