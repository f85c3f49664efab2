//! The command line: words to calls, errors to messages and exit codes.

use crate::{run::Jobs, spec::Links};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Exit codes that scripts rely on.
pub mod exit {
    /// All went well.
    pub const OK: u8 = 0;
    /// A fault of Limosa itself.
    pub const BUG: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// A topology or experiment file is wrong.
    pub const BAD_FILE: u8 = 3;
    /// The machine lacks something.
    pub const NOT_READY: u8 = 4;
    /// Some trial failed.
    pub const TRIAL_FAILED: u8 = 5;
    /// The user interrupted it.
    pub const INTERRUPTED: u8 = 130;
}

/// An emulation testbed for server migration over QUIC.
///
/// Builds a network of Linux namespaces, runs QUIC servers and clients in it, moves a running
/// server to another host with CRIU, and writes what the clients felt as CSV files and a report.
#[derive(Debug, Parser)]
#[command(
    name = "limosa",
    version,
    help_expected = true,
    after_help = "Start with `limosa demo`. Exit codes: 0 ok, 1 bug, 2 usage, 3 bad file, \
                  4 machine not ready, 5 some trial failed, 130 interrupted."
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Say more about what happens (twice: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No colours in help and errors, as with NO_COLOR
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what this machine can and cannot do, with the fix for each
    Doctor {
        /// Only what this experiment needs
        file: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Get what is missing: distribution packages, guest image, CRIU
    Setup {
        /// Experiments whose programs are got, too
        files: Vec<PathBuf>,
    },
    /// Show what would happen; needs no root and touches nothing
    Plan {
        /// The experiment
        file: PathBuf,
        /// What carries shaped links, instead of the file's
        #[arg(long, value_enum)]
        links: Option<Links>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run experiments
    Run(RunArgs),
    /// Set up everything, run experiments/quickstart.yaml and say where to look
    Demo,
    /// Make tables, figures and report.html of finished runs again
    Report {
        /// Run directories
        #[arg(required = true)]
        run_dirs: Vec<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Build a lab from a topology and leave it up
    Up {
        /// The topology
        topology: PathBuf,
        /// Name of the lab; the topology's file name when left out
        #[arg(long)]
        name: Option<String>,
        /// What carries shaped links
        #[arg(long, value_enum, default_value_t)]
        links: Links,
    },
    /// Run a command in a node of a lab
    Exec {
        /// Name of the lab
        lab: String,
        /// Name of the node
        node: String,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show a lab: nodes, addresses, links, counters
    Inspect {
        /// Name of the lab
        lab: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a lab
    Down {
        /// Name of the lab
        lab: String,
    },
    /// Remove what dead runs of Limosa left, and nothing else
    Clean,
    /// Measure how fast and how true this machine emulates
    Bench {
        /// Only figures whose name contains this, as `criu_`
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of topologies or experiments
    #[command(hide = true)]
    Schema {
        /// Which one
        format: Format,
    },
    /// Be a node that does nothing (to find out whether CRIU works)
    #[command(hide = true)]
    Probe,
    /// Undo what this process had begun when it was interrupted, and end with 130
    #[command(hide = true)]
    Undo,
    /// Carry packets between TAP devices (started by the harness)
    #[command(hide = true)]
    Engine,
    /// Hold a lab with links in user space (started by `up`)
    #[command(hide = true)]
    Keep {
        /// The lab's folder
        home: PathBuf,
    },
    /// Be a node (started by the harness)
    #[command(hide = true)]
    Node {
        /// Its configuration
        config: PathBuf,
    },
}

/// The two file formats.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// `topologies/*.yaml`
    Topology,
    /// `experiments/*.yaml`
    Experiment,
}

/// Arguments of `limosa run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The experiments
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Repetitions, instead of the file's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: Option<u32>,
    /// Only this variant (may be given several times)
    #[arg(long, value_name = "VARIANT")]
    pub only: Vec<String>,
    /// Trials at the same time, or `auto`: as many as the machine carries
    #[arg(long, value_name = "N|auto", default_value_t = Jobs::Fixed(1))]
    pub jobs: Jobs,
    /// Go on with the latest run of this experiment
    #[arg(long)]
    pub resume: bool,
    /// Where: this kernel, a guest with a stock kernel, or whichever can do it
    #[arg(long, value_enum, default_value_t = On::Auto)]
    pub on: On,
    /// What carries shaped links: the kernel's netem, user space, or whichever can do it
    #[arg(long, value_enum)]
    pub links: Option<Links>,
    /// Start programs that an experiment names in a `command`, as root
    #[arg(long)]
    pub allow_commands: bool,
    /// Install what the guest needs without asking
    #[arg(long)]
    pub yes: bool,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub out: PathBuf,
    /// The run directory that the outer Limosa has made
    #[arg(long, hide = true)]
    pub into: Option<PathBuf>,
}

/// Where a run takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// The host when it has everything that the plan needs, else the guest
    Auto,
    /// This machine's kernel
    Host,
    /// A stock Debian kernel in QEMU
    Guest,
}
