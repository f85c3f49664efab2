//! Limosa, an emulation testbed for server migration over QUIC: the harness.
//!
//! `spec` reads what the user wrote and `plan` decides everything; `trial` makes one trial on this
//! kernel, `run` repeats it, `machine` knows what the machine has, and `cli` speaks with the user.
//! Networks are the crate `limosa-lab`'s. See harness/README.md for the whole picture.

/// A line on standard output, without anything that a terminal would obey. Whoever reads it may have
/// gone, as `head` does: that is no error.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let line = limosa_record::text::line(format_args!($($line)*));
        let _ = writeln!(std::io::stdout(), "{line}");
    }};
}

/// A value as JSON on standard output.
macro_rules! say_json {
    ($value:expr) => {{
        let value: &serde_json::Value = $value;
        say!("{}", limosa_record::text::json(&format!("{value:#}")));
    }};
}

/// A line on standard error, likewise. Its terminal may have been closed: a run has more to do then
/// than to tell of it.
macro_rules! tell {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let line = limosa_record::text::line(format_args!($($line)*));
        crate::run::log::note(&line);
        let _ = writeln!(std::io::stderr(), "{line}");
    }};
}

pub mod cli;
pub mod machine;
pub mod plan;
pub mod run;
pub mod spec;
pub mod trial;
