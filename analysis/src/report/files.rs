//! The report's list of files and what their columns mean.

use maud::{Markup, html};

type Column = (&'static str, &'static str);

const TRIALS: &[Column] = &[
    ("experiment, variant, repetition, seed", "which trial this is"),
    ("status, reason", "ok, failed, timeout or aborted, and why it is not ok"),
    ("verdict, verdict_reason", "valid or suspect: was the machine good enough, and why not"),
    ("scheme, technique", "migration scheme; how the process moved, empty without a migration"),
    ("turnaround_s", "from the start of the first handshake to the last byte of the body"),
    ("bytes, goodput_bps", "size of the body; bits of it per second of turnaround"),
    ("downtime_s", "from the start of the checkpoint to the end of the restore"),
    ("stall_s", "the longest time without a byte of the body"),
    (
        "resume_delay_s",
        "from the end of the restore to the next byte of the body, or to the next answer where one was waited for",
    ),
    (
        "checkpoint_s, transfer_s, restore_s",
        "the parts of the downtime, transfer_s being whatever lies between the other two: files on their \
         way or a wait that the timeline asks for; also the time of a copy without a migration, and \
         from the start of a handover to its end",
    ),
    ("image_bytes", "size of the checkpoint's image files"),
    ("reconnects", "new connections that the client had to make"),
    ("started_utc", "when the trial began"),
    ("body_matches", "whether the SHA-256 of the body or the copied file equals the source's"),
    ("rtt_first_ms", "shortest idle round trip over the client's first interface"),
    ("rtt_second_ms", "the same over its second interface"),
    ("step_lateness_ms", "latest start of a step of the timeline behind its plan"),
    ("folder", "logs and rows of the attempt, below the run directory"),
    ("links", "what carried shaped links, kernel or user"),
    ("lag_p99_ms, lag_max_ms, lag_late_share", "how late a thread woke up, and how often too late"),
    ("busy_share, steal_share", "processor time in use, and taken by a hypervisor"),
    ("cpu_pressure_share", "share of the time in which a thread waited for a processor"),
    ("unasked_drops_packets", "packets lost although no shape asked for it"),
    ("link_lateness_p99_ms", "how late one in a hundred packets left a link in user space"),
    ("clock_drift_ms", "by how much the clocks moved apart"),
    ("requests_ok, requests_lost, requests_failed", "how requests ended"),
    ("answered_twice", "requests that two servers answered; must be 0"),
    ("objects_lost", "objects that were on no server any more in the end"),
    ("writes_missing", "acknowledged writes that the server in charge lacked; must be 0"),
    ("transfer", "what carried files between two places, as rsync; empty without such a transfer"),
    (
        "transfer_setup_s, transfer_data_s",
        "until the first file arrived, and from then to the last",
    ),
    ("transfer_size_bytes", "size of the files"),
    ("transfer_sent_bytes, transfer_received_bytes", "payload of TCP, as the sender counts it"),
    ("transfer_rate_bps", "bits of the files per second of transfer_data_s"),
    ("transfer_speedup_ratio", "size of the files by bytes sent and received"),
    (
        "playback_stall_s",
        "how long the picture of a played body stood still in all, without a buffer",
    ),
    (
        "playback_stopped_at_bytes, playback_resumed_at_bytes",
        "bytes that had arrived when it stood still for longest, and offset of the next one",
    ),
    ("frozen_s", "how long CRIU held the whole process still for its dump"),
    ("dumped_pages", "pages of memory in the images"),
    ("first_response_s", "response time of the first request that was sent after the restore"),
    ("announcements_refused", "announced addresses that clients refused"),
    (
        "unread_packets, unread_bytes",
        "datagrams (and their payload) that a server's sockets had received and that it never read, because it ended there to live on elsewhere",
    ),
    (
        "migration_s",
        "from the start of a move until the process runs elsewhere with all of its memory",
    ),
    ("rounds, round_pages", "rounds of pre-copy, and the pages that each of them copied"),
    ("rounds_sent_bytes", "what they sent, payload of TCP"),
    ("skipped_pages", "pages that the checkpoint left out because a round holds them"),
    (
        "lazy_pages, lazy_faults_pages, lazy_s",
        "pages that came after the restore, those among them that were waited for, and until when",
    ),
    ("lazy_latency_mean_ms, lazy_latency_p99_ms", "how long the process waited for such a page"),
    (
        "clients, clients_resumed",
        "clients of the server, with several of which numbers are sums and times those of the slowest; \
         how many of several waited through the restore and went on",
    ),
    (
        "resume_min_s, resume_median_s, resume_p95_s, resume_max_s",
        "the spread of the resume delays of several clients",
    ),
    ("ends", "how nodes that are commands ended, and which of them had to be asked to"),
];
const CLIENTS: &[Column] = &[
    ("variant, repetition, client", "which client of which trial"),
    ("error", "why it did not come to its end"),
    ("turnaround_s, bytes, body_matches, stall_s", "as in trials.csv"),
    ("resume_delay_s, first_response_s, reconnects", "as in trials.csv"),
    ("requests_ok, requests_lost, requests_failed", "how its requests ended"),
    ("announcements_refused", "announced addresses that it refused"),
];
const THROUGHPUT: &[Column] = &[
    ("variant, repetition", "which trial"),
    ("path", "the client's interface"),
    ("t_s, interval_s", "start since the start of the handshake, and length, of the interval"),
    ("bytes", "UDP payload that arrived"),
];
const REQUESTS: &[Column] = &[
    ("variant, repetition, request, object", "which request, and what was asked for"),
    ("t_s, response_s", "when it was sent since the start of the handshake; how long it took"),
    ("served_by, outcome", "which node answered; ok or what went wrong"),
    ("first_byte_s, access, version", "when the answer began; read or write; which version"),
    ("client", "which client; empty for one that is alone"),
];
const EVENTS: &[Column] = &[
    ("variant, repetition", "which trial"),
    ("source, event, detail", "who (harness or a node), what happened, more about it"),
    ("planned_ns, started_ns, done_ns", "when it was planned, started and done, CLOCK_REALTIME"),
];
const SUMMARY: &[Column] = &[
    ("variant, metric, n", "a number per trial over the n ok trials that have it"),
    ("mean, median, min, max", "as they say"),
    ("p05, p95", "5th and 95th percentile, type 7"),
    ("ci95_low, ci95_high", "95 % percentile-bootstrap interval of the mean; empty below n = 5"),
    (
        "baseline",
        "in rows of differences the variant that is subtracted, trial by trial of a repetition",
    ),
    ("trials, failed, suspect", "all trials (pairs), those not ok, those with the verdict suspect"),
    ("all_n, all_mean", "the same over all trials with a value, failed ones included"),
    ("valid_n, valid_mean, valid_ci95_low, valid_ci95_high", "and without failed and suspect ones"),
];
const MODEL: &[Column] = &[
    ("variant, scheme, part", "0 before the new server can answer, tenths 1 to 10 after that, all"),
    ("from_s, to_s, n", "times since the start of the migration; answered requests sent between"),
    (
        "mean_s, ci99_low_s, ci99_high_s",
        "mean response time and its 99 % bootstrap interval, empty below n = 5",
    ),
    ("model_s, inside, difference_ratio", "the model's mean at the same times beside it"),
];

