//! Checkpoint and restore of a server, in the place where it is: what CRIU takes.

use super::{
    Bench, Figures, median,
    nodes::{LINK, Pair},
};
use crate::spec::Links;
use anyhow::Result;
use limosa_lab::sys::criu::Options;
use limosa_record::clock::now_ns;
use std::time::Duration;
use tokio::time::sleep;

const ROUNDS: usize = 3;

/// A loaded server sends for so long before it is dumped for the first time, and between dumps.
const LOADED: Duration = Duration::from_millis(800);

/// Enough for all rounds.
const BYTES: u64 = 80_000_000;

/// As a trial does: criu is started ahead.
const AHEAD_NS: i64 = 300_000_000;

pub(super) async fn measure(bench: &Bench, loaded: bool) -> Result<Figures> {
    let criu = &bench.criu().await?;
    let name = if loaded { "loaded" } else { "idle" };
    let pair = Pair::start(bench, name, (LINK, Links::Auto), BYTES, None).await?;
    if loaded {
        pair.begin().await?;
    }
    let (mut dump_ms, mut restore_ms) = ([0.0; ROUNDS], [0.0; ROUNDS]);
    let ms = |started_ns: i64, done_ns: i64| (done_ns - started_ns) as f64 / 1e6;
    for round in 0..ROUNDS {
        if loaded {
            sleep(LOADED).await;
        }
        let images = bench.work.path().join(format!("{name}-images-{round}"));
        let log = |step: &str| bench.work.path().join(format!("{name}-{step}-{round}"));
        let mut options = Options::new(log("dump"));
        options.begin_ns = now_ns() + AHEAD_NS;
        let report = pair.server.checkpoint(criu, &images, &options).await?;
        dump_ms[round] = ms(report.started_ns, report.done_ns);
        let mut options = Options::new(log("restore"));
        options.begin_ns = now_ns() + AHEAD_NS;
        let report = pair.server.restore(criu, &images, &options, &pair.lab, "server").await?;
        restore_ms[round] = ms(report.started_ns, report.done_ns);
    }
    if loaded {
        // A server that came back broken would make its figures worthless.
        pair.finish().await?;
    }
    let figures = [median(&mut dump_ms), median(&mut restore_ms)];
    let keys = if loaded {
        ["loaded_dump_ms", "loaded_restore_ms"]
    } else {
        ["idle_dump_ms", "idle_restore_ms"]
    };
    Ok(keys.into_iter().zip(figures).collect())
}
