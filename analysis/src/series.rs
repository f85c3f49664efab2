//! Throughput over time and the timeline's actions, per variant, ready to be drawn.
//!
//! Input: rows of `throughput.csv` and `events.csv`. Output: Mbit/s in bins of equal width from the
//! start of the handshake, per trial and as the median over trials. Bytes are spread evenly over the
//! interval they were counted in, so bins need not match the recorded intervals. A trial that is
//! over counts as 0 in the median. Times are whole nanoseconds: 4.3 s are 43 bins of 0.1 s, which
//! floating point takes for 42.99.

use crate::{input::Input, stats};
use limosa_record::row::{ThroughputRow, event};
use std::collections::{BTreeMap, BTreeSet};

/// Later times are taken for damage: no experiment lasts four months.
pub(crate) const LONGEST_S: f64 = 1e7;
/// More bins than this are finer than a figure's lines can show.
const MOST_BINS: u64 = 250;
const NS_PER_S: f64 = 1e9;
/// Actions that are shown even when nobody planned them.
const ACTIONS: [&str; 3] = ["announce", "checkpoint", "restore"];

/// Time before and after a migration in a picture of it, in shares of the time that it took.
const AROUND: (f64, f64) = (0.25, 0.5);

/// The bins that all variants of a run share, so that their figures can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Start of the first bin.
    from_ns: u64,
    bin_ns: u64,
    pub bins: usize,
}

/// One variant's throughput. Numbers are Mbit/s per bin, cut off after the last one above 0.
pub(crate) struct Series {
    /// Sum of all paths: one line per trial, with its repetition.
    pub trials: Vec<(u32, Vec<f64>)>,
    /// Median over the trials of the sum of all paths.
    pub total: Vec<f64>,
    /// Median over the trials, per path that carried anything in any trial.
    pub paths: Vec<(String, Vec<f64>)>,
    /// What was done to the network and its nodes, in order of time.
    pub marks: Vec<Mark>,
    /// Whether these are failed trials, for want of any other.
    pub failed: bool,
}

/// An action: medians over the trials, in seconds since the start of the handshake.
pub(crate) struct Mark {
    pub action: String,
    pub start_s: f64,
    pub end_s: f64,
}

/// Shorter intervals and more bytes than these are damage too. The last interval of a download may be
/// very short; its bytes are those of a whole bin.
const SHORTEST_S: f64 = 1e-9;
const MOST_BYTES: u64 = 1_000_000_000_000;

/// Whether a row's times and bytes can belong to an experiment.
pub(crate) fn usable(row: &ThroughputRow) -> bool {
    let times = row.t_s >= 0.0 && row.interval_s >= SHORTEST_S;
    times && row.t_s + row.interval_s < LONGEST_S && row.bytes <= MOST_BYTES
}

/// Whole nanoseconds, which is what the rows were written from.
fn nanoseconds(s: f64) -> u64 {
    (s.max(0.0) * NS_PER_S).round() as u64
}

/// Start and end of a row's interval.
fn span_ns(row: &ThroughputRow) -> (u64, u64) {
    let from = nanoseconds(row.t_s);
    (from, from + nanoseconds(row.interval_s).max(1))
}

/// Clocks jitter: an interval of 100.2 ms must not forbid bins of 100 ms.
fn shortest_bin_ns<'a>(rows: impl Iterator<Item = &'a ThroughputRow>) -> Option<u64> {
    let intervals: Vec<_> = rows.map(|r| r.interval_s).collect();
    stats::median(&intervals).map(|s| nanoseconds(s * 0.9))
}

