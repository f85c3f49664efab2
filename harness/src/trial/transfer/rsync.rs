//! The real rsync program over its own daemon protocol (`rsync(1)`, `rsyncd.conf(5)`).
//!
//! The daemon runs in the namespace of the target, listens on one address of it, lets only the
//! sender in and is confined to the target folder (chroot); the client runs in the namespace of the
//! source. Each is PID 1 of a PID namespace, so that nothing of them is left when they are dropped.
//! rsync itself ends when nothing moves for [`STALLED`]; one that does not is ended.

use super::{Report, Route, STALLED};
use anyhow::{Context, Result, bail};
use limosa_lab::sys::{
    arrivals::Arrivals,
    listener,
    process::{ExitState, Launch, Process},
    which::find_tool,
};
use limosa_record::{
    clock::now_ns,
    dir::write_whole,
    fault::{self, Kind},
};
use rustix::process::Signal;
use std::{
    ffi::OsString,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The program.
pub const PROGRAM: &str = "rsync";

/// How long the daemon may take until it listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// How long the client may do nothing at all. Its own limit comes first, unless it hangs itself.
const IDLE: Duration = Duration::from_secs(STALLED.as_secs() + 5);

/// Copies the files of `source` into `target`; both exist. Configuration and logs go into the folder
/// `logs`, which is made.
///
/// # Errors
/// When rsync is missing or fails; the error quotes rsync and names its log.
pub async fn copy(
    route: &Route<'_>,
    source: &Path,
    target: &Path,
    logs: &Path,
    compress: bool,
) -> Result<Report> {
    fs::create_dir_all(logs).with_context(|| format!("make {}", logs.display()))?;
    let mut arrivals =
        Arrivals::watch(target).with_context(|| format!("watch {}", target.display()))?;
    let log = logs.join("rsync.log");
    let started_ns = now_ns();
    let daemon = Daemon::start(route, target, logs).await?;
    let mut launch = client(route, source, &log, compress)?;
    let fault = fault::strikes("transfer/rsync");
    if fault == Some(Kind::Refuse) {
        launch.args.push("--no-such-option".into());
    }
    let client = Process::spawn(&launch, Some(route.from.as_fd())).await?;
    match fault {
        Some(Kind::Hang) => client.signal(Signal::STOP)?,
        Some(Kind::Die) => client.signal(Signal::KILL)?,
        _ => {}
    }
    let state = tokio::select! {
        state = client.wait() => state?,
        why = daemon.ended() => bail!(why),
        () = idle(&client, IDLE) => bail!("rsync has done nothing for {IDLE:?}\n  see: {}", log.display()),
        broken = arrivals.note() => match broken.context("watch for arrivals")? {},
    };
    let done_ns = now_ns();
    let text = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    if state != ExitState::Exited(0) {
        bail!("rsync {state}: {}\n  see: {}", reason(&text), log.display());
    }
    let span = arrivals.span_ns().context("watch for arrivals")?;
    let (data_ns, arrived_ns) = span.context("rsync has copied no file")?;
    let number = |name: &str| {
        stat(&text, name)
            .with_context(|| format!("rsync does not tell `{name}` in {}", log.display()))
    };
    Ok(Report {
        method: if compress { "rsync -z" } else { "rsync" }.into(),
        started_ns,
        data_ns,
        arrived_ns,
        done_ns,
        size_bytes: number("Total file size")?,
        sent_bytes: number("Total bytes sent")?,
        received_bytes: number("Total bytes received")?,
    })
}

/// Returns when a program has neither read nor written for so long (`proc_pid_io(5)`).
async fn idle(program: &Process, limit: Duration) {
    let file = format!("/proc/{}/io", program.pid().as_raw_pid());
    let (mut before, mut since) = (String::new(), Instant::now());
    while since.elapsed() < limit {
        sleep(limit / 20).await;
        let now = fs::read_to_string(&file).unwrap_or_default();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}

fn program() -> Result<PathBuf> {
    find_tool(PROGRAM).context("rsync is not installed\n  hint: limosa setup")
}

/// rsync's daemon; killed when dropped.
struct Daemon {
    process: Process,
    log: PathBuf,
}

impl Daemon {
    /// Returns when it listens.
    async fn start(route: &Route<'_>, target: &Path, logs: &Path) -> Result<Self> {
        let (config, log) = (logs.join("rsyncd.conf"), logs.join("rsyncd.log"));
        write_whole(&config, configuration(route, target).as_bytes())?;
        let option = |name: &str, path: &Path| {
            let mut option = OsString::from(name);
            option.push(path);
            option
        };
        let args = [
            "--daemon".into(),
            "--no-detach".into(),
            option("--config=", &config),
            option("--log-file=", &log),
            format!("--address={}", route.at.ip()).into(),
            format!("--port={}", route.at.port()).into(),
        ];
        let mut launch = Launch::new(program()?, args, logs.join("rsyncd.out"));
        launch.own_pid_namespace = true;
        let process = Process::spawn(&launch, Some(route.to.as_fd())).await?;
        let daemon = Self { process, log };
        let deadline = Instant::now() + LISTEN_LIMIT;
        while !listener::is_there(route.to, route.at) {
            if daemon.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("rsync's daemon does not listen at {}\n  see: {}", route.at, logs.display());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(daemon)
    }

    async fn ended(&self) -> String {
        let state = self.process.wait().await;
        let how = state.map_or_else(|e| format!("{e:#}"), |s| s.to_string());
        format!("rsync's daemon {how}\n  see: {}", self.log.display())
    }
}

fn configuration(route: &Route<'_>, target: &Path) -> String {
    format!(
        "use chroot = yes\nnumeric ids = yes\nuid = 0\ngid = 0\nreverse lookup = no\ntimeout = {}\n\n\
         [target]\npath = {}\nread only = no\nwrite only = yes\nlist = no\nhosts allow = {}\nhosts deny = *\n",
        STALLED.as_secs(),
        target.display(),
        route.own
    )
}

fn client(route: &Route<'_>, source: &Path, log: &Path, compress: bool) -> Result<Launch> {
    let mut folder = source.as_os_str().to_owned();
    // What is in it, not the folder itself.
    folder.push("/");
    let mut args: Vec<OsString> =
        ["--archive", "--stats", "--no-human-readable"].map(Into::into).into();
    // Says which compressor the two ends agree on.
    args.extend(
        compress.then(|| ["--compress", "--debug=NSTR"].map(OsString::from)).into_iter().flatten(),
    );
    args.push(format!("--timeout={}", STALLED.as_secs()).into());
    args.push(format!("--contimeout={}", STALLED.as_secs()).into());
    args.push(format!("--address={}", route.own).into());
    args.extend([folder, format!("rsync://{}/target/", route.at).into()]);
    let mut launch = Launch::new(program()?, args, log);
    // Numbers in the statistics, and no proxy of this machine.
    launch.env = [("LC_ALL", "C"), ("RSYNC_PROXY", "")].map(|(n, v)| (n.into(), v.into())).into();
    launch.own_pid_namespace = true;
    Ok(launch)
}

/// The first line in which rsync says what went wrong: the later ones say what became of that.
fn reason(log: &str) -> &str {
    let lines =
        || log.lines().filter(|line| line.starts_with("rsync") || line.starts_with("@ERROR"));
    let first = lines().find(|line| !line.starts_with("rsync error:"));
    first.or_else(|| lines().next()).unwrap_or("it does not say why").trim()
}

/// A number of `--stats`: `Total bytes sent: 1074004067`.
fn stat(log: &str, name: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read() {
        let log = "\nNumber of files: 1 (reg: 1)\nTotal file size: 1073741824 bytes\nTotal bytes sent: 32889\n";
        assert_eq!(stat(log, "Total file size"), Some(1_073_741_824));
        assert_eq!(stat(log, "Total bytes sent"), Some(32_889));
        assert_eq!(stat(log, "Total bytes received"), None);
    }

    #[test]
    fn the_cause_is_quoted_and_not_what_became_of_it() {
        let log = "sending incremental file list\n\
                   rsync: [receiver] write failed on \"/file\" (in target): No space left on device (28)\n\
                   rsync error: error in file IO (code 11) at receiver.c(380)\n";
        assert!(reason(log).ends_with("No space left on device (28)"));
        assert_eq!(reason("@ERROR: access denied\n"), "@ERROR: access denied");
        assert_eq!(reason("rsync error: timeout (code 30)\n"), "rsync error: timeout (code 30)");
    }
}
