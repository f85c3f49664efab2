//! Following the server with one path: the schemes between plain QUIC and multipath.
//!
//! | scheme | machine | from |
//! |---|---|---|
//! | `proactive`, `reactive` | [`explicit`] | Conforti, Puliafito et al. 2022; Casu's extension of mvfst |
//! | `pool` | [`pool`] | Casu |
//! | `symmetric`, `synchronized-symmetric` | [`symmetric`] | Casu |
//! | `lookup` | [`lookup`] | future work of Nakano et al. 2025 |
//!
//! What of the originals noq does not allow, what stands for it and what that costs is in the table
//! of [`rendition`](super::rendition): above all **one round trip**, because no data goes to an
//! address that has not answered.
//!
//! noq tells no application about probe timeouts; see [`timeout`]. Each scheme is a [`Machine`]
//! without sockets; this module carries out what it says.

mod explicit;
mod lookup;
mod pool;
mod symmetric;
mod timeout;

use super::{announced, detector, detector::Detector, ladder::Schedule, retired::Retired};
use crate::{
    client::{Body, Client, Failure, Link},
    dns,
    random::Random,
    strangers::Strangers,
    transport::PATH_IDS,
};
use anyhow::Result;
use futures_util::{
    FutureExt, StreamExt,
    future::{LocalBoxFuture, OptionFuture},
};
use limosa_record::{
    node::{PoolOrder, Scheme},
    row::event,
};
use noq::{PathEvent, PathId};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use timeout::{ProbeTimeout, Sign, pto};
use tokio::sync::mpsc::UnboundedReceiver;

/// How often the path is looked at.
const TICK: Duration = Duration::from_millis(5);

/// The least time in which a stranger has to answer: without an RTT sample a PTO is 100 ms.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(300);

/// What a scheme wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    /// Look for the server there, again and again, and for nobody elsewhere.
    Search(SocketAddr),
    /// Look for it there, once and with noq's own repetitions, and for nobody elsewhere.
    Try(SocketAddr),
    /// Look for it no longer.
    Stop,
    /// Ask the DNS where it is.
    Ask,
}

/// The decisions of one scheme, without sockets and clocks.
trait Machine {
    /// The server said that it will be, or may be, at this address.
    fn announced(&mut self, address: SocketAddr) -> Option<Command>;
    /// A packet came from where the server is.
    fn heard(&mut self) -> Option<Command>;
    /// An answer is waited for, and a probe timeout has passed without a packet.
    fn timeout(&mut self, now: Instant) -> Option<Command>;
    /// A packet for this connection came from an unknown address; whoever sends from there is given
    /// until then to answer.
    fn stranger(&mut self, _address: SocketAddr, _patient_until: Instant) -> Option<Command> {
        None
    }
    /// The DNS says that it is there; asked for by [`Command::Ask`].
    fn looked_up(&mut self, _address: SocketAddr, _now: Instant) -> Option<Command> {
        None
    }
    /// Time passes.
    fn tick(&mut self, now: Instant) -> Option<Command>;
    /// The server has answered from this address; the path leads there now.
    fn moved(&mut self, address: SocketAddr);
}

/// Works over one path from the first interface, and follows the server.
pub(super) async fn run(client: &Client, body: &mut Body) -> Result<()> {
    let (strangers, told) = Strangers::new(client.config.connect)?;
    let socket = client.socket()?.noting(strangers.clone());
    let endpoint = &client.endpoint_with(strangers.endpoint(), socket)?;
    let told = tokio::sync::Mutex::new(told);
    let beside = async |link: &Arc<Link>| {
        let mut told = told.lock().await;
        Driver::new(client, link, strangers.clone()).follow(&mut told).await
    };
    super::quic::work(client, body, endpoint, beside).await
}

