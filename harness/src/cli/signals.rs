//! Ctrl-C, SIGTERM and a closed terminal: the first one asks the run to end, a second one ends it.
//!
//! Input: SIGINT, SIGTERM, SIGHUP (signal(7)), from the moment of [`watch`] on. Output: a flag that
//! turns true with the first signal. With the second one the process becomes `limosa undo`, which undoes
//! everything that would outlive it and ends with 130; the kernel takes the rest away.

use crate::cli::args::exit;
use crate::machine::guest::ONE_REQUEST;
use anyhow::{Context, Result};
use futures_util::future::select_all;
use limosa_lab::{journal, owner};
use limosa_record::dir;
use std::{io, os::unix::process::CommandExt, process::Command, thread, time::Instant};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// The number of SIGINT among the signals.
const CTRL_C: usize = 0;

/// Watches for signals on a thread of its own, so that they are seen whatever the program does.
///
/// # Errors
/// When the kernel gives no thread or no signals.
pub fn watch() -> Result<watch::Receiver<bool>> {
    start(false)
}

fn start(asked: bool) -> Result<watch::Receiver<bool>> {
    let (tell, told) = watch::channel(asked);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<io::Result<Vec<_>>>()
            .context("watch for signals")?
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(attend(signals, &tell)))
        .context("start a thread")?;
    Ok(told)
}

/// Ends a command that has no trials to end with the first signal: what it has begun is undone, what
/// it is just writing is written.
///
/// # Errors
/// When the kernel gives no thread or no signals.
pub fn end_at_once() -> Result<()> {
    start(true).map(drop)
}

async fn attend(mut signals: Vec<Signal>, tell: &watch::Sender<bool>) {
    let mut last: Option<Instant> = None;
    loop {
        let (_, number, _) = select_all(signals.iter_mut().map(|s| Box::pin(s.recv()))).await;
        let repeated = last.is_some_and(|last| last.elapsed() < ONE_REQUEST);
        last = Some(Instant::now());
        if number != CTRL_C && repeated {
            continue;
        }
        if tell.send_replace(true) {
            let _whole = dir::hold_writes();
            owner::give_back();
            // As another program, so that no thread goes on making what this one takes away.
            let undo = Command::new("/proc/self/exe").arg("undo").exec();
            tracing::warn!("undo what was begun: {undo}");
            journal::undo_own();
            std::process::exit(exit::INTERRUPTED.into());
        }
    }
}
