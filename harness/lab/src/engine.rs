//! Links in user space: one process carries frames between pairs of TAP devices and shapes them.
//!
//! Input: [`EngineLink`]s. Output: [`Engine`], the harness' handle: it changes shapes, cuts links,
//! reads counters and learns when the process ends. The process is this same program, `limosa
//! engine`; it gets the descriptors over a socket that is its standard input ([`letter`]).
//!
//! ```text
//! TAP a → queue and rate (queue, trace) → delay and faults (delay, random) → TAP b, and back
//! ```
//!
//! Each stage is computed, not simulated: a packet's times follow from its arrival, and the process
//! wakes up only when one is due at the far end ([`carrier`]). The engine ends when its socket
//! closes, so it dies with the harness, and with its descriptors go the TAP devices.

mod carrier;
mod counters;
mod delay;
mod frame;
pub(crate) use frame::segments;
mod letter;
mod link;
pub mod measure;
mod pool;
mod queue;
mod random;
mod trace;

pub use carrier::carry;
pub use counters::{DirectionCounters, TimerError};

use crate::shape::ShapePlan;
use anyhow::{Context, Result, bail};
use limosa_record::fault;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        Shutdown, shutdown,
        sockopt::{Timeout, set_socket_timeout},
    },
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::io::unix::AsyncFd;

/// An engine that does not answer for so long hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// An engine that has not ended by itself after so many seconds is killed.
const END_LIMIT_S: i64 = 10;

/// One link of the engine: two TAP descriptors and the shape of each direction.
#[derive(Debug)]
pub struct EngineLink {
    /// Name of the link.
    pub name: String,
    /// The end where `a_to_b` comes in, from [`tap::create`](crate::sys::tap::create).
    pub a: OwnedFd,
    /// The other end.
    pub b: OwnedFd,
    /// What happens from a to b.
    pub a_to_b: Direction,
    /// What happens from b to a.
    pub b_to_a: Direction,
}

/// A direction's shape and the seed of its random numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// Rate or trace, and delay and faults.
    pub shape: ShapePlan,
    /// The same seed makes the same decisions for the same packets.
    pub seed: u64,
}

/// What the engine process says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Whether it has real-time priority (SCHED_FIFO): without, other processes delay its packets.
    pub realtime: bool,
    /// Whether its memory cannot be paged out.
    pub memory_locked: bool,
    /// Processor time that it has used, in nanoseconds.
    pub cpu_ns: u64,
    /// How often it has woken up.
    pub wakeups: u64,
    /// How late packets left, over all links, since the start or the last reset.
    pub timer: TimerError,
}

/// A link's name and what passed from a to b and from b to a.
pub type LinkCounters = (String, [DirectionCounters; 2]);

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// A recording that later shapes name by its hash; a memory file with its times comes with it.
    Recording {
        sha256: String,
    },
    /// A new link; its two descriptors come with it.
    Add {
        name: String,
        a_to_b: Direction,
        b_to_a: Direction,
    },
    Shape {
        link: String,
        a_to_b: Option<Direction>,
        b_to_a: Option<Direction>,
    },
    SetUp {
        link: String,
        up: bool,
    },
    Count,
    Reset,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Done,
    Refused(String),
    Counts { links: Vec<LinkCounters>, status: Status },
}

/// The engine process; dropping this ends it.
#[derive(Debug)]
pub struct Engine {
    child: Mutex<Child>,
    pidfd: OwnedFd,
    socket: Mutex<OwnedFd>,
    log: PathBuf,
    /// Recordings that the process has, by their hashes.
    taught: Mutex<HashSet<String>>,
}

impl Engine {
    /// Starts `program engine` and returns when it carries the packets of all links. What it says
    /// is appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started or a descriptor is no TAP.
    pub fn start(program: &Path, links: Vec<EngineLink>, log: &Path) -> Result<Self> {
        let open = || OpenOptions::new().append(true).create(true).open(log);
        let stderr = open().with_context(|| format!("open log file {}", log.display()))?;
        fault::here("engine").context("start the link engine")?;
        let (ours, theirs) = letter::pair()?;
        let child = Command::new(program)
            .arg("engine")
            .stdin(Stdio::from(theirs))
            .stdout(stderr.try_clone().context("open the engine's log twice")?)
            .stderr(stderr)
            // Ctrl-C is for the harness, which ends the engine after all that needs it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {} engine", program.display()))?;
        let pid = Pid::from_child(&child);
        set_socket_timeout(&ours, Timeout::Recv, Some(ANSWER_LIMIT)).context("set SO_RCVTIMEO")?;
        let engine = Self {
            child: Mutex::new(child),
            // Nobody else reaps it, so the PID is still its own.
            pidfd: pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?,
            socket: Mutex::new(ours),
            log: log.to_owned(),
            taught: Mutex::default(),
        };
        for EngineLink { name, a, b, a_to_b, b_to_a } in links {
            let what = format!("give link `{name}` to the engine");
            engine.teach(&a_to_b.shape)?;
            engine.teach(&b_to_a.shape)?;
            let request = Request::Add { name, a_to_b, b_to_a };
            engine.done(&request, &[a.as_fd(), b.as_fd()]).context(what)?;
        }
        Ok(engine)
    }