fn machine(client: &Client, home: SocketAddr) -> Box<dyn Machine> {
    let transport = &client.config.transport;
    match transport.scheme {
        Scheme::Pool => {
            let random = match transport.pool_order {
                PoolOrder::Random => Some(Random::new(transport.seed, "pool")),
                PoolOrder::Listed => None,
            };
            Box::new(pool::Pool::new(home, random))
        }
        Scheme::Symmetric => Box::new(symmetric::Symmetric::new(false)),
        Scheme::SynchronizedSymmetric => Box::new(symmetric::Symmetric::new(true)),
        Scheme::Lookup => Box::new(lookup::Lookup::new(home)),
        other => Box::new(explicit::Explicit::new(other == Scheme::Proactive)),
    }
}

/// Carries out a machine's commands on one connection.
struct Driver<'a> {
    client: &'a Client,
    link: &'a Link,
    strangers: Arc<Strangers>,
    machine: Box<dyn Machine>,
    timeout: ProbeTimeout,
    /// The path that is used.
    home: PathId,
    /// Those that were.
    retired: Retired,
    search: Option<Detector>,
    /// A question to the DNS that is not answered.
    question: Option<LocalBoxFuture<'a, Result<IpAddr>>>,
    /// Path ids that may still be spent on probes.
    ids_left: u32,
}

impl<'a> Driver<'a> {
    fn new(client: &'a Client, link: &'a Link, strangers: Arc<Strangers>) -> Self {
        let path = link.connection.path(PathId::ZERO);
        let remote = path.and_then(|path| path.remote_address().ok());
        let remote = remote.unwrap_or(client.config.connect);
        strangers.at_home(remote);
        Self {
            client,
            link,
            strangers,
            machine: machine(client, remote),
            timeout: ProbeTimeout::default(),
            home: PathId::ZERO,
            retired: Retired::new(client.config.transport.moves_noticed),
            search: None,
            question: None,
            // The id of the handshake's path is spent.
            ids_left: PATH_IDS - 1,
        }
    }

