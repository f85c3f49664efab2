//! The scheme `quic`, the paper's baseline: one path and no migration.
//!
//! When the server goes away the client notices by its idle timeout, forgets what it has, and
//! starts again from zero at the next fallback address (Nakano et al. 2025: "when a client program
//! fails, the address of the destination server is provided and the program is executed again").

use crate::{
    client::{Body, Client, Failure, get},
    socket::NodeSocket,
};
use anyhow::{Context, Result};
use limosa_record::row::event;
use noq::{Connection, Endpoint, PathId, VarInt};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// How long a handshake may take before the next address is tried; quic-go's default.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed attempt, so that an unreachable network does not make a busy loop.
const PAUSE: Duration = Duration::from_millis(100);

/// Downloads over one path from the first interface.
pub(super) async fn download(client: &Client, body: &mut Body) -> Result<()> {
    let local = client.config.local.first().copied();
    let ip = local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let endpoint = client.endpoint(NodeSocket::bind(SocketAddr::new(ip, 0), None)?)?;
    until_done(client, body, endpoint, async |_| std::future::pending().await).await
}

/// Attempts the download again and again, `beside` running next to each attempt.
pub(super) async fn until_done(
    client: &Client,
    body: &mut Body,
    endpoint: &Endpoint,
    beside: impl AsyncFn(&Connection) -> Failure,
) -> Result<()> {
    let config = &client.config;
    let mut fallback = config.fallback.iter().cycle();
    let mut address = config.connect;
    loop {
        let failure = match attempt(client, body, endpoint, address, &beside).await {
            Ok(()) => break,
            Err(failure) => failure,
        };
        let why = match failure {
            Failure::Fatal(error) => return Err(error.context(format!("download from {address}"))),
            Failure::Lost(why) => why,
        };
        client.events.now(event::CONNECTION_LOST, format!("{address}: {why}"));
        tokio::time::sleep(PAUSE).await;
        body.restart()?;
        client.reconnecting();
        address = fallback.next().copied().unwrap_or(config.connect);
    }
    Ok(())
}

async fn attempt(
    client: &Client,
    body: &mut Body,
    endpoint: &Endpoint,
    address: SocketAddr,
    beside: &impl AsyncFn(&Connection) -> Failure,
) -> Result<(), Failure> {
    let connecting = endpoint
        .connect_with(client.for_one_connection()?, address, &client.config.server_name)
        .with_context(|| format!("connect to {address}"))?;
    let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting)
        .await
        .map_err(|_| Failure::Lost("handshake timed out".into()))??;
    client.events.now(event::CONNECTED, address.to_string());
    if let Some(path) = connection.path(PathId::ZERO) {
        client.meter.track(0, path);
    }
    let outcome = tokio::select! {
        outcome = get(client, &connection, body) => outcome,
        failure = beside(&connection) => Err(failure),
    };
    if outcome.is_err() {
        // The meter holds on to the paths, so the connection would not close by itself.
        connection.close(VarInt::from_u32(0), b"given up");
    }
    outcome
}
