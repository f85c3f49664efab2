//! How late this machine wakes a thread that should run now.
//!
//! Input: how late is late. Output: a [`Probe`] whose [`Histogram`]s count, for each millisecond of
//! each processor, how much later than at that millisecond a thread came to run. Kernel interface:
//! clock_nanosleep(2) with TIMER_ABSTIME, sched_setaffinity(2), PR_SET_TIMERSLACK.
//!
//! One thread per processor, pinned, at normal priority: it stands in the same queue as the nodes
//! and the links. Times are a fixed grid, and a millisecond that the thread slept through counts,
//! too, as late as it was by then: so the shares are shares of time, and one stall of 100 ms is a
//! hundred late milliseconds and not one (G. Tene's "coordinated omission").

use anyhow::{Context, Result};
use limosa_record::clock::monotonic_ns;
use rustix::{
    thread::{
        ClockId, CpuSet, clock_nanosleep_absolute, sched_getaffinity, sched_setaffinity,
        set_current_timer_slack,
    },
    time::Timespec,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Distance of the grid's times.
const GRID_NS: i64 = 1_000_000;

/// Buckets per doubling: a reading is exact to an eighth of itself.
const STEPS: u64 = 8;

/// Up to 2^31 µs, which is longer than any machine stalls and lives.
const BUCKETS: usize = 29 * STEPS as usize;

/// Latenesses in microseconds, counted in buckets that grow with their size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    late: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], late: 0 }
    }
}

impl Histogram {
    /// Grid times counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Share of the grid's times that came too late; nothing without any.
    pub fn late_share(&self) -> Option<f64> {
        let total = self.total();
        (total > 0).then(|| self.late as f64 / total as f64)
    }

    /// The lateness that this share of the grid's times did not exceed, in milliseconds, rounded up
    /// to its bucket's end; nothing without any.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let wanted = (share * self.total() as f64).ceil().max(1.0);
        let mut so_far = 0;
        let bucket = self.counts.iter().position(|n| {
            so_far += n;
            so_far as f64 >= wanted
        })?;
        Some(end_us(bucket) as f64 / 1e3)
    }

    /// What has been counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.counts.iter().zip(&before.counts).map(|(now, then)| now - then);
        Self { counts: counts.collect(), late: self.late - before.late }
    }

    /// Counts one lateness.
    pub fn count(&mut self, lateness: Duration, late: bool) {
        self.counts[bucket(lateness)] += 1;
        self.late += u64::from(late);
    }

    /// Adds another one's counts.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.late += other.late;
    }
}

/// As a map from the end of each bucket that is not empty, in µs, to its count.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            map.serialize_entry(&end_us(bucket).to_string(), count)?;
        }
        map.end()
    }
}

/// Below 16 µs each bucket holds one; above, each doubling has eight.
fn bucket(lateness: Duration) -> usize {
    let us = u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX).max(1);
    let doublings = u64::from(us.ilog2()).saturating_sub(u64::from(STEPS.ilog2()));
    let bucket = doublings * STEPS + (us >> doublings);
    usize::try_from(bucket).map_or(BUCKETS - 1, |b| b.min(BUCKETS - 1))
}

/// The first µs that is beyond this bucket.
fn end_us(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    let doublings = (next / STEPS).saturating_sub(1);
    (next - doublings * STEPS) << doublings
}

/// One processor's counts, written by its thread only.
struct Counts {
    counts: Vec<AtomicU64>,
    late: AtomicU64,
}

/// The running threads; they end when it is dropped.
pub struct Probe {
    processors: Vec<(usize, Arc<Counts>)>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("processors", &self.processors.len()).finish()
    }
}

