//! What the kernel counts of the whole machine, for the question whether it was overloaded.
//!
//! Output: [`Counters`], totals since boot, and [`Usage`], what became of them between two readings.
//! Kernel interface: /proc/stat (proc_stat(5)), /proc/pressure/cpu (Documentation/accounting/psi.rst),
//! /proc/net/softnet_stat (net/core/net-procfs.c), /proc/meminfo, CLOCK_REALTIME beside CLOCK_MONOTONIC_RAW.
//!
//! What a kernel does not tell is `None`.

use limosa_record::clock::now_ns;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::fs;

/// How often both clocks are read.
const READINGS: usize = 5;

/// Totals since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    time: Option<ProcessorTime>,
    pressure_us: Option<u64>,
    softnet: Option<Softnet>,
    realtime_ns: i64,
    raw_ns: i64,
}

/// Time of all processors together, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessorTime {
    total: u64,
    idle: u64,
    stolen: u64,
}

/// Packets of all processors' receive queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Softnet {
    dropped: u64,
    squeezed: u64,
}

/// What happened between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Seconds between the readings.
    pub time_s: f64,
    /// Share of processor time that was not idle.
    pub busy_share: Option<f64>,
    /// Share of processor time that a hypervisor gave to somebody else.
    pub steal_share: Option<f64>,
    /// Share of time in which some runnable thread had to wait for a processor.
    pub cpu_pressure_share: Option<f64>,
    /// Packets dropped because a processor's receive queue was full.
    pub softnet_drops_packets: Option<u64>,
    /// How often a processor put off packets because its turn was over.
    pub softnet_squeezes: Option<u64>,
    /// How much more CLOCK_REALTIME went on than the raw hardware clock, in milliseconds.
    pub realtime_drift_ms: f64,
}

impl Counters {
    /// Reads all of them.
    pub fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).ok();
        let (realtime_ns, raw_ns) = clocks();
        Self {
            time: file("/proc/stat").and_then(|text| processor_time(&text)),
            pressure_us: file("/proc/pressure/cpu").and_then(|text| pressure_us(&text)),
            softnet: file("/proc/net/softnet_stat").and_then(|text| softnet(&text)),
            realtime_ns,
            raw_ns,
        }
    }

    /// What happened since an earlier reading.
    pub fn since(&self, before: &Self) -> Usage {
        let passed_ns = self.raw_ns - before.raw_ns;
        let both = self.time.zip(before.time);
        let ticks = both.map(|(now, then)| now.total.saturating_sub(then.total));
        let of_ticks = |n: u64| Some(n as f64 / ticks.filter(|t| *t > 0)? as f64);
        let idle = both.map(|(now, then)| now.idle.saturating_sub(then.idle));
        let stolen = both.map(|(now, then)| now.stolen.saturating_sub(then.stolen));
        let softnet = self.softnet.zip(before.softnet);
        let pressed = self.pressure_us.zip(before.pressure_us);
        Usage {
            time_s: passed_ns as f64 / 1e9,
            busy_share: idle.and_then(of_ticks).map(|idle| 1.0 - idle),
            steal_share: stolen.and_then(of_ticks),
            cpu_pressure_share: pressed
                .filter(|_| passed_ns > 0)
                .map(|(now, then)| now.saturating_sub(then) as f64 * 1e3 / passed_ns as f64),
            softnet_drops_packets: softnet.map(|(now, then)| now.dropped - then.dropped),
            softnet_squeezes: softnet.map(|(now, then)| now.squeezed - then.squeezed),
            realtime_drift_ms: (self.realtime_ns - before.realtime_ns - passed_ns) as f64 / 1e6,
        }
    }
}

