//! Checkpoint and restore of a [`Process`] by the `criu` command line (`criu(8)`).
//!
//! Input: a process that was started with its own PID namespace, folders for images and logs.
//! Output: image files, `dump.log` and `restore.log` at level 4, what the two took, and the
//! restored [`Process`].
//!
//! How PIDs, parents and namespaces fit together:
//! - The process is PID 1 of its own PID namespace from the start, so CRIU dumps that namespace
//!   along with it and restores it as PID 1 of a fresh one. No PID can be taken, any number of
//!   cycles work, and a copy can run next to its original. Nothing else is needed: no mount
//!   namespace, no second `/proc`, no `nsenter`, no helper that has to stay. (The alternative, a
//!   PID namespace around `criu restore`, needs all of these again for the second dump.)
//! - CRIU runs inside the network namespace of the process (dump) or the new one (restore), which
//!   is therefore "its own" and not part of the image: that is the migration.
//! - With `--restore-sibling` the restored process is a child of the harness, not of CRIU: the
//!   harness reaps it like any other, and the parent-death signal, which CRIU saves and restores,
//!   again means the harness. A wrapper around criu must therefore `exec` it.
//! - CRIU leaves network locking out: a datagram that arrives during a dump is lost either way, and
//!   TCP connections are taken along only when their address has been taken away before.
//! - CRIU is told not to use hardware breakpoints ([`NO_BREAKPOINTS`]).
//! - CRIU logs beside the images, which belong on a tmpfs, and its logs are copied to where they
//!   are wanted when the process is gone or runs: log lines written to a 9p folder made a dump
//!   ten times as long.
//!
//! Files that the process writes must be open for append and write only: CRIU compares the size of
//! all others with the image and refuses to restore when somebody else has written in between.
//!
//! The numbers come from the images `stats-dump` and `stats-restore`, see `stats.rs`.

mod error;
mod gate;
mod lazy;
mod live;
mod newborn;
mod options;
mod probe;
mod stats;

pub use error::CriuError;
pub use lazy::Served;
pub use live::{Daemon, Pages, can_serve_pages};
pub use options::{Leave, Options};

use self::{gate::Blow, newborn::Newborn, stats::Stats};
use super::process::{ExitState, Launch, Process, ProcessError, run_to_end};

use limosa_record::{
    clock::now_ns,
    fault::{self, Kind},
};
use rustix::process::Pid;
use std::{
    ffi::OsStr,
    fmt, fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::timeout;

/// What criu says of a dump.
const DUMP_LOG: &str = "dump.log";
/// What it says of a restore.
const RESTORE_LOG: &str = "restore.log";
/// How long `criu --version` and `criu check` may take.
const CHECK_LIMIT: Duration = Duration::from_secs(30);
/// CRIU's own switch (criu, include/fault-injection.h) for following a process by
/// PTRACE_SYSCALL instead of hardware breakpoints. Each breakpoint patches the running kernel's
/// scheduler (the static key of perf events): that disturbs all CPUs in the middle of a
/// measurement, costs a software-emulated guest its translated code, and has crashed one
/// (`Oops: int3` in `__schedule`, QEMU TCG with several threads).
const NO_BREAKPOINTS: (&str, &str) = ("CRIU_FAULT", "130");
/// Phases of criu in which it can be made to fail, as points of [`limosa_record::fault`], and the
/// number of the same switch for each. Besides these there are `criu/dump` and `criu/restore`: criu is refused its
/// arguments, hangs when it is let go, or dies then; `criu/source`, where what is dumped dies in the middle
/// of it; and `criu/let-go`, where the harness itself dies.
const PHASES: [(&str, &str); 5] = [
    ("dump-early", "1"),
    ("dump-pages", "3"),
    ("dump-parasite", "5"),
    ("dump-crash", "136"),
    ("restore-late", "6"),
];
/// How long a dumped process may take to disappear.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// criu's version, comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What a dump took. A duration is `None` when criu left no statistics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DumpReport {
    /// Start of criu, CLOCK_REALTIME in ns; the process still runs then.
    pub started_ns: i64,
    /// End of criu, CLOCK_REALTIME in ns.
    pub done_ns: i64,
    /// Time to freeze all threads, in µs.
    pub freezing_us: Option<u64>,
    /// Time from the end of freezing until the process was let go or killed, in µs.
    pub frozen_us: Option<u64>,
    /// Time to take the memory out of the process, in µs.
    pub memdump_us: Option<u64>,
    /// Time to write the memory into the image files, in µs.
    pub memwrite_us: Option<u64>,
    /// Pages that were looked at.
    pub pages_scanned: Option<u64>,
    /// Pages that an earlier pre-dump holds already.
    pub pages_skipped_parent: Option<u64>,
    /// Pages in the image.
    pub pages_written: Option<u64>,
    /// Pages that are served to the restored process and are in no image.
    pub pages_lazy: Option<u64>,
    /// Size of all image files together, in bytes.
    pub image_bytes: u64,
}

