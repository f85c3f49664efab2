//! More UDP than a path carries, for a short time: what rate comes out and how long it waits.
//!
//! Input: two namespaces and a rate above that of the path. Output: [`Flow`]. Kernel interface:
//! udp(7), sockets of the two namespaces. Both ends run on one machine and so on one clock, and each
//! datagram carries the time at which it was sent; that of its arrival is the kernel's.

use super::{netns::Netns, stamped};
use anyhow::{Context, Result, ensure};
use limosa_record::clock::now_ns;
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// Source address, in the sender's namespace.
    pub from: IpAddr,
    /// Destination address, in the receiver's namespace.
    pub to: IpAddr,
    /// Bits per second offered, counted as `frame_bytes`.
    pub rate_bps: u64,
    /// Size of each Ethernet frame, header included, as `tbf` counts it.
    pub frame_bytes: u32,
    /// How long to send.
    pub duration: Duration,
    /// How long the queue takes to fill and the burst to pass; the rate is measured after it.
    pub warmup: Duration,
}

/// What arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Datagrams sent.
    pub sent: u64,
    /// Sequence numbers received, in order of arrival.
    pub received: Vec<u64>,
    /// When each of them arrived, in nanoseconds since the first was sent.
    pub arrived_ns: Vec<i64>,
    /// One-way time of each of them in nanoseconds.
    pub one_way_ns: Vec<u64>,
    /// Bits per second received after the warm-up, Ethernet headers included; nothing if fewer
    /// than two datagrams came then.
    pub rate_bps: Option<f64>,
    /// The shortest one-way time in nanoseconds, usually that of the first datagrams.
    pub min_ns: Option<u64>,
    /// The longest one-way time in nanoseconds; less the shortest, it is the longest wait in a queue.
    pub max_ns: Option<u64>,
}

/// Datagrams that are sent at once at most, when that many are due.
const TRAIN_PACKETS: usize = 16;

/// More than any queue and delay line holds.
const SEND_BUFFER_BYTES: usize = 256 << 20;

/// The sender looks at the time at least this often.
const LONGEST_SLEEP: Duration = Duration::from_micros(500);

/// Receiving stops after a silence of this length behind the last datagram.
const SILENCE: Duration = Duration::from_millis(500);

/// Sends, receives and waits for the end of both.
pub fn flood(sender: &Netns, receiver: &Netns, flood: &Flood) -> Result<Flow> {
    let headers = if flood.to.is_ipv4() { 14 + 20 + 8 } else { 14 + 40 + 8 };
    let payload = flood.frame_bytes.saturating_sub(headers) as usize;
    ensure!(payload >= 16, "flood: frames of {} bytes are too small", flood.frame_bytes);
    let what = || format!("flood {} from {}", flood.to, flood.from);
    let receiving = receiver.run(|| listen(flood.to)).with_context(what)?;
    let sending = sender.run(|| Ok(UdpSocket::bind((flood.from, 0))?)).with_context(what)?;
    // On veth pairs what waits or flies in the network still counts as the sender's; a small buffer
    // would hold the sender back instead of filling the queue.
    set_socket_send_buffer_size_force(&sending, SEND_BUFFER_BYTES).with_context(what)?;
    send_trains(&sending, payload).with_context(what)?;
    sending.connect(receiving.local_addr().with_context(what)?).with_context(what)?;
    thread::scope(|scope| {
        let sender = scope.spawn(move || send(&sending, payload, flood));
        let arrivals = receive(&receiving, flood).with_context(what)?;
        let sent = sender.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        Ok(summary(sent.with_context(what)?, &arrivals, flood))
    })
}

fn listen(to: IpAddr) -> Result<UdpSocket> {
    let socket =
        UdpSocket::bind(SocketAddr::new(to, 0)).with_context(|| format!("bind to {to}"))?;
    // A receiver that is late must not lose what the network delivered.
    set_socket_recv_buffer_size_force(&socket, 8 << 20).context("set SO_RCVBUFFORCE")?;
    stamped::enable(&socket)?;
    Ok(socket)
}

