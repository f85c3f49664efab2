//! The action `migrate`: a server moves, and its images travel through the emulated network.
//!
//! - cold: all of its memory travels while it is stopped;
//! - pre-copy: [`rounds`] copy memory while it runs, and the rest travels while it is stopped;
//! - post-copy: it is restored without its memory, which follows ([`lazy`]);
//! - hybrid: one round, and what has changed since follows.
//!
//! The source can go on until everything that has to be at the target is there. When it cannot be
//! moved it does; else it is dead before the target may send.

mod lazy;
mod rounds;

pub use rounds::Round;

use super::Scene;
use crate::{
    plan::{MigratePlan, PAGES_PORT, Reach, TRANSFER_PORT},
    spec::Transfer,
    trial::{
        node::Node,
        timeline::Outcome,
        transfer::{self, Report, Route, rsync, stream},
    },
};
use anyhow::{Context, Result, anyhow};
use limosa_lab::sys::criu::{Criu, DumpReport, Leave, Options, Pages, RestoreReport, Served};
use limosa_record::clock::now_ns;
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// A dump that sends its memory takes as long as the link does, and is watched otherwise.
const AS_LONG_AS_IT_TAKES: Duration = Duration::from_hours(24);

/// How a server moved, or how far it came.
#[derive(Debug, Default)]
pub struct Move {
    /// When it was planned, CLOCK_REALTIME in ns.
    pub planned_ns: i64,
    /// Memory that was copied while it ran.
    pub rounds: Vec<Round>,
    /// Its checkpoint; `None` when it did not come to that.
    pub dump: Option<DumpReport>,
    /// The way of its images; `None` when they did not arrive.
    pub transfer: Option<Report>,
    /// Its restore; `None` when it went on where it was.
    pub restore: Option<RestoreReport>,
    /// Memory that followed it, and when the last page was there (CLOCK_REALTIME in ns); `None`
    /// when none should, or not all came.
    pub lazy: Option<(Served, i64)>,
    /// Why it goes on where it was, and since when (CLOCK_REALTIME in ns).
    pub aborted: Option<(String, i64)>,
}

impl Move {
    /// When it began, CLOCK_REALTIME in ns.
    pub fn started_ns(&self) -> i64 {
        let first = self.rounds.first().map(|round| &round.dump).or(self.dump.as_ref());
        first.map_or_else(|| now_ns().max(self.planned_ns), |dump| dump.started_ns)
    }
}

/// A server on its way.
struct Mover<'a> {
    scene: &'a Scene<'a>,
    criu: &'a Criu,
    node: Rc<Node>,
    plan: &'a MigratePlan,
    route: Route<'a>,
    /// Images at the source, a folder per dump.
    here: PathBuf,
    /// Images at the target.
    there: PathBuf,
    logs: PathBuf,
}

/// Folder of the images of the checkpoint itself.
const LAST: &str = "last";

impl Scene<'_> {
    /// Moves a server, or leaves it where it was and notes why.
    pub(super) async fn migrate(&self, plan: &MigratePlan, planned_ns: i64) -> Result<Outcome> {
        let node = self.node(&plan.node)?;
        let name = format!("migrate-{}", self.moves.borrow().len() + 1);
        let from = node.place();
        let way = Reach::new(self.network).way(&from, &plan.to);
        let way = way.map_err(|no| anyhow!("{}\n  hint: {}", no.why, no.hint))?;
        let (own, at) = (way.from, SocketAddr::new(way.to, TRANSFER_PORT));
        let mover = Mover {
            scene: self,
            criu: self.criu()?,
            node,
            plan,
            route: Route { from: self.lab.place(&from)?, own, to: self.lab.place(&plan.to)?, at },
            here: self.folders.images(&name)?,
            there: self.folders.arrived(&name)?,
            logs: self.folders.logs(&name)?,
        };
        let mut moved = Move { planned_ns, ..Move::default() };
        let done = mover.go(&mut moved).await;
        let outcome = match done {
            Ok(()) => Ok(format!("{} to {}", plan.node, plan.to)),
            // First of all, because the target's disk may be full, and it may be the source's, too.
            Err(Failed::Before(why)) => {
                let cleared = mover.clear();
                mover.resume(&mut moved, why).and_then(|detail| cleared.map(|()| detail))
            }
            Err(Failed::After(why)) => Err(why),
        };
        let (started_ns, done_ns) = (moved.started_ns(), now_ns());
        let done_ns = moved.restore.as_ref().map_or(done_ns, |report| report.done_ns);
        self.moves.borrow_mut().push(moved);
        let detail = outcome?;
        mover.clear()?;
        Ok(Outcome { detail, started_ns, done_ns })
    }
}

/// Why a move did not come to its end.
enum Failed {
    /// The source can go on.
    Before(anyhow::Error),
    /// It is too late for that.
    After(anyhow::Error),
}

