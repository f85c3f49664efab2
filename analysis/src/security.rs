//! What attacks on the nodes achieved: the rows of `security.csv`.
//!
//! Input: captures and key logs of each trial whose timeline attacked, or searched for secrets, and
//! the trial's own rows. Output: a row per check, and per address where there are several. "Validated"
//! is an address from which a PATH_RESPONSE came.

use crate::{input::Input, wire};
use anyhow::{Context, Result};
use limosa_record::row::{EventRow, SecurityRow, TrialRow};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// RFC 9000, section 8: what may be sent to an address that is not validated.
const LIMIT_RATIO: f64 = 3.0;

/// The rows of all trials that were attacked; what cannot be read is a warning.
pub(crate) fn rows(input: &mut Input) -> Vec<SecurityRow> {
    let (mut rows, mut warnings) = (Vec::new(), Vec::new());
    for trial in &input.trials {
        let key = (trial.row.variant.clone(), trial.row.repetition);
        let Some(events) = input.events.get(&key) else { continue };
        let ours =
            |e: &&EventRow| e.source == "harness" && matches!(&*e.event, "attack" | "search");
        if !events.iter().any(|e| ours(&e)) {
            continue;
        }
        let survived = trial.is_ok()
            && trial.row.reconnects == Some(0)
            && trial.row.requests_failed.is_none_or(|failed| failed == 0);
        let detail = trial.row.reason.clone().unwrap_or_default();
        let mut of_trial = vec![row("connection_survives", survived, detail)];
        of_trial.extend(
            events.iter().filter(|e| e.source == "harness" && e.event == "search").map(secrets),
        );
        let variant = input.plan.pointer("/variants").and_then(|all| all.get(&key.0));
        match seen(&input.root.join(&trial.row.folder), variant.unwrap_or(&Value::Null)) {
            Ok(seen) => of_trial.extend(seen.rows()),
            Err(error) => warnings.push(format!("security.csv: {error:#}")),
        }
        rows.extend(of_trial.into_iter().map(|row| named(row, &trial.row)));
    }
    input.warnings.extend(warnings);
    rows
}

fn named(row: SecurityRow, trial: &TrialRow) -> SecurityRow {
    SecurityRow { variant: trial.variant.clone(), repetition: trial.repetition, ..row }
}

fn row(check: &str, passed: bool, detail: String) -> SecurityRow {
    SecurityRow { check: check.into(), passed, detail, ..SecurityRow::default() }
}

/// What a search of the disk found: its detail begins with the number.
fn secrets(event: &EventRow) -> SecurityRow {
    let found = event.detail.split_whitespace().next().and_then(|word| word.parse().ok());
    let detail = event.detail.clone();
    SecurityRow { secrets: found, ..row("secrets_on_disk", found == Some(0), detail) }
}

/// What crossed the wire in one trial.
struct Seen {
    client: BTreeSet<IpAddr>,
    /// Where the client connected.
    first: SocketAddr,
    /// Seen where the client is.
    at_client: Vec<wire::Datagram>,
    /// The same, opened.
    opened: Vec<wire::Packet>,
    /// Seen anywhere, each once.
    anywhere: Vec<wire::Datagram>,
}

fn seen(folder: &Path, variant: &Value) -> Result<Seen> {
    let connect = variant.pointer("/connect").and_then(Value::as_str);
    let first = connect.and_then(|text| text.parse().ok()).context("the plan has no address")?;
    let local = variant.pointer("/local").and_then(Value::as_array);
    let local = local.into_iter().flatten().filter_map(Value::as_str);
    let client: BTreeSet<IpAddr> = local.filter_map(|text| text.parse().ok()).collect();
    let keys = wire::read_keys(&folder.join("client/keys.log"))?;
    let (mut at_client, mut anywhere) = (Vec::new(), Vec::new());
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_none_or(|extension| extension != "pcap") {
            continue;
        }
        let mut datagrams = wire::read_pcap(&path)?;
        // What the harness asks of its nodes.
        datagrams.retain(|d| !d.from.ip().is_loopback());
        if datagrams.iter().any(|d| client.contains(&d.from.ip()))
            && path.file_stem().is_some_and(|stem| stem == "client")
        {
            at_client.clone_from(&datagrams);
        }
        anywhere.extend(datagrams);
    }
    anywhere.sort_by_key(|d| d.time_ns);
    let mut known = HashSet::new();
    anywhere.retain(|d| known.insert((d.from, d.to, d.payload.clone())));
    let opened = wire::open(&at_client, &keys).packets;
    Ok(Seen { client, first, at_client, opened, anywhere })
}

