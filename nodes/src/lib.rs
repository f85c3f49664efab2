//! The QUIC endpoints of Limosa: a file server that can be moved while it serves, and a client
//! that downloads from it under a migration scheme.
//!
//! In: a configuration file ([`limosa_record::node::NodeConfig`]) and requests on the control
//! socket. Out: rows in the node's folder and, for a client, the downloaded file and
//! [`RESULT_FILE`](limosa_record::node::RESULT_FILE). No root, no netlink, no harness in here.
//!
//! A node can be dumped by CRIU at any time: one thread, plain files, epoll and UDP sockets only.

mod ballast;
mod client;
mod congestion;
mod control;
mod dns;
mod events;
mod logs;
mod migration;
mod mptcp;
mod pace;
pub mod probe;
mod random;
mod scheme;
mod server;
mod socket;
mod store;
mod strangers;
mod tls;
mod transport;

pub use scheme::rendition::{Rendition, renditions};

use anyhow::{Context, Result};
use limosa_record::{fault, node::NodeConfig};
use std::{fs, path::Path};
use tracing_subscriber::EnvFilter;

/// Runs the node that a configuration file describes, until it is done or told to stop.
///
/// # Errors
/// When the configuration is unusable, a socket or file cannot be opened, or the download failed.
pub fn run(config_file: &Path) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A second node in one process (tests) keeps the first one's subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(logs::writer)
        .try_init();
    let config = read(config_file)?;
    fault::prefix(match config {
        NodeConfig::Server(_) => "server/",
        NodeConfig::Client(_) => "client/",
    });
    fault::here("start")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match config {
            NodeConfig::Server(config) => server::run(config).await,
            NodeConfig::Client(config) => client::run(config).await,
        }
    })
}

fn read(path: &Path) -> Result<NodeConfig> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))
}
