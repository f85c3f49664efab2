//! What kinds of frames a 1-RTT packet carries (RFC 9000, section 19; RFC 9221; RFC 10069; n0's NAT
//! traversal and address discovery extensions).

use super::varint;

/// What a packet is good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    /// It says that somebody is there: PATH_RESPONSE.
    pub response: bool,
    /// It carries something of the application: STREAM or DATAGRAM, or a frame that nobody knows.
    pub data: bool,
}

/// Reads the frames of an opened packet.
pub fn kinds(mut payload: &[u8]) -> Kinds {
    let mut kinds = Kinds::default();
    while !payload.is_empty() {
        let Some((kind, rest)) = varint(payload) else { break };
        kinds.response |= kind == 0x1b;
        let Some(rest) = skip(kind, rest) else {
            kinds.data = true;
            break;
        };
        payload = rest;
    }
    kinds
}

/// What comes behind a frame without data of the application.
fn skip(kind: u64, rest: &[u8]) -> Option<&[u8]> {
    match kind {
        // PADDING, PING, HANDSHAKE_DONE, IMMEDIATE_ACK.
        0x00 | 0x01 | 0x1e | 0x1f => Some(rest),
        // ACK and PATH_ACK, whose path id comes first.
        0x02 | 0x03 => acknowledgement(kind == 0x03, rest),
        0x3e | 0x3f => acknowledgement(kind == 0x3f, varints(1, rest)?),
        // PATH_CHALLENGE, PATH_RESPONSE.
        0x1a | 0x1b => rest.get(8..),
        // NEW_CONNECTION_ID and PATH_NEW_CONNECTION_ID: numbers, an id, a token.
        0x18 | 0x3e78 => {
            let rest = varints(if kind == 0x18 { 2 } else { 3 }, rest)?;
            let length = usize::from(*rest.first()?);
            rest.get(1 + length + 16..)
        }
        // MAX_DATA, MAX_STREAMS, DATA_BLOCKED, STREAMS_BLOCKED, RETIRE_CONNECTION_ID, MAX_PATH_ID,
        // PATHS_BLOCKED, REMOVE_ADDRESS.
        0x10 | 0x12..=0x14 | 0x16 | 0x17 | 0x19 | 0x3e7a | 0x3e7b | 0x3d_7f94 => varints(1, rest),
        // MAX_STREAM_DATA, STREAM_DATA_BLOCKED, STOP_SENDING, PATH_ABANDON, PATH_STATUS_*,
        // PATH_RETIRE_CONNECTION_ID, PATH_CIDS_BLOCKED.
        0x05 | 0x11 | 0x15 | 0x3e75..=0x3e77 | 0x3e79 | 0x3e7c => varints(2, rest),
        // RESET_STREAM, ACK_FREQUENCY.
        0x04 => varints(3, rest),
        0xaf => varints(4, rest),
        // ADD_ADDRESS, REACH_OUT and OBSERVED_ADDRESS of either family: a number, address and port.
        0x3d_7f90 | 0x3d_7f92 | 0x9f_81a6 => varints(1, rest)?.get(6..),
        0x3d_7f91 | 0x3d_7f93 | 0x9f_81a7 => varints(1, rest)?.get(18..),
        _ => None,
    }
}

/// What comes behind so many numbers.
fn varints(n: usize, rest: &[u8]) -> Option<&[u8]> {
    (0..n).try_fold(rest, |rest, _| Some(varint(rest)?.1))
}

fn acknowledgement(ecn: bool, rest: &[u8]) -> Option<&[u8]> {
    let (_largest, rest) = varint(rest)?;
    let (_delay, rest) = varint(rest)?;
    let (ranges, rest) = varint(rest)?;
    let ranges = usize::try_from(ranges).ok().filter(|ranges| *ranges <= rest.len())?;
    varints(1 + 2 * ranges + if ecn { 3 } else { 0 }, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_and_an_unknown_one_counts_as_data() {
        let challenge = [&[0x1a, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0; 20]].concat();
        assert_eq!(kinds(&challenge), Kinds::default());
        // An ACK with one further range, a PING, and a PATH_RESPONSE.
        let mixed = [&[0x02, 9, 0, 1, 2, 0, 1, 0x01, 0x1b][..], &[7; 8]].concat();
        assert_eq!(kinds(&mixed), Kinds { response: true, ..Kinds::default() });
        let data = Kinds { data: true, ..Kinds::default() };
        assert_eq!(kinds(&[0x01, 0x0a, 0, 3, b'G', b'E', b'T']), data);
        assert_eq!(kinds(&[0x2a, 0, 0]), data);
        assert_eq!(kinds(&[0x1a, 1]), data, "cut off");
    }
}
