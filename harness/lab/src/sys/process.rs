//! Programs that run in a network namespace, started so that CRIU can dump them later.
//!
//! Input: a [`Launch`] and a network namespace as a file descriptor. Output: a [`Process`] that
//! can be waited for and signalled, also after CRIU has restored it.
//!
//! A process gets its own session (`setsid(2)`), `/dev/null` as stdin, plain files as stdout and
//! stderr, no other file descriptor, and enters nothing but the *network* namespace (`setns(2)`):
//! CRIU refuses to dump from a half-private mount namespace. With
//! [`own_pid_namespace`](Launch::own_pid_namespace) it is PID 1 of a PID namespace of its own
//! (`unshare(2)`, `pid_namespaces(7)`), so that its restored copy never meets a PID that is taken.
//!
//! Nothing outlives the harness: every process has SIGKILL as its parent-death signal
//! (`PR_SET_PDEATHSIG`, see `prctl(2)`). The kernel ties that signal to the *thread* that forked,
//! so one thread that lives as long as the harness forks them all.
//!
//! Processes are watched and reaped through pidfds (`pidfd_open(2)`, `waitid(2)` with `P_PIDFD`).

use rustix::{
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal, setsid, waitid,
    },
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use std::{
    ffi::OsString,
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::unix::AsyncFd,
    sync::oneshot,
    time::{sleep, timeout},
};

/// How long a process may take to disappear after SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// What is to be started, and where its output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program; a name without a slash is searched in `PATH`.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Variables on top of the harness' own environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; the harness' own when `None`.
    pub folder: Option<PathBuf>,
    /// File that stdout is appended to.
    pub stdout: PathBuf,
    /// File that stderr is appended to; may be the same as `stdout`.
    pub stderr: PathBuf,
    /// Make it PID 1 of a PID namespace of its own, which a dump and a restore need.
    ///
    /// PID 1 ignores every signal that it has no handler for, except SIGKILL and SIGSTOP: a
    /// program that wants to be stopped gently handles SIGTERM. Whatever it leaves running dies
    /// with it.
    pub own_pid_namespace: bool,
}

impl Launch {
    /// A program with its arguments whose stdout and stderr go to one log file, for short tools.
    pub fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = A>,
        log: impl Into<PathBuf>,
    ) -> Self {
        let log = log.into();
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            folder: None,
            stdout: log.clone(),
            stderr: log,
            own_pid_namespace: false,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitState {
    /// It returned this exit code.
    Exited(i32),
    /// It was killed by this signal.
    Signaled(i32),
}

impl ExitState {
    /// Whether it returned 0.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl fmt::Display for ExitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signaled(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// What can go wrong with a process, apart from its own failure.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// One of its log files cannot be opened.
    #[error("open log file {}", path.display())]
    Log {
        /// The log file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It cannot be started.
    #[error("start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It cannot be watched, signalled or reaped.
    #[error("{action} process {pid}")]
    Control {
        /// What was tried.
        action: &'static str,
        /// PID in the harness' PID namespace.
        pid: i32,
        /// The reason.
        source: io::Error,
    },
    /// It ran longer than allowed and was killed.
    #[error("{} did not end within {limit:?} and was killed", program.display())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// How long it was allowed to run.
        limit: Duration,
    },
}

/// A running or ended process, watched by its pidfd; dropping it kills what still runs.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    ended: OnceLock<ExitState>,
}

impl Process {
    /// Starts a program in a network namespace, or in the harness' own when `netns` is `None`.
    ///
    /// Returns once the program has been executed. Needs a tokio runtime with I/O and time.
    pub async fn spawn(
        launch: &Launch,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<Self, ProcessError> {
        let failed = |source| ProcessError::Start { program: launch.program.clone(), source };
        let mut command =
            command(launch, netns, open_log(&launch.stdout)?, open_log(&launch.stderr)?)
                .map_err(failed)?;
        let own_pid_namespace = launch.own_pid_namespace;
        let (pid, pidfd) = on_spawner(move || {
            if own_pid_namespace {
                in_new_pid_namespace(|| start(&mut command))
            } else {
                start(&mut command)
            }
        })
        .await
        .map_err(failed)?;
        Self::watched(pid, pidfd)
    }

    /// Takes over a child of the harness that somebody else forked for it, as `criu restore
    /// --restore-sibling` does. `pid` is meant in the harness' PID namespace.
    pub fn adopt(pid: Pid) -> Result<Self, ProcessError> {
        let control = |source: io::Error| ProcessError::Control {
            action: "adopt",
            pid: pid.as_raw_pid(),
            source,
        };
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| control(e.into()))?;
        // Fails with ECHILD when it is not our child: its end could then never be learnt.
        waitid(WaitId::PidFd(pidfd.as_fd()), peek()).map_err(|e| control(e.into()))?;
        Self::watched(pid, pidfd)
    }

