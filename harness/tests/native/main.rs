//! Labs and trials on the kernel that runs the tests, with links in user space and a criu that works
//! here: what a user gets on a machine without netem.
//!
//! Everything here needs root and /dev/net/tun and is marked `ignore`; one test runs all of it as
//! root, one after the other.

mod commands;
#[path = "../guest/criu.rs"]
mod criu;
mod crowd;
mod faults;
mod follow;
mod handover;
mod isolation;
mod kills;
mod labs;
mod lookup;
mod luck;
mod machine;
mod moves;
mod mptcp;
mod push;
mod roaming;
mod room;
mod security;
mod signals;
mod soak;
mod trials;

use limosa_record::dir::RunDir;
use machine::{limosa, text};
use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

/// What carries shaped links here, whatever the kernel has.
const LINKS: &str = "user";

#[test]
fn this_kernel_runs_experiments() {
    let this = env::current_exe().expect("this program");
    let root = rustix::process::geteuid().is_root();
    let mut command = if root { Command::new(&this) } else { Command::new("sudo") };
    if !root {
        command.args(["-n", "-E"]).arg(&this);
    }
    let status = command.args(["--ignored", "--test-threads=1"]).status().expect("run this again");
    assert!(status.success(), "the tests above failed, or root is out of reach");
}

/// Runs an experiment on this kernel with links in user space, as a user starts it, in a folder
/// where also everything temporary goes.
fn run(folder: &Path, name: &str, experiment: &str) -> (Output, RunDir) {
    run_with(folder, name, experiment, &[])
}

/// The same with further arguments.
fn run_with(folder: &Path, name: &str, experiment: &str, more: &[&str]) -> (Output, RunDir) {
    let file = format!("{name}.yaml");
    fs::write(folder.join(&file), experiment).expect("write the experiment");
    let output = limosa()
        .args(["run", &file, "--on", "host", "--links", LINKS])
        .args(more)
        .current_dir(folder)
        .env("TMPDIR", folder)
        .output()
        .expect("start limosa");
    (output, RunDir::new(folder.join("results").join(name).join("latest")))
}
