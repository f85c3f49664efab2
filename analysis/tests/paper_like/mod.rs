//! A made-up run directory with the shape of the paper's results (figures 5 to 14 of Nakano et al.
//! 2025): for tests and for looking at figures. The numbers are invented, not measured.

pub(crate) mod responses;

use limosa_record::{
    dir::RunDir,
    row::{CalibrationRow, EventRow, RowFile, ThroughputRow, TrialRow, event},
};
use serde_json::json;
use std::{fs, io};

/// Start of every handshake; any moment does.
const ZERO_NS: i64 = 1_760_000_000_000_000_000;
const BODY: f64 = 100e6;

struct Shape {
    variant: &'static str,
    scheme: &'static str,
    migrates: bool,
    announces: bool,
}

#[rustfmt::skip]
const SHAPES: [Shape; 4] = [
    Shape { variant: "quic-none", scheme: "quic", migrates: false, announces: false },
    Shape { variant: "multipath-none", scheme: "multipath", migrates: false, announces: false },
    Shape { variant: "quic-migrate", scheme: "quic", migrates: true, announces: false },
    Shape { variant: "multipath-migrate", scheme: "multipath", migrates: true, announces: true },
];

/// Numbers in 0..1 that are the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn around(&mut self, mean: f64, spread: f64) -> f64 {
        mean + spread * (self.next() + self.next() + self.next() - 1.5)
    }
}

/// Mbit/s on eth0 and eth1.
fn rates(shape: &Shape, t: f64, back: f64) -> (f64, f64) {
    let ramp = |since: f64| ((t - since) / 3.0).clamp(0.0, 1.0);
    match (shape.scheme, shape.migrates) {
        ("quic", false) => (14.0 * ramp(0.0), 0.0),
        ("quic", true) if t < 10.0 => (14.0 * ramp(0.0), 0.0),
        ("quic", true) if t < back => (0.0, 0.0),
        ("quic", true) => (14.0 * ramp(back), 0.0),
        (_, false) => (12.2 * ramp(0.0), 6.2 * ramp(0.2)),
        (_, true) if t < 5.0 => (12.2 * ramp(0.0), 6.2 * ramp(0.2)),
        (_, true) if t < 10.0 => (12.2, 0.0),
        (_, true) if t < back => (0.0, 0.0),
        (_, true) => (12.2 * ramp(back + 0.4), 6.2 * ramp(back + 4.0)),
    }
}

/// Writes the run directory.
pub(crate) fn write(run: &RunDir, repetitions: u32) -> io::Result<()> {
    fs::create_dir_all(run.root())?;
    let mut files = Files {
        trials: RowFile::append(&run.trials())?,
        throughput: RowFile::append(&run.throughput())?,
        events: RowFile::append(&run.events())?,
    };
    for (i, shape) in SHAPES.iter().enumerate() {
        for repetition in 1..=repetitions {
            trial(
                run,
                &mut files,
                shape,
                repetition,
                &mut Noise((i as u64 + 1) << 32 | u64::from(repetition)),
            )?;
        }
    }
    let variant = |s: &Shape| (s.variant.to_owned(), json!({ "scheme": s.scheme }));
    let places = |name: &str, interfaces: &[(&str, &str)]| {
        let interface =
            |(name, address): &(&str, &str)| json!({"name": name, "addresses": [address]});
        (
            name.to_owned(),
            json!({"interfaces": interfaces.iter().map(interface).collect::<Vec<_>>()}),
        )
    };
    let places: serde_json::Map<_, _> = [
        places("client", &[("eth0", "10.0.0.1/24"), ("eth1", "10.2.0.1/24")]),
        places("server-a", &[("eth0", "10.3.0.1/24")]),
        places("server-b", &[("eth0", "10.1.0.3/24")]),
    ]
    .into_iter()
    .collect();
    let plan = json!({
        "experiment": {"name": "paper-like", "description": "Made-up numbers with the shape of a published experiment: a server moves to another host 10 s into a download of 100 MB."},
        "topology": {"name": "nakano-2025"},
        "network": {"places": places},
        "variants": SHAPES.iter().map(variant).collect::<serde_json::Map<_, _>>(),
    });
    let manifest = json!({
        "limosa": "0.1.0", "seed": 7, "command": "limosa run experiments/paper-like.yaml",
        "machine": {"kernel": "6.12.0", "cpu": "2 × x86_64", "memory": "8 GB", "runs in": "QEMU guest"},
    });
    fs::write(run.plan(), plan.to_string())?;
    fs::write(run.reference(), include_str!("../../../experiments/nakano-2025.reference.yaml"))?;
    fs::write(run.manifest(), manifest.to_string())
}

/// What a client with two interfaces tells while its server moves.
fn paths(
    event: &mut impl FnMut(&str, &str, &str, f64, f64, Option<f64>) -> io::Result<()>,
    back: f64,
    end: f64,
) -> io::Result<()> {
    let mut client = |name: &str, detail: &str, at: f64, done: f64| {
        event("client", name, detail, at, done, None)
    };
    client(event::PATH_ESTABLISHED, "path 1 from 10.2.0.1 to 10.3.0.1:4433", 0.2, 0.2)?;
    client(event::ANNOUNCEMENT, "10.1.0.3:4433", 5.03, 5.03)?;
    client(event::PATH_CLOSED, "path 0 from 10.0.0.1 to 10.3.0.1:4433", 5.04, 5.04)?;
    client(event::GAP, "", 10.02, back + 0.1)?;
    client(event::SILENT, "10.2.0.1", 10.4, 10.4)?;
    for (i, at) in [5.5, 6.5, 8.5, 12.5].into_iter().enumerate() {
        client(event::PROBE, &format!("path {} from 10.0.0.1 to 10.1.0.3:4433", 2 + i), at, at)?;
    }
    for (i, at) in [10.9, 11.9, 13.9, 17.9].into_iter().enumerate() {
        client(event::PROBE, &format!("path {} from 10.2.0.1 to 10.1.0.3:4433", 6 + i), at, at)?;
    }
    client(event::PATH_ESTABLISHED, "path 5 from 10.0.0.1 to 10.1.0.3:4433", back, back)?;
    client(event::PATH_CLOSED, "path 1 from 10.2.0.1 to 10.3.0.1:4433", back + 0.1, back + 0.1)?;
    client(
        event::PATH_ESTABLISHED,
        "path 9 from 10.2.0.1 to 10.1.0.3:4433",
        back + 4.0,
        back + 4.0,
    )?;
    client(event::DOWNLOAD_DONE, "100000000 bytes", end, end)
}

