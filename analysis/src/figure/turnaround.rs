//! Turnaround times: one row per variant.
//!
//! Input: the trials and the variants. Output: a point per trial that is `ok`, hollow when suspect;
//! below it the mean with its 95 % interval, and below that the paper's range in grey.

use super::{
    Area, BLUE, FAINT, Figure, INK, MUTED, RULE, WIDTH, font, label, svg, tick, width, write,
};
use crate::{
    number,
    series::LONGEST_S,
    summary::{self, Variant},
};
use anyhow::Context;
use limosa_record::row::TrialRow;
use plotters::{prelude::*, style::text_anchor::HPos};

const HEAD: i32 = 48;
const ROW: i32 = 72;
/// Points of one row are spread over so many levels.
const LEVELS: usize = 5;
const FOOT: i32 = 46;
/// Room at the right for the mean and its interval.
const RIGHT: i32 = 170;

struct Row<'a> {
    variant: &'a Variant,
    /// Turnaround time and whether the trial is suspect.
    points: Vec<(f64, bool)>,
}

/// `None` when no trial has a turnaround time that can be drawn.
pub(crate) fn figure(trials: &[TrialRow], variants: &[Variant]) -> anyhow::Result<Option<Figure>> {
    let row = |variant| Row { variant, points: points(trials, variant) };
    let rows: Vec<_> = variants.iter().map(row).filter(|r| !r.points.is_empty()).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let height = HEAD + ROW * rows.len() as i32 + FOOT;
    let svg = svg(height as u32, |area| draw(area, &rows)).context("draw the turnaround times")?;
    Ok(Some(Figure { file: "turnaround.svg".into(), svg, caption: caption(&rows) }))
}

fn points(trials: &[TrialRow], variant: &Variant) -> Vec<(f64, bool)> {
    let ok = trials.iter().filter(|t| t.variant == variant.name && summary::is_ok(t));
    let drawable = |s: &f64| (0.0..LONGEST_S).contains(s);
    ok.filter_map(|t| Some((t.turnaround_s.filter(drawable)?, summary::is_suspect(t)))).collect()
}

fn caption(rows: &[Row<'_>]) -> String {
    let mut sources: Vec<_> = rows
        .iter()
        .filter_map(|r| r.variant.reference.as_ref())
        .map(|r| r.source.as_str())
        .filter(|source| !source.is_empty())
        .collect();
    sources.dedup();
    let mut text = "Turnaround time, from the start of the first handshake to the last byte; \
                    mean with the 95 % bootstrap interval of the mean."
        .to_owned();
    if !sources.is_empty() {
        text += &format!(" Published values: {}.", sources.join("; "));
    }
    text
}

fn reference_range(variant: &Variant) -> Option<(f64, f64, f64)> {
    let r = variant.reference.as_ref()?;
    let range = (r.min_s.unwrap_or(r.mean_s), r.mean_s, r.max_s.unwrap_or(r.mean_s));
    let drawable = |s: f64| (0.0..LONGEST_S).contains(&s);
    (drawable(range.0) && drawable(range.1) && drawable(range.2)).then_some(range)
}

fn draw(area: &Area<'_>, rows: &[Row<'_>]) -> anyhow::Result<()> {
    let names: Vec<_> = rows.iter().map(|r| label(&r.variant.name, 30)).collect();
    let left = names.iter().map(|n| width(n)).max().unwrap_or(0) + 20;
    let times = rows.iter().flat_map(|r| {
        let published = reference_range(r.variant).map(|(_, _, max)| max);
        r.points.iter().map(|p| p.0).chain(published)
    });
    let longest = times.fold(0.0, f64::max).max(1e-6) * 1.03;
    let mut chart = ChartBuilder::on(area)
        .margin_top(HEAD)
        .margin_right(RIGHT)
        .set_label_area_size(LabelAreaPosition::Left, left)
        .set_label_area_size(LabelAreaPosition::Bottom, FOOT)
        .build_cartesian_2d(0.0..longest, 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE)
        .axis_style(MUTED)
        .x_labels(8)
        .x_label_formatter(&tick)
        .label_style(font(INK))
        .axis_desc_style(font(INK))
        .x_desc("turnaround time (s)")
        .draw()?;
    let x = |s: f64| chart.backend_coord(&(s, 0.0)).0;
    for (i, (row, name)) in rows.iter().zip(&names).enumerate() {
        let y = HEAD + ROW * i as i32;
        write(area, name, (left - 12, y + ROW / 2), HPos::Right, INK)?;
        draw_row(area, row, y, x)?;
    }
    let column = WIDTH as i32 - 8;
    write(area, "mean [95 % interval]", (column, HEAD - 14), HPos::Right, MUTED)?;
    key(area, rows, left)
}

