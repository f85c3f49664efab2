//! The same truth: links in the kernel and in user space, side by side over the same shapes.
//!
//! Runs inside the guest, whose kernel has netem. Bounds: RTT 0.3 ms, rate 1 %, queueing delay at
//! overload 5 %, losses within the 99 % interval of what was asked for, and the lengths of bursts of
//! losses no further apart than chance makes them in 999 of 1000 cases.

use anyhow::{Context, Result, ensure};
use limosa::{
    plan::{self},
    spec::{self, Links},
};
use limosa_lab::{
    lab::{Carrier, Lab},
    network::Network,
    shape::ShapePlan,
    sys::{
        flood::{Flood, Flow, flood},
        ping::{Ping, ping},
        stamped,
    },
};
use limosa_record::{clock::monotonic_ns, fault::VARIABLE};
use limosa_testkit::{Outcome, defects_are_seen, doubt};
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{Read, Write},
    net::{IpAddr, UdpSocket},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

const LINK: &str = "a--b";
/// A full frame, and a small one for losses: more packets in the same time.
const FRAME_BYTES: u32 = 1514;
const SMALL_FRAME_BYTES: u32 = 142;

/// The network with this shape in both directions.
fn network(folder: &Path, shape: &str) -> Result<Network> {
    let text = format!(
        "version: 1\nfamilies: [ipv4]\nnodes:\n  a: {{}}\n  b: {{}}\nlinks:\n  - {{ends: [a.eth0, b.eth0], shape: {{{shape}}}}}\n"
    );
    let file = folder.join("pair.yaml");
    fs::write(&file, text)?;
    Ok(plan::resolve_topology(&spec::load_topology(&file)?, Links::Auto)?)
}

/// The same pair of hosts twice: kernel, user.
struct Pairs {
    folder: tempfile::TempDir,
    labs: [Lab; 2],
    addresses: [IpAddr; 2],
    /// Receive stamps switched on once for all: each switch patches the running kernel, which an
    /// emulator does not always survive.
    _stamps: UdpSocket,
}

impl Pairs {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let network = network(folder.path(), "")?;
        let built = Path::new(env!("CARGO_BIN_EXE_limosa"));
        let beside = std::env::current_exe()?.with_file_name("limosa");
        let program = if built.is_file() { built } else { &beside };
        let log = folder.path().join("engine.log");
        let user = Carrier::User { program, log: &log };
        let labs = [Lab::up(&network, 7, Carrier::Kernel)?, Lab::up(&network, 7, user)?];
        let addresses = ["a", "b"].map(|n| network.address(n));
        let [Some(a), Some(b)] = addresses else { anyhow::bail!("no addresses") };
        let stamps = UdpSocket::bind("127.0.0.1:0")?;
        stamped::enable(&stamps)?;
        Ok(Self { folder, labs, addresses: [a, b], _stamps: stamps })
    }

    /// Gives both labs a shape and measures each, kernel first.
    fn with<T>(&self, shape: &str, measure: impl Fn(&Lab) -> Result<T>) -> Result<[T; 2]> {
        let network = network(self.folder.path(), shape)?;
        let plan: Option<&ShapePlan> = network.links[0].a_to_b.as_ref();
        let one = |lab: &Lab| {
            lab.reshape(LINK, plan, plan)?;
            measure(lab)
        };
        Ok([one(&self.labs[0])?, one(&self.labs[1])?])
    }

    fn shortest_rtt_ms(&self, lab: &Lab) -> Result<f64> {
        // Requests go out while answers come back: an emulated processor that has gone to sleep is
        // late to wake up.
        let wish = Ping {
            to: self.addresses[1],
            from: None,
            count: 160,
            interval: Duration::from_millis(5),
            timeout: Duration::from_secs(2),
        };
        Ok(ping(lab.place("a")?, &wish)?.min_ns().context("no answer")? as f64 / 1e6)
    }

    fn offer(&self, lab: &Lab, bytes: u32, rate_bps: u64, ms: [u64; 2]) -> Result<Flow> {
        let what = Flood {
            from: self.addresses[0],
            to: self.addresses[1],
            rate_bps,
            frame_bytes: bytes,
            duration: Duration::from_millis(ms[1]),
            warmup: Duration::from_millis(ms[0]),
        };
        flood(lab.place("a")?, lab.place("b")?, &what)
    }
}

