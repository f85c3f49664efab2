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

/// Trials that are over, resident memory in KiB then, the fewest open descriptors since the one before.
type Sample = (usize, u64, usize);

fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    kib.trim().trim_end_matches(" kB").parse().ok()
}

fn descriptors(pid: u32) -> Option<usize> {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).ok()
}

/// `LIMOSA_SOAK` says how many trials.
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
    let (mut samples, mut fewest): (Vec<Sample>, _) = (Vec::new(), usize::MAX);
    while limosa.try_wait().expect("wait for limosa").is_none() {
        fewest = descriptors(limosa.id()).unwrap_or(fewest).min(fewest);
        let done = fs::read_to_string(&rows).map_or(0, |t| t.lines().count().saturating_sub(1));
        if samples.last().map_or(0, |s| s.0) < done
            && let Some(kib) = resident_kib(limosa.id())
        {
            samples.push((done, kib, fewest));
            fewest = usize::MAX;
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
    println!("{trials} trials in {:.0} s", took.as_secs_f64());
    // A sample depends on what the next trial has begun with by then, so parts of the run are compared.
    let number = (samples.len() / 50).clamp(2, 10);
    let parts: Vec<_> = samples.chunks(samples.len().div_ceil(number)).map(part).collect();
    for (trial, kib, descriptors) in &parts {
        println!("from trial {trial} on: {kib} KiB, {descriptors} descriptors");
    }
    let (first, last) = (parts[0], *parts.last().expect("samples"));
    assert!(last.1 as f64 <= first.1 as f64 * 1.05, "memory grew: {parts:?}");
    assert!(last.2 as f64 <= first.2 as f64 * 1.05, "descriptors grew: {parts:?}");
}

/// The first trial of some, the median of their memory, and the fewest descriptors.
fn part(samples: &[Sample]) -> (usize, u64, usize) {
    let mut kib: Vec<u64> = samples.iter().map(|s| s.1).collect();
    kib.sort_unstable();
    let fewest = samples.iter().map(|s| s.2).min().unwrap_or(0);
    (samples[0].0, kib[kib.len() / 2], fewest)
}

limosa_testkit::tests![memory_and_descriptors_stay_flat_over_many_trials,];
