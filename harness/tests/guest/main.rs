//! Everything that needs a real kernel with netem and CRIU: a guest is set up and booted, and the
//! ignored tests of this binary run inside it. Nothing is skipped silently: a machine on which the
//! guest cannot be set up fails here and says why.

mod boot;
mod criu;
mod links;
#[path = "../native/machine.rs"]
#[expect(dead_code, reason = "the native tests use the rest of it")]
mod machine;
mod network;
#[path = "../native/roaming.rs"]
mod roaming;
mod techniques;
mod trials;

use limosa::guest::{self, GuestCommand};
use roaming::MOVES;
use std::{sync::Mutex, time::Duration};

/// What carries shaped links in the guest, which has netem.
const LINKS: &str = "kernel";

/// One guest at a time: two emulated ones on two processors make each other time out.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs the ignored tests that these words choose inside the guest; their output is this test's.
fn inside(words: &[&str]) {
    let _one = ONE_AT_A_TIME.lock();
    let ready = limosa::setup::setup().expect("set up the guest");
    let folder = tempfile::tempdir().expect("temporary folder");
    let this = std::env::current_exe().expect("this program");
    let name = this.file_name().expect("its name").to_string_lossy().into_owned();
    let command = GuestCommand {
        executables: vec![env!("CARGO_BIN_EXE_limosa").into(), this],
        program: Some(format!("/run/limosa/bin/{name}").into()),
        args: words
            .iter()
            .chain(&["--ignored", "--test-threads=1", "--nocapture"])
            .map(ToString::to_string)
            .collect(),
        dir: folder.path().to_owned(),
        env: std::env::var(MOVES).into_iter().map(|moves| (MOVES.to_owned(), moves)).collect(),
        shares: Vec::new(),
        cpus: 2,
        memory_mib: 3072,
        time_limit: Some(Duration::from_secs(900 + roaming::longest_s())),
        console: folder.path().join("console.log"),
    };
    let code = guest::run(&command.share(folder.path()), &ready).expect("run the guest");
    assert_eq!(code, 0, "the tests `{words:?}` inside the guest failed; see their output above");
}

#[test]
fn networks_inside_the_guest() {
    inside(&["network::"]);
}

#[test]
fn checkpoints_and_moves_inside_the_guest() {
    inside(&["criu::", "techniques::", "roaming::"]);
}

#[test]
fn links_in_the_kernel_and_in_user_space_inside_the_guest() {
    inside(&["links::"]);
}
