//! Queueing disciplines: `tbf` for rate and queue, `netem` for delay, jitter, loss and the rest.
//!
//! Input: [`Tbf`] or [`Netem`] and an interface's number. Output: a [`Request`] that sets it, and
//! what is in force and has passed, read back. Kernel interface: rtnetlink(7), tc-tbf(8),
//! tc-netem(8), linux/pkt_sched.h. The message crates know neither discipline, so the options are
//! laid out here and compared with what tc(8) sends.
//!
//! Setting means NLM_F_REPLACE|NLM_F_CREATE: a queue that exists is changed in place and keeps its
//! packets. Every option is sent every time, because netem keeps what a change does not name.

use super::{netlink::Request, netns::Netns};
use anyhow::{Context, Result, ensure};
use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NLA_TYPE_MASK};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2},
};

#[cfg(test)]
mod tests;

/// A token bucket: rate, and the queue in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tbf {
    /// Rate in bits per second of Ethernet frames (header included, checksum and preamble not).
    pub rate_bps: u64,
    /// Bytes that may pass at once after a pause; at least one frame, or that frame never passes.
    /// Read back it is exact to what the rate sends in 64 ns.
    pub burst_bytes: u32,
    /// Bytes that may wait; what comes beyond is dropped. The longest wait is limit / rate.
    pub limit_bytes: u32,
}

/// Which packets are dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Each independently.
    Random {
        /// Share of packets.
        ratio: f64,
    },
    /// Gilbert-Elliott. A packet is dropped or not by the state it finds; then the state changes.
    GilbertElliott {
        /// Probability per packet of going from good to bad.
        to_bad_ratio: f64,
        /// Probability per packet of going from bad to good.
        to_good_ratio: f64,
        /// Share of packets dropped in the bad state.
        bad_loss_ratio: f64,
        /// Share of packets dropped in the good state.
        good_loss_ratio: f64,
    },
}

/// Delay, jitter and random faults; nothing here limits the rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Netem {
    /// Constant delay in nanoseconds.
    pub delay_ns: u64,
    /// Half the width of a uniform distribution around the delay, in nanoseconds.
    pub jitter_ns: u64,
    /// Whether jitter may change the order of packets. Else a packet leaves no earlier than the
    /// one before it, for which netem is given a rate of 8 Tbit/s.
    pub jitter_reorders: bool,
    /// Which packets are dropped.
    pub loss: Loss,
    /// Share of packets doubled.
    pub duplicate_ratio: f64,
    /// Share of packets with one bit turned over.
    pub corrupt_ratio: f64,
    /// Share of packets that overtake: they are not delayed at all.
    pub reorder_ratio: f64,
    /// With reordering, only each gap-th packet may overtake; 0 means each.
    pub reorder_gap: u32,
    /// Packets that the delay line holds at most. Not a queue: choose it so that it never fills.
    pub limit_packets: u32,
    /// Start of the sequence of random numbers, for the same faults at the same packets. Kernels
    /// before 6.6 ignore it and read back none. Setting a netem anew starts the sequence anew.
    pub seed: Option<u64>,
}

impl Default for Netem {
    /// A delay line that does nothing.
    fn default() -> Self {
        Self {
            delay_ns: 0,
            jitter_ns: 0,
            jitter_reorders: false,
            loss: Loss::Random { ratio: 0.0 },
            duplicate_ratio: 0.0,
            corrupt_ratio: 0.0,
            reorder_ratio: 0.0,
            reorder_gap: 0,
            limit_packets: 1000,
            seed: None,
        }
    }
}

/// A discipline that this module sets and reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Qdisc {
    /// Rate and queue.
    Tbf(Tbf),
    /// Delay and faults.
    Netem(Netem),
}

/// A discipline in force at the root of an interface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Status {
    /// The interface's number.
    pub link: u32,
    /// Its parameters as the kernel holds them.
    pub qdisc: Qdisc,
    /// What has passed since it was made.
    pub counters: Counters,
}

