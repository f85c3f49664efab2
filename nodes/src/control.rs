//! The control socket: one JSON datagram asks, one answers.
//!
//! In: a UDP socket on the loopback of the node's namespace, which a checkpoint carries along. Out:
//! calls of a [`Handler`]. A datagram that is no request is answered with an error.

use anyhow::{Context, Result};
use limosa_record::{
    fault,
    node::{Reply, Request},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::UdpSocket;

/// What a node does when it is asked.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(self: &Arc<Self>, request: Request) -> Reply;
}

/// An answer that says why not.
pub(crate) fn refusal(why: impl Into<String>) -> Reply {
    Reply { error: Some(why.into()), ..Reply::default() }
}

/// Binds the control socket and answers in the background.
pub(crate) async fn start(address: SocketAddr, handler: Arc<impl Handler>) -> Result<()> {
    let socket =
        UdpSocket::bind(address).await.with_context(|| format!("bind control socket {address}"))?;
    tokio::spawn(serve(socket, handler));
    Ok(())
}

async fn serve(socket: UdpSocket, handler: Arc<impl Handler>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, sender) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "control socket");
                continue;
            }
        };
        let reply = match serde_json::from_slice::<Request>(&buffer[..length]) {
            Ok(request) => {
                // Who waits for something asks for the status again and again.
                match request {
                    Request::Status => tracing::debug!(?request, %sender, "control"),
                    _ => tracing::info!(?request, %sender, "control"),
                }
                match fault::here(format_args!("asked/{}", request.name())) {
                    Ok(()) => handler.handle(request),
                    Err(error) => refusal(error.to_string()),
                }
            }
            Err(error) => refusal(format!("not a request: {error}")),
        };
        let sent = match serde_json::to_vec(&reply) {
            Ok(json) => socket.send_to(&json, sender).await.map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = sent {
            tracing::warn!(%error, %sender, "cannot answer");
        }
    }
}
