//! Names that users give and that become parts of paths.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{borrow::Cow, fmt, ops::Deref, path::Path};

/// Longest name, in bytes.
const MAX_BYTES: usize = 64;

/// Longest name of an experiment, in bytes. It has a folder of its own.
const MAX_STEM_BYTES: usize = 128;

/// What has a name of its own among the files of a trial, and the name.
const TAKEN: [(&str, &str); 10] = [
    ("arrived", "images that came through the network"),
    ("body", "the body of a download"),
    ("calibration.csv", "the rows of the idle network"),
    ("caught.pcap", "what an attacker has caught"),
    ("criu", "CRIU's logs"),
    ("dnsmasq", "the DNS server's logs"),
    ("engine.log", "the link engine's log"),
    ("harness", "the harness' own events"),
    ("images", "the images of checkpoints"),
    ("machine.json", "the machine's readings"),
];

/// What the folders of a `migrate` begin with; a number follows.
const MOVE: &str = "migrate-";

/// A name of something that has a folder in a trial: of images, or of a copy. It is one plain
/// component of a path, and nothing else there has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl PartialEq<String> for Name {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Name, E> {
                check_free(name).and_then(|()| check(name)).map_err(E::custom)?;
                Ok(Name(name.into()))
            }
        }
        d.deserialize_str(Visitor)
    }
}

impl JsonSchema for Name {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"})
    }
}

/// Letters, digits, `-` and `_`, starting with a letter or digit, 64 at most.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let good = name.len() <= MAX_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain);
    if good {
        Ok(())
    } else {
        Err(format!(
            "`{name}` cannot be a name: letters, digits, `-` and `_`, {MAX_BYTES} at most, and a letter or digit first"
        ))
    }
}

/// Whether nothing of Limosa's own has this name among the files of a trial.
///
/// # Errors
/// What has it.
pub fn check_free(name: &str) -> Result<(), String> {
    let number = name.strip_prefix(MOVE).filter(|rest| !rest.is_empty());
    let of_move = number.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let owner = TAKEN.iter().find(|(taken, _)| *taken == name).map(|(_, owner)| *owner);
    match owner.or(of_move.then_some("the images of a `migrate`")) {
        None => Ok(()),
        Some(owner) => Err(format!("the name `{name}` is taken by {owner}")),
    }
}

/// The name of an experiment: that of its file without the ending. Its results have a folder of this
/// name.
///
/// # Errors
/// What is wrong with it.
pub fn of_file(path: &Path) -> Result<String, String> {
    let name = path.file_stem().unwrap_or_default();
    let Some(name) = name.to_str() else {
        return Err("its name is not UTF-8 text, and its results get a folder of that name".into());
    };
    let first = |c: char| c.is_alphanumeric() || c == '_';
    let harmless = |c: char| !limosa_record::text::is_hidden(c) && c != '/';
    if name == "latest" {
        return Err("the name `latest` is taken by the link to the newest results".into());
    }
    if name.len() <= MAX_STEM_BYTES && name.starts_with(first) && name.chars().all(harmless) {
        return Ok(name.into());
    }
    Err(format!(
        "`{name}` cannot be an experiment's name: a letter or digit first, no control characters, {MAX_STEM_BYTES} bytes at most"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_part_of_a_path() {
        for good in ["a", "image", "server-new", "9_x", &"x".repeat(64)] {
            check(good).unwrap();
        }
        let odd = ["", ".", "..", "a/b", "/etc", "-x", "_x", "a b", "a\n", "ä", "a.b", "\u{202e}a"];
        for bad in odd.iter().copied().chain([&*"x".repeat(65)]) {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_taken_says_by_what() {
        assert_eq!(
            check_free("engine.log").unwrap_err(),
            "the name `engine.log` is taken by the link engine's log"
        );
        assert!(check_free("migrate-12").unwrap_err().ends_with("the images of a `migrate`"));
        for free in ["migrate", "migrate-", "migrate-x", "image", "server"] {
            check_free(free).unwrap();
        }
    }

    #[test]
    fn an_experiment_has_a_folder_of_its_own() {
        let of = |file: &str| of_file(Path::new(file));
        assert_eq!(of("x/nakano-2025.yaml").unwrap(), "nakano-2025");
        assert_eq!(of("my first.v2.yaml").unwrap(), "my first.v2");
        for bad in ["...yaml", "..yaml", "latest.yaml", "=x.yaml", "-x.yaml", "a\u{1b}[2J.yaml", ""]
        {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
