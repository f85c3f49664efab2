//! Throughput over time: one figure per variant, all with the same axes.
//!
//! Input: [`Series`]. Output: a thin line per trial behind the median of the sum of all paths, the
//! median of each path where there are several, and the timeline's actions as labelled marks; a
//! second picture of the time around the migration; and the numbers that the pointer is told.

use super::{
    BAND, FAINT, Figure, INK, MUTED, PATHS, WIDTH,
    data::{Data, cell},
    label,
    svg::{Anchor, Scale, Sign, Stroke, Svg, key, tick, x_axis, y_axis},
    width,
};
use crate::{
    number,
    series::{Grid, Mark, Series},
};
use serde_json::json;

/// Height of the plot without axis labels and the rows of labels above it.
const PLOT: f64 = 240.0;
const FOOT: f64 = 46.0;
/// Height of a row of labels.
const ROW: f64 = 18.0;
/// Actions whose labels find no place in so many rows stay without one.
const ROWS: usize = 4;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 16.0;
/// Thin lines of all figures of a page together; a page must stay small enough to be opened.
const MOST_LINES: usize = 1000;

/// What is drawn of one variant: the whole time, and the time around the migration.
pub(crate) struct Drawn {
    pub variant: String,
    pub whole: Series,
    pub zoom: Option<(Grid, Series)>,
}

/// The figures of all variants that have throughput.
pub(crate) fn figures(variants: &[String], drawn: &[Drawn], grid: &Grid) -> Vec<Figure> {
    let top = |s: &Series| s.trials.iter().flat_map(|(_, line)| line).copied().fold(0.0, f64::max);
    let highest = drawn.iter().map(|d| top(&d.whole)).fold(0.0, f64::max) * 1.04;
    let pictures: usize = drawn.iter().map(|d| 1 + usize::from(d.zoom.is_some())).sum();
    let lines = (MOST_LINES / pictures.max(1)).max(3);
    let figure = |d: &Drawn| {
        let title = format!("throughput of {}", d.variant);
        let (svg, hover) = draw(&title, &d.whole, grid, highest, lines);
        let zoomed = d.zoom.as_ref().map(|(grid, series)| {
            let top = (top(series) * 1.04).max(highest);
            let title = format!("{title} around the migration");
            let (svg, hover) = draw(&title, series, grid, top, lines);
            ((svg, data(series, grid, lines)), hover)
        });
        let (zoom, zoom_hover) = zoomed.unzip();
        Figure {
            file: super::file_name("throughput", variants, &d.variant),
            svg,
            data: data(&d.whole, grid, lines),
            caption: caption(&d.variant, &d.whole, grid, lines),
            zoom,
            hover: Some((hover, zoom_hover)),
        }
    };
    drawn.iter().map(figure).collect()
}

fn caption(name: &str, series: &Series, grid: &Grid, lines: usize) -> String {
    let n = series.trials.len();
    let trials = number::count(n, if series.failed { "failed trial" } else { "trial" });
    let bins = tick(grid.bin_s());
    let mut text = format!("Throughput of {name}, {trials}, UDP payload in bins of {bins} s.");
    if n > 1 {
        text += " Strong lines: median over the trials, in which a finished trial counts as 0; \
                 thin lines: sum of all paths of ";
        text += &match n > lines {
            true => format!("{lines} trials, evenly chosen."),
            false => "each trial.".to_owned(),
        };
    }
    if series.server_away().is_some() {
        text += " Grey: from the start of the checkpoint to the end of the restore.";
    }
    text
}

struct Placed {
    x: f64,
    text: String,
    /// Row above the plot, 0 the lowest; `None` when no row had room.
    row: Option<usize>,
    left: f64,
}

/// Labels start at their mark and run to the right, earlier ones above later ones where they would
/// meet, so that no line crosses a label.
fn place(marks: &[Mark], x: Scale) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::new();
    for mark in marks.iter().filter(|m| x.holds(m.start_s)).rev() {
        let text = format!("{} {}", label(&mark.action, 24), seconds(mark.start_s));
        let (at, wide) = (x.px(mark.start_s), width(&text));
        let left = (at - 4.0).min(f64::from(WIDTH) - wide - 2.0);
        let met = placed.iter().filter(|p| p.left < left + wide + 10.0);
        let row = met.filter_map(|p| p.row).max().map_or(0, |row| row + 1);
        // Only the figure's right edge pushes a label to where an earlier line would cross it.
        let crossed =
            placed.iter().any(|p| p.row.is_some_and(|r| r < row) && p.left + 2.0 < at - 2.0);
        let row = (row < ROWS && !crossed).then_some(row);
        placed.push(Placed { x: at, text, row, left });
    }
    placed
}

fn seconds(s: f64) -> String {
    format!("{} s", tick((s * 10.0).round() / 10.0))
}

