//! One guest from power-on to power-off, seen from the host.
//!
//! Input: a [`GuestCommand`]. Output: the inner command's output on this process's standard output and error, and its exit
//! code. A first Ctrl-C goes to the inner command as SIGINT, a second one ends the guest.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use limosa_record::fault::{self, Kind};
use rustix::process::Pid;
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::ONE_REQUEST;
use super::channel::Frame;
use super::job::{AGENT_NAME, BIN_DIR, Job, Mount};
use super::qemu::{self, Export, Machine};
use super::{GuestCommand, Ready, terminal};
use limosa_lab::journal::WorkFolder;

/// Within this time the agent has to have answered; software emulation on a busy machine can be slow.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// Exit code of a command that was ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Lines of the console that an error shows.
const CONSOLE_LINES: usize = 5;

/// The guest's kernel crashed, or QEMU did. Emulated processors see each other's changes of kernel code at times that real
/// ones do not, so this is an accident of the emulation: the same command may well succeed in a new guest.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Crashed(String);

/// Runs `command` in a guest and returns its exit code. Must not be called from async code; see [`run_async`].
///
/// # Errors
/// When the guest does not come up, ends before its command, or reaches its time limit. The error names the console log.
pub fn run(command: &GuestCommand, ready: &Ready) -> Result<i32> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(run_async(command, ready))
}

/// [`run`] for async code. QEMU ends with the thread that calls this, so that thread has to live on until it returns.
///
/// # Errors
/// As [`run`].
pub async fn run_async(command: &GuestCommand, ready: &Ready) -> Result<i32> {
    let job = job_folder(command)?;
    let exports = exports(command)?;
    if let Some(folder) = command.console.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    // QEMU would write through a link.
    limosa_record::dir::create(&command.console)?;
    let mut signals = Signals::catch()?;
    let (host, guest) = UnixStream::pair().context("make the channel")?;
    let machine = Machine {
        accelerator: ready.accelerator,
        cpus: command.cpus,
        memory_mib: command.memory_mib,
        kernel: &ready.image.kernel(),
        initrd: &ready.image.initrd(),
        disk: Some(&ready.image.disk()),
        append: "",
        console: &command.console,
        channel: Some(guest.as_raw_fd()),
        job: Some(job.path()),
        exports: &exports,
    };
    rustix::io::fcntl_setfd(&guest, rustix::io::FdFlags::empty())
        .context("hand the channel to QEMU")?;
    let errors = job.path().join("qemu.log");
    let log = fs::File::create(&errors).context("make QEMU's log")?;
    let mut process = tokio::process::Command::from(qemu::command(&machine.args()));
    let mut process = process
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {} (hint: limosa setup)", qemu::PROGRAM))?;
    // With our copy open, the channel would not end when QEMU does.
    drop(guest);
    let qemu = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let strike = |point: &str| {
        let blow = match fault::strikes(point) {
            Some(Kind::Hang) => rustix::process::Signal::STOP,
            Some(_) => rustix::process::Signal::KILL,
            None => return,
        };
        // One that has ended needs no blow.
        let _ = qemu.map(|qemu| rustix::process::kill_process(qemu, blow));
    };
    strike("guest/boot");
    let result = attend(host, &mut signals, command.time_limit, || strike("guest/run")).await;
    end(&mut process).await;
    result.map_err(|error| explain(error, &command.console, &errors))
}

