//! The client: waits for the start, downloads one file or sends a sequence of requests under a
//! migration scheme, says how it went. One process may be many clients; see [`crowd`].
//!
//! In: [`ClientConfig`] and control requests. Out: the file, `events.csv`, `throughput.csv`,
//! `requests.csv` of a request workload and, whatever way it ends, [`RESULT_FILE`].

mod attempt;
mod body;
mod crowd;
mod exchange;
mod meter;
mod milestones;
mod playback;
mod ranges;
mod requests;
mod route;

pub(crate) use attempt::{Failure, get};
pub(crate) use body::Body;
pub(crate) use meter::Meter;
pub(crate) use route::{Link, Route, Router};

use crate::{
    control::{self, Handler, refusal},
    events::Events,
    scheme,
    socket::NodeSocket,
    tls, transport,
};
use anyhow::{Context, Result};
use limosa_record::{
    clock, dir,
    node::{ClientConfig, ClientResult, RESULT_FILE, Reply, Request, RequestCounts, Workload},
    row::event,
};
use milestones::{Come, Milestones};
use noq::{Endpoint, EndpointConfig, TokioRuntime, VarInt};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::{JoinSet, LocalSet},
};

/// How long the end of the connection may take to be sent.
const FAREWELL: Duration = Duration::from_millis(200);

/// What the tasks of a client share.
pub(crate) struct Client {
    /// The configuration as read.
    pub(crate) config: ClientConfig,
    /// Where events go.
    pub(crate) events: Events,
    /// Counts bytes per interface, those of all clients of this process together.
    pub(crate) meter: Arc<Meter>,
    crypto: Arc<noq::crypto::rustls::QuicClientConfig>,
    control: Arc<Control>,
    /// Bytes of the body that were told to `control`.
    progress: AtomicU64,
    reconnects: AtomicU64,
    endpoints: Mutex<Vec<Endpoint>>,
    counts: Mutex<RequestCounts>,
    come: Come,
}

/// What control requests touch: one for all clients of this process.
#[derive(Debug)]
struct Control {
    /// CLOCK_REALTIME in ns; 0 before the start.
    handshake_started_ns: AtomicI64,
    body_bytes: AtomicU64,
    requests: AtomicU64,
    milestones: Milestones,
    start: Notify,
    stop: watch::Sender<bool>,
}

/// Does the workload, after the start was asked for, as often as there are clients.
pub(crate) async fn run(config: ClientConfig) -> Result<()> {
    let control = Arc::new(Control::new(&config));
    let meter = Arc::new(Meter::open(&config)?);
    let clients = crowd::each(&config)?
        .into_iter()
        .map(|config| Client::open(config, &meter, &control))
        .collect::<Result<Vec<_>>>()?;
    control::start(config.control, control.clone()).await?;
    let mut stop = control.stop.subscribe();
    tokio::select! {
        () = control.start.notified() => {}
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    }
    let started_ns = control.handshake_started_ns.load(Ordering::Relaxed);
    let mut working = JoinSet::new();
    let everything = LocalSet::new();
    for (client, body) in clients {
        working.spawn_local_on(client.live(body, started_ns, stop.clone()), &everything);
    }
    let ended = everything.run_until(working.join_all());
    let outcomes = tokio::select! {
        outcomes = ended => outcomes,
        never = meter.sample(started_ns) => match never {},
    };
    meter.finish();
    crowd::together(outcomes)
}

