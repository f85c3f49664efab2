//! The engine process: waits for frames, due times and letters, and moves packets.
//!
//! Input: letters on standard input. Output: frames on the TAP devices. Kernel interface: epoll(7),
//! timerfd_create(2), sched(7), mlockall(2), prctl(2).

use super::{
    Answer, Direction, Request, Status, counters::Histogram, letter, link::Link, pool::Pool,
};
use crate::sys::tap::HEADER_BYTES;
use anyhow::{Context, Result, ensure};
use limosa_record::recording::Recording;
use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    mm::{MlockAllFlags, mlockall},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    stdio::stdin,
    thread::set_current_timer_slack,
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
        clock_gettime, timerfd_create, timerfd_settime,
    },
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    num::NonZeroU64,
    os::fd::OwnedFd,
    sync::Arc,
};

/// After a wake-up, packets that become due rest for this long, so that a busy link wakes the
/// process up once for several of them; a packet that comes alone is on time. Going to sleep and
/// being woken up by a timer is what costs: 20 µs of processor time in a virtual machine, six times
/// as much as to read and write a packet. Packets of a full link are then late by anything up to
/// this and the wake-up itself. Longer would be cheaper, but shows against netem: 150 µs are more
/// than 5 % of what a queue of two packets holds at 10 Mbit/s.
const REST_NS: u64 = 50_000;

/// Frames read from one device before others have their turn.
const TURN_FRAMES: usize = 64;

/// The longest train, its headers and some room.
const LONGEST_READ: usize = HEADER_BYTES + 66_000;

const LETTERS: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Carries packets until the harness closes its end of standard input: `limosa engine`.
///
/// # Errors
/// When the kernel refuses what every kernel gives, or the harness sends nonsense.
pub fn carry() -> Result<()> {
    // Descriptors: as many as root left us.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    set_current_timer_slack(NonZeroU64::new(1)).context("PR_SET_TIMERSLACK")?;
    let status = Status {
        realtime: become_realtime(),
        memory_locked: mlockall(
            MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT,
        )
        .is_ok(),
        ..Status::default()
    };
    let mut carrier = Carrier::new(status)?;
    let end = carrier.run();
    close(carrier.links);
    end
}

/// Threads that close devices. The kernel waits some 20 ms for each, for all that wait together.
const CLOSERS: usize = 32;

/// Lets go of the devices, which takes them away.
fn close(links: Vec<Link>) {
    let mut parts: Vec<Vec<OwnedFd>> = Vec::new();
    parts.resize_with(CLOSERS.min(links.len().max(1)), Vec::new);
    let count = parts.len();
    for (n, device) in links.into_iter().flat_map(Link::into_devices).enumerate() {
        parts[n % count].push(device);
    }
    std::thread::scope(|scope| {
        for part in parts {
            // Where there is no thread, this one closes them.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(part));
        }
    });
}

