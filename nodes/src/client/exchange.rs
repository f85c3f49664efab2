//! One request and its answer, over whatever route there is.
//!
//! A request to both servers takes the first answer; there should be no second one, and if there
//! is it is told. A request whose server died is sent again over the next route.

use super::route::{Counted, Link, Route, Router};
use crate::{
    migration::wire::Lines,
    store::{
        Version,
        wire::{Head, NOT_MINE, Status, To},
    },
};
use anyhow::Context;
use futures_util::future::{Either, FutureExt, select};
use noq::{Connection, ReadError};
use std::{pin::Pin, sync::Arc, time::Instant};

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) client: u16,
    pub(super) number: u64,
    pub(super) floor: Version,
    /// The new contents, for a write.
    pub(super) write: Option<Arc<[u8]>>,
}

/// An answer, except for its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) first_byte: Instant,
    /// Whether it came over the link to the new server.
    pub(super) new: bool,
    /// Whether the other server answered as well.
    pub(super) twice: bool,
}

/// What one server did.
enum Side {
    Answered(Box<Opened>),
    NotMine,
    Failed(String),
}

/// An answer whose body is still to be read.
struct Opened {
    status: Status,
    first_byte: Instant,
    lines: Lines,
    new: bool,
    counted: Counted,
}

/// Sends the request and gives the body to `sink`, in pieces with their offsets; after a retry
/// they start from 0 again. `Err` says why there is no answer.
pub(super) async fn exchange(
    router: &Router,
    wanted: &Wanted,
    mut sink: impl FnMut(u64, &[u8]),
) -> Result<Answer, String> {
    let mut changes = router.watch();
    loop {
        let route = changes.borrow_and_update().clone();
        let (opened, twice) = match route {
            Route::Wait => {
                let _ = changes.changed().await;
                continue;
            }
            Route::One { link, to } => (ask(&link, wanted, to).await, false),
            Route::Both { old, new } => both(&old, &new, wanted).await,
        };
        let why = match opened {
            Side::Answered(mut opened) => match read(&mut opened, &mut sink).await {
                Ok(()) => {
                    let Opened { status, first_byte, new, counted, .. } = *opened;
                    drop(counted);
                    return Ok(Answer { status, first_byte, new, twice });
                }
                Err(why) => why,
            },
            Side::NotMine => return Err("every server left it to the other".into()),
            Side::Failed(why) => why,
        };
        if !router.retries() {
            return Err(why);
        }
        tracing::info!(number = wanted.number, why, "to be sent again");
        let _ = changes.changed().await;
    }
}

/// Asks both and takes the first answer; a failure of one leaves it to the other only until that
/// one has nothing to say either.
async fn both(old: &Arc<Link>, new: &Arc<Link>, wanted: &Wanted) -> (Side, bool) {
    let asked = |link: &Arc<Link>| asked(link.clone(), wanted.clone(), To::Both);
    let (first, second) = match select(asked(old), asked(new)).await {
        Either::Left((first, second)) | Either::Right((first, second)) => (first, second),
    };
    match first {
        Side::Answered(_) => {
            let other = second.now_or_never();
            (first, matches!(other, Some(Side::Answered(_))))
        }
        Side::NotMine => (second.await, false),
        // What the other one does without it will only be known when it is asked alone.
        Side::Failed(_) => match second.now_or_never() {
            Some(Side::Answered(second)) => (Side::Answered(second), false),
            _ => (first, false),
        },
    }
}

type Asked = Pin<Box<dyn Future<Output = Side> + Send>>;

/// A write must reach a server even when the other one has answered, so it goes on by itself.
fn asked(link: Arc<Link>, wanted: Wanted, to: To) -> Asked {
    let write = wanted.write.is_some();
    let side = async move { ask(&link, &wanted, to).await };
    if !write {
        return Box::pin(side);
    }
    let task = tokio::spawn(side);
    Box::pin(async { task.await.unwrap_or_else(|error| Side::Failed(error.to_string())) })
}

async fn ask(link: &Arc<Link>, wanted: &Wanted, to: To) -> Side {
    let counted = link.count();
    let failed = match open(&link.connection, wanted, to).await {
        Ok((status, lines)) => {
            let (first_byte, new) = (Instant::now(), link.new);
            return Side::Answered(Box::new(Opened { status, first_byte, lines, new, counted }));
        }
        Err(error) => error,
    };
    match failed.downcast_ref::<ReadError>() {
        Some(ReadError::Reset(code)) if code.into_inner() == u64::from(NOT_MINE) => Side::NotMine,
        _ => Side::Failed(format!("{failed:#}")),
    }
}

async fn open(connection: &Connection, wanted: &Wanted, to: To) -> anyhow::Result<(Status, Lines)> {
    let (mut send, receive) = connection.open_bi().await?;
    let head = Head {
        id: wanted.id.clone(),
        client: wanted.client,
        number: wanted.number,
        floor: wanted.floor,
        to,
        write: wanted.write.as_ref().map(|body| body.len() as u64),
    };
    send.write_all(format!("{head}\r\n").as_bytes()).await?;
    if let Some(body) = &wanted.write {
        send.write_all(body).await?;
    }
    // A server that left it to the other one may have ended the stream already.
    let _ = send.finish();
    let mut lines = Lines::new(receive);
    let line = lines.line().await?.context("no answer")?;
    Ok((line.parse()?, lines))
}

async fn read(opened: &mut Opened, sink: &mut impl FnMut(u64, &[u8])) -> Result<(), String> {
    let mut offset = 0;
    while let Some(chunk) = opened.lines.chunk().await.map_err(|error| error.to_string())? {
        sink(offset, &chunk);
        offset += chunk.len() as u64;
        tokio::task::consume_budget().await;
    }
    if offset == opened.status.size {
        return Ok(());
    }
    Err(format!("{offset} of {} bytes", opened.status.size))
}
