//! Starts criu ahead of its time and lets it go on at its time.
//!
//! criu opens its log when it has read its arguments and before it does anything else. The log is a
//! FIFO (`fifo(7)`), so that this open waits until somebody reads: that is the gate. What comes
//! through it is the log.

use super::{Launch, Options};
use crate::sys::process::{ExitState, Process, ProcessError};
use limosa_record::{
    clock::now_ns,
    fault::{self, Kind},
};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::Signal,
};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::fd::BorrowedFd,
    path::Path,
    time::Duration,
};
use tokio::{
    net::unix::pipe,
    time::{sleep, timeout},
};

/// Name of the FIFO in criu's working folder.
pub(super) const NAME: &str = "gate";

/// Runs criu to its end; returns when it was let go, and how it ended. With a fault it hangs or dies
/// when it is let go.
pub(super) async fn run(
    launch: &Launch,
    netns: BorrowedFd<'_>,
    scratch: &Path,
    log: &Path,
    options: &Options,
    fault: Option<Kind>,
) -> (i64, Result<ExitState, ProcessError>) {
    let failed = |source| ProcessError::Log { path: log.to_owned(), source };
    let fifo = scratch.join(NAME);
    if let Err(e) = mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR) {
        return (now_ns(), Err(failed(e.into())));
    }
    let process = match Process::spawn(launch, Some(netns)).await {
        Ok(process) => process,
        Err(e) => return (now_ns(), Err(e)),
    };
    let ahead = u64::try_from(options.begin_ns - now_ns()).unwrap_or(0);
    // A criu that ends before its gate did not like its arguments.
    let early = timeout(Duration::from_nanos(ahead), process.wait()).await;
    if let Ok(state) = early {
        return (now_ns(), state);
    }
    if let Some(mut clear) = options.clear.clone()
        && clear.wait_for(|clear| *clear).await.is_err()
    {
        // Whoever should have said it has failed; criu has not begun.
        let gave_up = io::Error::other("given up before it began");
        return (now_ns(), process.kill().await.and(Err(failed(gave_up))));
    }
    let begun_ns = now_ns();
    let reader = match pipe::OpenOptions::new().open_receiver(&fifo) {
        Ok(reader) => reader,
        Err(e) => return (begun_ns, Err(failed(e))),
    };
    let blow = match fault {
        Some(Kind::Hang) => process.signal(Signal::STOP),
        Some(Kind::Die) => process.signal(Signal::KILL),
        _ => fault::here("criu/let-go").map_err(|source| ProcessError::Log { path: fifo, source }),
    };
    if let Err(e) = blow {
        return (begun_ns, Err(e));
    }
    let ended = tokio::select! {
        state = process.wait() => state,
        error = copy(&reader, log) => Err(failed(error)),
        () = sleep(options.limit) => match process.kill().await {
            Ok(_) => {
                let (program, limit) = (launch.program.clone(), options.limit);
                Err(ProcessError::TimedOut { program, limit })
            }
            Err(e) => Err(e),
        },
    };
    let rest = drain(&reader, log).map_err(failed);
    (begun_ns, ended.and_then(|state| rest.map(|()| state)))
}

/// Copies what comes until that fails.
async fn copy(reader: &pipe::Receiver, log: &Path) -> io::Error {
    loop {
        if let Err(e) = reader.readable().await {
            return e;
        }
        if let Err(e) = drain(reader, log) {
            return e;
        }
        // An end of file stays readable; only the end of the process means anything.
        sleep(Duration::from_millis(1)).await;
    }
}

/// Copies what is there now.
fn drain(reader: &pipe::Receiver, log: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match reader.try_read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    if text.is_empty() {
        return Ok(());
    }
    OpenOptions::new().append(true).create(true).open(log)?.write_all(&text)
}
