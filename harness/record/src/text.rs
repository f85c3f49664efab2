//! Text of strangers on its way to a terminal, a page or a table.
//!
//! File names, descriptions and rows of other people may hold characters that a terminal obeys
//! (ECMA-48) or that change the order in which a line is read (Unicode Standard Annex 9), and a
//! spreadsheet takes some text for a formula.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// Whether a character does something instead of being seen: control characters, those that change
/// the direction of writing, and others without a width that hide in a name.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The same text with every hidden character but tabs and line ends shown by its number, as
/// `[U+001B]`.
pub fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| is_hidden(c) && c != '\n' && c != '\t';
    if !text.contains(hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            // Writing into a String cannot fail.
            let _ = write!(shown, "[U+{:04X}]", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// A line for a terminal, with every hidden character shown.
pub fn line(arguments: fmt::Arguments<'_>) -> String {
    let text = match arguments.as_str() {
        Some(text) => text.to_owned(),
        None => arguments.to_string(),
    };
    match visible(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(shown) => shown,
    }
}

/// JSON with every hidden character inside its strings as an escape (RFC 8259, section 7): the same
/// value.
pub fn json(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| is_hidden(c) && c != '\n';
    if !text.contains(hidden) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped.into()
}

/// Whether a spreadsheet would compute a cell instead of showing it.
pub fn is_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err()
}

/// A cell that a spreadsheet shows as it is: a formula gets an apostrophe before it.
pub fn cell(text: &str) -> Cow<'_, str> {
    if is_formula(text) { format!("'{text}").into() } else { text.into() }
}

/// What [`cell`] was made of.
pub fn from_cell(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|text| is_formula(text)).unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(
            visible("a\u{1b}[2J\u{9b}b\u{202e}\r\n\tc"),
            "a[U+001B][2J[U+009B]b[U+202E][U+000D]\n\tc"
        );
        assert_eq!(visible("Größe – 25 µs"), "Größe – 25 µs");
    }

    #[test]
    fn numbers_are_no_formulas() {
        for cell in ["-1.5", "+3", "-inf", "", "x=1", "a-b"] {
            assert!(!is_formula(cell), "{cell}");
        }
        for cell in ["=1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "+A1"] {
            assert!(is_formula(cell), "{cell}");
        }
    }

    proptest! {
        #[test]
        fn a_cell_is_never_a_formula_and_keeps_its_text(text in "[-=+@'\t\ra1.]{0,8}") {
            prop_assert!(!is_formula(&cell(&text)));
            // What looks like an escaped formula already is the one text that is not told from one.
            if !text.starts_with('\'') {
                let escaped = cell(&text);
                prop_assert_eq!(from_cell(&escaped), &*text);
            }
        }

        #[test]
        fn json_stays_the_same_value(text: String) {
            let written = serde_json::to_string_pretty(&[&text]).unwrap();
            let escaped = json(&written);
            prop_assert!(!escaped.contains(|c| is_hidden(c) && c != '\n'));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&escaped).unwrap(), [text]);
        }
    }
}
