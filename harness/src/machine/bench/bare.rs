//! What driving criu adds to criu: the same server dumped into images of the same kind, and restored
//! from the same images, by a trial's own means and by the bare command with the same arguments.
//!
//! Both are measured in pairs, one right after the other and each first in every second pair, from
//! before criu is started until there is nothing left to wait for.

use super::{
    Bench, Figures, median,
    nodes::{ALONE, Pair},
};
use crate::spec::Links;
use anyhow::{Context, Result, ensure};
use limosa_lab::sys::{
    criu::{Criu, Leave, Options},
    process::{Launch, Process},
};
use limosa_record::node::Ballast;
use std::{
    ffi::OsString,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Instant,
};

/// Pairs of each kind; odd, for a median.
const PAIRS: usize = 31;

/// Where the server runs, and comes back.
const PLACE: &str = "server";

/// criu's switch that [`Criu`] sets, too, because it changes the kernel's part of the work.
const NO_BREAKPOINTS: (&str, &str) = ("CRIU_FAULT", "130");

/// Times in ms.
#[derive(Default)]
struct Times {
    ours: Vec<f64>,
    bare: Vec<f64>,
}

impl Times {
    /// By how much ours is above the bare command's, the median of all pairs, in percent of it.
    fn overhead_percent(mut self) -> f64 {
        let pairs = self.ours.iter().zip(&self.bare);
        let mut ratios: Vec<f64> = pairs.map(|(ours, bare)| ours / bare).collect();
        let (ours, bare) = (median(&mut self.ours), median(&mut self.bare));
        tracing::info!(ours, bare, "medians in ms");
        (median(&mut ratios) - 1.0) * 100.0
    }
}

pub(super) async fn measure(bench: &Bench) -> Result<Figures> {
    let (plain, heavy) =
        (["criu_dump_overhead_percent", "criu_restore_overhead_percent"], 100_000_000);
    let with_ballast = ["criu_dump_100mb_overhead_percent", "criu_restore_100mb_overhead_percent"];
    let mut figures = Figures::new();
    for (keys, bytes) in [(plain, 0), (with_ballast, heavy)] {
        let overheads = overheads(bench, bytes).await?;
        figures.extend(keys.into_iter().zip(overheads));
    }
    Ok(figures)
}

/// Of a dump and of a restore, in percent.
async fn overheads(bench: &Bench, ballast_bytes: u64) -> Result<[f64; 2]> {
    let criu = bench.criu().await?;
    let name = format!("bare-{ballast_bytes}");
    let ballast = Ballast { bytes: ballast_bytes, dirty_bytes_per_s: 0, hot_share: 0.0 };
    let ballast = (ballast_bytes > 0).then_some(ballast);
    let pair = Pair::start(bench, &name, (ALONE, Links::Kernel), 1, ballast).await?;
    let desk = Desk { criu, pair, home: bench.work.path().join(name).join("criu") };
    let images = desk.folder("images")?;
    desk.dump(&images).await?;
    let mut dump = Times::default();
    for n in 0..PAIRS {
        let (ours, bare) = (desk.folder("ours")?, desk.folder("bare")?);
        if n % 2 == 0 {
            dump.ours.push(desk.dump(&ours).await?);
            dump.bare.push(desk.bare_dump(&bare).await?);
        } else {
            dump.bare.push(desk.bare_dump(&bare).await?);
            dump.ours.push(desk.dump(&ours).await?);
        }
    }
    desk.pair.server.kill().await?;
    let mut restore = Times::default();
    for n in 0..PAIRS {
        if n % 2 == 0 {
            restore.ours.push(desk.restore(&images).await?);
            restore.bare.push(desk.bare_restore(&images).await?);
        } else {
            restore.bare.push(desk.bare_restore(&images).await?);
            restore.ours.push(desk.restore(&images).await?);
        }
    }
    Ok([dump.overhead_percent(), restore.overhead_percent()])
}

/// A server, and folders for what is made of it.
struct Desk {
    criu: Criu,
    pair: Pair,
    home: PathBuf,
}

impl Desk {
    /// An empty folder.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.home.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// As a trial does it; the server goes on. Returns ms, like all of these.
    async fn dump(&self, images: &Path) -> Result<f64> {
        let mut options = Options::new(self.folder("log")?);
        options.leave = Leave::Running;
        let begun = Instant::now();
        self.pair.server.checkpoint(&self.criu, images, &options).await?;
        Ok(ms_since(begun))
    }

    async fn bare_dump(&self, images: &Path) -> Result<f64> {
        let pid = self.pair.server.pid().as_raw_pid().to_string();
        let words = ["dump", "--tree", &pid, "--network-lock", "skip", "--leave-running"];
        self.run(&words, images, images).await
    }

    /// As a trial does it; the server ends after that.
    async fn restore(&self, images: &Path) -> Result<f64> {
        let options = Options::new(self.folder("log")?);
        let Pair { lab, server, .. } = &self.pair;
        let begun = Instant::now();
        server.restore(&self.criu, images, &options, lab, PLACE).await?;
        let took_ms = ms_since(begun);
        server.kill().await?;
        Ok(took_ms)
    }

    async fn bare_restore(&self, images: &Path) -> Result<f64> {
        let work = self.folder("work")?;
        let file = work.join("pid");
        let pidfile = file.to_string_lossy();
        let words = ["restore", "--restore-detached", "--restore-sibling", "--pidfile", &pidfile];
        let took_ms = self.run(&words, images, &work).await?;
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let pid = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
        Process::adopt(pid.context("criu has not said whom it restored")?)?.kill().await?;
        Ok(took_ms)
    }

    /// The bare command.
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
        let netns = self.pair.lab.place(PLACE)?;
        let begun = Instant::now();
        let state = Process::spawn(&launch, Some(netns.as_fd())).await?.wait().await?;
        let took_ms = ms_since(begun);
        ensure!(state.success(), "the bare criu {state}: see {}", work.display());
        Ok(took_ms)
    }
}

fn ms_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