/// The folder that the guest finds under the tag `job`.
fn job_folder(command: &GuestCommand) -> Result<WorkFolder> {
    let folder = WorkFolder::new("guest")?;
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).context("make a folder for the executables")?;
    let mut agent = None;
    for executable in &command.executables {
        let name = executable
            .file_name()
            .with_context(|| format!("{} is no file", executable.display()))?;
        let target = bin.join(name);
        // A link costs nothing, but works on one file system only.
        fs::hard_link(executable, &target)
            .or_else(|_| fs::copy(executable, &target).map(drop))
            .with_context(|| format!("copy {} for the guest", executable.display()))?;
        agent.get_or_insert(name);
    }
    let main = agent.context("no executable for the guest")?;
    fs::write(bin.join(AGENT_NAME), agent_script(&main.to_string_lossy()))
        .context("write the agent's start")?;
    set_mode(&bin.join(AGENT_NAME), 0o755)?;
    let mut env = terminal::environment();
    env.extend(command.env.clone());
    let description = Job {
        program: command.program.clone().unwrap_or_else(|| Path::new(BIN_DIR).join(main)),
        args: command.args.clone(),
        env,
        dir: command.dir.clone(),
        mounts: mounts(command),
    };
    let text = serde_json::to_vec_pretty(&description).context("write the job")?;
    fs::write(folder.path().join("job.json"), text).context("write the job")?;
    Ok(folder)
}

/// The agent is limosa itself; a link would do, but 9p with `security_model=none` does not follow links on the host.
fn agent_script(main: &str) -> String {
    let quoted = main.replace('\'', "'\\''");
    format!("#!/bin/sh\nexec {BIN_DIR}/'{quoted}'\n")
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("change {}", path.display()))
}

fn tag(index: usize) -> String {
    format!("share{index}")
}

/// Outer folders first, so that an inner one is not hidden by them.
fn mounts(command: &GuestCommand) -> Vec<Mount> {
    let mut mounts: Vec<_> = command
        .shares
        .iter()
        .enumerate()
        .map(|(index, share)| Mount {
            tag: tag(index),
            path: share.path.clone(),
            read_only: share.read_only,
        })
        .collect();
    mounts.sort_by_key(|mount| mount.path.components().count());
    mounts
}

fn exports(command: &GuestCommand) -> Result<Vec<Export>> {
    let mut exports = Vec::new();
    for (index, share) in command.shares.iter().enumerate() {
        let path = share.path.display();
        ensure!(
            share.path.is_absolute() && share.path.parent().is_some(),
            "{path} cannot be shared with the guest: it has to be a full path, and not the root"
        );
        ensure!(share.path.is_dir(), "{path} cannot be shared with the guest: it is no folder");
        exports.push(Export {
            tag: tag(index),
            path: share.path.clone(),
            read_only: share.read_only,
        });
    }
    Ok(exports)
}

/// The signals by which a user or a supervisor asks limosa to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> Result<Self> {
        let catch = |kind| signal(kind).context("catch signals");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Whether it was Ctrl-C.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => false,
            _ = self.hangup.recv() => false,
        }
    }
}

/// Carries frames until the command has ended, and calls `at_work` when it begins; returns its exit
/// code.
async fn attend(
    mut channel: UnixStream,
    signals: &mut Signals,
    time_limit: Option<Duration>,
    at_work: impl Fn(),
) -> Result<i32> {
    // Reading and printing happen in a thread of their own: a blocked terminal must not keep Ctrl-C from the guest.
    let (sender, mut news) = mpsc::unbounded_channel();
    let read = channel.try_clone().context("set up the channel")?;
    std::thread::spawn(move || carry(read, &sender));
    let started = Instant::now();
    let boot_end = started + BOOT_LIMIT;
    let far = Duration::from_secs(10 * 365 * 24 * 3600);
    let run_end = started + time_limit.unwrap_or(far);
    let mut running = false;
    let mut interrupted: Option<Instant> = None;
    loop {
        tokio::select! {
            frame = news.recv() => match frame {
                Some(Ok(Frame::Ready)) => {
                    running = true;
                    at_work();
                }
                Some(Ok(Frame::AskTime)) => Frame::Time(now_ns())
                    .write(&mut channel)
                    .context("tell the guest the time")?,
                Some(Ok(Frame::Exit(code))) => return Ok(code),
                Some(Ok(Frame::Failed(reason))) => bail!(reason),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None if running => {
                    return Err(Crashed("the guest ended before its command did".into()).into());
                }
                None => return Err(Crashed("the guest ended while it was starting".into()).into()),
            },
            ctrl_c = signals.next() => {
                if !ctrl_c && interrupted.is_some_and(|last| last.elapsed() < ONE_REQUEST) {
                    continue;
                }
                if interrupted.is_some() || !running {
                    return Ok(INTERRUPTED);
                }
                interrupted = Some(Instant::now());
                Frame::Signal(libc::SIGINT)
                    .write(&mut channel)
                    .context("pass Ctrl-C to the guest")?;
            }
            () = sleep_until(boot_end), if !running => {
                bail!("the guest did not come up within {} s", BOOT_LIMIT.as_secs());
            }
            () = sleep_until(run_end) => {
                bail!("the guest reached its time limit of {} s and was ended",
                    time_limit.unwrap_or(far).as_secs());
            }
        }
    }
}

