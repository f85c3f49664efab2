//! What the engine does to packets: delay, rate, loss, cuts and changes.

use crate::pair::{Pair, delayed};
use anyhow::{Result, ensure};
use std::time::Duration;

const MS: u64 = 1_000_000;

#[test]
#[ignore = "needs root: run by the_engine_carries_packets"]
fn an_idle_link_of_25_ms_each_way_has_an_rtt_of_50_ms() -> Result<()> {
    let pair = Pair::up(&delayed(Duration::from_millis(25)))?;
    for v6 in [false, true] {
        let rtt = pair.echo(v6, 50)?;
        println!("{v6} min {:?} median {:?} max {:?}", rtt.min_ns(), rtt.median_ns(), rtt.max_ns());
        println!("{:?} {:?}", pair.counters()?, pair.engine.status()?);
        ensure!(rtt.lost() == 0, "{} echoes lost", rtt.lost());
        let median = rtt.median_ns().unwrap_or(0);
        ensure!((50 * MS..50 * MS + MS).contains(&median), "RTT {median} ns");
    }
    Ok(())
}
