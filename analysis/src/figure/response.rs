//! Response times over a migration, with the model's curves where there is a model.
//!
//! Input: measured requests beside the model, or requests alone. Output: one figure for the variants
//! that share their parameters, as figures 3.8 and 3.9 of the thesis; one per variant without a model.

use super::{
    BAND, BLUE, Figure, GREEN, INK, MUTED, VERMILION, WIDTH,
    data::{Data, cell, optional},
    svg::{Anchor, Scale, Sign, Stroke, Svg, key, tick, x_axis, y_axis},
};
use crate::{
    input::Input,
    model::{Parameters, Scheme, measured::Comparison},
    number,
    series::LONGEST_S,
};

const HEAD: f64 = 34.0;
const PLOT: f64 = 280.0;
const FOOT: f64 = 46.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 16.0;
/// More dots than this per variant hide each other.
const MOST_DOTS: usize = 1500;

fn color(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::DualPath => BLUE,
        Scheme::PostCopy => VERMILION,
    }
}

fn dash(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::DualPath => "",
        Scheme::PostCopy => "7 4",
    }
}

/// The figures of variants with a model.
pub(crate) fn with_model(comparisons: &[Comparison]) -> Vec<Figure> {
    let same = |a: &Parameters, b: &Parameters| {
        (a.r_old_s, a.r_new_s, a.s_s, a.push_s) == (b.r_old_s, b.r_new_s, b.s_s, b.push_s)
    };
    let mut groups: Vec<Vec<&Comparison>> = Vec::new();
    for c in comparisons {
        match groups.iter_mut().find(|g| same(&g[0].parameters, &c.parameters)) {
            Some(group) => group.push(c),
            None => groups.push(vec![c]),
        }
    }
    groups.iter().enumerate().map(|(i, group)| model_figure(i + 1, group)).collect()
}

fn model_figure(n: usize, group: &[&Comparison]) -> Figure {
    let p = &group[0].parameters;
    let y = y_of(group);
    let dots: Vec<Vec<(f64, f64)>> = group.iter().map(|c| dots(c, y)).collect();
    let svg = draw_model(group, &dots, y);
    let mut text = format!(
        "Response time of a request by when in the migration it was sent; r_old = {} s, r_new = {} s, \
         s = {} s, t' = {} s. Dots: requests; bars: mean of each tenth of the migration with its 99 % \
         bootstrap interval; lines: the model of chapter 3 of the thesis.",
        number::seconds(p.r_old_s),
        number::seconds(p.r_new_s),
        number::seconds(p.s_s),
        number::seconds(p.push_s)
    );
    if group.iter().any(|c| c.parameters.scheme == Scheme::PostCopy) {
        text += " Grey: post-copy has no service.";
    }
    for c in group {
        let Some(whole) = c.whole() else { continue };
        let Some(difference) = whole.difference_ratio else { continue };
        text += &format!(
            " {} ({}): the model lies in {} of 10 intervals, and the mean of {} is {} from the model's.",
            c.variant,
            c.parameters.scheme.name(),
            c.inside(),
            number::count(whole.n as usize, "request"),
            number::percent(difference)
        );
    }
    let all = || group.iter().flat_map(|c| &c.requests);
    let above = all().filter(|(_, r)| !y.holds(*r)).count();
    let drawn: usize = dots.iter().map(Vec::len).sum();
    if drawn + above < all().count() {
        text += &format!(" Of the requests {drawn} are drawn, evenly chosen.");
    }
    if above > 0 {
        text += &format!(" {} took longer than the axis shows.", number::count(above, "request"));
    }
    let data = data_of_model(group, &dots);
    Figure::new(format!("response-model-{n}.svg"), svg, data, text)
}

fn y_of(group: &[&Comparison]) -> Scale {
    let p = &group[0].parameters;
    let modelled = p.r_old_s.max(p.r_new_s + p.s_s);
    let means = group.iter().flat_map(|c| &c.rows).filter_map(|r| r.ci99_high_s.or(r.mean_s));
    let top = means.fold(modelled, f64::max) * 1.15;
    Scale { from: 0.0, to: top.min(LONGEST_S), start: HEAD + PLOT, end: HEAD }
}

/// Requests that are drawn: not more than can be seen, and none above the axis.
fn dots(c: &Comparison, y: Scale) -> Vec<(f64, f64)> {
    let step = c.requests.len().div_ceil(MOST_DOTS).max(1);
    c.requests.iter().step_by(step).filter(|(_, r)| y.holds(*r)).copied().collect()
}

