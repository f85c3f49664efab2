//! Throughput over time and the timeline's actions, per variant, ready to be drawn.
//!
//! Input: rows of `throughput.csv` and `events.csv`. Output: Mbit/s in bins of equal width from the
//! start of the handshake, per trial and as the median over trials. Bytes are spread evenly over the
//! interval they were counted in, so bins need not match the recorded intervals. A trial that is
//! over counts as 0 in the median.

use crate::{input::Input, stats};
use limosa_record::row::{ThroughputRow, event};
use std::collections::{BTreeMap, BTreeSet};

/// Later times are taken for damage: no experiment lasts four months.
pub(crate) const LONGEST_S: f64 = 1e7;
/// More bins than this are finer than a figure's lines can show.
const MOST_BINS: f64 = 250.0;
/// Actions that are shown even when nobody planned them.
const ACTIONS: [&str; 3] = ["announce", "checkpoint", "restore"];

/// Time before and after a migration in a picture of it, in shares of the time that it took.
const AROUND: (f64, f64) = (0.25, 0.5);

/// The bins that all variants of a run share, so that their figures can be compared.
pub(crate) struct Grid {
    /// Start of the first bin.
    pub from_s: f64,
    pub bin_s: f64,
    pub bins: usize,
}

/// One variant's throughput. Numbers are Mbit/s per bin, cut off after the last one above 0.
pub(crate) struct Series {
    /// Sum of all paths: one line per trial.
    pub trials: Vec<Vec<f64>>,
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

/// Shorter intervals and more bytes than these are damage too; their rates would have no axis.
const SHORTEST_S: f64 = 1e-4;
const MOST_BYTES: u64 = 1_000_000_000_000;

/// Whether a row's times and bytes can belong to an experiment.
pub(crate) fn usable(row: &ThroughputRow) -> bool {
    let end = row.t_s + row.interval_s;
    row.interval_s >= SHORTEST_S && row.bytes <= MOST_BYTES && end > 0.0 && end < LONGEST_S
}

impl Grid {
    /// Bins of 1, 2 or 5 times a power of ten, none shorter than the recorded intervals.
    pub(crate) fn of<'a>(rows: impl Iterator<Item = &'a ThroughputRow>) -> Option<Self> {
        let usable: Vec<_> = rows.filter(|r| usable(r) && r.bytes > 0).collect();
        let ends = usable.iter().map(|r| r.t_s + r.interval_s);
        let span = ends.fold(0.0, f64::max);
        let intervals: Vec<_> = usable.iter().map(|r| r.interval_s).collect();
        // Clocks jitter: an interval of 100.2 ms must not forbid bins of 100 ms.
        Self::between(0.0, span, stats::median(&intervals)? * 0.9)
    }

    /// Bins that cover a time, none shorter than `shortest_s` and not more than a figure can show.
    fn between(from_s: f64, to_s: f64, shortest_s: f64) -> Option<Self> {
        let shortest = shortest_s.max((to_s - from_s) / MOST_BINS);
        let widths = (-9..8).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10_f64.powi(e)));
        let bin_s = widths.into_iter().find(|w| *w >= shortest)?;
        let from_s = (from_s / bin_s).floor().max(0.0) * bin_s;
        Some(Self { from_s, bin_s, bins: ((to_s - from_s) / bin_s).ceil().max(1.0) as usize })
    }

    /// Finer bins around a migration: from before it until a while after the data is back.
    pub(crate) fn around(&self, series: &Series, rows: &[ThroughputRow]) -> Option<Self> {
        let (away, back) = series.server_away()?;
        let middle = |i: usize| self.from_s + (i as f64 + 0.5) * self.bin_s;
        let flows = |i: &usize| middle(*i) > back && series.total[*i] > 0.0;
        let data = (0..series.total.len()).find(flows).map_or(back, middle);
        let took = (data - away).max(self.bin_s);
        let (from, to) = (away - AROUND.0 * took, data + AROUND.1 * took);
        let to = to.min(self.from_s + self.span_s());
        // A picture that shows nearly everything is none of the migration.
        if to - from.max(0.0) > 0.8 * self.span_s() {
            return None;
        }
        let intervals: Vec<_> = rows.iter().filter(|r| usable(r)).map(|r| r.interval_s).collect();
        Self::between(from.max(0.0), to, stats::median(&intervals)? * 0.9)
    }

    /// How long all bins are together.
    pub(crate) fn span_s(&self) -> f64 {
        self.bins as f64 * self.bin_s
    }

    fn add(&self, mbps: &mut [f64], row: &ThroughputRow) {
        let (from, to) = (row.t_s - self.from_s, row.t_s + row.interval_s - self.from_s);
        let from = from.max(0.0);
        let first = (from / self.bin_s) as usize;
        let bytes_per_s = row.bytes as f64 / row.interval_s;
        for (i, bin) in mbps.iter_mut().enumerate().skip(first) {
            let (start, end) = (i as f64 * self.bin_s, (i + 1) as f64 * self.bin_s);
            let overlap = to.min(end) - from.max(start);
            if overlap <= 0.0 {
                break;
            }
            *bin += bytes_per_s * overlap * 8.0 / 1e6 / self.bin_s;
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
            trials: totals.into_iter().map(trimmed).collect(),
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

    fn row(path: &str, t_s: f64, interval_s: f64, bytes: u64) -> ThroughputRow {
        let (variant, path) = ("q".to_owned(), path.to_owned());
        ThroughputRow { variant, repetition: 1, path, t_s, interval_s, bytes }
    }

    #[test]
    fn bytes_are_spread_over_their_interval() {
        let grid = Grid { from_s: 0.0, bin_s: 0.5, bins: 4 };
        let mut mbps = vec![0.0; 4];
        grid.add(&mut mbps, &row("eth0", 0.25, 1.0, 1_000_000));
        assert_eq!(mbps, [4.0, 8.0, 4.0, 0.0]);
        let (later, mut mbps) = (Grid { from_s: 0.5, ..grid }, vec![0.0; 2]);
        later.add(&mut mbps, &row("eth0", 0.25, 1.0, 1_000_000));
        assert_eq!(mbps, [8.0, 4.0]);
    }

    #[test]
    fn bins_suit_the_span_and_the_recorded_intervals() {
        let bin = |rows: &[ThroughputRow]| Grid::of(rows.iter()).map(|g| (g.bin_s, g.bins));
        assert_eq!(bin(&[row("eth0", 109.9, 0.1, 1)]), Some((0.5, 220)));
        assert_eq!(bin(&[row("eth0", 4.9, 0.1, 1)]), Some((0.1, 50)));
        assert_eq!(bin(&[row("eth0", 9.0, 1.0, 1)]), Some((1.0, 10)));
        assert_eq!(bin(&[row("eth0", f64::NAN, 1.0, 1), row("eth0", 1e300, 1.0, 1)]), None);
    }

    #[test]
    fn a_later_attempt_replaces_an_earlier_one() {
        let grid = Grid { from_s: 0.0, bin_s: 1.0, bins: 2 };
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
