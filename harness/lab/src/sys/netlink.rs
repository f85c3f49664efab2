//! Route netlink in batches: many requests in one system call, every failure named.
//!
//! Input: [`Request`]s, which `link` and `qdisc` make and which are plain data. Output: nothing,
//! or the first failure with the kernel's own explanation. Kernel interface: netlink(7),
//! rtnetlink(7), NETLINK_EXT_ACK.
//!
//! The kernel works through a whole buffer of requests inside sendmsg(2) and answers each failure,
//! but success only where an acknowledgement is asked for. Asking for it in the last request of a
//! buffer alone therefore gives the outcome of all of them at the price of one: ten thousand
//! neighbours take about 10 ms instead of 100. The calls block, but only for as long as the kernel
//! holds its configuration lock, which an asynchronous socket would wait for inside sendmsg(2) too.

mod answer;

pub use answer::{Answer, Answers};

use anyhow::{Context, Result, bail};
use limosa_record::fault;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkMessage,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, protocols::NETLINK_ROUTE};
use std::{fmt, io, marker::PhantomData, ops::Range, os::fd::BorrowedFd};

/// One thing that the kernel shall do, with the words for its failure.
///
/// A request that names another namespace borrows that namespace's descriptor.
#[derive(Debug)]
pub struct Request<'n> {
    what: String,
    /// The message as it is sent, but for its sequence number.
    bytes: Vec<u8>,
    namespace: PhantomData<BorrowedFd<'n>>,
}

impl Request<'_> {
    /// Makes a new object and fails where it exists.
    pub(super) fn create(what: impl Into<String>, message: RouteNetlinkMessage) -> Self {
        Self::new(what, message, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a new object or takes the place of the existing one.
    pub(super) fn replace(what: impl Into<String>, message: RouteNetlinkMessage) -> Self {
        Self::new(what, message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Changes or deletes an existing object, as the message says.
    pub(super) fn change(what: impl Into<String>, message: RouteNetlinkMessage) -> Self {
        Self::new(what, message, 0)
    }

    fn new(what: impl Into<String>, message: RouteNetlinkMessage, flags: u16) -> Self {
        let bytes = encode(message, NLM_F_REQUEST | flags);
        Self { what: what.into(), bytes, namespace: PhantomData }
    }

    /// Appends the message to a buffer. Netlink messages begin at multiples of four bytes, and all
    /// of ours have such a length.
    pub(super) fn append(&self, sequence: u32, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        buffer.extend(&self.bytes);
        buffer[start..][SEQUENCE].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// Where struct nlmsghdr has its flags and its sequence number.
const FLAGS: Range<usize> = 6..8;
const SEQUENCE: Range<usize> = 8..12;

/// Asks for an acknowledgement of an encoded message.
pub(super) fn acknowledge(message: &mut [u8]) {
    let flags = u16::from_ne_bytes([message[FLAGS.start], message[FLAGS.start + 1]]) | NLM_F_ACK;
    message[FLAGS].copy_from_slice(&flags.to_ne_bytes());
}

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub struct Refused {
    /// What was tried, as in "create veth `eth0`".
    pub what: String,
    /// The kernel's explanation in words, or empty (older code paths of the kernel give none).
    pub explanation: String,
    /// The error number as an error.
    #[source]
    pub source: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, explanation, .. } = self;
        if explanation.is_empty() { f.write_str(what) } else { write!(f, "{what}: {explanation}") }
    }
}

/// A route netlink socket; it belongs to the namespace of the thread that opened it.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Well under the default send buffer (212,992 bytes), which bounds one sendmsg(2).
const CHUNK_BYTES: usize = 64 << 10;
/// The kernel fills at most 32 KiB per read of a dump.
const READ_BYTES: usize = 64 << 10;

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("open a netlink socket")?;
        socket.bind_auto().context("bind the netlink socket")?;
        socket.set_ext_ack(true).context("set NETLINK_EXT_ACK")?;
        socket.set_cap_ack(true).context("set NETLINK_CAP_ACK")?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// Has the kernel do everything in order. After a failure the requests behind it may have been
    /// done or not; whoever builds a network drops its namespaces then.
    pub(super) fn apply(&mut self, requests: &[Request<'_>]) -> Result<()> {
        for (n, request) in requests.iter().enumerate() {
            if let Err(source) = fault::here("netlink") {
                // The kernel has done what came before.
                self.apply_all(&requests[..n])?;
                let (what, explanation) = (request.what.clone(), String::new());
                return Err(Refused { what, explanation, source }.into());
            }
        }
        self.apply_all(requests)
    }

    fn apply_all(&mut self, requests: &[Request<'_>]) -> Result<()> {
        let mut rest = requests;
        let mut bytes = Vec::new();
        while let Some(head) = rest.first() {
            bytes.clear();
            let first = self.sequence.wrapping_add(1);
            let (mut n, mut last) = (0, 0);
            for request in rest {
                if n > 0 && bytes.len() + request.bytes.len() > CHUNK_BYTES {
                    break;
                }
                self.sequence = self.sequence.wrapping_add(1);
                last = bytes.len();
                request.append(self.sequence, &mut bytes);
                n += 1;
            }
            acknowledge(&mut bytes[last..]);
            let (chunk, tail) = rest.split_at(n);
            self.socket
                .send(&bytes, 0)
                .with_context(|| format!("{}: send to netlink", head.what))?;
            self.acknowledged(first, chunk)?;
            rest = tail;
        }
        Ok(())
    }

    fn acknowledged(&mut self, first: u32, chunk: &[Request<'_>]) -> Result<()> {
        let mut refused = None;
        loop {
            self.buffer.clear();
            // Answers are queued before sendmsg returns; waiting would only hide a lost one.
            self.socket
                .recv(&mut self.buffer, libc::MSG_DONTWAIT)
                .with_context(|| format!("{}: read netlink's answer", chunk[0].what))?;
            for message in Answers(&self.buffer) {
                let message = message?;
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(request) = chunk.get(index).filter(|_| message.kind == NLMSG_ERROR) else {
                    continue;
                };
                if let Some((errno, explanation)) = message.error()? {
                    let source = io::Error::from_raw_os_error(errno);
                    refused.get_or_insert(Refused {
                        what: request.what.clone(),
                        explanation,
                        source,
                    });
                }
                if index + 1 == chunk.len() {
                    return refused.map_or(Ok(()), |r| Err(r.into()));
                }
            }
        }
    }

    /// Everything the kernel lists for this request.
    pub(super) fn dump(
        &mut self,
        what: &str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..8 {
            if let Some(list) = self.dump_once(message).with_context(|| what.to_owned())? {
                return Ok(list);
            }
        }
        bail!("{what}: the list changed during each of eight reads");
    }

    /// One try; nothing if the kernel says that the list changed meanwhile.
    fn dump_once(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = encode(message.clone(), NLM_F_REQUEST | NLM_F_DUMP);
        bytes[SEQUENCE].copy_from_slice(&self.sequence.to_ne_bytes());
        self.socket.send(&bytes, 0).context("send to netlink")?;
        let (mut list, mut consistent) = (Vec::new(), true);
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0).context("read netlink's answer")?;
            for message in Answers(&self.buffer) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(consistent.then_some(list)),
                    NLMSG_ERROR => {
                        if let Some((errno, explanation)) = message.error()? {
                            let error = io::Error::from_raw_os_error(errno);
                            return Err(error).context(explanation);
                        }
                    }
                    _ => list.push(message.content()?),
                }
            }
        }
    }
}

fn encode(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