impl Grid {
    /// Bins of 1, 2 or 5 times a power of ten, none shorter than the recorded intervals.
    pub(crate) fn of<'a>(rows: impl Iterator<Item = &'a ThroughputRow>) -> Option<Self> {
        let usable: Vec<_> = rows.filter(|r| usable(r) && r.bytes > 0).collect();
        let end_ns = usable.iter().map(|r| span_ns(r).1).max()?;
        Self::between(0, end_ns, shortest_bin_ns(usable.into_iter())?)
    }

    /// Bins that cover a time, none shorter than `shortest_ns` and not more than a figure can show.
    fn between(from_ns: u64, to_ns: u64, shortest_ns: u64) -> Option<Self> {
        let shortest = shortest_ns.max(to_ns.saturating_sub(from_ns).div_ceil(MOST_BINS));
        let mut widths = (0..17).flat_map(|e| [1, 2, 5].map(|m| m * 10_u64.pow(e)));
        let bin_ns = widths.find(|w| *w >= shortest)?;
        let from_ns = from_ns / bin_ns * bin_ns;
        let bins = to_ns.saturating_sub(from_ns).div_ceil(bin_ns).max(1);
        Some(Self { from_ns, bin_ns, bins: usize::try_from(bins).ok()? })
    }

    /// Finer bins around a migration: from before it until a while after the data is back.
    pub(crate) fn around(&self, series: &Series, rows: &[ThroughputRow]) -> Option<Self> {
        let (away, back) = series.server_away()?;
        let flows = |i: &usize| self.middle_s(*i) > back && series.total[*i] > 0.0;
        let data = (0..series.total.len()).find(flows).map_or(back, |i| self.middle_s(i));
        let took = (data - away).max(self.bin_s());
        let (from, to) = ((away - AROUND.0 * took).max(0.0), data + AROUND.1 * took);
        let to = to.min(self.start_s() + self.span_s());
        // A picture that shows nearly everything is none of the migration.
        if to - from > 0.8 * self.span_s() {
            return None;
        }
        let shortest_ns = shortest_bin_ns(rows.iter().filter(|r| usable(r)))?;
        Self::between(nanoseconds(from), nanoseconds(to), shortest_ns)
    }

    /// Start of the first bin.
    pub(crate) fn start_s(&self) -> f64 {
        self.from_ns as f64 / NS_PER_S
    }

    /// Length of a bin.
    pub(crate) fn bin_s(&self) -> f64 {
        self.bin_ns as f64 / NS_PER_S
    }

    /// How long all bins are together.
    pub(crate) fn span_s(&self) -> f64 {
        (self.bins as u64 * self.bin_ns) as f64 / NS_PER_S
    }

    /// Start and end of a bin.
    pub(crate) fn ends_s(&self, bin: usize) -> [f64; 2] {
        let edge = |bin: usize| (self.from_ns + bin as u64 * self.bin_ns) as f64 / NS_PER_S;
        [edge(bin), edge(bin + 1)]
    }

    /// The middle of a bin, where a figure has its point.
    pub(crate) fn middle_s(&self, bin: usize) -> f64 {
        (self.from_ns as f64 + (bin as f64 + 0.5) * self.bin_ns as f64) / NS_PER_S
    }

    fn add(&self, mbps: &mut [f64], row: &ThroughputRow) {
        let (from, to) = span_ns(row);
        let mbps_per_ns = row.bytes as f64 * 8e-6 / (to - from) as f64 / self.bin_s();
        let first = from.saturating_sub(self.from_ns) / self.bin_ns;
        let skipped = usize::try_from(first).unwrap_or(usize::MAX);
        for (bin, i) in mbps.iter_mut().skip(skipped).zip(first..) {
            let start = self.from_ns + i * self.bin_ns;
            if start >= to {
                break;
            }
            let overlap = to.min(start + self.bin_ns).saturating_sub(from.max(start));
            *bin += mbps_per_ns * overlap as f64;
        }
    }
}

/// Per trial and path the bins' Mbit/s.
type Binned<'a> = BTreeMap<u32, BTreeMap<&'a str, Vec<f64>>>;