fn data_of_model(group: &[&Comparison], dots: &[Vec<(f64, f64)>]) -> Data {
    let header = ["variant", "what", "t_s", "response_s", "ci99_low_s", "ci99_high_s"];
    let mut data = Data::new(header);
    for (c, dots) in group.iter().zip(dots) {
        let mut put = |what: &str, (t, response): (f64, f64), ends: [Option<f64>; 2]| {
            let ends = ends.map(optional);
            data.row(
                [c.variant.clone(), what.into(), cell(t), cell(response)].into_iter().chain(ends),
            );
        };
        dots.iter().for_each(|dot| put("request", *dot, [None, None]));
        for row in c.rows.iter().filter(|r| r.part != "all") {
            let middle = (row.from_s + row.to_s) / 2.0;
            if let Some(mean) = row.mean_s {
                put("mean of a part", (middle, mean), [row.ci99_low_s, row.ci99_high_s]);
            }
        }
        curve(&c.parameters).into_iter().flatten().for_each(|at| put("model", at, [None, None]));
    }
    data
}

fn draw_model(group: &[&Comparison], dots: &[Vec<(f64, f64)>], y: Scale) -> String {
    let p = &group[0].parameters;
    let bottom = HEAD + PLOT;
    let mut svg = Svg::new(bottom + FOOT);
    let x = Scale { from: 0.0, to: p.push_s, start: LEFT, end: f64::from(WIDTH) - RIGHT };
    if group.iter().any(|c| c.parameters.scheme == Scheme::PostCopy) {
        svg.rect((x.px(0.0), HEAD), (x.px(p.r_new_s), bottom), BAND, "");
    }
    y_axis(&mut svg, x, y, "response time (s)", 6);
    x_axis(&mut svg, x, bottom, "time since the start of the migration (s)", 12, None);
    for (c, shown) in group.iter().zip(dots) {
        let opacity = if c.requests.len() > 400 { 0.22 } else { 0.4 };
        svg.dots(
            shown.iter().map(|(t, r)| (x.px(*t), y.px(*r))),
            1.7,
            color(c.parameters.scheme),
            opacity,
        );
    }
    for c in group {
        let stroke = Stroke::new(color(c.parameters.scheme), 2.0).dashed(dash(c.parameters.scheme));
        curve(&c.parameters).iter().for_each(|line| {
            let points: Vec<_> = line.iter().map(|(t, r)| (x.px(*t), y.px(*r))).collect();
            svg.path(&points, Stroke::new("#fff", 4.0));
            svg.path(&points, stroke);
        });
    }
    for (i, c) in group.iter().enumerate() {
        // Side by side, or one scheme's bars would hide the other's.
        let aside = (i as f64 - (group.len() - 1) as f64 / 2.0) * 9.0;
        for row in c.rows.iter().filter(|r| r.part != "all") {
            let Some(mean) = row.mean_s else { continue };
            let at = x.px((row.from_s + row.to_s) / 2.0) + aside;
            let ink = color(c.parameters.scheme);
            if let Some((low, high)) = row.ci99_low_s.zip(row.ci99_high_s) {
                for (width, paint) in [(4.5, "#fff"), (2.0, ink)] {
                    svg.line((at, y.px(low)), (at, y.px(high)), Stroke::new(paint, width));
                }
            }
            let (px, py) = (at, y.px(mean));
            let title = format!("{}: {} s", c.variant, number::seconds(mean));
            match c.parameters.scheme {
                Scheme::DualPath => svg.circle((px, py), 4.5, ink, "#fff", &title),
                Scheme::PostCopy => {
                    svg.outline(
                        (px - 4.0, py - 4.0),
                        (px + 4.0, py + 4.0),
                        ink,
                        Stroke::new("#fff", 1.0),
                    );
                }
            }
        }
    }
    let entry = |c: &&Comparison| {
        let scheme = c.parameters.scheme;
        let line = Stroke::new(color(scheme), 2.0).dashed(dash(scheme));
        (
            Sign::Dotted(line, scheme == Scheme::PostCopy),
            format!("{} (line: model)", super::label(&c.variant, 30)),
        )
    };
    let entries: Vec<_> = group.iter().map(entry).collect();
    key(&mut svg, LEFT, 12.0, &entries);
    svg.finish("response time over the migration, measured and by the model")
}