fn draw(
    title: &str,
    series: &Series,
    grid: &Grid,
    top: f64,
    most_lines: usize,
) -> (String, String) {
    let (from, to) = (grid.start_s(), grid.start_s() + grid.span_s());
    let x = Scale { from, to, start: LEFT, end: f64::from(WIDTH) - RIGHT };
    let marks = place(&series.marks, x);
    let rows = marks.iter().filter_map(|m| m.row).max().map_or(0, |r| r + 1);
    let head = 8.0 + ROW * (1 + rows) as f64;
    let bottom = head + PLOT;
    let mut svg = Svg::new(bottom + FOOT);
    let y = Scale { from: 0.0, to: top.max(1e-6), start: bottom, end: head };
    if let Some((away, back)) = series.server_away() {
        let (a, b) = (x.px(away.clamp(from, to)), x.px(back.clamp(from, to)));
        svg.rect((a, head), (b, bottom), BAND, "");
    }
    y_axis(&mut svg, x, y, "throughput (Mbit/s)", 6);
    x_axis(&mut svg, x, bottom, "time since the start of the handshake (s)", 12, None);
    for mark in &marks {
        let top = mark.row.map_or(head, |row| head - 2.0 - ROW * row as f64);
        svg.line((mark.x, top), (mark.x, bottom), Stroke::new(MUTED, 1.0));
    }
    let middle = |(i, v): (usize, &f64)| (x.px(grid.middle_s(i)), y.px(*v));
    let points = |line: &[f64]| -> Vec<_> { line.iter().enumerate().map(middle).collect() };
    let thin = thin(series, most_lines).map(|(_, line)| points(line));
    svg.paths(thin, Stroke::new(FAINT, 1.0).faded(0.5));
    svg.path(&points(&series.total), Stroke::new(INK, 2.0));
    for ((_, line), (color, dash)) in paths(series) {
        svg.path(&points(line), Stroke::new(color, 2.0).dashed(dash));
    }
    for mark in &marks {
        if let Some(row) = mark.row {
            let y = head - ROW * row as f64 - ROW / 2.0;
            svg.text(mark.left, y, Anchor::Start, INK, &mark.text);
        }
    }
    key_of(&mut svg, series);
    (svg.finish(title), hover(series, grid, x, y))
}

/// Repetition and line of each trial that is drawn; one alone is the median.
fn thin(series: &Series, most_lines: usize) -> impl Iterator<Item = &(u32, Vec<f64>)> {
    let several = if series.trials.len() > 1 { series.trials.as_slice() } else { &[] };
    several.iter().step_by(several.len().div_ceil(most_lines).max(1))
}

/// One row per bin, in Mbit/s.
fn data(series: &Series, grid: &Grid, most_lines: usize) -> Data {
    let mut lines = vec![(total_name(series).to_owned(), &series.total)];
    lines.extend(paths(series).map(|((name, line), _)| (name.clone(), line)));
    lines.extend(thin(series, most_lines).map(|(n, line)| (format!("trial {n}"), line)));
    let names = lines.iter().map(|(name, _)| format!("{name} (Mbit/s)"));
    let mut data = Data::new(["from_s".into(), "to_s".into()].into_iter().chain(names));
    for bin in 0..grid.bins {
        // A line ends with its last value above 0.
        let values = lines.iter().map(|(_, line)| line.get(bin).copied().unwrap_or(0.0));
        data.row(grid.ends_s(bin).into_iter().chain(values).map(cell));
    }
    data
}

/// A single path is the total.
fn paths(
    series: &Series,
) -> impl Iterator<Item = (&(String, Vec<f64>), (&'static str, &'static str))> {
    let several = if series.paths.len() > 1 { series.paths.as_slice() } else { &[] };
    several.iter().zip(PATHS.into_iter().cycle())
}

fn total_name(series: &Series) -> &str {
    match series.paths.as_slice() {
        [(only, _)] => only,
        _ => "all paths",
    }
}

fn key_of(svg: &mut Svg, series: &Series) {
    let line = |stroke, name: &str| (Sign::Line(stroke), label(name, 20));
    let mut entries = vec![line(Stroke::new(INK, 2.0), total_name(series))];
    let paths = paths(series);
    entries.extend(paths.map(|((name, _), (c, d))| line(Stroke::new(c, 2.0).dashed(d), name)));
    if series.trials.len() > 1 {
        entries.push(line(Stroke::new(FAINT, 1.0), "one trial"));
    }
    key(svg, LEFT, ROW / 2.0 + 1.0, &entries);
}

/// Where the plot is in the picture, and the medians.
fn hover(series: &Series, grid: &Grid, x: Scale, y: Scale) -> String {
    let short =
        |line: &[f64]| -> Vec<f64> { line.iter().map(|v| (v * 100.0).round() / 100.0).collect() };
    let mut lines = vec![json!([total_name(series), short(&series.total)])];
    lines.extend(paths(series).map(|((name, line), _)| json!([name, short(line)])));
    json!({
        "x": [x.start, x.end], "y": [y.end, y.start], "t": [x.from, x.to], "bin": grid.bin_s(),
        "unit": "Mbit/s", "lines": lines,
    })
    .to_string()
}
