//! One shaped link between two hosts, the same way for both kinds of links.

use super::{Bench, Figures};
use crate::spec::Links;
use anyhow::{Context, Result};
use limosa_lab::{
    engine,
    lab::Lab,
    sys::{
        flood::{Flood, Flow, flood},
        machine::Counters,
        ping::{Ping, ping},
    },
};
use std::{net::IpAddr, thread, time::Duration};

/// The link; its queue holds what is more than the rate for the time of a measurement's start.
const TOPOLOGY: &str = "\
version: 1
nodes: {a: {}, b: {}}
links:
  - {ends: [a.eth0, b.eth0], name: link, shape: {rate: 100Mbit/s, delay: 25ms}}
";

const RATE_BPS: u64 = 100_000_000;
const RTT_MS: f64 = 50.0;
const FRAME_BYTES: u32 = 1514;
const DURATION: Duration = Duration::from_secs(2);

/// More than one sender's thread can send.
const ANY_RATE_BPS: u64 = 40_000_000_000;

pub(super) fn measure(bench: &Bench, kind: &str, links: Links) -> Result<Figures> {
    let (lab, [a, b]) = (bench.lab(TOPOLOGY, links)?, addresses(bench, links)?);
    let wish = Ping {
        to: b,
        from: Some(a),
        count: 50,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
    };
    let rtt_ns = ping(lab.place("a")?, &wish)?.median_ns().context("no echo came back")?;
    let limited = flooded(&lab, [a, b], RATE_BPS + RATE_BPS / 50)?;
    let rate = limited.rate_bps.context("nothing passed the limited link")?;
    // The same shape without its rate.
    let network = bench.network(TOPOLOGY, links)?;
    let plan = network.links.first().context("there is a link")?;
    let open = |shape: &Option<limosa_lab::shape::ShapePlan>| {
        let mut shape = shape.clone();
        shape.iter_mut().for_each(|s| (s.rate, s.delay.limit_packets) = (None, 1_000_000));
        shape
    };
    lab.reshape(&plan.name, open(&plan.a_to_b).as_ref(), open(&plan.b_to_a).as_ref())?;
    let before = Counters::read();
    let flow = flooded(&lab, [a, b], ANY_RATE_BPS)?;
    let usage = Counters::read().since(&before);
    let processors = thread::available_parallelism().map_or(1, usize::from) as f64;
    let used_s = usage.busy_share.context("read /proc/stat")? * processors * usage.time_s;
    let packets =
        flow.rate_bps.context("nothing passed the open link")? / (f64::from(FRAME_BYTES) * 8.0);
    let key = |name: &str| {
        let wanted = format!("{kind}_{name}");
        super::FIGURES.iter().map(|(key, _)| *key).find(|key| *key == wanted).unwrap_or_default()
    };
    Ok([
        (key("rtt_error_ms"), rtt_ns as f64 / 1e6 - RTT_MS),
        (key("rate_error_percent"), (rate / RATE_BPS as f64 - 1.0) * 100.0),
        (key("packets_per_s"), packets),
        (key("cpu_per_packet_us"), used_s * 1e6 / flow.received.len().max(1) as f64),
    ]
    .into())
}

/// What the engine measures of itself.
pub(super) fn engine(bench: &Bench) -> Result<Figures> {
    let figures = engine::measure::measure(&bench.program, &bench.work.path().join("engine.log"))?;
    Ok([
        ("engine_packets_per_s", figures.packets_per_second),
        ("engine_full_cpu_per_packet_us", figures.cpu_per_packet_full_ns / 1e3),
        ("engine_cpu_per_packet_us", figures.cpu_per_packet_ns / 1e3),
        ("engine_lone_cpu_per_packet_us", figures.cpu_per_lone_packet_ns / 1e3),
        ("engine_timer_p99_ms", figures.timer_p99_ns as f64 / 1e6),
    ]
    .into())
}

fn flooded(lab: &Lab, [from, to]: [IpAddr; 2], rate_bps: u64) -> Result<Flow> {
    let warmup = Duration::from_millis(500);
    let frame_bytes = FRAME_BYTES;
    let what = Flood { from, to, rate_bps, frame_bytes, duration: DURATION, warmup };
    flood(lab.place("a")?, lab.place("b")?, &what)
}

fn addresses(bench: &Bench, links: Links) -> Result<[IpAddr; 2]> {
    let network = bench.network(TOPOLOGY, links)?;
    let of = |place: &str| network.address(place).context("a host has an address");
    Ok([of("a")?, of("b")?])
}
