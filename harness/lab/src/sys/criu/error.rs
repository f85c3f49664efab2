//! What can go wrong with CRIU.

use super::{ExitState, GONE_LIMIT, ProcessError};
use std::{io, path::PathBuf, time::Duration};
use thiserror::Error;

/// What can go wrong in a checkpoint or restore.
#[derive(Debug, Error)]
pub enum CriuError {
    /// `criu check` or `criu --version` failed.
    #[error("criu {action} {state}: {}", reason.as_deref().unwrap_or("no error line"))]
    Unusable {
        /// What criu was asked.
        action: String,
        /// How criu ended.
        state: ExitState,
        /// Its error line that says why.
        reason: Option<String>,
    },
    /// `criu dump` failed.
    #[error("dump process {pid}: criu {state}: {} (source process {}; see {})",
        reason.as_deref().unwrap_or("no error line"), fate(*source_running), log.display())]
    Dump {
        /// PID of the source process.
        pid: i32,
        /// How criu ended.
        state: ExitState,
        /// Its error line that says why.
        reason: Option<String>,
        /// Whether the source process goes on, as it does after an orderly failure.
        source_running: bool,
        /// CRIU's log.
        log: PathBuf,
    },
    /// `criu restore` failed.
    #[error("restore from {}: criu {state}: {} (see {})",
        images.display(), reason.as_deref().unwrap_or("no error line"), log.display())]
    Restore {
        /// The image folder.
        images: PathBuf,
        /// How criu ended.
        state: ExitState,
        /// Its error line that says why.
        reason: Option<String>,
        /// CRIU's log.
        log: PathBuf,
    },
    /// criu took longer than allowed and was killed.
    #[error("{action}: criu was killed after {limit:?} (source process {}; see {})",
        source_running.map_or("not concerned", fate), log.display())]
    TimedOut {
        /// What criu was doing.
        action: String,
        /// How long it was allowed to run.
        limit: Duration,
        /// Whether the source process of a dump goes on.
        source_running: Option<bool>,
        /// CRIU's log.
        log: PathBuf,
    },
    /// A dumped process did not disappear.
    #[error("dump process {pid}: still there {GONE_LIMIT:?} after its dump")]
    Lingering {
        /// PID of the process.
        pid: i32,
    },
    /// A file or folder of the dump cannot be used.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// criu or the process cannot be started, watched or reaped.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

fn fate(running: bool) -> &'static str {
    if running { "still running" } else { "dead" }
}
