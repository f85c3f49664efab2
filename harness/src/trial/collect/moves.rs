//! What a trial shows of servers that moved, and of files that travelled.

use super::seconds;
use crate::trial::{action::Move, timeline::Done, transfer::Report};
use limosa_record::row::{TrialRow, event};

/// Something that the harness did. Times are CLOCK_REALTIME in ns.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) event: &'static str,
    pub(super) detail: String,
    /// When it should have begun; what follows from something else is not planned.
    pub(super) planned_ns: Option<i64>,
    pub(super) started_ns: i64,
    pub(super) done_ns: i64,
}

/// All that was done, moves in their parts. The first of its kind comes first.
pub(super) fn parts(steps: &[Done], moves: &[Move], transfer: Option<&Report>) -> Vec<Part> {
    let steps = steps.iter().filter(|s| s.event != "migrate").map(|s| Part {
        event: s.event,
        detail: s.detail.clone(),
        planned_ns: Some(s.planned_ns),
        started_ns: s.started_ns,
        done_ns: s.done_ns,
    });
    let mut all: Vec<Part> = steps.chain(moves.iter().flat_map(of_move)).collect();
    all.extend(transfer.into_iter().flat_map(of_transfer));
    all.sort_by_key(|p| p.started_ns);
    all
}

fn of_move(moved: &Move) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, round) in moved.rounds.iter().enumerate() {
        let (dump, number) = (&round.dump, number + 1);
        let pages = |pages: Option<u64>| pages.map_or("?".into(), |n| n.to_string());
        let (new, old) = (pages(dump.pages_written), pages(dump.pages_skipped_parent));
        let detail = format!("round {number}: {new} pages, {old} as before");
        parts.push(part(event::PRE_DUMP, detail, dump.started_ns, dump.done_ns));
        parts.extend(of_transfer(&round.transfer));
    }
    if let Some(dump) = &moved.dump {
        let detail = format!("{} bytes", dump.image_bytes);
        parts.push(part("checkpoint", detail, dump.started_ns, dump.done_ns));
    }
    parts.extend(moved.transfer.iter().flat_map(of_transfer));
    // What was planned is the beginning.
    if let Some(first) = parts.first_mut() {
        first.planned_ns = Some(moved.planned_ns);
    }
    if let Some(restore) = &moved.restore {
        parts.push(part("restore", String::new(), restore.started_ns, restore.done_ns));
        if let Some((served, done_ns)) = &moved.lazy {
            let (pages, faults) = (served.pages, served.faults_ms.len());
            let detail = format!("{pages} pages, {faults} of them waited for");
            parts.push(part(event::LAZY_PAGES, detail, restore.done_ns, *done_ns));
        }
    }
    if let Some((why, at_ns)) = &moved.aborted {
        parts.push(part(event::SOURCE_RESUMED, why.clone(), *at_ns, *at_ns));
    }
    parts
}

fn part(event: &'static str, detail: String, started_ns: i64, done_ns: i64) -> Part {
    Part { event, detail, planned_ns: None, started_ns, done_ns }
}

/// What a move is besides a checkpoint, a transfer and a restore.
pub(super) fn enter_move(moved: &Move, row: &mut TrialRow) {
    if !moved.rounds.is_empty() {
        let pages = moved.rounds.iter().filter_map(|r| r.dump.pages_written);
        let pages: Vec<String> = pages.map(|n| n.to_string()).collect();
        row.rounds = Some(moved.rounds.len() as u64);
        row.round_pages = Some(pages.join(" "));
        row.rounds_sent_bytes = Some(moved.rounds.iter().map(|r| r.transfer.sent_bytes).sum());
        row.skipped_pages = moved.dump.as_ref().and_then(|d| d.pages_skipped_parent);
    }
    let Some(restore) = &moved.restore else { return };
    let mut done_ns = restore.done_ns;
    if let Some((served, all_ns)) = &moved.lazy {
        // The last page may come before criu has said its last word about the restore.
        done_ns = done_ns.max(*all_ns);
        let mut waits = served.faults_ms.clone();
        waits.sort_by(f64::total_cmp);
        let sum: f64 = waits.iter().sum();
        row.lazy_pages = Some(served.pages);
        row.lazy_faults_pages = Some(waits.len() as u64);
        row.lazy_latency_mean_ms = (!waits.is_empty()).then(|| sum / waits.len() as f64);
        row.lazy_latency_p99_ms = waits.get((waits.len() * 99).div_ceil(100).max(1) - 1).copied();
        row.lazy_s = Some(seconds(done_ns - restore.done_ns));
    }
    row.migration_s = Some(seconds(done_ns - moved.started_ns()));
}

fn of_transfer(transfer: &Report) -> [Part; 2] {
    let sent = format!("{}, {} bytes sent", transfer.method, transfer.sent_bytes);
    [
        (event::TRANSFER_SETUP, transfer.method.clone(), transfer.started_ns, transfer.data_ns),
        (event::TRANSFER, sent, transfer.data_ns, transfer.arrived_ns),
    ]
    .map(|(event, detail, started_ns, done_ns)| part(event, detail, started_ns, done_ns))
}

/// The time from end to end only where no checkpoint and restore say what is meant by it.
pub(super) fn enter_transfer(transfer: &Report, row: &mut TrialRow) {
    let data_s = seconds(transfer.arrived_ns - transfer.data_ns);
    let (size, sent) = (transfer.size_bytes, transfer.sent_bytes);
    row.transfer_s.get_or_insert(seconds(transfer.done_ns - transfer.started_ns));
    row.transfer = Some(transfer.method.clone());
    row.transfer_setup_s = Some(seconds(transfer.data_ns - transfer.started_ns));
    row.transfer_data_s = Some(data_s);
    row.transfer_size_bytes = Some(size);
    row.transfer_sent_bytes = Some(sent);
    row.transfer_received_bytes = Some(transfer.received_bytes);
    row.transfer_rate_bps = (data_s > 0.0).then(|| size as f64 * 8.0 / data_s);
    let travelled = (sent + transfer.received_bytes) as f64;
    row.transfer_speedup_ratio = (travelled > 0.0).then(|| size as f64 / travelled);
}
