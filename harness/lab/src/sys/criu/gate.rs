//! Starts criu ahead of its time and lets it go on at its time.
//!
//! criu opens its log when it has read its arguments and before it does anything else. The log is a
//! FIFO (`fifo(7)`), so that this open waits until somebody reads: that is the gate. What comes
//! through it is the log. It is read now and then, not whenever something is there: criu writes line
//! by line, and a reader that each line woke would take its time from criu on a small machine.

use super::{Launch, Options};
use crate::sys::process::{ExitState, Process, ProcessError};
use limosa_record::{clock::now_ns, fault};
use rustix::{
    fs::{CWD, Mode, OFlags, mkfifoat},
    pipe::fcntl_setpipe_size,
    process::{Pid, Signal},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{fd::BorrowedFd, unix::fs::OpenOptionsExt},
    path::Path,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// Name of the FIFO in criu's working folder.
pub(super) const NAME: &str = "gate";

/// What the FIFO shall hold, in bytes: more than criu says of a server. The kernel's usual limit.
const FIFO_BYTES: usize = 1 << 20;

/// How often the FIFO is read. Even where it holds but the usual 64 KiB it is not full by then.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What goes wrong on purpose when criu is let go.
pub(super) enum Blow<'a> {
    /// It hangs.
    Hang,
    /// It dies.
    Die,
    /// What it dumps dies as soon as criu has got hold of it.
    Source(&'a Process),
}

/// Runs criu to its end; returns when it was let go, and how it ended.
pub(super) async fn run(
    launch: &Launch,
    netns: BorrowedFd<'_>,
    scratch: &Path,
    log: &Path,
    options: &Options,
    blow: Option<Blow<'_>>,
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
    let mut tail = match Tail::open(&fifo, log) {
        Ok(tail) => tail,
        Err(e) => return (begun_ns, Err(failed(e))),
    };
    let struck = match blow {
        Some(Blow::Hang) => process.signal(Signal::STOP),
        Some(Blow::Die) => process.signal(Signal::KILL),
        Some(Blow::Source(source)) => tail.kill(source, &process).await.map_err(failed),
        None => {
            fault::here("criu/let-go").map_err(|source| ProcessError::Log { path: fifo, source })
        }
    };
    if let Err(e) = struck {
        return (begun_ns, Err(e));
    }
    let ended = tokio::select! {
        state = process.wait() => state,
        error = tail.follow() => Err(failed(error)),
        () = sleep(options.limit) => match process.kill().await {
            Ok(_) => {
                let (program, limit) = (launch.program.clone(), options.limit);
                Err(ProcessError::TimedOut { program, limit })
            }
            Err(e) => Err(e),
        },
    };
    let rest = tail.take().map_err(failed);
    (begun_ns, ended.and_then(|state| rest.map(|()| state)))
}

/// The reader of the FIFO, and the file that its contents go to.
struct Tail {
    fifo: File,
    log: File,
}

impl Tail {
    /// Lets criu go on.
    fn open(fifo: &Path, log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().append(true).create(true).open(log)?;
        let now = OFlags::NONBLOCK.bits().cast_signed();
        let fifo = OpenOptions::new().read(true).custom_flags(now).open(fifo)?;
        // A smaller one is only slower.
        let _ = fcntl_setpipe_size(&fifo, FIFO_BYTES);
        Ok(Self { fifo, log })
    }

    /// Copies what comes until that fails.
    async fn follow(&mut self) -> io::Error {
        loop {
            // An end of file means nothing; only the end of the process does.
            sleep(LOOK_AGAIN).await;
            if let Err(e) = self.take() {
                return e;
            }
        }
    }

    /// Copies what is there now.
    fn take(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        match self.fifo.read_to_end(&mut text) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            _ => self.log.write_all(&text),
        }
    }

    /// Kills what criu dumps when criu has got hold of it. It cannot have come to an end by then,
    /// because it gets no further than what it says is read.
    async fn kill(&mut self, source: &Process, criu: &Process) -> io::Result<()> {
        const LEAST_BYTES: usize = 4096;
        while fcntl_setpipe_size(&self.fifo, LEAST_BYTES).is_err() {
            self.take()?;
        }
        while !is_traced(source.pid()) && matches!(criu.try_wait(), Ok(None)) {
            self.take()?;
            sleep(Duration::from_millis(1)).await;
        }
        source.signal(Signal::KILL).map_err(io::Error::other)
    }
}

/// Whether somebody follows what a process does (proc_pid_status(5)).
fn is_traced(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid()));
    let status = status.unwrap_or_default();
    status.lines().any(|l| l.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}
