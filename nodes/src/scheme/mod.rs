//! The migration schemes: what a client does so that its download survives the server's move.

mod multipath;
mod quic;

use crate::client::{Body, Client};
use anyhow::Result;
use limosa_record::node::Scheme;

/// Downloads the body under the configured scheme.
///
/// # Errors
/// When no further attempt could succeed.
pub(crate) async fn download(client: &Client, body: &mut Body) -> Result<()> {
    match client.config.transport.scheme {
        Scheme::Quic => quic::download(client, body).await,
        Scheme::Multipath => multipath::download(client, body).await,
    }
}
