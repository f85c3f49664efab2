//! Round-trip times by ICMP echo, measured from inside a namespace.
//!
//! Input: addresses and how often. Output: [`Rtt`]. Kernel interface: raw(7), icmp(7), a socket of
//! the namespace. Requests leave on a fixed schedule, whether or not answers come. Both
//! ends of each time are the kernel's or taken just before it is called, so that a receiver woken up
//! late does not count.

use super::{netns::Netns, stamped};
use anyhow::{Context, Result};
use limosa_record::clock::now_ns;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// The destination.
    pub to: IpAddr,
    /// The source address, of the same family, where the host has several.
    pub from: Option<IpAddr>,
    /// Number of requests.
    pub count: u16,
    /// Time between two requests.
    pub interval: Duration,
    /// How long to wait for answers after the last request.
    pub timeout: Duration,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtt {
    /// Requests sent.
    pub sent: u16,
    /// Round-trip times in nanoseconds, in order of sending; nothing where no answer came.
    pub rtt_ns: Vec<Option<u64>>,
}

impl Rtt {
    fn sorted(&self) -> Vec<u64> {
        let mut times: Vec<u64> = self.rtt_ns.iter().flatten().copied().collect();
        times.sort_unstable();
        times
    }

    /// The shortest round-trip time in nanoseconds.
    pub fn min_ns(&self) -> Option<u64> {
        self.sorted().first().copied()
    }

    /// The longest round-trip time in nanoseconds.
    pub fn max_ns(&self) -> Option<u64> {
        self.sorted().last().copied()
    }

    /// The middle round-trip time in nanoseconds (the lower one of two).
    pub fn median_ns(&self) -> Option<u64> {
        let times = self.sorted();
        times.get(times.len().saturating_sub(1) / 2).copied()
    }

    /// Requests that no answer came to.
    pub fn lost(&self) -> u16 {
        self.sent - u16::try_from(self.sorted().len()).unwrap_or(self.sent)
    }
}

/// Sends the requests and waits for the answers. Blocks for about count × interval + timeout at
/// most; it returns as soon as all have come.
pub fn ping(netns: &Netns, ping: &Ping) -> Result<Rtt> {
    netns.run(|| measure(ping)).with_context(|| format!("ping {}", ping.to))
}

/// RFC 792 and RFC 4443.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
/// As many bytes as ping(8) sends: a header of 8 and 56 of payload.
const PACKET_BYTES: usize = 64;

fn measure(ping: &Ping) -> Result<Rtt> {
    // A raw socket gets all answers that reach the namespace; the identifier tells ours.
    static NEXT_ID: AtomicU16 = AtomicU16::new(0);
    let socket = open(ping.to)?;
    stamped::enable(&socket)?;
    if let Some(from) = ping.from {
        bind(&socket, &SocketAddr::new(from, 0)).with_context(|| format!("bind to {from}"))?;
    }
    let mut session = Session {
        socket,
        to: ping.to,
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed) ^ (std::process::id() & 0xffff) as u16,
        sent_at_ns: Vec::new(),
        rtt_ns: vec![None; ping.count.into()],
    };
    let start = Instant::now();
    for sequence in 0..ping.count {
        session.receive_until(start + ping.interval * sequence.into())?;
        session.send(sequence)?;
    }
    session.receive_until(Instant::now() + ping.timeout)?;
    Ok(Rtt { sent: ping.count, rtt_ns: session.rtt_ns })
}

struct Session {
    socket: OwnedFd,
    to: IpAddr,
    id: u16,
    sent_at_ns: Vec<i64>,
    rtt_ns: Vec<Option<u64>>,
}

impl Session {
    fn send(&mut self, sequence: u16) -> Result<()> {
        let packet = request(self.to, self.id, sequence);
        self.sent_at_ns.push(now_ns());
        match sendto(&self.socket, &packet, SendFlags::empty(), &SocketAddr::new(self.to, 0)) {
            // A link that is down or a missing route is a loss, as anything on the way is.
            Ok(_)
            | Err(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::NOBUFS) => {
                Ok(())
            }
            Err(e) => Err(e).context("send an echo request"),
        }
    }

    /// Waits until then; sooner only if all requests have been sent and answered.
    fn receive_until(&mut self, end: Instant) -> Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let all_answered = self.rtt_ns.iter().all(Option::is_some);
            // A timeout of zero would mean to wait for ever.
            if left.is_zero() || all_answered {
                return Ok(());
            }
            set_socket_timeout(&self.socket, Timeout::Recv, Some(left))
                .context("set SO_RCVTIMEO")?;
            if let Some((n, at_ns)) = stamped::receive(&self.socket, &mut buffer)? {
                self.answer(&buffer[..n], at_ns);
            }
        }
    }

    fn answer(&mut self, packet: &[u8], at_ns: i64) {
        let Some((id, sequence)) = reply(self.to, packet) else { return };
        let index = usize::from(sequence);
        if let (true, Some(sent)) = (id == self.id, self.sent_at_ns.get(index)) {
            let rtt = u64::try_from(at_ns - sent).unwrap_or(0);
            // A duplicate does not make the first answer later.
            self.rtt_ns[index].get_or_insert(rtt);
        }
    }
}

fn open(to: IpAddr) -> Result<OwnedFd> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
        .context("open a raw ICMP socket")
}

fn request(to: IpAddr, id: u16, sequence: u16) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = if to.is_ipv4() { ECHO_REQUEST } else { ECHO_REQUEST_V6 };
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    // For ICMPv6 the kernel fills it in, because it covers the source address.
    if to.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Identifier and sequence number of an echo reply. IPv4 raw sockets deliver the IP header too.
fn reply(to: IpAddr, packet: &[u8]) -> Option<(u16, u16)> {
    let (icmp, kind) = match to {
        IpAddr::V4(_) => (packet.get(usize::from(packet.first()? & 15) * 4..)?, ECHO_REPLY),
        IpAddr::V6(_) => (packet, ECHO_REPLY_V6),
    };
    let [k, 0, _, _, i0, i1, s0, s1, ..] = *icmp else { return None };
    (k == kind).then_some((u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1])))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn a_request_turned_round_is_read() {
        for to in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let mut icmp = request(to, 0x1234, 7);
            icmp[0] = if to.is_ipv4() { ECHO_REPLY } else { ECHO_REPLY_V6 };
            let mut ip = [0; 20];
            ip[0] = 0x45;
            let header: &[u8] = if to.is_ipv4() { &ip } else { &[] };
            let packet = [header, &icmp].concat();
            assert_eq!(reply(to, &packet), Some((0x1234, 7)));
            for n in 0..28 {
                assert_eq!(reply(to, &packet[..n]).is_some(), n >= header.len() + 8);
            }
        }
    }

    #[test]
    fn checksum_of_a_checked_packet_is_zero() {
        assert_eq!(checksum(&request(IpAddr::V4(Ipv4Addr::LOCALHOST), 99, 1)), 0);
    }

    #[test]
    fn figures_of_no_answer_and_of_some() {
        let none = Rtt { sent: 3, rtt_ns: vec![None; 3] };
        assert_eq!((none.min_ns(), none.median_ns(), none.lost()), (None, None, 3));
        let some = Rtt { sent: 4, rtt_ns: vec![Some(5), None, Some(9), Some(1)] };
        assert_eq!((some.min_ns(), some.median_ns(), some.max_ns()), (Some(1), Some(5), Some(9)));
        assert_eq!(some.lost(), 1);
    }
}
