//! The link engine between two namespaces, on the kernel that runs the tests. All needs root and
//! /dev/net/tun, and runs one after the other, because what is measured is time.

use limosa_testkit::Suite;
use std::process::ExitCode;

mod cost;
mod defects;
mod pair;
mod payload;
mod shape;

fn main() -> ExitCode {
    let tests = [cost::tests(), defects::tests(), payload::tests(), shape::tests()];
    Suite::new("engine").root().run(tests.concat())
}
