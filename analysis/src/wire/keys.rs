//! The keys of QUIC connections out of `SSLKEYLOGFILE` files (RFC 9850), and what they open
//! (RFC 9001, section 5; RFC 10069 for the nonce of further paths).

use anyhow::Result;
use ring::{aead, hkdf};
use std::path::Path;

/// Key updates that are followed.
const GENERATIONS: usize = 4;

/// Path ids that are tried.
const PATH_IDS: u32 = 128;

/// One direction of one connection.
pub struct Keys {
    /// As in the key log: label and secret.
    pub name: String,
    header: aead::quic::HeaderProtectionKey,
    /// By key phase, or rather generation.
    packet: Vec<(aead::LessSafeKey, [u8; 12])>,
}

/// A packet that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// How many key updates came before.
    pub generation: usize,
    /// Path id (RFC 10069), 0 without multipath.
    pub path: u32,
    /// Packet number.
    pub packet: u64,
}

/// An output length for [`hkdf::Prk::expand`].
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// All 1-RTT secrets of a key log; a suite that the log leaves open gives a candidate each.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Keys>> {
    let text = crate::input::of_run(path)?;
    let text = String::from_utf8_lossy(&text);
    let mut all = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [label, random, secret] = words[..] else { continue };
        if !matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0") {
            continue;
        }
        let Some(secret) = bytes(secret) else { continue };
        let name = format!("{label} {random}");
        let suites: &[_] = match secret.len() {
            48 => &[(hkdf::HKDF_SHA384, &aead::AES_256_GCM, &aead::quic::AES_256)],
            _ => &[
                (hkdf::HKDF_SHA256, &aead::AES_128_GCM, &aead::quic::AES_128),
                (hkdf::HKDF_SHA256, &aead::CHACHA20_POLY1305, &aead::quic::CHACHA20),
            ],
        };
        all.extend(suites.iter().filter_map(|s| Keys::new(&name, &secret, s.0, s.1, s.2)));
    }
    Ok(all)
}

/// Everything in a key log that opens packets, and what is derived from it: the secrets, their
/// successors after key updates, and the keys of packets. With a name for each.
///
/// # Errors
/// When the file cannot be read.
pub fn secrets(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let text = crate::input::of_run(path)?;
    let text = String::from_utf8_lossy(&text);
    let mut all = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [label, _, secret] = words[..] else { continue };
        let Some(mut secret) = bytes(secret) else { continue };
        if !label.ends_with("_TRAFFIC_SECRET_0") {
            continue;
        }
        let (hash, lengths) = match secret.len() {
            48 => (hkdf::HKDF_SHA384, &[32][..]),
            _ => (hkdf::HKDF_SHA256, &[16, 32][..]),
        };
        let who = label.split('_').next().unwrap_or_default().to_lowercase();
        for generation in 0..GENERATIONS {
            all.push((format!("{who} secret {generation}"), secret.clone()));
            for length in lengths {
                let key = expand(hash, &secret, "quic key", *length);
                all.extend(key.map(|key| (format!("{who} key {generation}"), key)));
            }
            let Some(next) = expand(hash, &secret, "quic ku", secret.len()) else { break };
            secret = next;
        }
    }
    Ok(all)
}

impl Keys {
    fn new(
        name: &str,
        secret: &[u8],
        hash: hkdf::Algorithm,
        cipher: &'static aead::Algorithm,
        mask: &'static aead::quic::Algorithm,
    ) -> Option<Self> {
        let header = expand(hash, secret, "quic hp", mask.key_len())?;
        let header = aead::quic::HeaderProtectionKey::new(mask, &header).ok()?;
        let mut packet = Vec::new();
        let mut secret = secret.to_vec();
        for _ in 0..GENERATIONS {
            let key = expand(hash, &secret, "quic key", cipher.key_len())?;
            let iv = expand(hash, &secret, "quic iv", aead::NONCE_LEN)?;
            let key = aead::LessSafeKey::new(aead::UnboundKey::new(cipher, &key).ok()?);
            packet.push((key, iv.try_into().ok()?));
            secret = expand(hash, &secret, "quic ku", secret.len())?;
        }
        Some(Self { name: name.into(), header, packet })
    }

