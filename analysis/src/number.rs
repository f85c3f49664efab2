//! Numbers as people read them: digits that mean something, units, plurals.

/// "1 row", "2 rows".
pub(crate) fn count(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// Seconds with as many decimals as a reader can use.
pub(crate) fn seconds(s: f64) -> String {
    let decimals = match s.abs() {
        a if a >= 1000.0 => 0,
        a if a >= 100.0 => 1,
        a if a >= 0.1 || a == 0.0 => 2,
        _ => 3,
    };
    plain(format!("{s:.decimals$}"), s)
}

/// Seconds as milliseconds, for what is much shorter than a second.
pub(crate) fn milliseconds(s: f64) -> String {
    plain(format!("{:.1}", s * 1e3), s)
}

/// A number of anything, without decimals where it has none.
pub(crate) fn amount(x: f64) -> String {
    plain(if x.fract() == 0.0 { format!("{x:.0}") } else { format!("{x:.2}") }, x)
}

/// A ratio's distance from one, with its sign.
pub(crate) fn percent(ratio: f64) -> String {
    plain(format!("{:+.1}", ratio * 100.0), ratio) + " %"
}

/// Bytes in decimal units.
pub(crate) fn bytes(b: f64) -> String {
    let (unit, name) = match b {
        b if b >= 1e9 => (1e9, "GB"),
        b if b >= 1e6 => (1e6, "MB"),
        b if b >= 1e3 => (1e3, "kB"),
        _ => (1.0, "B"),
    };
    format!("{} {name}", amount((b / unit * 100.0).round() / 100.0))
}

fn plain(text: String, x: f64) -> String {
    // Odd files may hold 1e300, whose 300 digits would tear any table apart.
    let text = if x.abs() >= 1e7 { format!("{x:.2e}") } else { text };
    let zero = !text.contains(|c: char| c.is_ascii_digit() && c != '0');
    if zero { text.replace('-', "") } else { text.replace('-', "\u{2212}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        assert_eq!(
            [62.724, 109.28, 0.0513, 0.0, -3.0].map(seconds),
            ["62.72", "109.3", "0.051", "0.00", "\u{2212}3.00"]
        );
        assert_eq!(seconds(-1e-9), "0.000");
        assert_eq!(milliseconds(0.114_72), "114.7");
        assert_eq!([0.015, -0.02].map(percent), ["+1.5 %", "\u{2212}2.0 %"]);
        assert_eq!([1e8, 1_234.0, 12.0].map(bytes), ["100 MB", "1.23 kB", "12 B"]);
        assert_eq!(
            (amount(1e300), amount(2.0), amount(0.25)),
            ("1.00e300".into(), "2".into(), "0.25".into())
        );
        assert_eq!((count(1, "row"), count(0, "row")), ("1 row".into(), "0 rows".into()));
    }
}
