//! Distributions: one row per variant (or interface), a point per trial or client.
//!
//! Output: points; below them a box from the first to the third quartile with the median and whiskers to
//! the 5th and 95th percentile (after Tukey, "Exploratory Data Analysis", 1977, with these ends as in
//! `summary.csv`), then the mean, with its 95 % interval where there are enough values for one, then
//! the published range in grey.

use super::{
    BLUE, FAINT, Figure, INK, MUTED, SKY, VERMILION, WIDTH,
    data::{Data, cell},
    label,
    svg::{Anchor, Scale, Sign, Stroke, Svg, key, x_axis},
    width,
};
use crate::{number, stats};

const HEAD: f64 = 50.0;
const ROW: f64 = 80.0;
/// Points of one row are spread over so many levels.
const LEVELS: usize = 5;
const FOOT: f64 = 46.0;
/// Room at the right for the mean and its interval.
const RIGHT: f64 = 172.0;
const BOX: &str = "#d5eaf7";
/// Quartiles of fewer values say nothing.
const FEWEST_FOR_A_BOX: usize = 5;
/// What a box and its whiskers show.
const BOX_ENDS: [(&str, f64); 5] =
    [("p05", 0.05), ("p25", 0.25), ("median", 0.5), ("p75", 0.75), ("p95", 0.95)];

/// Whether there are enough values for an interval of their mean.
pub(crate) fn has_interval(rows: &[Row]) -> bool {
    rows.iter().any(|r| r.points.len() >= stats::FEWEST_FOR_AN_INTERVAL)
}

/// One row.
pub(crate) struct Row {
    pub name: String,
    /// Value and whether the trial is suspect.
    pub points: Vec<(f64, bool)>,
    /// Published minimum, mean and maximum.
    pub published: Option<(f64, f64, f64)>,
    /// What it should be by the configuration.
    pub wanted: Option<f64>,
}

/// The picture of rows that all have points.
pub(crate) struct Strip<'a> {
    pub title: &'a str,
    pub x_name: &'a str,
    /// What a point is.
    pub point: &'a str,
    /// Whether the axis starts at 0.
    pub from_zero: bool,
    pub rows: Vec<Row>,
}

impl Strip<'_> {
    fn svg(&self) -> String {
        let bottom = HEAD + ROW * self.rows.len() as f64;
        let mut svg = Svg::new(bottom + FOOT);
        let names: Vec<_> = self.rows.iter().map(|r| label(&r.name, 30)).collect();
        let left = names.iter().map(|n| width(n)).fold(60.0, f64::max) + 20.0;
        let (from, to) = self.span();
        let x = Scale { from, to, start: left, end: f64::from(WIDTH) - RIGHT };
        x_axis(&mut svg, x, bottom, self.x_name, 8, Some(HEAD));
        for (i, (row, name)) in self.rows.iter().zip(&names).enumerate() {
            let y = HEAD + ROW * i as f64;
            if i > 0 {
                svg.line((8.0, y), (f64::from(WIDTH) - 8.0, y), Stroke::new(super::RULE, 1.0));
            }
            svg.text(left - 12.0, y + ROW / 2.0, Anchor::End, INK, name);
            draw(&mut svg, row, y, x);
        }
        let column = f64::from(WIDTH) - 8.0;
        let heading = if has_interval(&self.rows) { "mean [95 % interval]" } else { "mean" };
        svg.text(column, HEAD - 12.0, Anchor::End, MUTED, heading);
        self.key(&mut svg, left);
        svg.finish(self.title)
    }

    /// The figure with its numbers.
    pub(crate) fn figure(&self, file: impl Into<String>, caption: String) -> Figure {
        Figure::new(file, self.svg(), self.data(), caption)
    }

    /// Every value with what it is; what is computed from the points follows them.
    fn data(&self) -> Data {
        let mut data = Data::new(["row", "what", "value"]);
        for row in &self.rows {
            let mut put = |what: &str, value: Option<f64>| {
                if let Some(value) = value {
                    data.row([row.name.clone(), what.into(), cell(value)]);
                }
            };
            for (value, suspect) in &row.points {
                let what = if *suspect { "suspect" } else { "value" };
                put(what, Some(*value));
            }
            let values: Vec<f64> = row.points.iter().map(|p| p.0).collect();
            if values.len() >= FEWEST_FOR_A_BOX {
                for (what, p) in BOX_ENDS {
                    put(what, stats::quantile(&values, p));
                }
            }
            put("mean", stats::mean(&values));
            let (low, high) = stats::mean_ci95(&values).unzip();
            put("ci95_low", low);
            put("ci95_high", high);
            if let Some((min, mean, max)) = row.published {
                put("published_min", Some(min));
                put("published_mean", Some(mean));
                put("published_max", Some(max));
            }
            put("configured", row.wanted);
        }
        data
    }

    fn span(&self) -> (f64, f64) {
        let published = |r: &Row| r.published.into_iter().flat_map(|(a, b, c)| [a, b, c]);
        let values = self.rows.iter().flat_map(|r| {
            r.points.iter().map(|p| p.0).chain(published(r)).chain(r.wanted).collect::<Vec<_>>()
        });
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let room = ((high - low) * 0.04).max(high.abs() * 1e-3).max(1e-6);
        // Only damage and jitter of clocks are below zero, and both must be seen.
        let from = if self.from_zero { low.min(0.0) } else { low - room };
        (from, high + room)
    }

    fn key(&self, svg: &mut Svg, left: f64) {
        let mut entries = vec![(Sign::Dot(BLUE, ""), self.point.to_owned())];
        let any = |test: fn(&Row) -> bool| self.rows.iter().any(test);
        if any(|r| r.points.iter().any(|p| p.1)) {
            entries.push((Sign::Dot("#fff", VERMILION), "in a suspect trial".into()));
        }
        if any(|r| r.points.len() >= FEWEST_FOR_A_BOX) {
            entries.push((Sign::Bar(BOX), "quartiles".into()));
        }
        entries.push(match has_interval(&self.rows) {
            true => (Sign::Line(Stroke::new(INK, 2.0)), "mean and interval".into()),
            false => (Sign::Dot(INK, ""), "mean".into()),
        });
        if any(|r| r.published.is_some()) {
            entries.push((Sign::Bar(FAINT), "published".into()));
        }
        if any(|r| r.wanted.is_some()) {
            let dashed = Stroke::new(MUTED, 1.5).dashed("3 2");
            entries.push((Sign::Line(dashed), "configured".into()));
        }
        // From the very left: the names of the rows begin below.
        let wide: f64 = entries.iter().map(|(_, text)| 49.0 + width(text)).sum();
        let x = left.min((f64::from(WIDTH) - wide).max(8.0));
        key(svg, x, 12.0, &entries);
    }
}

