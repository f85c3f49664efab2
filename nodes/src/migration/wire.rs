//! What the two servers say to each other: JSON, one message a line, on one bidirectional stream
//! that the old server opens; and each object on a unidirectional stream of its own, an
//! [`ObjectHead`] line and the bytes.

use anyhow::{Context, Result};
use noq::{RecvStream, SendStream};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// From the old to the new server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ToTarget {
    /// The first message: what do you hold?
    Hello,
    /// Answer this client's requests for this object from this number on.
    Commit {
        /// The object.
        id: String,
        /// The client.
        client: u16,
        /// The first request.
        cut: u64,
    },
    /// Everything is yours.
    Complete,
    /// Everything is mine again: clients have found you gone.
    TakenBack,
}

/// From the new to the old server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ToOrigin {
    /// I hold this version.
    Held {
        /// The object.
        id: String,
        /// The version, as text.
        version: String,
    },
    /// After `Hello`: all that I hold was told.
    Ready,
    /// Send this object at once.
    Pull {
        /// The object.
        id: String,
    },
}

/// The first line of an object's stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectHead {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) size: u64,
}

/// Longest line in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Reads lines, and what comes after them, from a stream.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: RecvStream,
    buffer: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next line without its end; `None` at the end of the stream.
    pub(crate) async fn line(&mut self) -> Result<Option<String>> {
        let mut looked_at = 0;
        loop {
            if let Some(at) = self.buffer[looked_at..].iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=looked_at + at).collect();
                line.pop();
                line.pop_if(|last| *last == b'\r');
                return Ok(Some(String::from_utf8(line).context("line is not UTF-8")?));
            }
            looked_at = self.buffer.len();
            anyhow::ensure!(looked_at < MAX_LINE, "line is too long");
            match self.stream.read_chunk(MAX_LINE).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// The next message.
    pub(crate) async fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(line) = self.line().await? else { return Ok(None) };
        Ok(Some(serde_json::from_str(&line).with_context(|| format!("odd message {line}"))?))
    }

    /// The next bytes, until the end of the stream.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, noq::ReadError> {
        if !self.buffer.is_empty() {
            return Ok(Some(std::mem::take(&mut self.buffer)));
        }
        Ok(self.stream.read_chunk(usize::MAX).await?.map(|chunk| chunk.to_vec()))
    }

    /// Exactly so many bytes.
    pub(crate) async fn body(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let chunk = self.chunk().await?.context("the body is too short")?;
            body.extend_from_slice(&chunk);
        }
        anyhow::ensure!(body.len() as u64 == size, "the body is too long");
        Ok(body)
    }
}

/// Writes one message.
pub(crate) async fn write(stream: &mut SendStream, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(stream.write_all(&line).await?)
}
