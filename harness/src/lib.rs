//! Limosa, an emulation testbed for server migration over QUIC: the harness.
//!
//! `spec` reads what the user wrote, `plan` decides everything, `sys` speaks to the kernel, and
//! the rest runs the experiment. See README.md for the whole picture.

/// A line on standard output. Whoever reads it may have gone, as `head` does: that is no error.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

/// A line on standard error, whose terminal may have been closed: a run has more to do then than to
/// tell of it.
macro_rules! tell {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let line = format!($($line)*);
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
pub mod guest;
pub mod interrupt;
pub mod journal;
pub mod lab;
pub mod log;
pub mod manifest;
pub mod model;
pub mod node;
pub mod plan;
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