/// What a restore took. A duration is `None` when criu left no statistics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Start of criu, CLOCK_REALTIME in ns.
    pub started_ns: i64,
    /// End of criu, CLOCK_REALTIME in ns; the process runs since shortly before.
    pub done_ns: i64,
    /// Time to fork the threads and processes, in µs.
    pub forking_us: Option<u64>,
    /// Time from the first fork until the process was resumed, in µs.
    pub restore_us: Option<u64>,
    /// Pages read from the image.
    pub pages_restored: Option<u64>,
}

/// A criu program on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criu {
    program: PathBuf,
}

impl Criu {
    /// A criu that is known to be there.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// The ones that the distribution has brought: `criu` in `PATH` and in the folders of system
    /// programs.
    pub fn installed() -> impl Iterator<Item = Self> {
        let mut searched = std::env::var_os("PATH").unwrap_or_default();
        searched.push(":/usr/sbin:/usr/local/sbin");
        let mut found: Vec<PathBuf> = Vec::new();
        for program in std::env::split_paths(&searched).map(|folder| folder.join("criu")) {
            // /sbin and /usr/sbin may be one folder.
            let same = |other: &PathBuf| other.canonicalize().ok() == program.canonicalize().ok();
            if program.is_file() && !found.iter().any(same) {
                found.push(program);
            }
        }
        found.into_iter().map(Self::at)
    }

    /// The program that is used.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Asks criu for its version.
    pub async fn version(&self) -> Result<Version, CriuError> {
        let (state, text) = self.ask(&["--version"]).await?;
        parse_version(&text).ok_or_else(|| CriuError::Unusable {
            action: "--version".into(),
            state,
            reason: reason(&text),
        })
    }

    /// Lets criu check whether this kernel has all that it needs.
    pub async fn check(&self) -> Result<(), CriuError> {
        self.checked(&["check"]).await
    }

