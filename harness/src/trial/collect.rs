//! From the files of a trial to its rows.

use self::moves::Part;
use super::{Finished, empty_row};
use crate::{
    plan::Plan,
    run::TrialRecord,
    verdict::{self, Evidence},
};
use anyhow::{Context, Result};
use limosa_record::{
    node::{ClientResult, RESULT_FILE},
    row::{
        self, EventRow, NodeEventRow, NodeRequestRow, NodeThroughputRow, RequestRow, ThroughputRow,
        event,
    },
};
use std::{fs, path::Path};

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
    let parts = moves::parts(&finished.steps, &finished.moves, finished.transfer.as_ref());
    let part = |name: &str| parts.iter().find(|p| p.event == name);
    let (checkpoint, restore) = (part("checkpoint"), part("restore"));
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
    let clients = plan.nodes.iter().filter(|(_, n)| n.role == Some(crate::spec::Role::Client));
    let clients: Vec<&str> = clients.map(|(name, _)| &**name).collect();
    for name in plan.nodes.keys().map(String::as_str).chain(copies.iter().copied()) {
        let folder = finished.folder.join(name);
        let events: Vec<NodeEventRow> = row::read(&folder.join("events.csv"))?;
        if clients.contains(&name) {
            let restore = restore.filter(|_| copies.is_empty());
            client(finished, &folder, &events, restore, body_sha256, record)?;
        }
        record.events.extend(events.into_iter().map(|e| node_event(finished, name, e)));
    }
    record.events.sort_by_key(|e| e.started_ns);
    if !copies.is_empty() {
        handover::collect(finished, &copies, record)?;
    }
    if finished.outcome.is_ok() {
        let row = &record.row;
        let twice = row.answered_twice.unwrap_or(0);
        anyhow::ensure!(twice == 0, "{twice} requests were answered by both servers");
        let missing = row.writes_missing.unwrap_or(0);
        anyhow::ensure!(missing == 0, "{missing} acknowledged writes are not on the server");
    }
    Ok(())
}

fn client(
    finished: &Finished<'_>,
    folder: &Path,
    events: &[NodeEventRow],
    restore: Option<&Part>,
    body_sha256: Option<&str>,
    record: &mut TrialRecord,
) -> Result<()> {
    let Some(zero_ns) = finished.zero_ns else { return Ok(()) };
    let samples: Vec<NodeThroughputRow> = row::read(&folder.join("throughput.csv"))?;
    let interface = |sample: &NodeThroughputRow| {
        let at = finished.variant.local.iter().position(|l| *l == sample.local);
        at.map_or_else(|| sample.local.to_string(), |i| finished.variant.interfaces[i].clone())
    };
    record.throughput = samples
        .iter()
        .map(|sample| ThroughputRow {
            variant: finished.trial.variant.clone(),
            repetition: finished.trial.repetition,
            path: interface(sample),
            t_s: seconds(sample.t_ns - zero_ns),
            interval_s: seconds(sample.interval_ns),
            bytes: sample.bytes,
        })
        .collect();
    let requests: Vec<NodeRequestRow> = row::read(&folder.join("requests.csv"))?;
    record.requests = requests.into_iter().map(|r| request(finished, zero_ns, r)).collect();
    let row = &mut record.row;
    let count = |event: &str| events.iter().filter(|e| e.event == event).count() as u64;
    let refused = count(event::ANNOUNCEMENT_REFUSED);
    let announced = refused + count(event::ANNOUNCEMENT) > 0;
    row.announcements_refused = announced.then_some(refused);
    if let Some(restore) = restore {
        let around = |e: &&NodeEventRow| {
            e.event == event::GAP && e.started_ns <= restore.done_ns && e.done_ns >= restore.done_ns
        };
        let gap = events.iter().find(around);
        row.resume_delay_s = gap.map(|gap| seconds(gap.done_ns - restore.done_ns));
        let after = record.requests.iter().filter(|r| r.t_s > seconds(restore.done_ns - zero_ns));
        let first = after.min_by(|a, b| a.t_s.total_cmp(&b.t_s));
        row.first_response_s = first.and_then(|request| request.response_s);
    }
    let file = folder.join(RESULT_FILE);
    if !file.exists() && finished.outcome.is_err() {
        return Ok(());
    }
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let result: ClientResult =
        serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
    row.reconnects = Some(result.reconnects);
    if let Some(counts) = &result.requests {
        row.requests_ok = Some(counts.ok);
        row.requests_lost = Some(counts.lost);
        row.requests_failed = Some(counts.failed);
        row.answered_twice = Some(counts.answered_twice);
    }
    let Some(body_sha256) = body_sha256 else {
        let error = result.error.filter(|_| finished.outcome.is_ok());
        return error.map_or(Ok(()), |error| Err(anyhow::anyhow!(error)));
    };
    row.bytes = Some(result.bytes);
    row.stall_s = result.longest_gap_ns.map(seconds);
    if let Some(playback) = &result.playback {
        row.playback_stall_s = Some(seconds(playback.stalled_ns));
        row.playback_stopped_at_bytes = playback.stopped_at_bytes;
        row.playback_resumed_at_bytes = playback.resumed_at_bytes;
    }
    row.body_matches = result.sha256.as_ref().map(|hash| hash == body_sha256);
    if let (Some(finished_ns), None) = (result.finished_ns, &result.error) {
        let turnaround_s = seconds(finished_ns - result.handshake_started_ns);
        row.turnaround_s = Some(turnaround_s);
        row.goodput_bps = Some(result.bytes as f64 * 8.0 / turnaround_s);
    }
    if finished.outcome.is_ok() {
        anyhow::ensure!(result.error.is_none(), "{}", result.error.unwrap_or_default());
        let matches = row.body_matches == Some(true);
        anyhow::ensure!(matches, "the body that arrived is not the body that was sent");
    }
    Ok(())
}

fn request(finished: &Finished<'_>, zero_ns: i64, row: NodeRequestRow) -> RequestRow {
    RequestRow {
        variant: finished.trial.variant.clone(),
        repetition: finished.trial.repetition,
        request: row.request,
        object: row.object,
        t_s: seconds(row.t_ns - zero_ns),
        response_s: row.response_ns.map(seconds),
        served_by: row.served_by,
        outcome: row.outcome,
        first_byte_s: row.first_byte_ns.map(seconds),
        access: row.access,
        version: row.version,
    }
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