impl Seen {
    fn rows(&self) -> Vec<SecurityRow> {
        let mut rows = self.before_validation();
        rows.extend(self.by_servers());
        rows.push(self.linkable());
        rows
    }

    /// When the client had an answer from there.
    fn validated_ns(&self, remote: SocketAddr) -> Option<i64> {
        let answer = |p: &&wire::Packet| p.from == remote && wire::kinds(&p.payload).response;
        self.opened.iter().find(answer).map(|p| p.time_ns)
    }

    /// What the client sent to each address before it had answered, and to strangers, who had sent
    /// something first, also how much for how much.
    fn before_validation(&self) -> Vec<SecurityRow> {
        let mut rows = Vec::new();
        let to = self.at_client.iter().filter(|d| self.client.contains(&d.from.ip()));
        let remotes: BTreeSet<SocketAddr> =
            to.map(|d| d.to).filter(|to| *to != self.first).collect();
        for remote in remotes {
            let until = self.validated_ns(remote);
            let before = |time_ns| until.is_none_or(|until| time_ns < until);
            let early = |d: &&wire::Datagram| before(d.time_ns);
            let sent: Vec<_> =
                self.at_client.iter().filter(early).filter(|d| d.to == remote).collect();
            let got: Vec<_> =
                self.at_client.iter().filter(early).filter(|d| d.from == remote).collect();
            let bytes = |all: &[&wire::Datagram]| all.iter().map(|d| d.payload.len() as u64).sum();
            let (sent_bytes, got_bytes): (u64, u64) = (bytes(&sent), bytes(&got));
            let data = self.opened.iter().filter(|p| p.to == remote && before(p.time_ns));
            let data = data.filter(|p| wire::kinds(&p.payload).data).count();
            let end = if until.is_some() { "until it answered" } else { "which never answered" };
            let detail = format!("client to {remote}, {end}; {data} packets with data");
            let counted = SecurityRow {
                packets: Some(sent.len() as u64),
                bytes: Some(sent_bytes),
                ..SecurityRow::default()
            };
            rows.push(SecurityRow {
                check: "data_before_validation".into(),
                passed: data == 0,
                detail: detail.clone(),
                ..counted.clone()
            });
            let spoke_first = got
                .first()
                .is_some_and(|got| sent.first().is_none_or(|sent| got.time_ns < sent.time_ns));
            if spoke_first {
                rows.push(amplified(detail, counted, got_bytes));
            }
        }
        rows
    }

    /// What servers sent to addresses that are not the client's and had sent them something.
    fn by_servers(&self) -> Vec<SecurityRow> {
        let port = self.first.port();
        let is_server =
            |address: &SocketAddr| address.port() == port && !self.client.contains(&address.ip());
        let mut pairs: BTreeMap<(SocketAddr, SocketAddr), [u64; 3]> = BTreeMap::new();
        for d in self.anywhere.iter().filter(|d| is_server(&d.from) && is_server(&d.to)) {
            let bytes = d.payload.len() as u64;
            // Whoever sent first is the stranger.
            if let Some(answered) = pairs.get_mut(&(d.to, d.from)) {
                answered[1] += 1;
                answered[2] += bytes;
            } else {
                pairs.entry((d.from, d.to)).or_default()[0] += bytes;
            }
        }
        let rows = pairs.into_iter().map(|((stranger, server), [got, packets, bytes])| {
            let detail = format!("server at {server} to {stranger}");
            let counted = SecurityRow {
                packets: Some(packets),
                bytes: Some(bytes),
                ..SecurityRow::default()
            };
            amplified(detail, counted, got)
        });
        rows.collect()
    }

