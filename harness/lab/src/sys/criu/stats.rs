//! The images `stats-dump` and `stats-restore` that CRIU leaves in its working folder.
//!
//! Input: such a file. Output: its numbers by field number. The fields are those of CRIU's
//! images/stats.proto; five integers do not make a protobuf library worth it.

use std::{fs, path::Path};

/// The numbers of a statistics image: two magic numbers, a length, and a protobuf message that
/// holds one message of plain integers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stats(Vec<(u64, u64)>);

impl Stats {
    /// Statistics are a luxury: what cannot be read is empty.
    pub(super) fn read(path: &Path, message: u64) -> Self {
        fs::read(path).ok().and_then(|bytes| Self::decode(&bytes, message)).unwrap_or_default()
    }

    fn decode(bytes: &[u8], message: u64) -> Option<Self> {
        const SERVICE_MAGIC: [u8; 4] = 0x5510_5940_u32.to_le_bytes();
        const STATS_MAGIC: [u8; 4] = 0x5709_3306_u32.to_le_bytes();
        let rest = bytes.strip_prefix(&SERVICE_MAGIC)?.strip_prefix(&STATS_MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let mut entry = rest.get(..u32::from_le_bytes(*length) as usize)?;
        const LENGTH_DELIMITED: u64 = 2;
        while !entry.is_empty() {
            let key = varint(&mut entry)?;
            if key & 7 != LENGTH_DELIMITED {
                return None;
            }
            let (mut fields, after) = delimited(&mut entry)?;
            if key >> 3 == message {
                let mut numbers = Vec::new();
                while !fields.is_empty() {
                    let key = varint(&mut fields)?;
                    if key & 7 != 0 {
                        return None;
                    }
                    numbers.push((key >> 3, varint(&mut fields)?));
                }
                return Some(Self(numbers));
            }
            entry = after;
        }
        None
    }

    /// The value of a field by its number in stats.proto.
    pub(super) fn get(&self, field: u64) -> Option<u64> {
        self.0.iter().find(|(number, _)| *number == field).map(|(_, value)| *value)
    }
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    bytes.split_at_checked(length)
}

/// A base-128 number, least significant group first (protobuf encoding).
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left by criu 4.1.1.
    const DUMP: [u8; 50] = [
        0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57, 0x26, 0x00, 0x00, 0x00, 0x0a, 0x24, 0x08,
        0xd4, 0xcc, 0x02, 0x10, 0xa0, 0xe9, 0x1e, 0x18, 0x9f, 0x8f, 0x04, 0x20, 0xec, 0x8f, 0x01,
        0x28, 0x55, 0x30, 0x00, 0x38, 0x39, 0x40, 0x00, 0x48, 0x00, 0x50, 0x0c, 0x58, 0x0c, 0x60,
        0x00, 0x68, 0x00, 0x70, 0x00,
    ];
    const RESTORE: [u8; 27] = [
        0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57, 0x0f, 0x00, 0x00, 0x00, 0x12, 0x0d, 0x08,
        0x00, 0x10, 0x00, 0x18, 0x98, 0x45, 0x20, 0x8b, 0xef, 0x07, 0x28, 0x39,
    ];

    #[test]
    fn statistics_are_decoded() {
        let dump = Stats::decode(&DUMP, 1).unwrap();
        assert_eq!((dump.get(1), dump.get(2)), (Some(42_580), Some(504_992)));
        assert_eq!((dump.get(5), dump.get(7)), (Some(85), Some(57)));
        let restore = Stats::decode(&RESTORE, 2).unwrap();
        assert_eq!((restore.get(3), restore.get(4)), (Some(8_856), Some(128_907)));
        assert_eq!(restore.get(5), Some(57));
    }

    #[test]
    fn damaged_statistics_are_no_statistics() {
        for end in 0..DUMP.len() {
            assert_eq!(Stats::decode(&DUMP[..end], 1), None, "cut at {end}");
        }
        assert_eq!(Stats::decode(&DUMP, 2), None);
        let mut endless = DUMP;
        endless[12..].fill(0xff);
        assert_eq!(Stats::decode(&endless, 1), None);
    }
}
