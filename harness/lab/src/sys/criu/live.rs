//! Pages of memory that are not simply in the images of a dump: in those of an earlier pre-dump, on
//! their way to a page server, or still at the source when the process runs elsewhere (`criu(8)`).
//!
//! Input: folders and an address. Output: arguments of a dump or restore, and the [`Daemon`] that
//! takes pages (`criu page-server`) or gets them for a restored process (`criu lazy-pages`, which
//! lives on userfaultfd(2)).

use super::{Criu, CriuError, Served, file, reason_in};
use crate::sys::{
    listener,
    netns::Netns,
    process::{ExitState, Launch, Process},
};
use limosa_record::{
    clock::now_ns,
    fault::{self, Kind},
};
use rustix::{
    pipe::{fcntl_setpipe_size, pipe},
    process::Signal,
};
use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    os::{fd::AsFd, unix::fs::symlink},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Name of the socket at which a restore meets the daemon that gets its pages, in criu's working
/// folder (criu, uffd.c).
const SOCKET: &str = "lazy-pages.socket";

/// Size of the pipes out of which criu serves pages (criu, page-pipe.h: PIPE_MAX_SIZE pages), in
/// bytes. More than most systems allow without CAP_SYS_RESOURCE.
const PIPE_BYTES: usize = 819 * 4096;

/// How long a daemon may take until it is ready; an emulated machine is slow.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// Where pages of memory are, other than in the images.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    /// Memory is tracked, or has been since an earlier pre-dump.
    pub tracked: bool,
    /// Folder of the dump before this one, beside the folder of its images.
    pub parent: Option<String>,
    /// A page server that takes them.
    pub taken_at: Option<SocketAddr>,
    /// Where the dump serves those of anonymous memory, until all have been fetched; the process
    /// is frozen as long.
    pub served_at: Option<SocketAddr>,
    /// Restore only: the working folder of the daemon that gets them.
    pub daemon: Option<PathBuf>,
}

impl Pages {
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if self.tracked {
            words.push("--track-mem".into());
        }
        if let Some(parent) = &self.parent {
            words.extend(["--prev-images-dir".into(), format!("../{parent}").into()]);
        }
        if self.taken_at.is_some() {
            words.push("--page-server".into());
        }
        if self.served_at.is_some() || self.daemon.is_some() {
            words.push("--lazy-pages".into());
        }
        words.extend(self.taken_at.or(self.served_at).into_iter().flat_map(address));
        words
    }

    /// Makes the daemon known in the working folder of a restore.
    pub(super) fn meet(&self, scratch: &Path) -> Result<(), CriuError> {
        let Some(daemon) = &self.daemon else { return Ok(()) };
        let link = scratch.join(SOCKET);
        symlink(daemon.join(SOCKET), &link).map_err(file("make", &link))
    }
}

fn address(at: SocketAddr) -> [OsString; 4] {
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    ["--address".into(), ip.into(), "--port".into(), port.into()]
}

/// Whether this process may make the pipes that criu needs to serve pages.
///
/// # Errors
/// What the kernel says.
pub fn can_serve_pages() -> rustix::io::Result<()> {
    let (reader, _writer) = pipe()?;
    fcntl_setpipe_size(&reader, PIPE_BYTES).map(drop)
}

/// A criu that works beside a dump or a restored process; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    scratch: TempDir,
    /// Name of its log.
    name: &'static str,
    /// What goes wrong with it when it is ready.
    fault: Option<Kind>,
}

impl Criu {
    /// Starts the server that takes pages into the folder `images`, which lies upon those of
    /// `parent` beside it. Returns when it listens.
    ///
    /// # Errors
    /// When it does not.
    pub async fn take_pages(
        &self,
        images: &Path,
        parent: Option<String>,
        at: SocketAddr,
        netns: &Netns,
    ) -> Result<Daemon, CriuError> {
        let pages = Pages { parent, ..Pages::default() };
        let words = pages.arguments().into_iter().chain(address(at));
        let daemon = self.daemon("page-server", words, images, netns).await?;
        daemon.ready(|| listener::is_there(netns, at)).await?;
        Ok(daemon)
    }