    /// Whether this kernel has one of criu's optional features, such as `mem_dirty_track` or
    /// `uffd-noncoop` (`criu check --feature list` prints their names).
    pub async fn feature(&self, name: &str) -> Result<bool, CriuError> {
        match self.checked(&["check", "--feature", name]).await {
            Ok(()) => Ok(true),
            Err(CriuError::Unusable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Dumps a process into the folder `images`, which is created when it does not exist and
    /// should be on a tmpfs.
    ///
    /// Afterwards the process is gone (and reaped), unless `leave` says otherwise. After a
    /// failure the error says whether it still runs.
    pub async fn dump(
        &self,
        process: &Process,
        images: &Path,
        options: &Options,
    ) -> Result<DumpReport, CriuError> {
        fs::create_dir_all(images).map_err(file("create image folder", images))?;
        let pid = process.pid().as_raw_pid();
        let netns = process.netns()?;
        let tree = pid.to_string();
        let mut args = vec!["dump", "--tree", &tree, "--network-lock", "skip"];
        match options.leave {
            Leave::Dead => {}
            Leave::Running => args.push("--leave-running"),
            Leave::Stopped => args.push("--leave-stopped"),
            Leave::Tracked => args[0] = "pre-dump",
        }
        let scratch = scratch(images)?;
        let (started_ns, ended) =
            self.run(&args, images, &scratch, netns.as_fd(), options, Some(process)).await;
        let done_ns = now_ns();
        if options.leave == Leave::Dead && matches!(ended, Ok(state) if state.success()) {
            timeout(GONE_LIMIT, process.wait())
                .await
                .map_err(|_| CriuError::Lingering { pid })??;
        }
        let stats = Stats::read(&scratch.path().join("stats-dump"), 1);
        let log = keep(&scratch, &options.work, DUMP_LOG, "stats-dump")?;

        let running = || process.try_wait().map(|state| state.is_none());
        let state = match ended {
            Err(ProcessError::TimedOut { limit, .. }) => {
                return Err(CriuError::TimedOut {
                    action: format!("dump process {pid}"),
                    limit,
                    source_running: Some(running()?),
                    log,
                });
            }
            ended => ended?,
        };
        if !state.success() {
            let reason = reason_in(&log);
            return Err(CriuError::Dump { pid, state, reason, source_running: running()?, log });
        }
        Ok(DumpReport {
            started_ns,
            done_ns,
            freezing_us: stats.get(1),
            frozen_us: stats.get(2),
            memdump_us: stats.get(3),
            memwrite_us: stats.get(4),
            pages_scanned: stats.get(5),
            pages_skipped_parent: stats.get(6),
            pages_written: stats.get(7),
            pages_lazy: stats.get(9),
            image_bytes: image_bytes(images).map_err(file("measure images in", images))?,
        })
    }

    /// Restores what is in the folder `images` into a network namespace.
    pub async fn restore(
        &self,
        images: &Path,
        netns: BorrowedFd<'_>,
        options: &Options,
    ) -> Result<(Process, RestoreReport), CriuError> {
        let scratch = scratch(images)?;
        let pidfile = scratch.path().join("restore.pid");
        let mut args: Vec<&OsStr> =
            ["restore", "--restore-detached", "--restore-sibling", "--pidfile"]
                .map(OsStr::new)
                .into();
        args.push(pidfile.as_os_str());
        options.pages.meet(scratch.path())?;
        let newborn = Newborn::watch(netns).map_err(|e| file("examine", images)(e.into()))?;
        let (started_ns, ended) = self.run(&args, images, &scratch, netns, options, None).await;
        let done_ns = now_ns();
        // Before anything else can fail: a process that nobody adopts would run on unseen.
        let adopted = matches!(ended, Ok(state) if state.success()).then(|| {
            let pid = read_pid(&pidfile).map_err(file("read", &pidfile))?;
            Ok::<_, CriuError>(Process::adopt(pid)?)
        });
        match &adopted {
            Some(Ok(_)) => newborn.adopted(),
            _ => drop(newborn),
        }
        let stats = Stats::read(&scratch.path().join("stats-restore"), 2);
        let log = keep(&scratch, &options.work, RESTORE_LOG, "stats-restore")?;

        let process = match (adopted, ended) {
            (Some(adopted), _) => adopted?,
            (None, Ok(state)) => {
                let (images, reason) = (images.to_owned(), reason_in(&log));
                return Err(CriuError::Restore { images, state, reason, log });
            }
            (None, Err(ProcessError::TimedOut { limit, .. })) => {
                return Err(CriuError::TimedOut {
                    action: format!("restore from {}", images.display()),
                    limit,
                    source_running: None,
                    log,
                });
            }
            (None, Err(error)) => return Err(error.into()),
        };
        let report = RestoreReport {
            started_ns,
            done_ns,
            forking_us: stats.get(3),
            restore_us: stats.get(4),
            pages_restored: stats.get(5),
        };
        Ok((process, report))
    }

    /// Dumps `source` or restores; returns when criu's work began, and how criu ended.
    async fn run<A: AsRef<OsStr>>(
        &self,
        action: &[A],
        images: &Path,
        scratch: &TempDir,
        netns: BorrowedFd<'_>,
        options: &Options,
        source: Option<&Process>,
    ) -> (i64, Result<ExitState, ProcessError>) {
        let args = action
            .iter()
            .map(|arg| arg.as_ref().to_owned())
            .chain(["--images-dir".into(), absolute(images)])
            .chain(["--work-dir".into(), absolute(scratch.path())])
            .chain(["--log-file".into(), gate::NAME.into()])
            .chain(["-v4".into(), "--manage-cgroups=ignore".into()])
            .chain(options.connections.then(|| "--tcp-established".into()))
            .chain(options.pages.arguments());
        // What criu says before it opens its log goes there too.
        let log = scratch.path().join(if source.is_some() { DUMP_LOG } else { RESTORE_LOG });
        let mut launch = Launch::new(&self.program, args, &log);
        // By its working folder it is found when it outlives its harness, as a stopped one may.
        launch.folder = Some(scratch.path().to_owned());
        let what = action[0].as_ref().to_string_lossy();
        let strikes = |phase: &str| fault::strikes(format_args!("criu/{phase}"));
        let mut phases = PHASES.iter().filter(|(phase, _)| phase.starts_with(&*what));
        let failing = phases.find(|(phase, _)| strikes(phase).is_some());
        let switch = failing.map_or(NO_BREAKPOINTS.1, |(_, number)| number);
        launch.env.push((NO_BREAKPOINTS.0.into(), switch.into()));
        let blow = match strikes(&what) {
            Some(Kind::Refuse) => {
                launch.args.push("--no-such-option".into());
                None
            }
            Some(Kind::Hang) => Some(Blow::Hang),
            Some(Kind::Die) => Some(Blow::Die),
            _ => source.filter(|_| strikes("source").is_some()).map(Blow::Source),
        };
        gate::run(&launch, netns, scratch.path(), &log, options, blow).await
    }

    async fn checked(&self, args: &[&str]) -> Result<(), CriuError> {
        let (state, text) = self.ask(args).await?;
        if state.success() {
            return Ok(());
        }
        let reason = reason(&text);
        Err(CriuError::Unusable { action: args.join(" "), state, reason })
    }

    async fn ask(&self, args: &[&str]) -> Result<(ExitState, String), CriuError> {
        // Without a name it cannot be left behind.
        let folder = std::env::temp_dir();
        let answer = tempfile::tempfile().map_err(file("create a file in", &folder))?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", answer.as_raw_fd()));
        let launch = Launch::new(&self.program, args, &path);
        let state = run_to_end(&launch, None, CHECK_LIMIT).await?;
        let text = fs::read(&path).map_err(file("read", &path))?;
        Ok((state, String::from_utf8_lossy(&text).into()))
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CriuError {
    let path = path.to_owned();
    move |source| CriuError::File { action, path, source }
}

/// criu's working folder, on the file system of the images but not among them: while criu serves
/// pages, the images travel.
fn scratch(images: &Path) -> Result<TempDir, CriuError> {
    let beside = images.parent().unwrap_or(images);
    tempfile::tempdir_in(beside).map_err(file("create a folder in", beside))
}

/// Copies what criu left to where it stays, readable for all, and returns the log's new place.
fn keep(scratch: &TempDir, work: &Path, log: &str, stats: &str) -> Result<PathBuf, CriuError> {
    for name in [stats, log] {
        match fs::read(scratch.path().join(name)) {
            Ok(bytes) => {
                let kept = work.join(name);
                fault::here(format_args!("write/{name}"))
                    .and_then(|()| fs::write(&kept, bytes))
                    .map_err(file("write", &kept))?;
            }
            // A criu that failed leaves no statistics.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(file("read", &scratch.path().join(name))(e)),
        }
    }
    Ok(work.join(log))
}

fn read_pid(path: &Path) -> io::Result<Pid> {
    fs::read_to_string(path)?
        .trim()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a PID"))
}

/// Size of all image files in a folder.
///
/// # Errors
/// When it cannot be read.
pub fn image_bytes(images: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(images)? {
        let entry = entry?;
        if entry.path().extension() == Some(OsStr::new("img")) {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn reason_in(log: &Path) -> Option<String> {
    reason(&String::from_utf8_lossy(&fs::read(log).ok()?))
}

/// The line at criu's level "Error" that says why, without its time stamp; else the last line.
///
/// That is the first one: the later ones report only that the failure went up through criu. Some
/// come in every run of criu and mean nothing.
fn reason(log: &str) -> Option<String> {
    const HARMLESS: [&str; 2] = ["RLIMIT_NOFILE", "tun: Unable to create tun"];
    let errors = || log.lines().filter(|line| line.contains("Error ("));
    errors()
        .find(|line| !HARMLESS.iter().any(|known| line.contains(known)))
        .or_else(|| errors().next_back())
        .or_else(|| log.lines().rfind(|line| !line.trim().is_empty()))
        .map(|line| line.find("Error (").map_or(line, |start| &line[start..]).trim().to_owned())
}

fn parse_version(text: &str) -> Option<Version> {
    let number = text.lines().find_map(|line| line.strip_prefix("Version:"))?;
    let mut parts = number.trim().split('.').map(|part| part.parse().ok());
    Some(Version(parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// criu has a working folder of its own.
fn absolute(path: &Path) -> std::ffi::OsString {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_line_that_matters_is_quoted() {
        let log = "(00.01) Error (criu/rlimit.c:1): RLIMIT_NOFILE cannot be raised\n\
                   (00.27)      1: Error (criu/sk-inet.c:1049): inet: Can't bind inet socket\n\
                   (00.27)      1: Error (criu/files.c:1221): Unable to open fd=10 id=0xd\n\
                   (00.28) Error (criu/cr-restore.c:2320): Restoring FAILED.\n\
                   (00.29) goodbye\n";
        let expected = "Error (criu/sk-inet.c:1049): inet: Can't bind inet socket";
        assert_eq!(reason(log).as_deref(), Some(expected));
        let only = "Error (criu/tun.c:85): tun: Unable to create tun: No such file";
        assert_eq!(reason(only).as_deref(), Some(only));
        assert_eq!(reason("usage\ncriu: bad option\n\n").as_deref(), Some("criu: bad option"));
        assert_eq!(reason(""), None);
    }

    #[test]
    fn versions_compare() {
        let version = parse_version("Version: 4.1.1\n").unwrap();
        assert_eq!(version.to_string(), "4.1.1");
        assert!(version > parse_version("Version: 3.17\nGitID: v3.17").unwrap());
        assert_eq!(parse_version("criu: not found"), None);
    }
}
