//! The `limosa` program.

use clap::{ColorChoice, CommandFactory, FromArgMatches};
use limosa::{
    cli::{args::Cli, dispatch},
    machine::guest,
};
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    // Inside a guest this program is also what starts the command and carries its output.
    if let Some(code) = guest::agent::run_if_asked() {
        return code;
    }
    match parse() {
        Ok(cli) => dispatch::dispatch(cli),
        Err(wrong) => dispatch::refuse(&wrong),
    }
}

/// Help and errors have colours on a terminal, unless that is not wanted (no-color.org).
fn parse() -> Result<Cli, clap::Error> {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let plain = unwanted || env::args_os().any(|word| word == "--no-color");
    let color = if plain { ColorChoice::Never } else { ColorChoice::Auto };
    let mut command = Cli::command().color(color);
    let matches = command.try_get_matches_from_mut(env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}
