//! The `limosa` program.

use clap::Parser;
use limosa::{cli::Cli, command, guest};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Inside a guest this program is also what starts the command and carries its output.
    if let Some(code) = guest::agent::run_if_asked() {
        return code;
    }
    command::dispatch(Cli::parse())
}
