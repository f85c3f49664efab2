//! The body of the download: saved and timed as it arrives, hashed when it is over, so that the
//! hash takes no time from the transfer.

use super::playback::Playback;
use crate::{events::Events, tls::hex};
use anyhow::{Context, Result};
use limosa_record::{clock, fault, node::PlaybackResult, row::event};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::Path,
};

/// A time without a byte of the body that is worth an event, in ns.
const GAP_NS: i64 = 100_000_000;

/// Bytes that are written at a time: a call per packet would take as long as the packet.
const WRITE_BYTES: usize = 256 * 1024;

/// The file being downloaded.
#[derive(Debug)]
pub(crate) struct Body {
    file: BufWriter<File>,
    bytes: u64,
    last_byte_ns: Option<i64>,
    longest_gap_ns: Option<i64>,
    playback: Option<Playback>,
    events: Events,
}

/// How a body ended up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Bytes in the file.
    pub(crate) bytes: u64,
    /// SHA-256 of these in hexadecimal.
    pub(crate) sha256: String,
    /// Arrival of the last byte, CLOCK_REALTIME in ns.
    pub(crate) last_byte_ns: Option<i64>,
    /// The longest time without a byte between the first and the last, in ns.
    pub(crate) longest_gap_ns: Option<i64>,
    /// What a viewer saw, if it was played.
    pub(crate) playback: Option<PlaybackResult>,
}

impl Body {
    /// Creates or empties the file. `play_bytes_per_s`: at what rate the body is played.
    pub(crate) fn create(
        path: &Path,
        events: Events,
        play_bytes_per_s: Option<u64>,
    ) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.with_context(|| format!("create {}", path.display()))?;
        let file = BufWriter::with_capacity(WRITE_BYTES, file);
        let (last_byte_ns, longest_gap_ns) = (None, None);
        let playback = play_bytes_per_s.map(Playback::new);
        Ok(Self { file, bytes: 0, last_byte_ns, longest_gap_ns, playback, events })
    }

    /// Forgets what has arrived; the stall goes on until the next byte.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.flush().context("save the body")?;
        self.file.get_ref().set_len(0).context("empty the file again")?;
        self.file.rewind()?;
        self.bytes = 0;
        Ok(())
    }

    /// Takes the next bytes and returns how many there are now.
    pub(crate) fn add(&mut self, chunk: &[u8]) -> Result<u64> {
        let now_ns = clock::now_ns();
        self.arrived(now_ns);
        if let Some(playback) = &mut self.playback {
            playback.arrived(self.bytes, chunk.len() as u64, now_ns);
        }
        fault::here("write/body")
            .and_then(|()| self.file.write_all(chunk))
            .context("save the body")?;
        self.bytes += chunk.len() as u64;
        Ok(self.bytes)
    }

    /// Bytes have arrived that cannot be added yet.
    pub(crate) fn arriving(&mut self) {
        self.arrived(clock::now_ns());
    }

    fn arrived(&mut self, now_ns: i64) {
        if let Some(last) = self.last_byte_ns {
            let gap = now_ns - last;
            self.longest_gap_ns = self.longest_gap_ns.max(Some(gap));
            if gap > GAP_NS {
                self.events.span(event::GAP, format!("{} ms", gap / 1_000_000), last, now_ns);
            }
        }
        self.last_byte_ns = Some(now_ns);
    }

    /// What has become of it.
    ///
    /// # Errors
    /// When the file cannot be written or read.
    pub(crate) fn summary(mut self) -> Result<Summary> {
        // Seeking writes what is still to be written.
        self.file.rewind().context("save the body")?;
        let mut hasher = Sha256::new();
        io::copy(self.file.get_mut(), &mut hasher).context("read the body again")?;
        let mut sha256 = String::new();
        hex(&mut sha256, &hasher.finalize());
        Ok(Summary {
            bytes: self.bytes,
            sha256,
            last_byte_ns: self.last_byte_ns,
            longest_gap_ns: self.longest_gap_ns,
            playback: self.playback.map(|playback| playback.result()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EVENTS_FILE;
    use limosa_record::row::{self, NodeEventRow};

    #[test]
    fn a_restart_forgets_the_bytes_but_not_the_gap() {
        let folder = tempfile::tempdir().unwrap();
        let events = Events::open(folder.path()).unwrap();
        let mut body = Body::create(&folder.path().join("body"), events, None).unwrap();
        body.add(b"lost").unwrap();
        body.restart().unwrap();
        body.last_byte_ns = body.last_byte_ns.map(|ns| ns - 30_000_000_000);
        body.add(b"abc").unwrap();
        let summary = body.summary().unwrap();
        assert_eq!(std::fs::read(folder.path().join("body")).unwrap(), b"abc");
        assert_eq!(summary.bytes, 3);
        assert!(summary.sha256.starts_with("ba7816bf8f01cfea414140de5dae2223"));
        assert!(summary.longest_gap_ns >= Some(30_000_000_000));
        let rows: Vec<NodeEventRow> = row::read(&folder.path().join(EVENTS_FILE)).unwrap();
        assert_eq!(rows.iter().filter(|row| row.event == event::GAP).count(), 1);
    }
}
