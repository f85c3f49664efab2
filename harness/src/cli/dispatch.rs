//! What each command does.

use super::{bench, lab, run, show};
use crate::{
    cli::{
        args::{Cli, Command, exit},
        signals,
    },
    machine::setup::{self, Consent},
    run::{Changed, log},
    spec::SpecError,
};
use anyhow::Result;
use limosa_lab::{
    engine,
    errors::{NotReady, Usage},
    journal,
    lab::descriptors,
    owner,
};
use limosa_record::{fault, text};
use rustix::fs::Mode;
use std::{env, ffi::OsString, io, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// The rights of group and others to write.
const OTHERS_WRITE: Mode = Mode::WGRP.union(Mode::WOTH);

/// Carries out a command and prints what went wrong.
pub fn dispatch(cli: Cli) -> ExitCode {
    // The last line of a node's log is the reason of its end.
    let is_node = matches!(cli.command, Command::Node { .. });
    if rustix::process::geteuid().is_root() {
        // Whatever the umask is, nobody else writes to what root makes.
        let before = rustix::process::umask(OTHERS_WRITE);
        rustix::process::umask(before | OTHERS_WRITE);
    }
    let done = fault::check().map_err(anyhow::Error::msg).and_then(|()| carry_out(cli));
    owner::give_back();
    match done {
        Ok(code) => code.into(),
        Err(error) => {
            let code = exit_code(&error);
            tell!("error: {}", chain(&error));
            if disk_is_full(&error) && !is_node {
                tell!(
                    "  hint: make room and go on with --resume, or put the results elsewhere with --out"
                );
            }
            if code == exit::BUG && !is_node && env::var_os("RUST_BACKTRACE").is_some() {
                tell!("{}", error.backtrace());
            }
            code.into()
        }
    }
}

/// Says what is wrong with the command line, or what was asked about it. A file's name among the words
/// may be a stranger's.
pub fn refuse(wrong: &clap::Error) -> ExitCode {
    let text = wrong.render().to_string();
    if text.chars().any(|c| text::is_hidden(c) && c != '\n') {
        tell!("{}", text.trim_end());
    } else {
        // In colours, where the terminal has them.
        let _ = wrong.print();
    }
    u8::try_from(wrong.exit_code()).unwrap_or(exit::USAGE).into()
}

pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<SpecError>().is_some() || error.is::<Changed>() {
        exit::BAD_FILE
    } else if error.is::<Usage>() {
        exit::USAGE
    } else if error.downcast_ref::<NotReady>().is_some() || disk_is_full(error) {
        exit::NOT_READY
    } else {
        exit::BUG
    }
}

pub(super) fn disk_is_full(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let kinds = error.chain().filter_map(|e| e.downcast_ref::<io::Error>());
    kinds.map(io::Error::kind).any(|kind| matches!(kind, StorageFull | QuotaExceeded))
}

/// The error, then its causes, one per line.
pub(super) fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    text
}

pub(super) fn carry_out(cli: Cli) -> Result<u8> {
    // The runtime of asynchronous code does not survive that there are too few.
    descriptors::enough_to_start()?;
    // A node has a log of its own.
    if !matches!(cli.command, Command::Node { .. } | Command::Probe) {
        log_to_stderr(cli.verbose);
    }
    match cli.command {
        Command::Doctor { file, json } => show::doctor(file.as_deref(), json),
        Command::Setup { files } => {
            let plans = files.iter().map(|file| show::load(file, None));
            let plans = plans.collect::<Result<Vec<_>, _>>()?;
            let programs = || plans.iter().try_for_each(setup::programs::get);
            programs().map_err(|e| NotReady(format!("{e:#}")))?;
            let all = setup::tools().and_then(|()| setup::setup(Consent::Given));
            all.map_err(|e| NotReady(format!("{e:#}")))?;
            // Whether a criu works shows only when a process is moved, which only root may do.
            become_root()?;
            let hint = "runs in a guest work without it";
            run::get_criu().map_err(|e| NotReady(format!("{e:#}\n  hint: {hint}")))?;
            Ok(exit::OK)
        }
        Command::Plan { file, links, json } => show::plan(&file, links, json),
        Command::Run(args) => run::run(&args, cli.verbose),
        Command::Demo => run::demo(cli.verbose),
        Command::Report { run_dirs, json } => {
            signals::end_at_once()?;
            show::report(&run_dirs, json)
        }
        Command::Up { topology, name, links } => lab::up(&topology, name.as_deref(), links),
        Command::Exec { lab, node, command } => lab::exec(&lab, &node, &command),
        Command::Inspect { lab, json } => lab::inspect(&lab, json),
        Command::Down { lab } => lab::down(&lab),
        Command::Clean => lab::clean(),
        Command::Undo => {
            journal::clean_quietly();
            Ok(exit::INTERRUPTED)
        }
        Command::Bench { only, json } => bench::bench(only.as_deref(), json),
        Command::Schema { format } => show::schema(format),
        Command::Probe => {
            limosa_nodes::probe::stand_by()?;
            Ok(exit::OK)
        }
        Command::Engine => {
            engine::carry()?;
            Ok(exit::OK)
        }
        Command::Keep { home } => {
            runtime()?.block_on(limosa_lab::lab::keeper::keep(&home))?;
            Ok(exit::OK)
        }
        Command::Node { config } => {
            limosa_nodes::run(&config)?;
            Ok(exit::OK)
        }
    }
}

/// Warnings, or more with `-v`, or what `RUST_LOG` says.
pub(super) fn log_to_stderr(verbose: u8) {
    let level = ["limosa=warn", "limosa=info", "limosa=debug"][usize::from(verbose.min(2))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| log::Both)
        .init();
}

/// Starts this very command again through sudo when it needs root and has none.
pub(super) fn become_root() -> Result<()> {
    use std::os::unix::process::CommandExt;
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    tell!("this needs root: asking sudo");
    let error = std::process::Command::new("sudo")
        .arg(format!("--preserve-env={}", kept_by_sudo(env::vars_os().map(|(name, _)| name))))
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .exec();
    Err(NotReady(format!("cannot start sudo: {error}\n  hint: run it as root")).into())
}

/// The variables that Limosa obeys, by name; sudo would drop them without a word.
pub(super) fn kept_by_sudo(names: impl Iterator<Item = OsString>) -> String {
    const KEPT: &[&str] = &[
        "PATH",
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "RUST_LOG",
        "RUST_BACKTRACE",
        "NO_COLOR",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ];
    let mut kept: Vec<String> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| KEPT.contains(&&**name) || name.starts_with("LIMOSA_"))
        .collect();
    kept.sort();
    kept.join(",")
}

/// One thread for everything: node processes do the work.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn what_limosa_obeys_goes_through_sudo() {
        let names = ["LIMOSA_CRIU", "LESS", "TMPDIR", "LIMOSA_DEBIAN_MIRROR", "LD_PRELOAD"];
        let kept = kept_by_sudo(names.iter().map(OsString::from));
        assert_eq!(kept, "LIMOSA_CRIU,LIMOSA_DEBIAN_MIRROR,TMPDIR");
    }

    #[test]
    fn a_full_disk_is_the_machines_fault() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = Err::<(), _>(full).context("write trials.csv").unwrap_err();
        assert_eq!(exit_code(&error), exit::NOT_READY);
        assert_eq!(exit_code(&anyhow::anyhow!("odd")), exit::BUG);
    }
}
