//! The server: accepts connections, serves files and objects, announces where it will move.
//!
//! In: QUIC connections on the configured address and control requests. Out: file and object
//! contents, an ADD_ADDRESS frame per connection for [`Request::Announce`], and the old or the new
//! server's part in a [`migration`](crate::migration).
//!
//! The process knows nothing of its migration by checkpoint: it is dumped and restored around all
//! this. What makes that work is that sockets are bound to the wildcard, every datagram names its
//! source (see [`crate::socket`]), and the announcement extension lets noq accept packets that
//! arrive at an address the connection has not seen.

mod objects;
mod roles;
mod www;

use crate::{
    ballast,
    control::{self, Handler, refusal},
    events::Events,
    migration::{service::Shared, wire::Lines},
    mptcp,
    socket::{Port, is_ours},
    store::Store,
    tls, transport,
};
use anyhow::{Context, Result};
use futures_util::StreamExt;
use limosa_record::{
    node::{Reply, Request, Scheme, ServerConfig},
    row::event,
};
use noq::{Connection, Endpoint, Incoming, PathId, TokioRuntime, VarInt};
use objects::{Answers, Asked};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
pub(crate) use www::Www;

/// Code of a stream that says nothing but that the client is to go on with the new server.
pub(crate) const RELEASED: &[u8] = b"RELEASED\r\n";

/// Longest acknowledgement of an announcement.
const HEARD_BYTES: usize = 128;

/// What a client says on a stream of its own when it has taken note of an announcement, because
/// noq does not tell a server that a frame was acknowledged.
pub(crate) fn heard(address: SocketAddr) -> Vec<u8> {
    format!("HEARD {address}\r\n").into_bytes()
}

/// Announces an address; `again`: also when it was announced before, because noq sends each only
/// once.
fn tell(
    connection: &Connection,
    address: SocketAddr,
    again: bool,
) -> Result<(), noq_proto::n0_nat_traversal::Error> {
    if again {
        connection.remove_nat_traversal_address(address)?;
    }
    connection.add_nat_traversal_address(address)
}