/// How late a sleeping thread wakes up here, in ms: a part of each packet's way in user space that is
/// the machine's and not the link's. The median of some, each after a pause.
fn wake_up_ms() -> Result<f64> {
    const TIMES: usize = 100;
    let (mut reader, mut writer) = UnixStream::pair()?;
    let late = thread::spawn(move || -> std::io::Result<Vec<f64>> {
        let mut late = Vec::new();
        let mut sent = [0; 8];
        for _ in 0..TIMES {
            reader.read_exact(&mut sent)?;
            late.push((monotonic_ns() - i64::from_le_bytes(sent)) as f64 / 1e6);
        }
        Ok(late)
    });
    for _ in 0..TIMES {
        thread::sleep(Duration::from_millis(3));
        writer.write_all(&monotonic_ns().to_le_bytes())?;
    }
    let mut late = late.join().map_err(|_| anyhow::anyhow!("a thread broke"))??;
    late.sort_by(f64::total_cmp);
    Ok(late[TIMES / 2])
}

/// A difference in ms that is too large: no more than the wake-ups on a packet's way explain, it says
/// nothing about the links.
fn doubt_wake_ups(beyond_ms: f64, wake_ups: f64) -> Result<()> {
    let late = wake_up_ms()?;
    println!("{beyond_ms:.3} ms too much; a thread wakes up {late:.3} ms late");
    if beyond_ms <= wake_ups * late {
        doubt(format!("a thread wakes up {late:.2} ms late here"));
    }
    Ok(())
}

fn round_trips_are_the_same() -> Result<()> {
    let pairs = Pairs::new()?;
    for delay_ms in [1_u16, 5, 25, 100, 200] {
        // A busy machine makes a round trip longer, never shorter: the best of some tries counts.
        let mut best = [f64::INFINITY; 2];
        for _ in 0..6 {
            let shape = format!("delay: {delay_ms}ms");
            let rtt = pairs.with(&shape, |lab| pairs.shortest_rtt_ms(lab))?;
            best = [best[0].min(rtt[0]), best[1].min(rtt[1])];
            if (best[0] - best[1]).abs() <= 0.2 {
                break;
            }
        }
        let [kernel, user] = best;
        println!("{delay_ms} ms each way: kernel {kernel:.3} ms, user {user:.3} ms");
        if user > kernel + 0.3 {
            // The engine is woken by a packet and by its timer, there and back.
            doubt_wake_ups(user - kernel - 0.3, 4.0)?;
        }
        ensure!((kernel - user).abs() <= 0.3, "RTT of {kernel} and {user} ms");
        ensure!(user >= 2.0 * f64::from(delay_ms), "shorter than the delays: {user} ms");
    }
    Ok(())
}

fn rates_and_queues_are_the_same() -> Result<()> {
    let pairs = Pairs::new()?;
    for mbps in [1_u64, 10, 30, 100] {
        rate_and_queue(&pairs, mbps, "latency: 1ms")?;
        rate_and_queue(&pairs, mbps, "")?;
    }
    Ok(())
}

/// What overload shows of a link.
#[derive(Debug, Clone, Copy)]
struct Overload {
    rate_bps: f64,
    queueing_ms: f64,
    /// Only told: in an emulated guest it is the engine's wake-ups that are late.
    p95_ms: f64,
    lost_share: f64,
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate_bps, queueing_ms, p95_ms, lost_share } = self;
        write!(
            f,
            "{:.3} Mbit/s, {queueing_ms:.3} ms (p95 {p95_ms:.3}), {:.1} % lost",
            rate_bps / 1e6,
            lost_share * 100.0
        )
    }
}

/// Delay of the links with a rate.
const DELAY_MS: f64 = 25.0;

/// Packets whose time makes one value of the rate.
const BLOCK: usize = 16;

