//! What the guest is asked to run, as the host writes it and the agent reads it.
//!
//! Input and output: `job.json` in the folder that the host shares under the tag `job`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Mount tag of the folder with `job.json` and the executables; the guest's init script mounts it by this name.
pub(super) const JOB_TAG: &str = "job";

/// Folder inside the guest that holds the copied executables.
pub(super) const BIN_DIR: &str = "/run/limosa/bin";

/// Name under which the init script starts limosa as the agent.
pub(super) const AGENT_NAME: &str = "limosa-agent";

/// Environment variable that turns limosa into the agent; its value is the path of `job.json`.
pub(super) const AGENT_ENV: &str = "LIMOSA_GUEST_AGENT";

/// Name of the virtio-serial port that carries the frames.
pub(super) const PORT_NAME: &str = "limosa.channel";

/// Name of a job's folder begins with this.
const FOLDER: &str = "limosa-guest-";

/// A folder younger than this may be one that is just being made.
const SETTLED: Duration = Duration::from_secs(60);

/// Makes a folder for one job, locked as long as the returned file is open, and removes those of limosas that were killed.
pub(super) fn make_folder() -> Result<(TempDir, File)> {
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
        let is_job = entry.file_name().to_string_lossy().starts_with(FOLDER);
        if is_job && is_abandoned(&entry.path()) {
            // Another user's folder cannot be removed, and is not ours to remove.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = tempfile::Builder::new()
        .prefix(FOLDER)
        .tempdir_in(&parent)
        .context("make a folder for the guest's job")?;
    let lock = File::create(folder.path().join("lock")).context("make the job's lock")?;
    lock.lock().context("lock the job's folder")?;
    Ok((folder, lock))
}

/// The kernel drops the lock of a killed limosa; what cannot be looked at is left alone.
fn is_abandoned(folder: &Path) -> bool {
    let settled = folder
        .metadata()
        .and_then(|data| data.modified())
        .ok()
        .and_then(|time| time.elapsed().ok())
        .is_some_and(|age| age > SETTLED);
    settled && File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok())
}

/// One command to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    /// Program as a path inside the guest.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory; made when it does not exist.
    pub dir: PathBuf,
    /// Folders of the host to mount first, in this order.
    pub mounts: Vec<Mount>,
}

/// One folder of the host that appears at a path of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mount {
    /// 9p mount tag.
    pub tag: String,
    /// Where it appears.
    pub path: PathBuf,
    /// Whether the guest may not write.
    pub read_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_job_is_not_abandoned() {
        let (folder, lock) = make_folder().expect("temporary folder");
        assert!(!is_abandoned(folder.path()));
        let old = std::time::SystemTime::now() - SETTLED * 2;
        let set_old = || {
            File::open(folder.path())
                .and_then(|dir| dir.set_modified(old))
                .expect("its own folder");
        };
        set_old();
        assert!(!is_abandoned(folder.path()), "the lock is held");
        drop(lock);
        assert!(is_abandoned(folder.path()));
    }
}
