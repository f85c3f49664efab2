//! A request workload: a sequence of reads and writes, each with a row in `requests.csv`.
//!
//! A body that is not what object and version say it should be is a failure, and so is a version
//! older than one that this client has seen.

mod sequence;

use super::{
    Client, Router,
    exchange::{Wanted, exchange},
};
use crate::store::{Version, generate, wire::Code};
use anyhow::{Context, Result};
use futures_util::{StreamExt, stream::FuturesUnordered};
use limosa_record::{
    clock,
    node::{Arrivals, RequestWorkload},
    row::{NodeRequestRow, RowFile, event},
};
use sequence::{Item, Sequence};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Name of the file in a client's folder.
const REQUESTS_FILE: &str = "requests.csv";

/// What the requests of a workload share.
struct Desk<'a> {
    client: &'a Client,
    router: &'a Router,
    seed: u64,
    rows: RefCell<RowFile>,
    /// The newest version of each object that an answer has shown.
    seen: RefCell<BTreeMap<String, Version>>,
    new_answered: Cell<bool>,
}

/// Sends all requests and waits for their ends.
pub(super) async fn run(
    client: &Client,
    workload: &RequestWorkload,
    router: &Router,
) -> Result<()> {
    let path = client.config.folder.join(REQUESTS_FILE);
    let rows = RowFile::append(&path).with_context(|| format!("open {}", path.display()))?;
    let desk = Desk {
        client,
        router,
        seed: workload.catalogue.seed,
        rows: RefCell::new(rows),
        seen: RefCell::default(),
        new_answered: Cell::new(false),
    };
    let mut sequence = Sequence::new(workload, Instant::now())?;
    let (open_loop, most, think) = match workload.arrivals {
        Arrivals::Fixed { .. } | Arrivals::Poisson { .. } => (true, usize::MAX, Duration::ZERO),
        Arrivals::ClosedLoop { outstanding, think } => {
            (false, outstanding as usize, think.as_duration())
        }
    };
    let mut out = FuturesUnordered::new();
    let mut next = sequence.next();
    loop {
        while !open_loop && out.len() < most {
            let Some(item) = next.take_if(|_| sequence.in_time(Instant::now())) else {
                break;
            };
            out.push(desk.request(item, think));
            next = sequence.next();
        }
        let due = next.as_ref().filter(|_| open_loop).map(|item| item.due);
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(()) = out.next() => {}
            () = wait, if due.is_some() => {
                out.extend(next.take().map(|item| desk.request(item, think)));
                next = sequence.next();
            }
            else => return Ok(()),
        }
    }
}

impl Desk<'_> {
    async fn request(&self, item: Item, think: Duration) {
        let (t_ns, started) = (clock::now_ns(), Instant::now());
        let version = Version { number: item.number, client: self.client.config.number };
        let body = item.write.map(|size| generate(self.seed, &item.id, version, size).into());
        let floor = self.seen.borrow().get(&item.id).copied().unwrap_or_default();
        let wanted = Wanted {
            id: item.id,
            client: version.client,
            number: version.number,
            floor,
            write: body,
        };
        let mut received = Vec::new();
        let answer = exchange(self.router, &wanted, |offset, chunk| {
            self.client.answering();
            received.truncate(offset as usize);
            received.extend_from_slice(chunk);
        })
        .await;
        let response_ns = started.elapsed().as_nanos() as i64;
        let mut row = NodeRequestRow {
            request: wanted.number,
            object: wanted.id.clone(),
            t_ns,
            response_ns: None,
            served_by: None,
            outcome: String::new(),
            first_byte_ns: None,
            access: if wanted.write.is_some() { "write" } else { "read" }.into(),
            version: None,
        };
        let mut twice = false;
        match answer {
            Err(why) => row.outcome = format!("failed: {why}"),
            Ok(answer) => {
                // Also one without a body.
                self.client.answering();
                twice = answer.twice;
                if answer.new && !self.new_answered.replace(true) {
                    let detail = format!("request {} for {}", row.request, row.object);
                    self.client.events.now(event::FIRST_ANSWER_BY_NEW, detail);
                }
                row.response_ns = Some(response_ns);
                let first_byte = answer.first_byte.duration_since(started);
                row.first_byte_ns = Some(first_byte.as_nanos() as i64);
                row.outcome =
                    self.judge(&wanted, answer.status.code, answer.status.version, &received);
                if row.outcome == "ok" {
                    row.version = Some(answer.status.version.to_string());
                }
                row.served_by = Some(answer.status.name);
            }
        }
        self.client.counted(|counts| {
            match &*row.outcome {
                "ok" => counts.ok += 1,
                "lost" => counts.lost += 1,
                _ => counts.failed += 1,
            }
            counts.writes += u64::from(row.outcome == "ok" && wanted.write.is_some());
            counts.answered_twice += u64::from(twice);
        });
        if let Err(error) = self.rows.borrow_mut().write(&row) {
            tracing::error!(%error, "cannot write a request's row");
        }
        tokio::time::sleep(think).await;
    }

    /// The outcome; what an answer shows is seen from now on.
    fn judge(&self, wanted: &Wanted, code: Code, version: Version, received: &[u8]) -> String {
        match code {
            Code::Lost => return "lost".into(),
            Code::NotFound => return "failed: no such object".into(),
            Code::Ok => {}
        }
        if version < wanted.floor {
            return format!("failed: version {version} after {}", wanted.floor);
        }
        if wanted.write.is_none() {
            let right = generate(self.seed, &wanted.id, version, received.len() as u64);
            if right != received {
                return "failed: the body is not what it should be".into();
            }
        }
        let mut seen = self.seen.borrow_mut();
        let newest = seen.entry(wanted.id.clone()).or_default();
        *newest = version.max(*newest);
        "ok".into()
    }
}
