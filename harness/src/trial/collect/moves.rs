//! What a trial shows of servers that moved, and of files that travelled.

use super::seconds;
use crate::{action::Move, timeline::Done, transfer::Report};
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
    let part = |event, detail, started_ns, done_ns| Part {
        event,
        detail,
        planned_ns: None,
        started_ns,
        done_ns,
    };
    let mut parts = Vec::new();
    if let Some(dump) = &moved.dump {
        let detail = format!("{} bytes", dump.image_bytes);
        let checkpoint = part("checkpoint", detail, dump.started_ns, dump.done_ns);
        parts.push(Part { planned_ns: Some(moved.planned_ns), ..checkpoint });
    }
    parts.extend(moved.transfer.iter().flat_map(of_transfer));
    if let Some(restore) = &moved.restore {
        parts.push(part("restore", String::new(), restore.started_ns, restore.done_ns));
    }
    if let Some((why, at_ns)) = &moved.aborted {
        parts.push(part(event::SOURCE_RESUMED, why.clone(), *at_ns, *at_ns));
    }
    parts
}

fn of_transfer(transfer: &Report) -> [Part; 2] {
    let sent = format!("{}, {} bytes sent", transfer.method, transfer.sent_bytes);
    [
        (event::TRANSFER_SETUP, transfer.method.clone(), transfer.started_ns, transfer.data_ns),
        (event::TRANSFER, sent, transfer.data_ns, transfer.arrived_ns),
    ]
    .map(|(event, detail, started_ns, done_ns)| Part {
        event,
        detail,
        planned_ns: None,
        started_ns,
        done_ns,
    })
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
