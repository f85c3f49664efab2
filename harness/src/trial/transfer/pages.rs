//! CRIU's own page server: memory travels while it is dumped, and the other images follow in a stream.
//!
//! The server runs in the namespace of the target and takes one connection, that of the dump.

use super::{Report, Route, STALLED, stream};
use anyhow::{Context, Result, bail};
use limosa_lab::sys::{
    arrivals::Arrivals,
    criu::{Criu, Daemon, image_bytes},
};
use limosa_record::clock::now_ns;
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// How often one looks whether pages arrive.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long the server may take to end when the dump has.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A page server that listens.
#[derive(Debug)]
pub struct Pages<'a> {
    daemon: Daemon,
    arrivals: Arrivals,
    target: &'a Path,
    started_ns: i64,
}

impl<'a> Pages<'a> {
    /// Starts one at `at` that writes into `target`, upon the images of the folder `parent` beside it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn open(
        route: &Route<'_>,
        at: SocketAddr,
        criu: &Criu,
        target: &'a Path,
        parent: Option<String>,
    ) -> Result<Self> {
        let started_ns = now_ns();
        let arrivals =
            Arrivals::watch(target).with_context(|| format!("watch {}", target.display()))?;
        let daemon = criu.take_pages(target, parent, at, route.to).await?;
        Ok(Self { daemon, arrivals, target, started_ns })
    }

    /// Waits for a dump that sends its pages here, as long as they come.
    ///
    /// # Errors
    /// What the dump says, or that nothing has come for [`STALLED`].
    pub async fn during<T>(&mut self, dump: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = dump => done,
            broken = self.arrivals.note() => match broken.context("watch for arrivals")? {},
            () = stalled(self.target) => bail!("no page has come for {STALLED:?}"),
        }
    }

    /// Sends what else is in `source`; keeps the server's log in `logs`.
    ///
    /// # Errors
    /// When the server has failed, or the rest does not arrive.
    pub async fn finish(mut self, route: &Route<'_>, source: &Path, logs: &Path) -> Result<Report> {
        let ended = timeout(LAST_WORDS, self.daemon.ended()).await;
        self.daemon.keep_log(logs)?;
        ended.context("criu page-server does not end")??;
        let span = self.arrivals.span_ns().context("watch for arrivals")?;
        let (data_ns, _) = span.context("no page has come")?;
        let pages_bytes = image_bytes(self.target)?;
        let rest = stream::copy(route, source, self.target, false).await?;
        Ok(Report {
            method: "page-server".into(),
            started_ns: self.started_ns,
            data_ns,
            size_bytes: pages_bytes + rest.size_bytes,
            sent_bytes: pages_bytes + rest.sent_bytes,
            ..rest
        })
    }
}

/// Returns when the images in a folder have not grown for [`STALLED`]. A dump may be held for a
/// moment before it begins.
async fn stalled(target: &Path) {
    let (mut before, mut since) = (0, Instant::now());
    while since.elapsed() < STALLED {
        sleep(LOOK_AGAIN).await;
        let now = image_bytes(target).unwrap_or(0);
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}