impl Client {
    /// A socket on all of the client's addresses, which reaches each server from the right one.
    pub(crate) fn socket(&self) -> io::Result<NodeSocket> {
        let config = &self.config;
        let wildcard: IpAddr = match config.connect {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let source = |(to, number): &(IpAddr, usize)| Some((*to, *config.local.get(*number)?));
        let sources = config.behind.iter().filter_map(source).collect();
        let first = config.local.first().copied();
        let socket = NodeSocket::bind(SocketAddr::new(wildcard, 0), first)?;
        Ok(socket.with_sources(sources))
    }

    fn open(
        config: ClientConfig,
        meter: &Arc<Meter>,
        control: &Arc<Control>,
    ) -> Result<(Self, Body)> {
        let client = Self {
            events: Events::open(&config.folder)?,
            meter: meter.clone(),
            crypto: tls::client(&config)?,
            control: control.clone(),
            progress: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            endpoints: Mutex::default(),
            counts: Mutex::default(),
            come: Come::default(),
            config,
        };
        let (save_as, rate) = (&client.config.save_as, client.config.play_bytes_per_s);
        let body = Body::create(save_as, client.events.clone(), rate)?;
        Ok((client, body))
    }

    /// From the start to the result; a stop is no failure.
    async fn live(
        self,
        mut body: Body,
        started_ns: i64,
        mut stop: watch::Receiver<bool>,
    ) -> Result<()> {
        self.events.span(event::HANDSHAKE_STARTED, "", started_ns, started_ns);
        let outcome = tokio::select! {
            outcome = scheme::run(&self, &mut body) => Some(outcome),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let endpoints = std::mem::take(&mut *self.endpoints());
        for endpoint in endpoints {
            endpoint.close(VarInt::from_u32(0), b"over");
            // Else the server would keep the connection until its idle timeout.
            let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
        }
        let stopped = outcome.is_none();
        let outcome = outcome.unwrap_or_else(|| Err(anyhow::anyhow!("stopped")));
        self.leave_result(started_ns, body, outcome.as_ref().err())?;
        if stopped { Ok(()) } else { outcome }
    }

    /// noq's configuration for the next connection.
    pub(crate) fn for_one_connection(&self) -> Result<noq::ClientConfig> {
        let mut config = noq::ClientConfig::new(self.crypto.clone());
        let transport = &self.config.transport;
        let transport = transport::for_one_connection(transport, &self.config.folder, "client")
            .context("transport settings")?;
        config.transport_config(transport);
        Ok(config)
    }

    fn endpoints(&self) -> std::sync::MutexGuard<'_, Vec<Endpoint>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the workload over connections that a scheme looks after.
    pub(crate) async fn work(&self, router: &Router, body: &mut Body) -> Result<()> {
        match &self.config.workload {
            Workload::Download => ranges::run(self, router, body).await,
            Workload::Requests(workload) => requests::run(self, workload, router).await,
        }
    }

    /// What asks for the file.
    pub(crate) fn request_line(&self) -> String {
        let path = &self.config.path;
        match self.config.play_bytes_per_s {
            Some(rate) => format!("PLAY {rate} {path}\r\n"),
            None => format!("GET {path}\r\n"),
        }
    }

    /// Makes an endpoint; it is closed when the client ends.
    pub(crate) fn endpoint(&self, socket: NodeSocket) -> Result<Endpoint> {
        self.endpoint_with(EndpointConfig::default(), socket)
    }

    /// The same with settings of its own.
    pub(crate) fn endpoint_with(
        &self,
        config: EndpointConfig,
        socket: NodeSocket,
    ) -> Result<Endpoint> {
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new_with_abstract_socket(config, None, Box::new(socket), runtime)
            .context("make the endpoint")?;
        self.endpoints().push(endpoint.clone());
        Ok(endpoint)
    }

    /// Notes that a new connection has to be made and that the body starts again.
    pub(crate) fn reconnecting(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
        self.progress(0);
    }

    /// Notes that a handshake was confirmed.
    pub(crate) fn connected(&self, detail: impl Into<String>) {
        self.events.now(event::CONNECTED, detail);
        self.come.connected(&self.control.milestones);
    }

    /// Notes that an answer has begun to arrive.
    pub(crate) fn answering(&self) {
        self.come.first_byte(&self.control.milestones);
    }

    /// Notes how many bytes of the body there are.
    pub(crate) fn progress(&self, bytes: u64) {
        self.come.bytes(&self.control.milestones, bytes);
        let before = self.progress.swap(bytes, Ordering::Relaxed);
        // Wraps around where there are fewer than before, and back again.
        self.control.body_bytes.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Notes that a request of the workload is over.
    fn counted(&self, count: impl FnOnce(&mut RequestCounts)) {
        count(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        self.control.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn leave_result(
        &self,
        handshake_started_ns: i64,
        body: Body,
        error: Option<&anyhow::Error>,
    ) -> Result<()> {
        let summary = body.summary()?;
        let mut result = ClientResult {
            error: error.map(|e| format!("{e:#}")),
            handshake_started_ns,
            finished_ns: summary.last_byte_ns.filter(|_| error.is_none()),
            bytes: summary.bytes,
            sha256: error.is_none().then_some(summary.sha256),
            reconnects: self.reconnects.load(Ordering::Relaxed),
            longest_gap_ns: summary.longest_gap_ns,
            requests: None,
            playback: summary.playback,
        };
        if let Workload::Requests(_) = self.config.workload {
            let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            result.requests = Some(counts);
            result.sha256 = None;
            result.finished_ns = error.is_none().then(clock::now_ns);
            self.events.now(event::REQUESTS_DONE, format!("{counts:?}"));
        } else if let (None, Some(last)) = (error, summary.last_byte_ns) {
            let detail = format!("{} bytes", summary.bytes);
            self.events.span(event::DOWNLOAD_DONE, detail, last, last);
        }
        let json = serde_json::to_vec_pretty(&result)?;
        Ok(dir::write_whole(&self.config.folder.join(RESULT_FILE), &json)?)
    }
}

impl Control {
    fn new(config: &ClientConfig) -> Self {
        Self {
            handshake_started_ns: AtomicI64::default(),
            body_bytes: AtomicU64::default(),
            requests: AtomicU64::default(),
            milestones: Milestones::new(config.clients, &config.marks_bytes),
            start: Notify::default(),
            stop: watch::Sender::default(),
        }
    }
}

impl Handler for Control {
    fn handle(self: &Arc<Self>, request: Request) -> Reply {
        match request {
            Request::Start => {
                let now = clock::now_ns();
                // A repeated request must not move the zero of time.
                let (set, relaxed) = (&self.handshake_started_ns, Ordering::Relaxed);
                if set.compare_exchange(0, now, relaxed, relaxed).is_ok() {
                    self.start.notify_one();
                }
            }
            Request::Stop => _ = self.stop.send_replace(true),
            Request::Announce(_) | Request::Speak => {
                return refusal("only a server can announce an address");
            }
            Request::BecomeTarget(_) | Request::Handover(_) | Request::Objects => {
                return refusal("only a server has objects");
            }
            Request::Status => {}
        }
        let started = self.handshake_started_ns.load(Ordering::Relaxed);
        let mut reply = Reply {
            handshake_started_ns: (started != 0).then_some(started),
            body_bytes: self.body_bytes.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            ..Reply::default()
        };
        self.milestones.enter(&mut reply);
        reply
    }
}
