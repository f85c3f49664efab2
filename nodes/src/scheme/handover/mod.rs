//! The schemes `dual-path` and `post-copy`, after the thesis, chapter 3: the server becomes two,
//! and the client has a connection to each.
//!
//! In: an announcement of the old server (ADD_ADDRESS, as in [`super::multipath`]; in the thesis it
//! is the new server that sends it). Out: where requests go, for the workload.
//!
//! The thesis draws one connection with two paths. That would need both servers to send under the
//! same keys; here each connection is one of its own, resumed from the other's TLS session, which
//! costs the one round trip that validating a path would. The paths differ by interface where the
//! client has two.
//!
//! The decisions are in [`machine`]; this module carries them out.

mod machine;
mod pulse;

use super::{announced, quic::HANDSHAKE_TIMEOUT};
use crate::{
    client::{Body, Client, Link, Route, Router},
    server::RELEASED,
    socket::NodeSocket,
    store::wire::To,
};
use anyhow::{Context, Result, anyhow};
use futures_util::{
    FutureExt, StreamExt,
    future::{Fuse, FusedFuture, LocalBoxFuture},
};
use limosa_record::{node::Scheme, row::event};
use machine::{Command, Machine, Way};
use noq::{Connection, PathId, VarInt, ZeroRttAccepted};
use pulse::{Beat, Pulse};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// How often pulses are looked at.
const TICK: Duration = Duration::from_millis(20);

/// How long a handshake with the new server may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before the new server is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Does the workload and follows the server.
pub(super) async fn run(client: &Client, body: &mut Body) -> Result<()> {
    let router = Router::new(true);
    tokio::select! {
        outcome = client.work(&router, body) => outcome,
        error = follow(client, &router) => Err(error),
    }
}

/// Connects to the server and follows it; ends only when nobody is left.
async fn follow(client: &Client, router: &Router) -> anyhow::Error {
    let address = client.config.connect;
    let connected = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        connect(client, 0, address)?.await.context("handshake")
    });
    let connection = match connected.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return error.context(format!("connect to {address}")),
        Err(_) => return anyhow!("connect to {address}: handshake timed out"),
    };
    client.connected(address.to_string());
    let driver = Driver {
        client,
        router,
        machine: Machine::new(client.config.transport.scheme == Scheme::DualPath),
        old: Some(Module::new(client, connection, false)),
        new: None,
        joining: Fuse::terminated(),
        leaving_old: false,
        tried: false,
    };
    driver.drive().await
}

/// One of the thesis' two connection modules.
struct Module {
    link: Arc<Link>,
    pulse: Pulse,
}

impl Module {
    fn new(client: &Client, connection: Connection, new: bool) -> Self {
        if let Some(path) = connection.path(PathId::ZERO) {
            client.meter.track(usize::from(new), path);
        }
        Self { link: Arc::new(Link::new(connection, new)), pulse: Pulse::new(Instant::now()) }
    }
}

type Joining<'a> = LocalBoxFuture<'a, Result<(Connection, Option<ZeroRttAccepted>)>>;

struct Driver<'a> {
    client: &'a Client,
    router: &'a Router,
    machine: Machine,
    old: Option<Module>,
    new: Option<Module>,
    joining: Fuse<Joining<'a>>,
    leaving_old: bool,
    tried: bool,
}

