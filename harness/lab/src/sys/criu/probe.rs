//! Whether criu works on this kernel, found out by moving a process.
//!
//! `criu check` is no proof: version 4.1.1 passes it on a kernel where it cannot dump a UDP socket.

use super::{Criu, CriuError, Options};
use crate::sys::{
    link,
    netns::{Netns, Role},
    process::{ExitState, Launch, Process},
};
use anyhow::{Context, Result, ensure};
use std::{fs, os::fd::AsFd, path::Path, time::Duration};
use tokio::time::{sleep, timeout};

/// How long the process may take to get ready or to end; an emulated machine is slow.
const LIMIT: Duration = Duration::from_secs(20);

impl Criu {
    /// Moves a process from one fresh network namespace to another and lets it end there.
    ///
    /// `target` is started with its output in `folder`, where its images go, too; it says `ready` when it can be
    /// moved and exits with 0 on SIGTERM.
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn prove(&self, target: (&Path, &[&str]), ready: &str, folder: &Path) -> Result<()> {
        let log = folder.join("target.log");
        let (program, args) = target;
        let launch =
            Launch { own_pid_namespace: true, ..Launch::new(program, args.iter().copied(), &log) };
        let places = Netns::create(&[Role::Host, Role::Host])?;
        // criu tries its sockets on the loopback.
        places.iter().try_for_each(|p| p.apply([link::set_up(link::LOOPBACK, true)]))?;
        let process = Process::spawn(&launch, Some(places[0].as_fd())).await?;
        let text = || fs::read_to_string(&log).unwrap_or_default();
        let is_ready = async {
            while !text().contains(ready) && process.try_wait()?.is_none() {
                sleep(Duration::from_millis(2)).await;
            }
            Ok::<_, CriuError>(())
        };
        timeout(LIMIT, is_ready).await.context("the process to be moved does not start")??;
        ensure!(text().contains(ready), "the process to be moved ended: {}", text().trim());
        let (images, mut options) = (folder.join("images"), Options::new(folder));
        options.limit = LIMIT;
        self.dump(&process, &images, &options).await.map_err(told)?;
        let (moved, _) = self.restore(&images, places[1].as_fd(), &options).await.map_err(told)?;
        let state = moved.stop(LIMIT).await?;
        ensure!(state == ExitState::Exited(0), "after the move the process {state}");
        Ok(())
    }
}

/// The log of a probe is gone when somebody reads of it.
fn told(error: CriuError) -> anyhow::Error {
    match error {
        CriuError::Dump { reason: Some(reason), .. } => anyhow::anyhow!("it cannot dump: {reason}"),
        CriuError::Restore { reason: Some(reason), .. } => {
            anyhow::anyhow!("it cannot restore: {reason}")
        }
        other => other.into(),
    }
}
