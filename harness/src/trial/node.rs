//! A node: a process in a place, from its start over checkpoints and restores to its end. It is one
//! of Limosa's own, which answers requests, or any other program ([`command`]).

mod command;
mod end;
mod line;

pub use command::{Place, Shared, furnish};
pub use end::Meaning;
pub use line::Line;

use self::line::{accepted, ask, no_answer};
use crate::trial::timeline::until;
use anyhow::{Context, Result, bail};
use limosa_lab::{
    lab::{Lab, floating::Floating},
    sys::{
        criu::{Criu, DumpReport, Leave, Options, RestoreReport},
        family::family,
        freeze::Frozen,
        process::{ExitState, Launch, Process},
        sockets::{Held, Unread},
    },
};
use limosa_record::{
    clock::now_ns,
    dir::write_whole,
    node::{NodeConfig, Reply, Request},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    cell::{Cell, RefCell},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// Where nodes answer requests, inside their own namespace.
pub const CONTROL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4400);

/// How long a node may take until it answers for the first time.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// How long a running node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How often it is looked whether a node has come to where it moves.
const MOVED: Duration = Duration::from_millis(5);

/// How long a node that is asked to end is waited for to answer.
const STOP_ANSWER: Duration = Duration::from_millis(500);

/// How long a node may take to end after it was asked to.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A process in a place.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    kept: PathBuf,
    /// Where it answers requests, on the loopback of its place; a command answers none.
    control: Option<SocketAddr>,
    /// Its own address, which moves along.
    floating: Option<Floating>,
    place: RefCell<String>,
    process: RefCell<Rc<Process>>,
    /// Between checkpoint and restore its end is no accident.
    moving: Cell<bool>,
    killed: Cell<bool>,
    /// What it means when it ends by itself.
    meaning: Meaning,
    /// When it came to life again, CLOCK_REALTIME in ns.
    restored_ns: Cell<Option<i64>>,
    /// When somebody saw that it had ended.
    ended_ns: Cell<Option<i64>>,
    /// Since its address was taken away: it stands still, or its images do.
    frozen: RefCell<Option<Frozen>>,
    /// What its sockets held when it ended to live on elsewhere.
    unread: Cell<Option<Unread>>,
}

