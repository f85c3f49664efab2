//! limosa as the guest's agent: mounts the shared folders, runs the command, carries its output out and signals in.
//!
//! Input: `job.json` and frames from the host. Output: frames to the host. Kernel interface: mount(2) with 9p over virtio, a
//! virtio-serial port. `main` calls [`run_if_asked`] before anything else.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, Timespec, clock_settime};

use super::channel::{Frame, MAX_PAYLOAD};
use super::job::{AGENT_ENV, Job, Mount, PORT_NAME};
use limosa_lab::sys::stamped;

/// How long output of processes that outlive the command is waited for.
const OUTPUT_GRACE: Duration = Duration::from_millis(300);

/// Runs as the agent if the environment asks for it; `None` means that this is an ordinary start of limosa.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    let job = std::env::var_os(AGENT_ENV)?;
    Some(match serve(Path::new(&job)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limosa agent: {error:#}");
            ExitCode::FAILURE
        }
    })
}

/// The host's end of the channel; a frame is written whole or not at all.
#[derive(Clone)]
struct Host(Arc<Mutex<File>>);

impl Host {
    fn send(&self, frame: &Frame) -> io::Result<()> {
        frame.write(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(job: &Path) -> Result<()> {
    let port = open_port()?;
    let mut reader = port.try_clone().context("duplicate the channel")?;
    let host = Host(Arc::new(Mutex::new(port)));
    set_clock(&host, &mut reader)?;
    let _stamps = keep_arrival_times_on()?;
    match prepare(job).and_then(|job| start(&job)) {
        Ok(child) => attend(child, &host, reader)?,
        Err(error) => host.send(&Frame::Failed(format!("{error:#}")))?,
    }
    // The host ends the machine as soon as it has the last frame; only if it does not, the guest ends itself.
    std::thread::sleep(Duration::from_secs(5));
    Ok(())
}

/// Takes the host's time. The emulated clock chip only knows whole seconds, so the kernel starts up to a second wrong; half
/// the round trip of the question is what the answer is old (RFC 5905, section 8).
fn set_clock(host: &Host, reader: &mut File) -> Result<()> {
    let asked = Instant::now();
    host.send(&Frame::AskTime).context("ask for the time")?;
    let Frame::Time(time) = Frame::read(reader).context("read the time")? else {
        bail!("the host did not tell the time");
    };
    let age = i64::try_from(asked.elapsed().as_nanos() / 2).unwrap_or_default();
    let time = time.saturating_add(age);
    let time = Timespec {
        tv_sec: time.div_euclid(1_000_000_000),
        tv_nsec: time.rem_euclid(1_000_000_000),
    };
    clock_settime(ClockId::Realtime, time).context("set the guest's clock")
}

/// The first socket that wants times of arrival and the last one that does each have the kernel rewrite its own code while
/// other processors run it, which an emulated machine survives most times only. With one held all along that happens once.
fn keep_arrival_times_on() -> Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .context("open a socket on the guest's loopback")?;
    stamped::enable(&socket)?;
    Ok(socket)
}

/// Finds the port by its name, as udev would. The host's end may show up a moment after the device.
fn open_port() -> Result<File> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten() {
            let entry = entry.context("list virtio ports")?;
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == PORT_NAME {
                let path = PathBuf::from("/dev").join(entry.file_name());
                return OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .with_context(|| format!("open {}", path.display()));
            }
        }
        ensure!(Instant::now() < deadline, "no virtio port named {PORT_NAME}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn prepare(path: &Path) -> Result<Job> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let job: Job =
        serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
    for share in &job.mounts {
        mount_share(share)
            .with_context(|| format!("mount {} in the guest", share.path.display()))?;
    }
    fs::create_dir_all(&job.dir).with_context(|| format!("make {}", job.dir.display()))?;
    Ok(job)
}

fn mount_share(share: &Mount) -> Result<()> {
    fs::create_dir_all(&share.path)?;
    let flags = if share.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    // cache=mmap is the least caching that still lets programs map files; every write goes straight to the host.
    let options = CString::new("trans=virtio,version=9p2000.L,msize=512000,cache=mmap")?;
    mount(share.tag.as_str(), &share.path, "9p", flags, options.as_c_str())?;
    Ok(())
}

fn start(job: &Job) -> Result<Child> {
    Command::new(&job.program)
        .args(&job.args)
        .env_clear()
        .envs(&job.env)
        .current_dir(&job.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {} in the guest", job.program.display()))
}

fn attend(mut child: Child, host: &Host, control: File) -> Result<()> {
    host.send(&Frame::Ready)?;
    let (done, pumps) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        pump(stdout, host.clone(), Frame::Stdout, done.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        pump(stderr, host.clone(), Frame::Stderr, done.clone());
    }
    drop(done);
    let pid = Pid::from_child(&child);
    std::thread::spawn(move || obey(control, pid));
    let status = child.wait().context("wait for the command")?;

    let deadline = Instant::now() + OUTPUT_GRACE;
    while pumps.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
    // Mapped pages of shared files may still be on their way.
    rustix::fs::sync();
    host.send(&Frame::Exit(code(status)))?;
    Ok(())
}

/// Copies one output of the command to the host until it is closed; tells `done` at its end.
fn pump(
    mut output: impl Read + Send + 'static,
    host: Host,
    frame: fn(Vec<u8>) -> Frame,
    done: Sender<()>,
) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; MAX_PAYLOAD];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) if host.send(&frame(buffer[..length].to_vec())).is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        // Nobody listens any more when the grace period is over.
        let _ = done.send(());
    });
}

/// Passes signals on; a host that is gone has no use for the command any more.
fn obey(mut control: File, command: Pid) {
    loop {
        let signal = match Frame::read(&mut control) {
            Ok(Frame::Signal(number)) => Signal::from_named_raw(number).unwrap_or(Signal::INT),
            Ok(_) => continue,
            Err(_) => Signal::KILL,
        };
        // The command may have ended by itself in this very moment.
        let _ = kill_process(command, signal);
        if signal == Signal::KILL {
            break;
        }
    }
}

/// The exit code, with a shell's convention for signals.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn death_by_signal_is_128_plus_its_number() {
        assert_eq!(code(ExitStatus::from_raw(5 << 8)), 5);
        assert_eq!(code(ExitStatus::from_raw(2)), 130);
    }
}
