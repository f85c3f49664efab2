//! Throughput over time: one figure per variant, all with the same axes.
//!
//! Input: [`Series`]. Output: a thin line per trial behind the median of the sum of all paths, the
//! median of each path where there are several, and the timeline's actions as labelled marks.

use super::{
    Area, BAND, FAINT, Figure, INK, MUTED, PATHS, RULE, WIDTH, font, label, svg, tick, width,
};
use crate::{
    number,
    series::{Grid, Mark, Series},
};
use anyhow::Context;
use plotters::{prelude::*, style::text_anchor::HPos};

/// Height of the plot with its axis labels, without the rows of labels above it.
const PLOT: i32 = 290;
/// Height of a row of labels.
const ROW: i32 = 18;
/// Actions whose labels find no place in so many rows stay without one.
const ROWS: usize = 4;
const LEFT: i32 = 54;
const RIGHT: i32 = 16;

/// The figures of all variants that have throughput.
pub(crate) fn figures(
    variants: &[String],
    series: &[(String, Series)],
    grid: &Grid,
) -> anyhow::Result<Vec<Figure>> {
    let lines = series.iter().flat_map(|(_, s)| s.trials.iter().flatten());
    let axes = Axes { grid, top: lines.copied().fold(0.0, f64::max) * 1.04 };
    let figure = |(name, series): &(String, Series)| {
        let marks = place(&series.marks, &axes);
        let rows = marks.iter().filter_map(|m| m.row).max().map_or(0, |r| r as i32 + 1);
        let head = 4 + ROW * (1 + rows);
        let svg = svg((head + PLOT) as u32, |area| draw(area, series, &axes, &marks, head))
            .with_context(|| format!("draw the throughput of {name}"))?;
        Ok(Figure {
            file: super::file_name("throughput", variants, name),
            svg,
            caption: caption(name, series, grid),
        })
    };
    series.iter().map(figure).collect()
}

fn caption(name: &str, series: &Series, grid: &Grid) -> String {
    let n = series.trials.len();
    let trials = number::count(n, if series.failed { "failed trial" } else { "trial" });
    let bins = tick(&grid.bin_s);
    let mut text = format!("Throughput of {name}, {trials}, UDP payload in bins of {bins} s.");
    if n > 1 {
        text += " Strong lines: median over the trials, in which a finished trial counts as 0; \
                 thin lines: sum of all paths of each trial.";
    }
    if server_away(&series.marks).is_some() {
        text += " Grey: from the start of the checkpoint to the end of the restore.";
    }
    text
}

struct Axes<'a> {
    grid: &'a Grid,
    top: f64,
}

impl Axes<'_> {
    fn span_s(&self) -> f64 {
        self.grid.bins as f64 * self.grid.bin_s
    }

    fn x(&self, t_s: f64) -> i32 {
        LEFT + (t_s / self.span_s() * f64::from(WIDTH as i32 - LEFT - RIGHT)) as i32
    }
}

struct Placed {
    x: i32,
    text: String,
    /// Row above the plot, 0 the lowest; `None` when no row had room.
    row: Option<usize>,
    left: i32,
}

/// Labels start at their mark and run to the right, earlier ones above later ones where they would
/// meet, so that no line crosses a label.
fn place(marks: &[Mark], axes: &Axes<'_>) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::new();
    let shown = |m: &&Mark| (0.0..=axes.span_s()).contains(&m.start_s);
    for mark in marks.iter().filter(shown).rev() {
        let text = format!("{} {}", label(&mark.action, 24), seconds(mark.start_s));
        let (x, wide) = (axes.x(mark.start_s), width(&text));
        let left = (x - 4).min(WIDTH as i32 - wide - 2);
        let met = placed.iter().filter(|p| p.left < left + wide + 10);
        let row = met.filter_map(|p| p.row).max().map_or(0, |row| row + 1);
        // Only the figure's right edge pushes a label to where an earlier line would cross it.
        let crossed = placed.iter().any(|p| p.row.is_some_and(|r| r < row) && p.left + 2 < x - 2);
        let row = (row < ROWS && !crossed).then_some(row);
        placed.push(Placed { x, text, row, left });
    }
    placed
}

