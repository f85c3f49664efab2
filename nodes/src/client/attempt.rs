//! One request on one connection, and what its failure means for the download.

use super::{Body, Client};
use anyhow::anyhow;
use noq::{Connection, ConnectionError, ReadError, VarInt, WriteError};

/// Why an attempt ended without the whole body.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection died; another one may do better.
    Lost(String),
    /// Another connection would end the same way.
    Fatal(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Fatal(error)
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        match error {
            // A bad certificate, no common ALPN and the like; time does not heal these.
            ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::VersionMismatch => Self::Fatal(error.into()),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Fatal(anyhow!("server refused with code {code}")),
            ReadError::ConnectionLost(lost) => lost.into(),
            other => Self::Fatal(other.into()),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(lost) => lost.into(),
            other => Self::Fatal(other.into()),
        }
    }
}

/// Asks for the file and takes the body to its last byte.
pub(crate) async fn get(
    client: &Client,
    connection: &Connection,
    body: &mut Body,
) -> Result<(), Failure> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(client.request_line().as_bytes()).await?;
    // The server reads to the end of the line; nothing depends on the stream's end.
    let _ = send.finish();
    while let Some(chunk) = receive.read_chunk(usize::MAX).await? {
        client.progress(body.add(&chunk)?);
        // Hashing a full window at a stretch would hold back acknowledgements.
        tokio::task::consume_budget().await;
    }
    connection.close(VarInt::from_u32(0), b"done");
    Ok(())
}
