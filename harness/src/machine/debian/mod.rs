//! Programs of other Debian releases, fetched and unpacked in folders of our own.
//!
//! Input: names of packages, and what the machine's own apt knows of mirrors, keys and proxies. Output: a folder with the
//! packages' files, whose programs run with their own libraries. Nothing of the machine's own packages is touched.

mod mirror;
mod packages;

pub use mirror::{is_debian, keyring};
pub use packages::{Packages, Pin, fetch, unpack};

use std::path::Path;
use std::process::Command;

/// Where amd64 packages have their libraries, below the root.
pub const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The program that loads others, below the root.
pub const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/// Runs one of the unpacked programs on this machine, with its own libraries.
pub fn program(root: &Path, program: &str) -> Command {
    let mut command = Command::new(root.join(LOADER));
    command.arg("--library-path").arg(root.join(LIBRARIES)).arg(root.join(program));
    command
}
