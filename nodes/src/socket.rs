//! The UDP socket of a node, with rules about the source address of what it sends.
//!
//! - A datagram whose source address this host does not have (any more) is dropped before the
//!   kernel sees it. After a restore elsewhere the old paths still name the old address; the
//!   kernel would answer EINVAL, and noq would take that as "no segmentation offload, no ECN here"
//!   for the rest of the process. On the wire there is no difference: both send nothing.
//! - A client's datagrams without a source address get its first one, so that the path of the
//!   handshake uses that interface whatever the routes say.

use noq::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpSender,
    udp::{RecvMeta, Transmit},
};
use std::{
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
        Box::pin(NodeSender { inner, default_source: self.default_source })
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
}

impl UdpSender for NodeSender {
    fn poll_send(
        mut self: Pin<&mut Self>,
        transmit: &Transmit<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let src_ip = transmit.src_ip.or(self.default_source);
        if src_ip.is_some_and(|ip| !is_ours(ip)) {
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

/// Whether this host has the address now. Asked for every batch of datagrams and never cached: a
/// process cannot tell that it was restored elsewhere since the last one.
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
}
