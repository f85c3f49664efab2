//! The rows of all CSV files. Column names, their units and their order live only here.
//!
//! A value that does not exist is `None` and becomes an empty cell, never 0.

pub mod cells;
mod client;
pub mod event;
mod table;

pub use client::ClientRow;
pub use table::{ComparisonRow, ModelRow, SecurityRow, SummaryRow};

use crate::{
    dir::{append, name},
    fault, read,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// One row of `trials.csv`: what one trial showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialRow {
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the variant.
    pub variant: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
    /// Seed of this trial.
    pub seed: u64,
    /// `ok`, `failed`, `timeout` or `aborted`.
    pub status: String,
    /// Why it is not `ok`.
    pub reason: Option<String>,
    /// `valid` or `suspect`: was the machine good enough?
    pub verdict: Option<String>,
    /// Why it is `suspect`.
    pub verdict_reason: Option<String>,
    /// Migration scheme.
    pub scheme: String,
    /// How the process moved: `cold` (all of it while it is stopped), `pre-copy` (rounds while it
    /// runs), `post-copy` (memory follows), `hybrid` (a round, then what has changed follows),
    /// `fixed` for a scripted transfer time, `copy` while it went on; empty without a migration.
    pub technique: Option<String>,
    /// From the start of the first handshake to the last byte of the body.
    pub turnaround_s: Option<f64>,
    /// Bytes of the body.
    pub bytes: Option<u64>,
    /// `bytes` × 8 ÷ `turnaround_s`.
    pub goodput_bps: Option<f64>,
    /// From the start of the checkpoint to the end of the restore.
    pub downtime_s: Option<f64>,
    /// The longest time without a byte of the body.
    pub stall_s: Option<f64>,
    /// From the end of the restore to the next byte of the body, or to the next answer where an
    /// answer was waited for.
    pub resume_delay_s: Option<f64>,
    /// Duration of the checkpoint.
    pub checkpoint_s: Option<f64>,
    /// From the end of the checkpoint to the start of the restore, whether files travel meanwhile or
    /// the timeline asks for a wait; in a handover from its start to its end; without a migration
    /// from the start of a transfer's programs to their end.
    pub transfer_s: Option<f64>,
    /// Duration of the restore.
    pub restore_s: Option<f64>,
    /// Size of the checkpoint's image files.
    pub image_bytes: Option<u64>,
    /// New connections that the client had to make.
    pub reconnects: Option<u64>,
    /// When the trial began.
    pub started_utc: String,
    /// Whether the SHA-256 of the body, or of the file that was copied, equals the source's.
    pub body_matches: Option<bool>,
    /// Shortest idle round trip over the client's first interface, before the trial.
    pub rtt_first_ms: Option<f64>,
    /// Shortest idle round trip over its second interface.
    pub rtt_second_ms: Option<f64>,
    /// Latest start of a step of the timeline behind its plan.
    pub step_lateness_ms: Option<f64>,
    /// Folder of the attempt below the run directory.
    pub folder: String,
    /// What carried shaped links: `kernel` or `user`; empty in rows of older versions.
    #[serde(default)]
    pub links: String,
    /// Wake-ups of the machine during the trial were no later than this in 99 % of the time.
    pub lag_p99_ms: Option<f64>,
    /// The latest wake-up.
    pub lag_max_ms: Option<f64>,
    /// Share of the time in which wake-ups were late.
    pub lag_late_share: Option<f64>,
    /// Share of the processors' time that was not idle.
    pub busy_share: Option<f64>,
    /// Share of the processors' time that a hypervisor took.
    pub steal_share: Option<f64>,
    /// Share of the time in which some thread waited for a processor.
    pub cpu_pressure_share: Option<f64>,
    /// Packets lost although no shape asked for it, on links, interfaces and in the kernel's
    /// receive queues.
    pub unasked_drops_packets: Option<u64>,
    /// 99 % of the packets left the delay line of their link no later than this behind their time;
    /// links in user space only, the worst link counts.
    pub link_lateness_p99_ms: Option<f64>,
    /// By how much the clocks moved apart.
    pub clock_drift_ms: Option<f64>,
    /// Requests that were answered, and rightly.
    pub requests_ok: Option<u64>,
    /// Requests for objects that are on no server any more.
    pub requests_lost: Option<u64>,
    /// Requests that failed otherwise.
    pub requests_failed: Option<u64>,
    /// Requests that both servers answered; must be 0.
    pub answered_twice: Option<u64>,
    /// Objects that were on no server any more when the trial ended.
    pub objects_lost: Option<u64>,
    /// Acknowledged writes that the server in charge did not hold in the end; must be 0.
    pub writes_missing: Option<u64>,
    /// What carried files between two places: `rsync`, `stream` or `page-server`, or with
    /// compression `rsync -z` or `stream, zstd`.
    pub transfer: Option<String>,
    /// From the start of its programs to the first file at the target.
    pub transfer_setup_s: Option<f64>,
    /// From there to the last complete file at the target.
    pub transfer_data_s: Option<f64>,
    /// Size of the files.
    pub transfer_size_bytes: Option<u64>,
    /// What the sender sent: payload of TCP.
    pub transfer_sent_bytes: Option<u64>,
    /// What the sender received.
    pub transfer_received_bytes: Option<u64>,
    /// `transfer_size_bytes` × 8 ÷ `transfer_data_s`.
    pub transfer_rate_bps: Option<f64>,
    /// `transfer_size_bytes` ÷ (sent + received), which rsync calls the speedup.
    pub transfer_speedup_ratio: Option<f64>,
    /// Body that is played: how long the picture stood still in all, without a buffer.
    pub playback_stall_s: Option<f64>,
    /// Bytes that had arrived when its longest stop began.
    pub playback_stopped_at_bytes: Option<u64>,
    /// Offset of the byte with which it went on.
    pub playback_resumed_at_bytes: Option<u64>,
    /// From the moment when all of the process was frozen until CRIU had dumped it, as CRIU says.
    pub frozen_s: Option<f64>,
    /// Pages of memory in the images.
    pub dumped_pages: Option<u64>,
    /// Response time of the first request that was sent after the restore.
    pub first_response_s: Option<f64>,
    /// Announced addresses that clients refused; empty when nothing was announced.
    pub announcements_refused: Option<u64>,
    /// From the start of the first round, or the checkpoint, until the process runs at its target
    /// and all of its memory is there.
    pub migration_s: Option<f64>,
    /// Rounds in which memory was copied while the process ran.
    pub rounds: Option<u64>,
    /// Pages that each round copied, which are those that had changed since the one before it;
    /// separated by spaces.
    pub round_pages: Option<String>,
    /// What the sender sent in all rounds: payload of TCP.
    pub rounds_sent_bytes: Option<u64>,
    /// Pages that the checkpoint left out because a round holds them.
    pub skipped_pages: Option<u64>,
    /// Pages that came after the restore.
    pub lazy_pages: Option<u64>,
    /// Pages among them that the process waited for.
    pub lazy_faults_pages: Option<u64>,
    /// Mean of these waits, as CRIU's daemon saw them.
    pub lazy_latency_mean_ms: Option<f64>,
    /// 99 % of these waits were no longer than this.
    pub lazy_latency_p99_ms: Option<f64>,
    /// From the end of the restore until the last page was there.
    pub lazy_s: Option<f64>,
    /// Datagrams that the servers' UDP sockets had received and never gave to their server when it
    /// ended at its old place: CRIU does not carry them along. They waited at the freeze or came
    /// after it. Empty when no server ended to live on elsewhere.
    pub unread_packets: Option<u64>,
    /// Payload of those datagrams.
    pub unread_bytes: Option<u64>,
    /// Clients of the server. With several of them numbers of things and bytes are sums, and times
    /// are those of the slowest; each one's own are in `clients.csv`.
    pub clients: Option<u64>,
    /// Several clients: how many of them had waited through the restore and went on.
    pub clients_resumed: Option<u64>,
    /// The shortest of their resume delays.
    pub resume_min_s: Option<f64>,
    /// The median of them.
    pub resume_median_s: Option<f64>,
    /// Their 95th percentile.
    pub resume_p95_s: Option<f64>,
    /// The longest of them.
    pub resume_max_s: Option<f64>,
    /// How commands ended, as `server: exited with 0, when asked to end; client: exited with 0`.
    #[serde(default)]
    pub ends: Option<String>,
}

