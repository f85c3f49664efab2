//! Whether a QUIC server is there: RFC 9000, section 6.
//!
//! Input: a namespace, and where the server may be in it. Output: whether one answered. A packet of a
//! version that nobody has makes a server say which ones it has; it keeps nothing of such a packet.

use super::netns::Netns;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::UdpSocket, time::timeout};

/// How long an answer may take; it comes from the same machine.
const ANSWER_LIMIT: Duration = Duration::from_millis(100);

/// Bytes of a packet that a server may answer (RFC 9000, section 14.1).
const PROBE_BYTES: usize = 1200;

/// A version that is reserved for being unknown (RFC 9000, section 15).
const UNKNOWN: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

/// What the probe calls the server, and itself.
const TO: [u8; 8] = *b"limosato";
const FROM: [u8; 8] = *b"limosame";

/// Whether a server answers at one of these addresses.
pub async fn answers(netns: &Netns, addresses: &[IpAddr], port: u16) -> bool {
    let mut sockets = Vec::new();
    for ip in addresses {
        // Where no family or no route is there nobody is, either; a refusal comes as an error.
        let Ok(socket) = ask(netns, SocketAddr::new(*ip, port)) else { continue };
        if socket.send(&probe()).await.is_ok() {
            sockets.push(socket);
        }
    }
    let mut answer = [0; 2048];
    let deadline = tokio::time::Instant::now() + ANSWER_LIMIT;
    for socket in sockets {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if let Ok(Ok(n)) = timeout(left, socket.recv(&mut answer)).await
            && is_negotiation(&answer[..n])
        {
            return true;
        }
    }
    false
}

fn ask(netns: &Netns, to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = netns
        .run(|| {
            let socket = std::net::UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .map_err(io::Error::other)?;
    UdpSocket::from_std(socket)
}

/// A long header (RFC 8999, section 5.1), and nothing that means anything behind it.
fn probe() -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(UNKNOWN);
    for id in [TO, FROM] {
        packet.push(id.len() as u8);
        packet.extend(id);
    }
    packet.resize(PROBE_BYTES, 0);
    packet
}

/// A long header with version 0, and the connection IDs the other way round (RFC 8999, section 6).
fn is_negotiation(packet: &[u8]) -> bool {
    let mut expected = vec![0, 0, 0, 0];
    for id in [FROM, TO] {
        expected.push(id.len() as u8);
        expected.extend(id);
    }
    match packet.split_first() {
        Some((first, rest)) => first & 0x80 != 0 && rest.starts_with(&expected),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_to_the_probe_is_one() {
        let probe = probe();
        assert_eq!(probe.len(), 1200);
        assert!(!is_negotiation(&probe) && !is_negotiation(&[]));
        let ids = [&[8][..], &FROM, &[8], &TO].concat();
        let answer = [&[0xff, 0, 0, 0, 0][..], &ids, &[0, 0, 0, 1]].concat();
        assert!(is_negotiation(&answer));
        let foreign = [&[0xff, 0, 0, 0, 0, 8][..], &TO, &[8], &FROM, &[0, 0, 0, 1]].concat();
        assert!(!is_negotiation(&foreign));
    }
}
