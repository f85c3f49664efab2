//! The old server's end of the connection between the servers: connects, again and again if need
//! be, sends what [`Origin`](super::origin::Origin) says at a steady rate, and what is asked for at
//! once.

use super::{
    origin::Next,
    service::Shared,
    wire::{self, Lines, ObjectHead, ToOrigin, ToTarget},
};
use crate::{
    events::Events,
    pace::Pace,
    store::{Id, Object, Version},
};
use anyhow::{Context, Result};
use limosa_record::row::event;
use noq::{Connection, Endpoint, PathId, VarInt};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Pause before the next attempt to connect.
const RETRY: Duration = Duration::from_millis(200);

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a push needs.
pub(crate) struct Pusher {
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: Events,
    pub(crate) endpoint: Endpoint,
    pub(crate) config: noq::ClientConfig,
    /// Where the new server listens for objects.
    pub(crate) to: SocketAddr,
    /// The name in its certificate.
    pub(crate) server_name: String,
    /// Bytes of objects per second.
    pub(crate) rate_bytes_per_s: u64,
}

/// Pushes until there is no new server any more.
pub(crate) async fn run(pusher: Pusher) {
    let mut pace = Pace::new(pusher.rate_bytes_per_s);
    let taken_back =
        || pusher.shared.with(|service| service.migration().is_some_and(|m| m.taken_back));
    while !taken_back() {
        let why = match pusher.connect().await {
            Ok(connection) => {
                let ended = pusher.session(&connection, &mut pace).await;
                pusher.shared.with(|service| service.disconnected());
                connection.close(VarInt::from_u32(0), b"over");
                let why = ended.err().map_or("over".into(), |error| format!("{error:#}"));
                pusher.events.now(event::PUSH_LOST, why.clone());
                why
            }
            Err(error) => format!("{error:#}"),
        };
        tracing::info!(why, "push");
        sleep(RETRY).await;
    }
}

impl Pusher {
    async fn connect(&self) -> Result<Connection> {
        let connecting =
            self.endpoint.connect_with(self.config.clone(), self.to, &self.server_name)?;
        let connected = timeout(HANDSHAKE, connecting).await;
        connected.context("handshake timed out")?.context("connect to the new server")
    }

    /// Ends well when this server has taken everything back.
    async fn session(&self, connection: &Connection, pace: &mut Pace) -> Result<()> {
        let (mut send, receive) = connection.open_bi().await?;
        // Words go ahead of objects.
        send.set_priority(2)?;
        wire::write(&mut send, &ToTarget::Hello).await?;
        let mut lines = Lines::new(receive);
        let mut held: Vec<(Id, Version)> = Vec::new();
        loop {
            match lines.message().await?.context("the new server fell silent")? {
                ToOrigin::Held { id, version } => held.push((id.into(), version.parse()?)),
                ToOrigin::Ready => break,
                ToOrigin::Pull { .. } => {}
            }
        }
        let detail = format!("{}, which holds {} objects", self.to, held.len());
        self.events.now(event::PUSH_CONNECTED, detail);
        let (line, mut said) = mpsc::unbounded_channel();
        self.shared.with(|service| {
            if let Some(origin) = service.origin() {
                origin.link_rtt(connection.rtt(PathId::ZERO).unwrap_or_default());
            }
            service.connected(line, &held);
        });
        let talk = async {
            while let Some(message) = said.recv().await {
                wire::write(&mut send, &message).await?;
                if message == ToTarget::TakenBack {
                    send.finish()?;
                    let _ = timeout(FAREWELL, send.stopped()).await;
                    break;
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = talk => ended,
            ended = self.listen(connection, lines) => ended,
            ended = self.background(connection, pace) => ended,
            why = connection.closed() => Err(why.into()),
        }
    }

    async fn listen(&self, connection: &Connection, mut lines: Lines) -> Result<()> {
        while let Some(message) = lines.message().await? {
            let rtt = connection.rtt(PathId::ZERO).unwrap_or_default();
            let pulled = self.shared.with(|service| {
                let now = std::time::Instant::now();
                let origin = service.origin()?;
                origin.link_rtt(rtt);
                match message {
                    ToOrigin::Held { id, version } => match version.parse() {
                        Ok(version) => origin.held(&id, version, now),
                        Err(error) => tracing::warn!(%error, id, "odd version"),
                    },
                    ToOrigin::Pull { id } if origin.pulled(&id, now) => {
                        let object = service.store.get(&id)?.clone();
                        service.bytes += object.content.len();
                        return Some((id, object));
                    }
                    ToOrigin::Pull { .. } | ToOrigin::Ready => {}
                }
                None
            });
            if let Some((id, object)) = pulled {
                let connection = connection.clone();
                tokio::spawn(async move {
                    if let Err(error) = push(&connection, &id, &object, None).await {
                        tracing::info!(error = format!("{error:#}"), id, "pulled object");
                    }
                });
            }
        }
        anyhow::bail!("the new server ended the conversation")
    }

    async fn background(&self, connection: &Connection, pace: &mut Pace) -> Result<()> {
        let mut changes = self.shared.changes();
        loop {
            let (next, object) = self.shared.with(|service| {
                let next = service.next();
                let object = match &next {
                    Next::Push(id) => service.store.get(id).cloned(),
                    _ => None,
                };
                service.bytes += object.as_ref().map_or(0, |object| object.content.len());
                (next, object)
            });
            match (next, object) {
                (Next::Push(id), Some(object)) => {
                    push(connection, &id, &object, Some(pace)).await.context(id.to_string())?;
                }
                (Next::Push(id), None) => tracing::warn!(%id, "is not here to be sent"),
                (Next::At(at), _) => {
                    tokio::select! {
                        () = sleep_until(at.into()) => {}
                        _ = changes.changed() => {}
                    }
                }
                (Next::Idle, _) => {
                    let _ = changes.changed().await;
                }
            }
        }
    }
}

/// Sends one object on a stream of its own; ahead of the others when it is not paced.
async fn push(
    connection: &Connection,
    id: &str,
    object: &Object,
    pace: Option<&mut Pace>,
) -> Result<()> {
    let bytes = object.content.bytes().context("read the object")?;
    let mut stream = connection.open_uni().await?;
    stream.set_priority(i32::from(pace.is_none()))?;
    let (id, version) = (id.to_owned(), object.version.to_string());
    wire::write(&mut stream, &ObjectHead { id, version, size: bytes.len() as u64 }).await?;
    match pace {
        None => stream.write_all(&bytes).await?,
        Some(pace) => {
            for chunk in bytes.chunks(pace.chunk()) {
                // What counts is when the last byte goes: an object takes size ÷ rate.
                pace.wait(chunk.len()).await;
                stream.write_all(chunk).await?;
            }
        }
    }
    Ok(stream.finish()?)
}
