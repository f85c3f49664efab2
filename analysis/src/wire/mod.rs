//! What was really on the wire: 1-RTT packets of QUIC, opened with the key logs of the nodes.
//!
//! Input: captures (pcap) and key logs of a trial. Output: each packet with its connection,
//! direction, key phase, path id and packet number; and [`reused`], the packets that share all of
//! these and yet differ, which would break the cipher: two copies of one server must never make
//! one (RFC 9001, section 9.5; RFC 10069 for several paths).

mod frames;
mod keys;
mod pcap;

pub use frames::{Kinds, kinds};
pub use keys::{Keys, Number, read as read_keys, secrets};
pub use pcap::{Datagram, read as read_pcap};

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

/// Bytes of a connection id: noq's, and so that of both ends.
const ID_BYTES: usize = 8;

/// A 1-RTT packet that could be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it crossed the wire, CLOCK_REALTIME in ns.
    pub time_ns: i64,
    /// Where from.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
    /// Which keys opened it: index into the keys that were given.
    pub keys: usize,
    /// What it is numbered.
    pub number: Number,
    /// The protected packet as it was sent.
    pub bytes: Vec<u8>,
    /// Its frames.
    pub payload: Vec<u8>,
}

/// What a capture held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Packets in the order of the capture.
    pub packets: Vec<Packet>,
    /// 1-RTT packets, or what looks like one, that no key opened.
    pub closed: usize,
}

/// Opens all 1-RTT packets among these datagrams.
pub fn open(datagrams: &[Datagram], keys: &[Keys]) -> Opened {
    let mut opened = Opened::default();
    // A connection id belongs to one direction of one path of one connection.
    let mut known: HashMap<Vec<u8>, (usize, u32)> = HashMap::new();
    let mut next: HashMap<(usize, u32), u64> = HashMap::new();
    for datagram in datagrams {
        let Some(packet) = short_header(&datagram.payload) else { continue };
        let after_id = 1 + ID_BYTES;
        let Some(id) = packet.get(1..after_id) else { continue };
        let found = known.get(id).and_then(|(at, path)| {
            let expected = |path| next.get(&(*at, path)).copied().unwrap_or(0);
            Some((*at, keys[*at].open(packet, after_id, [*path], expected)?))
        });
        let found = found.or_else(|| {
            keys.iter().enumerate().find_map(|(at, keys)| {
                let expected = |path| next.get(&(at, path)).copied().unwrap_or(0);
                Some((at, keys.open(packet, after_id, Keys::any_path(), expected)?))
            })
        });
        let Some((at, (number, payload))) = found else {
            opened.closed += 1;
            continue;
        };
        known.insert(id.to_vec(), (at, number.path));
        let largest = next.entry((at, number.path)).or_default();
        *largest = (*largest).max(number.packet + 1);
        let Datagram { time_ns, from, to, .. } = *datagram;
        let bytes = packet.to_vec();
        opened.packets.push(Packet { time_ns, from, to, keys: at, number, bytes, payload });
    }
    opened
}

/// Pairs of packets under the same keys, key phase, path id and packet number that are not the
/// same packet.
pub fn reused(packets: &[Packet]) -> Vec<(&Packet, &Packet)> {
    let mut first: BTreeMap<(usize, Number), &Packet> = BTreeMap::new();
    let mut pairs = Vec::new();
    for packet in packets {
        let seen = first.entry((packet.keys, packet.number)).or_insert(packet);
        if seen.bytes != packet.bytes {
            pairs.push((*seen, packet));
        }
    }
    pairs
}

/// The destination connection id of the 1-RTT packet of a datagram.
pub fn connection_id(payload: &[u8]) -> Option<&[u8]> {
    short_header(payload)?.get(1..=ID_BYTES)
}

/// The 1-RTT packet of a datagram: its last one (RFC 9000, section 12.2), behind any with long
/// headers.
fn short_header(mut payload: &[u8]) -> Option<&[u8]> {
    loop {
        let first = *payload.first()?;
        if first & 0x80 == 0 {
            // The fixed bit of RFC 9000, section 17.3.1, is random here (RFC 9287).
            return Some(payload);
        }
        payload = after_long_header(payload)?;
    }
}

/// What comes behind a packet with a long header (RFC 9000, section 17.2).
fn after_long_header(packet: &[u8]) -> Option<&[u8]> {
    let kind = packet.first()? >> 4 & 3;
    let mut rest = packet.get(5..)?;
    for _ in 0..2 {
        let length = usize::from(*rest.first()?);
        rest = rest.get(1 + length..)?;
    }
    if kind == 3 {
        return None; // Retry has no length and stands alone.
    }
    if kind == 0 {
        let (length, after) = varint(rest)?;
        rest = after.get(usize::try_from(length).ok()?..)?;
    }
    let (length, after) = varint(rest)?;
    after.get(usize::try_from(length).ok()?..)
}

/// RFC 9000, section 16.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let (value, rest) = bytes.split_at_checked(length)?;
    let value = value[1..].iter().fold(u64::from(first & 0x3f), |v, b| (v << 8) | u64::from(*b));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u64, bytes: &[u8]) -> Packet {
        let address = "10.0.0.1:4433".parse().unwrap();
        let number = Number { generation: 0, path: 0, packet: number };
        let (bytes, payload) = (bytes.into(), vec![]);
        Packet { time_ns: 0, from: address, to: address, keys: 0, number, bytes, payload }
    }

    #[test]
    fn only_different_packets_of_one_number_are_reuse() {
        let seen_twice = [packet(1, b"a"), packet(1, b"a"), packet(2, b"b")];
        assert!(reused(&seen_twice).is_empty());
        let packets = [packet(1, b"a"), packet(2, b"b"), packet(1, b"c")];
        assert_eq!(reused(&packets), [(&packets[0], &packets[2])]);
    }

    #[test]
    fn varints_are_those_of_rfc_9000() {
        assert_eq!(varint(&[0x7b, 0xbd, 9]), Some((15_293, &[9][..])));
        assert_eq!(varint(&[0x25]), Some((37, &[][..])));
        assert_eq!(varint(&[0xc2]), None);
    }
}