impl Mover<'_> {
    async fn go(&self, moved: &mut Move) -> Result<(), Failed> {
        self.rounds(moved).await.map_err(Failed::Before)?;
        if self.plan.is_lazy() {
            return self.lazy(moved).await;
        }
        let mut options = self.options("checkpoint", moved);
        options.leave = Leave::Stopped;
        let (dump, transfer) = self.copy(LAST, options).await;
        moved.dump = dump;
        moved.transfer = Some(transfer.map_err(Failed::Before)?);
        self.node.end_stopped().await.map_err(Failed::After)?;
        let options = Options::new(self.logs.join("restore"));
        moved.restore = Some(self.restore(&options).await.map_err(Failed::After)?);
        Ok(())
    }

    /// For the next dump: it begins when the move is planned if it is the first, and says what its
    /// images lie upon.
    fn options(&self, log: &str, moved: &Move) -> Options {
        let mut options = Options::new(self.logs.join(log));
        options.begin_ns = moved.planned_ns;
        let parent = moved.rounds.len();
        options.pages = Pages {
            tracked: self.plan.rounds > 0,
            parent: (parent > 0).then(|| parent.to_string()),
            ..Pages::default()
        };
        options
    }

    /// Dumps into a folder and carries it to the target. A transfer that failed is the second result.
    async fn copy(&self, name: &str, options: Options) -> (Option<DumpReport>, Result<Report>) {
        let there = match self.folder(name, options.pages.parent.as_deref()) {
            Ok(there) => there,
            Err(e) => return (None, Err(e)),
        };
        let (here, logs) = (self.here.join(name), self.logs.join(format!("transfer-{name}")));
        if self.plan.transfer == Transfer::PageServer {
            return self.copy_pages(&here, &there, &logs, options).await;
        }
        match self.node.checkpoint(self.criu, &here, &options).await {
            Ok(dump) => (Some(dump), self.carry(&here, &there, &logs).await),
            Err(e) => (None, Err(e)),
        }
    }

    /// Memory travels while it is dumped.
    async fn copy_pages(
        &self,
        here: &Path,
        there: &Path,
        logs: &Path,
        mut options: Options,
    ) -> (Option<DumpReport>, Result<Report>) {
        let at = SocketAddr::new(self.route.at.ip(), PAGES_PORT);
        options.pages.taken_at = Some(at);
        options.limit = AS_LONG_AS_IT_TAKES;
        let mut dump = None;
        let parent = options.pages.parent.clone();
        let report = async {
            let mut pages =
                transfer::pages::Pages::open(&self.route, at, self.criu, there, parent).await?;
            let dumped = pages.during(self.node.checkpoint(self.criu, here, &options)).await?;
            let dumped = dump.insert(dumped);
            let report = pages.finish(&self.route, here, logs).await?;
            dumped.image_bytes = report.size_bytes;
            Ok(report)
        };
        let report = report.await;
        (dump, report)
    }

    /// The folder at the target for the images of a dump, which lie upon those of `parent`. CRIU
    /// finds these by a link that is made where pages are written; not all transfers bring it along.
    fn folder(&self, name: &str, parent: Option<&str>) -> Result<PathBuf> {
        let folder = self.there.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let link = folder.join("parent");
        if let Some(parent) = parent {
            symlink(format!("../{parent}"), &link)
                .with_context(|| format!("make {}", link.display()))?;
        }
        Ok(folder)
    }

    /// Through the network, from where the server is to where it will be.
    async fn carry(&self, here: &Path, there: &Path, logs: &Path) -> Result<Report> {
        let compress = self.plan.compress;
        match self.plan.transfer {
            Transfer::Rsync => rsync::copy(&self.route, here, there, logs, compress).await,
            Transfer::Stream | Transfer::PageServer => {
                stream::copy(&self.route, here, there, compress).await
            }
        }
    }

    async fn restore(&self, options: &Options) -> Result<RestoreReport> {
        let images = self.there.join(LAST);
        let (lab, to) = (self.scene.lab, &self.plan.to);
        let restored = self.node.restore(self.criu, &images, options, lab, to).await;
        let report = restored.context("the source has ended, and its images do not live")?;
        self.scene.restored(&self.node).await?;
        Ok(report)
    }

    /// The server goes on where it was, and so does the trial, which is an aborted one.
    fn resume(&self, moved: &mut Move, why: anyhow::Error) -> Result<String> {
        if !self.node.resume()? {
            return Err(why.context("the source has ended, too"));
        }
        let detail = format!("source resumed: {why:#}");
        moved.aborted = Some((detail.clone(), now_ns()));
        Ok(detail)
    }

    /// Removes the images, or keeps those at the target when that is asked for.
    fn clear(&self) -> Result<()> {
        let folders = &self.scene.folders;
        if self.plan.keep_images && self.there.is_dir() {
            folders.keep_images(&self.there, &self.logs)?;
        }
        [&self.here, &self.there].into_iter().try_for_each(|images| folders.remove(images))
    }
}
