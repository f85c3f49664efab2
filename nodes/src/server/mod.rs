//! The server: accepts connections, serves files, announces where it will move.
//!
//! In: QUIC connections on the configured address and control requests. Out: file contents, and
//! an ADD_ADDRESS frame per connection for [`Request::Announce`].
//!
//! The process knows nothing of its migration: it is dumped and restored around all this. What
//! makes that work is that sockets are bound to the wildcard, every datagram names its source
//! (see [`crate::socket`]), and the announcement extension lets noq accept packets that arrive at
//! an address the connection has not seen.

mod www;

use crate::{
    control::{self, Handler, refusal},
    events::Events,
    socket::NodeSocket,
    tls, transport,
};
use anyhow::{Context, Result};
use limosa_record::{
    node::{Reply, Request, Scheme, ServerConfig},
    row::event,
};
use noq::{Connection, Endpoint, EndpointConfig, Incoming, TokioRuntime, VarInt};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use www::Www;

/// What the tasks of a server share.
struct Server {
    config: ServerConfig,
    crypto: Arc<noq::crypto::rustls::QuicServerConfig>,
    www: Www,
    events: Events,
    live: Mutex<BTreeMap<usize, Connection>>,
    stop: Notify,
}

/// Serves until told to stop.
pub(crate) async fn run(config: ServerConfig) -> Result<()> {
    let crypto = tls::server(&config)?;
    let socket = NodeSocket::bind(config.listen, None)?;
    let server = Arc::new(Server {
        www: Www::new(&config.www)?,
        events: Events::open(&config.folder)?,
        live: Mutex::default(),
        stop: Notify::new(),
        crypto,
        config,
    });
    let endpoint = Endpoint::new_with_abstract_socket(
        EndpointConfig::default(),
        Some(server.for_one_connection()?),
        Box::new(socket),
        Arc::new(TokioRuntime),
    )?;
    control::start(server.config.control, server.clone()).await?;
    tracing::info!(listen = %server.config.listen, "serving");
    loop {
        tokio::select! {
            () = server.stop.notified() => break,
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                tokio::spawn(server.clone().connection(incoming));
            }
        }
    }
    endpoint.close(VarInt::from_u32(0), b"stopped");
    // The peers need not wait for their idle timeout, but this node must not wait for them.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), endpoint.wait_idle()).await;
    Ok(())
}

impl Server {
    fn for_one_connection(&self) -> Result<noq::ServerConfig> {
        let mut config = noq::ServerConfig::with_crypto(self.crypto.clone());
        let transport = &self.config.transport;
        let transport = transport::for_one_connection(transport, &self.config.folder, "server")
            .context("transport settings")?;
        config.transport_config(transport);
        Ok(config)
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<usize, Connection>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(self: Arc<Self>, incoming: Incoming) {
        let remote = incoming.remote_address();
        let accepted = self.for_one_connection().and_then(|c| Ok(incoming.accept_with(c.into())?));
        let connection = match accepted {
            Ok(connecting) => match connecting.await {
                Ok(connection) => connection,
                Err(error) => return tracing::warn!(%error, %remote, "handshake"),
            },
            Err(error) => return tracing::warn!(%error, %remote, "cannot accept"),
        };
        self.events.now(event::CONNECTED, remote.to_string());
        let id = connection.stable_id();
        self.live().insert(id, connection.clone());
        let why = loop {
            match connection.accept_bi().await {
                Ok((send, receive)) => tokio::spawn(self.clone().request(send, receive)),
                Err(error) => break error,
            };
        };
        self.live().remove(&id);
        tracing::info!(%remote, %why, "connection over");
    }

    async fn request(self: Arc<Self>, send: noq::SendStream, receive: noq::RecvStream) {
        if let Err(error) = self.www.answer(send, receive).await {
            tracing::warn!(error = format!("{error:#}"), "request");
        }
    }

    fn announce(&self, address: SocketAddr) -> Reply {
        if self.config.transport.scheme != Scheme::Multipath {
            return refusal("only the scheme `multipath` can announce an address");
        }
        let live = self.live();
        if live.is_empty() {
            return refusal("no live connection to announce the address on");
        }
        let failed: Vec<String> = live
            .values()
            .filter_map(|connection| connection.add_nat_traversal_address(address).err())
            .map(|error| error.to_string())
            .collect();
        if let Some(first) = failed.first() {
            return refusal(format!("{} of {} connections: {first}", failed.len(), live.len()));
        }
        self.events.now(event::ANNOUNCEMENT, address.to_string());
        Reply { connections: live.len() as u64, ..Reply::default() }
    }
}

impl Handler for Server {
    fn handle(&self, request: Request) -> Reply {
        match request {
            Request::Status => Reply { connections: self.live().len() as u64, ..Reply::default() },
            Request::Start => refusal("a server has nothing to start"),
            Request::Announce(address) => self.announce(address),
            Request::Stop => {
                self.stop.notify_one();
                Reply::default()
            }
        }
    }
}
