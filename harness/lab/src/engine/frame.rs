//! Frames as a TAP hands them over, and the segments of trains.
//!
//! Input: what was read from a TAP: a `virtio_net_hdr`, then an Ethernet frame or a train of up to
//! 64 KiB that the kernel would cut up into segments. Output: any run of its segments as it has to
//! be written to a TAP: headers that the kernel's own segmentation would have given them
//! (net/ipv4/tcp_offload.c, udp_offload.c, af_inet.c). Pure.
//!
//! A train stays one buffer. Its transport checksum is open (NEEDS_CSUM): the field holds the sum
//! of the pseudo-header, and who needs the real one adds up the rest. A run of segments has the
//! pseudo-header of another length and is otherwise the same.

use super::{delay::Fragile, random::Random};
use crate::sys::tap::HEADER_BYTES;
use std::{ops::Range, rc::Rc};

/// Longest headers that are rewritten: Ethernet, IPv6 with some extensions, TCP with all options.
const MAX_HEADS: usize = 256;
/// Where things are in `struct virtio_net_hdr`.
const FLAGS: usize = 0;
const GSO_TYPE: usize = 1;
const HDR_LEN: usize = 2;
const GSO_SIZE: usize = 4;
const CSUM_START: usize = 6;
const CSUM_OFFSET: usize = 8;
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;

const ETHERNET: usize = 14;
/// Where TCP and UDP have their checksums.
const TCP_CHECK: usize = 16;
const UDP_CHECK: usize = 6;
const TCP_FLAGS: usize = 13;
const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// One frame or train.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// As read, `virtio_net_hdr` first.
    bytes: Vec<u8>,
    train: Option<Train>,
}

#[derive(Debug, Clone, Copy)]
struct Train {
    v6: bool,
    /// Where TCP or UDP begins, in `bytes`.
    transport: usize,
    /// Where the checksum is, in `bytes`.
    check: usize,
    /// Where the payload begins, in `bytes`.
    payload: usize,
    /// Payload of each segment but the last.
    segment_bytes: usize,
    segments: u16,
}

/// One segment of a train, or a frame that is none.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) frame: Rc<Frame>,
    pub(super) segment: u16,
}

/// The parts of what is to be written: rewritten headers, then bytes of the frame.
pub(super) struct Run<'f> {
    heads: [u8; MAX_HEADS],
    length: usize,
    rest: &'f [u8],
}

/// The segments of what was read, each a whole Ethernet frame. Their transport checksums stay as
/// open as they were.
pub(crate) fn segments(read: &[u8]) -> Vec<Vec<u8>> {
    let mut frame = Frame::default();
    frame.fill(read);
    let one = |segment: u16| {
        let run = frame.run(segment..segment + 1);
        let bytes = run.parts().concat();
        bytes.get(HEADER_BYTES..).unwrap_or_default().to_vec()
    };
    (0..frame.segments()).map(one).collect()
}

impl Run<'_> {
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.heads[..self.length], self.rest]
    }
}

impl Frame {
    /// Takes what was read, in place of what was there.
    pub(super) fn fill(&mut self, read: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(read);
        self.train = Train::find(&self.bytes);
        if let Some(train) = self.train {
            // The kernel gives what it happens to hold in one piece, which may be far more.
            put(&mut self.bytes, HDR_LEN, (train.payload - HEADER_BYTES) as u16);
        }
    }

    /// Bytes that the frame may grow to without another allocation.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// An empty frame with room for this many bytes.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), train: None }
    }

    /// Number of segments; 1 for a frame that is no train.
    pub(super) fn segments(&self) -> u16 {
        self.train.map_or(1, |t| t.segments)
    }

    /// Length of a segment on the wire: Ethernet header included, checksum not.
    pub(super) fn wire_bytes(&self, segment: u16) -> u32 {
        let length = match self.train {
            None => self.bytes.len() - HEADER_BYTES,
            Some(t) => t.payload - HEADER_BYTES + self.payload(&t, segment..segment + 1).len(),
        };
        length as u32
    }

    fn payload(&self, train: &Train, run: Range<u16>) -> Range<usize> {
        let at = |n: u16| train.payload + usize::from(n) * train.segment_bytes;
        at(run.start)..at(run.end).min(self.bytes.len())
    }

    /// What has to be written so that these segments arrive, as a train again if they are several.
    pub(super) fn run(&self, run: Range<u16>) -> Run<'_> {
        let mut heads = [0; MAX_HEADS];
        let Some(train) = self.train.filter(|t| run != (0..t.segments)) else {
            return Run { heads, length: 0, rest: &self.bytes };
        };
        let length = train.payload;
        heads[..length].copy_from_slice(&self.bytes[..length]);
        let payload = self.payload(&train, run.clone());
        train.rewrite(&mut heads[..length], &run, payload.len(), self.bytes.len());
        Run { heads, length, rest: &self.bytes[payload] }
    }

    /// One segment as a frame of its own, with its real checksum.
    fn complete(&self, segment: u16) -> Self {
        let mut bytes = self.run(segment..segment + 1).parts().concat();
        if bytes[FLAGS] & NEEDS_CSUM != 0 {
            let start = HEADER_BYTES + usize::from(get(&bytes, CSUM_START));
            let field = start + usize::from(get(&bytes, CSUM_OFFSET));
            if field + 2 <= bytes.len() {
                let sum = !sum(&bytes[start..]);
                // UDP has no checksum of zero (RFC 768).
                let udp_zero = sum == 0 && field - start == UDP_CHECK;
                put_be(&mut bytes, field, if udp_zero { 0xffff } else { sum });
            }
        }
        bytes[..HEADER_BYTES].fill(0);
        Self { bytes, train: None }
    }
}

