//! The migration schemes: what a client does so that its workload survives the server's move.

mod announced;
mod detector;
mod follow;
mod handover;
mod http;
mod ladder;
mod mptcp_tunnel;
mod multipath;
mod quic;
pub(crate) mod rendition;
mod retired;

use crate::client::{Body, Client};
use anyhow::Result;
use limosa_record::node::Scheme;

/// Does the workload under the configured scheme; a download goes into the body.
///
/// # Errors
/// When no further attempt could succeed.
pub(crate) async fn run(client: &Client, body: &mut Body) -> Result<()> {
    match client.config.transport.scheme {
        Scheme::Quic => quic::run(client, body).await,
        Scheme::Multipath => multipath::run(client, body).await,
        Scheme::MptcpTunnel => mptcp_tunnel::run(client, body).await,
        Scheme::DualPath | Scheme::PostCopy => handover::run(client, body).await,
        Scheme::Proactive
        | Scheme::Reactive
        | Scheme::Pool
        | Scheme::Lookup
        | Scheme::Symmetric
        | Scheme::SynchronizedSymmetric => follow::run(client, body).await,
        Scheme::Http => http::run(client, body).await,
    }
}
