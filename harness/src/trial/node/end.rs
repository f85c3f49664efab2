//! The end of a node: how it came, what it means, and what is said about it.

use super::Node;
use anyhow::Result;
use limosa_lab::sys::process::ExitState;
use limosa_record::clock::now_ns;
use std::{fs, time::Duration};
use tokio::time::sleep;

/// What it means when a node ends by itself in the middle of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It should not have, however it did.
    Accident,
    /// It may, with 0: it has done its work.
    MayEndWell,
    /// Somebody waits for it, and looks at how.
    Awaited,
}

impl Node {
    /// The same node, whose end means something else.
    pub fn meaning(mut self, meaning: Meaning) -> Self {
        self.meaning = meaning;
        self
    }

    /// Whether somebody waits for its end.
    pub fn is_awaited(&self) -> bool {
        self.meaning == Meaning::Awaited
    }

    /// Waits until the process has ended by itself, not by a checkpoint.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn ended(&self) -> Result<ExitState> {
        loop {
            let process = self.process.borrow().clone();
            let state = process.wait().await?;
            while self.moving.get() {
                sleep(Duration::from_millis(20)).await;
            }
            if std::rc::Rc::ptr_eq(&process, &self.process.borrow()) {
                self.note_end();
                return Ok(state);
            }
        }
    }

    /// How it ended, if it has; one that is in images has not.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn try_ended(&self) -> Result<Option<ExitState>> {
        if self.moving.get() {
            return Ok(None);
        }
        let state = self.process.borrow().try_wait()?;
        state.iter().for_each(|_| self.note_end());
        Ok(state)
    }

    /// When it was seen to have ended, CLOCK_REALTIME in ns.
    pub fn ended_ns(&self) -> Option<i64> {
        self.ended_ns.get()
    }

    fn note_end(&self) {
        self.ended_ns.set(self.ended_ns.get().or_else(|| Some(now_ns())));
    }

    /// Whether such an end, by itself, is one that a trial cannot go on with.
    pub fn is_accident(&self, state: &Result<ExitState>) -> bool {
        match self.meaning {
            _ if self.was_killed() => false,
            Meaning::Accident => true,
            Meaning::MayEndWell => !state.as_ref().is_ok_and(|s| s.success()),
            Meaning::Awaited => false,
        }
    }

    /// How it ended although it should not have. The end of a program that was moved is told as
    /// such: most often it did not bear that.
    pub fn early_end(&self, state: Result<ExitState>) -> String {
        let how = state.map_or_else(|e| format!("{e:#}"), |s| s.to_string());
        let (name, place) = (&self.name, self.place());
        self.told(match (self.restored_ns.get(), self.ended_ns.get()) {
            (Some(restored_ns), Some(ended_ns)) => {
                let after_s = (ended_ns - restored_ns) as f64 / 1e9;
                format!("node `{name}` died {after_s:.2} s after its restore on `{place}`: {how}")
            }
            _ => format!("node `{name}` ended too early: {how}"),
        })
    }

    /// Adds the last line of the node's stderr and the name of that file.
    pub fn told(&self, message: String) -> String {
        let log = self.folder.join("stderr.log");
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().find(|l| !l.trim().is_empty());
        let last = last.map_or(String::new(), |l| format!(": {}", l.trim()));
        format!("{message}{last}\n  see: {}", self.kept.join("stderr.log").display())
    }
}
