//! What the engine does to packets: delay, rate, loss, cuts and changes.

use crate::pair::{LINK, Pair, addresses, delayed, direction, limited};
use anyhow::{Context, Result, ensure};
use limosa_lab::{
    engine::Direction,
    shape::{LossPlan, TraceStage},
    sys::flood::{Flood, Flow, flood},
};
use limosa_record::recording::Recording;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

const MS: u64 = 1_000_000;

/// Offers UDP from host 0 to host 1 in full frames for two seconds.
fn offer(pair: &Pair, rate_bps: u64) -> Result<Flow> {
    let what = Flood {
        from: addresses(0)[0],
        to: addresses(1)[0],
        rate_bps,
        frame_bytes: 1514,
        duration: Duration::from_secs(2),
        warmup: Duration::from_millis(500),
    };
    flood(&pair.hosts[0], &pair.hosts[1], &what)
}

fn an_idle_link_of_25_ms_each_way_has_an_rtt_of_50_ms() -> Result<()> {
    let pair = Pair::up(&delayed(Duration::from_millis(25)))?;
    for v6 in [false, true] {
        let rtt = pair.echo(v6, 50)?;
        let (min, median) = (rtt.min_ns().unwrap_or(0), rtt.median_ns().unwrap_or(0));
        println!("RTT at least {min} ns, {median} ns at the median");
        ensure!(rtt.lost() == 0, "{} echoes lost", rtt.lost());
        ensure!(min >= 50 * MS && median < 51 * MS, "RTT {min} to {median} ns");
    }
    Ok(())
}

fn a_rate_is_kept_and_what_is_too_much_waits_or_is_dropped() -> Result<()> {
    let pair = Pair::up(&limited(100_000_000, Duration::from_millis(5)))?;
    let flow = offer(&pair, 120_000_000)?;
    let rate = flow.rate_bps.context("nothing arrived")?;
    let waited = flow.max_ns.unwrap_or(0) - flow.min_ns.unwrap_or(0);
    println!("{rate} bit/s, waited {waited} ns");
    ensure!((rate / 1e8 - 1.0).abs() < 0.01, "{rate} bit/s");
    // The queue holds 25 ms; the burst of 16 kB is gone before it fills. A sender that is
    // interrupted between its clock and its system call seems to have waited, too.
    ensure!((24 * MS..30 * MS).contains(&waited), "waited {waited} ns");
    let [there, _] = pair.counters()?;
    let lost = flow.sent - flow.received.len() as u64;
    ensure!(lost == there.queue_full_packets, "{lost} missing, {there:?}");
    ensure!(flow.received.is_sorted(), "out of order");
    Ok(())
}

fn a_trace_gives_its_rate() -> Result<()> {
    let mut shape = delayed(Duration::from_millis(1));
    // Three packets in 4 ms are 9 Mbit/s.
    let recording = Recording::parse(b"1\n2\n4\n".to_vec()).expect("a recording");
    shape.trace = Some(TraceStage::new("traces/three".into(), recording.into(), 100_000));
    let pair = Pair::up(&shape)?;
    let rate = offer(&pair, 12_000_000)?.rate_bps.context("nothing arrived")?;
    let wanted = 3.0 * 1514.0 * 8.0 / 0.004;
    ensure!((rate / wanted - 1.0).abs() < 0.01, "{rate} instead of {wanted} bit/s");
    Ok(())
}