/// The straight pieces of the model.
fn curve(p: &Parameters) -> Vec<Vec<(f64, f64)>> {
    let at = |t: f64| p.expected_s(t).map(|r| (t, r));
    let just_after = p.r_new_s + (p.push_s - p.r_new_s) * 1e-9;
    let pieces = [vec![at(0.0), at(p.r_new_s)], vec![at(just_after), at(p.push_s)]];
    pieces.into_iter().filter_map(|piece| piece.into_iter().collect()).collect()
}

/// One figure for each variant that has requests and no model.
pub(crate) fn without_model(
    input: &Input,
    variants: &[String],
    modelled: &[Comparison],
) -> Vec<Figure> {
    let plain = variants.iter().filter(|v| !modelled.iter().any(|c| c.variant == **v));
    plain.filter_map(|v| plain_figure(input, variants, v)).collect()
}

fn plain_figure(input: &Input, variants: &[String], variant: &str) -> Option<Figure> {
    let usable = |s: f64| (0.0..LONGEST_S).contains(&s);
    let requests: Vec<(f64, f64, &str)> = input
        .requests
        .iter()
        .filter(|r| r.variant == variant && r.outcome == "ok" && usable(r.t_s))
        .filter_map(|r| {
            let who = r.served_by.as_deref().unwrap_or_default();
            Some((r.t_s, r.response_s.filter(|s| usable(*s))?, who))
        })
        .collect();
    let longest = requests.iter().map(|r| r.1).fold(0.0, f64::max);
    let last = requests.iter().map(|r| r.0).fold(0.0, f64::max);
    if requests.is_empty() {
        return None;
    }
    let bottom = HEAD + PLOT;
    let mut svg = Svg::new(bottom + FOOT);
    let x =
        Scale { from: 0.0, to: last.max(1e-3) * 1.01, start: LEFT, end: f64::from(WIDTH) - RIGHT };
    let y = Scale { from: 0.0, to: longest.max(1e-6) * 1.05, start: bottom, end: HEAD };
    y_axis(&mut svg, x, y, "response time (s)", 6);
    x_axis(&mut svg, x, bottom, "time since the start of the handshake (s)", 12, None);
    let mut served: Vec<&str> = requests.iter().map(|r| r.2).collect();
    served.sort_unstable();
    served.dedup();
    let step = requests.len().div_ceil(2 * MOST_DOTS).max(1);
    let shown: Vec<_> = requests.iter().step_by(step).collect();
    let mut data = Data::new(["what", "t_s", "response_s"]);
    for (t, response, who) in &shown {
        data.row([format!("answered by {who}").trim_end().into(), cell(*t), cell(*response)]);
    }
    let mut entries = Vec::new();
    for (who, paint) in served.iter().zip([BLUE, VERMILION, GREEN, MUTED].into_iter().cycle()) {
        let theirs = shown.iter().filter(|r| r.2 == *who);
        svg.dots(theirs.map(|r| (x.px(r.0), y.px(r.1))), 2.0, paint, 0.5);
        let name = if who.is_empty() { "request" } else { who };
        entries.push((Sign::Dot(paint, ""), format!("answered by {}", super::label(name, 24))));
    }
    let failed = input.requests.iter().filter(|r| r.variant == variant && r.outcome != "ok");
    let mut bad = 0;
    for r in failed {
        bad += 1;
        if usable(r.t_s) && x.holds(r.t_s) && bad <= MOST_DOTS {
            data.row([r.outcome.clone(), cell(r.t_s), String::new()]);
            let at = x.px(r.t_s);
            svg.line((at, bottom - 8.0), (at, bottom), Stroke::new(VERMILION, 1.5));
        }
    }
    if bad > 0 {
        svg.text(
            f64::from(WIDTH) - RIGHT,
            HEAD - 8.0,
            Anchor::End,
            INK,
            &format!("{} failed: ticks at the bottom", tick(f64::from(bad as u32))),
        );
    }
    key(&mut svg, LEFT, 12.0, &entries);
    let mut caption = format!(
        "Response time of {} of {variant} by when it was sent, all trials together; {} failed.",
        number::count(requests.len() + bad, "request"),
        bad
    );
    if shown.len() < requests.len() {
        caption += &format!(" Of the others {} are drawn, evenly chosen.", shown.len());
    }
    let file = super::file_name("response", variants, variant);
    Some(Figure::new(file, svg.finish(&format!("response times of {variant}")), data, caption))
}