impl Probe {
    /// Starts a thread on each processor that this process may use. A grid time is late when the
    /// thread runs more than `late` behind it.
    ///
    /// # Errors
    /// When the kernel does not give a thread.
    pub fn start(late: Duration) -> Result<Self> {
        let allowed = sched_getaffinity(None).context("ask which processors may be used")?;
        let late_ns = i64::try_from(late.as_nanos()).context("a lateness of centuries")?;
        let (mut processors, mut threads) = (Vec::new(), Vec::new());
        let stop = Arc::new(AtomicBool::new(false));
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)) {
            let counts = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
            let counts = Arc::new(Counts { counts, late: AtomicU64::new(0) });
            processors.push((cpu, counts.clone()));
            let stop = stop.clone();
            let thread = thread::Builder::new().name(format!("lag{cpu}"));
            let watching = move || watch(cpu, late_ns, &counts, &stop);
            threads.push(thread.spawn(watching).context("start a thread")?);
        }
        Ok(Self { processors, threads, stop })
    }

    /// Each processor's number and its counts so far.
    pub fn read(&self) -> Vec<(usize, Histogram)> {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let read = |c: &Counts| Histogram {
            late: get(&c.late),
            counts: c.counts.iter().map(get).collect(),
        };
        self.processors.iter().map(|(cpu, counts)| (*cpu, read(counts))).collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has counted nothing since.
            let _ = thread.join();
        }
    }
}

fn watch(cpu: usize, late_ns: i64, counts: &Counts, stop: &AtomicBool) {
    let mut only = CpuSet::new();
    only.set(cpu);
    // Where pinning is forbidden the thread still measures some processor.
    let _ = sched_setaffinity(None, &only);
    let _ = set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut next_ns = monotonic_ns() + GRID_NS;
    while !stop.load(Ordering::Relaxed) {
        let time = Timespec { tv_sec: next_ns / 1_000_000_000, tv_nsec: next_ns % 1_000_000_000 };
        // A signal wakes it early: then the grid's time is simply not yet counted.
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &time);
        let now_ns = monotonic_ns();
        while next_ns <= now_ns {
            let lateness_ns = now_ns - next_ns;
            let bucket = bucket(Duration::from_nanos(lateness_ns.unsigned_abs()));
            counts.counts[bucket].fetch_add(1, Ordering::Relaxed);
            counts.late.fetch_add(u64::from(lateness_ns > late_ns), Ordering::Relaxed);
            next_ns += GRID_NS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_an_eighth_wide() {
        for us in (1..100_000).chain([1 << 20, (1 << 20) - 1, 123_456_789]) {
            let bucket = bucket(Duration::from_micros(us));
            let (start, end) = (if bucket == 0 { 0 } else { end_us(bucket - 1) }, end_us(bucket));
            assert!((start..end).contains(&us), "{us} µs is in {start}..{end}");
            assert!(end - start <= 1 + us / 8, "{us} µs is in {start}..{end}");
        }
        assert_eq!(bucket(Duration::from_secs(1 << 40)), BUCKETS - 1);
    }

    #[test]
    fn shares_and_quantiles() {
        let mut all = Histogram::default();
        assert_eq!((all.late_share(), all.quantile_ms(0.5)), (None, None));
        (0..98).for_each(|_| all.count(Duration::from_micros(12), false));
        let before = all.clone();
        (0..2).for_each(|_| all.count(Duration::from_millis(8), true));
        assert_eq!(all.late_share(), Some(0.02));
        assert_eq!(all.quantile_ms(0.98), Some(0.013));
        let worst = all.quantile_ms(1.0).unwrap();
        assert!((8.0..9.0).contains(&worst), "{worst} ms");
        assert_eq!(all.since(&before).late_share(), Some(1.0));
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, r#"{"13":98,"8192":2}"#);
    }

    #[test]
    fn the_grid_has_no_holes() {
        let probe = Probe::start(Duration::from_millis(2)).unwrap();
        let start_ns = monotonic_ns();
        let mut counted = probe.read();
        while counted.iter().any(|(_, histogram)| histogram.total() < 50) {
            thread::sleep(Duration::from_millis(1));
            counted = probe.read();
        }
        let passed = (monotonic_ns() - start_ns) as u64 / 1_000_000;
        for (cpu, histogram) in counted {
            // The first time of the grid may have been before the start.
            let total = histogram.total();
            assert!(total <= passed + 2, "processor {cpu}: {total} in {passed} ms");
        }
    }
}