impl<'a> Driver<'a> {
    async fn drive(mut self) -> anyhow::Error {
        let Some(old) = self.old.as_ref().map(|old| old.link.clone()) else {
            return anyhow!("no connection");
        };
        self.router.set(Route::One { link: old.clone(), to: To::Only });
        let mut addresses = old.connection.nat_traversal_updates();
        let mut released = Box::pin(released(&old.connection).fuse());
        let mut early = Fuse::<ZeroRttAccepted>::terminated();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let commands = tokio::select! {
                Some(Ok(update)) = addresses.next() => match update {
                    noq_proto::n0_nat_traversal::Event::AddressAdded(address)
                        if announced::is_welcome(self.client, &old.connection, address) =>
                    {
                        self.client.events.now(event::ANNOUNCEMENT, address.to_string());
                        self.machine.announced(address)
                    }
                    _ => vec![],
                },
                joined = &mut self.joining, if !self.joining.is_terminated() => match joined {
                    Ok((connection, accepted)) => {
                        early = accepted.map_or_else(Fuse::terminated, FutureExt::fuse);
                        self.joined(connection)
                    }
                    Err(error) => {
                        tracing::info!(error = format!("{error:#}"), "cannot join the new server");
                        self.machine.not_joined()
                    }
                },
                accepted = &mut early, if !early.is_terminated() => {
                    tracing::info!(accepted, "early data");
                    // What was rejected waits for a route, even if it is the same.
                    self.router.again();
                    vec![]
                }
                () = &mut released, if !released.is_terminated() => {
                    self.client.events.now(event::RELEASED, "by the old server");
                    self.machine.released()
                }
                _ = tick.tick() => self.look(),
            };
            if let Some(error) = self.carry_out(commands) {
                return error;
            }
        }
    }

    fn joined(&mut self, connection: Connection) -> Vec<Command> {
        let rtt = connection.rtt(PathId::ZERO).unwrap_or_default();
        let detail = format!("{} ms round trip", rtt.as_millis());
        self.client.events.now(event::CONNECTED_TO_NEW, detail);
        self.new = Some(Module::new(self.client, connection, true));
        self.machine.joined()
    }

    /// Who is still there, and who may go.
    fn look(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        if let Some(why) = gone(&mut self.new) {
            self.lost("new", &why);
            let old =
                self.old.as_ref().is_some_and(|old| old.link.connection.close_reason().is_none());
            commands.extend(self.machine.new_gone(old));
        }
        if let Some(why) = gone(&mut self.old) {
            self.lost("old", &why);
            commands.extend(self.machine.old_gone());
        }
        if self.leaving_old && self.old.as_ref().is_some_and(|old| old.link.outstanding() == 0) {
            // The thesis' PATH_ABANDON.
            if let Some(old) = self.old.take() {
                old.link.connection.close(VarInt::from_u32(0), b"released");
            }
        }
        commands
    }

    fn lost(&self, which: &str, why: &str) {
        self.client.events.now(event::SERVER_LOST, format!("{which}: {why}"));
    }

    fn carry_out(&mut self, commands: Vec<Command>) -> Option<anyhow::Error> {
        for command in commands {
            match command {
                Command::Join(address) => self.join(address),
                Command::Route(way) => self.route(way),
                Command::LeaveOld => self.leaving_old = true,
                Command::GiveUp => return Some(anyhow!("no server is left")),
            }
        }
        None
    }

    fn join(&mut self, address: SocketAddr) {
        let (client, early_data) = (self.client, self.client.config.transport.early_data);
        let pause = if std::mem::replace(&mut self.tried, true) { PAUSE } else { Duration::ZERO };
        let join = async move {
            tokio::time::sleep(pause).await;
            let mut connecting = connect(client, 1, address)?;
            if early_data {
                match connecting.into_0rtt() {
                    Ok((connection, accepted)) => return Ok((connection, Some(accepted))),
                    Err(without) => connecting = without,
                }
            }
            let connected = tokio::time::timeout(JOIN_TIMEOUT, connecting).await;
            Ok((connected.context("handshake timed out")??, None))
        };
        self.joining = join.boxed_local().fuse();
    }

    fn route(&mut self, way: Way) {
        let link = |module: &Option<Module>| module.as_ref().map(|m| m.link.clone());
        let to = |gone| if gone { To::Gone } else { To::Only };
        let route = match way {
            Way::Nobody => Some(Route::Wait),
            Way::Old { gone } => link(&self.old).map(|link| Route::One { link, to: to(gone) }),
            Way::New { gone } => link(&self.new).map(|link| Route::One { link, to: to(gone) }),
            Way::Both => {
                link(&self.old).zip(link(&self.new)).map(|(old, new)| Route::Both { old, new })
            }
        };
        self.router.set(route.unwrap_or(Route::Wait));
    }
}

/// Why a server is gone; the module is given up then.
fn gone(module: &mut Option<Module>) -> Option<String> {
    let Module { link, pulse } = module.as_mut()?;
    let why = match link.connection.close_reason() {
        Some(reason) => reason.to_string(),
        None => {
            let path = link.connection.path(PathId::ZERO);
            let stats = path.as_ref().map(noq::Path::stats)?;
            let owes = link.outstanding() > 0;
            match pulse.look(stats.udp_rx.datagrams, owes, stats.rtt, Instant::now()) {
                Beat::Fine => return None,
                Beat::Ping => {
                    let _ = path.map(|path| path.ping());
                    return None;
                }
                Beat::Gone => "it owes an answer and is silent".into(),
            }
        }
    };
    // Whatever is under way on it fails now and is sent again.
    link.connection.close(VarInt::from_u32(0), b"silent");
    *module = None;
    Some(why)
}

/// Ends when the server releases its client.
async fn released(connection: &Connection) {
    while let Ok(mut stream) = connection.accept_uni().await {
        if stream.read_to_end(64).await.is_ok_and(|said| said == RELEASED) {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Begins a handshake from one of the client's interfaces, over a socket of its own.
fn connect(client: &Client, interface: usize, address: SocketAddr) -> Result<noq::Connecting> {
    let local = client.config.local.get(interface).or(client.config.local.last()).copied();
    let ip = local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let endpoint = client.endpoint(NodeSocket::bind(SocketAddr::new(ip, 0), None)?)?;
    let name = &client.config.server_name;
    Ok(endpoint.connect_with(client.for_one_connection()?, address, name)?)
}
