//! A node that is any other program: its folder, its start, and when it is ready.
//!
//! Input: a [`CommandPlan`]. Output: a [`Node`] that runs as PID 1 of a namespace of its own, in its
//! own folder, where `www` leads to the body of a download and `certs` to the run's certificates; stdout and stderr are in files there. It
//! is asked to end by SIGTERM; a program without a handler for that is killed 2 s later, because the
//! kernel keeps such signals from a PID 1 (pid_namespaces(7)).

use super::{Node, READY_LIMIT};
use crate::{plan::CommandPlan, spec::Ready};
use anyhow::{Context, Result, bail};
use limosa_lab::cache::find_program;
use limosa_lab::{
    lab::Lab,
    sys::{
        listener, negotiation,
        netns::Netns,
        process::{Launch, Process},
    },
};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{fd::AsFd, unix::fs::symlink},
    path::Path,
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// How often a command is looked at that is not ready yet.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Who starts where.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The place in the network.
    pub on: &'a str,
    /// Where it works.
    pub folder: &'a Path,
    /// Where its files will be in the end, for messages.
    pub kept: &'a Path,
    /// Addresses at which it may be found.
    pub addresses: &'a [IpAddr],
}

/// Folders that all commands of a run have in theirs.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// With the body of a download.
    pub www: &'a Path,
    /// With the throw-away certificates.
    pub certificates: &'a Path,
}

impl Node {
    /// Starts a program and waits until it is ready.
    ///
    /// # Errors
    /// When there is no such program, it ends at once or is never ready; quotes the end of its
    /// stderr.
    pub async fn command(
        command: &CommandPlan,
        place: Place<'_>,
        shared: Shared<'_>,
        lab: &Lab,
    ) -> Result<Self> {
        let Place { name, on, folder, kept, addresses } = place;
        furnish(command, folder, shared)?;
        let program = find_program(&command.program)
            .with_context(|| format!("node `{name}`: there is no program `{}`", command.program))?;
        let launch = Launch {
            program,
            args: command.args.iter().map(Into::into).collect(),
            env: command.env.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            folder: Some(folder.into()),
            stdout: folder.join("stdout.log"),
            stderr: folder.join("stderr.log"),
            own_pid_namespace: true,
        };
        let netns = lab.place(on)?;
        let process = Process::spawn(&launch, Some(netns.as_fd()))
            .await
            .with_context(|| format!("start node `{name}`"))?;
        let node = Self::new(name, on, folder, kept.into(), process);
        if let Some(ready) = &command.ready {
            tokio::select! {
                state = node.ended() => bail!(node.early_end(state)),
                waited = timeout(READY_LIMIT, node.wait_ready(ready, netns, addresses)) => match waited {
                    Ok(looked) => looked?,
                    Err(_) => bail!(node.told(never(name, ready))),
                },
            }
        }
        Ok(node)
    }

    async fn wait_ready(&self, ready: &Ready, netns: &Netns, addresses: &[IpAddr]) -> Result<()> {
        while !self.is_ready(ready, netns, addresses).await? {
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn is_ready(&self, ready: &Ready, netns: &Netns, at: &[IpAddr]) -> Result<bool> {
        if let Some(port) = ready.udp {
            return Ok(listener::has_udp(netns, port));
        }
        if let Some(port) = ready.quic {
            return Ok(negotiation::answers(netns, at, port).await);
        }
        if let Some(port) = ready.tcp {
            let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            return Ok(any.iter().any(|ip| listener::is_there(netns, (*ip, port).into())));
        }
        let Some(wanted) = &ready.line else { return Ok(true) };
        for log in ["stdout.log", "stderr.log"].map(|name| self.folder.join(name)) {
            let text = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
            if String::from_utf8_lossy(&text).lines().any(|line| line.contains(&**wanted)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Makes a command's folder, with its files and the way to the body of a download.
///
/// # Errors
/// When it cannot be written.
pub fn furnish(command: &CommandPlan, folder: &Path, shared: Shared<'_>) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    for (name, target) in [("www", shared.www), ("certs", shared.certificates)] {
        let link = folder.join(name);
        symlink(target, &link).with_context(|| format!("make {}", link.display()))?;
    }
    for (name, text) in &command.files {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn never(name: &str, ready: &Ready) -> String {
    let (limit, when) = (READY_LIMIT.as_secs(), ready.condition());
    format!("node `{name}` is not ready after {limit} s: it is when it {when}")
}