fn send(socket: &UdpSocket, payload: usize, flood: &Flood) -> Result<u64> {
    let mut train = vec![0; payload * TRAIN_PACKETS];
    let start = now_ns();
    let end = start + i64::try_from(flood.duration.as_nanos())?;
    let bits = u128::from(flood.frame_bytes) * 8;
    let mut sent = 0_u64;
    loop {
        let now = now_ns();
        if now >= end {
            return Ok(sent);
        }
        let elapsed = u128::from((now - start).unsigned_abs());
        let due = elapsed * u128::from(flood.rate_bps) / 1_000_000_000 / bits;
        while u128::from(sent) <= due {
            let count = usize::try_from(due - u128::from(sent) + 1)?.min(TRAIN_PACKETS);
            let now = now_ns();
            for packet in train.chunks_mut(payload).take(count) {
                packet[..8].copy_from_slice(&sent.to_ne_bytes());
                packet[8..16].copy_from_slice(&now.to_ne_bytes());
                sent += 1;
            }
            // The path drops what it cannot carry.
            let _ = socket.send(&train[..count * payload]);
        }
        let next_ns = u128::from(sent) * bits * 1_000_000_000 / u128::from(flood.rate_bps);
        let wait = next_ns.saturating_sub(u128::from((now_ns() - start).unsigned_abs()));
        thread::sleep(Duration::from_nanos(u64::try_from(wait)?).min(LONGEST_SLEEP));
    }
}

/// Lets the kernel cut one long send up into datagrams (UDP_SEGMENT), so that a sender which is late
/// catches up.
fn send_trains(socket: &UdpSocket, payload: usize) -> Result<()> {
    let size = libc::c_int::try_from(payload)?;
    let length = libc::socklen_t::try_from(size_of_val(&size))?;
    // SAFETY: the kernel reads one int, which outlives the call.
    let done = unsafe {
        let value = std::ptr::from_ref(&size).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, length)
    };
    ensure!(done == 0, "set UDP_SEGMENT: {}", std::io::Error::last_os_error());
    Ok(())
}

struct Arrival {
    sequence: u64,
    sent_ns: i64,
    received_ns: i64,
}

fn receive(socket: &UdpSocket, flood: &Flood) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    let mut packet = [0; 65_536];
    let end = now_ns() + i64::try_from(flood.duration.as_nanos())?;
    socket.set_read_timeout(Some(SILENCE)).context("set SO_RCVTIMEO")?;
    loop {
        let Some((n, received_ns)) = stamped::receive(socket, &mut packet)? else {
            if now_ns() > end {
                return Ok(arrivals);
            }
            continue;
        };
        let [sequence, sent_ns] = [0, 8].map(|at| packet[..n].get(at..at + 8));
        let (Some(sequence), Some(sent_ns)) = (sequence, sent_ns) else { continue };
        arrivals.push(Arrival {
            sequence: u64::from_ne_bytes(sequence.try_into()?),
            sent_ns: i64::from_ne_bytes(sent_ns.try_into()?),
            received_ns,
        });
    }
}

fn summary(sent: u64, arrivals: &[Arrival], flood: &Flood) -> Flow {
    let one_way = |a: &Arrival| (a.received_ns - a.sent_ns).unsigned_abs();
    let span = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
    let first_sent = arrivals.iter().map(|a| a.sent_ns).min().unwrap_or(0);
    let within = |a: &&Arrival| {
        (span(flood.warmup)..span(flood.duration)).contains(&(a.received_ns - first_sent))
    };
    let window: Vec<i64> = arrivals.iter().filter(within).map(|a| a.received_ns).collect();
    let rate_bps = match window[..] {
        [first, .., last] if last > first => {
            // The first one's bits passed before the clock started.
            let bits = (window.len() - 1) as f64 * f64::from(flood.frame_bytes) * 8.0;
            Some(bits * 1e9 / (last - first) as f64)
        }
        _ => None,
    };
    Flow {
        sent,
        received: arrivals.iter().map(|a| a.sequence).collect(),
        arrived_ns: arrivals.iter().map(|a| a.received_ns - first_sent).collect(),
        one_way_ns: arrivals.iter().map(one_way).collect(),
        rate_bps,
        min_ns: arrivals.iter().map(one_way).min(),
        max_ns: arrivals.iter().map(one_way).max(),
    }
}
