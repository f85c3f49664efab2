//! The strip figures of a run: turnaround, stalls, resume delays, response times, round trips.

use super::{
    Figure,
    strip::{self, Row, Strip},
};
use crate::{
    input::Input, number, reference::Published, series::LONGEST_S, stats, summary::Variant,
};
use limosa_record::row::ClientRow;
use std::collections::BTreeMap;

/// Metric, name of the axis, caption.
const TIMES: [(&str, &str, &str); 4] = [
    (
        "turnaround_s",
        "turnaround time (s)",
        "Turnaround time, from the start of the first handshake to the last byte",
    ),
    ("stall_s", "longest stall (s)", "The longest time without a byte of the body"),
    (
        "resume_delay_s",
        "resume delay (s)",
        "Resume delay, from the end of the restore to the next byte of the body",
    ),
    ("response_mean_s", "mean response time (s)", "Mean response time of a trial's requests"),
];
/// More rows than this are no figure but a wallpaper.
const MOST_ROWS: usize = 40;

/// A figure for each of these metrics that any trial has.
pub(crate) fn figures(input: &Input, variants: &[Variant]) -> Vec<Figure> {
    let one = |(metric, x_name, what): (&str, &str, &str)| {
        let row = |v: &Variant| {
            let points = points(input, &v.name, metric);
            let published = published_of(input, v, metric);
            let name = v.name.clone();
            (!points.is_empty()).then_some(Row { name, points, published, wanted: None })
        };
        let rows: Vec<_> = variants.iter().filter_map(row).collect();
        if rows.is_empty() {
            return None;
        }
        let (rows, left_out) = shown(rows);
        let caption = caption(what, &rows, sources(input, variants, metric)) + &left_out;
        let file = format!("{}.svg", metric.trim_end_matches("_s").replace('_', "-"));
        let strip = Strip { title: x_name, x_name, point: "trial", from_zero: true, rows };
        Some(strip.figure(file, caption))
    };
    TIMES.into_iter().filter_map(one).chain(clients(input, variants)).chain(rtt(input)).collect()
}

/// How resume delays are spread over the clients of a server.
fn clients(input: &Input, variants: &[Variant]) -> Option<Figure> {
    let drawable = |s: &f64| s.abs() < LONGEST_S;
    let row = |v: &Variant| {
        let trial = |c: &ClientRow| input.of(&v.name).find(|t| t.row.repetition == c.repetition);
        let mut points = Vec::new();
        for client in input.clients.iter().filter(|c| c.variant == v.name) {
            let Some(trial) = trial(client).filter(|t| t.is_ok()) else { continue };
            let delay = client.resume_delay_s.filter(drawable);
            points.extend(delay.map(|s| (s, trial.is_suspect())));
        }
        let name = v.name.clone();
        (!points.is_empty()).then_some(Row { name, points, published: None, wanted: None })
    };
    let rows: Vec<_> = variants.iter().filter_map(row).collect();
    if rows.is_empty() {
        return None;
    }
    let (rows, left_out) = shown(rows);
    let n = rows.iter().map(|r| r.points.len()).sum();
    let caption = format!(
        "Resume delay of each client, from the end of the restore to its next byte or answer; {} \
         in all. {}{left_out}",
        number::count(n, "client"),
        mean_in_words(&rows)
    );
    let (title, x_name) = ("resume delays of the clients", "resume delay (s)");
    let strip = Strip { title, x_name, point: "client", from_zero: true, rows };
    Some(strip.figure("resume-delay-of-clients.svg", caption))
}

fn points(input: &Input, variant: &str, metric: &str) -> Vec<(f64, bool)> {
    let drawable = |s: &f64| s.abs() < LONGEST_S;
    let ok = input.of(variant).filter(|t| t.is_ok());
    ok.filter_map(|t| Some((t.number(metric).filter(drawable)?, t.is_suspect()))).collect()
}

fn range(min: Option<f64>, mean: f64, max: Option<f64>) -> Option<(f64, f64, f64)> {
    let range = (min.unwrap_or(mean), mean, max.unwrap_or(mean));
    let drawable = |v: f64| (0.0..LONGEST_S).contains(&v);
    (drawable(range.0) && drawable(range.1) && drawable(range.2)).then_some(range)
}

fn published_of(input: &Input, variant: &Variant, metric: &str) -> Option<(f64, f64, f64)> {
    if metric == "turnaround_s" {
        let r = variant.reference.as_ref()?;
        return range(r.min_s, r.mean_s, r.max_s);
    }
    let p = input.reference.as_ref()?.find(&variant.name, metric)?;
    range(p.min, p.mean, p.max)
}