impl Overload {
    /// The queueing delay is what the median packet takes beyond the link's delay. Medians do not see
    /// that a sender pauses now and then, as on a busy machine, and empties a short queue, or that the
    /// machine was late for some packets.
    fn of(flow: &Flow, warmup_ms: u64) -> Result<Self> {
        let start = i64::try_from(warmup_ms * 1_000_000)?;
        let late = flow.arrived_ns.iter().zip(&flow.one_way_ns).filter(|(at, _)| **at >= start);
        let (at, mut times): (Vec<i64>, Vec<u64>) = late.unzip();
        let mut blocks: Vec<i64> = at.windows(BLOCK + 1).map(|w| w[BLOCK] - w[0]).collect();
        ensure!(blocks.len() > BLOCK, "{} packets arrived", at.len());
        blocks.sort_unstable();
        times.sort_unstable();
        let bits = BLOCK as f64 * f64::from(FRAME_BYTES) * 8.0;
        let beyond_ms = |ns: u64| ns as f64 / 1e6 - DELAY_MS;
        Ok(Self {
            rate_bps: bits * 1e9 / blocks[blocks.len() / 2] as f64,
            queueing_ms: beyond_ms(times[times.len() / 2]),
            p95_ms: beyond_ms(times[times.len() * 19 / 20]),
            lost_share: 1.0 - flow.received.len() as f64 / flow.sent as f64,
        })
    }
}

fn rate_and_queue(pairs: &Pairs, mbps: u64, queue: &str) -> Result<()> {
    let bps = mbps * 1_000_000;
    let separator = if queue.is_empty() { "" } else { ", " };
    let shape = format!("rate: {mbps}Mbit/s, delay: {DELAY_MS}ms{separator}{queue}");
    // Packets must not come in step with those that leave: with a simple ratio, as 4 : 3, each finds
    // a short queue in one of a few states, and which ones is chance.
    let offered_bps = bps + bps * 371 / 1000;
    // Time enough to fill the queue, and for a good number of packets.
    let ms = if mbps == 1 { [1_500, 4_000] } else { [500, 1_500] };
    // On a quiet machine the first try says it; more of them would find a lucky one.
    let mut least_ms = f64::INFINITY;
    for _ in 0..3 {
        let [kernel, user] = pairs.with(&shape, |lab| {
            Overload::of(&pairs.offer(lab, FRAME_BYTES, offered_bps, ms)?, ms[0])
        })?;
        let apart = |of: fn(&Overload) -> f64| of(&user) / of(&kernel) - 1.0;
        let (rate, queueing) = (apart(|o| o.rate_bps), apart(|o| o.queueing_ms));
        println!("{shape}: kernel {kernel}; user {user}; apart {rate:.4} {queueing:.4}");
        // A sender that does not overload the link says nothing about it.
        if kernel.lost_share > 0.05 && user.lost_share > 0.05 {
            let rate_is_same =
                rate.abs() <= 0.01 && (user.rate_bps / bps as f64 - 1.0).abs() <= 0.02;
            if rate_is_same && queueing.abs() <= 0.05 {
                return Ok(());
            }
            if rate_is_same {
                least_ms = least_ms.min(user.queueing_ms - 1.05 * kernel.queueing_ms);
            }
        }
    }
    // The engine is woken by a packet and by its timer.
    doubt_wake_ups(least_ms, 2.0)?;
    anyhow::bail!("{shape}: rate and queueing delay were never the same in one measurement")
}

