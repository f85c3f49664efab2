//! Holds a lab with links in user space when `limosa up` has ended: the engine needs a process that
//! has its socket, and the TAP devices live as long as the engine.
//!
//! Input: a lab's folder with its network. Output: pinned namespaces, and answers on a socket in the
//! folder (unix(7), one JSON line to ask, one JSON value back) until somebody asks for the end.

use super::{Carrier, DirectionStatus, Lab};
use crate::{journal::Claim, network::Network};
use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::UnixListener,
};

/// What the keeper says when the lab is up.
const READY: &str = "ready";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Question {
    Shapes,
    End,
}

type Answer = Result<Vec<DirectionStatus>, String>;

/// The keeper as other processes see it.
#[derive(Debug, Clone)]
pub struct Kept {
    home: PathBuf,
}

impl Kept {
    /// Starts a keeper, which builds the network of the folder and pins its namespaces there.
    ///
    /// # Errors
    /// When the network cannot be built.
    pub(super) fn start(home: &Path) -> Result<Self> {
        let log = home.join("keeper.log");
        let stderr = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut child = Command::new(env::current_exe()?)
            .arg("keep")
            .arg(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .context("start a process that keeps the lab")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("the keeper has no output")?;
        BufReader::new(stdout).read_line(&mut line).context("listen to the keeper")?;
        if line.trim() != READY {
            child.wait().context("wait for the keeper")?;
            let text = fs::read_to_string(&log).unwrap_or_default();
            bail!("{}", text.trim().trim_start_matches("error: "));
        }
        Ok(Self { home: home.to_owned() })
    }

    /// The keeper of a lab's folder, if it has one.
    pub(super) fn find(home: &Path) -> Option<Self> {
        socket(home).exists().then(|| Self { home: home.to_owned() })
    }

    pub(super) fn shapes(&self) -> Result<Vec<DirectionStatus>> {
        self.ask(Question::Shapes)
    }

    /// Lets go of the links, and returns when they are gone.
    pub(super) fn end(&self) -> Result<()> {
        self.ask(Question::End).map(drop)
    }

    pub(super) fn refuse(&self) -> Result<()> {
        bail!("the links are held by the process that keeps {}", self.home.display())
    }

    fn ask(&self, question: Question) -> Result<Vec<DirectionStatus>> {
        let log = self.home.join("keeper.log");
        let gone =
            || format!("the process that carries the links has ended, see {}", log.display());
        let mut stream = UnixStream::connect(socket(&self.home)).with_context(gone)?;
        serde_json::to_writer(&stream, &question)?;
        stream.write_all(b"\n").with_context(gone)?;
        let answer: Answer = serde_json::from_reader(BufReader::new(stream)).with_context(gone)?;
        answer.map_err(|why| anyhow!(why))
    }
}

fn socket(home: &Path) -> PathBuf {
    home.join("control")
}

/// Builds the network of a folder, pins it and keeps it until asked to end (`limosa keep`).
///
/// # Errors
/// When it cannot be built, or its engine ends.
pub async fn keep(home: &Path) -> Result<()> {
    // A lab that is not up yet is of no use without `limosa up`.
    set_parent_process_death_signal(Some(Signal::KILL)).context("follow `limosa up`")?;
    // The terminal of `limosa up` may be closed.
    rustix::process::setsid().context("leave the session")?;
    env::set_current_dir(home).with_context(|| format!("work in {}", home.display()))?;
    let file = home.join("network.json");
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let mut network: Network =
        serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
    network.load_recordings(home)?;
    let (program, log) = (env::current_exe()?, home.join("engine.log"));
    let lab = Lab::up(&network, 0, Carrier::User { program: &program, log: &log })?;
    for (file, netns) in lab.namespaces() {
        netns.pin(&home.join(file))?;
    }
    let listener = UnixListener::bind(socket(home)).context("make the control socket")?;
    // Until now the folder was claimed by whoever has started this; a keeper that dies from now on
    // leaves a lab that is of no use.
    let claim = Claim::folder(home)?;
    set_parent_process_death_signal(None).context("outlive `limosa up`")?;
    // Whoever has gone before it was told has not let go of the folder, and it is undone.
    writeln!(std::io::stdout(), "{READY}").context("say that the lab is up")?;
    loop {
        let (stream, _) = tokio::select! {
            caller = listener.accept() => caller.context("accept a caller")?,
            why = lab.failed() => bail!(why),
        };
        let mut stream = tokio::io::BufReader::new(stream);
        let mut line = String::new();
        // A caller who has gone is no reason to end.
        if stream.read_line(&mut line).await.is_err() {
            continue;
        }
        let question = serde_json::from_str(&line);
        if matches!(question, Ok(Question::End)) {
            drop(lab);
            let answer = serde_json::to_vec::<Answer>(&Ok(Vec::new()))?;
            let _ = stream.write_all(&answer).await;
            claim.release();
            return Ok(());
        }
        let answer: Answer = match question {
            Ok(_) => lab.shapes().map_err(|e| format!("{e:#}")),
            Err(e) => Err(format!("`{}` is no question: {e}", line.trim())),
        };
        let _ = stream.write_all(&serde_json::to_vec(&answer)?).await;
    }
}
