//! A canvas that writes SVG, and axes.
//!
//! Output: one SVG element with presentation attributes only, so that it looks the same alone, inside
//! a page and in print. Coordinates are pixels with one decimal.

use super::{INK, MUTED, RULE, TYPE, WIDTH, width};
use std::fmt::Write;

/// Where a text begins, is centred or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stroke {
    pub color: &'static str,
    pub width: f64,
    /// Lengths of dashes and gaps; empty for a whole line.
    pub dash: &'static str,
    pub opacity: f64,
}

impl Stroke {
    pub(crate) const fn new(color: &'static str, width: f64) -> Self {
        Self { color, width, dash: "", opacity: 1.0 }
    }

    pub(crate) const fn dashed(self, dash: &'static str) -> Self {
        Self { dash, ..self }
    }

    pub(crate) const fn faded(self, opacity: f64) -> Self {
        Self { opacity, ..self }
    }
}

/// A picture in the making.
pub(crate) struct Svg {
    height: f64,
    body: String,
}

/// A pixel position, with as many digits as matter.
pub(crate) fn px(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").map_or(text.clone(), ToOwned::to_owned)
}

/// Text that is safe between tags and in attributes, and printable.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No XML characters, some of them although they are no control characters.
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

impl Svg {
    pub(crate) fn new(height: f64) -> Self {
        Self { height, body: String::new() }
    }

    /// The whole element; `title` is what a screen reader says.
    pub(crate) fn finish(self, title: &str) -> String {
        let (h, title) = (px(self.height), escaped(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {h}\" width=\"{WIDTH}\" \
             height=\"{h}\" role=\"img\" font-family=\"Helvetica Neue, Helvetica, Arial, sans-serif\" \
             font-size=\"{TYPE}\" fill=\"{INK}\"><title>{title}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{h}\" fill=\"#fff\"/>\n{}</svg>\n",
            self.body
        )
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = self.body.write_fmt(arguments);
        self.body.push('\n');
    }

    pub(crate) fn text(&mut self, x: f64, y: f64, anchor: Anchor, color: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let color = if color == INK { String::new() } else { format!(" fill=\"{color}\"") };
        // The middle of small letters, for readers that do not know dominant-baseline.
        let (x, y, text) = (px(x), px(y + 4.3), escaped(text));
        self.put(format_args!("<text x=\"{x}\" y=\"{y}\"{anchor}{color}>{text}</text>"));
    }

    /// A text that runs upwards, its middle at the place.
    pub(crate) fn text_upwards(&mut self, x: f64, y: f64, text: &str) {
        let (x, y, text) = (px(x), px(y), escaped(text));
        self.put(format_args!(
            "<text transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\">{text}</text>"
        ));
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        self.path(&[from, to], stroke);
    }

    pub(crate) fn path(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        if points.len() < 2 {
            return;
        }
        let d = path(points.iter().copied(), 10.0);
        self.put(format_args!("<path d=\"{d}\"{}/>", attributes(stroke)));
    }

    /// Many lines of one look; whole pixels only, since there may be hundreds.
    pub(crate) fn paths(&mut self, lines: impl Iterator<Item = Vec<(f64, f64)>>, stroke: Stroke) {
        let d: Vec<String> =
            lines.filter(|l| l.len() > 1).map(|l| path(l.into_iter(), 1.0)).collect();
        for d in d {
            self.put(format_args!("<path d=\"{d}\"{}/>", attributes(stroke)));
        }
    }

    /// A filled rectangle; `title` shows when the mouse rests on it.
    pub(crate) fn rect(&mut self, from: (f64, f64), to: (f64, f64), fill: &str, title: &str) {
        let (x, y) = (from.0.min(to.0), from.1.min(to.1));
        let (w, h) = (px((to.0 - from.0).abs()), px((to.1 - from.1).abs()));
        let (x, y, end) = (px(x), px(y), titled("rect", title));
        self.put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"{end}"
        ));
    }

    pub(crate) fn outline(&mut self, from: (f64, f64), to: (f64, f64), fill: &str, stroke: Stroke) {
        let (x, y) = (px(from.0.min(to.0)), px(from.1.min(to.1)));
        let (w, h) = (px((to.0 - from.0).abs()), px((to.1 - from.1).abs()));
        let stroke = attributes(stroke).replace(" fill=\"none\"", "");
        self.put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"{stroke}/>"
        ));
    }

    pub(crate) fn circle(&mut self, at: (f64, f64), r: f64, fill: &str, stroke: &str, title: &str) {
        let (x, y, r, end) = (px(at.0), px(at.1), px(r), titled("circle", title));
        let stroke =
            if stroke.is_empty() { String::new() } else { format!(" stroke=\"{stroke}\"") };
        self.put(format_args!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\" fill=\"{fill}\"{stroke}{end}"
        ));
    }

    /// A filled polygon.
    pub(crate) fn polygon(&mut self, points: &[(f64, f64)], fill: &str, title: &str) {
        let (d, end) = (path(points.iter().copied(), 10.0), titled("path", title));
        self.put(format_args!("<path d=\"{d}z\" fill=\"{fill}\"{end}"));
    }

    /// Many dots of one look in one element: pairs of pixels.
    pub(crate) fn dots(
        &mut self,
        points: impl Iterator<Item = (f64, f64)>,
        r: f64,
        color: &str,
        opacity: f64,
    ) {
        let mut d = String::new();
        for (x, y) in points {
            let _ = write!(d, "M{} {}h0", px(x), px(y));
        }
        let w = px(2.0 * r);
        self.put(format_args!(
            "<path d=\"{d}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{w}\" stroke-linecap=\"round\" stroke-opacity=\"{opacity}\"/>"
        ));
    }
}