    fn watched(pid: Pid, pidfd: OwnedFd) -> Result<Self, ProcessError> {
        // SAFETY: an OwnedFd is the same open descriptor for as long as the AsyncFd holds it.
        match unsafe { AsyncFd::register(pidfd) } {
            Ok(pidfd) => Ok(Self { pid, pidfd, ended: OnceLock::new() }),
            Err(error) => {
                let (pidfd, source) = error.into_parts();
                abandon(pidfd);
                Err(ProcessError::Control { action: "watch", pid: pid.as_raw_pid(), source })
            }
        }
    }

    /// PID in the harness' PID namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// How it ended, or `None` while it runs.
    pub fn try_wait(&self) -> Result<Option<ExitState>, ProcessError> {
        if let Some(state) = self.ended.get() {
            return Ok(Some(*state));
        }
        let status = waitid(
            WaitId::PidFd(self.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        )
        .map_err(|e| self.control("wait for", e))?;
        let state = status.and_then(|status| {
            status
                .exit_status()
                .map(ExitState::Exited)
                .or_else(|| status.terminating_signal().map(ExitState::Signaled))
        });
        Ok(state.map(|state| *self.ended.get_or_init(|| state)))
    }

    /// Waits until it has ended. May be called again, and by several tasks at once.
    pub async fn wait(&self) -> Result<ExitState, ProcessError> {
        loop {
            if let Some(state) = self.try_wait()? {
                return Ok(state);
            }
            if let Err(source) = self.pidfd.readable().await {
                let pid = self.pid.as_raw_pid();
                return Err(ProcessError::Control { action: "watch", pid, source });
            }
            if self.try_wait()?.is_none() {
                // A tracer (CRIU) that has not let go yet hides the end from the parent.
                sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// Sends a signal; one that arrives after the end is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        if self.ended.get().is_some() {
            return Ok(());
        }
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(self.control("signal", e)),
        }
    }

    /// Asks it to end with SIGTERM, and kills it when it has not done so within `grace`.
    pub async fn stop(&self, grace: Duration) -> Result<ExitState, ProcessError> {
        self.signal(Signal::TERM)?;
        match timeout(grace, self.wait()).await {
            Ok(state) => state,
            Err(_) => self.kill().await,
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&self) -> Result<ExitState, ProcessError> {
        self.signal(Signal::KILL)?;
        timeout(KILL_GRACE, self.wait())
            .await
            .unwrap_or_else(|_| Err(self.control("kill", Errno::TIMEDOUT)))
    }

    /// Kills it although it is traced, and waits until it does nothing any more. It is reaped later:
    /// the tracer's end comes before the parent's turn.
    pub async fn kill_traced(&self) -> Result<(), ProcessError> {
        self.signal(Signal::KILL)?;
        let does_nothing = async {
            while !is_dead(self.pid) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let late = |_| self.control("kill", Errno::TIMEDOUT);
        timeout(KILL_GRACE, does_nothing).await.map_err(late)
    }

    /// Its network namespace.
    pub fn netns(&self) -> Result<OwnedFd, ProcessError> {
        let pid = self.pid.as_raw_pid();
        File::open(format!("/proc/{pid}/ns/net")).map(OwnedFd::from).map_err(|source| {
            ProcessError::Control { action: "open the network namespace of", pid, source }
        })
    }

    fn control(&self, action: &'static str, source: Errno) -> ProcessError {
        ProcessError::Control { action, pid: self.pid.as_raw_pid(), source: source.into() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.try_wait()
            && let Ok(pidfd) = self.pidfd.get_ref().try_clone()
        {
            abandon(pidfd);
        }
    }
}

/// Whether all threads have ended, as zombies or altogether (proc_pid_stat(5)).
fn is_dead(pid: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid()));
    tasks.into_iter().flatten().flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, None | Some('Z' | 'X'))
    })
}

/// Runs a short tool to its end and kills it when that takes longer than `limit`.
pub async fn run_to_end(
    launch: &Launch,
    netns: Option<BorrowedFd<'_>>,
    limit: Duration,
) -> Result<ExitState, ProcessError> {
    let process = Process::spawn(launch, netns).await?;
    match timeout(limit, process.wait()).await {
        Ok(state) => state,
        Err(_) => {
            process.kill().await?;
            Err(ProcessError::TimedOut { program: launch.program.clone(), limit })
        }
    }
}

fn open_log(path: &Path) -> Result<File, ProcessError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|source| ProcessError::Log { path: path.to_owned(), source })
}

fn command(
    launch: &Launch,
    netns: Option<BorrowedFd<'_>>,
    stdout: File,
    stderr: File,
) -> io::Result<Command> {
    let netns = netns.map(|fd| fd.try_clone_to_owned()).transpose()?;
    let harness = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    if let Some(folder) = &launch.folder {
        command.current_dir(folder);
    }
    // SAFETY: between fork and exec only system calls are made (setsid, setns, prctl, poll,
    // close_range): no allocation, no lock, nothing that another thread could have left half done.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            if let Some(netns) = &netns {
                move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            set_parent_process_death_signal(Some(Signal::KILL))?;
            let mut gone =
                libc::pollfd { fd: harness.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            if libc::poll(&raw mut gone, 1, 0) != 0 {
                // The harness died before the death signal was set.
                return Err(Errno::SRCH.into());
            }
            // Marking instead of closing: exec still has to report its own failure over a pipe.
            match libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    Ok(command)
}

fn start(command: &mut Command) -> io::Result<(Pid, OwnedFd)> {
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    // Nobody else reaps it, so the PID cannot have been given to another process yet.
    Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
}

/// Lets the children that `work` forks on this thread be born into a new PID namespace.
fn in_new_pid_namespace<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = File::open("/proc/thread-self/ns/pid")?;
    // SAFETY: NEWPID changes only where this thread's later children go; no table is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?;
    let result = work();
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    result
}

