//! A node's `events.csv`.

use anyhow::{Context, Result};
use limosa_record::{
    clock,
    row::{NodeEventRow, RowFile},
};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Name of the event file in a node's folder.
pub(crate) const EVENTS_FILE: &str = "events.csv";

/// Writes events as they happen; clones write into the same file.
#[derive(Debug, Clone)]
pub(crate) struct Events(Arc<Mutex<RowFile>>);

impl Events {
    /// Opens the file in the node's folder.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(EVENTS_FILE);
        let file = RowFile::append(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    /// Goes on in another folder, as a copy of a process must.
    pub(crate) fn reopen(&self, folder: &Path) -> Result<()> {
        let path = folder.join(EVENTS_FILE);
        let file = RowFile::append(&path).with_context(|| format!("open {}", path.display()))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }

    /// Something that happened now.
    pub(crate) fn now(&self, event: &str, detail: impl Into<String>) {
        let now = clock::now_ns();
        self.span(event, detail, now, now);
    }

    /// Something that lasted; CLOCK_REALTIME in ns.
    pub(crate) fn span(&self, event: &str, detail: impl Into<String>, from_ns: i64, to_ns: i64) {
        let (event, detail) = (event.to_owned(), detail.into());
        tracing::info!(event, detail);
        let row = NodeEventRow { event, detail, started_ns: from_ns, done_ns: to_ns };
        if let Err(error) = self.0.lock().unwrap_or_else(PoisonError::into_inner).write(&row) {
            tracing::error!(%error, "cannot write an event");
        }
    }
}
