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
use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
    sync::Once,
};

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

/// The program, to be started on a machine that has what it needs, also when that has just been made:
/// a criu that works, rsync and dnsmasq. So no test depends on those before it, and a fault meets a
/// run and not the search for a criu.
fn limosa() -> Command {
    static SET_UP: Once = Once::new();
    SET_UP.call_once(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("start a runtime").block_on(criu::criu());
        ::limosa::setup::tools().expect("get rsync and dnsmasq");
    });
    Command::new(env!("CARGO_BIN_EXE_limosa"))
}

/// The same with further arguments.
fn run_with(folder: &Path, name: &str, experiment: &str, more: &[&str]) -> (Output, RunDir) {
    let file = format!("{name}.yaml");
    fs::write(folder.join(&file), experiment).expect("write the experiment");
    let output = limosa()
        .args(["run", &file, "--on", "host", "--links", "user"])
        .args(more)
        .current_dir(folder)
        .env("TMPDIR", folder)
        .output()
        .expect("start limosa");
    (output, RunDir::new(folder.join("results").join(name).join("latest")))
}

/// Output of both kinds together, for messages of assertions.
fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}
