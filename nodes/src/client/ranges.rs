//! A download in ranges: `path/0`, `path/1` … are asked for in order, several at a time, until
//! there is no further one; the body grows in order, whatever the order of arrival.

use super::{
    Body, Client, Router,
    exchange::{Wanted, exchange},
};
use crate::store::{Version, wire::Code};
use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, stream::FuturesUnordered};
use limosa_record::row::event;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;

/// Ranges that are asked for at the same time. With ranges of 1 MB that is six times what a link of
/// 100 Mbit/s and 50 ms holds, so that the pipe stays full when one range is waited for.
const OUTSTANDING: usize = 4;

/// Downloads everything.
pub(super) async fn run(client: &Client, router: &Router, body: &mut Body) -> Result<()> {
    let name = client.config.path.strip_prefix('/').context("the path has no leading slash")?;
    let (line, mut chunks) = mpsc::unbounded_channel::<(u64, Vec<u8>)>();
    let mut early: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut out = FuturesUnordered::new();
    // The first range that was not there, the next to ask for, the one that the body waits for.
    let (mut end, mut next, mut current) = (None, 0, 0);
    let mut whole = BTreeSet::new();
    let mut answered = false;
    while end != Some(current) {
        while end.is_none() && out.len() < OUTSTANDING {
            out.push(range(client, router, name, next, line.clone()));
            next += 1;
        }
        let over = tokio::select! {
            Some(chunk) = chunks.recv() => {
                client.answering();
                body.arriving();
                early.entry(chunk.0).or_default().push(chunk.1);
                None
            }
            over = out.next() => over,
        };
        // The end of a range may be told before its last bytes were taken from the line.
        while let Ok((range, bytes)) = chunks.try_recv() {
            body.arriving();
            early.entry(range).or_default().push(bytes);
        }
        if let Some((range, outcome)) = over {
            let (code, new) = outcome?;
            if new && !std::mem::replace(&mut answered, true) {
                client.events.now(event::FIRST_ANSWER_BY_NEW, format!("{name}/{range}"));
            }
            match code {
                Code::Ok => _ = whole.insert(range),
                Code::NotFound => end = Some(end.unwrap_or(range).min(range)),
                Code::Lost => bail!("range {range} is lost"),
            }
        }
        loop {
            for chunk in early.remove(&current).unwrap_or_default() {
                client.progress(body.add(&chunk)?);
            }
            if !whole.remove(&current) {
                break;
            }
            current += 1;
        }
    }
    anyhow::ensure!(current > 0, "there is no object `{name}/0`");
    Ok(())
}

async fn range(
    client: &Client,
    router: &Router,
    name: &str,
    range: u64,
    line: mpsc::UnboundedSender<(u64, Vec<u8>)>,
) -> (u64, Result<(Code, bool)>) {
    let wanted = Wanted {
        id: format!("{name}/{range}"),
        client: client.config.number,
        number: range + 1,
        floor: Version::default(),
        write: None,
    };
    let mut got = 0;
    let answer = exchange(router, &wanted, |offset, chunk| {
        // After a retry the bytes that are here already come once more.
        let known = got.max(offset) - offset;
        if let Some(fresh) = chunk.get(known as usize..).filter(|fresh| !fresh.is_empty()) {
            got = offset + chunk.len() as u64;
            let _ = line.send((range, fresh.to_vec()));
        }
    });
    let outcome = match answer.await {
        Ok(answer) => Ok((answer.status.code, answer.new)),
        Err(why) => Err(anyhow::anyhow!("range {range}: {why}")),
    };
    (range, outcome)
}