/// What is announced by a server that will move and does not know where to.
fn nowhere(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// What the tasks of a server share.
struct Server {
    config: ServerConfig,
    www: Www,
    events: Events,
    answers: Answers,
    shared: Arc<Shared>,
    port: Port,
    now: Mutex<Now>,
    stop: Notify,
}

/// What becomes another when a copy becomes the new server.
struct Now {
    folder: PathBuf,
    crypto: Arc<noq::crypto::rustls::QuicServerConfig>,
    endpoint: Endpoint,
    live: BTreeMap<usize, Connection>,
    /// The newest announcement, and the connections whose clients have acknowledged it.
    announced: Option<(SocketAddr, BTreeSet<usize>)>,
    /// The connections whose clients have come to where this server is since it moved.
    arrived: BTreeSet<usize>,
    /// The connection to the other server, if this one has a part in a migration.
    part: Option<roles::Part>,
}

/// Serves until told to stop.
pub(crate) async fn run(config: ServerConfig) -> Result<()> {
    if config.transport.scheme == Scheme::MptcpTunnel {
        return mptcp::serve(config).await;
    }
    let events = Events::open(&config.folder)?;
    let store = match &config.store {
        Some(store) => Store::new(&store.catalogue, &config.www).context("fill the store")?,
        None => Store::default(),
    };
    if let Some(ballast) = &config.ballast {
        ballast::hold(ballast, config.transport.seed)?;
    }
    let name = config.store.as_ref().map_or("server", |store| &store.name).to_owned();
    anyhow::ensure!(!name.contains(char::is_whitespace), "the name `{name}` has a space in it");
    let crypto = tls::server(&config, &config.folder, &events)?;
    let port = Port::bind(config.listen)?;
    let noted = config.transport.scheme.hands_over().then_some(&*config.folder);
    let folder = config.folder.clone();
    let endpoint = open(&port, configure(&config, &folder, &crypto)?)?;
    let server = Arc::new(Server {
        www: Www::new(&config.www)?,
        answers: Answers::open(noted)?,
        shared: Arc::new(Shared::new(name, store, events.clone())),
        events,
        port,
        now: Mutex::new(Now {
            folder,
            crypto,
            endpoint: endpoint.clone(),
            live: BTreeMap::new(),
            announced: None,
            arrived: BTreeSet::new(),
            part: None,
        }),
        stop: Notify::new(),
        config,
    });
    tokio::spawn(server.clone().accept(endpoint));
    control::start(server.config.control, server.clone()).await?;
    tracing::info!(listen = %server.config.listen, "serving");
    server.stop.notified().await;
    server.write_objects();
    let endpoint = {
        let mut now = server.now();
        if let Some(part) = now.part.take() {
            part.stop();
        }
        now.endpoint.clone()
    };
    endpoint.close(VarInt::from_u32(0), b"stopped");
    // The peers need not wait for their idle timeout, but this node must not wait for them.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), endpoint.wait_idle()).await;
    Ok(())
}

/// An endpoint on the port; whoever had it before is mute from now on.
fn open(port: &Port, config: noq::ServerConfig) -> Result<Endpoint> {
    Ok(Endpoint::new_with_abstract_socket(
        tls::endpoint()?,
        Some(config),
        Box::new(port.socket()),
        Arc::new(TokioRuntime),
    )?)
}

fn configure(
    config: &ServerConfig,
    folder: &std::path::Path,
    crypto: &Arc<noq::crypto::rustls::QuicServerConfig>,
) -> Result<noq::ServerConfig> {
    let mut server = noq::ServerConfig::with_crypto(crypto.clone());
    let transport = transport::for_one_connection(&config.transport, folder, "server")
        .context("transport settings")?;
    server.transport_config(transport);
    Ok(server)
}

impl Server {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn for_one_connection(&self) -> Result<noq::ServerConfig> {
        let (folder, crypto) = {
            let now = self.now();
            (now.folder.clone(), now.crypto.clone())
        };
        configure(&self.config, &folder, &crypto)
    }

    async fn accept(self: Arc<Self>, endpoint: Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(self.clone().connection(incoming));
        }
    }

    async fn connection(self: Arc<Self>, incoming: Incoming) {
        let remote = incoming.remote_address();
        let generation = self.shared.with(|service| service.generation);
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
        self.now().live.insert(id, connection.clone());
        let why = tokio::select! {
            why = self.requests(&connection, generation) => why,
            why = self.release(&connection, remote) => why,
            why = self.heard(&connection) => why,
            why = self.arrivals(&connection) => why,
        };
        self.now().live.remove(&id);
        tracing::info!(%remote, %why, "connection over");
    }

    async fn requests(
        self: &Arc<Self>,
        connection: &Connection,
        generation: u64,
    ) -> noq::ConnectionError {
        loop {
            match connection.accept_bi().await {
                Ok((send, receive)) => {
                    let rtt = connection.rtt(PathId::ZERO).unwrap_or_default();
                    let request = self.clone().request(generation, rtt, send, receive);
                    tokio::spawn(request);
                }
                Err(error) => break error,
            }
        }
    }

    /// Takes the client's acknowledgements of announcements.
    async fn heard(&self, connection: &Connection) -> noq::ConnectionError {
        loop {
            let mut stream = match connection.accept_uni().await {
                Ok(stream) => stream,
                Err(error) => break error,
            };
            let Ok(said) = stream.read_to_end(HEARD_BYTES).await else { continue };
            let mut now = self.now();
            if let Some((address, clients)) = &mut now.announced
                && said == heard(*address)
            {
                clients.insert(connection.stable_id());
            }
        }
    }

    /// When all clients have come to another address and the one before is gone, this server has
    /// moved: what is to be sent on old paths goes out from here, under connection ids that nobody
    /// has seen yet. noq tells all connections at once, also one whose new path is not validated yet
    /// and would have to begin again; hence *all* clients.
    async fn arrivals(&self, connection: &Connection) -> noq::ConnectionError {
        let local = |id| connection.path(id).and_then(|path| path.local_ip().ok().flatten());
        let mut paths = connection.path_events();
        let mut home = PathId::ZERO;
        while let Some(event) = paths.next().await {
            let Ok(noq::PathEvent::Established { id, .. }) = event else { continue };
            let old = local(std::mem::replace(&mut home, id));
            if old.is_some_and(|old| Some(old) != local(id) && !is_ours(old)) {
                let mut now = self.now();
                now.arrived.insert(connection.stable_id());
                if now.live.keys().all(|client| now.arrived.contains(client)) {
                    now.arrived.clear();
                    now.endpoint.handle_network_change(None);
                }
            }
        }
        std::future::pending().await
    }

    /// Tells the client to go on with the new server, when it is time.
    async fn release(&self, connection: &Connection, remote: SocketAddr) -> noq::ConnectionError {
        let mut changes = self.shared.changes();
        while !self.shared.with(|service| service.released) {
            let _ = changes.changed().await;
        }
        if let Ok(mut stream) = connection.open_uni().await {
            let _ = stream.write_all(RELEASED).await;
            let _ = stream.finish();
            self.events.now(event::RELEASED, remote.to_string());
        }
        std::future::pending().await
    }

    async fn request(
        self: Arc<Self>,
        generation: u64,
        rtt: std::time::Duration,
        send: noq::SendStream,
        receive: noq::RecvStream,
    ) {
        let mut lines = Lines::new(receive);
        let answered = match lines.line().await {
            Ok(Some(line)) if line.contains(" /objects/") => {
                let (shared, answers) = (&self.shared, &self.answers);
                Asked { shared, answers, generation, rtt }.answer(&line, lines, send).await
            }
            Ok(line) => self.www.answer(&line.unwrap_or_default(), send).await,
            Err(error) => self.www.answer("", send).await.and(Err(error)),
        };
        if let Err(error) = answered {
            tracing::warn!(error = format!("{error:#}"), "request");
        }
    }

    fn announce(&self, address: SocketAddr) -> Reply {
        if self.config.transport.scheme == Scheme::Quic {
            return refusal("the scheme `quic` cannot announce an address");
        }
        let vague = self.config.transport.scheme == Scheme::SynchronizedSymmetric;
        let address = if vague { nowhere(address) } else { address };
        let mut now = self.now();
        if now.live.is_empty() {
            return refusal("no live connection to announce the address on");
        }
        let again = now.announced.as_ref().is_none_or(|(before, _)| *before != address);
        let failed: Vec<String> = now
            .live
            .values()
            .filter_map(|connection| tell(connection, address, again).err())
            .map(|error| error.to_string())
            .collect();
        let (all, mut detail) = (now.live.len(), address.to_string());
        if let Some(first) = failed.first() {
            // A client that is not Limosa's own does not know the frame; that is no reason not to
            // tell the others.
            let untold = format!("{} of {all} connections: {first}", failed.len());
            if failed.len() == all {
                return refusal(untold);
            }
            detail += &format!(", not to {untold}");
        }
        if again {
            now.announced = Some((address, BTreeSet::new()));
        }
        self.events.now(event::ANNOUNCEMENT, detail);
        Reply { connections: (all - failed.len()) as u64, ..Reply::default() }
    }

    /// A PING on every path, from the address that this host has now.
    fn speak(&self) {
        let mut now = self.now();
        now.endpoint.handle_network_change(None);
        now.announced = None;
        self.events.now(event::SPOKE, format!("to {} clients", now.live.len()));
    }

    fn status(&self) -> Reply {
        let (connections, unheard) = {
            let now = self.now();
            let heard = now.announced.as_ref().map(|(_, heard)| heard);
            let missing = |id: &&usize| heard.is_some_and(|heard| !heard.contains(id));
            let missing = now.live.keys().filter(missing).filter_map(|id| now.live.get(id));
            let remote = |c: &Connection| c.path(PathId::ZERO)?.remote_address().ok();
            let name = |c: &Connection| {
                remote(c).map_or_else(|| format!("connection {}", c.stable_id()), |a| a.to_string())
            };
            (now.live.len() as u64, missing.map(name).collect())
        };
        Reply {
            connections,
            unheard,
            migration: self.shared.with(|service| service.migration()),
            ..Reply::default()
        }
    }

    fn write_objects(&self) -> Reply {
        if self.config.store.is_none() {
            return refusal("this server has no object store");
        }
        let folder = self.now().folder.clone();
        match self.shared.with(|service| service.store.write_rows(&folder)) {
            Ok(digest) => Reply { objects: Some(digest), ..self.status() },
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "objects.csv");
                refusal(format!("{error:#}"))
            }
        }
    }
}

impl Handler for Server {
    fn handle(self: &Arc<Self>, request: Request) -> Reply {
        let done = match request {
            Request::Status => Ok(()),
            Request::Start => return refusal("a server has nothing to start"),
            Request::Announce(address) => return self.announce(address),
            Request::Speak => {
                self.speak();
                Ok(())
            }
            Request::BecomeTarget(target) => self.become_target(target),
            Request::Handover(handover) => self.hand_over(handover),
            Request::Objects => return self.write_objects(),
            Request::Stop => {
                self.stop.notify_one();
                Ok(())
            }
        };
        match done {
            Ok(()) => self.status(),
            Err(error) => refusal(format!("{error:#}")),
        }
    }
}
