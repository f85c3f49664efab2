//! A DNS server in a place of the lab: the real dnsmasq(8), which knows one name.
//!
//! Its record is a line of a file that dnsmasq reads again on SIGHUP, with the TTL 0 that it gives
//! names from such files. It listens at one address of its place, asks nobody else, reads nothing of
//! this machine, and writes a line per question into its log.

use crate::plan::DNS_NAME;
use anyhow::{Context, Result, bail};
use limosa_lab::sys::{
    netns::Netns,
    process::{Launch, Process},
    which::find_tool,
};
use limosa_record::dir::write_whole;
use rustix::process::Signal;
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The program.
pub const PROGRAM: &str = "dnsmasq";

/// How long it may take until it listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// A running dnsmasq; killed when dropped.
#[derive(Debug)]
pub struct Dnsmasq {
    process: Process,
    record: PathBuf,
}

impl Dnsmasq {
    /// Starts it and waits until it listens; its files go into the folder `logs`, which is made.
    ///
    /// # Errors
    /// When dnsmasq is missing or ends; names its log.
    pub async fn start(place: &Netns, at: SocketAddr, ip: IpAddr, logs: &Path) -> Result<Self> {
        let program = find_tool(PROGRAM);
        let program = program.context("dnsmasq is not installed\n  hint: limosa setup")?;
        fs::create_dir_all(logs).with_context(|| format!("make {}", logs.display()))?;
        // dnsmasq leaves the folder that it is started in.
        let logs = fs::canonicalize(logs).with_context(|| format!("find {}", logs.display()))?;
        let (record, log) = (logs.join("hosts"), logs.join("dnsmasq.log"));
        write_record(&record, ip)?;
        let args = [
            "--keep-in-foreground".into(),
            "--conf-file=/dev/null".into(),
            "--pid-file=".into(),
            "--user=root".into(),
            "--no-resolv".into(),
            "--no-hosts".into(),
            "--bind-interfaces".into(),
            "--except-interface=lo".into(),
            format!("--listen-address={}", at.ip()),
            format!("--port={}", at.port()),
            format!("--addn-hosts={}", record.display()),
            "--log-queries".into(),
            "--log-facility=-".into(),
        ];
        let mut launch = Launch::new(program, args, &log);
        launch.own_pid_namespace = true;
        let process = Process::spawn(&launch, Some(place.as_fd())).await?;
        let server = Self { process, record };
        let deadline = Instant::now() + LISTEN_LIMIT;
        while !server.listens_at(at) {
            if server.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("dnsmasq does not listen at {at}\n  see: {}", log.display());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(server)
    }

    /// The name is at this address from now on.
    ///
    /// # Errors
    /// When the record cannot be written or dnsmasq has ended.
    pub fn set(&self, ip: IpAddr) -> Result<()> {
        write_record(&self.record, ip)?;
        self.process.signal(Signal::HUP).context("tell dnsmasq of the record")
    }

    /// As its namespace says.
    fn listens_at(&self, at: SocketAddr) -> bool {
        let pid = self.process.pid().as_raw_pid();
        let table = if at.is_ipv4() { "udp" } else { "udp6" };
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let end = format!(":{:04X}", at.port());
        let local = |line: &str| line.split_whitespace().nth(1).is_some_and(|l| l.ends_with(&end));
        table.lines().any(local)
    }
}

/// A line of hosts(5).
fn write_record(file: &Path, ip: IpAddr) -> Result<()> {
    Ok(write_whole(file, format!("{ip} {DNS_NAME}\n").as_bytes())?)
}