fn draw_row(area: &Area<'_>, row: &Row<'_>, y: i32, x: impl Fn(f64) -> i32) -> anyhow::Result<()> {
    for (at, level, suspect) in spread(&row.points, &x) {
        area.draw(&point((at, y + 10 + 6 * level as i32), suspect))?;
    }
    if let Some(t) = row.variant.turnaround.as_ref().filter(|t| t.mean < LONGEST_S) {
        let mid = y + 48;
        let mut text = number::seconds(t.mean);
        if let Some((low, high)) = t.ci95_low.zip(t.ci95_high) {
            area.draw(&PathElement::new([(x(low), mid), (x(high), mid)], INK.stroke_width(2)))?;
            text += &format!(" [{}, {}]", number::seconds(low), number::seconds(high));
        }
        area.draw(&diamond((x(t.mean), mid)))?;
        write(area, &text, (WIDTH as i32 - 8, y + ROW / 2), HPos::Right, INK)?;
    }
    if let Some(range) = reference_range(row.variant) {
        published(area, (x(range.0), x(range.1), x(range.2)), y + 61)?;
    }
    Ok(())
}

/// Each point in the level where its left neighbour is farthest: no random number, no hidden point.
fn spread(points: &[(f64, bool)], x: impl Fn(f64) -> i32) -> Vec<(i32, usize, bool)> {
    let mut points: Vec<_> = points.iter().map(|(s, suspect)| (x(*s), *suspect)).collect();
    points.sort_unstable();
    let mut last = [i32::MIN; LEVELS];
    let level = |(at, suspect)| {
        let level = (0..LEVELS).min_by_key(|level| last[*level]).unwrap_or(0);
        last[level] = at;
        (at, level, suspect)
    };
    points.into_iter().map(level).collect()
}

fn point(at: (i32, i32), suspect: bool) -> Circle<(i32, i32), i32> {
    let style = if suspect { BLUE.stroke_width(1) } else { BLUE.filled() };
    Circle::new(at, 3, style)
}

fn diamond((x, y): (i32, i32)) -> Polygon<(i32, i32)> {
    Polygon::new([(x - 5, y), (x, y - 5), (x + 5, y), (x, y + 5)], INK)
}

fn published(area: &Area<'_>, (min, mean, max): (i32, i32, i32), y: i32) -> anyhow::Result<()> {
    area.draw(&Rectangle::new([(min, y - 2), (max, y + 2)], FAINT.filled()))?;
    area.draw(&PathElement::new([(mean, y - 5), (mean, y + 5)], MUTED.stroke_width(2)))?;
    Ok(())
}

fn key(area: &Area<'_>, rows: &[Row<'_>], left: i32) -> anyhow::Result<()> {
    let (mut x, y) = (left, 12);
    let mut entry = |wide: i32, text: &str, color| {
        let at = x;
        write(area, text, (at + wide + 8, y), HPos::Left, color)?;
        x += wide + 8 + width(text) + 22;
        anyhow::Ok(at)
    };
    let at = entry(6, "trial", INK)?;
    area.draw(&point((at + 3, y), false))?;
    if rows.iter().any(|r| r.points.iter().any(|p| p.1)) {
        let at = entry(6, "suspect trial", INK)?;
        area.draw(&point((at + 3, y), true))?;
    }
    let at = entry(20, "mean", INK)?;
    area.draw(&PathElement::new([(at, y), (at + 20, y)], INK.stroke_width(2)))?;
    area.draw(&diamond((at + 10, y)))?;
    if rows.iter().any(|r| reference_range(r.variant).is_some()) {
        let at = entry(20, "published range and mean", MUTED)?;
        published(area, (at, at + 10, at + 20), y)?;
    }
    Ok(())
}
