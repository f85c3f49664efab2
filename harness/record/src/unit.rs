//! Quantities as users write them: `25ms`, `100Mbit/s`, `400KiB`, `1.5%`. Never bare numbers.
//!
//! Each type holds one integer or ratio in its base unit, reads and prints the same text, and
//! refuses what it cannot hold exactly. Decimal prefixes are powers of 1000 (`KB`), binary ones
//! powers of 1024 (`KiB`), as in IEC 80000-13. Rates are read as tc writes them, too (`40mbit`);
//! units that mean one thing in tc and another elsewhere are refused with both meanings.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// A span of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

/// A data rate in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(pub u64);

/// An amount of data in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// A share from 0 to 1, written in per cent.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(pub f64);

const TIME_UNITS: &[(&str, u64)] = &[
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const RATE_UNITS: &[(&str, u64)] =
    &[("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000), ("bit/s", 1)];
/// tc's units of rates that mean the same everywhere.
const TC_RATE_UNITS: &[(&str, u64)] =
    &[("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];
const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl Time {
    /// The span in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The span as the standard library's type.
    pub fn as_duration(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0)
    }

    /// A span of whole microseconds.
    pub const fn from_micros(us: u64) -> Self {
        Self(us * 1_000)
    }

    /// A span of whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// A span of whole seconds.
    pub const fn from_secs(s: u64) -> Self {
        Self(s * 1_000_000_000)
    }
}

/// What to write for a unit that others have, and that is none here.
fn instead_of(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "sec" | "secs" | "second" | "seconds" => "write `s`",
        "msec" | "msecs" => "write `ms`",
        "usec" | "usecs" | "µs" | "μs" => "write `us`",
        "m" | "min." | "minute" | "minutes" => "write `min` for minutes",
        "bps" | "kbps" | "mbps" | "gbps" | "tbps" => {
            "in tc it counts bytes, elsewhere bits; write `Mbit/s` or `kbit/s`"
        }
        "Kbps" | "Mbps" | "Gbps" | "Kb/s" | "kb/s" | "Mb/s" | "Gb/s" => {
            "write `kbit/s`, `Mbit/s` or `Gbit/s`"
        }
        "B/s" | "kB/s" | "KB/s" | "MB/s" | "GB/s" | "KiB/s" | "MiB/s" | "GiB/s" => {
            "rates are in bits; write `Mbit/s`, with eight times the number"
        }
        "k" | "kb" | "kB" | "K" | "Kb" => {
            "in tc it is 1024 bytes, elsewhere 1000; write `KiB` or `KB`"
        }
        "mb" | "M" | "Mb" => "in tc it is 1048576 bytes, elsewhere 1000000; write `MiB` or `MB`",
        "g" | "gb" | "G" | "Gb" => "in tc it is 2^30 bytes, elsewhere 10^9; write `GiB` or `GB`",
        "b" | "byte" | "bytes" => "write `B` for bytes",
        _ => return None,
    })
}

/// Splits `12.5ms` and multiplies without rounding: the product must be whole in base units.
fn parse(
    text: &str,
    units: &[(&str, u64)],
    others: &[(&str, u64)],
    what: &str,
    example: &str,
) -> Result<u64, String> {
    let names = || units.iter().map(|u| u.0).collect::<Vec<_>>().join(", ");
    let number_len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..number_len], text[number_len..].trim_start());
    if number.is_empty() {
        let why =
            if text.starts_with('-') { "is negative" } else { "does not start with a number" };
        return Err(format!("`{text}` {why}: write {what} like `{example}`"));
    }
    if unit.is_empty() {
        return Err(format!("`{text}` has no unit: write {what} like `{example}`"));
    }
    let Some(&(_, factor)) = units.iter().chain(others).find(|u| u.0 == unit) else {
        let why = instead_of(unit).map_or(String::new(), |instead| format!(" ({instead})"));
        return Err(format!(
            "`{text}` has the unknown unit `{unit}`{why}: {what} takes {}",
            names()
        ));
    };
    let bad = || format!("`{number}` in `{text}` is not a number");
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(bad());
    }
    let too_large = || format!("`{text}` is too large");
    let fraction = fraction.trim_end_matches('0');
    let scale = u32::try_from(fraction.len()).ok().and_then(|n| 10u128.checked_pow(n));
    let scale = scale.filter(|_| fraction.len() < 19).ok_or_else(bad)?;
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_large())? };
    let fraction: u128 =
        if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| bad())? };
    let scaled = whole.checked_mul(scale).and_then(|w| w.checked_add(fraction));
    let product = scaled.and_then(|s| s.checked_mul(factor.into())).ok_or_else(too_large)?;
    if product % scale != 0 {
        let base = units[units.len() - 1].0;
        return Err(format!("`{text}` is not a whole number of {base}"));
    }
    u64::try_from(product / scale).ok().filter(|v| *v <= i64::MAX as u64).ok_or_else(too_large)
}

