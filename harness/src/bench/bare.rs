//! What driving criu adds to criu: the same process dumped into, and restored from, images of the same
//! kind by [`Criu`] and by the bare command with the same arguments, in turns.

use super::{Bench, Figures, median};
use crate::sys::{
    criu::{Criu, Leave, Options},
    link,
    netns::{Netns, Role},
    process::{Launch, Process},
};
use anyhow::{Context, Result, ensure};
use std::{
    ffi::OsString,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// Of each kind; odd, for a median.
const ROUNDS: usize = 11;

/// How long a process may take to get ready.
const LIMIT: Duration = Duration::from_secs(20);

/// criu's switch that [`Criu`] sets, too, because it changes the kernel's part of the work.
const NO_BREAKPOINTS: (&str, &str) = ("CRIU_FAULT", "130");

/// Times in ms.
#[derive(Default)]
struct Times {
    ours: [f64; ROUNDS],
    bare: [f64; ROUNDS],
}

impl Times {
    /// By how much our median is above the bare command's, in percent of it.
    fn overhead_percent(&mut self) -> f64 {
        let (ours, bare) = (median(&mut self.ours), median(&mut self.bare));
        tracing::info!(ours, bare, "medians in ms");
        (ours / bare - 1.0) * 100.0
    }
}

pub(super) async fn measure(bench: &Bench, criu: &Criu) -> Result<Figures> {
    let desk = Desk::new(bench, criu)?;
    let process = desk.process(&bench.program).await?;
    let (mut dump, mut restore) = (Times::default(), Times::default());
    for round in 0..ROUNDS {
        let images = desk.folder(&format!("ours-{round}"))?;
        let mut options = Options::new(desk.folder(&format!("log-{round}"))?);
        options.leave = Leave::Running;
        let begun = Instant::now();
        criu.dump(&process, &images, &options).await?;
        dump.ours[round] = begun.elapsed().as_secs_f64() * 1e3;
        dump.bare[round] = desk.dump(&process, &format!("bare-{round}")).await?;
    }
    process.kill().await?;
    let images = desk.folder("ours-0")?;
    for round in 0..ROUNDS {
        let options = Options::new(desk.folder(&format!("log-{round}"))?);
        let begun = Instant::now();
        let (restored, _) = criu.restore(&images, desk.netns.as_fd(), &options).await?;
        restore.ours[round] = begun.elapsed().as_secs_f64() * 1e3;
        restored.kill().await?;
        restore.bare[round] = desk.restore(&images, round).await?;
    }
    Ok(Figures::from([
        ("criu_dump_overhead_percent", dump.overhead_percent()),
        ("criu_restore_overhead_percent", restore.overhead_percent()),
    ]))
}

struct Desk<'a> {
    criu: &'a Criu,
    netns: Netns,
    home: PathBuf,
}

impl<'a> Desk<'a> {
    fn new(bench: &Bench, criu: &'a Criu) -> Result<Self> {
        let netns = Netns::create(&[Role::Host])?.remove(0);
        netns.apply([link::set_up(link::LOOPBACK, true)])?;
        let home = bench.work.path().join("bare");
        Ok(Self { criu, netns, home })
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.home.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// A process with a node's sockets that does nothing.
    async fn process(&self, program: &Path) -> Result<Process> {
        let log = self.folder("process")?.join("log");
        let launch = Launch { own_pid_namespace: true, ..Launch::new(program, ["probe"], &log) };
        let process = Process::spawn(&launch, Some(self.netns.as_fd())).await?;
        let text = || fs::read_to_string(&log).unwrap_or_default();
        let is_ready = async {
            while !text().contains(limosa_nodes::probe::READY) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LIMIT, is_ready).await.with_context(|| format!("not ready: {}", text()))?;
        Ok(process)
    }

    /// The bare command; returns ms.
    async fn run(&self, words: &[&str], images: &Path, work: &Path) -> Result<f64> {
        let words = words.iter().map(OsString::from);
        let folders =
            [OsString::from("--images-dir"), images.into(), "--work-dir".into(), work.into()];
        let others =
            ["--log-file", "criu.log", "-v4", "--manage-cgroups=ignore"].map(OsString::from);
        let all = words.chain(folders).chain(others);
        let mut launch =
            Launch::new(self.criu.program(), all.collect::<Vec<_>>(), work.join("output"));
        launch.env.push((NO_BREAKPOINTS.0.into(), NO_BREAKPOINTS.1.into()));
        let begun = Instant::now();
        let state = Process::spawn(&launch, Some(self.netns.as_fd())).await?.wait().await?;
        let took_ms = begun.elapsed().as_secs_f64() * 1e3;
        ensure!(state.success(), "the bare criu {state}: see {}", work.display());
        Ok(took_ms)
    }

    async fn dump(&self, process: &Process, name: &str) -> Result<f64> {
        let (images, pid) = (self.folder(name)?, process.pid().as_raw_pid().to_string());
        let words = ["dump", "--tree", &pid, "--network-lock", "skip", "--leave-running"];
        self.run(&words, &images, &images).await
    }

    async fn restore(&self, images: &Path, round: usize) -> Result<f64> {
        let work = self.folder(&format!("restore-{round}"))?;
        let file = work.join("pid");
        let pidfile = file.to_string_lossy();
        let words = ["restore", "--restore-detached", "--restore-sibling", "--pidfile", &pidfile];
        let took_ms = self.run(&words, images, &work).await?;
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let pid = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
        Process::adopt(pid.context("criu has not said whom it restored")?)?.kill().await?;
        Ok(took_ms)
    }
}
