//! The scheme `quic`, the paper's baseline: one path and no migration.
//!
//! When the server goes away the client notices by its idle timeout, forgets what it has, and
//! starts again from zero at the next fallback address (Nakano et al. 2025: "when a client program
//! fails, the address of the destination server is provided and the program is executed again").
//! A request workload goes on where it was; what was under way has failed.

use crate::{
    client::{Body, Client, Failure, Link, Route, Router, get},
    socket::NodeSocket,
    store::wire::To,
};
use anyhow::{Context, Result};
use limosa_record::{node::Workload, row::event};
use noq::{Connection, Endpoint, PathId, VarInt};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How long a handshake may take before the next address is tried; quic-go's default.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed attempt, so that an unreachable network does not make a busy loop.
const PAUSE: Duration = Duration::from_millis(100);

/// Works over one path from the first interface.
pub(super) async fn run(client: &Client, body: &mut Body) -> Result<()> {
    let socket = match client.config.local.first() {
        Some(ip) if client.config.behind.is_empty() => {
            NodeSocket::bind(SocketAddr::new(*ip, 0), None)?
        }
        _ => client.socket()?,
    };
    let endpoint = &client.endpoint(socket)?;
    work(client, body, endpoint, async |_| std::future::pending().await).await
}

/// Does the workload, over one connection after the other, `beside` running next to each.
pub(super) async fn work(
    client: &Client,
    body: &mut Body,
    endpoint: &Endpoint,
    beside: impl AsyncFn(&Arc<Link>) -> Failure,
) -> Result<()> {
    if client.config.workload == Workload::Download {
        return download(client, body, endpoint, beside).await;
    }
    let router = Router::new(false);
    tokio::select! {
        outcome = client.work(&router, body) => outcome,
        outcome = keep_connected(client, endpoint, &router, beside) => outcome,
    }
}

/// Attempts the download again and again.
async fn download(
    client: &Client,
    body: &mut Body,
    endpoint: &Endpoint,
    beside: impl AsyncFn(&Arc<Link>) -> Failure,
) -> Result<()> {
    let mut addresses = addresses(client);
    loop {
        let address = addresses.next().unwrap_or(client.config.connect);
        let failure = match connect(client, endpoint, address).await {
            Ok(connection) => {
                let link = Arc::new(Link::new(connection.clone(), false));
                // The whole body is one answer that is waited for.
                let _counted = link.count();
                let outcome = tokio::select! {
                    outcome = get(client, &connection, body) => outcome,
                    failure = beside(&link) => Err(failure),
                };
                let Err(failure) = outcome else { return Ok(()) };
                // The meter holds on to the paths, so the connection would not close by itself.
                connection.close(VarInt::from_u32(0), b"given up");
                failure
            }
            Err(failure) => failure,
        };
        lost(client, address, failure).await?;
        body.restart()?;
        client.reconnecting();
    }
}

/// Connects again and again, and tells the router.
async fn keep_connected(
    client: &Client,
    endpoint: &Endpoint,
    router: &Router,
    beside: impl AsyncFn(&Arc<Link>) -> Failure,
) -> Result<()> {
    let mut addresses = addresses(client);
    loop {
        let address = addresses.next().unwrap_or(client.config.connect);
        let failure = match connect(client, endpoint, address).await {
            Ok(connection) => {
                let link = Arc::new(Link::new(connection.clone(), false));
                router.set(Route::One { link: link.clone(), to: To::Only });
                let failure = tokio::select! {
                    why = connection.closed() => why.into(),
                    failure = beside(&link) => failure,
                };
                router.set(Route::Wait);
                connection.close(VarInt::from_u32(0), b"given up");
                failure
            }
            Err(failure) => failure,
        };
        lost(client, address, failure).await?;
        client.reconnecting();
    }
}

/// Where to connect: first to the configured address, then to the others in turn.
fn addresses(client: &Client) -> impl Iterator<Item = SocketAddr> {
    std::iter::once(client.config.connect).chain(client.config.fallback.iter().copied().cycle())
}

async fn lost(client: &Client, address: SocketAddr, failure: Failure) -> Result<()> {
    let why = match failure {
        Failure::Fatal(error) => return Err(error.context(format!("connection to {address}"))),
        Failure::Lost(why) => why,
    };
    client.events.now(event::CONNECTION_LOST, format!("{address}: {why}"));
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

async fn connect(
    client: &Client,
    endpoint: &Endpoint,
    address: SocketAddr,
) -> Result<Connection, Failure> {
    let connecting = endpoint
        .connect_with(client.for_one_connection()?, address, &client.config.server_name)
        .with_context(|| format!("connect to {address}"))?;
    let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting)
        .await
        .map_err(|_| Failure::Lost("handshake timed out".into()))??;
    // A server knows its clients by their ports.
    let port = endpoint.local_addr().map(|local| local.port()).unwrap_or_default();
    client.connected(format!("{address} from port {port}"));
    if let Some(path) = connection.path(PathId::ZERO) {
        client.meter.track(client.config.interface_toward(address.ip()), path);
    }
    Ok(connection)
}