/// The lowest real-time priority: before everything ordinary, behind the kernel's own threads.
fn become_realtime() -> bool {
    // SAFETY: all zeroes is a valid sched_param.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: the kernel reads the parameters during the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}

struct Carrier {
    links: Vec<Link>,
    pool: Pool,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer goes off, if it is set.
    timer_at_ns: Option<u64>,
    /// When each direction (link × 2 + 0 or 1) next has something to do; old entries are skipped.
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    /// The agenda's entry that holds, by direction.
    next_ns: Vec<Option<u64>>,
    status: Status,
    late: Histogram,
    /// By their hashes.
    recordings: HashMap<String, Arc<Recording>>,
}

impl Carrier {
    fn new(status: Status) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .context("timerfd_create")?;
        let letters = EventData::new_u64(LETTERS);
        epoll::add(&epoll, stdin(), letters, EventFlags::IN).context("watch standard input")?;
        // Setting the timer again also takes its event back: it never needs to be read.
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), edge).context("watch the timer")?;
        Ok(Self {
            links: Vec::new(),
            pool: Pool::default(),
            epoll,
            timer,
            timer_at_ns: None,
            agenda: BinaryHeap::new(),
            next_ns: Vec::new(),
            status,
            late: Histogram::default(),
            recordings: HashMap::new(),
        })
    }

    fn run(&mut self) -> Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        let mut buffer = vec![0; LONGEST_READ];
        loop {
            self.set_timer()?;
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e).context("epoll_wait"),
            }
            self.status.wakeups += 1;
            for event in &events {
                match event.data.u64() {
                    TIMER => self.timer_at_ns = None,
                    LETTERS => {
                        let Some((request, descriptors)) = letter::receive(stdin())? else {
                            return Ok(());
                        };
                        let answer = self
                            .obey(request, descriptors)
                            .unwrap_or_else(|e| Answer::Refused(format!("{e:#}")));
                        letter::send(stdin(), &answer, &[])?;
                    }
                    direction => self.read(direction as usize, &mut buffer),
                }
            }
            self.move_due();
        }
    }

    /// Reads what waits in the device where a direction comes in.
    fn read(&mut self, direction: usize, buffer: &mut [u8]) {
        let link = &mut self.links[direction / 2];
        for _ in 0..TURN_FRAMES {
            match rustix::io::read(link.device(direction % 2), &mut *buffer) {
                Ok(length) if length > HEADER_BYTES => {
                    let frame = self.pool.take(&buffer[..length]);
                    link.accept(direction % 2, now_ns(), frame);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    eprintln!("link `{}` cannot be read any more: {error}", link.name);
                    // Otherwise it would be reported as readable for ever.
                    let _ = epoll::delete(&self.epoll, link.device(direction % 2));
                    break;
                }
            }
        }
        self.forward(direction);
    }

    /// Sends what is due in a direction and notes when there is more to do.
    fn forward(&mut self, direction: usize) {
        let link = &mut self.links[direction / 2];
        let next = link.forward(direction % 2, &mut self.pool, &mut self.late);
        if self.next_ns[direction] != next {
            self.next_ns[direction] = next;
            self.agenda.extend(next.map(|at| Reverse((at, direction))));
        }
    }

    fn move_due(&mut self) {
        let now = now_ns();
        while let Some(Reverse((at, direction))) = self.agenda.peek().copied() {
            if at > now {
                break;
            }
            self.agenda.pop();
            if self.next_ns[direction] == Some(at) {
                self.next_ns[direction] = None;
                self.forward(direction);
            }
        }
    }

    fn set_timer(&mut self) -> Result<()> {
        while let Some(Reverse((at, direction))) = self.agenda.peek().copied() {
            if self.next_ns[direction] == Some(at) {
                break;
            }
            self.agenda.pop();
        }
        let Some(Reverse((at, _))) = self.agenda.peek().copied() else { return Ok(()) };
        let at = at.max(now_ns() + REST_NS);
        // A timer that goes off too early costs a wake-up and nothing else.
        if self.timer_at_ns.is_none_or(|set| set > at) {
            let value = Timespec {
                tv_sec: (at / 1_000_000_000).cast_signed(),
                tv_nsec: (at % 1_000_000_000).cast_signed(),
            };
            let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)
                .context("timerfd_settime")?;
            self.timer_at_ns = Some(at);
        }
        Ok(())
    }

    fn obey(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Result<Answer> {
        match request {
            Request::Recording { sha256 } => {
                let [times]: [OwnedFd; 1] =
                    descriptors.try_into().ok().context("a recording has one descriptor")?;
                let opportunities_ms = letter::numbers_in(times)?;
                let recording = Recording { opportunities_ms, ..Recording::default() };
                self.recordings.insert(sha256, Arc::new(recording));
            }
            Request::Add { name, mut a_to_b, mut b_to_a } => {
                self.equip(&mut a_to_b)?;
                self.equip(&mut b_to_a)?;
                let ends: [OwnedFd; 2] =
                    descriptors.try_into().ok().context("a link has two descriptors")?;
                ensure!(self.links.iter().all(|l| l.name != name), "`{name}` is there already");
                for (end, direction) in ends.iter().zip(self.links.len() * 2..) {
                    let data = EventData::new_u64(direction as u64);
                    epoll::add(&self.epoll, end, data, EventFlags::IN).context("watch a device")?;
                    self.next_ns.push(None);
                }
                self.links.push(Link::new(name, ends, [a_to_b, b_to_a], now_ns()));
            }
            Request::Shape { link, a_to_b, b_to_a } => {
                let number = self.find(&link)?;
                for (side, shape) in [a_to_b, b_to_a].into_iter().enumerate() {
                    let Some(mut shape) = shape else { continue };
                    self.equip(&mut shape)?;
                    self.forward(number * 2 + side);
                    self.links[number].reshape(side, shape, now_ns());
                    self.forward(number * 2 + side);
                }
            }
            Request::SetUp { link, up } => {
                let number = self.find(&link)?;
                self.links[number].set_up(up);
            }
            Request::Count => {
                let counted = |l: &Link| (l.name.clone(), l.counters());
                let cpu = clock_gettime(ClockId::ProcessCPUTime);
                let cpu_ns = nanoseconds(cpu);
                let status = Status { cpu_ns, timer: self.late.summary(), ..self.status };
                return Ok(Answer::Counts {
                    links: self.links.iter().map(counted).collect(),
                    status,
                });
            }
            Request::Reset => {
                self.links.iter_mut().for_each(Link::reset);
                self.late = Histogram::default();
            }
        }
        Ok(Answer::Done)
    }

    /// Puts the recording that a shape names into it.
    fn equip(&self, direction: &mut Direction) -> Result<()> {
        let Some(trace) = &mut direction.shape.trace else { return Ok(()) };
        let known = self.recordings.get(&trace.sha256).cloned();
        trace.recording.0 = Some(known.context("the engine does not have the recording")?);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize> {
        let found = self.links.iter().position(|l| l.name == name);
        found.with_context(|| format!("the engine has no link `{name}`"))
    }
}

/// The clock of all due times: CLOCK_MONOTONIC in nanoseconds.
pub(super) fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
