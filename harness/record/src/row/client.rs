//! The row of one of several clients.

use serde::{Deserialize, Serialize};

/// One row of `clients.csv`: what one of several clients showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Name of the variant.
    pub variant: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
    /// Number of the client, from 1; empty for a client that is alone.
    pub client: Option<u16>,
    /// Why it did not come to its end.
    pub error: Option<String>,
    /// From the start of the handshake to the last byte of the body.
    pub turnaround_s: Option<f64>,
    /// Bytes of the body.
    pub bytes: Option<u64>,
    /// Whether the SHA-256 of the body equals the source's.
    pub body_matches: Option<bool>,
    /// The longest time without a byte of the body.
    pub stall_s: Option<f64>,
    /// From the end of the restore to the next byte of the body, or to the next answer where an
    /// answer was waited for.
    pub resume_delay_s: Option<f64>,
    /// Response time of the first request that was sent after the restore.
    pub first_response_s: Option<f64>,
    /// New connections that had to be made.
    pub reconnects: Option<u64>,
    /// Requests that were answered, and rightly.
    pub requests_ok: Option<u64>,
    /// Requests for objects that are on no server any more.
    pub requests_lost: Option<u64>,
    /// Requests that failed otherwise.
    pub requests_failed: Option<u64>,
    /// Announced addresses that it refused; empty when nothing was announced.
    pub announcements_refused: Option<u64>,
}