/// The largest unit that leaves a whole number.
fn print(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let smallest = units[units.len() - 1];
    let (unit, factor) =
        units.iter().find(|u| value != 0 && value.is_multiple_of(u.1)).unwrap_or(&smallest);
    write!(f, "{}{unit}", value / factor)
}

macro_rules! quantity {
    ($type:ident, $units:ident, $others:expr, $what:literal, $example:literal) => {
        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                parse(text, $units, $others, $what, $example).map(Self)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(f, self.0, $units)
            }
        }
        text_serde!($type, $what, $example);
    };
}

/// Serde and JSON schema through the text form; errors come from the visitor so that the YAML
/// reader can add the exact position.
macro_rules! text_serde {
    ($type:ident, $what:literal, $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, concat!($what, " with its unit, like `", $example, "`"))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                d.deserialize_any(Text)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": concat!($what, " with its unit, like `", $example, "`"),
                    "examples": [$example],
                })
            }
        }
    };
}

quantity!(Time, TIME_UNITS, &[], "a time", "25ms");
quantity!(Rate, RATE_UNITS, TC_RATE_UNITS, "a rate", "100Mbit/s");
quantity!(Size, SIZE_UNITS, &[], "a size", "400KiB");
text_serde!(Ratio, "a share", "1.5%");

impl FromStr for Ratio {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(number) = text.strip_suffix('%') else {
            return Err(format!("`{text}` has no unit: write a share like `1.5%`"));
        };
        let number = number.trim_end();
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match number.parse::<f64>() {
            Ok(percent) if plain && (0.0..=100.0).contains(&percent) => Ok(Self(percent / 100.0)),
            Ok(_) => Err(format!("`{text}` is not between 0% and 100%")),
            Err(_) => Err(format!("`{number}` in `{text}` is not a number")),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Twelve digits hide the rounding of /100 and ×100 and keep what anyone would write.
        let percent = format!("{:.12}", self.0 * 100.0);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{percent}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!("25ms".parse(), Ok(Time(25_000_000)));
        assert_eq!("0.5 s".parse(), Ok(Time(500_000_000)));
        assert_eq!("100Mbit/s".parse(), Ok(Rate(100_000_000)));
        for tc in ["40mbit", "40000kbit", "0.04gbit", "40000000bit"] {
            assert_eq!(tc.parse(), Ok(Rate(40_000_000)), "{tc}");
        }
        assert_eq!("400KiB".parse(), Ok(Size(409_600)));
        assert_eq!("100MB".parse(), Ok(Size(100_000_000)));
        assert_eq!("1.5%".parse::<Ratio>().unwrap().to_string(), "1.5%");
        assert_eq!(Time(1_500_000_000).to_string(), "1500ms");
    }

    #[test]
    fn says_what_is_wrong() {
        let time = |t: &str| t.parse::<Time>().unwrap_err();
        assert_eq!(time("25"), "`25` has no unit: write a time like `25ms`");
        assert_eq!(
            time("20mss"),
            "`20mss` has the unknown unit `mss`: a time takes h, min, s, ms, us, ns"
        );
        let rate = |t: &str| t.parse::<Rate>().unwrap_err();
        assert_eq!(
            rate("5mbps"),
            "`5mbps` has the unknown unit `mbps` (in tc it counts bytes, elsewhere bits; write \
             `Mbit/s` or `kbit/s`): a rate takes Gbit/s, Mbit/s, kbit/s, bit/s"
        );
        let size = |t: &str| t.parse::<Size>().unwrap_err();
        assert!(
            size("400kb").contains("in tc it is 1024 bytes, elsewhere 1000"),
            "{}",
            size("4kb")
        );
        assert!(time("2sec").contains("(write `s`)"));
        assert_eq!(time("-5ms"), "`-5ms` is negative: write a time like `25ms`");
        assert_eq!(time("0.5ns"), "`0.5ns` is not a whole number of ns");
        assert_eq!(time("99999999999999999999h"), "`99999999999999999999h` is too large");
        assert_eq!(time("1.2.3s"), "`1.2.3` in `1.2.3s` is not a number");
        assert_eq!("101%".parse::<Ratio>().unwrap_err(), "`101%` is not between 0% and 100%");
        assert_eq!("inf%".parse::<Ratio>().unwrap_err(), "`inf%` is not between 0% and 100%");
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(v in 0..i64::MAX as u64, p in 0u32..=1_000_000) {
            prop_assert_eq!(Time(v).to_string().parse::<Time>(), Ok(Time(v)));
            prop_assert_eq!(Rate(v).to_string().parse::<Rate>(), Ok(Rate(v)));
            prop_assert_eq!(Size(v).to_string().parse::<Size>(), Ok(Size(v)));
            let ratio = Ratio(f64::from(p) / 1e6);
            let again: Ratio = ratio.to_string().parse().unwrap();
            prop_assert!((again.0 - ratio.0).abs() < 1e-12);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = (text.parse::<Time>(), text.parse::<Rate>());
            let _ = (text.parse::<Size>(), text.parse::<Ratio>());
        }
    }
}
