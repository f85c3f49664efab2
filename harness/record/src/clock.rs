//! The one clock of all rows: CLOCK_REALTIME in nanoseconds (`clock_gettime(2)`).
//!
//! A process that CRIU restores lives in a time namespace whose CLOCK_MONOTONIC does not see its
//! downtime. CLOCK_REALTIME is not virtualised, so rows of the harness and of restored nodes can
//! be put side by side.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds since 1970-01-01 UTC (CLOCK_REALTIME).
pub fn now_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

/// Nanoseconds of CLOCK_MONOTONIC, for durations inside one process that is not checkpointed.
pub fn monotonic_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

fn nanoseconds(t: Timespec) -> i64 {
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// `2026-11-22T08:15:30Z` for a time in nanoseconds since 1970 (proleptic Gregorian calendar).
pub fn utc(t_ns: i64) -> String {
    let (y, mo, d, h, mi, s) = civil(t_ns);
    format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}Z")
}

/// `20261122T081530Z`, the form that names run directories.
pub fn utc_stamp(t_ns: i64) -> String {
    utc(t_ns).replace(['-', ':'], "")
}

/// Days to date as in Howard Hinnant's "chrono-compatible low-level date algorithms".
fn civil(t_ns: i64) -> (i64, i64, i64, i64, i64, i64) {
    let seconds = t_ns.div_euclid(1_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29T00:00:00Z");
        assert_eq!(utc_stamp(1_795_335_330_000_000_000), "20261122T081530Z");
        assert_eq!(utc(-1), "1969-12-31T23:59:59Z");
    }
}
