//! What all figures share: size, colours, type, a place for labels, file names.
//!
//! Output: SVG text with real `<text>`. Colours are those of Okabe & Ito, "Color Universal Design",
//! 2008: told apart by colour-blind readers, and in this order also in a grey print.

pub(crate) mod throughput;
pub(crate) mod turnaround;

use anyhow::Context;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// Width of every figure in pixels.
pub(crate) const WIDTH: u32 = 760;
/// Size of the type as plotters counts it: 1.24 times the font-size that it writes.
const TYPE: i32 = 16;
/// Average width of a letter of that type; rather too wide, since the reader's font is unknown.
const LETTER: f64 = 6.8;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const MUTED: RGBColor = RGBColor(0x76, 0x76, 0x76);
const FAINT: RGBColor = RGBColor(0xB4, 0xB4, 0xB4);
const RULE: RGBColor = RGBColor(0xE4, 0xE4, 0xE4);
const BAND: RGBColor = RGBColor(0xF1, 0xF1, 0xF1);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
/// Lines of the paths, in the order of their names.
const PATHS: [RGBColor; 6] = [
    BLUE,
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

/// A drawn figure.
pub(crate) struct Figure {
    /// File name below `figures/`.
    pub file: String,
    /// The whole SVG file.
    pub svg: String,
    /// What it shows, for readers of the report.
    pub caption: String,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn svg(height: u32, draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE).context("fill the background")?;
    draw(&area)?;
    area.present().context("finish the figure")?;
    drop(area);
    // The first of these fonts that the reader has; plotters takes one name only.
    Ok(svg.replace("\"sans-serif\"", "\"Helvetica Neue, Helvetica, Arial, sans-serif\""))
}

fn font(color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", TYPE).into_font().color(&color)
}

/// Width of a text in pixels, estimated.
fn width(text: &str) -> i32 {
    (text.chars().count() as f64 * LETTER).ceil() as i32
}

fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    h: HPos,
    color: RGBColor,
) -> anyhow::Result<()> {
    let style = font(color).pos(Pos::new(h, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style)).context("write a label")
}

/// Printable and short enough: names come from files that anybody may have written.
fn label(name: &str, longest: usize) -> String {
    let clean = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    // U+FFFE and U+FFFF are no XML characters although they are no control characters either.
    let clean = |c| if matches!(c, '\u{FFFE}' | '\u{FFFF}') { '\u{FFFD}' } else { clean(c) };
    if name.chars().count() <= longest {
        return name.chars().map(clean).collect();
    }
    name.chars().take(longest.saturating_sub(1)).map(clean).chain(['…']).collect()
}

/// A number on an axis.
fn tick(value: &f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A file name that no variant's name can turn into a path, and no two variants share.
fn file_name(kind: &str, variants: &[String], variant: &str) -> String {
    let safe = |name: &str| -> String {
        let keep = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        name.chars().take(60).map(keep).collect()
    };
    let name = safe(variant);
    let position = variants.iter().position(|v| v == variant).unwrap_or_default();
    let taken = variants.iter().take(position).filter(|v| safe(v) == name).count();
    let suffix = if taken == 0 { String::new() } else { format!(".{}", taken + 1) };
    format!("{kind}-{name}{suffix}.svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_in_their_folder_and_apart() {
        let variants = ["../a", "___a", "quic-none"].map(String::from);
        let names = variants.each_ref().map(|v| file_name("throughput", &variants, v));
        let wanted = ["throughput-___a.svg", "throughput-___a.2.svg", "throughput-quic-none.svg"];
        assert_eq!(names, wanted);
    }

    #[test]
    fn labels_are_printable_and_short() {
        assert_eq!(label("a\u{0}b", 9), "a\u{FFFD}b");
        assert_eq!(label("abcdef", 4), "abc…");
    }

    #[test]
    fn ticks_have_no_idle_zeros() {
        assert_eq!(
            [0.0, 20.0, 0.5, 0.30000000000000004].map(|v| tick(&v)),
            ["0", "20", "0.5", "0.3"]
        );
    }
}
