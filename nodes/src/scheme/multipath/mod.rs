//! The scheme `multipath`: server migration after Nakano et al. 2025 ("Proposal Method").
//!
//! In: one multipath connection. Out: the same connection, on paths to wherever the server is.
//!
//! How the paper's method is rendered with noq:
//!
//! | paper | here |
//! |---|---|
//! | MIGRATION frame | ADD_ADDRESS of n0's QUIC NAT traversal extension |
//! | the path that received the frame ends | the path whose ADD_ADDRESS counter went up is closed |
//! | active detection path: adds a path again and again | `open_path` to the new address at each rung of the [`ladder`](super::ladder) |
//! | continuation path until the server ceases to respond | no packet for max(3 PTO, 300 ms) |
//! | additional detection path | the same, with a fresh ladder |
//! | both paths in use again | one established path per interface; every other probe is closed |
//!
//! What noq forbids or costs: the last path cannot be closed, so the silent old path stays formally
//! open until a detection succeeds, and is then [retired](super::retired). Path ids are never reused
//! and limited, so the ladder counts them. noq repeats unanswered challenges by itself; see
//! [`ladder`](super::ladder).
//!
//! The decisions are in [`machine`]; this module carries them out.

mod machine;
mod silence;

use super::{announced, detector, retired::Retired};
use crate::{
    client::{Body, Client, Failure, Link},
    transport::PATH_IDS,
};
use anyhow::Result;
use futures_util::StreamExt;
use limosa_record::row::event;
use machine::{Command, Machine};
use noq::{Connection, PathEvent, PathId};
use silence::Silence;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// How often silence is looked for and refused opens are repeated.
const TICK: Duration = Duration::from_millis(10);

/// Downloads over all interfaces and follows the server.
pub(super) async fn run(client: &Client, body: &mut Body) -> Result<()> {
    let endpoint = &client.endpoint(client.socket()?)?;
    let beside = async |link: &Arc<Link>| Driver::new(client, &link.connection).follow().await;
    super::quic::work(client, body, endpoint, beside).await
}

/// Carries out the machine's commands on one connection.
struct Driver<'a> {
    client: &'a Client,
    connection: &'a Connection,
    machine: Machine,
    silence: Silence,
    retired: Retired,
    /// ADD_ADDRESS frames received per path so far.
    announcements: BTreeMap<PathId, u64>,
}

impl<'a> Driver<'a> {
    fn new(client: &'a Client, connection: &'a Connection) -> Self {
        let home = connection.path(PathId::ZERO).and_then(|path| path.remote_address().ok());
        let machine = Machine::new(
            client.config.transport.ladder.into(),
            client.config.local.len(),
            home.unwrap_or(client.config.connect),
            PathId::ZERO,
            // The id of the handshake's path is spent.
            PATH_IDS - 1,
        );
        let (silence, announcements) = (Silence::default(), BTreeMap::new());
        let retired = Retired::new(client.config.transport.moves_noticed);
        Self { client, connection, machine, silence, retired, announcements }
    }

