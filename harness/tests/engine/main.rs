//! The link engine between two namespaces, on the kernel that runs the tests.
//!
//! Everything here needs root and /dev/net/tun and is marked `ignore`; one test runs all of it as
//! root, one after the other, because what they measure is time.

use std::{env, process::Command};

mod cost;
mod pair;
mod payload;
mod shape;

#[test]
fn the_engine_carries_packets() {
    let this = env::current_exe().unwrap();
    let root = rustix::process::geteuid().is_root();
    let mut command = if root { Command::new(&this) } else { Command::new("sudo") };
    if !root {
        command.args(["-n", "-E"]).arg(&this);
    }
    let status = command.args(["--ignored", "--test-threads=1"]).status().unwrap();
    assert!(status.success(), "the tests above failed, or root is out of reach");
}
