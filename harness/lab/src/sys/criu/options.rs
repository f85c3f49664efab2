//! How criu is to dump or restore.

use super::Pages;
use std::{path::PathBuf, time::Duration};
use tokio::sync::watch;

/// What becomes of a process that was dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It ends.
    Dead,
    /// It goes on, for a copy.
    Running,
    /// It is stopped (SIGSTOP), until somebody kills it or lets it go on.
    Stopped,
    /// It goes on, only its memory is in the images, and the kernel notes what of it changes: a
    /// pre-dump. The next dump has to name its folder as [`Pages::parent`].
    Tracked,
}

/// How to dump or restore.
#[derive(Debug, Clone)]
pub struct Options {
    /// Existing folder for `dump.log`, `restore.log`, `stats-dump`, `stats-restore`; one per dump
    /// and per restore when the logs of all are to be kept. Any file system will do.
    pub work: PathBuf,
    /// Dump only: what becomes of the original.
    pub leave: Leave,
    /// How long criu may take before it is killed.
    pub limit: Duration,
    /// When it shall begin, CLOCK_REALTIME in ns. criu is started at once and held just before its
    /// work, so that the start of a program, 0.1 s in an emulated guest, is not part of the move.
    pub begin_ns: i64,
    /// Where pages of memory are, other than in the images.
    pub pages: Pages,
    /// criu waits, beyond `begin_ns`, until this is true.
    pub clear: Option<watch::Receiver<bool>>,
    /// Take established TCP connections along. They are restored only where their address is.
    pub connections: bool,
}

impl Options {
    /// Logs into `work`, the original ends with its dump, half a minute for criu.
    pub fn new(work: impl Into<PathBuf>) -> Self {
        Self {
            work: work.into(),
            leave: Leave::Dead,
            limit: Duration::from_secs(30),
            begin_ns: 0,
            pages: Pages::default(),
            clear: None,
            connections: false,
        }
    }
}
