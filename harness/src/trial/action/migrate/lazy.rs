//! Memory that follows: the server lives at its target before its pages are there. The frozen source
//! is killed before, but CRIU holds its pages and serves them: those that the server touches first,
//! and the others meanwhile.

use super::{AS_LONG_AS_IT_TAKES, Failed, LAST, Move, Mover};
use crate::{plan::PAGES_PORT, trial::transfer::STALLED};
use anyhow::{Context, Result, anyhow};
use limosa_lab::sys::{
    criu::{Daemon, DumpReport, Leave, Options, Pages, image_bytes},
    listener,
};
use limosa_record::clock::now_ns;
use std::{
    net::{SocketAddr, TcpStream},
    pin::pin,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// How often one looks whether pages come.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long the dump may take to end when nobody wants pages any more.
const LAST_WORDS: Duration = Duration::from_secs(10);

impl Mover<'_> {
    pub(super) async fn lazy(&self, moved: &mut Move) -> Result<(), Failed> {
        let served_at = SocketAddr::new(self.route.own, PAGES_PORT);
        let mut options = self.options("checkpoint", moved);
        options.leave = Leave::Stopped;
        options.limit = AS_LONG_AS_IT_TAKES;
        options.pages.served_at = Some(served_at);
        let parent = options.pages.parent.clone();
        let here = self.here.join(LAST);
        let mut dump = pin!(self.node.checkpoint(self.criu, &here, &options));
        let begun_ns = now_ns().max(moved.planned_ns);
        tokio::select! {
            ended = &mut dump => return Err(Failed::Before(early(ended))),
            () = listening(self, served_at) => {}
        }
        // The dump goes on, but its images are complete.
        let served_ns = now_ns();
        moved.dump = Some(DumpReport {
            started_ns: begun_ns,
            done_ns: served_ns,
            image_bytes: image_bytes(&here).unwrap_or(0),
            ..DumpReport::default()
        });
        let mut ended = None;
        let arrived = {
            let mut arriving = pin!(self.arrive(moved, parent.as_deref(), served_at));
            loop {
                tokio::select! {
                    result = &mut arriving => break result,
                    // Why it failed is told at the other end.
                    result = &mut dump, if ended.is_none() => ended = Some(result),
                }
            }
        };
        if matches!(arrived, Err(Failed::Before(_))) {
            self.refuse(served_at);
        }
        let ended = match ended {
            Some(ended) => Some(ended),
            None => timeout(LAST_WORDS, dump).await.ok(),
        };
        if let (Some(Ok(report)), Some(dump)) = (ended, &mut moved.dump) {
            let times = (report.started_ns, dump.done_ns, dump.image_bytes);
            // CRIU's clock of the freeze is off when it has served pages.
            *dump = DumpReport { frozen_us: None, ..report };
            (dump.started_ns, dump.done_ns, dump.image_bytes) = times;
        }
        arrived
    }

    /// Images first, then the server, then its memory.
    async fn arrive(
        &self,
        moved: &mut Move,
        parent: Option<&str>,
        served_at: SocketAddr,
    ) -> Result<(), Failed> {
        let there = self.folder(LAST, parent).map_err(Failed::Before)?;
        let logs = self.logs.join(format!("transfer-{LAST}"));
        let carried = self.carry(&self.here.join(LAST), &there, &logs).await;
        moved.transfer = Some(carried.map_err(Failed::Before)?);
        let daemon = self.criu.fetch_pages(&there, served_at, self.route.to).await;
        let daemon = daemon.context("fetch pages").map_err(Failed::Before)?;
        self.node.end_served().await.map_err(Failed::After)?;
        let mut options = Options::new(self.logs.join("restore"));
        options.pages = Pages { daemon: Some(daemon.folder().to_owned()), ..Pages::default() };
        let restored = tokio::select! {
            restored = self.restore(&options) => restored,
            lost = stalled(&daemon) => Err(lost),
        };
        let arrived = match restored {
            Ok(report) => {
                moved.restore = Some(report);
                self.all_pages(&daemon).await
            }
            Err(e) => Err(e),
        };
        let kept = daemon.keep_log(&self.logs.join("restore"));
        let done_ns = match arrived {
            Ok(done_ns) => done_ns,
            Err(e) => {
                // Before the daemon ends: without it pages that are missing would be zeros.
                self.node.give_up().await.map_err(Failed::After)?;
                return Err(Failed::After(lost(&daemon, &e)));
            }
        };
        kept.map_err(|e| Failed::After(e.into()))?;
        moved.lazy = Some((daemon.served(), done_ns));
        Ok(())
    }

    /// Returns when the last page is there.
    async fn all_pages(&self, daemon: &Daemon) -> Result<i64> {
        tokio::select! {
            done_ns = daemon.ended() => Ok(done_ns?),
            why = stalled(daemon) => Err(why),
        }
    }

    /// Nobody will want pages: CRIU takes a connection that ends at once for the last one, and lets
    /// the source go.
    fn refuse(&self, served_at: SocketAddr) {
        // It may have ended by itself.
        let _ = self.route.from.run(|| Ok(TcpStream::connect(served_at)?));
    }
}

/// Returns when pages are served.
async fn listening(mover: &Mover<'_>, at: SocketAddr) {
    while !listener::is_there(mover.route.from, at) {
        sleep(Duration::from_millis(1)).await;
    }
}

fn early(ended: Result<DumpReport>) -> anyhow::Error {
    ended.err().unwrap_or_else(|| anyhow!("criu has ended without serving a page"))
}

/// Returns when no page has come for [`STALLED`].
async fn stalled(daemon: &Daemon) -> anyhow::Error {
    let (mut before, mut since) = (0, Instant::now());
    while since.elapsed() < STALLED {
        sleep(LOOK_AGAIN).await;
        let now = daemon.progress();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    anyhow!("no page has come for {STALLED:?}")
}

/// What is lost with a server whose memory has not come.
fn lost(daemon: &Daemon, why: &anyhow::Error) -> anyhow::Error {
    let served = daemon.served();
    let missing = served.wanted_pages.saturating_sub(served.pages);
    anyhow!(
        "the server is lost: {missing} of its {} pages were still at the source: {why:#}",
        served.wanted_pages
    )
}