/// Totals since the discipline was made, and the backlog now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes let through.
    pub sent_bytes: u64,
    /// Packets let through (32 bits in the kernel).
    pub sent_packets: u32,
    /// Packets dropped: overflow and, in netem, random loss.
    pub dropped_packets: u32,
    /// How often sending had to wait.
    pub overlimits: u32,
    /// Bytes that wait now.
    pub backlog_bytes: u32,
    /// Packets that wait now.
    pub backlog_packets: u32,
}

const TCA_OPTIONS: u16 = 2;

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;

const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_LOSS: u16 = 5;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const TCA_NETEM_PRNG_SEED: u16 = 14;

/// Inside TCA_NETEM_LOSS: struct tc_netem_gemodel { p, r, h, k1 }.
const NETEM_LOSS_GE: u16 = 2;

/// struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
const NETEM_QOPT: usize = 24;
/// The kernel's clock tick of packet scheduling (PSCHED_SHIFT 6).
const TICK_NS: u64 = 64;
/// 8 Tbit/s: a full frame takes 1 ns.
const ORDERING_RATE: u64 = 1_000_000_000_000;

/// Sets the root discipline of an interface, or changes it in place if it is of the same kind.
pub fn set(link: u32, qdisc: &Qdisc) -> Request<'static> {
    let (kind, options) = match qdisc {
        Qdisc::Tbf(tbf) => ("tbf", tbf_options(tbf)),
        Qdisc::Netem(netem) => ("netem", netem_options(netem)),
    };
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: 1, minor: 0 };
    message.attributes = vec![
        TcAttribute::Kind(kind.into()),
        TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options)),
    ];
    Request::replace(
        format!("set {kind} on interface {link}"),
        Message::NewQueueDiscipline(message),
    )
}

/// Sets a root discipline that has no parameters: `blackhole` drops all that would be sent and
/// leaves addresses, routes and neighbours alone, `noqueue` passes all, `pfifo_fast` is the kernel's
/// own queue. All are in every kernel.
pub fn set_plain(link: u32, kind: &'static str) -> Request<'static> {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind(kind.into())];
    Request::replace(
        format!("set {kind} on interface {link}"),
        Message::NewQueueDiscipline(message),
    )
}

/// The disciplines of these two kinds in a namespace.
pub fn list(netns: &Netns) -> Result<Vec<Status>> {
    let get = Message::GetQueueDiscipline(TcMessage::default());
    let messages = netns.dump("list queueing disciplines", &get)?;
    messages.iter().filter_map(|m| status(m).transpose()).collect()
}

fn status(message: &Message) -> Result<Option<Status>> {
    let Message::NewQueueDiscipline(message) = message else { return Ok(None) };
    let (mut kind, mut options, mut counters) = ("", Vec::new(), Counters::default());
    for attribute in &message.attributes {
        match attribute {
            TcAttribute::Kind(k) => kind = k,
            TcAttribute::Options(list) => {
                if let [TcOption::Other(raw)] = &list[..] {
                    options = vec![0; raw.buffer_len()];
                    raw.emit(&mut options);
                    options.drain(..NLA_HEADER_SIZE);
                }
            }
            TcAttribute::Stats2(list) => counters = Counters::read(list),
            _ => {}
        }
    }
    let link = message.header.index.cast_unsigned();
    let what = || format!("read {kind} of interface {link}");
    let qdisc = match kind {
        "tbf" => Qdisc::Tbf(parse_tbf(&options).with_context(what)?),
        "netem" => Qdisc::Netem(parse_netem(&options).with_context(what)?),
        _ => return Ok(None),
    };
    Ok(Some(Status { link, qdisc, counters }))
}

impl Counters {
    fn read(list: &[TcStats2]) -> Self {
        let mut counters = Self::default();
        for stats in list {
            match stats {
                TcStats2::Basic(b) => {
                    counters.sent_bytes = b.bytes;
                    counters.sent_packets = b.packets;
                }
                TcStats2::Queue(q) => {
                    counters.dropped_packets = q.drops;
                    counters.overlimits = q.overlimits;
                    counters.backlog_bytes = q.backlog;
                    counters.backlog_packets = q.qlen;
                }
                _ => {}
            }
        }
        counters
    }
}