    /// Connection ids by which somebody on the way could tell that two paths are one connection.
    /// What is exactly like an earlier datagram was sent by an attacker.
    fn linkable(&self) -> SecurityRow {
        let mut payloads = HashSet::new();
        let mut paths: BTreeMap<&[u8], BTreeSet<(SocketAddr, SocketAddr)>> = BTreeMap::new();
        for d in self.anywhere.iter().filter(|d| payloads.insert(&d.payload)) {
            if let Some(id) = wire::connection_id(&d.payload) {
                paths.entry(id).or_default().insert((d.from, d.to));
            }
        }
        let all = paths.len();
        let twice: Vec<_> = paths.into_iter().filter(|(_, paths)| paths.len() > 1).collect();
        let mut detail = format!("{} of {all} connection ids", twice.len());
        if let Some((id, paths)) = twice.first() {
            let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            let paths: Vec<_> = paths.iter().map(|(from, to)| format!("{from} to {to}")).collect();
            detail = format!("{detail}; {id}: {}", paths.join(", "));
        }
        row("connection_id_on_two_paths", twice.is_empty(), detail)
    }
}

fn amplified(detail: String, counted: SecurityRow, got_bytes: u64) -> SecurityRow {
    let ratio = counted.bytes.unwrap_or(0) as f64 / got_bytes.max(1) as f64;
    SecurityRow {
        check: "amplification".into(),
        passed: ratio <= LIMIT_RATIO,
        ratio: Some(ratio),
        limit_ratio: Some(LIMIT_RATIO),
        detail: format!("{detail}, for {got_bytes} bytes from there"),
        ..counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(time_ns: i64, from: &str, to: &str, payload: &[u8]) -> wire::Datagram {
        let [from, to] = [from, to].map(|address| address.parse().unwrap());
        wire::Datagram { time_ns, from, to, payload: payload.into() }
    }

    fn seen(anywhere: Vec<wire::Datagram>) -> Seen {
        let client = "10.0.0.1".parse().unwrap();
        let client_side = |d: &&wire::Datagram| d.from.ip() == client || d.to.ip() == client;
        Seen {
            client: [client].into(),
            first: "10.1.0.1:4433".parse().unwrap(),
            at_client: anywhere.iter().filter(client_side).cloned().collect(),
            opened: vec![],
            anywhere,
        }
    }

    #[test]
    fn strangers_are_counted_by_whoever_spoke_first() {
        let seen = seen(vec![
            datagram(1, "10.4.0.1:4433", "10.1.0.1:4433", &[0x40; 50]),
            datagram(2, "10.1.0.1:4433", "10.4.0.1:4433", &[0x41; 150]),
            datagram(3, "10.4.0.1:4433", "10.0.0.1:5000", &[0x42; 40]),
            datagram(4, "10.0.0.1:5000", "10.4.0.1:4433", &[0x43; 1200]),
            datagram(5, "10.0.0.1:5000", "10.3.0.1:4433", &[0x44; 1200]),
        ]);
        let servers = seen.by_servers();
        assert_eq!((servers.len(), servers[0].ratio, servers[0].passed), (1, Some(3.0), true));
        let client = seen.before_validation();
        let checks: Vec<_> = client.iter().map(|r| (&*r.check, r.packets, r.bytes)).collect();
        let expected = [
            ("data_before_validation", Some(1), Some(1200)),
            ("data_before_validation", Some(1), Some(1200)),
            ("amplification", Some(1), Some(1200)),
        ];
        assert_eq!(checks, expected);
        assert_eq!((client[2].ratio, client[2].passed), (Some(30.0), false));
    }

    #[test]
    fn an_id_on_two_paths_is_found_and_a_replay_is_not_one() {
        let packet = |n: u8| [&[0x40][..], &[7; 8], &[n; 20]].concat();
        let one = datagram(1, "10.0.0.1:5000", "10.1.0.1:4433", &packet(1));
        let replay = datagram(2, "10.4.0.1:4433", "10.1.0.1:4433", &packet(1));
        assert!(seen(vec![one.clone(), replay]).linkable().passed);
        let other = datagram(2, "10.0.0.1:5000", "10.2.0.1:4433", &packet(2));
        let row = seen(vec![one, other]).linkable();
        assert!(!row.passed && row.detail.starts_with("1 of 1"), "{row:?}");
    }
}
