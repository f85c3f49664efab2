//! The same run inside a QEMU guest with a stock Debian 13 kernel.
//!
//! Where this machine's own kernel lacks netem or CRIU cannot run, limosa boots a guest that has both, and runs itself in it.
//! Input: a [`GuestCommand`] and what [`crate::machine::setup::setup`] made ready. Output: the inner command's output, live, and its
//! exit code; what it writes to shared folders is in the host's folders at once. Kernel interface: none here; QEMU does it.
//!
//! The parts, from the image to the running command: `recipe` what is in the image · `modules`, `kernel`, `cpio`, `image` build
//! it · `accel` KVM or not · `qemu` its command line · `job` and `channel` what host and guest say to each other · `session` the host's side · `agent` the guest's side.

mod accel;
pub mod agent;
mod channel;
mod cpio;
mod image;
mod job;
mod kernel;
mod modules;
mod qemu;
mod recipe;
mod session;
mod terminal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use accel::{decide as decide_accelerator, known as known_accelerator};
pub use image::Image;
pub use qemu::{Accelerator, PROGRAM as QEMU};
pub use session::{Crashed, run, run_async};

/// A folder of the host that the guest sees under the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Absolute path, on both sides.
    pub path: PathBuf,
    /// Whether the guest may not write.
    pub read_only: bool,
}

/// One command to run in a guest.
#[derive(Debug, Clone)]
pub struct GuestCommand {
    /// Executables to copy into the guest's memory; the first is the one to run. limosa has to be among them, since it is also
    /// the guest's agent. They keep their names and end up side by side.
    pub executables: Vec<PathBuf>,
    /// Runs this program of the guest instead of the first executable.
    pub program: Option<PathBuf>,
    /// Arguments, without the program's own name.
    pub args: Vec<String>,
    /// Working directory in the guest.
    pub dir: PathBuf,
    /// Environment on top of what every command in the guest gets.
    pub env: BTreeMap<String, String>,
    /// Folders to share.
    pub shares: Vec<Share>,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory, in MiB; files in the guest's /tmp and /run live in it too.
    pub memory_mib: u32,
    /// After this time from its start the guest is ended.
    pub time_limit: Option<Duration>,
    /// File for the guest's console: the first thing to look at when it does not come up.
    pub console: PathBuf,
}

impl GuestCommand {
    /// The running executable with `args`, in the current folder, on as many processors as there are here (at most 4), with
    /// 3 GiB of memory, nothing shared.
    ///
    /// # Errors
    /// When the running executable or the current folder cannot be found out.
    pub fn current(args: Vec<String>, console: PathBuf) -> std::io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            executables: vec![std::env::current_exe()?],
            program: None,
            args,
            dir: std::env::current_dir()?,
            env: BTreeMap::new(),
            shares: Vec::new(),
            cpus: u32::try_from(processors.min(4)).unwrap_or(1),
            memory_mib: 3072,
            time_limit: None,
            console,
        })
    }

    /// Shares `path`, writable.
    #[must_use]
    pub fn share(mut self, path: impl AsRef<Path>) -> Self {
        self.shares.push(Share { path: path.as_ref().to_owned(), read_only: false });
        self
    }

    /// Shares `path`, read-only.
    #[must_use]
    pub fn share_read_only(mut self, path: impl AsRef<Path>) -> Self {
        self.shares.push(Share { path: path.as_ref().to_owned(), read_only: true });
        self
    }
}

/// What a guest needs before it can be started.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Kernel, initramfs and disk.
    pub image: Image,
    /// What executes it.
    pub accelerator: Accelerator,
}

/// `timeout` and others send SIGTERM to a process and, at once, to its whole group: that is asked once.
pub const ONE_REQUEST: Duration = Duration::from_secs(1);