struct Files {
    trials: RowFile,
    throughput: RowFile,
    events: RowFile,
}

fn trial(
    run: &RunDir,
    files: &mut Files,
    shape: &Shape,
    repetition: u32,
    noise: &mut Noise,
) -> io::Result<()> {
    let variant = shape.variant.to_owned();
    let back =
        if shape.scheme == "quic" { noise.around(40.6, 0.8) } else { noise.around(20.6, 1.2) };
    let (speed, mut body, mut t) = (noise.around(0.94, 0.06), 0.0, 0.0);
    let failed = shape.variant == "quic-migrate" && repetition == 13;
    while body < BODY && !(failed && t > 60.0) {
        let (eth0, eth1) = rates(shape, t, back);
        for (path, mbps) in [("eth0", eth0), ("eth1", eth1)] {
            let bytes = (mbps * speed * 0.1e6 / 8.0 * noise.around(1.0, 0.35)).max(0.0);
            if bytes > 0.0 {
                let (variant, path) = (variant.clone(), path.to_owned());
                let bytes = bytes as u64;
                files.throughput.write(&ThroughputRow {
                    variant,
                    repetition,
                    path,
                    t_s: t,
                    interval_s: 0.1,
                    bytes,
                })?;
                let thrown_away = shape.scheme == "quic" && shape.migrates && t < back;
                body += if thrown_away { 0.0 } else { bytes as f64 };
            }
        }
        t += 0.1;
    }
    let mut event =
        |source: &str, event: &str, detail: &str, start: f64, done: f64, planned: Option<f64>| {
            let ns = |s: f64| ZERO_NS + (s * 1e9) as i64;
            files.events.write(&EventRow {
                variant: variant.clone(),
                repetition,
                source: source.into(),
                event: event.into(),
                detail: detail.into(),
                planned_ns: planned.map(ns),
                started_ns: ns(start),
                done_ns: Some(ns(done)),
            })
        };
    event("client", event::HANDSHAKE_STARTED, "", 0.0, 0.0, None)?;
    event("client", event::CONNECTED, "10.3.0.1:4433", 0.1, 0.1, None)?;
    if shape.announces {
        event("harness", "announce", "", 5.001, 5.002, Some(5.0))?;
    }
    if shape.migrates {
        event("harness", "checkpoint", "", 10.001, 10.2, Some(10.0))?;
        event("harness", "restore", "", 20.2, 20.4, Some(20.2))?;
    }
    if shape.announces {
        paths(&mut event, back, t)?;
    }
    let folder = run.new_attempt(&variant, repetition)?;
    let mut calibration = RowFile::append(&folder.join("calibration.csv"))?;
    for interface in ["eth0", "eth1"] {
        let rtt = noise.around(50.2, 0.12);
        calibration.write(&CalibrationRow {
            interface: interface.into(),
            wanted_rtt_ms: Some(50.0),
            min_rtt_ms: Some(rtt - 0.05),
            median_rtt_ms: Some(rtt),
            max_rtt_ms: Some(rtt + 0.4),
            sent_packets: 10,
            lost_packets: 0,
            least_rtt_ms: None,
            most_rtt_ms: None,
        })?;
    }
    let moved = |s: f64| shape.migrates.then_some(s);
    let turnaround_s = (!failed).then_some(t);
    let suspect = shape.variant == "quic-none" && repetition == 5;
    files.trials.write(&TrialRow {
        experiment: "paper-like".into(),
        variant,
        repetition,
        seed: u64::from(repetition),
        status: if failed { "failed" } else { "ok" }.into(),
        reason: failed.then(|| "client: exited with 1, expected 0".into()),
        verdict: Some(if suspect { "suspect" } else { "valid" }.into()),
        verdict_reason: suspect.then(|| "scheduling lag of 48 ms".into()),
        scheme: shape.scheme.into(),
        technique: shape.migrates.then(|| "criu".into()),
        turnaround_s,
        bytes: (!failed).then_some(BODY as u64),
        goodput_bps: turnaround_s.map(|s| BODY * 8.0 / s),
        downtime_s: moved(10.4),
        stall_s: Some(if shape.migrates { back - 10.0 } else { 0.06 }),
        resume_delay_s: moved((back - 20.4).max(0.05)),
        checkpoint_s: moved(0.2),
        transfer_s: moved(10.0),
        restore_s: moved(0.2),
        image_bytes: shape.migrates.then_some(14_680_064),
        reconnects: Some(u64::from(shape.migrates && shape.scheme == "quic")),
        started_utc: format!("2026-01-01T{:02}:{:02}:00Z", repetition / 60, repetition % 60),
        body_matches: (!failed).then_some(true),
        rtt_first_ms: Some(50.1),
        rtt_second_ms: Some(50.2),
        step_lateness_ms: Some(1.5),
        folder: format!("trials/{}/{repetition}", shape.variant),
        links: "kernel".into(),
        ..TrialRow::default()
    })
}
