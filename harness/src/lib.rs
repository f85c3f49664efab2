//! Limosa, an emulation testbed for server migration over QUIC: the harness.
//!
//! `spec` reads what the user wrote, `plan` decides everything, `sys` speaks to the kernel, and
//! the rest runs the experiment. See README.md for the whole picture.

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
        crate::log::note(&line);
        let _ = writeln!(std::io::stderr(), "{line}");
    }};
}

pub mod action;
pub mod bench;
pub mod cache;
pub mod calibrate;
pub mod capture;
pub mod certificate;
pub mod cli;
pub mod command;
pub mod debian;
pub mod dnsmasq;
pub mod doctor;
pub mod engine;
pub mod errors;
pub mod folders;
pub mod guest;
pub mod interrupt;
pub mod journal;
pub mod lab;
pub mod log;
pub mod manifest;
pub mod model;
pub mod node;
pub mod owner;
pub mod plan;
pub mod private;
pub mod progress;
pub mod run;
pub mod setup;
pub mod source;
pub mod spec;
pub mod steps;
pub mod sys;
pub mod timeline;
pub mod transfer;
pub mod trial;
pub mod verdict;