    /// Starts the daemon that fetches pages from where a dump serves them. Returns when a restore
    /// may meet it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn fetch_pages(
        &self,
        images: &Path,
        from: SocketAddr,
        netns: &Netns,
    ) -> Result<Daemon, CriuError> {
        let words = [OsString::from("--page-server")].into_iter().chain(address(from));
        let daemon = self.daemon("lazy-pages", words, images, netns).await?;
        daemon.ready(|| daemon.scratch.path().join(SOCKET).exists()).await?;
        Ok(daemon)
    }

    async fn daemon(
        &self,
        name: &'static str,
        words: impl Iterator<Item = OsString>,
        images: &Path,
        netns: &Netns,
    ) -> Result<Daemon, CriuError> {
        let scratch = super::scratch(images)?;
        let fault = fault::strikes(format_args!("criu/{name}"));
        let refused = (fault == Some(Kind::Refuse)).then(|| "--no-such-option".into());
        let args = [name.into(), "--images-dir".into(), images.into()]
            .into_iter()
            .chain(["--work-dir".into(), scratch.path().into()])
            .chain(["--log-file".into(), "log".into(), "-v4".into()])
            .chain(words)
            .chain(refused);
        let launch = Launch::new(&self.program, args, scratch.path().join("output"));
        let process = Process::spawn(&launch, Some(netns.as_fd())).await?;
        Ok(Daemon { process, scratch, name, fault })
    }
}

impl Daemon {
    async fn ready(&self, is_ready: impl Fn() -> bool) -> Result<(), CriuError> {
        let deadline = Instant::now() + READY_LIMIT;
        while !is_ready() {
            if let Some(state) = self.process.try_wait()? {
                return Err(self.broken(state));
            }
            if Instant::now() > deadline {
                let state = self.process.kill().await?;
                return Err(self.broken(state));
            }
            sleep(Duration::from_millis(1)).await;
        }
        match self.fault {
            Some(Kind::Hang) => self.process.signal(Signal::STOP)?,
            Some(Kind::Die) => self.process.signal(Signal::KILL)?,
            _ => {}
        }
        Ok(())
    }

    /// Its working folder.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Waits for its end; it ends when it has all pages.
    ///
    /// # Errors
    /// When it failed.
    pub async fn ended(&self) -> Result<i64, CriuError> {
        let state = self.process.wait().await?;
        if state.success() { Ok(now_ns()) } else { Err(self.broken(state)) }
    }

    /// What it has fetched so far.
    pub fn served(&self) -> Served {
        Served::read(&fs::read_to_string(self.log()).unwrap_or_default())
    }

    /// Length of its log in bytes, which grows as long as pages come.
    pub fn progress(&self) -> u64 {
        fs::metadata(self.log()).map_or(0, |m| m.len())
    }

    /// Keeps its log as `NAME.log` in a folder, which is made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_log(&self, folder: &Path) -> Result<(), CriuError> {
        let kept = folder.join(self.name).with_extension("log");
        let copied = fs::create_dir_all(folder).and_then(|()| fs::copy(self.log(), &kept));
        copied.map(drop).map_err(file("write", &kept))
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    fn broken(&self, state: ExitState) -> CriuError {
        let reason =
            reason_in(&self.log()).or_else(|| reason_in(&self.scratch.path().join("output")));
        CriuError::Unusable { action: self.name.into(), state, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_those_of_criu() {
        let at = "10.0.0.1:874".parse().ok();
        let words = |pages: &Pages| {
            let words = pages.arguments();
            words.iter().map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(&Pages::default()), "");
        let parent = Some("1".to_owned());
        let second = Pages { tracked: true, parent, taken_at: at, ..Pages::default() };
        let expected =
            "--track-mem --prev-images-dir ../1 --page-server --address 10.0.0.1 --port 874";
        assert_eq!(words(&second), expected);
        let lazy = Pages { served_at: at, ..Pages::default() };
        assert_eq!(words(&lazy), "--lazy-pages --address 10.0.0.1 --port 874");
        let restore = Pages { daemon: Some("/x".into()), ..Pages::default() };
        assert_eq!(words(&restore), "--lazy-pages");
    }
}
