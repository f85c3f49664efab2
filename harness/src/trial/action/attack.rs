//! The actions `attack` and `search`: what somebody else would do to a trial's nodes, and what they
//! leave on the disk.

use super::Scene;
use crate::{
    plan::{AttackPlan, SERVER_PORT},
    spec::Attacked,
};
use anyhow::{Context, Result};
use limosa_analysis::wire;
use limosa_lab::capture::Capture;
use memchr::memmem::Finder;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::sleep;

/// How long an attacker listens.
const CATCH: Duration = Duration::from_millis(300);

/// The file of a node that is meant to hold its secrets.
const KEY_LOG: &str = "keys.log";

impl Scene<'_> {
    /// Listens to a node, and sends what came of it from another place.
    pub(super) async fn attack(&self, plan: &AttackPlan) -> Result<String> {
        let cut = |up| plan.cut.as_ref().map_or(Ok(()), |link| self.lab.set_link(link, up));
        cut(false)?;
        let caught = self.catch(&plan.node).await;
        cut(true)?;
        let caught = caught?;
        let (to, payload) = match plan.kind {
            Attacked::Replay => (caught.to, caught.payload),
            Attacked::Reset => (caught.from, reset(caught.payload)),
        };
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.lab.place(&plan.from)?.run(|| {
            let socket = UdpSocket::bind((any, SERVER_PORT)).context("the attacker's socket")?;
            Ok(socket.send_to(&payload, to)?)
        })?;
        let what = match plan.kind {
            Attacked::Replay => "sent by",
            Attacked::Reset => "like a stateless reset for",
        };
        let (bytes, node, from) = (payload.len(), &plan.node, &plan.from);
        Ok(format!("{bytes} bytes {what} {node}, from {from} to {to}"))
    }

    /// The last 1-RTT datagram that a node sends in the next moments.
    async fn catch(&self, node: &str) -> Result<wire::Datagram> {
        let place = self.node(node)?.place();
        let file = self.folders.desk().join("caught.pcap");
        let capture = Capture::start(self.lab.place(&place)?, &file)?;
        sleep(CATCH).await;
        capture.stop()?;
        let seen = wire::read_pcap(&file)?;
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        let own: Vec<IpAddr> = self.network.places[&place]
            .interfaces
            .iter()
            .flat_map(|i| i.addresses.iter().map(|address| address.addr()))
            .collect();
        let sent = |d: &wire::Datagram| {
            own.contains(&d.from.ip()) && wire::connection_id(&d.payload).is_some()
        };
        let last = seen.into_iter().rev().find(sent);
        last.with_context(|| format!("`{node}` sent nothing for {CATCH:?} that could be caught"))
    }

    /// Looks for the keys of a node's connections in all that the trial has on the disk, but in key
    /// logs.
    pub(super) fn search(&self, node: &str) -> Result<String> {
        let secrets = wire::secrets(&self.folders.node(node)?.join(KEY_LOG))?;
        let mut files = Vec::new();
        list(self.folders.desk(), &mut files)?;
        let mut found: Vec<&str> = Vec::new();
        let mut holding = 0;
        for file in &files {
            let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
            let held = secrets.iter().filter(|(_, s)| Finder::new(s).find(&bytes).is_some());
            let before = found.len();
            found.extend(held.map(|(name, _)| &**name));
            holding += usize::from(found.len() > before);
        }
        found.sort_unstable();
        found.dedup();
        let mut detail = format!(
            "{} of {} keys of {node} in {holding} of {} files",
            found.len(),
            secrets.len(),
            files.len()
        );
        if !found.is_empty() {
            detail = format!("{detail}: {}", found.join(", "));
        }
        Ok(detail)
    }
}

/// What looks like a stateless reset (RFC 9000, section 10.3) and has a wrong token.
fn reset(mut payload: Vec<u8>) -> Vec<u8> {
    payload[1..].iter_mut().for_each(|byte| *byte = !*byte);
    payload
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() && entry.file_name() != KEY_LOG {
            files.push(entry.path());
        }
    }
    Ok(())
}