impl Series {
    /// `None` when no usable row belongs to the variant.
    pub(crate) fn of(input: &Input, variant: &str, grid: &Grid) -> Option<Self> {
        let mut binned = binned(input.throughput.get(variant)?, grid);
        let (ok, failed): (Vec<_>, Vec<_>) = input.of(variant).partition(|t| t.is_ok());
        let only_failed = ok.is_empty() && !failed.is_empty();
        if !ok.is_empty() {
            // Nor those that trials.csv does not know: they were cut off with the run.
            let ok: BTreeSet<_> = ok.iter().map(|t| t.row.repetition).collect();
            binned.retain(|repetition, _| ok.contains(repetition));
        }
        let paths: BTreeSet<_> = binned.values().flat_map(|t| t.keys().copied()).collect();
        let nothing = vec![0.0; grid.bins];
        let median_of = |lines: Vec<&Vec<f64>>| {
            let bin = |i| stats::median(&lines.iter().map(|l| l[i]).collect::<Vec<_>>());
            trimmed((0..grid.bins).map(|i| bin(i).unwrap_or(0.0)).collect())
        };
        let totals: Vec<Vec<f64>> = binned
            .values()
            .map(|trial| (0..grid.bins).map(|i| trial.values().map(|p| p[i]).sum()).collect())
            .collect();
        if totals.is_empty() {
            return None;
        }
        let path = |name: &str| {
            let lines = binned.values().map(|t| t.get(name).unwrap_or(&nothing)).collect();
            (name.to_owned(), median_of(lines))
        };
        Some(Self {
            total: median_of(totals.iter().collect()),
            trials: binned.keys().copied().zip(totals.into_iter().map(trimmed)).collect(),
            paths: paths.into_iter().map(path).filter(|(_, line)| !line.is_empty()).collect(),
            marks: marks(input, variant, binned.keys().copied()),
            failed: only_failed,
        })
    }
}

impl Series {
    /// From the start of the first checkpoint to the end of the restore after it.
    pub(crate) fn server_away(&self) -> Option<(f64, f64)> {
        let from = self.marks.iter().find(|m| m.action == "checkpoint")?.start_s;
        let restore = |m: &&Mark| m.action == "restore" && m.start_s >= from;
        Some((from, self.marks.iter().find(restore)?.end_s))
    }
}

fn trimmed(mut line: Vec<f64>) -> Vec<f64> {
    let end = line.iter().rposition(|v| *v > 0.0).map_or(0, |i| i + 1);
    line.truncate(end);
    line
}

fn binned<'a>(rows: &'a [ThroughputRow], grid: &Grid) -> Binned<'a> {
    let mut binned = Binned::new();
    let mut latest: BTreeMap<(u32, &str), f64> = BTreeMap::new();
    for row in rows.iter().filter(|r| usable(r)) {
        let key = (row.repetition, row.path.as_str());
        // Time that runs backwards on a path is a later attempt, which alone counts.
        if latest.insert(key, row.t_s).is_some_and(|t| t > row.t_s) {
            latest.retain(|(repetition, _), _| *repetition != row.repetition);
            latest.insert(key, row.t_s);
            binned.remove(&row.repetition);
        }
        let paths = binned.entry(row.repetition).or_default();
        grid.add(paths.entry(&row.path).or_insert_with(|| vec![0.0; grid.bins]), row);
    }
    binned
}

/// The n-th time that an action of this name is taken in a trial.
type Nth<'a> = (&'a str, usize);
/// When it started and ended, one of each per trial.
type Times = (Vec<f64>, Vec<f64>);

