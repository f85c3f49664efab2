//! Questions to a node and its answers: JSON datagrams over UDP on the loopback of its place.

use super::ANSWER_LIMIT;
use anyhow::{Context, Result, anyhow, bail};
use limosa_lab::sys::netns::Netns;
use limosa_record::node::{Reply, Request};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout_at},
};

/// How long one datagram is waited for before it is sent again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// One question, one answer, over UDP on the namespace's loopback.
pub(super) async fn ask(
    netns: &Netns,
    control: SocketAddr,
    request: &Request,
    limit: Duration,
) -> Result<Reply> {
    match Line::open(netns, control)?.answer(request, limit).await? {
        Some(answer) => accepted(answer),
        None => Err(no_answer(limit)),
    }
}

/// An answer that says why not is an error.
pub(super) fn accepted(reply: Reply) -> Result<Reply> {
    match &reply.error {
        Some(error) => bail!("{error}"),
        None => Ok(reply),
    }
}

pub(super) fn no_answer(limit: Duration) -> anyhow::Error {
    anyhow!("no answer within {limit:?}")
}

/// A socket for questions to a node.
#[derive(Debug)]
pub struct Line(UdpSocket);

impl Line {
    pub(super) fn open(netns: &Netns, control: SocketAddr) -> Result<Self> {
        let socket = netns.run(|| {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(control)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        Ok(Self(UdpSocket::from_std(socket)?))
    }

    /// Asks something. An answer to an earlier question that comes late may be taken for this one's,
    /// so that a line is for one question again and again.
    ///
    /// # Errors
    /// When nobody answers in time, or the answer is that it cannot be.
    pub async fn ask(&self, request: &Request) -> Result<Reply> {
        match self.answer(request, ANSWER_LIMIT).await? {
            Some(answer) => accepted(answer),
            None => Err(no_answer(ANSWER_LIMIT)),
        }
    }

    /// The answer to a question; none when nobody answers in time.
    pub(super) async fn answer(&self, request: &Request, limit: Duration) -> Result<Option<Reply>> {
        let question = serde_json::to_vec(request)?;
        let deadline = Instant::now() + limit;
        let mut answer = vec![0; 64 * 1024];
        while Instant::now() < deadline {
            // "Connection refused" means that nobody listens yet; so it is for a receive, too.
            if self.0.send(&question).await.is_err() {
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            let until = deadline.min(Instant::now() + ASK_AGAIN);
            match timeout_at(until, self.0.recv(&mut answer)).await {
                Ok(Ok(n)) => {
                    let reply = serde_json::from_slice(&answer[..n]).context("odd answer")?;
                    return Ok(Some(reply));
                }
                Ok(Err(_)) => sleep(Duration::from_millis(5)).await,
                Err(_) => {}
            }
        }
        Ok(None)
    }
}