impl Fragile for Packet {
    fn corrupt(&mut self, random: &mut Random) {
        let mut frame = self.frame.complete(self.segment);
        let bits = (frame.bytes.len() - HEADER_BYTES) as u64 * 8;
        if bits > 0 {
            let bit = random.below(bits) as usize;
            frame.bytes[HEADER_BYTES + bit / 8] ^= 1 << (bit % 8);
        }
        *self = Self { frame: Rc::new(frame), segment: 0 };
    }
}

impl Train {
    /// Recognises a train that can be cut up; all else passes as it is.
    fn find(bytes: &[u8]) -> Option<Self> {
        let gso = *bytes.get(GSO_TYPE)?;
        if gso == 0 || bytes.len() < HEADER_BYTES + ETHERNET || bytes[FLAGS] & NEEDS_CSUM == 0 {
            return None;
        }
        let v6 = match bytes[HEADER_BYTES + 12..HEADER_BYTES + 14] {
            [0x08, 0x00] => false,
            [0x86, 0xdd] => true,
            _ => return None,
        };
        let transport = HEADER_BYTES + usize::from(get(bytes, CSUM_START));
        let check = transport + usize::from(get(bytes, CSUM_OFFSET));
        let ip = HEADER_BYTES + ETHERNET;
        let payload = match (gso, v6, check - transport) {
            (GSO_TCPV4, false, TCP_CHECK) | (GSO_TCPV6, true, TCP_CHECK) => {
                transport + usize::from(bytes.get(transport + 12)? >> 4) * 4
            }
            (GSO_UDP_L4, _, UDP_CHECK) => transport + 8,
            _ => return None,
        };
        let segment_bytes = usize::from(get(bytes, GSO_SIZE));
        let v4_bytes = usize::from(bytes.get(ip)? & 15) * 4;
        let ip_fits = if v6 { transport >= ip + 40 } else { transport == ip + v4_bytes.max(20) };
        let long_enough = ip_fits
            && payload > check
            && payload < bytes.len()
            && payload <= MAX_HEADS
            && segment_bytes > 0;
        // The lengths in the headers have 16 bits.
        if !long_enough || bytes.len() - ip > 0xffff + if v6 { 40 } else { 0 } {
            return None;
        }
        let segments = (bytes.len() - payload).div_ceil(segment_bytes) as u16;
        Some(Self { v6, transport, check, payload, segment_bytes, segments })
    }

    /// Makes the train's headers those of a run of its segments.
    fn rewrite(&self, heads: &mut [u8], run: &Range<u16>, payload: usize, train_bytes: usize) {
        let ip = HEADER_BYTES + ETHERNET;
        let after = |from: usize, length: usize| (length - from) as u16;
        let (before, now) = (train_bytes, self.payload + payload);
        if run.len() == 1 {
            heads[GSO_TYPE] = 0;
            put(heads, GSO_SIZE, 0);
        }
        if self.v6 {
            put_be(heads, ip + 4, after(ip + 40, now));
        } else {
            put_be(heads, ip + 2, after(ip, now));
            // Each segment has the next identification (inet_gso_segment).
            let id = get_be(heads, ip + 4).wrapping_add(run.start);
            put_be(heads, ip + 4, id);
            put_be(heads, ip + 10, 0);
            let header = ip..ip + usize::from(heads[ip] & 15) * 4;
            let check = !sum(&heads[header]);
            put_be(heads, ip + 10, check);
        }
        let start = self.transport;
        if self.check - start == UDP_CHECK {
            put_be(heads, start + 4, after(start, now));
        } else {
            let offset = usize::from(run.start) * self.segment_bytes;
            let number = u32::from_be_bytes(*heads[start + 4..].first_chunk().unwrap_or(&[0; 4]));
            let number = number.wrapping_add(offset as u32);
            heads[start + 4..start + 8].copy_from_slice(&number.to_be_bytes());
            if run.end < self.segments {
                heads[start + TCP_FLAGS] &= !FIN_PSH;
            }
            if run.start > 0 {
                heads[start + TCP_FLAGS] &= !CWR;
            }
        }
        // The pseudo-header holds the length (RFC 1624: take the old one out, put the new one in).
        let open = u32::from(get_be(heads, self.check))
            + u32::from(!after(start, before))
            + u32::from(after(start, now));
        put_be(heads, self.check, fold(open));
    }
}

/// The sum of RFC 1071, not inverted.
fn sum(bytes: &[u8]) -> u16 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let pairs: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    // 64 KiB of pairs are below 2^31.
    fold(pairs + odd.first().map_or(0, |last| u32::from(*last) << 8))
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
}

fn get_be(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put_be(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