fn marks(input: &Input, variant: &str, repetitions: impl Iterator<Item = u32>) -> Vec<Mark> {
    let mut times: BTreeMap<Nth<'_>, Times> = BTreeMap::new();
    for repetition in repetitions {
        let Some(rows) = input.events.get(&(variant.to_owned(), repetition)) else { continue };
        let rows = rows.iter();
        let handshakes = rows.clone().filter(|e| e.event == event::HANDSHAKE_STARTED);
        let Some(zero) = handshakes.map(|e| e.started_ns).min() else { continue };
        let seconds = |ns: i64| (i128::from(ns) - i128::from(zero)) as f64 / 1e9;
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let actions = rows.filter(|e| {
            let shown = e.planned_ns.is_some() || ACTIONS.contains(&e.event.as_str());
            e.source == "harness" && shown
        });
        for action in actions {
            let nth = seen.entry(&action.event).or_default();
            let (starts, ends) = times.entry((&action.event, *nth)).or_default();
            starts.push(seconds(action.started_ns));
            ends.push(seconds(action.done_ns.unwrap_or(action.started_ns)));
            *nth += 1;
        }
    }
    let mark = |((action, _), (starts, ends)): (Nth<'_>, Times)| {
        let (start_s, end_s) = (stats::median(&starts)?, stats::median(&ends)?);
        Some(Mark { action: action.to_owned(), start_s, end_s })
    };
    let mut marks: Vec<_> = times.into_iter().filter_map(mark).collect();
    marks.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn row(path: &str, t_s: f64, interval_s: f64, bytes: u64) -> ThroughputRow {
        let (variant, path) = ("q".to_owned(), path.to_owned());
        ThroughputRow { variant, repetition: 1, path, t_s, interval_s, bytes }
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn bytes_are_spread_over_their_interval() {
        let grid = Grid { from_ns: 0, bin_ns: S / 2, bins: 4 };
        let mut mbps = vec![0.0; 4];
        grid.add(&mut mbps, &row("eth0", 0.25, 1.0, 1_000_000));
        assert_eq!(mbps, [4.0, 8.0, 4.0, 0.0]);
        let (later, mut mbps) = (Grid { from_ns: S / 2, ..grid }, vec![0.0; 2]);
        later.add(&mut mbps, &row("eth0", 0.25, 1.0, 1_000_000));
        assert_eq!(mbps, [8.0, 4.0]);
        let before = row("eth0", 0.0, 0.5, 1_000_000);
        later.add(&mut mbps, &before);
        later.add(&mut mbps, &row("eth0", 9.0, 0.5, 1_000_000));
        assert_eq!(mbps, [8.0, 4.0], "what lies outside is not drawn");
    }

    /// `(4.3 / 0.1) as usize` is 42: these rows were lost, and every figure had dips to zero.
    #[test]
    fn regression_a_row_that_begins_with_a_bin_is_in_it() {
        let grid = Grid { from_ns: 0, bin_ns: S / 10, bins: 100 };
        for i in 0..100 {
            let mut mbps = vec![0.0; 100];
            grid.add(&mut mbps, &row("eth0", f64::from(i) / 10.0, 0.1, 125_000));
            let mut wanted = vec![0.0; 100];
            wanted[i as usize] = 10.0;
            let same = mbps.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(same, "{i}: {mbps:?}");
        }
    }

    /// Megabytes that are drawn: the area under a line.
    fn area_mb(grid: &Grid, mbps: &[f64]) -> f64 {
        mbps.iter().sum::<f64>() * grid.bin_s() / 8.0
    }

    fn drawn(grid: &Grid, rows: &[ThroughputRow]) -> Vec<f64> {
        let mut mbps = vec![0.0; grid.bins];
        rows.iter().for_each(|row| grid.add(&mut mbps, row));
        mbps
    }

    #[track_caller]
    fn same_area(grid: &Grid, rows: &[ThroughputRow]) {
        let bytes: u64 = rows.iter().map(|r| r.bytes).sum();
        let (got, wanted) = (area_mb(grid, &drawn(grid, rows)), bytes as f64 / 1e6);
        assert!((got - wanted).abs() <= 1e-9 * wanted, "{grid:?}: {got} MB, not {wanted} MB");
    }

    /// Widths of bins and intervals of recording, each with each.
    #[test]
    fn the_area_is_the_bytes_for_every_width() {
        let widths = (-3..4).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10_f64.powi(e)));
        for interval_s in [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0] {
            // As clients write them: the sum of whole intervals, as a floating point number.
            let at = |i: u32| f64::from(i) * 1e9 * interval_s;
            let rows: Vec<_> = (0..1200)
                .map(|i| row("eth0", at(i).round() / 1e9, interval_s, 100_000 + u64::from(i)))
                .collect();
            for bin_s in widths.clone() {
                let span_ns = nanoseconds(1200.0 * interval_s);
                let bin_ns = nanoseconds(bin_s);
                let bins = span_ns.div_ceil(bin_ns) as usize;
                same_area(&Grid { from_ns: 0, bin_ns, bins }, &rows);
            }
            same_area(&Grid::of(rows.iter()).unwrap(), &rows);
        }
    }

    proptest! {
        /// Whatever rows there are: what is drawn is what arrived.
        #[test]
        fn the_area_is_the_bytes(
            parts in vec((0..40_000_000_000_u64, 1..3_000_000_000_u64, 0..=MOST_BYTES), 1..60),
        ) {
            let seconds = |ns: u64| ns as f64 / 1e9;
            let rows: Vec<_> = parts
                .iter()
                .map(|(from, length, bytes)| row("eth0", seconds(*from), seconds(*length), *bytes))
                .collect();
            // Where nothing arrived there is nothing to draw.
            if let Some(grid) = Grid::of(rows.iter()) {
                let carried: Vec<_> = rows.into_iter().filter(|r| r.bytes > 0).collect();
                same_area(&grid, &carried);
                prop_assert!(grid.bins as u64 <= MOST_BINS);
            }
        }

        /// Of two pictures that lie side by side each has its part.
        #[test]
        fn what_one_picture_lacks_is_in_the_next(
            from_ns in 0..5_000_000_000_u64,
            length_ns in 100_000..5_000_000_000_u64,
            bins in 1..30_usize,
        ) {
            let rows = [row("eth0", from_ns as f64 / 1e9, length_ns as f64 / 1e9, 1_000_000)];
            let bin_ns = S / 5;
            let near = Grid { from_ns: 0, bin_ns, bins };
            let far = Grid { from_ns: bins as u64 * bin_ns, bin_ns, bins: 60 };
            let both = area_mb(&near, &drawn(&near, &rows)) + area_mb(&far, &drawn(&far, &rows));
            prop_assert!((both - 1.0).abs() <= 1e-9, "{both}");
        }
    }

    #[test]
    fn bins_suit_the_span_and_the_recorded_intervals() {
        let bin = |rows: &[ThroughputRow]| Grid::of(rows.iter()).map(|g| (g.bin_s(), g.bins));
        assert_eq!(bin(&[row("eth0", 109.9, 0.1, 1)]), Some((0.5, 220)));
        assert_eq!(bin(&[row("eth0", 4.9, 0.1, 1)]), Some((0.1, 50)));
        assert_eq!(bin(&[row("eth0", 9.0, 1.0, 1)]), Some((1.0, 10)));
        assert_eq!(bin(&[row("eth0", f64::NAN, 1.0, 1), row("eth0", 1e300, 1.0, 1)]), None);
        assert_eq!(bin(&[row("eth0", -0.1, 1.0, 1)]), None, "before the handshake");
        // A download may end just after an interval has begun.
        let rows = [row("eth0", 0.0, 0.1, 1000), row("eth0", 0.1, 41e-9, 1200)];
        same_area(&Grid::of(rows.iter()).unwrap(), &rows);
    }

    #[test]
    fn a_later_attempt_replaces_an_earlier_one() {
        let grid = Grid { from_ns: 0, bin_ns: S, bins: 2 };
        let rows = [
            row("eth0", 0.0, 1.0, 125_000),
            row("eth1", 0.0, 1.0, 125_000),
            row("eth0", 1.0, 1.0, 125_000),
            row("eth0", 0.0, 1.0, 250_000),
        ];
        let binned = binned(&rows, &grid);
        assert_eq!(binned[&1], BTreeMap::from([("eth0", vec![2.0, 0.0])]));
    }
}