fn peek() -> WaitIdOptions {
    WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT
}

/// Killed processes that nobody waits for any more, to be reaped in passing.
static ABANDONED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Kills a child that nobody waits for; it is reaped in passing.
pub(super) fn end_child(pid: Pid) {
    // Without a descriptor it has ended, and somebody else reaps it.
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        abandon(pidfd);
    }
}

fn abandon(pidfd: OwnedFd) {
    // Fails only when it has ended already.
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    ABANDONED.lock().unwrap_or_else(PoisonError::into_inner).push(pidfd);
}

fn reap_abandoned() {
    ABANDONED.lock().unwrap_or_else(PoisonError::into_inner).retain(|pidfd| {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        matches!(waitid(WaitId::PidFd(pidfd.as_fd()), options), Ok(None))
    });
}

type Job = Box<dyn FnOnce() + Send>;

/// Does `fork` on the thread whose end would kill all processes: it lives as long as the harness.
async fn on_spawner(
    fork: impl FnOnce() -> io::Result<(Pid, OwnedFd)> + Send + 'static,
) -> io::Result<(Pid, OwnedFd)> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        // Without the thread the queue is closed and each job reports it.
        let _ = std::thread::Builder::new().name("spawner".into()).spawn(move || {
            for job in queue {
                reap_abandoned();
                job();
            }
        });
        jobs
    });
    let (answer, result) = oneshot::channel();
    let job: Job = Box::new(move || {
        if let Err(Ok((_, pidfd))) = answer.send(fork()) {
            abandon(pidfd);
        }
    });
    let stopped = || io::Error::other("the thread that starts processes is gone");
    spawner.send(job).map_err(|_| stopped())?;
    result.await.map_err(|_| stopped())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Launch {
        Launch::new("sh", ["-c", script], folder.join("log"))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn exit_codes_and_signals_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_secs(10);
        let exited = run_to_end(&shell("exit 3", folder.path()), None, limit).await.unwrap();
        assert_eq!(exited, ExitState::Exited(3));
        let killed = run_to_end(&shell("kill -9 $$", folder.path()), None, limit).await.unwrap();
        assert_eq!(killed, ExitState::Signaled(9));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_is_inherited_but_the_three_standard_files() {
        let folder = tempfile::tempdir().unwrap();
        // A descriptor without close-on-exec, as a careless parent of the harness leaves it.
        let leaked = File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        let script = "ls /proc/$$/fd; readlink /proc/$$/fd/0; ps -o sid= -p $$ | grep -qw $$";
        let launch = shell(script, folder.path());
        let state = run_to_end(&launch, None, Duration::from_secs(10)).await.unwrap();
        let log = fs::read_to_string(&launch.stdout).unwrap();
        assert_eq!((log.as_str(), state), ("0\n1\n2\n/dev/null\n", ExitState::Exited(0)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn stop_is_gentle_first_and_a_late_tool_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let gentle =
            shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done", folder.path());
        let process = Process::spawn(&gentle, None).await.unwrap();
        while !fs::read_to_string(&gentle.stdout).unwrap().contains("up") {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(process.stop(Duration::from_secs(10)).await.unwrap(), ExitState::Exited(7));
        assert_eq!(process.wait().await.unwrap(), ExitState::Exited(7));
        process.signal(Signal::TERM).unwrap();

        let stubborn = shell("trap '' TERM; while :; do sleep 0.01; done", folder.path());
        let process = Process::spawn(&stubborn, None).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        let state = process.stop(Duration::from_millis(50)).await.unwrap();
        assert_eq!(state, ExitState::Signaled(9));

        let sleeper = shell("sleep 60", folder.path());
        let late = run_to_end(&sleeper, None, Duration::from_millis(50)).await;
        assert!(matches!(late, Err(ProcessError::TimedOut { .. })));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_program_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch::new("/no/such/program", [""; 0], folder.path().join("log"));
        let error = Process::spawn(&launch, None).await.unwrap_err();
        assert_eq!(error.to_string(), "start /no/such/program");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_dropped_process_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::spawn(&shell("sleep 60", folder.path()), None).await.unwrap();
        let pid = process.pid();
        let probe = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        drop(process);
        // ECHILD: reaped, here or in passing by another test's start of a process.
        while !matches!(waitid(WaitId::PidFd(probe.as_fd()), peek()), Err(Errno::CHILD)) {
            reap_abandoned();
            sleep(Duration::from_millis(2)).await;
        }
    }
}