fn losses_are_the_same() -> Result<()> {
    let pairs = Pairs::new()?;
    for (percent, shape) in [
        (0.0, ""),
        (1.0, "loss: 1%"),
        (10.0, "loss: 10%"),
        // 1 / (1 + 30) of the time in the bad state, and half of the packets lost there.
        (50.0 / 31.0, "burst_loss: {to_bad: 1%, to_good: 30%, loss_in_bad: 50%}"),
        (1000.0 / 60.0, "burst_loss: {to_bad: 2%, to_good: 10%}"),
    ] {
        let flows = pairs.with(format!("delay: 1ms, {shape}").trim_end_matches(", "), |lab| {
            pairs.offer(lab, SMALL_FRAME_BYTES, 4_000_000, [0, 3_000])
        })?;
        // How much the bursts widen the interval: (1 + λ) / (1 − λ) for a chain of two states,
        // λ = 1 − p − r being the correlation of one packet's state with the next one's.
        let wider = match shape {
            s if s.contains("to_good: 30%") => (1.0 + 0.69) / (1.0 - 0.69),
            s if s.contains("to_good: 10%") => (1.0 + 0.88) / (1.0 - 0.88),
            _ => 1.0_f64,
        };
        let share = percent / 100.0;
        for (name, flow) in ["kernel", "user"].iter().zip(&flows) {
            let (n, lost) = (flow.sent as f64, flow.sent as f64 - flow.received.len() as f64);
            // 99 % of all samples lie within 2.576 standard deviations.
            let bound = 2.576 * (n * share * (1.0 - share) * wider).sqrt();
            println!("{shape}: {name} lost {lost} of {n}, expected {:.0} ± {bound:.0}", n * share);
            ensure!((lost - n * share).abs() <= bound, "{name}: {lost} of {n} lost");
        }
        let bursts = flows.map(|flow| bursts(&flow));
        let (distance, bound) = distance(&bursts[0], &bursts[1]);
        println!("{shape}: bursts {bursts:?}, χ² {distance:.1}, bound {bound:.1}");
        ensure!(distance <= bound, "other bursts: χ² {distance} > {bound}");
    }
    Ok(())
}

/// How many bursts of each length were lost.
fn bursts(flow: &Flow) -> BTreeMap<u64, f64> {
    let mut counts = BTreeMap::new();
    let mut expected = 0;
    let mut received = flow.received.clone();
    received.sort_unstable();
    for sequence in received {
        if sequence > expected {
            *counts.entry(sequence - expected).or_default() += 1.0;
        }
        expected = sequence + 1;
    }
    counts
}

/// χ² of two histograms (Numerical Recipes, 14.3), with neighbouring lengths put together until
/// there are ten bursts of each, and the value that chance exceeds once in a thousand.
fn distance(a: &BTreeMap<u64, f64>, b: &BTreeMap<u64, f64>) -> (f64, f64) {
    const BOUNDS: [f64; 9] = [0.0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12];
    let (all_a, all_b): (f64, f64) = (a.values().sum(), b.values().sum());
    if all_a == 0.0 || all_b == 0.0 {
        return ((all_a + all_b).abs(), 0.0);
    }
    let longest = *a.keys().chain(b.keys()).max().unwrap_or(&0);
    let mut bins: Vec<(f64, f64)> = Vec::new();
    let mut open = (0.0, 0.0);
    for length in 1..=longest {
        let count = |of: &BTreeMap<u64, f64>| of.get(&length).copied().unwrap_or(0.0);
        open = (open.0 + count(a), open.1 + count(b));
        if open.0 >= 10.0 && open.1 >= 10.0 && bins.len() < BOUNDS.len() {
            bins.push(std::mem::take(&mut open));
        }
    }
    match bins.last_mut() {
        Some(last) => *last = (last.0 + open.0, last.1 + open.1),
        None => bins.push(open),
    }
    if bins.len() < 2 {
        return (0.0, 0.0);
    }
    let (ka, kb) = ((all_b / all_a).sqrt(), (all_a / all_b).sqrt());
    let terms = bins.iter().map(|(a, b)| (ka * a - kb * b).powi(2) / (a + b));
    (terms.sum(), BOUNDS[(bins.len() - 1).min(BOUNDS.len() - 1)])
}

/// With a defect in the links of user space they are not the same, and that is seen.
fn defects_in_links_are_seen() -> Outcome {
    defects_are_seen(
        VARIABLE,
        &[
            ("links::round_trips_are_the_same", "link/delay:wrong"),
            ("links::losses_are_the_same", "link/loss:wrong"),
            ("links::rates_and_queues_are_the_same", "link/rate:wrong"),
        ],
    )
}

limosa_testkit::tests![
    defects_in_links_are_seen[inside, night],
    round_trips_are_the_same[inside, compared],
    rates_and_queues_are_the_same[inside, compared],
    losses_are_the_same[inside, compared],
];