    /// Follows the server for as long as the connection lives; its end is the workload's affair.
    async fn follow(mut self, strangers: &mut UnboundedReceiver<SocketAddr>) -> Failure {
        let mut paths = self.link.connection.path_events();
        let mut addresses = self.link.connection.nat_traversal_updates();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let command = tokio::select! {
                Some(Ok(event)) = paths.next() => self.path_event(event),
                Some(Ok(update)) = addresses.next() => match update {
                    noq_proto::n0_nat_traversal::Event::AddressAdded(address) => {
                        self.announced(address)
                    }
                    _ => None,
                },
                Some(address) = strangers.recv() => self.stranger(address),
                Some(answer) = OptionFuture::from(self.question.as_mut()) => self.looked_up(answer),
                _ = tick.tick() => self.tick(),
            };
            if let Some(command) = command {
                self.carry_out(command);
            }
            self.probe();
        }
    }

    fn announced(&mut self, address: SocketAddr) -> Option<Command> {
        let synchronized = self.client.config.transport.scheme == Scheme::SynchronizedSymmetric;
        // Its announcement says that it will move and not where to.
        let vague = synchronized && address.ip().is_unspecified();
        if !vague && !announced::is_welcome(self.client, &self.link.connection, address) {
            return None;
        }
        self.client.events.now(event::ANNOUNCEMENT, address.to_string());
        announced::acknowledge(&self.link.connection, address);
        self.machine.announced(address)
    }

    fn stranger(&mut self, address: SocketAddr) -> Option<Command> {
        if self.strangers.is_home(address) {
            return None; // It was a stranger when its packet came.
        }
        let rtt = self.link.connection.rtt(self.home).unwrap_or_default();
        let patience = (3 * pto(rtt)).max(SHORTEST_PATIENCE);
        self.machine.stranger(address, Instant::now() + patience)
    }

    /// Asks, unless a question is out.
    fn ask(&mut self) {
        let Some(resolver) = &self.client.config.resolver else { return };
        if self.question.is_none() {
            self.client
                .events
                .now(event::ASKED, format!("{} at {}", resolver.name, resolver.server));
            self.question = Some(dns::look_up(resolver).boxed_local());
        }
    }

    fn looked_up(&mut self, answer: Result<IpAddr>) -> Option<Command> {
        self.question = None;
        let ip = match answer {
            Ok(ip) => ip,
            Err(error) => {
                tracing::info!(error = format!("{error:#}"), "question to the DNS");
                return None;
            }
        };
        let address = SocketAddr::new(ip, self.client.config.connect.port());
        if !announced::is_welcome(self.client, &self.link.connection, address) {
            return None;
        }
        let command = self.machine.looked_up(address, Instant::now());
        if command.is_some() {
            self.client.events.now(event::LOOKED_UP, address.to_string());
        }
        command
    }

    fn tick(&mut self) -> Option<Command> {
        let now = Instant::now();
        self.retired.take(&self.link.connection, now).into_iter().for_each(|id| self.close(id));
        let sign = self.link.connection.path_stats(self.home).map(|stats| {
            let owes = self.link.outstanding() > 0;
            self.timeout.look(stats.udp_rx.datagrams, owes, stats.rtt, now)
        });
        let command = match sign {
            Some(Sign::Heard) => self.machine.heard(),
            Some(Sign::Timeout) => self.machine.timeout(now),
            Some(Sign::Nothing) | None => None,
        };
        command.or_else(|| self.machine.tick(now))
    }

    fn path_event(&mut self, event: PathEvent) -> Option<Command> {
        match event {
            PathEvent::Established { id, .. } => self.established(id),
            PathEvent::Abandoned { id, reason, .. } => {
                tracing::info!(%id, ?reason, "path abandoned");
                if let Some(search) = &mut self.search {
                    search.abandoned(id);
                }
            }
            PathEvent::Discarded { .. } => self.ids_left += 1,
            _ => {}
        }
        None
    }

    /// The server has answered a probe: that path is the one from now on.
    fn established(&mut self, id: PathId) {
        if id == self.home {
            return;
        }
        let Some(search) = self.search.take_if(|search| search.has(id)) else {
            return self.close(id);
        };
        let remote = search.remote;
        self.client.events.now(event::PATH_ESTABLISHED, format!("path {id} to {remote}"));
        if let Some(path) = self.link.connection.path(id) {
            let interface = self.client.config.interface_toward(remote.ip());
            self.client.meter.track(interface, path);
        }
        let old = std::mem::replace(&mut self.home, id);
        search.into_probes().filter(|other| *other != id).for_each(|p| self.close(p));
        if !self.retired.add(&self.link.connection, old, Instant::now()) {
            self.close(old);
        }
        self.timeout = ProbeTimeout::default();
        self.strangers.at_home(remote);
        self.machine.moved(remote);
    }

    fn carry_out(&mut self, command: Command) {
        let (remote, schedule) = match command {
            Command::Search(remote) => {
                (Some(remote), Schedule::from(self.client.config.transport.ladder))
            }
            Command::Try(remote) => (Some(remote), Schedule::Join),
            Command::Stop => (None, Schedule::Join),
            Command::Ask => return self.ask(),
        };
        for id in self.search.take().into_iter().flat_map(Detector::into_probes) {
            self.close(id);
        }
        self.search = remote.map(|remote| Detector::new(remote, schedule, Instant::now()));
    }

    /// Opens and closes probes as the search wants it.
    fn probe(&mut self) {
        let now = Instant::now();
        let Some(search) = &mut self.search else { return };
        let expired = search.expire(now);
        if search.is_due(now) {
            let interface = self.client.config.interface_toward(search.remote.ip());
            match detector::open(self.client, &self.link.connection, interface, search.remote) {
                Ok(id) => {
                    self.ids_left = self.ids_left.saturating_sub(1);
                    search.opened(id, self.ids_left < 1, now);
                    let detail = format!("path {id} to {}", search.remote);
                    self.client.events.now(event::PROBE, detail);
                }
                Err(why) => search.refused(why),
            }
        }
        expired.into_iter().for_each(|id| self.close(id));
    }

    fn close(&self, id: PathId) {
        let Some(path) = self.link.connection.path(id) else { return };
        match path.close() {
            Ok(()) => self.client.events.now(event::PATH_CLOSED, format!("path {id}")),
            Err(error) => tracing::warn!(%error, %id, "cannot close path"),
        }
    }
}
