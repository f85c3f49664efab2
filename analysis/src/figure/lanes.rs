//! What the client did when: one trial as a swim lane.
//!
//! Input: the events of a trial. Output: a lane for the server, one for the body, one for the client's
//! connection and one for each path. Names of interfaces and hosts come from the plan; without a plan
//! the addresses stand there.

use super::{
    BAND, BLUE, Figure, GREEN, INK, MUTED, ORANGE, SKY, VERMILION, WIDTH,
    data::{Data, cell},
    label,
    svg::{Anchor, Scale, Sign, Stroke, Svg, key, tick, x_axis},
    width,
};
use crate::{
    input::Input,
    lane::{Lane, Lanes, Moment, Piece, Span},
    number,
};

const HEAD: f64 = 30.0;
const LANE: f64 = 30.0;
const FOOT: f64 = 46.0;
const RIGHT: f64 = 16.0;
/// Rows of labels of moments within a lane.
const LABELS: usize = 3;
const LABEL: f64 = 16.0;

/// One figure for each variant that has something to tell.
pub(crate) fn figures(input: &Input, variants: &[String]) -> Vec<Figure> {
    let figure = |variant: &String| {
        let lanes = Lanes::of(input, variant)?;
        let mut caption = format!(
            "What happened when in repetition {} of {variant}, {}. Server: what was done to it. Body: \
             when it stood still. Then the client: its connection and its paths, with a tick for every \
             probe.",
            lanes.repetition, lanes.why
        );
        if let Some(end) = lanes.cut_s {
            caption += &format!(
                " Nothing more happened until the end at {} s.",
                tick((end * 10.0).round() / 10.0)
            );
        }
        let file = super::file_name("lanes", variants, variant);
        if lanes.left_out > 0 {
            caption += &format!(
                " Not drawn: {}, for want of room.",
                number::count(lanes.left_out, "thing")
            );
        }
        Some(Figure::new(file, draw(&lanes, variant), data(&lanes), caption))
    };
    variants.iter().filter_map(figure).collect()
}

fn data(lanes: &Lanes) -> Data {
    let mut data = Data::new(["lane", "what", "text", "from_s", "to_s"]);
    for lane in &lanes.lanes {
        for s in &lane.spans {
            let what = match s.piece {
                Piece::Path => "path",
                Piece::Connection => "connection",
                Piece::Stall => "stall",
                Piece::Step => "step",
            };
            let (from, to) = (cell(s.from_s), cell(s.to_s));
            data.row([lane.name.clone(), what.into(), s.text.clone(), from, to]);
        }
        for m in &lane.moments {
            let (what, at) = (if m.probe { "probe" } else { "moment" }, cell(m.at_s));
            data.row([lane.name.clone(), what.into(), m.text.clone(), at.clone(), at]);
        }
    }
    data
}

fn draw(lanes: &Lanes, variant: &str) -> String {
    let names: Vec<_> = lanes.lanes.iter().map(|l| label(&l.name, 34)).collect();
    let left = names.iter().map(|n| width(n)).fold(60.0, f64::max) + 20.0;
    let end = f64::from(WIDTH) - RIGHT;
    let x = Scale { from: 0.0, to: lanes.end_s, start: left, end };
    let placed: Vec<_> = lanes.lanes.iter().map(|l| place(l, x)).collect();
    let heights: Vec<f64> = placed.iter().map(|p| LANE + LABEL * rows(p) as f64).collect();
    let bottom = HEAD + heights.iter().sum::<f64>();
    let mut svg = Svg::new(bottom + FOOT);
    if let Some((away, back)) = lanes.server_away {
        svg.rect((x.px(away), HEAD), (x.px(back), bottom), BAND, "");
    }
    x_axis(&mut svg, x, bottom, "time since the start of the handshake (s)", 12, Some(HEAD));
    let mut top = HEAD;
    for (((lane, name), labels), height) in lanes.lanes.iter().zip(&names).zip(&placed).zip(heights)
    {
        let mid = top + height - LANE / 2.0;
        svg.line((8.0, top + height), (end, top + height), Stroke::new(super::RULE, 1.0));
        svg.text(left - 12.0, mid, Anchor::End, INK, name);
        lane.spans.iter().for_each(|span| bar(&mut svg, span, mid, x));
        let sign = |svg: &mut Svg, m: &Moment| moment(svg, m, mid, x);
        lane.moments.iter().for_each(|m| sign(&mut svg, m));
        for p in labels.iter().filter(|p| p.row.is_some()) {
            let y = mid - 18.0 - LABEL * p.row.unwrap_or_default() as f64;
            svg.line((p.x, y + 2.0), (p.x, mid - 7.0), Stroke::new(MUTED, 0.7));
            svg.text(p.left, y - 2.0, Anchor::Start, INK, &p.text);
        }
        top += height;
    }
    entries(&mut svg, lanes);
    svg.finish(&format!("what happened when in a trial of {variant}"))
}

