//! The UDP socket of a node, with rules about the source address of what it sends.
//!
//! - A datagram whose source address this host does not have (any more) is dropped before the
//!   kernel sees it. After a restore elsewhere the old paths still name the old address; the
//!   kernel would answer EINVAL, and noq would take that as "no segmentation offload, no ECN here"
//!   for the rest of the process. On the wire there is no difference: both send nothing.
//! - A client's datagrams without a source address get its first one, so that the path of the
//!   handshake uses that interface whatever the routes say.

use limosa_record::clock::{monotonic_ns, now_ns};
use noq::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpSender,
    udp::{RecvMeta, Transmit},
};
use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
};

/// A UDP socket that looks after source addresses.
#[derive(Debug)]
pub(crate) struct NodeSocket {
    inner: Box<dyn AsyncUdpSocket>,
    default_source: Option<IpAddr>,
}

impl NodeSocket {
    /// Binds; `default_source` is the source of datagrams for which noq names none.
    pub(crate) fn bind(address: SocketAddr, default_source: Option<IpAddr>) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)
            .map_err(|e| io::Error::new(e.kind(), format!("bind {address}: {e}")))?;
        Ok(Self { inner: TokioRuntime.wrap_udp_socket(socket)?, default_source })
    }
}

impl AsyncUdpSocket for NodeSocket {
    fn create_sender(&self) -> Pin<Box<dyn UdpSender>> {
        let inner = self.inner.create_sender();
        let (default_source, ours) = (self.default_source, Ours::default());
        Box::pin(NodeSender { inner, default_source, ours })
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_receive_segments(&self) -> NonZeroUsize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[derive(Debug)]
struct NodeSender {
    inner: Pin<Box<dyn UdpSender>>,
    default_source: Option<IpAddr>,
    ours: Ours,
}

impl UdpSender for NodeSender {
    fn poll_send(
        mut self: Pin<&mut Self>,
        transmit: &Transmit<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let src_ip = transmit.src_ip.or(self.default_source);
        if src_ip.is_some_and(|ip| !self.ours.has(ip)) {
            return Poll::Ready(Ok(()));
        }
        let transmit = Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn,
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip,
        };
        self.inner.as_mut().poll_send(&transmit, cx)
    }

    fn max_transmit_segments(&self) -> NonZeroUsize {
        self.inner.max_transmit_segments()
    }
}

/// Which addresses this host has, asked again after a restore.
///
/// Asking means binding a socket for a moment, and a checkpoint at that moment would keep the
/// socket and could not be restored elsewhere; so the answer is kept. A restored process knows
/// itself by its clocks: CLOCK_REALTIME has seen the downtime, CLOCK_MONOTONIC has not.
#[derive(Debug, Default)]
struct Ours {
    clock_offset_ns: i64,
    known: HashMap<IpAddr, bool>,
}

/// Clocks that are read one after the other differ by less, even on a busy machine; a checkpoint
/// and a restore take longer.
const CLOCK_JUMP_NS: i64 = 20_000_000;

impl Ours {
    fn has(&mut self, ip: IpAddr) -> bool {
        self.has_at(ip, now_ns() - monotonic_ns())
    }

    fn has_at(&mut self, ip: IpAddr, clock_offset_ns: i64) -> bool {
        if (clock_offset_ns - self.clock_offset_ns).abs() > CLOCK_JUMP_NS {
            self.known.clear();
            self.clock_offset_ns = clock_offset_ns;
        }
        *self.known.entry(ip).or_insert_with(|| is_ours(ip))
    }
}

/// Whether this host has the address now.
fn is_ours(ip: IpAddr) -> bool {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_a_foreign_source_address_is_noticed() {
        assert!(is_ours([127, 0, 0, 1].into()));
        assert!(!is_ours([192, 0, 2, 1].into()));
    }

    /// A checkpoint in the middle of a question kept the socket that asked.
    #[test]
    fn regression_addresses_are_asked_for_once_and_again_after_a_restore() {
        let ip = [127, 0, 0, 1].into();
        let mut ours = Ours { clock_offset_ns: 7, known: HashMap::from([(ip, false)]) };
        assert!(!ours.has_at(ip, 7 + CLOCK_JUMP_NS), "the answer is kept");
        assert!(ours.has_at(ip, 8 + CLOCK_JUMP_NS), "the clocks have jumped");
    }
}
