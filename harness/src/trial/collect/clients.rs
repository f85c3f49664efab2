//! What a trial shows of its clients: of each one, and of all together.

use super::{Finished, Part, node_event, seconds};
use crate::run::TrialRecord;
use anyhow::{Context, Result};
use limosa_analysis::stats;
use limosa_record::{
    node::{ClientResult, RESULT_FILE, folder_of_client},
    row::{
        self, ClientRow, NodeEventRow, NodeRequestRow, NodeThroughputRow, RequestRow,
        ThroughputRow, TrialRow, event,
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// One client.
struct Seen {
    row: ClientRow,
    result: Option<ClientResult>,
}

/// Takes in what the clients in the process `name` left.
pub(super) fn collect(
    finished: &Finished<'_>,
    name: &str,
    restore: Option<&Part>,
    body_sha256: Option<&str>,
    record: &mut TrialRecord,
) -> Result<()> {
    let folder = finished.folder.join(name);
    let all: Vec<(Option<u16>, String, PathBuf)> = match finished.variant.clients {
        1 => vec![(None, name.into(), folder.clone())],
        n => (1..=n)
            .map(|i| (Some(i), format!("{name}/{i}"), folder_of_client(&folder, i)))
            .collect(),
    };
    if let Some(zero_ns) = finished.zero_ns {
        record.throughput = throughput(finished, &folder, zero_ns)?;
    }
    let mut seen = Vec::new();
    for (number, source, folder) in all {
        let events: Vec<NodeEventRow> = row::read(&folder.join("events.csv"))?;
        if let Some(zero_ns) = finished.zero_ns {
            let requests: Vec<NodeRequestRow> = row::read(&folder.join("requests.csv"))?;
            let requests = requests.into_iter().map(|r| request(finished, number, zero_ns, r));
            let requests: Vec<RequestRow> = requests.collect();
            let mut row = ClientRow {
                variant: finished.trial.variant.clone(),
                repetition: finished.trial.repetition,
                client: number,
                ..ClientRow::default()
            };
            enter_events(&events, &mut row);
            if let Some(restore) = restore {
                enter_restore(restore, zero_ns, &events, &requests, &mut row);
            }
            let result = result(finished, &folder)?;
            if let Some(result) = &result {
                enter_result(result, body_sha256, &mut row);
            }
            seen.push(Seen { row, result });
            record.requests.extend(requests);
        }
        record.events.extend(events.into_iter().map(|e| node_event(finished, &source, e)));
    }
    enter(&seen, body_sha256.is_some(), &mut record.row);
    let wrong = seen.iter().find_map(|s| Some((s.row.client, complaint(s, body_sha256)?)));
    if finished.variant.clients > 1 {
        record.clients = seen.into_iter().map(|s| s.row).collect();
    }
    match wrong.filter(|_| finished.outcome.is_ok()) {
        None => Ok(()),
        Some((None, why)) => Err(anyhow::anyhow!(why)),
        Some((Some(number), why)) => Err(anyhow::anyhow!("client {number}: {why}")),
    }
}

fn throughput(finished: &Finished<'_>, folder: &Path, zero_ns: i64) -> Result<Vec<ThroughputRow>> {
    let samples: Vec<NodeThroughputRow> = row::read(&folder.join("throughput.csv"))?;
    let interface = |sample: &NodeThroughputRow| {
        let at = finished.variant.local.iter().position(|l| *l == sample.local);
        at.map_or_else(|| sample.local.to_string(), |i| finished.variant.interfaces[i].clone())
    };
    let row = |sample: &NodeThroughputRow| ThroughputRow {
        variant: finished.trial.variant.clone(),
        repetition: finished.trial.repetition,
        path: interface(sample),
        t_s: seconds(sample.t_ns - zero_ns),
        interval_s: seconds(sample.interval_ns),
        bytes: sample.bytes,
    };
    Ok(samples.iter().map(row).collect())
}

fn enter_events(events: &[NodeEventRow], row: &mut ClientRow) {
    let count = |event: &str| events.iter().filter(|e| e.event == event).count() as u64;
    let refused = count(event::ANNOUNCEMENT_REFUSED);
    let announced = refused + count(event::ANNOUNCEMENT) > 0;
    row.announcements_refused = announced.then_some(refused);
}

fn enter_restore(
    restore: &Part,
    zero_ns: i64,
    events: &[NodeEventRow],
    requests: &[RequestRow],
    row: &mut ClientRow,
) {
    let around = |e: &&NodeEventRow| {
        e.event == event::GAP && e.started_ns <= restore.done_ns && e.done_ns >= restore.done_ns
    };
    let gap = events.iter().find(around);
    let restored_s = seconds(restore.done_ns - zero_ns);
    row.resume_delay_s = gap
        .map(|gap| seconds(gap.done_ns - restore.done_ns))
        .or_else(|| Some(next_answer_s(requests, restored_s)? - restored_s));
    let after = requests.iter().filter(|r| r.t_s > restored_s);
    let first = after.min_by(|a, b| a.t_s.total_cmp(&b.t_s));
    row.first_response_s = first.and_then(|request| request.response_s);
}

/// When the first answer after the restore was there; nothing when none was waited for at the time.
fn next_answer_s(requests: &[RequestRow], restored_s: f64) -> Option<f64> {
    let answered_s = |r: &RequestRow| Some(r.t_s + r.response_s?);
    let waited =
        |r: &RequestRow| r.t_s <= restored_s && answered_s(r).is_none_or(|s| s > restored_s);
    requests.iter().find(|r| waited(r))?;
    let answers = requests.iter().filter_map(answered_s).filter(|s| *s > restored_s);
    answers.min_by(f64::total_cmp)
}

/// What a client left in the end; one that was killed has left nothing.
fn result(finished: &Finished<'_>, folder: &Path) -> Result<Option<ClientResult>> {
    let file = folder.join(RESULT_FILE);
    if !file.exists() && finished.outcome.is_err() {
        return Ok(None);
    }
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

fn enter_result(result: &ClientResult, body_sha256: Option<&str>, row: &mut ClientRow) {
    row.error.clone_from(&result.error);
    row.reconnects = Some(result.reconnects);
    if let Some(counts) = &result.requests {
        row.requests_ok = Some(counts.ok);
        row.requests_lost = Some(counts.lost);
        row.requests_failed = Some(counts.failed);
    }
    let Some(body_sha256) = body_sha256 else { return };
    row.bytes = Some(result.bytes);
    row.stall_s = result.longest_gap_ns.map(seconds);
    row.body_matches = result.sha256.as_ref().map(|hash| hash == body_sha256);
    if let (Some(finished_ns), None) = (result.finished_ns, &result.error) {
        row.turnaround_s = Some(seconds(finished_ns - result.handshake_started_ns));
    }
}

fn complaint(seen: &Seen, body_sha256: Option<&str>) -> Option<String> {
    if let Some(error) = &seen.row.error {
        return Some(error.clone());
    }
    let wrong = body_sha256.is_some() && seen.row.body_matches != Some(true);
    wrong.then(|| "the body that arrived is not the body that was sent".into())
}

/// What all of them come to: sums, and the times of the slowest.
fn enter(seen: &[Seen], downloads: bool, row: &mut TrialRow) {
    if seen.is_empty() {
        return;
    }
    let sum = |value: fn(&ClientRow) -> Option<u64>| {
        seen.iter().filter_map(|s| value(&s.row)).reduce(|a, b| a + b)
    };
    let slowest = |value: fn(&ClientRow) -> Option<f64>| {
        seen.iter().filter_map(|s| value(&s.row)).reduce(f64::max)
    };
    row.clients = Some(seen.len() as u64);
    row.announcements_refused = sum(|r| r.announcements_refused);
    row.resume_delay_s = slowest(|r| r.resume_delay_s);
    row.first_response_s = slowest(|r| r.first_response_s);
    row.reconnects = sum(|r| r.reconnects);
    row.requests_ok = sum(|r| r.requests_ok);
    row.requests_lost = sum(|r| r.requests_lost);
    row.requests_failed = sum(|r| r.requests_failed);
    let results = || seen.iter().filter_map(|s| s.result.as_ref());
    let twice = results().filter_map(|r| Some(r.requests?.answered_twice));
    row.answered_twice = twice.reduce(|a, b| a + b);
    if downloads {
        row.bytes = sum(|r| r.bytes);
        row.stall_s = slowest(|r| r.stall_s);
        enter_bodies(seen, row);
    }
    if seen.len() > 1 {
        enter_spread(seen, row);
    }
}

fn enter_bodies(seen: &[Seen], row: &mut TrialRow) {
    let right: Vec<_> = seen.iter().map(|s| s.row.body_matches).collect();
    row.body_matches = match right.contains(&Some(false)) {
        true => Some(false),
        false => right.iter().all(Option::is_some).then_some(true),
    };
    let playbacks = seen.iter().filter_map(|s| s.result.as_ref()?.playback.as_ref());
    if let Some(worst) = playbacks.max_by_key(|p| p.stalled_ns) {
        row.playback_stall_s = Some(seconds(worst.stalled_ns));
        row.playback_stopped_at_bytes = worst.stopped_at_bytes;
        row.playback_resumed_at_bytes = worst.resumed_at_bytes;
    }
    let times: Option<Vec<f64>> = seen.iter().map(|s| s.row.turnaround_s).collect();
    row.turnaround_s = times.and_then(|times| times.into_iter().reduce(f64::max));
    let bits = row.bytes.map(|bytes| bytes as f64 * 8.0);
    row.goodput_bps = bits.zip(row.turnaround_s).map(|(bits, s)| bits / s);
}

fn enter_spread(seen: &[Seen], row: &mut TrialRow) {
    let delays: Vec<f64> = seen.iter().filter_map(|s| s.row.resume_delay_s).collect();
    row.clients_resumed = (!delays.is_empty()).then_some(delays.len() as u64);
    row.resume_min_s = stats::quantile(&delays, 0.0);
    row.resume_median_s = stats::median(&delays);
    row.resume_p95_s = stats::quantile(&delays, 0.95);
    row.resume_max_s = stats::quantile(&delays, 1.0);
}

fn request(
    finished: &Finished<'_>,
    client: Option<u16>,
    zero_ns: i64,
    row: NodeRequestRow,
) -> RequestRow {
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
        client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(t_s: f64, response_s: Option<f64>) -> RequestRow {
        RequestRow {
            variant: "v".into(),
            repetition: 1,
            request: 1,
            object: "a".into(),
            t_s,
            response_s,
            served_by: None,
            outcome: "ok".into(),
            first_byte_s: None,
            access: "read".into(),
            version: None,
            client: None,
        }
    }

    #[test]
    fn a_client_resumes_with_the_first_answer_after_the_restore_if_it_waited_for_one() {
        let waited = [asked(1.0, Some(0.1)), asked(2.0, Some(1.5)), asked(3.2, Some(0.1))];
        assert_eq!(next_answer_s(&waited, 3.0), Some(3.2 + 0.1));
        let failed = [asked(2.0, None), asked(3.5, Some(0.25))];
        assert_eq!(next_answer_s(&failed, 3.0), Some(3.75));
        let idle = [asked(1.0, Some(0.1)), asked(5.0, Some(0.1))];
        assert_eq!(next_answer_s(&idle, 3.0), None);
        assert_eq!(next_answer_s(&[asked(2.0, None)], 3.0), None);
    }

    #[test]
    fn of_many_clients_sums_and_the_slowest_are_told_with_the_spread() {
        let one = |delay_s: Option<f64>, turnaround_s: f64| Seen {
            row: ClientRow {
                bytes: Some(10),
                reconnects: Some(1),
                turnaround_s: Some(turnaround_s),
                resume_delay_s: delay_s,
                body_matches: Some(true),
                ..ClientRow::default()
            },
            result: None,
        };
        let mut row = TrialRow::default();
        let seen = [one(Some(0.25), 4.0), one(None, 8.0), one(Some(0.75), 5.0)];
        enter(&seen, true, &mut row);
        assert_eq!((row.clients, row.clients_resumed), (Some(3), Some(2)));
        assert_eq!((row.resume_min_s, row.resume_max_s), (Some(0.25), Some(0.75)));
        assert_eq!((row.resume_median_s, row.resume_delay_s), (Some(0.5), Some(0.75)));
        assert_eq!((row.bytes, row.reconnects, row.turnaround_s), (Some(30), Some(3), Some(8.0)));
        assert_eq!((row.goodput_bps, row.body_matches), (Some(30.0), Some(true)));
        let mut alone = TrialRow::default();
        enter(&seen[..1], true, &mut alone);
        assert_eq!((alone.clients, alone.resume_min_s), (Some(1), None));
    }
}
