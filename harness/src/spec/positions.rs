//! Where each value of a YAML text stands, from one reading of it.
//!
//! The reader that makes our types tells a position only with an error. Checks that come later ask
//! here, any number of times, in a text of any size that is read.

#![expect(unsafe_code, reason = "libyaml's events carry positions, and its interface is that of C")]

use super::{Location, PathStep};
use libyaml_rs::{
    yaml_event_delete, yaml_event_t, yaml_event_type_t, yaml_parser_delete, yaml_parser_initialize,
    yaml_parser_parse, yaml_parser_set_input_string, yaml_parser_t,
};
use std::{collections::HashMap, ffi::CStr, mem::MaybeUninit, slice};

/// A value: where it begins, and what is in it.
#[derive(Debug, Clone)]
struct Value {
    at: Location,
    inside: Inside,
}

#[derive(Debug, Clone)]
enum Inside {
    Nothing,
    /// By key, the number of the value.
    Mapping(HashMap<String, usize>),
    /// The numbers of the values.
    List(Vec<usize>),
}

/// The positions of all values of one text.
#[derive(Debug, Clone, Default)]
pub(super) struct Positions {
    /// The first one is the whole document.
    values: Vec<Value>,
    /// Where each line begins in the text.
    lines: Vec<usize>,
}

impl Positions {
    /// Reads a text. What comes after a mistake in its YAML has no position.
    pub(super) fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        let mut building = Building::default();
        Events::read(text, |event, at| building.take(event, at));
        Self { values: building.values, lines }
    }

    /// Where the value at `way` begins, or the mapping or list around it when it is not there.
    pub(super) fn locate(&self, way: &[PathStep]) -> Option<Location> {
        let mut value = self.values.first()?;
        for step in way {
            let next = match (step, &value.inside) {
                (PathStep::Key(key), Inside::Mapping(values)) => values.get(key),
                (PathStep::Index(index), Inside::List(values)) => values.get(*index),
                _ => None,
            };
            value = self.values.get(*next?)?;
        }
        Some(value.at)
    }

    /// A line of the text that this was read from, from 1.
    pub(super) fn line<'t>(&self, text: &'t str, line: usize) -> Option<&'t str> {
        let from = *self.lines.get(line.checked_sub(1)?)?;
        text.get(from..)?.lines().next()
    }

    /// The keys of the document, when it is a mapping.
    pub(super) fn has_key(&self, key: &str) -> bool {
        let first = self.values.first().map(|value| &value.inside);
        matches!(first, Some(Inside::Mapping(values)) if values.contains_key(key))
    }
}

/// What the text is made of.
enum Event<'e> {
    Scalar(&'e str),
    Alias,
    MappingStart,
    ListStart,
    End,
}

/// A value that is being read.
struct Open {
    number: usize,
    /// The key whose value comes next; a mapping without one waits for a key.
    key: Option<String>,
}

/// The tree as far as it has been read.
#[derive(Default)]
struct Building {
    values: Vec<Value>,
    open: Vec<Open>,
    /// Numbers of values with an anchor.
    anchors: HashMap<String, usize>,
    over: bool,
}

impl Building {
    fn take(&mut self, (event, anchor): (Event<'_>, Option<&str>), at: Location) {
        if self.over {
            return;
        }
        let inside = match event {
            Event::End => {
                self.open.pop();
                self.over = self.open.is_empty();
                return;
            }
            Event::Scalar(text) => {
                if self.is_key(text) {
                    return;
                }
                Inside::Nothing
            }
            Event::Alias => {
                let known = anchor.and_then(|name| self.anchors.get(name)).copied();
                if let Some(number) = known {
                    self.put(number);
                } else {
                    self.new_value(at, Inside::Nothing, None);
                }
                return;
            }
            Event::MappingStart => Inside::Mapping(HashMap::new()),
            Event::ListStart => Inside::List(Vec::new()),
        };
        let deep = !matches!(inside, Inside::Nothing);
        let number = self.new_value(at, inside, anchor);
        if deep {
            self.open.push(Open { number, key: None });
        } else {
            self.over = self.open.is_empty();
        }
    }

    /// Whether this scalar is the key of the mapping that is open.
    fn is_key(&mut self, text: &str) -> bool {
        let Some(open) = self.open.last_mut() else { return false };
        let mapping = matches!(self.values[open.number].inside, Inside::Mapping(_));
        if mapping && open.key.is_none() {
            open.key = Some(text.into());
            return true;
        }
        false
    }

    fn new_value(&mut self, at: Location, inside: Inside, anchor: Option<&str>) -> usize {
        let number = self.values.len();
        self.values.push(Value { at, inside });
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.into(), number);
        }
        self.put(number);
        number
    }

    /// Enters a value into what is open.
    fn put(&mut self, number: usize) {
        let Some(open) = self.open.last_mut() else { return };
        match &mut self.values[open.number].inside {
            Inside::Mapping(values) => match open.key.take() {
                Some(key) => _ = values.insert(key, number),
                // A key that is no scalar: its value is skipped by nobody's name.
                None => open.key = Some(String::new()),
            },
            Inside::List(values) => values.push(number),
            Inside::Nothing => {}
        }
    }
}

