//! The one byte stream between host and guest: frames of `kind (1 byte), length (4 bytes, little endian), payload`.
//!
//! A single ordered stream carries output, signals and the exit code, so that the exit code cannot overtake the output.
//! Kernel interface: a virtio-serial port inside, a socket that QEMU inherits outside.

use std::io::{self, Read, Write};

/// Longest payload; anything longer means that the stream is out of step.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Guest to host: the agent is up and is about to start the command.
    Ready,
    /// Guest to host: bytes of the command's standard output.
    Stdout(Vec<u8>),
    /// Guest to host: bytes of the command's standard error.
    Stderr(Vec<u8>),
    /// Guest to host: the command ended with this code, and all its files are written.
    Exit(i32),
    /// Guest to host: the command could not be started.
    Failed(String),
    /// Host to guest: send this signal to the command.
    Signal(i32),
    /// Guest to host: what time is it?
    AskTime,
    /// Host to guest: nanoseconds since 1970, UTC.
    Time(i64),
}

impl Frame {
    /// The frame's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let number;
        let time;
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Ready => (1, &[]),
            Self::Stdout(bytes) => (2, bytes),
            Self::Stderr(bytes) => (3, bytes),
            Self::Exit(code) => {
                number = code.to_le_bytes();
                (4, &number)
            }
            Self::Failed(reason) => (5, reason.as_bytes()),
            Self::Signal(signal) => {
                number = signal.to_le_bytes();
                (6, &number)
            }
            Self::AskTime => (7, &[]),
            Self::Time(nanoseconds) => {
                time = nanoseconds.to_le_bytes();
                (8, &time)
            }
        };
        let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
        let length = u32::try_from(payload.len()).expect("a payload is at most MAX_PAYLOAD");
        let mut bytes = Vec::with_capacity(5 + payload.len());
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Splits a header into kind and payload length.
    pub(super) fn header(header: [u8; 5]) -> io::Result<(u8, usize)> {
        let [kind, a, b, c, d] = header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MAX_PAYLOAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "frame too long: host and guest are out of step",
            ));
        }
        Ok((kind, length))
    }

    /// The frame of this kind with this payload.
    pub(super) fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        let number =
            || {
                payload.as_slice().try_into().map(i32::from_le_bytes).map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, "number of a wrong size")
                })
            };
        Ok(match kind {
            1 => Self::Ready,
            4 => Self::Exit(number()?),
            6 => Self::Signal(number()?),
            2 => Self::Stdout(payload),
            3 => Self::Stderr(payload),
            7 => Self::AskTime,
            8 => Self::Time(
                payload.as_slice().try_into().map(i64::from_le_bytes).map_err(|_| wrong_size())?,
            ),
            5 => Self::Failed(String::from_utf8_lossy(&payload).into_owned()),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("unknown frame kind {kind}"),
                ));
            }
        })
    }

    /// Reads one frame, blocking.
    pub(super) fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 5];
        stream.read_exact(&mut header)?;
        let (kind, length) = Self::header(header)?;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        Self::decode(kind, payload)
    }

    /// Writes one frame, blocking.
    pub(super) fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        stream.write_all(&self.encode())
    }
}

fn wrong_size() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "number of a wrong size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives_the_wire() {
        let frames = [
            Frame::Ready,
            Frame::Stdout(vec![0, 10, 13, 255]),
            Frame::Stderr(Vec::new()),
            Frame::Exit(-7),
            Frame::Failed("no such file".to_owned()),
            Frame::Signal(2),
            Frame::AskTime,
            Frame::Time(1 << 60),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut stream = bytes.as_slice();
        for frame in frames {
            assert_eq!(Frame::read(&mut stream).expect("frame was just encoded"), frame);
        }
        assert!(stream.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Frame::read(&mut [9, 0, 0, 0, 0].as_slice()).is_err());
        assert!(Frame::read(&mut [2, 255, 255, 255, 255].as_slice()).is_err());
        assert!(Frame::read(&mut [4, 1, 0, 0, 0, 7].as_slice()).is_err());
    }
}