/// struct tc_tbf_qopt { rate, peakrate: tc_ratespec; limit, buffer, mtu: u32 } and what does not
/// fit into it. Naming the link layer in the rate spares tc's 1,024-byte table of frame times.
fn tbf_options(tbf: &Tbf) -> Vec<u8> {
    const LINKLAYER_ETHERNET: u8 = 1;
    let rate = tbf.rate_bps / 8;
    // The first byte describes tc's table, which is not there; it is tc's all the same.
    let mut parms = vec![3, LINKLAYER_ETHERNET, 0, 0, 0xff, 0xff, 0, 0];
    let rate32 = saturated(rate);
    parms.extend(rate32.to_ne_bytes());
    parms.resize(24, 0);
    parms.extend(tbf.limit_bytes.to_ne_bytes());
    parms.extend(saturated(ticks_for(tbf.burst_bytes, rate32)).to_ne_bytes());
    parms.extend(0u32.to_ne_bytes());

    let mut options = Vec::new();
    attribute(&mut options, TCA_TBF_PARMS, &parms);
    attribute(&mut options, TCA_TBF_BURST, &tbf.burst_bytes.to_ne_bytes());
    if rate > u32::MAX.into() {
        attribute(&mut options, TCA_TBF_RATE64, &rate.to_ne_bytes());
    }
    options
}

fn parse_tbf(options: &[u8]) -> Result<Tbf> {
    let parms = find(options, TCA_TBF_PARMS).context("tbf without parameters")?;
    let rate = match find(options, TCA_TBF_RATE64) {
        Some(rate) => word64(rate, 0)?,
        None => word(parms, 8)?.into(),
    };
    // The kernel keeps the bucket as the time in which the rate fills it.
    let burst = u128::from(word(parms, 28)?) * u128::from(TICK_NS) * u128::from(rate);
    Ok(Tbf {
        rate_bps: rate * 8,
        burst_bytes: u32::try_from(burst.div_ceil(1_000_000_000)).unwrap_or(u32::MAX),
        limit_bytes: word(parms, 24)?,
    })
}

/// struct tc_netem_qopt, then attributes; those that tc of iproute2 6.1 does not know come last.
fn netem_options(netem: &Netem) -> Vec<u8> {
    let reorders = netem.reorder_ratio > 0.0;
    let gap = if reorders { netem.reorder_gap.max(1) } else { 0 };
    let rate = if netem.jitter_ns > 0 && !netem.jitter_reorders { ORDERING_RATE } else { 0 };
    let random_loss = match netem.loss {
        Loss::Random { ratio } => ratio,
        Loss::GilbertElliott { .. } => 0.0,
    };
    let mut options = Vec::new();
    for field in [
        saturated(netem.delay_ns / TICK_NS),
        netem.limit_packets,
        probability(random_loss),
        gap,
        probability(netem.duplicate_ratio),
        saturated(netem.jitter_ns / TICK_NS),
    ] {
        options.extend(field.to_ne_bytes());
    }
    // Each with its correlation, which is always 0.
    let reorder = [probability(netem.reorder_ratio), 0].map(u32::to_ne_bytes);
    let corrupt = [probability(netem.corrupt_ratio), 0].map(u32::to_ne_bytes);
    attribute(&mut options, TCA_NETEM_REORDER, reorder.as_flattened());
    attribute(&mut options, TCA_NETEM_CORRUPT, corrupt.as_flattened());
    if let Loss::GilbertElliott { to_bad_ratio, to_good_ratio, bad_loss_ratio, good_loss_ratio } =
        netem.loss
    {
        // The kernel wants the share that passes in the bad state; counted from the largest number,
        // as tc does.
        let passes = u32::MAX - probability(bad_loss_ratio);
        let [p, r, k1] = [to_bad_ratio, to_good_ratio, good_loss_ratio].map(probability);
        let model = [p, r, passes, k1].map(u32::to_ne_bytes);
        let mut nested = Vec::new();
        attribute(&mut nested, NETEM_LOSS_GE, model.as_flattened());
        attribute(&mut options, TCA_NETEM_LOSS | NLA_F_NESTED, &nested);
    }
    if rate > u32::MAX.into() {
        attribute(&mut options, TCA_NETEM_RATE64, &rate.to_ne_bytes());
    }
    // struct tc_netem_rate: rate, packet overhead, cell size, cell overhead.
    let rate = [saturated(rate), 0, 0, 0].map(u32::to_ne_bytes);
    attribute(&mut options, TCA_NETEM_RATE, rate.as_flattened());
    attribute(&mut options, TCA_NETEM_LATENCY64, &netem.delay_ns.to_ne_bytes());
    attribute(&mut options, TCA_NETEM_JITTER64, &netem.jitter_ns.to_ne_bytes());
    if let Some(seed) = netem.seed {
        attribute(&mut options, TCA_NETEM_PRNG_SEED, &seed.to_ne_bytes());
    }
    options
}

