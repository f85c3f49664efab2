//! A server becomes the old or the new one of a migration.
//!
//! **The new one** is a copy of the running old one, which CRIU has restored elsewhere. It has the
//! keys and packet numbers of all its origin's connections, so it must not send one packet of
//! them: the kernel's socket is taken away from the copied endpoint first, then everything copied
//! is forgotten, and a fresh endpoint with keys of its own gets the socket. The objects are in the
//! copy's memory and are forgotten, too: an experiment is about their way over the network. (That
//! is what the thesis means by moving the execution state first.)

use super::Server;
use crate::{
    logs,
    migration::{
        accept,
        push::{self, Pusher},
    },
    socket::Port,
    tls, transport,
};
use anyhow::{Context, Result, bail};
use limosa_record::{
    node::{Handover, StoreConfig, Target},
    row::event,
};
use noq::{Endpoint, TokioRuntime, VarInt};
use std::{fs, net::SocketAddr, sync::Arc};
use tokio::task::JoinHandle;

/// What carries out a part in a migration.
pub(super) struct Part {
    what: What,
    endpoint: Endpoint,
    port: Arc<Port>,
    task: JoinHandle<()>,
}

#[derive(PartialEq)]
enum What {
    Target(Target),
    Origin(Handover),
}

impl Part {
    /// Ends it; the other server gets to know.
    pub(super) fn stop(self) {
        self.task.abort();
        self.endpoint.close(VarInt::from_u32(0), b"stopped");
    }

    /// Ends it without a word.
    fn silence(self) {
        self.task.abort();
        drop(self.port.socket());
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

impl Server {
    fn store(&self) -> Result<&StoreConfig> {
        anyhow::ensure!(
            self.config.transport.scheme.hands_over(),
            "the scheme does not know old and new servers"
        );
        self.config.store.as_ref().context("this server has no object store")
    }

    fn dual(&self) -> bool {
        self.config.transport.scheme == limosa_record::node::Scheme::DualPath
    }

    /// Becomes the new server. When this returns nothing of what was copied can be sent any more.
    pub(super) fn become_target(self: &Arc<Self>, target: Target) -> Result<()> {
        let store = self.store()?;
        anyhow::ensure!(!target.name.contains(char::is_whitespace), "a space in the name");
        match &self.now().part {
            Some(part) if part.what == What::Target(target.clone()) => return Ok(()),
            Some(Part { what: What::Target(_), .. }) => bail!("is the new server already"),
            _ => {}
        }
        let folder = &target.folder;
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        logs::move_to(folder)?;
        self.events.reopen(folder)?;
        self.answers.reopen(folder)?;
        let crypto = tls::server(&self.config, folder, &self.events)?;
        // From here on the copied connections can send nothing.
        let endpoint = super::open(&self.port, super::configure(&self.config, folder, &crypto)?)?;
        self.shared.with(|service| service.become_target(target.name.clone(), self.dual()));
        let (before, part) = {
            let mut now = self.now();
            now.live.clear();
            (now.folder, now.crypto) = (folder.clone(), crypto);
            (std::mem::replace(&mut now.endpoint, endpoint.clone()), now.part.take())
        };
        before.close(VarInt::from_u32(0), b"");
        if let Some(part) = part {
            part.silence();
        }
        tokio::spawn(self.clone().accept(endpoint));
        let mut config =
            noq::ServerConfig::with_crypto(tls::push_server(&self.config, store, folder)?);
        config.transport_config(transport::between_servers(&self.config.transport)?);
        let port = Arc::new(Port::bind(target.migration)?);
        let endpoint = super::open(&port, config)?;
        let task =
            tokio::spawn(accept::run(endpoint.clone(), self.shared.clone(), self.events.clone()));
        self.events.now(event::BECAME_TARGET, target.name.clone());
        self.now().part = Some(Part { what: What::Target(target), endpoint, port, task });
        Ok(())
    }

    /// Becomes the old server and begins to hand over.
    pub(super) fn hand_over(self: &Arc<Self>, handover: Handover) -> Result<()> {
        let store = self.store()?;
        match &self.now().part {
            Some(part) if part.what == What::Origin(handover) => return Ok(()),
            Some(_) => bail!("has a part in a migration already"),
            None => {}
        }
        anyhow::ensure!(handover.rate_bytes_per_s > 0, "a rate of 0 bytes per second");
        let any: SocketAddr = match handover.migration {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let folder = self.now().folder.clone();
        let mut config = noq::ClientConfig::new(tls::push_client(&self.config, store, &folder)?);
        config.transport_config(transport::between_servers(&self.config.transport)?);
        let port = Arc::new(Port::bind(any)?);
        let endpoint = Endpoint::new_with_abstract_socket(
            tls::endpoint()?,
            None,
            Box::new(port.socket()),
            Arc::new(TokioRuntime),
        )?;
        let detail = format!("to {} at {} B/s", handover.migration, handover.rate_bytes_per_s);
        self.events.now(event::HANDOVER, detail);
        if let Some(address) = handover.to
            && let Some(why) = self.announce(address).error
        {
            // Without clients there is nobody to tell.
            anyhow::ensure!(self.now().live.is_empty(), "announce {address}: {why}");
        }
        self.shared.with(|service| service.become_origin(self.dual()));
        let pusher = Pusher {
            shared: self.shared.clone(),
            events: self.events.clone(),
            endpoint: endpoint.clone(),
            config,
            to: handover.migration,
            server_name: store.server_name.clone(),
            rate_bytes_per_s: handover.rate_bytes_per_s,
        };
        let task = tokio::spawn(push::run(pusher));
        self.now().part = Some(Part { what: What::Origin(handover), endpoint, port, task });
        Ok(())
    }
}
