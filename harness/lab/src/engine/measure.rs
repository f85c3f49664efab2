//! How true and how cheap the engine is on this machine.
//!
//! Input: the program. Output: [`EngineFigures`]. Two namespaces with one link between them; needs
//! root, takes about ten seconds and means something only while nothing else runs.

use super::{Direction, Engine, EngineLink, Status};
use crate::{
    shape::{DelayStage, LossPlan, RateStage, ShapePlan},
    sys::{
        flood::{Flood, flood},
        link::{self, End},
        netns::{Netns, Role},
        ping::{Ping, ping},
        tap,
    },
};
use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use serde::Serialize;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
    ptr, thread,
    time::{Duration, Instant},
};

/// Delay of the link, each way.
const DELAY: Duration = Duration::from_millis(25);
/// Rate of the limited link, in bits per second.
const RATE_BPS: u64 = 100_000_000;
/// A full Ethernet frame without its checksum, and what UDP over IPv4 puts into it.
const FRAME_BYTES: u32 = 1514;
const PAYLOAD_BYTES: usize = 1472;
/// Datagrams in a train: what the kernel takes in one call of 64 KiB, and what QUIC sends at once.
const LONG_TRAIN: usize = 44;
const QUIC_TRAIN: usize = 10;
/// The bucket of the Nakano paper's link.
const DEEP_BYTES: u32 = 400 << 10;
const DURATION: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EngineFigures {
    /// Median round trip of an idle link minus twice its delay, in nanoseconds.
    pub rtt_error_ns: i64,
    /// Rate of a flooded link of 100 Mbit/s divided by that, minus 1.
    pub rate_error_ratio: f64,
    /// How late packets left at 100 Mbit/s: median, in nanoseconds.
    pub timer_median_ns: u64,
    /// The same, 99th percentile.
    pub timer_p99_ns: u64,
    /// Processor time of the engine per packet of 1500 bytes at 98 Mbit/s in trains of ten, as QUIC
    /// sends, over a link of 100 Mbit/s whose bucket of 400 KiB lets trains pass whole; in
    /// nanoseconds.
    pub cpu_per_packet_ns: f64,
    /// The same at 102 Mbit/s over a link whose bucket holds two packets: trains come, but each
    /// packet leaves 121 µs after the one before it, and the wake-ups cost more than the packets.
    pub cpu_per_spaced_packet_ns: f64,
    /// The same with datagrams sent one by one: each of them also comes alone.
    pub cpu_per_lone_packet_ns: f64,
    /// Packets of 1500 bytes that arrived per second over a link without a limit, sent in trains.
    pub packets_per_second: f64,
    /// The same as a rate of Ethernet frames.
    pub bits_per_second: f64,
    /// Processor time of the engine per packet then, in nanoseconds.
    pub cpu_per_packet_full_ns: f64,
    /// Whether the engine had real-time priority.
    pub realtime: bool,
}

/// Measures with `program engine`, which logs to `log`.
///
/// # Errors
/// When the link cannot be built or nothing passes.
pub fn measure(program: &Path, log: &Path) -> Result<EngineFigures> {
    let (hosts, engine) = build(program, log)?;
    let wish = Ping {
        to: address(1),
        from: None,
        count: 50,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
    };
    let rtt = ping(&hosts[0], &wish)?.median_ns().context("no echo came back")?;
    let rtt_error_ns = rtt.cast_signed() - i64::try_from(2 * DELAY.as_nanos())?;

    let limit = direction(Some((RATE_BPS, 2 * FRAME_BYTES)));
    engine.shape("link", Some(&limit), Some(&limit))?;
    let (used, flow) = cost(&engine, || {
        let what = Flood {
            from: address(0),
            to: address(1),
            rate_bps: RATE_BPS + RATE_BPS / 50,
            frame_bytes: FRAME_BYTES,
            duration: DURATION,
            warmup: Duration::from_millis(500),
        };
        flood(&hosts[0], &hosts[1], &what)
    })?;
    let rate = flow.rate_bps.context("nothing passed the limited link")?;

    let (used_spaced, _) =
        cost(&engine, || trains(&hosts, QUIC_TRAIN, Some(RATE_BPS + RATE_BPS / 50)))?;

    let deep = direction(Some((RATE_BPS, DEEP_BYTES)));
    engine.shape("link", Some(&deep), Some(&deep))?;
    let (used_trains, _) =
        cost(&engine, || trains(&hosts, QUIC_TRAIN, Some(RATE_BPS - RATE_BPS / 50)))?;

    let open = direction(None);
    engine.shape("link", Some(&open), Some(&open))?;
    let (used_full, packets_per_second) = cost(&engine, || trains(&hosts, LONG_TRAIN, None))?;
    Ok(EngineFigures {
        rtt_error_ns,
        rate_error_ratio: rate / RATE_BPS as f64 - 1.0,
        timer_median_ns: used.status.timer.median_ns,
        timer_p99_ns: used.status.timer.p99_ns,
        cpu_per_packet_ns: used_trains.per_packet_ns,
        cpu_per_spaced_packet_ns: used_spaced.per_packet_ns,
        cpu_per_lone_packet_ns: used.per_packet_ns,
        packets_per_second,
        bits_per_second: packets_per_second * f64::from(FRAME_BYTES) * 8.0,
        cpu_per_packet_full_ns: used_full.per_packet_ns,
        realtime: used.status.realtime,
    })
}