fn seconds(s: f64) -> String {
    format!("{} s", tick(&((s * 10.0).round() / 10.0)))
}

/// From the first checkpoint to the restore after it.
fn server_away(marks: &[Mark]) -> Option<(f64, f64)> {
    let from = marks.iter().find(|m| m.action == "checkpoint")?.start_s;
    let to = marks.iter().find(|m| m.action == "restore" && m.start_s >= from)?.end_s;
    Some((from, to))
}

fn draw(
    area: &Area<'_>,
    series: &Series,
    axes: &Axes<'_>,
    marks: &[Placed],
    head: i32,
) -> anyhow::Result<()> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(head)
        .margin_right(RIGHT)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, 46)
        .build_cartesian_2d(0.0..axes.span_s(), 0.0..axes.top.max(1e-6))?;
    if let Some((from, to)) = server_away(&series.marks) {
        let corners = [(from.max(0.0), 0.0), (to.min(axes.span_s()), axes.top)];
        chart.draw_series([Rectangle::new(corners, BAND.filled())])?;
    }
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE)
        .axis_style(MUTED)
        .x_labels(12)
        .y_labels(7)
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .label_style(font(INK))
        .axis_desc_style(font(INK))
        .x_desc("time since the start of the handshake (s)")
        .y_desc("throughput (Mbit/s)")
        .draw()?;
    let (above, below) = (head, chart.plotting_area().get_pixel_range().1.end);
    for mark in marks {
        let top = mark.row.map_or(above, |row| above - 2 - ROW * row as i32);
        area.draw(&PathElement::new([(mark.x, top), (mark.x, below)], MUTED))?;
    }
    let middle = |(i, v): (usize, &f64)| ((i as f64 + 0.5) * axes.grid.bin_s, *v);
    let points = |line: &[f64]| -> Vec<_> { line.iter().enumerate().map(middle).collect() };
    if series.trials.len() > 1 {
        for trial in &series.trials {
            let thin = FAINT.mix(0.55).stroke_width(1);
            chart.draw_series(LineSeries::new(points(trial), thin))?;
        }
    }
    chart.draw_series(LineSeries::new(points(&series.total), INK.stroke_width(2)))?;
    for (path, color) in paths(series) {
        chart.draw_series(LineSeries::new(points(&path.1), color.stroke_width(2)))?;
    }
    for mark in marks {
        if let Some(row) = mark.row {
            let y = above - ROW * row as i32 - ROW / 2;
            super::write(area, &mark.text, (mark.left, y), HPos::Left, INK)?;
        }
    }
    key(area, series)
}

/// A single path is the total.
fn paths(series: &Series) -> impl Iterator<Item = (&(String, Vec<f64>), RGBColor)> {
    let several = if series.paths.len() > 1 { series.paths.as_slice() } else { &[] };
    several.iter().zip(PATHS.into_iter().cycle())
}

fn key(area: &Area<'_>, series: &Series) -> anyhow::Result<()> {
    let total = match series.paths.as_slice() {
        [(only, _)] => only.clone(),
        _ => "all paths".into(),
    };
    let mut entries = vec![(total, INK, 2)];
    entries.extend(paths(series).map(|((name, _), color)| (name.clone(), color, 2)));
    if series.trials.len() > 1 {
        entries.push(("one trial".into(), FAINT, 1));
    }
    let mut x = LEFT;
    for (text, color, thick) in entries {
        let (text, y) = (label(&text, 20), ROW / 2);
        if x + 28 + width(&text) > WIDTH as i32 {
            break;
        }
        area.draw(&PathElement::new([(x, y), (x + 22, y)], color.stroke_width(thick)))?;
        super::write(area, &text, (x + 28, y), HPos::Left, INK)?;
        x += 28 + width(&text) + 18;
    }
    Ok(())
}
