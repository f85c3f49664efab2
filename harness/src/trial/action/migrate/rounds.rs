//! Rounds of pre-copy: memory is copied while the server runs; each round copies what has changed
//! since the one before it.

use super::{Move, Mover};
use crate::trial::transfer::Report;
use anyhow::Result;
use limosa_lab::sys::criu::{DumpReport, Leave};

/// Bytes of a page (x86_64).
const PAGE_BYTES: u64 = 4096;

/// Memory that was copied while the server ran.
#[derive(Debug)]
pub struct Round {
    /// The pre-dump.
    pub dump: DumpReport,
    /// The way of its images.
    pub transfer: Report,
}

impl Mover<'_> {
    /// Copies memory in as many rounds as are planned, or until another one would not help.
    pub(super) async fn rounds(&self, moved: &mut Move) -> Result<()> {
        let mut before = u64::MAX;
        for round in 1..=self.plan.rounds {
            let mut options = self.options(&format!("round-{round}"), moved);
            options.leave = Leave::Tracked;
            let (dump, transfer) = self.copy(&round.to_string(), options).await;
            let transfer = transfer?;
            let Some(dump) = dump else { break };
            let pages = dump.pages_written.unwrap_or(0);
            moved.rounds.push(Round { dump, transfer });
            if self.plan.below_bytes.is_some_and(|below| is_enough(pages, before, below)) {
                break;
            }
            before = pages;
        }
        Ok(())
    }
}

/// Whether no further round is worth its while.
fn is_enough(pages: u64, before: u64, below_bytes: u64) -> bool {
    pages * PAGE_BYTES <= below_bytes || pages >= before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_end_when_little_has_changed_or_no_less_than_before() {
        assert!(is_enough(10, u64::MAX, 40_960));
        assert!(!is_enough(11, u64::MAX, 40_960));
        assert!(!is_enough(99, 100, 40_960));
        assert!(is_enough(100, 100, 40_960));
    }
}
