//! Many short trials in one run: memory and descriptors stay what they are.

use super::machine::{Place, number};
use std::{
    fs,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

const EXPERIMENT: &str = "version: 1
topology: TOPOLOGY
repetitions: 1
time_limit: 20s
workload:
  download: {path: /random, size: 100KB}
variants:
  short: {scheme: quic}
expect:
  client: {exited: 0}
";

/// Trials that are over, resident memory in KiB, open descriptors, threads.
type Sample = (usize, u64, usize, usize);

fn sample(pid: u32, rows: usize) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib = kib.trim().trim_end_matches(" kB").parse().ok()?;
    let count = |what| fs::read_dir(format!("/proc/{pid}/{what}")).map(Iterator::count).ok();
    Some((rows, kib, count("fd")?, count("task")?))
}

/// `LIMOSA_SOAK` says how many trials.
#[test]
#[ignore = "needs root and /dev/net/tun"]
fn memory_and_descriptors_stay_flat_over_many_trials() {
    let trials = number("LIMOSA_SOAK", 60);
    let place = Place::new("60s");
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");
    let file = place.path().join("soak.yaml");
    fs::write(file, EXPERIMENT.replace("TOPOLOGY", topology)).expect("write the experiment");
    let reps = trials.to_string();
    let on = ["run", "soak.yaml", "--on", "host", "--links", "user", "--reps", &reps];
    let log = fs::File::create(place.path().join("log")).expect("make a log");
    let started = Instant::now();
    let mut limosa =
        place.limosa(&on).stdout(Stdio::null()).stderr(log).spawn().expect("start limosa");
    let rows = place.path().join("results/soak/latest/trials.csv");
    let mut samples: Vec<Sample> = Vec::new();
    while limosa.try_wait().expect("wait for limosa").is_none() {
        let done = fs::read_to_string(&rows).map_or(0, |t| t.lines().count().saturating_sub(1));
        if samples.last().map_or(0, |s| s.0) < done {
            samples.extend(sample(limosa.id(), done));
        }
        sleep(Duration::from_millis(10));
    }
    let took = started.elapsed();
    let status = limosa.wait().expect("wait for limosa");
    let log = fs::read_to_string(place.path().join("log")).unwrap_or_default();
    assert!(status.success(), "{status}: {log}");
    let rows = place.trials("soak");
    assert_eq!(rows.len() as u64, trials);
    assert_eq!(place.left(), [""; 0]);
    // The report at the end is no trial.
    samples.retain(|s| s.0 as u64 >= 50 && (s.0 as u64) < trials);
    let (first, last) = (samples[0], *samples.last().expect("samples"));
    let most = samples.iter().map(|s| s.1).max().unwrap_or(0);
    let descriptors = samples.iter().map(|s| s.2).max().unwrap_or(0);
    println!(
        "{trials} trials in {:.0} s; (trial, KiB, descriptors, threads) from {first:?} to {last:?}, at most {most} KiB and {descriptors} descriptors",
        took.as_secs_f64()
    );
    assert!(last.1 as f64 <= first.1 as f64 * 1.05, "memory grew: {first:?} {last:?}");
    assert!(last.2 as f64 <= first.2 as f64 * 1.05, "descriptors grew: {first:?} {last:?}");
}