/// One row of `throughput.csv`: bytes that arrived on one path in one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThroughputRow {
    /// Name of the variant.
    pub variant: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
    /// The path: the client's interface, as `eth0`.
    pub path: String,
    /// Start of the interval since the start of the handshake.
    pub t_s: f64,
    /// Length of the interval.
    pub interval_s: f64,
    /// Bytes of UDP payload that arrived; under the scheme `http` bytes of the body.
    pub bytes: u64,
}

/// One row of a client's own `throughput.csv`, before the harness knows trial and zero of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeThroughputRow {
    /// The client's local address of the path.
    pub local: std::net::IpAddr,
    /// Start of the interval, CLOCK_REALTIME in ns.
    pub t_ns: i64,
    /// Length of the interval in ns.
    pub interval_ns: i64,
    /// Bytes of UDP payload that arrived.
    pub bytes: u64,
}

/// One row of `requests.csv`: one request of a request workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Name of the variant.
    pub variant: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
    /// Number of the request, from 1.
    pub request: u64,
    /// What was asked for.
    pub object: String,
    /// When it was sent, since the start of the handshake.
    pub t_s: f64,
    /// How long the answer took.
    pub response_s: Option<f64>,
    /// Which node answered.
    pub served_by: Option<String>,
    /// `ok`, `lost` (the object is on no server any more) or `failed: ` and what went wrong.
    pub outcome: String,
    /// How long the first byte of the answer took.
    pub first_byte_s: Option<f64>,
    /// `read` or `write`.
    pub access: String,
    /// The version that was read or written, as `number.client` of the request that wrote it.
    pub version: Option<String>,
    /// Number of the client; empty for one that is alone.
    #[serde(default)]
    pub client: Option<u16>,
}

