//! From the files of a trial to its rows.

use self::moves::Part;
use super::{Finished, empty_row};
use crate::{
    plan::Plan,
    run::{
        TrialRecord,
        verdict::{self, Evidence},
    },
    spec::Role,
};
use anyhow::Result;
use limosa_record::row::{self, EventRow, NodeEventRow};

mod clients;
mod ends;
mod handover;
mod moves;

/// Everything that a trial showed. What is missing stays empty; what cannot be read makes an
/// otherwise good trial a failed one.
pub(super) fn record(
    plan: &Plan,
    finished: &Finished<'_>,
    body_sha256: Option<&str>,
) -> TrialRecord {
    let mut record = TrialRecord { row: empty_row(plan, finished), ..TrialRecord::default() };
    let collected = collect(plan, finished, body_sha256, &mut record);
    let outcome = match (&finished.outcome, collected) {
        (Err((status, reason)), _) => Err((*status, reason.clone())),
        (Ok(()), Err(e)) => Err(("failed", format!("{e:#}"))),
        (Ok(()), Ok(())) => Ok(()),
    };
    match outcome {
        Ok(()) => record.row.status = "ok".into(),
        Err((status, reason)) => {
            record.row.status = status.into();
            record.row.reason = Some(reason);
        }
    }
    let evidence = Evidence {
        calibration: &finished.calibration,
        step_lateness_ms: record.row.step_lateness_ms,
        machine: finished.machine.as_ref(),
        links: &finished.links,
    };
    record.verdict = verdict::judge(&evidence);
    record.verdict.enter(&mut record.row);
    if let Some(machine) = &finished.machine {
        machine.enter(&mut record.row);
        record.row.link_lateness_p99_ms = finished.links.lateness_p99_ms;
        let softnet = machine.usage.softnet_drops_packets.unwrap_or(0);
        let links: u64 = finished.links.drops.iter().map(|d| d.packets).sum();
        record.row.unasked_drops_packets = Some(softnet + links);
    }
    record
}

fn collect(
    plan: &Plan,
    finished: &Finished<'_>,
    body_sha256: Option<&str>,
    record: &mut TrialRecord,
) -> Result<()> {
    let row = &mut record.row;
    row.rtt_first_ms = finished.calibration.first().and_then(|c| c.min_rtt_ms);
    row.rtt_second_ms = finished.calibration.get(1).and_then(|c| c.min_rtt_ms);
    row.image_bytes = finished.dumps.iter().map(|d| d.image_bytes).reduce(|a, b| a + b);
    row.dumped_pages = finished.dumps.iter().filter_map(|d| d.pages_written).reduce(|a, b| a + b);
    let frozen = finished.dumps.iter().filter_map(|d| d.frozen_us);
    row.frozen_s = frozen.reduce(|a, b| a + b).map(|us| us as f64 / 1e6);
    row.unread_packets = finished.unread.map(|unread| unread.packets);
    row.unread_bytes = finished.unread.map(|unread| unread.bytes);
    row.body_matches = finished.file_matches;
    let lateness = finished.steps.iter().map(|s| (s.started_ns - s.planned_ns) as f64 / 1e6);
    row.step_lateness_ms = lateness.reduce(f64::max);
    let done = [&finished.steps[..], &finished.further[..]].concat();
    let parts = moves::parts(&done, &finished.moves, finished.transfer.as_ref());
    let part = |name: &str| parts.iter().find(|p| p.event == name);
    // A machine that moves is frozen and thawed.
    let checkpoint = part("checkpoint").or_else(|| part("freeze"));
    let restore = part("restore").or_else(|| part("thaw"));
    let length = |s: &Part| seconds(s.done_ns - s.started_ns);
    row.checkpoint_s = checkpoint.map(length);
    row.restore_s = restore.map(length);
    let copies: Vec<&str> = finished.variant.copies().collect();
    if let (Some(checkpoint), Some(restore), true) = (checkpoint, restore, copies.is_empty()) {
        row.transfer_s = Some(seconds(restore.started_ns - checkpoint.done_ns));
        row.downtime_s = Some(seconds(restore.done_ns - checkpoint.started_ns));
    }
    let of_moves = finished.moves.iter().filter_map(|m| m.transfer.as_ref());
    if let Some(transfer) = of_moves.chain(&finished.transfer).next() {
        moves::enter_transfer(transfer, row);
    }
    finished.moves.iter().for_each(|moved| moves::enter_move(moved, row));
    record.events = parts.iter().map(|p| harness_event(finished, p)).collect();
    ends::collect(finished, record);
    let is_client = |name: &str| plan.nodes.get(name).is_some_and(|n| n.role == Some(Role::Client));
    // What a command has written is its own business.
    let own = plan.nodes.iter().filter(|(_, node)| node.command.is_none());
    for name in own.map(|(name, _)| &**name).chain(copies.iter().copied()) {
        let folder = finished.folder.join(name);
        if is_client(name) {
            let restore = restore.filter(|_| copies.is_empty());
            clients::collect(finished, name, restore, body_sha256, record)?;
        } else {
            let events: Vec<NodeEventRow> = row::read(&folder.join("events.csv"))?;
            record.events.extend(events.into_iter().map(|e| node_event(finished, name, e)));
        }
    }
    record.events.sort_by_key(|e| e.started_ns);
    if !copies.is_empty() {
        handover::collect(finished, &copies, record)?;
    }
    if let Some(saved) = &finished.saved {
        record.row.bytes = Some(saved.bytes);
        record.row.body_matches = Some(saved.matches);
    }
    if finished.outcome.is_ok() {
        ends::check_saved(plan, finished)?;
        let row = &record.row;
        let twice = row.answered_twice.unwrap_or(0);
        anyhow::ensure!(twice == 0, "{twice} requests were answered by both servers");
        let missing = row.writes_missing.unwrap_or(0);
        anyhow::ensure!(missing == 0, "{missing} acknowledged writes are not on the server");
    }
    Ok(())
}

fn harness_event(finished: &Finished<'_>, step: &Part) -> EventRow {
    EventRow {
        variant: finished.trial.variant.clone(),
        repetition: finished.trial.repetition,
        source: "harness".into(),
        event: step.event.into(),
        detail: step.detail.clone(),
        planned_ns: step.planned_ns,
        started_ns: step.started_ns,
        done_ns: Some(step.done_ns),
    }
}

fn node_event(finished: &Finished<'_>, name: &str, row: NodeEventRow) -> EventRow {
    EventRow {
        variant: finished.trial.variant.clone(),
        repetition: finished.trial.repetition,
        source: name.into(),
        event: row.event,
        detail: row.detail,
        planned_ns: None,
        started_ns: row.started_ns,
        done_ns: Some(row.done_ns),
    }
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}