fn random_loss_has_its_share_and_follows_from_the_seed() -> Result<()> {
    let mut shape = delayed(Duration::from_millis(1));
    shape.delay.loss = LossPlan::Random { ratio: 0.05 };
    let pair = Pair::up(&shape)?;
    // The kernel's own first IPv6 packets may take numbers of the first sequence.
    let runs = [2, 1, 1].map(|seed| {
        let way = Direction { shape: shape.clone(), seed };
        pair.engine.shape(LINK, Some(&way), None)?;
        offer(&pair, 20_000_000)
    });
    let [other, first, again] = runs;
    let (first, again, other) = (first?, again?, other?);
    let (sent, lost) = (first.sent as f64, (first.sent - first.received.len() as u64) as f64);
    // 99 % of a binomial distribution lie within 2.576 standard deviations.
    let bound = 2.576 * (sent * 0.05 * 0.95).sqrt();
    ensure!((lost - sent * 0.05).abs() <= bound, "{lost} of {sent} lost");
    let start = |flow: &Flow| flow.received.iter().take_while(|n| **n < 1000).copied().collect();
    let (first, again, other): (Vec<u64>, Vec<u64>, Vec<u64>) =
        (start(&first), start(&again), start(&other));
    ensure!(first == again, "another loss with the same seed");
    ensure!(first != other, "the same loss with another seed");
    Ok(())
}

fn a_link_is_cut_mended_and_changed() -> Result<()> {
    let pair = Pair::up(&delayed(Duration::from_millis(5)))?;
    pair.engine.set_up(LINK, false)?;
    ensure!(pair.echo(false, 3)?.lost() == 3, "a cut link carries echoes");
    ensure!(pair.counters()?[0].link_down_packets >= 3, "{:?}", pair.counters()?);
    pair.engine.set_up(LINK, true)?;
    ensure!(pair.echo(false, 3)?.lost() == 0, "a mended link carries none");

    // Only one direction gets another delay.
    let slow = direction(&delayed(Duration::from_millis(45)));
    pair.engine.shape(LINK, Some(&slow), None)?;
    let rtt = pair.echo(false, 10)?.median_ns().context("no echo")?;
    ensure!((50 * MS..52 * MS).contains(&rtt), "{rtt} ns instead of 50 ms");

    let error = pair.engine.set_up("elsewhere", true).unwrap_err();
    ensure!(format!("{error:#}").contains("no link `elsewhere`"), "{error:#}");
    pair.engine.reset()?;
    ensure!(pair.counters()?[0].link_down_packets == 0, "counters are not zero");
    Ok(())
}

fn an_engine_that_is_killed_is_missed() -> Result<()> {
    let pair = Pair::up(&delayed(Duration::from_millis(5)))?;
    let pid = Pid::from_raw(pair.engine.pid().cast_signed()).context("no process")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let why = runtime.block_on(async {
        let early = tokio::time::timeout(Duration::from_millis(20), pair.engine.ended()).await;
        ensure!(early.is_err(), "it has ended: {early:?}");
        kill_process(pid, Signal::KILL)?;
        Ok(tokio::time::timeout(Duration::from_secs(10), pair.engine.ended()).await?)
    })?;
    ensure!(why.contains("killed by signal 9") && why.contains("engine.log"), "{why}");
    let error = format!("{:#}", pair.engine.counters().unwrap_err());
    ensure!(error.contains("killed by signal 9"), "{error}");
    Ok(())
}

fn what_is_no_tap_is_refused() -> Result<()> {
    let (a, b) = std::io::pipe()?;
    let way = direction(&delayed(Duration::ZERO));
    let one = limosa_lab::engine::EngineLink {
        name: "pipe".into(),
        a: std::fs::File::open("/dev/null")?.into(),
        b: b.into(),
        a_to_b: way.clone(),
        b_to_a: way,
    };
    let folder = tempfile::tempdir()?;
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_limosa"));
    let log = folder.path().join("engine.log");
    let error = limosa_lab::engine::Engine::start(program, vec![one], &log).unwrap_err();
    let text = format!("{error:#}");
    ensure!(text.starts_with("give link `pipe` to the engine: watch a device"), "{text}");
    drop(a);
    Ok(())
}

limosa_testkit::tests![
    an_idle_link_of_25_ms_each_way_has_an_rtt_of_50_ms[alone, compared],
    a_rate_is_kept_and_what_is_too_much_waits_or_is_dropped[alone, compared],
    a_trace_gives_its_rate[alone, compared],
    random_loss_has_its_share_and_follows_from_the_seed[alone, compared],
    a_link_is_cut_mended_and_changed[alone, compared],
    an_engine_that_is_killed_is_missed[alone],
    what_is_no_tap_is_refused[alone],
];
