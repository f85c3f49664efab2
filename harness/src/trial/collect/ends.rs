//! How commands ended, and what a client among them has left.

use super::Finished;
use crate::{plan::Plan, run::TrialRecord, trial::serve::NodeEnd};
use anyhow::{Result, bail, ensure};
use limosa_record::row::{EventRow, event};

/// Each end is an event; together they are a cell.
pub(super) fn collect(finished: &Finished<'_>, record: &mut TrialRecord) {
    let commands = || finished.ends.iter().filter(|end| end.command);
    let told: Vec<String> = commands().map(|end| format!("{}: {}", end.name, how(end))).collect();
    record.row.ends = (!told.is_empty()).then(|| told.join("; "));
    record.events.extend(commands().map(|end| EventRow {
        variant: finished.trial.variant.clone(),
        repetition: finished.trial.repetition,
        source: end.name.clone(),
        event: event::EXITED.into(),
        detail: how(end),
        planned_ns: None,
        started_ns: end.at_ns,
        done_ns: Some(end.at_ns),
    }));
}

fn how(end: &NodeEnd) -> String {
    let asked = if end.asked { ", when asked to end" } else { "" };
    format!("{}{asked}", end.state)
}

/// Whether a client that should have saved the body has.
pub(super) fn check_saved(plan: &Plan, finished: &Finished<'_>) -> Result<()> {
    for (node, command) in plan.commands() {
        let Some(file) = &command.saves else { continue };
        match finished.saved {
            None => bail!("node `{node}` has ended without a file `{file}`"),
            Some(saved) => {
                ensure!(saved.matches, "the body that arrived is not the body that was sent");
            }
        }
    }
    Ok(())
}