    /// Follows the server for as long as the connection lives; its end is the download's affair.
    async fn follow(mut self) -> Failure {
        let mut paths = self.connection.path_events();
        let mut addresses = self.connection.nat_traversal_updates();
        self.tick();
        loop {
            let wait = self.machine.next_tick();
            let pause = wait.map_or(TICK, |at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                Some(Ok(event)) = paths.next() => self.path_event(event),
                Some(Ok(update)) = addresses.next() => {
                    if let noq_proto::n0_nat_traversal::Event::AddressAdded(address) = update {
                        self.announced(address);
                    }
                }
                () = tokio::time::sleep(pause.clamp(Duration::from_millis(1), TICK)) => self.tick(),
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.retired.take(self.connection, now).into_iter().for_each(|id| self.close(id));
        let continuation = self.machine.continuation();
        let silent = match continuation.and_then(|(_, id)| self.connection.path_stats(id)) {
            Some(stats) => self.silence.on(continuation, stats.udp_rx.datagrams, stats.rtt, now),
            None => false,
        };
        let commands = self.machine.tick(now, silent);
        self.carry_out(commands);
    }

    fn announced(&mut self, address: SocketAddr) {
        if !announced::is_welcome(self.client, self.connection, address) {
            return;
        }
        announced::acknowledge(self.connection, address);
        let interface = self.arrival();
        let detail = format!("{address} arrived on {}", self.name(interface));
        self.client.events.now(event::ANNOUNCEMENT, detail);
        let commands = self.machine.announced(address, interface, Instant::now());
        self.carry_out(commands);
    }

    /// The interface whose path received the newest ADD_ADDRESS; the first one when in doubt.
    fn arrival(&mut self) -> usize {
        let mut arrived = None;
        for (interface, id) in self.machine.serving() {
            let Some(stats) = self.connection.path_stats(id) else { continue };
            let count = stats.frame_rx.add_address;
            if count > self.announcements.insert(id, count).unwrap_or(0) {
                arrived = arrived.or(Some(interface));
            }
        }
        arrived.unwrap_or(0)
    }

    fn path_event(&mut self, event: PathEvent) {
        match event {
            PathEvent::Established { id, .. } => {
                let detail = self.describe(id);
                if let (Some(interface), Some(path)) =
                    (self.machine.interface_of(id), self.connection.path(id))
                {
                    self.client.meter.track(interface, path);
                }
                self.client.events.now(event::PATH_ESTABLISHED, detail);
                let commands = self.machine.established(id, Instant::now());
                self.carry_out(commands);
            }
            PathEvent::Abandoned { id, reason, .. } => {
                tracing::info!(%id, ?reason, "path abandoned");
                self.machine.abandoned(id, Instant::now());
            }
            PathEvent::Discarded { .. } => self.machine.discarded(),
            _ => {}
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Open { interface, remote, probe } => self.open(interface, remote, probe),
                Command::Close(id) => self.close(id),
                Command::Retire(id) => self.retire(id),
                Command::Silent(interface) => {
                    let since = self.silence.lasted(Instant::now()).as_millis();
                    let detail = format!("{} for {since} ms", self.name(interface));
                    self.client.events.now(event::SILENT, detail);
                }
            }
        }
    }

    fn open(&mut self, interface: usize, remote: SocketAddr, probe: bool) {
        match detector::open(self.client, self.connection, interface, remote) {
            Ok(id) => {
                self.machine.opened(interface, id, Instant::now());
                if probe {
                    self.client.events.now(event::PROBE, self.describe(id));
                }
            }
            Err(why) => self.machine.refused(interface, why),
        }
    }

    fn retire(&mut self, id: PathId) {
        if !self.retired.add(self.connection, id, Instant::now()) {
            self.close(id);
        }
    }

    fn close(&self, id: PathId) {
        let Some(path) = self.connection.path(id) else { return };
        let detail = self.describe(id);
        match path.close() {
            Ok(()) => self.client.events.now(event::PATH_CLOSED, detail),
            Err(error) => tracing::warn!(%error, detail, "cannot close path"),
        }
    }

    fn name(&self, interface: usize) -> String {
        let local = self.client.config.local.get(interface);
        local.map_or_else(|| format!("interface {interface}"), IpAddr::to_string)
    }

    fn describe(&self, id: PathId) -> String {
        let tuple = self.connection.path(id).and_then(|path| path.network_path().ok());
        let local = tuple.and_then(|t| t.local_ip()).map(|ip| ip.to_string());
        let local = local.unwrap_or_else(|| self.name(self.machine.interface_of(id).unwrap_or(0)));
        match tuple {
            Some(tuple) => format!("path {id} from {local} to {}", tuple.remote()),
            None => format!("path {id} from {local}"),
        }
    }
}
