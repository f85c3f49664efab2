//! The action `migrate`: a server moves, and its images travel through the emulated network.
//!
//! The source stays stopped until everything is at the target, so that it can go on when that
//! fails; it is dead before the target may send.

use super::Scene;
use crate::{
    node::Node,
    plan::{MigratePlan, TRANSFER_PORT},
    spec::{Technique, Transfer},
    sys::criu::{DumpReport, Leave, Options, RestoreReport},
    timeline::Outcome,
    transfer::{Report, Route, rsync, stream},
};
use anyhow::{Context, Result};
use limosa_record::clock::now_ns;
use std::{fs, net::SocketAddr, path::Path};

/// How a server moved, or how far it came.
#[derive(Debug)]
pub struct Move {
    /// When its checkpoint was planned, CLOCK_REALTIME in ns.
    pub planned_ns: i64,
    /// Its checkpoint; `None` when CRIU refused.
    pub dump: Option<DumpReport>,
    /// The way of its images; `None` when they did not arrive.
    pub transfer: Option<Report>,
    /// Its restore; `None` when it went on where it was.
    pub restore: Option<RestoreReport>,
    /// Why it goes on where it was, and since when (CLOCK_REALTIME in ns).
    pub aborted: Option<(String, i64)>,
}

impl Scene<'_> {
    /// Moves a server, or leaves it where it was and notes why.
    pub(super) async fn migrate(&self, plan: &MigratePlan, planned_ns: i64) -> Result<Outcome> {
        let Technique::Cold = plan.technique;
        let node = self.node(&plan.node)?;
        let name = format!("migrate-{}", self.moves.borrow().len() + 1);
        let [images, arrived] =
            ["images", "arrived"].map(|folder| self.desk.join(folder).join(&name));
        fs::create_dir_all(&arrived).with_context(|| format!("make {}", arrived.display()))?;
        let logs = self.logs.join(&name);
        let started_ns = now_ns().max(planned_ns);
        let mut options = Options::new(logs.join("checkpoint"));
        options.begin_ns = planned_ns;
        options.leave = Leave::Stopped;
        let mut moved =
            Move { planned_ns, dump: None, transfer: None, restore: None, aborted: None };
        match node.checkpoint(self.criu()?, &images, &options).await {
            Ok(dump) => moved.dump = Some(dump),
            Err(e) => return self.give_up(&node, moved, started_ns, e),
        }
        match self.carry(&node, plan, &images, &arrived, &logs.join("transfer")).await {
            Ok(transfer) => moved.transfer = Some(transfer),
            Err(e) => return self.give_up(&node, moved, started_ns, e),
        }
        node.end_stopped().await?;
        let options = Options::new(logs.join("restore"));
        let restored = node.restore(self.criu()?, &arrived, &options, self.lab, &plan.to).await;
        let report = restored.context("the source has ended, and its images do not live")?;
        self.restored(&node).await?;
        for folder in [&images, &arrived] {
            fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        let done_ns = report.done_ns;
        let started_ns = moved.dump.as_ref().map_or(started_ns, |dump| dump.started_ns);
        moved.restore = Some(report);
        self.moves.borrow_mut().push(moved);
        let detail = format!("{} to {}", plan.node, plan.to);
        Ok(Outcome { detail, started_ns, done_ns })
    }

    /// Through the network, from where the server is to where it will be.
    async fn carry(
        &self,
        node: &Node,
        plan: &MigratePlan,
        images: &Path,
        arrived: &Path,
        logs: &Path,
    ) -> Result<Report> {
        let from = node.place();
        let route = self.network.route(&from, &plan.to);
        let (_, own, at) = route.with_context(|| format!("no way from {from} to {}", plan.to))?;
        let at = SocketAddr::new(at, TRANSFER_PORT);
        let route = Route { from: self.lab.place(&from)?, own, to: self.lab.place(&plan.to)?, at };
        match plan.transfer {
            Transfer::Rsync => rsync::copy(&route, images, arrived, logs, plan.compress).await,
            Transfer::Stream => stream::copy(&route, images, arrived, plan.compress).await,
        }
    }

    /// The server goes on where it was, and so does the trial, which is an aborted one.
    fn give_up(
        &self,
        node: &Node,
        mut moved: Move,
        started_ns: i64,
        why: anyhow::Error,
    ) -> Result<Outcome> {
        if !node.resume()? {
            return Err(why.context("the source has ended, too"));
        }
        let detail = format!("source resumed: {why:#}");
        let done_ns = now_ns();
        moved.aborted = Some((detail.clone(), done_ns));
        let started_ns = moved.dump.as_ref().map_or(started_ns, |dump| dump.started_ns);
        self.moves.borrow_mut().push(moved);
        Ok(Outcome { detail, started_ns, done_ns })
    }
}