    /// Opens a 1-RTT packet whose destination connection id ends before byte `after_id`;
    /// `expected` is the next packet number expected on a path. Gives its number and its frames.
    pub fn open(
        &self,
        packet: &[u8],
        after_id: usize,
        paths: impl IntoIterator<Item = u32>,
        expected: impl Fn(u32) -> u64,
    ) -> Option<(Number, Vec<u8>)> {
        // RFC 9001, section 5.4.2: the sample starts four bytes behind the start of the number.
        let sample =
            packet.get(after_id + 4..after_id + 4 + self.header.algorithm().sample_len())?;
        let mask = self.header.new_mask(sample).ok()?;
        let mut header = packet[..after_id + 4].to_vec();
        header[0] ^= mask[0] & 0x1f;
        let length = usize::from(header[0] & 3) + 1;
        header.truncate(after_id + length);
        let mut truncated = 0;
        for (byte, mask) in header[after_id..].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
            truncated = (truncated << 8) | u64::from(*byte);
        }
        let body = &packet[after_id + length..];
        let phase = usize::from(header[0] >> 2 & 1);
        for path in paths {
            let number = whole(truncated, length, expected(path));
            for generation in (phase..GENERATIONS).step_by(2) {
                let (key, iv) = &self.packet[generation];
                let nonce = aead::Nonce::assume_unique_for_key(nonce(iv, path, number));
                let mut body = body.to_vec();
                let aad = aead::Aad::from(&header);
                if let Ok(opened) = key.open_in_place(nonce, aad, &mut body) {
                    let number = Number { generation, path, packet: number };
                    return Some((number, opened.to_vec()));
                }
            }
        }
        None
    }

    /// All path ids, the likely ones first.
    pub fn any_path() -> impl Iterator<Item = u32> {
        0..PATH_IDS
    }
}

/// RFC 10069: 32 bits of path id, two zero bits, 62 bits of packet number, combined with the IV.
fn nonce(iv: &[u8; 12], path: u32, number: u64) -> [u8; 12] {
    let mut nonce = *iv;
    let value = [&path.to_be_bytes()[..], &number.to_be_bytes()[..]].concat();
    nonce.iter_mut().zip(value).for_each(|(byte, other)| *byte ^= other);
    nonce
}

/// RFC 9000, appendix A.3.
fn whole(truncated: u64, length: usize, expected: u64) -> u64 {
    let window = 1_u64 << (8 * length);
    let candidate = (expected & !(window - 1)) | truncated;
    if candidate + window / 2 <= expected && candidate < (1 << 62) - window {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

/// HKDF-Expand-Label of TLS 1.3 with an empty context (RFC 8446, section 7.1).
fn expand(hash: hkdf::Algorithm, secret: &[u8], label: &str, length: usize) -> Option<Vec<u8>> {
    let label = format!("tls13 {label}");
    let size = u16::try_from(length).ok()?.to_be_bytes();
    let info = [&size[..], &[label.len() as u8], label.as_bytes(), &[0]];
    let mut out = vec![0; length];
    let prk = hkdf::Prk::new_less_safe(hash, secret);
    prk.expand(&info, Length(length)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of RFC 9001, appendix A.5: a ChaCha20-Poly1305 short header packet.
    #[test]
    fn the_packet_of_rfc_9001_opens() {
        let secret = "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b";
        let keys = Keys::new(
            "rfc",
            &bytes(secret).unwrap(),
            hkdf::HKDF_SHA256,
            &aead::CHACHA20_POLY1305,
            &aead::quic::CHACHA20,
        );
        let packet = bytes("4cfe4189655e5cd55c41f69080575d7999c25a5bfb").unwrap();
        let (number, frames) = keys.unwrap().open(&packet, 1, 0..4, |_| 654_360_560).unwrap();
        assert_eq!(frames, [0x01], "a PING");
        assert_eq!(number, Number { generation: 0, path: 0, packet: 654_360_564 });
    }

    #[test]
    fn packet_numbers_are_made_whole() {
        // RFC 9000, appendix A.3.
        assert_eq!(whole(0x9b32, 2, 0xa82f_30eb), 0xa82f_9b32);
        assert_eq!(whole(0x01, 1, 0xff), 0x101);
        assert_eq!(whole(0xff, 1, 0x101), 0xff);
    }

    #[test]
    fn the_nonce_of_path_0_is_that_of_plain_quic() {
        assert_eq!(nonce(&[0; 12], 0, 1), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(nonce(&[0xff; 12], 3, 0)[..4], [0xff, 0xff, 0xff, 0xfc]);
    }
}
