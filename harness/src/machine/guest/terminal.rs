//! What the inner limosa has to know of the host's terminal, since it only sees pipes.
//!
//! Input: this process's standard error. Output: environment variables: `LIMOSA_TTY=1` when it is a terminal, `COLUMNS`,
//! `TERM`, `NO_COLOR`.

use std::collections::BTreeMap;
use std::io::IsTerminal;

/// Variables that are handed on as they are.
const HANDED_ON: &[&str] = &["TERM", "NO_COLOR", "RUST_LOG", "RUST_BACKTRACE", "TZ"];

/// The environment that every command in the guest gets.
pub(super) fn environment() -> BTreeMap<String, String> {
    let stderr = std::io::stderr();
    let columns = rustix::termios::tcgetwinsize(&stderr).ok();
    environment_of(stderr.is_terminal(), columns.map(|size| size.ws_col), |name| {
        std::env::var(name).ok()
    })
}

fn environment_of(
    is_terminal: bool,
    columns: Option<u16>,
    host: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set(
        "PATH",
        "/run/limosa/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    );
    set("HOME", "/root".to_owned());
    set("LANG", "C.UTF-8".to_owned());
    set("LIMOSA_GUEST", "1".to_owned());
    for name in HANDED_ON {
        if let Some(value) = host(name) {
            set(name, value);
        }
    }
    if is_terminal {
        set("LIMOSA_TTY", "1".to_owned());
    }
    if let Some(columns) = columns.filter(|columns| *columns > 0) {
        set("COLUMNS", columns.to_string());
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_announced_with_its_width() {
        let env = environment_of(true, Some(90), |_| None);
        assert_eq!(env.get("LIMOSA_TTY").map(String::as_str), Some("1"));
        assert_eq!(env.get("COLUMNS").map(String::as_str), Some("90"));
    }

    #[test]
    fn no_terminal_no_width_and_nothing_else_of_the_host() {
        let env = environment_of(false, None, |name| (name == "TERM").then(|| "dumb".into()));
        assert!(!env.contains_key("LIMOSA_TTY") && !env.contains_key("COLUMNS"));
        assert_eq!(env.get("TERM").map(String::as_str), Some("dumb"));
        assert_eq!(env.get("HOME").map(String::as_str), Some("/root"));
    }
}