/// The events of a text, one after the other.
struct Events;

impl Events {
    /// Calls `take` with each event, its anchor and its place, until the text or its YAML ends.
    fn read(text: &str, mut take: impl FnMut((Event<'_>, Option<&str>), Location)) {
        let mut parser = MaybeUninit::<yaml_parser_t>::uninit();
        // SAFETY: the parser is initialised before it is used, the text outlives it, each event is
        // deleted after its strings were looked at, and the parser is deleted at the end.
        unsafe {
            if !yaml_parser_initialize(parser.as_mut_ptr()).ok {
                return;
            }
            let parser = parser.assume_init_mut();
            yaml_parser_set_input_string(parser, text.as_ptr(), text.len() as u64);
            loop {
                let mut event = MaybeUninit::<yaml_event_t>::uninit();
                if !yaml_parser_parse(parser, event.as_mut_ptr()).ok {
                    break;
                }
                let event = event.assume_init_mut();
                let last = event.type_ == yaml_event_type_t::YAML_STREAM_END_EVENT;
                let mark = event.start_mark;
                let at =
                    Location { line: mark.line as usize + 1, column: mark.column as usize + 1 };
                if let Some(known) = known(event) {
                    take(known, at);
                }
                yaml_event_delete(event);
                if last {
                    break;
                }
            }
            yaml_parser_delete(parser);
        }
    }
}

/// What an event is, if it is part of a value, and its anchor.
fn known(event: &yaml_event_t) -> Option<(Event<'_>, Option<&str>)> {
    // SAFETY: libyaml fills the part of the union that belongs to the type; its anchors end with a
    // NUL, its scalars have their length.
    unsafe {
        Some(match event.type_ {
            yaml_event_type_t::YAML_SCALAR_EVENT => {
                let scalar = &event.data.scalar;
                let bytes = slice::from_raw_parts(scalar.value, scalar.length as usize);
                (Event::Scalar(std::str::from_utf8(bytes).unwrap_or_default()), word(scalar.anchor))
            }
            yaml_event_type_t::YAML_ALIAS_EVENT => (Event::Alias, word(event.data.alias.anchor)),
            yaml_event_type_t::YAML_MAPPING_START_EVENT => {
                (Event::MappingStart, word(event.data.mapping_start.anchor))
            }
            yaml_event_type_t::YAML_SEQUENCE_START_EVENT => {
                (Event::ListStart, word(event.data.sequence_start.anchor))
            }
            yaml_event_type_t::YAML_MAPPING_END_EVENT
            | yaml_event_type_t::YAML_SEQUENCE_END_EVENT => (Event::End, None),
            _ => return None,
        })
    }
}

/// A text of libyaml's that ends with a NUL; `None` when there is none.
///
/// # Safety
/// The pointer is null or such a text.
unsafe fn word<'t>(text: *const u8) -> Option<&'t str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller has promised.
    unsafe { CStr::from_ptr(text.cast()) }.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, way: &[PathStep]) -> Option<(usize, usize)> {
        Positions::of(text).locate(way).map(|l| (l.line, l.column))
    }

    #[test]
    fn values_stand_where_they_are_written() {
        let text = "a: 1\nb:\n  - x\n  - {c: [1, 2], d: ü}\n? [k]\n: 3\ne: &e {f: 5}\ng: *e\n";
        assert_eq!(at(text, &[]), Some((1, 1)));
        assert_eq!(at(text, &["a".into()]), Some((1, 4)));
        assert_eq!(at(text, &["b".into(), 1.into(), "c".into(), 1.into()]), Some((4, 13)));
        assert_eq!(at(text, &["b".into(), 1.into(), "d".into()]), Some((4, 20)));
        assert_eq!(at(text, &["g".into(), "f".into()]), at(text, &["e".into(), "f".into()]));
        assert_eq!(at(text, &["b".into(), 7.into()]), None);
        assert_eq!(at(text, &["a".into(), "b".into()]), None);
        assert_eq!(Positions::of(text).line(text, 3), Some("  - x"));
        assert_eq!(Positions::of(text).line(text, 99), None);
    }

    #[test]
    fn what_is_no_yaml_has_the_positions_before_it() {
        for text in
            ["", "a: [", "a: 1\nb: }", "*x", "- a\n- *b\n", "%YAML 3.0\n", "\u{0}", "&a [*a]"]
        {
            let _ = Positions::of(text).locate(&["a".into(), 0.into()]);
        }
        assert_eq!(at("a: 1\nb: }", &["a".into()]), Some((1, 4)));
    }
}