fn draw(svg: &mut Svg, row: &Row, y: f64, x: Scale) {
    let values: Vec<f64> = row.points.iter().map(|p| p.0).collect();
    if let Some(wanted) = row.wanted {
        let at = x.px(wanted);
        svg.line((at, y + 4.0), (at, y + ROW - 4.0), Stroke::new(MUTED, 1.5).dashed("3 2"));
    }
    if values.len() >= FEWEST_FOR_A_BOX {
        box_plot(svg, &values, y + 37.0, y + 49.0, x);
    }
    for (at, level, suspect) in spread(&row.points, x) {
        let place = (at, y + 8.0 + 5.6 * level as f64);
        // The edge keeps points apart that lie upon each other.
        let (fill, edge) = if suspect { ("#fff", VERMILION) } else { (BLUE, "#fff") };
        svg.circle(place, 3.0, fill, edge, "");
    }
    // Without a box the mean moves up to where it would be.
    let boxed = values.len() >= FEWEST_FOR_A_BOX;
    let mid = y + if boxed { 57.0 } else { 45.0 };
    if let Some(mean) = stats::mean(&values) {
        let mut text = number::seconds(mean);
        if let Some((low, high)) = stats::mean_ci95(&values) {
            svg.line((x.px(low), mid), (x.px(high), mid), Stroke::new(INK, 2.0));
            text += &format!(" [{}, {}]", number::seconds(low), number::seconds(high));
        }
        let at = x.px(mean);
        let diamond = [(at - 5.0, mid), (at, mid - 5.0), (at + 5.0, mid), (at, mid + 5.0)];
        svg.polygon(&diamond, INK, "");
        svg.text(f64::from(WIDTH) - 8.0, y + ROW / 2.0, Anchor::End, INK, &text);
    }
    if let Some((min, mean, max)) = row.published {
        let y = mid + 12.0;
        svg.rect((x.px(min), y - 2.5), (x.px(max), y + 2.5), FAINT, "");
        svg.line((x.px(mean), y - 5.0), (x.px(mean), y + 5.0), Stroke::new(MUTED, 2.0));
    }
}

fn box_plot(svg: &mut Svg, values: &[f64], top: f64, bottom: f64, x: Scale) {
    let at = |p| stats::quantile(values, p).map_or(x.start, |v| x.px(v));
    let middle = (top + bottom) / 2.0;
    let thin = Stroke::new(SKY, 1.0);
    for (end, quartile) in [(0.05, 0.25), (0.95, 0.75)] {
        svg.line((at(end), middle), (at(quartile), middle), thin);
        svg.line((at(end), middle - 6.0), (at(end), middle + 6.0), thin);
    }
    svg.outline((at(0.25), top), (at(0.75), bottom), BOX, thin);
    svg.line((at(0.5), top), (at(0.5), bottom), Stroke::new(BLUE, 2.0));
}

/// Each point in the level where its left neighbour is farthest: no random number, no hidden point.
fn spread(points: &[(f64, bool)], x: Scale) -> Vec<(f64, usize, bool)> {
    let mut points: Vec<_> = points.iter().map(|(v, suspect)| (x.px(*v), *suspect)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut last = [f64::NEG_INFINITY; LEVELS];
    // From the middle outwards, so that few points lie in one line.
    let order = [2, 1, 3, 0, 4];
    let level = |(at, suspect)| {
        let free = order.into_iter().find(|level| last[*level] + 6.5 <= at);
        let far = order.into_iter().min_by(|a, b| last[*a].total_cmp(&last[*b]));
        let level = free.or(far).unwrap_or(2);
        last[level] = at;
        (at, level, suspect)
    };
    points.into_iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_would_meet_are_spread() {
        let x = Scale { from: 0.0, to: 100.0, start: 0.0, end: 100.0 };
        let points = [1.0, 1.0, 1.0, 50.0].map(|v| (v, false));
        let levels: Vec<_> = spread(&points, x).into_iter().map(|p| p.1).collect();
        assert_eq!(levels, [2, 1, 3, 2]);
    }
}