fn sources(input: &Input, variants: &[Variant], metric: &str) -> Vec<String> {
    let file = input.reference.as_ref();
    let find = |v: &Variant| file.and_then(|f| f.find(&v.name, metric)).map(|p| p.at.clone());
    let old = |v: &Variant| v.reference.as_ref().map(|r| r.source.clone());
    let of = |v: &Variant| find(v).or_else(|| old(v).filter(|_| metric == "turnaround_s"));
    let mut sources: Vec<_> = variants.iter().filter_map(of).filter(|s| !s.is_empty()).collect();
    sources.dedup();
    sources
}

/// As many rows as a figure has room for, and a sentence about the others.
pub(crate) fn shown(mut rows: Vec<Row>) -> (Vec<Row>, String) {
    let rest = rows.len().saturating_sub(MOST_ROWS);
    rows.truncate(MOST_ROWS);
    let told = format!(" Not drawn: {}, for want of room.", number::count(rest, "more row"));
    (rows, if rest > 0 { told } else { String::new() })
}

/// What a row's diamond is, and its line if there are any.
pub(crate) fn mean_in_words(rows: &[Row]) -> String {
    let enough = |r: &Row| r.points.len() >= stats::FEWEST_FOR_AN_INTERVAL;
    match (strip::has_interval(rows), rows.iter().all(enough)) {
        (false, _) => "Diamond: mean.".into(),
        (_, true) => "Diamond and line: mean with the 95 % bootstrap interval of the mean.".into(),
        (_, false) => format!(
            "Diamond and line: mean with the 95 % bootstrap interval of the mean; with fewer than {} \
             values there is no interval.",
            stats::FEWEST_FOR_AN_INTERVAL
        ),
    }
}

fn caption(what: &str, rows: &[Row], sources: Vec<String>) -> String {
    let mut text = format!("{what}. {}", mean_in_words(rows));
    if rows.iter().any(|r| r.points.len() >= 5) {
        text += " Boxes: quartiles and median, whiskers to the 5th and 95th percentile.";
    }
    if !sources.is_empty() {
        text += &format!(" Grey: published mean and range ({}).", sources.join(", "));
    }
    text
}

/// Round trips over the idle network, per interface of the client and over all trials.
fn rtt(input: &Input) -> Option<Figure> {
    let mut rows = measured_rtt(input);
    // Runs whose folders are gone still have the shortest round trips in their rows.
    let which = if rows.is_empty() { "Shortest" } else { "Median" };
    if rows.is_empty() {
        rows = recorded_rtt(input);
    }
    if rows.is_empty() {
        return None;
    }
    let (mut rows, left_out) = shown(rows);
    let mut sources = Vec::new();
    let metrics = ["rtt_first_ms", "rtt_second_ms"];
    for (row, metric) in rows.iter_mut().zip(metrics) {
        let all: &[Published] = input.reference.as_ref().map_or(&[], |f| &f.figures);
        let Some(p) = all.iter().find(|p| p.variant.is_none() && p.metric == metric) else {
            continue;
        };
        row.published = range(p.min, p.mean, p.max);
        if !sources.contains(&p.at) {
            sources.push(p.at.clone());
        }
    }
    let what = format!(
        "{which} round trip over the idle network before each trial, per interface of the client"
    );
    let caption = caption(&what, &rows, sources) + &left_out;
    let (title, x_name) = ("round-trip times", "round trip (ms)");
    let strip = Strip { title, x_name, point: "trial", from_zero: false, rows };
    Some(strip.figure("rtt.svg", caption))
}

fn drawable_ms(ms: &f64) -> bool {
    (0.0..LONGEST_S).contains(ms)
}

fn measured_rtt(input: &Input) -> Vec<Row> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for c in &input.calibrations {
        let Some(ms) = c.median_rtt_ms.filter(drawable_ms) else { continue };
        let new =
            || Row { name: c.interface.clone(), points: vec![], published: None, wanted: None };
        let row = rows.entry(&c.interface).or_insert_with(new);
        row.points.push((ms, false));
        row.wanted = row.wanted.or(c.wanted_rtt_ms.filter(drawable_ms));
    }
    rows.into_values().collect()
}

fn recorded_rtt(input: &Input) -> Vec<Row> {
    let columns = [("first interface", "rtt_first_ms"), ("second interface", "rtt_second_ms")];
    let row = |(name, metric): (&str, &str)| {
        let times = input.trials.iter().filter_map(|t| t.number(metric)).filter(drawable_ms);
        let points: Vec<_> = times.map(|ms| (ms, false)).collect();
        let row = Row { name: name.into(), points, published: None, wanted: None };
        (!row.points.is_empty()).then_some(row)
    };
    columns.into_iter().filter_map(row).collect()
}
