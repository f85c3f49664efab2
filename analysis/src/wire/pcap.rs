//! UDP datagrams out of a pcap file (Ethernet, IPv4 or IPv6, micro- or nanoseconds).

use anyhow::{Context, Result, bail, ensure};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// One UDP datagram as it crossed the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// When, CLOCK_REALTIME in ns.
    pub time_ns: i64,
    /// Where from.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// All UDP datagrams of a capture. A file that ends in the middle of a frame, because whoever wrote
/// it was killed, counts up to there.
///
/// # Errors
/// When the file cannot be read or is no capture of Ethernet frames.
pub fn read(path: &Path) -> Result<Vec<Datagram>> {
    let bytes = crate::input::of_run(path)?;
    parse(&bytes).with_context(|| format!("read {}", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Vec<Datagram>> {
    let header = bytes.get(..24).context("too short for a capture")?;
    let magic: [u8; 4] = header[..4].try_into()?;
    let (little, unit_ns) = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
        (0xa1b2_3c4d, _) => (true, 1),
        (0xa1b2_c3d4, _) => (true, 1000),
        (_, 0xa1b2_3c4d) => (false, 1),
        (_, 0xa1b2_c3d4) => (false, 1000),
        _ => bail!("not a pcap file"),
    };
    let word = |at: &[u8]| -> u32 {
        let raw = at.first_chunk().copied().unwrap_or_default();
        if little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) }
    };
    ensure!(word(&header[20..]) == 1, "not a capture of Ethernet frames");
    let mut rest = &bytes[24..];
    let mut datagrams = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(16) {
        let Some((frame, after)) = after.split_at_checked(word(&head[8..]) as usize) else { break };
        let time_ns = i64::from(word(head)) * 1_000_000_000 + i64::from(word(&head[4..])) * unit_ns;
        datagrams.extend(datagram(time_ns, frame));
        rest = after;
    }
    Ok(datagrams)
}

/// The UDP datagram in an Ethernet frame; nothing for all other frames and for fragments.
fn datagram(time_ns: i64, frame: &[u8]) -> Option<Datagram> {
    let packet = frame.get(14..)?;
    let (from, to, udp): (IpAddr, IpAddr, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 15) * 4;
            let total = usize::from(number(packet.get(2..4)?));
            let fragment = number(packet.get(6..8)?) & 0x3fff;
            let (from, to): ([u8; 4], [u8; 4]) =
                (packet.get(12..16)?.try_into().ok()?, packet.get(16..20)?.try_into().ok()?);
            if *packet.get(9)? != 17 || fragment != 0 {
                return None;
            }
            (Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into(), packet.get(header..total)?)
        }
        [0x86, 0xdd] => {
            let (from, to): ([u8; 16], [u8; 16]) =
                (packet.get(8..24)?.try_into().ok()?, packet.get(24..40)?.try_into().ok()?);
            if *packet.get(6)? != 17 {
                return None;
            }
            let end = 40 + usize::from(number(packet.get(4..6)?));
            (Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into(), packet.get(40..end)?)
        }
        _ => return None,
    };
    let (from_port, to_port) = (number(udp.get(..2)?), number(udp.get(2..4)?));
    let payload = udp.get(8..usize::from(number(udp.get(4..6)?)))?.to_vec();
    let (from, to) = (SocketAddr::new(from, from_port), SocketAddr::new(to, to_port));
    Some(Datagram { time_ns, from, to, payload })
}

fn number(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u16::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
        bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
        for frame in frames {
            let length = (frame.len() as u32).to_le_bytes();
            bytes.extend([7_u32.to_le_bytes(), 5_u32.to_le_bytes(), length, length].concat());
            bytes.extend(frame);
        }
        bytes
    }

    fn udp4() -> Vec<u8> {
        let mut frame = [[0; 12].as_slice(), &[0x08, 0x00]].concat();
        frame.extend([0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x11, 0x51, 0x30, 0x39, 0, 11, 0, 0, b'a', b'b', b'c']);
        frame.extend([0; 15]); // Ethernet's padding is no part of the datagram
        frame
    }

    #[test]
    fn datagrams_come_out_and_the_rest_is_passed_over() {
        let arp = [[0xff; 12].as_slice(), &[0x08, 0x06], &[0; 46]].concat();
        let mut bytes = file(&[arp, udp4(), vec![1, 2, 3]]);
        let found = parse(&bytes).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].time_ns, 7_000_000_005);
        assert_eq!(found[0].from, "10.0.0.1:4433".parse().unwrap());
        assert_eq!(found[0].to, "10.0.0.2:12345".parse().unwrap());
        assert_eq!(found[0].payload, b"abc");
        bytes.truncate(bytes.len() - 10);
        assert_eq!(parse(&bytes).unwrap().len(), 1);
        assert!(parse(b"no capture at all, whatever it is").is_err());
    }
}
