//! Ctrl-C, SIGTERM and a closed terminal: the first one asks the run to end, a second one ends it.
//!
//! Input: SIGINT, SIGTERM, SIGHUP (signal(7)), from the moment of [`watch`] on. Output: a flag that
//! turns true with the first signal. With the second one everything that would outlive the process is
//! undone and the process ends with 130; the kernel takes the rest away.

use crate::{cli::exit, journal};
use anyhow::{Context, Result};
use futures_util::future::select_all;
use std::{io, thread};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Watches for signals on a thread of its own, so that they are seen whatever the program does.
///
/// # Errors
/// When the kernel gives no thread or no signals.
pub fn watch() -> Result<watch::Receiver<bool>> {
    let (tell, told) = watch::channel(false);
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

async fn attend(mut signals: Vec<Signal>, tell: &watch::Sender<bool>) {
    loop {
        select_all(signals.iter_mut().map(|s| Box::pin(s.recv()))).await;
        if tell.send_replace(true) {
            journal::undo_own();
            std::process::exit(exit::INTERRUPTED.into());
        }
    }
}