fn titled(tag: &str, title: &str) -> String {
    if title.is_empty() {
        return "/>".into();
    }
    format!("><title>{}</title></{tag}>", escaped(title))
}

fn attributes(s: Stroke) -> String {
    let mut text = format!(
        " fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"",
        s.color, s.width
    );
    if !s.dash.is_empty() {
        let _ = write!(text, " stroke-dasharray=\"{}\"", s.dash);
    }
    if s.opacity < 1.0 {
        let _ = write!(text, " stroke-opacity=\"{}\"", s.opacity);
    }
    text
}

/// Relative steps between rounded points: short, and without drift. Straight runs are one step.
fn path(points: impl Iterator<Item = (f64, f64)>, per_px: f64) -> String {
    let mut d = String::new();
    let mut at: Option<(i64, i64)> = None;
    let mut flat: i64 = 0;
    let number = |n: i64| px(n as f64 / per_px);
    for (x, y) in points {
        let to = ((x * per_px).round() as i64, (y * per_px).round() as i64);
        let Some(from) = at.replace(to) else {
            let _ = write!(d, "M{} {}", number(to.0), number(to.1));
            continue;
        };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        if dy == 0 && dx >= 0 {
            flat += dx;
            continue;
        }
        if flat > 0 {
            let _ = write!(d, "h{}", number(flat));
            flat = 0;
        }
        let gap = if dy < 0 { "" } else { " " };
        let _ = write!(d, "l{}{gap}{}", number(dx), number(dy));
    }
    if flat > 0 {
        let _ = write!(d, "h{}", number(flat));
    }
    d
}

/// From values to pixels, straight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub from: f64,
    pub to: f64,
    pub start: f64,
    pub end: f64,
}

impl Scale {
    pub(crate) fn px(&self, value: f64) -> f64 {
        let span = (self.to - self.from).max(f64::MIN_POSITIVE);
        let share = ((value - self.from) / span).clamp(-0.5, 1.5);
        self.start + share * (self.end - self.start)
    }

    pub(crate) fn holds(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }

    /// At most `most` round values within it: 1, 2 or 5 times a power of ten apart.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        let span = self.to - self.from;
        let steps = (-12..13).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10_f64.powi(e)));
        let Some(step) = { steps }.find(|step| span / step <= most as f64) else { return vec![] };
        let first = (self.from / step - 1e-9).ceil() as i64;
        (first..)
            .take(most + 1)
            .map(|i| i as f64 * step)
            .take_while(|v| *v <= self.to + step * 1e-9)
            .collect()
    }
}