fn color(piece: Piece) -> &'static str {
    match piece {
        Piece::Path => BLUE,
        Piece::Connection => SKY,
        Piece::Stall => VERMILION,
        Piece::Step => GREEN,
    }
}

fn bar(svg: &mut Svg, span: &Span, mid: f64, x: Scale) {
    let half = if span.piece == Piece::Stall { 4.0 } else { 6.0 };
    let (a, b) = (x.px(span.from_s), x.px(span.to_s));
    // What takes a few milliseconds must still be seen.
    let b = b.max(a + 2.0);
    let title = format!("{} {}–{} s", span.text, seconds(span.from_s), seconds(span.to_s));
    svg.rect((a, mid - half), (b, mid + half), color(span.piece), &title);
}

fn moment(svg: &mut Svg, m: &Moment, mid: f64, x: Scale) {
    let at = x.px(m.at_s);
    if m.probe {
        svg.line((at, mid - 6.0), (at, mid + 6.0), Stroke::new(ORANGE, 1.2));
        return;
    }
    let title = format!("{} {} s {}", m.text, seconds(m.at_s), m.detail);
    let diamond = [(at - 4.5, mid), (at, mid - 5.5), (at + 4.5, mid), (at, mid + 5.5)];
    svg.polygon(&diamond, INK, title.trim());
}

fn seconds(s: f64) -> String {
    tick((s * 1000.0).round() / 1000.0)
}

struct Placed {
    x: f64,
    left: f64,
    text: String,
    row: Option<usize>,
}

fn rows(placed: &[Placed]) -> usize {
    placed.iter().filter_map(|p| p.row).max().map_or(0, |row| row + 1)
}

/// Labels above their lane, in as many rows as they need and get.
fn place(lane: &Lane, x: Scale) -> Vec<Placed> {
    let steps = lane.spans.iter().filter(|s| s.piece == Piece::Step);
    let steps = steps.map(|s| (s.from_s, s.text.clone()));
    let moments = lane.moments.iter().filter(|m| !m.probe).map(|m| (m.at_s, m.text.clone()));
    let mut named: Vec<_> = steps.chain(moments).collect();
    named.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ends = [f64::NEG_INFINITY; LABELS];
    let one = |(at, text): (f64, String)| {
        let text = label(&text, 30);
        let (at, wide) = (x.px(at), width(&text));
        let left = (at - 3.0).min(x.end + RIGHT - 2.0 - wide);
        let row = (0..LABELS).find(|row| ends[*row] + 8.0 <= left);
        if let Some(row) = row {
            ends[row] = left + wide;
        }
        Placed { x: at, left, text, row }
    };
    named.into_iter().map(one).collect()
}

fn entries(svg: &mut Svg, lanes: &Lanes) {
    let spans = || lanes.lanes.iter().flat_map(|l| &l.spans);
    let names = [
        (Piece::Step, "done by the harness"),
        (Piece::Stall, "no byte arrives"),
        (Piece::Connection, "connection"),
        (Piece::Path, "path validated"),
    ];
    let shown = names.into_iter().filter(|(piece, _)| spans().any(|s| s.piece == *piece));
    let mut all: Vec<_> =
        shown.map(|(piece, name)| (Sign::Bar(color(piece)), name.to_owned())).collect();
    if lanes.lanes.iter().any(|l| l.moments.iter().any(|m| m.probe)) {
        all.push((Sign::Line(Stroke::new(ORANGE, 1.2)), "probe".into()));
    }
    key(svg, 8.0, 12.0, &all);
}
