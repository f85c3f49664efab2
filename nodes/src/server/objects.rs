//! Answers requests for objects, each on its stream; what to do is [`Service::judge`]'s affair.
//!
//! A server under a scheme that hands over also writes `answers.csv`, a row per answer, so that
//! nobody has to believe that exactly one server answers.
//!
//! [`Service::judge`]: crate::migration::service::Service::judge

use crate::{
    migration::{
        service::{Ruling, Shared},
        wire::Lines,
    },
    store::{
        Content,
        wire::{Head, NOT_MINE, Status},
    },
};
use anyhow::{Context, Result};
use limosa_record::{
    clock,
    row::{AnswerRow, RowFile},
};
use noq::{SendStream, VarInt};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Name of the file in a server's folder.
const ANSWERS_FILE: &str = "answers.csv";

/// How long a request waits for a version that its client knows of and that is on its way from
/// the other server.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where answers are noted.
#[derive(Debug)]
pub(super) struct Answers(Mutex<Option<RowFile>>);

impl Answers {
    /// Notes them in this folder, or nowhere.
    pub(super) fn open(folder: Option<&Path>) -> Result<Self> {
        let answers = Self(Mutex::new(None));
        folder.map_or(Ok(()), |folder| answers.reopen(folder))?;
        Ok(answers)
    }

    /// Goes on in another folder.
    pub(super) fn reopen(&self, folder: &Path) -> Result<()> {
        let path = folder.join(ANSWERS_FILE);
        let file = RowFile::append(&path).with_context(|| format!("open {}", path.display()))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(())
    }

    fn note(&self, head: &Head, status: &Status) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &mut *file else { return };
        let row = AnswerRow {
            t_ns: clock::now_ns(),
            client: head.client,
            request: head.number,
            object: head.id.clone(),
            status: status.to_string(),
        };
        if let Err(error) = file.write(&row) {
            tracing::error!(%error, "cannot write an answer's row");
        }
    }
}

/// One request.
pub(super) struct Asked<'a> {
    pub(super) shared: &'a Shared,
    pub(super) answers: &'a Answers,
    /// The service's generation when the connection was made.
    pub(super) generation: u64,
    /// Round trip to the client.
    pub(super) rtt: Duration,
}

impl Asked<'_> {
    /// Answers, or leaves it to the other server, or gives up when the client does.
    pub(super) async fn answer(
        self,
        line: &str,
        mut rest: Lines,
        mut send: SendStream,
    ) -> Result<()> {
        let head: Head = match line.parse() {
            Ok(head) => head,
            Err(error) => {
                let _ = send.reset(VarInt::from_u32(super::www::BAD_REQUEST));
                return Err(error.context(format!("request `{line}`")));
            }
        };
        // Who asked first is to be answered first, as far as one connection goes.
        send.set_priority(-i32::try_from(head.number).unwrap_or(i32::MAX))?;
        let body: Option<Arc<[u8]>> = match head.write {
            Some(size) => Some(rest.body(size).await?.into()),
            None => None,
        };
        match self.decide(&head, body.as_ref(), &mut send).await {
            Some(Ruling::Answer(status, content)) => {
                self.answers.note(&head, &status);
                reply(&status, content, &mut send).await
            }
            Some(_) => Ok(send.reset(VarInt::from_u32(NOT_MINE))?),
            None => Ok(()),
        }
    }

    /// `None` when the client does not want to know any more.
    async fn decide(
        &self,
        head: &Head,
        body: Option<&Arc<[u8]>>,
        send: &mut SendStream,
    ) -> Option<Ruling> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut changes = self.shared.changes();
        let mut first = true;
        loop {
            let ruling = self.shared.with(|service| {
                if service.generation != self.generation {
                    return None;
                }
                if std::mem::take(&mut first) {
                    service.arrived(head, self.rtt);
                }
                Some(service.judge(head, body))
            })?;
            let patience = match ruling {
                Ruling::Wait => None,
                Ruling::WaitForVersion => Some(deadline),
                other => return Some(other),
            };
            let late = async {
                match patience {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = late => return Some(self.shared.with(|service| service.lost())),
                _ = send.stopped() => return None,
            }
        }
    }
}

async fn reply(status: &Status, content: Option<Content>, send: &mut SendStream) -> Result<()> {
    let bytes = content.map(|content| content.bytes()).transpose().context("read the object")?;
    let mut head = format!("{status}\r\n").into_bytes();
    // One write, so that a small answer is one packet.
    if let Some(bytes) = &bytes {
        let first = bytes.len().min(1000);
        head.extend_from_slice(&bytes[..first]);
        send.write_all(&head).await?;
        send.write_all(&bytes[first..]).await?;
    } else {
        send.write_all(&head).await?;
    }
    send.finish()?;
    // The stream must live until everything is acknowledged.
    send.stopped().await?;
    Ok(())
}