/// CLOCK_REALTIME, in nanoseconds.
fn now_ns() -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// Prints the guest's output and passes all other frames on, until the channel ends.
fn carry(mut channel: UnixStream, news: &mpsc::UnboundedSender<Result<Frame>>) {
    // A closed standard output is no reason to stop: the files in the run directory are what counts.
    let (mut stdout_open, mut stderr_open) = (true, true);
    loop {
        match Frame::read(&mut channel) {
            Ok(Frame::Stdout(bytes)) => {
                stdout_open = stdout_open && print(&mut std::io::stdout(), &bytes).is_ok();
            }
            Ok(Frame::Stderr(bytes)) => {
                stderr_open = stderr_open && print(&mut std::io::stderr(), &bytes).is_ok();
            }
            // Nobody listens any more when the session is over.
            Ok(frame) => drop(news.send(Ok(frame))),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                drop(news.send(Err(error).context("read from the guest")));
                return;
            }
            Err(_) => return,
        }
    }
}

fn print(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

/// Ends QEMU. Nothing is lost: the agent reports the exit code only after all files have reached the host.
async fn end(process: &mut Child) {
    // It may have ended by itself.
    let _ = process.start_kill();
    let _ = process.wait().await;
}

/// Adds what the console and QEMU itself said last.
fn explain(error: anyhow::Error, console: &Path, qemu_log: &Path) -> anyhow::Error {
    let mut text = format!("{error:#} (console: {})", console.display());
    for (title, path) in [("QEMU", qemu_log), ("console", console)] {
        let log = fs::read(path).unwrap_or_default();
        for line in last_lines(&String::from_utf8_lossy(&log)) {
            text.push_str(&format!("\n  {title}: {line}"));
        }
    }
    text.push_str("\n  hint: look at the console log; limosa setup checks the guest again");
    if error.is::<Crashed>() { Crashed(text).into() } else { anyhow!(text) }
}

fn last_lines(log: &str) -> Vec<String> {
    let clean = |line: &str| -> String { line.chars().filter(|c| !c.is_control()).collect() };
    let mut lines: Vec<_> = log
        .lines()
        .rev()
        .map(clean)
        .filter(|line| !line.trim().is_empty())
        .take(CONSOLE_LINES)
        .collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_clean() {
        let log = "one\r\n\r\n\u{1b}[0mtwo\r\nthree\r\n4\n5\n6\n";
        assert_eq!(last_lines(log), ["[0mtwo", "three", "4", "5", "6"]);
    }

    #[test]
    fn outer_folders_are_mounted_first() {
        let command = GuestCommand::current(Vec::new(), "console.log".into())
            .expect("this test has an executable")
            .share("/a/b/c")
            .share_read_only("/a");
        let mounts = mounts(&command);
        assert_eq!(mounts[0].path, Path::new("/a"));
        assert_eq!(mounts[0].tag, "share1");
        assert!(mounts[0].read_only && !mounts[1].read_only);
    }

    #[test]
    fn the_agent_is_started_by_its_quoted_name() {
        assert!(agent_script("li'm").ends_with("exec /run/limosa/bin/'li'\\''m'\n"));
    }
}