/// One row of a client's own `requests.csv`, before the harness knows trial and zero of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRequestRow {
    /// Number of the request, from 1.
    pub request: u64,
    /// What was asked for.
    pub object: String,
    /// When it was due, CLOCK_REALTIME in ns.
    pub t_ns: i64,
    /// How long the whole answer took, in ns.
    pub response_ns: Option<i64>,
    /// Which server answered.
    pub served_by: Option<String>,
    /// As in [`RequestRow`].
    pub outcome: String,
    /// How long the first byte of the answer took, in ns.
    pub first_byte_ns: Option<i64>,
    /// `read` or `write`.
    pub access: String,
    /// As in [`RequestRow`].
    pub version: Option<String>,
}

/// One row of a server's `answers.csv`: an answer that it gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// When it began to answer, CLOCK_REALTIME in ns.
    pub t_ns: i64,
    /// Number of the client.
    pub client: u16,
    /// Number of the request.
    pub request: u64,
    /// What was asked for.
    pub object: String,
    /// The first line of the answer.
    pub status: String,
}

/// One row of a server's `objects.csv`: what it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectRow {
    /// Identifier.
    pub object: String,
    /// Version, as `number.client` of the request that wrote it; empty when it is not held.
    pub version: Option<String>,
    /// Size in bytes.
    pub size_bytes: Option<u64>,
    /// SHA-256 of the contents.
    pub sha256: Option<String>,
    /// Whether the contents are those that belong to this version; empty for ranges of a file.
    pub intact: Option<bool>,
}

/// One row of `events.csv`. Times are CLOCK_REALTIME in ns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRow {
    /// Name of the variant.
    pub variant: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
    /// Who: `harness` or the name of a node.
    pub source: String,
    /// What happened, as `checkpoint` or `path_established`.
    pub event: String,
    /// More about it, in words.
    pub detail: String,
    /// When it should have started; empty when nobody planned it.
    pub planned_ns: Option<i64>,
    /// When it started.
    pub started_ns: i64,
    /// When it was done; equal to `started_ns` for what takes no time.
    pub done_ns: Option<i64>,
}

/// One row of a node's own `events.csv`. Times are CLOCK_REALTIME in ns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEventRow {
    /// What happened; see the constants in [`event`].
    pub event: String,
    /// More about it, in words.
    pub detail: String,
    /// When it started.
    pub started_ns: i64,
    /// When it was done.
    pub done_ns: i64,
}

/// One row of a trial's `calibration.csv`: the idle network over one interface of the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationRow {
    /// The client's interface.
    pub interface: String,
    /// Sum of the configured delays there and back.
    pub wanted_rtt_ms: Option<f64>,
    /// Shortest measured round trip.
    pub min_rtt_ms: Option<f64>,
    /// Median round trip.
    pub median_rtt_ms: Option<f64>,
    /// Longest round trip.
    pub max_rtt_ms: Option<f64>,
    /// Echo requests sent.
    pub sent_packets: u16,
    /// Echo requests without an answer.
    pub lost_packets: u16,
    /// The shortest round trip that the shapes allow, with their jitter and reordering.
    #[serde(default)]
    pub least_rtt_ms: Option<f64>,
    /// The longest that they allow, but for queues.
    #[serde(default)]
    pub most_rtt_ms: Option<f64>,
}

/// A CSV file that is written row by row, each row on its way to the disk before the next is made.
#[derive(Debug)]
pub struct RowFile {
    path: PathBuf,
    file: File,
}

impl RowFile {
    /// Opens a file for appending; a new or empty file gets its header with the first row.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn append(path: &Path) -> io::Result<Self> {
        let file = append(path, 0o666).map_err(|e| named("open", path, &e))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes one row through to the file, or nothing of it.
    ///
    /// # Errors
    /// When the disk is full or the file cannot be written; names the file.
    pub fn write(&mut self, row: &impl Serialize) -> io::Result<()> {
        let attempt = |file: &mut File| {
            let before = file.metadata()?.len();
            let bytes = cells::bytes(&[row], before == 0)?;
            fault::here(format_args!("write/{}", name(&self.path)))
                .and_then(|()| file.write_all(&bytes))
                .inspect_err(|_| drop(file.set_len(before)))
        };
        attempt(&mut self.file).map_err(|e| named("write", &self.path, &e))
    }

    /// Waits until all rows are on the disk, where a machine that loses its power keeps them.
    ///
    /// # Errors
    /// When they cannot be put there; names the file.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| named("write", &self.path, &e))
    }
}

fn named(action: &str, path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{action} {}: {e}", path.display()))
}

/// Reads all rows of a CSV file; a missing file has no rows.
///
/// # Errors
/// When a row is not of this type; names file and line.
pub fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Vec<T>> {
    let file = match read::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| named("read", path, &e))?.0,
    };
    parse(file)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", path.display())))
}

/// All rows of a CSV file's content.
///
/// # Errors
/// When a row is not of this type; names the line.
pub fn parse<T: for<'de> Deserialize<'de>>(content: impl io::Read) -> csv::Result<Vec<T>> {
    cells::rows(content).collect()
}