impl Node {
    /// Starts the node and waits until it answers. It works in `folder`, which should be on a fast
    /// file system; messages name `kept`, where its files will be in the end.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or never answers; quotes the end of its log.
    pub async fn start(
        program: &Path,
        name: &str,
        place: &str,
        folder: &Path,
        kept: &Path,
        config: &NodeConfig,
        lab: &Lab,
    ) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let file = folder.join("config.json");
        write_whole(&file, format!("{:#}\n", serde_json::to_value(config)?).as_bytes())?;
        let launch = Launch {
            program: program.into(),
            args: vec!["node".into(), file.into()],
            env: vec![],
            folder: Some(folder.into()),
            stdout: folder.join("stdout.log"),
            stderr: folder.join("stderr.log"),
            own_pid_namespace: true,
        };
        let process = Process::spawn(&launch, Some(lab.place(place)?.as_fd()))
            .await
            .with_context(|| format!("start node `{name}`"))?;
        let mut node = Self::new(name, place, folder, kept.into(), process);
        node.control = Some(config.control());
        tokio::select! {
            state = node.ended() => bail!(node.early_end(state)),
            answer = ask(lab.place(place)?, config.control(), &Request::Status, READY_LIMIT) => {
                answer.with_context(|| node.told(format!("node `{name}` never said ready")))?;
            }
        }
        Ok(node)
    }

    /// A process that runs. It answers no requests and has no address of its own.
    fn new(name: &str, place: &str, folder: &Path, kept: PathBuf, process: Process) -> Self {
        Self {
            name: name.into(),
            folder: folder.into(),
            kept,
            control: None,
            floating: None,
            place: RefCell::new(place.into()),
            process: RefCell::new(Rc::new(process)),
            moving: Cell::new(false),
            killed: Cell::new(false),
            meaning: Meaning::Accident,
            restored_ns: Cell::new(None),
            ended_ns: Cell::new(None),
            frozen: RefCell::new(None),
            unread: Cell::new(None),
        }
    }

    /// The same node with an address of its own, which its place has by now.
    pub fn with_address(mut self, floating: Option<Floating>) -> Self {
        self.floating = floating;
        self
    }

    /// What its UDP sockets held when it ended to live on elsewhere; `None` when it did not, or
    /// nobody could look.
    pub fn unread(&self) -> Option<Unread> {
        self.unread.get()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// PID of its first process in the harness' PID namespace.
    pub fn pid(&self) -> Pid {
        self.process.borrow().pid()
    }

    /// Asks it something.
    ///
    /// # Errors
    /// When it does not answer in time, or answers that it cannot.
    pub async fn ask(&self, lab: &Lab, request: &Request) -> Result<Reply> {
        let answer = async {
            loop {
                let process = self.process.borrow().clone();
                let line = Line::open(lab.place(&self.place())?, self.control()?)?;
                let answer = tokio::select! {
                    answer = line.answer(request, ANSWER_LIMIT) => answer?,
                    // What was restored answers elsewhere.
                    () = self.moved_from(&process) => continue,
                };
                match answer {
                    Some(answer) => break accepted(answer),
                    // Between checkpoint and restore nobody answers.
                    None if self.moving.get() && !self.killed.get() => {}
                    None => break Err(no_answer(ANSWER_LIMIT)),
                }
            }
        };
        answer.await.with_context(|| format!("ask node `{}`", self.name))
    }

    /// Waits until another process is this node.
    async fn moved_from(&self, process: &Rc<Process>) {
        while Rc::ptr_eq(process, &self.process.borrow()) {
            sleep(MOVED).await;
        }
    }

    /// A line to it, for more than one question. It must not move.
    ///
    /// # Errors
    /// When it is not Limosa's own, or no socket can be made.
    pub fn line(&self, lab: &Lab) -> Result<Line> {
        Line::open(lab.place(&self.place())?, self.control()?)
            .with_context(|| format!("ask node `{}`", self.name))
    }

    /// Whether it is Limosa's own.
    pub fn answers(&self) -> bool {
        self.control.is_some()
    }

    fn control(&self) -> Result<SocketAddr> {
        self.control.with_context(|| {
            format!("node `{}` is not Limosa's own and answers nothing", self.name)
        })
    }

    /// Where it runs.
    pub fn place(&self) -> String {
        self.place.borrow().clone()
    }

    /// Freezes it, writes it to images and does with it what `options` say.
    ///
    /// # Errors
    /// When CRIU fails; the node then goes on.
    pub async fn checkpoint(
        &self,
        criu: &Criu,
        images: &Path,
        options: &Options,
    ) -> Result<DumpReport> {
        let log = &options.work;
        fs::create_dir_all(log).with_context(|| format!("make {}", log.display()))?;
        let process = self.process.borrow().clone();
        let ends = options.leave == Leave::Dead;
        let held = if ends { Held::of(process.pid()).ok() } else { None };
        let leaves = matches!(options.leave, Leave::Dead | Leave::Stopped);
        self.moving.set(leaves);
        let dumped = match self.floating.as_ref().filter(|_| leaves) {
            Some(floating) => self.dump_without(floating, criu, &process, images, options).await,
            None => criu.dump(&process, images, options).await.map_err(Into::into),
        };
        match (&dumped, held) {
            (Ok(_), Some(held)) => self.note_unread(&held),
            (Ok(_), None) => {}
            (Err(_), _) => self.moving.set(false),
        }
        dumped.with_context(|| format!("checkpoint node `{}`", self.name))
    }

    /// Freezes it, takes its address away, and dumps it with its TCP connections: from then on
    /// nothing can happen to them. A program that still ran would see its packets refused, and may
    /// give up its connections for that.
    async fn dump_without(
        &self,
        floating: &Floating,
        criu: &Criu,
        process: &Process,
        images: &Path,
        options: &Options,
    ) -> Result<DumpReport> {
        let (clear, is_clear) = watch::channel(false);
        let mut options = with_connections(options);
        options.clear = Some(is_clear);
        let (place, begin_ns) = (self.place(), options.begin_ns);
        let pid = process.pid();
        let withdraw = async move {
            until(begin_ns).await;
            let begun_ns = now_ns();
            self.frozen.replace(Some(Frozen::freeze(pid).await.context("freeze it")?));
            floating.withdraw(&place)?;
            clear.send_replace(true);
            Ok(begun_ns)
        };
        let (withdrawn, dumped): (Result<i64>, _) =
            tokio::join!(withdraw, criu.dump(process, images, &options));
        let dumped =
            withdrawn.and_then(|begun_ns| Ok(DumpReport { started_ns: begun_ns, ..dumped? }));
        if dumped.is_err() {
            self.thaw(process)?;
        }
        dumped
    }

    /// Lets it go on, or what has come out of its images, if it was frozen: with its address first.
    fn thaw(&self, process: &Process) -> Result<()> {
        if let Some(floating) = self.floating.as_ref().filter(|f| f.is_withdrawn()) {
            floating.assign(&self.place())?;
        }
        if let (Some(frozen), None) = (self.frozen.take(), process.try_wait()?) {
            frozen.thaw(process.pid());
        }
        Ok(())
    }

    fn note_unread(&self, held: &Held) {
        let mut unread = self.unread.get().unwrap_or_default();
        unread += held.unread();
        self.unread.set(Some(unread));
    }

    /// Stops it or lets it go on where it is.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.borrow().clone();
        process.signal(signal).with_context(|| format!("signal node `{}`", self.name))
    }

    /// Lets it go on that was stopped by its checkpoint; false when it has ended meanwhile.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn resume(&self) -> Result<bool> {
        let process = self.process.borrow().clone();
        if self.frozen.borrow().is_some() {
            self.thaw(&process).with_context(|| format!("resume node `{}`", self.name))?;
        } else {
            process.signal(Signal::CONT).with_context(|| format!("resume node `{}`", self.name))?;
            for child in self.family().into_iter().skip(1) {
                // One that has ended needs it no more.
                let _ = kill_process(child, Signal::CONT);
            }
        }
        self.moving.set(false);
        Ok(process.try_wait()?.is_none())
    }

    /// Its processes, as long as its own first one has not ended.
    fn family(&self) -> Vec<Pid> {
        let process = self.process.borrow().clone();
        match process.try_wait() {
            Ok(None) => family(process.pid()),
            _ => Vec::new(),
        }
    }

    /// Ends what its checkpoint left stopped, before it lives again elsewhere. Its connections end
    /// without a word.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn end_stopped(&self) -> Result<()> {
        let process = self.process.borrow().clone();
        let what = || format!("end node `{}` here", self.name);
        let held = Held::of(process.pid());
        if let (Some(_), Ok(held)) = (&self.floating, &held) {
            held.silence().with_context(what)?;
        }
        process.kill().await.with_context(what)?;
        if let Ok(held) = held {
            self.note_unread(&held);
        }
        Ok(())
    }

    /// Ends what a dump holds that still serves its pages, before it lives again elsewhere.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn end_served(&self) -> Result<()> {
        let process = self.process.borrow().clone();
        let held = Held::of(process.pid());
        // CRIU has set its connections to end without a word.
        process.kill_traced().await.with_context(|| format!("end node `{}` here", self.name))?;
        if let Ok(held) = held {
            self.note_unread(&held);
        }
        Ok(())
    }

    /// Ends it because the rest of its memory will never come. Nobody is told of its end but by
    /// what this was done for.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn give_up(&self) -> Result<()> {
        self.moving.set(true);
        self.end_stopped().await
    }

    /// Brings it to life in another place.
    ///
    /// # Errors
    /// When CRIU fails.
    pub async fn restore(
        &self,
        criu: &Criu,
        images: &Path,
        options: &Options,
        lab: &Lab,
        place: &str,
    ) -> Result<RestoreReport> {
        let log = &options.work;
        fs::create_dir_all(log).with_context(|| format!("make {}", log.display()))?;
        let netns = lab.place(place)?;
        let restored = match &self.floating {
            Some(floating) => {
                floating.assign(place)?;
                criu.restore(images, netns.as_fd(), &with_connections(options)).await
            }
            None => criu.restore(images, netns.as_fd(), options).await,
        };
        let (process, mut report) =
            restored.with_context(|| format!("restore node `{}` on `{place}`", self.name))?;
        if let Some(floating) = &self.floating {
            floating.lead(place)?;
            // What was frozen when it was dumped is so in its images.
            if let Some(frozen) = self.frozen.take() {
                frozen.thaw(process.pid());
            }
            report.done_ns = now_ns();
        }
        *self.process.borrow_mut() = Rc::new(process);
        *self.place.borrow_mut() = place.into();
        self.restored_ns.set(Some(report.done_ns));
        self.moving.set(false);
        Ok(report)
    }

    /// Brings a copy of it to life as somebody else in another place; the original goes on.
    ///
    /// # Errors
    /// When CRIU fails.
    pub async fn copy(
        &self,
        criu: &Criu,
        images: &Path,
        options: &Options,
        lab: &Lab,
        copy: Place<'_>,
    ) -> Result<(Self, RestoreReport)> {
        let Place { name, on: place, folder, kept, .. } = copy;
        let log = &options.work;
        fs::create_dir_all(log).with_context(|| format!("make {}", log.display()))?;
        let netns = lab.place(place)?;
        let restored = criu.restore(images, netns.as_fd(), options).await;
        let (process, report) =
            restored.with_context(|| format!("restore `{name}` on `{place}`"))?;
        let mut copy = Self::new(name, place, folder, kept.into(), process);
        copy.control = self.control;
        Ok((copy, report))
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&self) -> Result<()> {
        self.killed.set(true);
        let process = self.process.borrow().clone();
        process.kill().await.with_context(|| format!("kill node `{}`", self.name))?;
        Ok(())
    }

    /// Whether [`Node::kill`] was called.
    pub fn was_killed(&self) -> bool {
        self.killed.get()
    }

    /// Asks it to end, and kills it when it does not; says how it ended.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn stop(&self, lab: &Lab) -> Result<ExitState> {
        let process = self.process.borrow().clone();
        let place = self.place.borrow().clone();
        let Some(control) = self.control else { return Ok(process.stop(STOP_GRACE).await?) };
        if process.try_wait()?.is_none() {
            // A node that does not answer is killed below.
            let _ = ask(lab.place(&place)?, control, &Request::Stop, STOP_ANSWER).await;
            let _ = tokio::time::timeout(STOP_GRACE, process.wait()).await;
        }
        Ok(process.kill().await?)
    }
}

/// criu takes TCP connections along only where it is told to.
fn with_connections(options: &Options) -> Options {
    let mut options = options.clone();
    options.connections = true;
    options
}
