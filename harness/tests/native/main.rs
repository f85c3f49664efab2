//! Labs and trials on the kernel that runs the tests, with links in user space and a criu that works
//! here: what a user gets on a machine without netem.
//!
//! Everything here needs root and /dev/net/tun. Tests that mostly wait run beside each other.

mod commands;
#[path = "../guest/criu.rs"]
mod criu;
mod crowd;
mod exits;
mod faults;
#[path = "../hostile/files.rs"]
mod files;
mod follow;
mod foreign;
mod handover;
mod hostile;
mod isolation;
mod kills;
mod labs;
mod lookup;
mod luck;
mod machine;
mod moves;
mod mptcp;
mod networks;
mod push;
mod roaming;
mod room;
mod security;
mod signals;
mod soak;
mod stored;
mod timelines;
mod trials;
mod tutorial;

use limosa_record::dir::RunDir;
use limosa_testkit::Suite;
use machine::{limosa, text};
use std::{
    fs,
    path::Path,
    process::{ExitCode, Output},
};

/// What carries shaped links here, whatever the kernel has.
const LINKS: &str = "user";

/// So many tests beside each other keep two processors busy: they wait for downloads and limits.
const THREADS: usize = 3;

fn main() -> ExitCode {
    if let Some(code) = criu::play_a_role() {
        return code;
    }
    let tests = [
        commands::tests(),
        criu::tests(),
        crowd::tests(),
        exits::tests(),
        faults::tests(),
        follow::tests(),
        foreign::tests(),
        handover::tests(),
        hostile::tests(),
        isolation::tests(),
        kills::tests(),
        labs::tests(),
        lookup::tests(),
        luck::tests(),
        moves::tests(),
        mptcp::tests(),
        networks::tests(),
        push::tests(),
        roaming::tests(),
        room::tests(),
        security::tests(),
        signals::tests(),
        soak::tests(),
        stored::tests(),
        timelines::tests(),
        trials::tests(),
        tutorial::tests(),
    ];
    Suite::new("native").root().threads(THREADS).run(tests.concat())
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
    let run = RunDir::new(folder.join("results").join(name).join("latest"));
    machine::note_doubts(&run);
    (output, run)
}