struct Used {
    status: Status,
    per_packet_ns: f64,
}

/// Does something and divides the engine's processor time by the packets that left it meanwhile.
fn cost<T>(engine: &Engine, work: impl FnOnce() -> Result<T>) -> Result<(Used, T)> {
    engine.reset()?;
    let before = engine.status()?.cpu_ns;
    let result = work()?;
    let status = engine.status()?;
    let packets: u64 = engine.counters()?.iter().flat_map(|(_, c)| c).map(|c| c.out_packets).sum();
    let per_packet_ns = (status.cpu_ns - before) as f64 / packets.max(1) as f64;
    Ok((Used { status, per_packet_ns }, result))
}

/// Trains at this rate, or as many as the sender can send, and the datagrams that arrive of them
/// per second.
fn trains(hosts: &[Netns; 2], length: usize, rate_bps: Option<u64>) -> Result<f64> {
    let receiver = hosts[1].run(|| {
        let socket = UdpSocket::bind((address(1), 0))?;
        set_socket_recv_buffer_size_force(&socket, 32 << 20).context("set SO_RCVBUFFORCE")?;
        set_udp(&socket, libc::UDP_GRO, 1).context("set UDP_GRO")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(socket)
    })?;
    let to: SocketAddr = receiver.local_addr()?;
    let sender = hosts[0].run(|| Ok(UdpSocket::bind((address(0), 0))?))?;
    set_udp(&sender, libc::UDP_SEGMENT, i32::try_from(PAYLOAD_BYTES)?)
        .context("set UDP_SEGMENT")?;
    sender.connect(to)?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let train = vec![7; length * PAYLOAD_BYTES];
            let bits = (length * FRAME_BYTES as usize * 8) as f64;
            let pause = rate_bps.map_or(0.0, |rate| bits / rate as f64);
            let start = Instant::now();
            for n in 0_u32.. {
                let due = Duration::from_secs_f64(pause * f64::from(n));
                if start.elapsed().max(due) > DURATION {
                    break;
                }
                thread::sleep(due.saturating_sub(start.elapsed()));
                // A full buffer is the pace that the link gives.
                let _ = sender.send(&train);
            }
        });
        let mut buffer = vec![0; 1 << 16];
        let (mut bytes, mut first, mut last) = (0, None, Instant::now());
        loop {
            match receiver.recv(&mut buffer) {
                Ok(length) => {
                    last = Instant::now();
                    // The first one's bytes passed before the clock started.
                    bytes += if first.is_some() { length } else { 0 };
                    first.get_or_insert(last);
                }
                Err(_) if sending.is_finished() => break,
                Err(_) => {}
            }
        }
        let seconds = (last - first.context("no train arrived")?).as_secs_f64();
        Ok((bytes / PAYLOAD_BYTES) as f64 / seconds)
    })
}

fn set_udp(socket: &UdpSocket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is an int, which the kernel reads during the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn build(program: &Path, log: &Path) -> Result<([Netns; 2], Engine)> {
    let hosts = <[Netns; 2]>::try_from(Netns::create(&[Role::Host; 2])?).ok();
    let hosts = hosts.context("another number of namespaces")?;
    let ends = [0_u8, 1].map(|n| End {
        index: hosts[usize::from(n)].new_index(),
        name: "eth0".into(),
        mac: mac(n),
        mtu_bytes: 1500,
    });
    let [a, b] = [0, 1].map(|n| tap::create(&hosts[n], &ends[n]));
    let (a_to_b, b_to_a) = (direction(None), direction(None));
    let one = EngineLink { name: "link".into(), a: a?, b: b?, a_to_b, b_to_a };
    let engine = Engine::start(program, vec![one], log)?;
    for (n, (host, end)) in (0..).zip(hosts.iter().zip(&ends)) {
        host.apply([
            link::set_up(link::LOOPBACK, true),
            link::set_up(end.index, true),
            link::add_address(end.index, address(n), 24),
            link::set_neighbour(end.index, address(1 - n), mac(1 - n)),
        ])?;
        link::wait_ready(host, &[end.index], Duration::from_secs(5))?;
    }
    Ok((hosts, engine))
}

fn direction(rate: Option<(u64, u32)>) -> Direction {
    let rate = rate.map(|(rate_bps, burst_bytes)| RateStage {
        rate_bps,
        burst_bytes,
        limit_bytes: 64 * FRAME_BYTES,
    });
    let delay = DelayStage {
        delay_ns: DELAY.as_nanos() as u64,
        jitter_ns: 0,
        jitter_reorders: false,
        loss: LossPlan::Random { ratio: 0.0 },
        duplicate_ratio: 0.0,
        corrupt_ratio: 0.0,
        reorder_ratio: 0.0,
        limit_packets: 100_000,
    };
    Direction { shape: ShapePlan { rate, trace: None, delay }, seed: 1 }
}

fn address(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 1, 0, host + 1).into()
}

fn mac(host: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, host + 1]
}
