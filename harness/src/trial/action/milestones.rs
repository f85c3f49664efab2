//! How far the clients have come: what steps count from that wait for it.
//!
//! The clients note the moments themselves, and are asked for them over one socket for all steps, so
//! that waiting costs them next to nothing.

use super::Scene;
use crate::{plan::Anchor, trial::node::Line};
use anyhow::{Context, Result};
use limosa_record::{
    clock::now_ns,
    node::{Reply, Request},
};
use std::time::{Duration, Instant};
use tokio::{sync::Mutex, time::sleep};

/// How often the clients are asked.
const LOOK: Duration = Duration::from_millis(10);

/// What the clients said last, and when, over which line.
#[derive(Debug, Default)]
pub struct Milestones(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    line: Line,
    when: Instant,
    reply: Reply,
}

impl Scene<'_> {
    /// Waits until all clients have come to something; returns since when they have, CLOCK_REALTIME
    /// in ns.
    pub(super) async fn come_to(&self, anchor: Anchor) -> Result<i64> {
        let marks = match anchor {
            Anchor::Bytes(size) => self.marks_bytes.iter().position(|mark| *mark == size.0),
            _ => None,
        };
        loop {
            let reply = self.said().await?;
            let reached = match anchor {
                Anchor::Connected => reply.connected_ns,
                Anchor::FirstByte => reply.first_byte_ns,
                Anchor::Bytes(_) => {
                    marks.and_then(|mark| reply.marks_ns.get(mark).copied().flatten())
                }
            };
            if let Some(at_ns) = reached {
                return Ok(at_ns);
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until the clients are connected, where they are Limosa's own; half a sentence if that
    /// took any time.
    pub(super) async fn first_connection(&self) -> Result<String> {
        let own = self.client.and_then(|name| self.node(name).ok()).filter(|node| node.answers());
        if own.is_none() || self.said().await?.connected_ns.is_some() {
            return Ok(String::new());
        }
        let asked_ns = now_ns();
        let connected_ns = self.come_to(Anchor::Connected).await?;
        let waited_s = (connected_ns - asked_ns).max(0) as f64 / 1e9;
        Ok(format!(", told {waited_s:.3} s late, when the clients were connected"))
    }

    /// What the clients say now, or have said a moment ago.
    async fn said(&self) -> Result<Reply> {
        let mut said = self.milestones.0.lock().await;
        if let Some(said) = said.as_ref().filter(|said| said.when.elapsed() < LOOK) {
            return Ok(said.reply.clone());
        }
        let line = match said.take() {
            Some(said) => said.line,
            None => {
                let client = self.client.context("there is no client")?;
                self.node(client)?.line(self.lab)?
            }
        };
        let reply = line.ask(&Request::Status).await?;
        let said = said.insert(Said { line, when: Instant::now(), reply });
        Ok(said.reply.clone())
    }
}