fn parse_netem(options: &[u8]) -> Result<Netem> {
    ensure!(options.len() >= NETEM_QOPT, "netem options of {} bytes", options.len());
    let (qopt, attributes) = options.split_at(NETEM_QOPT);
    let ratio = |kind| find(attributes, kind).map_or(Ok(0.0), |v| word(v, 0).map(ratio));
    let nanoseconds = |kind, ticks_at| match find(attributes, kind) {
        Some(value) => word64(value, 0),
        None => word(qopt, ticks_at).map(|t| u64::from(t) * TICK_NS),
    };
    let bursts = find(attributes, TCA_NETEM_LOSS).and_then(|nested| find(nested, NETEM_LOSS_GE));
    let loss = match bursts {
        Some(model) => Loss::GilbertElliott {
            to_bad_ratio: self::ratio(word(model, 0)?),
            to_good_ratio: self::ratio(word(model, 4)?),
            bad_loss_ratio: self::ratio(u32::MAX - word(model, 8)?),
            good_loss_ratio: self::ratio(word(model, 12)?),
        },
        None => Loss::Random { ratio: self::ratio(word(qopt, 8)?) },
    };
    let rate = find(attributes, TCA_NETEM_RATE).map_or(Ok(0), |v| word(v, 0))?;
    let jitter_ns = nanoseconds(TCA_NETEM_JITTER64, 20)?;
    Ok(Netem {
        delay_ns: nanoseconds(TCA_NETEM_LATENCY64, 0)?,
        jitter_ns,
        jitter_reorders: jitter_ns > 0 && rate == 0,
        loss,
        duplicate_ratio: self::ratio(word(qopt, 16)?),
        corrupt_ratio: ratio(TCA_NETEM_CORRUPT)?,
        reorder_ratio: ratio(TCA_NETEM_REORDER)?,
        reorder_gap: word(qopt, 12)?,
        limit_packets: word(qopt, 4)?,
        seed: find(attributes, TCA_NETEM_PRNG_SEED).map(|v| word64(v, 0)).transpose()?,
    })
}

/// A share as netem compares it with a 32-bit random number.
fn probability(ratio: f64) -> u32 {
    (ratio.clamp(0.0, 1.0) * f64::from(u32::MAX)).round_ties_even() as u32
}

fn ratio(probability: u32) -> f64 {
    f64::from(probability) / f64::from(u32::MAX)
}

/// Ticks in which a rate in bytes per second sends some bytes, by way of whole microseconds and a
/// rate of 32 bits, as tc does. The kernel prefers TCA_TBF_BURST, which is exact.
fn ticks_for(bytes: u32, rate: u32) -> u64 {
    let us = u64::from(bytes) * 1_000_000 / u64::from(rate.max(1));
    us * 1_000 / TICK_NS
}

fn saturated(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn attribute(options: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let nla = DefaultNla::new(kind, value.to_vec());
    let start = options.len();
    options.resize(start + nla.buffer_len(), 0);
    nla.emit(&mut options[start..]);
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [l0, l1, k0, k1, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(NLA_HEADER_SIZE..length)?;
        if u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..at + 4).context("value of less than 4 bytes")?;
    Ok(u32::from_ne_bytes(bytes.try_into()?))
}

fn word64(bytes: &[u8], at: usize) -> Result<u64> {
    let bytes = bytes.get(at..at + 8).context("value of less than 8 bytes")?;
    Ok(u64::from_ne_bytes(bytes.try_into()?))
}
