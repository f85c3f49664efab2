//! Folders of dead runs. Everything else that a run makes is held by descriptors and ends with it.
//!
//! A working folder carries a file `owner` with the PID and the start time of its process
//! (`proc_pid_stat(5)`, field 22), so that a PID that is taken anew is not mistaken for the owner.

use anyhow::{Context, Result};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// All working folders begin with this.
pub const PREFIX: &str = "limosa-run-";

const OWNER: &str = "owner";

/// A working folder that says whose it is.
///
/// # Errors
/// When it cannot be made.
pub fn work_folder() -> Result<tempfile::TempDir> {
    let attempt = || -> io::Result<tempfile::TempDir> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        let pid = std::process::id();
        fs::write(folder.path().join(OWNER), format!("{pid} {}\n", start_time(pid)?))?;
        Ok(folder)
    };
    attempt().context("make a folder for bodies and images")
}

/// Removes the working folders of dead processes and says which.
///
/// # Errors
/// When one cannot be removed.
pub fn clean() -> Result<Vec<PathBuf>> {
    clean_in(&std::env::temp_dir())
}

fn clean_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
        if ours && path.is_dir() && is_dead(&path) {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            removed.push(path);
        }
    }
    Ok(removed)
}

/// Only a folder that names an owner who is gone; one without a readable owner may be anybody's.
fn is_dead(folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join(OWNER)) else { return false };
    let Some((pid, started)) = text.trim().split_once(' ') else { return false };
    let Ok(pid) = pid.parse() else { return false };
    start_time(pid).map_or(true, |now| now != started)
}

fn start_time(pid: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    after.split(' ').nth(19).map(ToOwned::to_owned).ok_or_else(|| io::Error::other("odd stat file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_the_dead_go() {
        let home = tempfile::tempdir().unwrap();
        let make = |name: &str, owner: Option<&str>| {
            let path = home.path().join(name);
            fs::create_dir(&path).unwrap();
            owner.iter().for_each(|o| fs::write(path.join(OWNER), o).unwrap());
            path
        };
        let pid = std::process::id();
        let alive = make("limosa-run-alive", Some(&format!("{pid} {}", start_time(pid).unwrap())));
        let recycled = make("limosa-run-recycled", Some(&format!("{pid} 1")));
        let dead = make("limosa-run-dead", Some("4194305 77"));
        let foreign = make("limosa-run-foreign", None);
        let similar = make("limosa", Some("4194305 77"));
        let mut removed = clean_in(home.path()).unwrap();
        removed.sort();
        assert_eq!(removed, [dead, recycled]);
        assert!(alive.exists() && foreign.exists() && similar.exists());
    }
}