/// Memory that programs can still get (`MemAvailable` of proc_meminfo(5)).
pub fn available_memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// CLOCK_REALTIME and CLOCK_MONOTONIC_RAW at the same moment: of a few readings the one in which
/// the least time passed between both, because a busy machine may do something else there.
fn clocks() -> (i64, i64) {
    let raw_ns = || {
        let raw = clock_gettime(ClockId::MonotonicRaw);
        raw.tv_sec * 1_000_000_000 + raw.tv_nsec
    };
    let reading = |_| {
        let (before, realtime_ns, after) = (raw_ns(), now_ns(), raw_ns());
        (after - before, (realtime_ns, before + (after - before) / 2))
    };
    let best = (0..READINGS).map(reading).min_by_key(|(gap, _)| *gap);
    best.map(|(_, clocks)| clocks).unwrap_or_default()
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal, and two more that user
/// and nice contain.
fn processor_time(text: &str) -> Option<ProcessorTime> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let fields: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [_, _, _, idle, waiting, _, _, stolen] = fields[..] else { return None };
    Some(ProcessorTime { total: fields.iter().sum(), idle: idle + waiting, stolen })
}

fn pressure_us(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.rsplit_once("total=")?.1.trim().parse().ok()
}

/// One line per processor, hexadecimal: processed, dropped, squeezed, and more.
fn softnet(text: &str) -> Option<Softnet> {
    let mut all = Softnet { dropped: 0, squeezed: 0 };
    for line in text.lines() {
        let mut fields = line.split_whitespace().map(|field| u64::from_str_radix(field, 16));
        let (_, dropped, squeezed) = (fields.next()?, fields.next()?, fields.next()?);
        all.dropped += dropped.ok()?;
        all.squeezed += squeezed.ok()?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_as_kernels_write_them() {
        let time = processor_time("cpu  132622 11 17930 136322 738 0 141 140 7 0\ncpu0 1 2\n");
        assert_eq!(time, Some(ProcessorTime { total: 287_904, idle: 137_060, stolen: 140 }));
        let pressure = "some avg10=1.53 avg60=0.87 avg300=0.73 total=157663\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(pressure_us(pressure), Some(157_663));
        let text = "0000082f 00000001 0000000a 00000000\n0000347a 00000000 00000010 00000000\n";
        assert_eq!(softnet(text), Some(Softnet { dropped: 1, squeezed: 26 }));
        for odd in ["", "cpu 1 2 3", "some total=x", "zz 1 2"] {
            assert_eq!((processor_time(odd), pressure_us(odd)), (None, None), "{odd}");
        }
        assert_eq!(softnet("zz"), None);
    }

    #[test]
    fn differences_are_shares_of_the_time_between() {
        let time = |total, idle, stolen| Some(ProcessorTime { total, idle, stolen });
        let before = Counters {
            time: time(1000, 500, 10),
            pressure_us: Some(1_000_000),
            softnet: Some(Softnet { dropped: 3, squeezed: 5 }),
            realtime_ns: 0,
            raw_ns: 0,
        };
        let after = Counters {
            time: time(1400, 800, 14),
            pressure_us: Some(1_500_000),
            softnet: Some(Softnet { dropped: 3, squeezed: 6 }),
            realtime_ns: 2_001_000_000,
            raw_ns: 2_000_000_000,
        };
        let expected = Usage {
            time_s: 2.0,
            busy_share: Some(0.25),
            steal_share: Some(0.01),
            cpu_pressure_share: Some(0.25),
            softnet_drops_packets: Some(0),
            softnet_squeezes: Some(1),
            realtime_drift_ms: 1.0,
        };
        assert_eq!(after.since(&before), expected);
        let nothing = Counters { time: None, pressure_us: None, softnet: None, ..before };
        let usage = nothing.since(&nothing);
        assert_eq!(usage, Usage::default(), "no time has passed, and nothing is known");
    }

    #[test]
    fn this_machine_tells_what_it_did() {
        let before = Counters::read();
        let usage = Counters::read().since(&before);
        assert!(before.time.is_some() && usage.time_s > 0.0, "{usage:?}");
        assert!(available_memory_bytes().is_some_and(|n| n > 1 << 20));
        assert!(usage.realtime_drift_ms.abs() < 5.0, "{usage:?}");
    }
}
