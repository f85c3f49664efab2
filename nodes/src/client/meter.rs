//! A client's `throughput.csv`: bytes of UDP payload that arrived per interface and interval.
//!
//! Intervals are aligned to the start of the handshake and have a row for every interface, with
//! zero bytes during an outage. The bytes are noq's per-path counters; the paths of one interface
//! are added up. Where there is no QUIC, it is the
//! bytes of the body, on the first interface.

use anyhow::{Context, Result};
use limosa_record::{
    clock,
    node::{ClientConfig, Scheme},
    row::{NodeThroughputRow, RowFile},
};
use noq::Path;
use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Name of the file in a client's folder.
const THROUGHPUT_FILE: &str = "throughput.csv";

/// Counts what arrives.
#[derive(Debug)]
pub(crate) struct Meter {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: RowFile,
    locals: Vec<IpAddr>,
    /// Bytes that were counted otherwise since the last row, by interface.
    counted: Vec<u64>,
    /// Every path that ever carried something: its interface and its counter at the last row.
    paths: Vec<(usize, Path, u64)>,
    /// End of the last row, CLOCK_REALTIME in ns; `None` before the start.
    until_ns: Option<i64>,
}

impl Meter {
    /// Opens the file in the client's folder.
    pub(crate) fn open(config: &ClientConfig) -> Result<Self> {
        let path = config.folder.join(THROUGHPUT_FILE);
        let file = RowFile::append(&path).with_context(|| format!("open {}", path.display()))?;
        let used = match config.transport.scheme {
            Scheme::Multipath => config.local.len(),
            // One interface per server, if there are two.
            Scheme::DualPath | Scheme::PostCopy => config.local.len().min(2),
            // Behind which interface the server is may change.
            _ if !config.behind.is_empty() => config.local.len(),
            _ => 1,
        };
        let locals: Vec<_> = config.local.iter().copied().take(used).collect();
        let counted = vec![0; locals.len()];
        let state = State { file, locals, counted, paths: Vec::new(), until_ns: None };
        let interval = config.transport.sample_interval.as_duration();
        anyhow::ensure!(!interval.is_zero(), "sample interval of zero");
        Ok(Self { interval, state: Mutex::new(state) })
    }

    /// Counts what arrives on `path` for one of the client's interfaces.
    pub(crate) fn track(&self, interface: usize, path: Path) {
        let mut state = self.state();
        let interface = interface.min(state.locals.len().saturating_sub(1));
        state.paths.push((interface, path, 0));
    }

    /// Counts bytes of the body, where there are no paths of QUIC to ask.
    pub(crate) fn count(&self, interface: usize, bytes: u64) {
        if let Some(sum) = self.state().counted.get_mut(interface) {
            *sum += bytes;
        }
    }

    /// Writes a row per interface and interval, for ever.
    pub(crate) async fn sample(&self, started_ns: i64) -> Infallible {
        self.state().until_ns = Some(started_ns);
        let interval_ns = self.interval.as_nanos() as i64;
        loop {
            let next_ns = self.state().until_ns.unwrap_or(started_ns) + interval_ns;
            let wait = u64::try_from(next_ns - clock::now_ns()).unwrap_or(0);
            tokio::time::sleep(Duration::from_nanos(wait)).await;
            self.state().row(next_ns);
        }
    }

    /// Writes what has arrived since the last whole interval.
    pub(crate) fn finish(&self) {
        self.state().row(clock::now_ns());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn row(&mut self, until_ns: i64) {
        let Some(from_ns) = self.until_ns.replace(until_ns).filter(|from| *from < until_ns) else {
            return;
        };
        let mut bytes = std::mem::replace(&mut self.counted, vec![0; self.locals.len()]);
        for (interface, path, counted) in &mut self.paths {
            let total = path.stats().udp_rx.bytes;
            if let Some(sum) = bytes.get_mut(*interface) {
                *sum += total.saturating_sub(*counted);
            }
            *counted = total;
        }
        for (local, bytes) in self.locals.iter().zip(bytes) {
            let interval_ns = until_ns - from_ns;
            let row = NodeThroughputRow { local: *local, t_ns: from_ns, interval_ns, bytes };
            if let Err(error) = self.file.write(&row) {
                tracing::error!(%error, "cannot write throughput");
            }
        }
    }
}
