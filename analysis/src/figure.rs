//! What all figures share: size, colours, type, labels, file names.
//!
//! Output: SVG text with real `<text>`. Colours are those of Okabe & Ito, "Color Universal Design",
//! 2008: told apart by colour-blind readers; where it matters, dashes or shapes tell the same, so
//! that a grey print is enough.

pub(crate) mod data;
pub(crate) mod lanes;
pub(crate) mod phases;
pub(crate) mod response;
pub(crate) mod rows;
pub(crate) mod strip;
pub(crate) mod svg;
pub(crate) mod throughput;

use data::Data;

/// Width of every figure in pixels.
pub(crate) const WIDTH: u32 = 760;
/// Font size in pixels.
const TYPE: u32 = 13;
/// Average width of a letter of that type; rather too wide, since the reader's font is unknown.
const LETTER: f64 = 6.6;

pub(crate) const INK: &str = "#222";
pub(crate) const MUTED: &str = "#767676";
pub(crate) const FAINT: &str = "#b4b4b4";
pub(crate) const RULE: &str = "#e4e4e4";
pub(crate) const BAND: &str = "#f1f1f1";
pub(crate) const BLUE: &str = "#0072b2";
pub(crate) const ORANGE: &str = "#e69f00";
pub(crate) const GREEN: &str = "#009e73";
pub(crate) const VERMILION: &str = "#d55e00";
pub(crate) const SKY: &str = "#56b4e9";
pub(crate) const PURPLE: &str = "#cc79a7";
/// Colour and dash of the paths, in the order of their names.
const PATHS: [(&str, &str); 6] = [
    (BLUE, ""),
    (ORANGE, "7 3"),
    (GREEN, "2 2"),
    (PURPLE, "9 3 2 3"),
    (VERMILION, "5 2"),
    (SKY, "1 3"),
];

/// A drawn figure.
pub(crate) struct Figure {
    /// File name below `figures/`.
    pub file: String,
    /// The whole SVG file.
    pub svg: String,
    /// What it shows, for readers of the report.
    pub caption: String,
    /// The numbers that are drawn.
    pub data: Data,
    /// The same picture of the time around the migration only, and its numbers.
    pub zoom: Option<(String, Data)>,
    /// What the pointer is told, as JSON: for the whole picture and for the zoomed one.
    pub hover: Option<(String, Option<String>)>,
}

impl Figure {
    pub(crate) fn new(file: impl Into<String>, svg: String, data: Data, caption: String) -> Self {
        Self { file: file.into(), svg, caption, data, zoom: None, hover: None }
    }

    /// Its files: the name of each without an ending, the picture and the numbers.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, &str, &Data)> {
        let stem = self.file.trim_end_matches(".svg");
        let zoom = self.zoom.as_ref().map(|(svg, data)| (format!("{stem}.zoom"), &**svg, data));
        [(stem.to_owned(), &*self.svg, &self.data)].into_iter().chain(zoom)
    }
}

/// Width of a text in pixels, estimated.
pub(crate) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

/// Short enough: names come from files that anybody may have written.
pub(crate) fn label(name: &str, longest: usize) -> String {
    if name.chars().count() <= longest {
        return name.into();
    }
    name.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

/// A file name that no variant's name can turn into a path, and no two variants share.
pub(crate) fn file_name(kind: &str, variants: &[String], variant: &str) -> String {
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
    fn labels_are_short() {
        assert_eq!(label("abcdef", 4), "abc…");
    }
}