const SECURITY: &[Column] = &[
    ("variant, repetition, check, passed", "which trial, what was looked at, whether it held"),
    ("packets, bytes", "what was sent to an address before that had answered a challenge"),
    ("ratio, limit_ratio", "that by the bytes that had come from there; the most that may be"),
    ("secrets, detail", "keys that were found on the disk; more about it"),
];

const TABLES: [(&str, &str, &[Column]); 8] = [
    ("trials.csv", "one row per trial", TRIALS),
    ("throughput.csv", "one row per trial, path and interval", THROUGHPUT),
    ("requests.csv", "one row per request of a request workload", REQUESTS),
    ("clients.csv", "one row per trial and client, where a server has several", CLIENTS),
    ("events.csv", "what happened when", EVENTS),
    ("summary.csv", "one row per variant and metric, and one per difference", SUMMARY),
    ("security.csv", "one row per check, where an experiment attacks", SECURITY),
    ("model.csv", "measured response times beside the model, where there is one", MODEL),
];

const OTHERS: [Column; 5] = [
    ("manifest.json", "versions, machine, seeds, settings"),
    ("experiment.yaml, topology.yaml, plan.json", "what the user wrote, and everything resolved"),
    ("figures/*.svg", "the figures of this page"),
    ("figures/*.csv", "the numbers that each of them is drawn from"),
    ("trials/<variant>/<repetition>/", "one folder per attempt: logs, node rows, captures"),
];

pub(super) fn files() -> Markup {
    html! {
        h2 { "Files" }
        p.note {
            "Every raw number's column name ends in its unit. A value that does not exist is an "
            "empty cell, never 0."
        }
        dl {
            @for (file, what, columns) in TABLES {
                dt { code { (file) } " – " (what) }
                @for (names, meaning) in columns { dd { code { (names) } ": " (meaning) } }
            }
            @for (file, what) in OTHERS { dt { code { (file) } " – " (what) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limosa_record::row::{SummaryRow, TrialRow};
    use serde::Serialize;

    fn header(row: impl Serialize) -> Vec<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(row).unwrap();
        let bytes = writer.into_inner().unwrap();
        csv::Reader::from_reader(bytes.as_slice())
            .headers()
            .unwrap()
            .iter()
            .map(Into::into)
            .collect()
    }

    fn explained(columns: &[Column]) -> Vec<String> {
        columns.iter().flat_map(|(names, _)| names.split(", ").map(String::from)).collect()
    }

    #[test]
    fn every_column_of_trials_is_explained() {
        let mut explained = explained(TRIALS);
        let mut written = header(TrialRow::default());
        explained.sort();
        written.sort();
        assert_eq!(explained, written);
    }

    /// The README has the same table, between the marker and its end.
    #[test]
    fn the_readme_explains_the_same_columns() {
        let mut table = String::new();
        for (file, what, columns) in TABLES {
            table += &format!("\n### {file}\n\n{what}\n\n| column | meaning |\n|---|---|\n");
            for (names, meaning) in columns {
                let names: Vec<_> = names.split(", ").map(|name| format!("`{name}`")).collect();
                let meaning = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
                table += &format!("| {} | {meaning} |\n", names.join(", "));
            }
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let readme = std::fs::read_to_string(&path).unwrap();
        let end = readme.find("by a test -->\n").unwrap() + "by a test -->\n".len();
        if std::env::var_os("LIMOSA_UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, readme[..end].to_owned() + &table).unwrap();
        } else {
            assert!(
                readme[end..] == table,
                "analysis/README.md is out of date\n  hint: LIMOSA_UPDATE_SCHEMAS=1 cargo test -p limosa-analysis readme"
            );
        }
    }

    #[test]
    fn every_column_of_summary_is_explained() {
        let (explained, written) = (explained(SUMMARY), header(SummaryRow::default()));
        assert!(written.iter().all(|column| explained.contains(column)), "{written:?}");
    }
}
