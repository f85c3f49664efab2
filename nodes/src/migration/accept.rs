//! The new server's end of the connection between the servers: takes objects and words, and
//! notices when the old server cannot be reached.

use super::{
    service::Shared,
    wire::{self, Lines, ObjectHead, ToTarget},
};
use crate::{events::Events, transport::PUSH_KEEP_ALIVE};
use anyhow::{Context, Result};
use limosa_record::row::event;
use noq::{Connection, Endpoint, Incoming, PathId, RecvStream, VarInt};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// The old server lets hear from it every [`PUSH_KEEP_ALIVE`]; when nothing comes for so long it
/// is gone, or the link is cut: what is not here cannot be had for now.
const SILENCE: Duration = Duration::from_millis(750);

/// Largest object that is taken, in bytes.
const MAX_OBJECT: u64 = 1 << 30;

/// Takes what the old server sends, over one connection at a time: the newest.
pub(crate) async fn run(endpoint: Endpoint, shared: Arc<Shared>, events: Events) {
    let mut current: Option<JoinHandle<()>> = None;
    while let Some(incoming) = endpoint.accept().await {
        let remote = incoming.remote_address();
        let connection = match handshake(incoming).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "push connection");
                continue;
            }
        };
        if let Some(task) = current.take() {
            task.abort();
            let _ = task.await;
            shared.with(|service| service.unlinked());
        }
        events.now(event::PUSH_CONNECTED, remote.to_string());
        let (shared, events) = (shared.clone(), events.clone());
        current = Some(tokio::spawn(async move {
            let ended = serve(&connection, &shared, &events).await;
            shared.with(|service| service.unlinked());
            connection.close(VarInt::from_u32(0), b"over");
            let why = ended.err().map_or("over".into(), |error| format!("{error:#}"));
            events.now(event::PUSH_LOST, why);
        }));
    }
}

async fn handshake(incoming: Incoming) -> Result<Connection> {
    Ok(incoming.accept()?.await?)
}

async fn serve(connection: &Connection, shared: &Arc<Shared>, events: &Events) -> Result<()> {
    let (mut send, receive) = connection.accept_bi().await?;
    let mut lines = Lines::new(receive);
    let hello: ToTarget = lines.message().await?.context("the old server says nothing")?;
    anyhow::ensure!(hello == ToTarget::Hello, "the old server does not say hello");
    let (line, mut said) = mpsc::unbounded_channel();
    shared.with(|service| service.linked(line));
    let talk = async {
        while let Some(message) = said.recv().await {
            wire::write(&mut send, &message).await?;
        }
        Ok(())
    };
    let listen = async {
        while let Some(message) = lines.message().await? {
            shared.with(|service| service.told(message));
        }
        // After its last words the old server may still have objects under way.
        Err(connection.closed().await.into())
    };
    let take = async {
        loop {
            let stream = connection.accept_uni().await?;
            let shared = shared.clone();
            tokio::spawn(async move {
                if let Err(error) = receive_object(stream, &shared).await {
                    tracing::info!(error = format!("{error:#}"), "object did not arrive");
                }
            });
        }
    };
    tokio::select! {
        ended = talk => ended,
        ended = listen => ended,
        ended = take => ended,
        () = watch(connection, shared, events) => Ok(()),
    }
}

async fn receive_object(stream: RecvStream, shared: &Shared) -> Result<()> {
    let mut lines = Lines::new(stream);
    let head: ObjectHead = lines.message().await?.context("an empty stream")?;
    anyhow::ensure!(head.size <= MAX_OBJECT, "object of {} bytes", head.size);
    let body = lines.body(head.size).await?;
    let version = head.version.parse()?;
    shared.with(|service| service.received(&head.id, version, body));
    Ok(())
}

/// Says when nothing has come for long, and when something comes again; for ever.
async fn watch(connection: &Connection, shared: &Shared, events: &Events) {
    let (mut datagrams, mut since, mut silent) = (0, Instant::now(), false);
    loop {
        tokio::time::sleep(PUSH_KEEP_ALIVE / 2).await;
        let stats = connection.path_stats(PathId::ZERO).map(|stats| stats.udp_rx.datagrams);
        if stats.is_some_and(|now| now != datagrams) {
            (datagrams, since) = (stats.unwrap_or(0), Instant::now());
        }
        if (since.elapsed() > SILENCE) != silent {
            silent = !silent;
            shared.with(|service| service.reachable(!silent));
            let detail = if silent { "silence" } else { "the old server is heard again" };
            events.now(if silent { event::PUSH_LOST } else { event::PUSH_CONNECTED }, detail);
        }
    }
}
