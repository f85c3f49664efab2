//! The `limosa` program.

use clap::{ColorChoice, CommandFactory, FromArgMatches};
use limosa::{cli::Cli, command, guest};
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    // Inside a guest this program is also what starts the command and carries its output.
    if let Some(code) = guest::agent::run_if_asked() {
        return code;
    }
    command::dispatch(parse())
}

/// Help and errors have colours on a terminal, unless that is not wanted (no-color.org).
fn parse() -> Cli {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let plain = unwanted || env::args_os().any(|word| word == "--no-color");
    let color = if plain { ColorChoice::Never } else { ColorChoice::Auto };
    let mut command = Cli::command().color(color);
    let matches = command.get_matches_mut();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}