    /// Changes the shape of a link in place: packets that wait or are on their way stay, the
    /// sequences of random numbers start anew. A direction without a new shape stays as it is.
    ///
    /// # Errors
    /// When there is no such link, or the engine has ended.
    pub fn shape(
        &self,
        link: &str,
        a_to_b: Option<&Direction>,
        b_to_a: Option<&Direction>,
    ) -> Result<()> {
        a_to_b.into_iter().chain(b_to_a).try_for_each(|d| self.teach(&d.shape))?;
        let (a_to_b, b_to_a) = (a_to_b.cloned(), b_to_a.cloned());
        let request = Request::Shape { link: link.to_owned(), a_to_b, b_to_a };
        self.done(&request, &[]).with_context(|| format!("shape link `{link}`"))
    }

    /// Cuts a link or mends it. Cutting drops what waits and what is on its way, too.
    ///
    /// # Errors
    /// When there is no such link, or the engine has ended.
    pub fn set_up(&self, link: &str, up: bool) -> Result<()> {
        let request = Request::SetUp { link: link.to_owned(), up };
        self.done(&request, &[]).with_context(|| format!("set link `{link}`"))
    }

    /// Counters of each link, a to b and b to a, in the order in which the links were given.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn counters(&self) -> Result<Vec<LinkCounters>> {
        self.count().map(|(links, _)| links)
    }

    /// What the process says of itself.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn status(&self) -> Result<Status> {
        self.count().map(|(_, status)| status)
    }

    /// Sets all counters and the statistics of the timer to zero.
    ///
    /// # Errors
    /// When the engine has ended.
    pub fn reset(&self) -> Result<()> {
        self.done(&Request::Reset, &[])
    }

    /// The process's number, for those who measure it.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Waits until the process has ended although nobody asked it to, and says why. Needs a tokio
    /// runtime with I/O.
    pub async fn ended(&self) -> String {
        let end = async {
            // SAFETY: the descriptor is owned and stays open as long as it is registered.
            let pidfd = unsafe { AsyncFd::register(self.pidfd.try_clone()?) }?;
            let _ready = pidfd.readable().await?;
            anyhow::Ok(())
        };
        match end.await {
            Ok(()) => self.obituary(),
            Err(e) => format!("the link engine cannot be watched: {e:#}"),
        }
    }

    /// Gives the process the recording of a shape, unless it has it: a long one takes time, in which
    /// no packet moves.
    ///
    /// # Errors
    /// When the recording has not been read, or the engine has ended.
    pub fn teach(&self, shape: &ShapePlan) -> Result<()> {
        let Some(trace) = &shape.trace else { return Ok(()) };
        let mut taught = self.taught.lock().unwrap_or_else(PoisonError::into_inner);
        if !taught.contains(&trace.sha256) {
            let times = letter::file_of(&trace.recording()?.opportunities_ms)?;
            let request = Request::Recording { sha256: trace.sha256.clone() };
            let what = || format!("give the recording {} to the engine", trace.file);
            self.done(&request, &[times.as_fd()]).with_context(what)?;
            taught.insert(trace.sha256.clone());
        }
        Ok(())
    }

    fn done(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        match self.ask(request, descriptors)? {
            Answer::Done => Ok(()),
            Answer::Refused(why) => bail!("{why}"),
            Answer::Counts { .. } => bail!("the link engine gave the answer to another question"),
        }
    }

    fn count(&self) -> Result<(Vec<LinkCounters>, Status)> {
        match self.ask(&Request::Count, &[]).context("read the link engine's counters")? {
            Answer::Counts { links, status } => Ok((links, status)),
            other => bail!("the link engine answered {other:?}"),
        }
    }

    fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answer> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = letter::send(socket.as_fd(), request, descriptors)
            .and_then(|()| letter::receive(socket.as_fd()));
        match answer {
            Ok(Some((answer, _))) => Ok(answer),
            Ok(None) => bail!("{}", self.obituary()),
            Err(e) if self.has_ended() => Err(e.context(self.obituary())),
            Err(e) => Err(e.context("the link engine does not answer")),
        }
    }

    fn has_ended(&self) -> bool {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::PidFd(self.pidfd.as_fd()), peek), Ok(None))
    }

    /// How it ended, and the end of its log.
    fn obituary(&self) -> String {
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let how = match waitid(WaitId::PidFd(self.pidfd.as_fd()), peek) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exited with {code}"),
                (_, Some(signal)) => format!("was killed by signal {signal}"),
                _ => "ended".to_owned(),
            },
            _ => "ended".to_owned(),
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(3).collect();
        let quote: String = tail.iter().rev().map(|line| format!("\n  {line}")).collect();
        format!("the link engine {how}, see {}{quote}", self.log.display())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It ends when nobody can write to it any more, and closes its devices side by side, which
        // is faster than if it were killed.
        let socket = self.socket.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = shutdown(&*socket, Shutdown::Both);
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let limit = Timespec { tv_sec: END_LIMIT_S, tv_nsec: 0 };
        let _ = poll(&mut ended, Some(&limit));
        // Both fail only when it has ended and been reaped already.
        let _ = child.kill();
        let _ = child.wait();
    }
}