/// A number on an axis.
pub(crate) fn tick(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.').replace('-', "\u{2212}");
    if text == "\u{2212}0" { "0".into() } else { text }
}

/// The x axis below a plot with its name; vertical rules where `rules` is given as the plot's top.
pub(crate) fn x_axis(svg: &mut Svg, x: Scale, y: f64, name: &str, most: usize, rules: Option<f64>) {
    for value in x.ticks(most) {
        let at = x.px(value);
        if let Some(top) = rules {
            svg.line((at, top), (at, y), Stroke::new(RULE, 1.0));
        }
        svg.line((at, y), (at, y + 4.0), Stroke::new(MUTED, 1.0));
        svg.text(at, y + 14.0, Anchor::Middle, INK, &tick(value));
    }
    svg.line((x.start, y), (x.end, y), Stroke::new(MUTED, 1.0));
    svg.text((x.start + x.end) / 2.0, y + 33.0, Anchor::Middle, INK, name);
}

/// The y axis left of a plot with horizontal rules and its name.
pub(crate) fn y_axis(svg: &mut Svg, x: Scale, y: Scale, name: &str, most: usize) {
    for value in y.ticks(most) {
        let at = y.px(value);
        if value != y.from {
            svg.line((x.start, at), (x.end, at), Stroke::new(RULE, 1.0));
        }
        svg.text(x.start - 8.0, at, Anchor::End, INK, &tick(value));
    }
    svg.line((x.start, y.start), (x.start, y.end), Stroke::new(MUTED, 1.0));
    svg.text_upwards(14.0, (y.start + y.end) / 2.0, name);
}

/// How an entry of a key looks.
pub(crate) enum Sign {
    Line(Stroke),
    /// A line with a dot of its colour on it, or a square.
    Dotted(Stroke, bool),
    Dot(&'static str, &'static str),
    Bar(&'static str),
}

/// A key in one line from `x` on; entries that find no room are left out.
pub(crate) fn key(svg: &mut Svg, mut x: f64, y: f64, entries: &[(Sign, String)]) {
    for (sign, text) in entries {
        let wide = if matches!(sign, Sign::Dot(..)) { 8.0 } else { 22.0 };
        if x + wide + 7.0 + width(text) > f64::from(WIDTH) {
            return;
        }
        match sign {
            Sign::Line(stroke) => svg.line((x, y), (x + wide, y), *stroke),
            Sign::Dotted(stroke, square) => {
                svg.line((x, y), (x + wide, y), *stroke);
                let mid = x + wide / 2.0;
                match square {
                    true => svg.rect((mid - 3.5, y - 3.5), (mid + 3.5, y + 3.5), stroke.color, ""),
                    false => svg.circle((mid, y), 4.0, stroke.color, "#fff", ""),
                }
            }
            Sign::Dot(fill, stroke) => svg.circle((x + 4.0, y), 3.2, fill, stroke, ""),
            Sign::Bar(fill) => svg.rect((x, y - 5.0), (x + wide, y + 5.0), fill, ""),
        }
        svg.text(x + wide + 7.0, y, Anchor::Start, INK, text);
        x += wide + 7.0 + width(text) + 20.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let ticks = |from, to| Scale { from, to, start: 0.0, end: 1.0 }.ticks(8);
        assert_eq!(ticks(0.0, 110.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(50.02, 50.51), [50.1, 50.2, 50.300000000000004, 50.400000000000006, 50.5]);
        assert!(ticks(0.0, 1e300).is_empty() && ticks(0.0, f64::NAN).is_empty());
    }

    #[test]
    fn tick_labels_have_no_idle_zeros() {
        assert_eq!([0.0, 20.0, -0.5, 0.1 + 0.2].map(tick), ["0", "20", "\u{2212}0.5", "0.3"]);
    }

    #[test]
    fn paths_are_relative_and_do_not_drift() {
        let points = [(0.0, 0.0), (0.4, 2.0), (0.8, 2.0), (1.2, 1.0)];
        assert_eq!(path(points.into_iter(), 1.0), "M0 0l0 2h1l0-1");
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escaped("<b a=\"1\">&\u{0}"), "&lt;b a=&quot;1&quot;&gt;&amp;\u{FFFD}");
    }
}
