//! The UDP socket of a node, with rules about the source address of what it sends.
//!
//! - A datagram whose source address this host does not have (any more) is dropped before the
//!   kernel sees it. After a restore elsewhere the old paths still name the old address; the
//!   kernel would answer EINVAL, and noq would take that as "no segmentation offload, no ECN here"
//!   for the rest of the process. On the wire there is no difference: both send nothing.
//! - A client's datagrams without a source address get its first one, so that the path of the
//!   handshake uses that interface whatever the routes say.
//! - A client that follows a server which speaks first hears of strangers, before noq drops them:
//!   [`Strangers`].
//! - A copied process must never send under its origin's keys: [`Port::socket`] takes the kernel's
//!   socket away from whoever had it before, for good.

use crate::strangers::Strangers;
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
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// A socket of the kernel that one endpoint after the other may use, and one at a time.
#[derive(Debug)]
pub(crate) struct Port {
    inner: Arc<Mutex<Box<dyn AsyncUdpSocket>>>,
    muted: Mutex<Arc<AtomicBool>>,
}

impl Port {
    /// Binds.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)
            .map_err(|e| io::Error::new(e.kind(), format!("bind {address}: {e}")))?;
        let inner = Arc::new(Mutex::new(TokioRuntime.wrap_udp_socket(socket)?));
        Ok(Self { inner, muted: Mutex::default() })
    }

    /// A socket for the next endpoint. What was handed out before neither sends nor receives from
    /// now on: its owners may still try, and believe that they did.
    pub(crate) fn socket(&self) -> NodeSocket {
        let muted = Arc::new(AtomicBool::new(false));
        let before = std::mem::replace(
            &mut *self.muted.lock().unwrap_or_else(PoisonError::into_inner),
            muted.clone(),
        );
        before.store(true, Ordering::SeqCst);
        let (inner, sources) = (self.inner.clone(), Arc::default());
        NodeSocket { inner, default_source: None, sources, muted, strangers: None }
    }
}

/// A UDP socket that looks after source addresses.
#[derive(Debug)]
pub(crate) struct NodeSocket {
    inner: Arc<Mutex<Box<dyn AsyncUdpSocket>>>,
    default_source: Option<IpAddr>,
    /// By destination, where it is another.
    sources: Arc<HashMap<IpAddr, IpAddr>>,
    muted: Arc<AtomicBool>,
    strangers: Option<Arc<Strangers>>,
}

impl NodeSocket {
    /// Binds; `default_source` is the source of datagrams for which noq names none.
    pub(crate) fn bind(address: SocketAddr, default_source: Option<IpAddr>) -> io::Result<Self> {
        Ok(Self { default_source, ..Port::bind(address)?.socket() })
    }

    /// The same, with other sources for some destinations.
    pub(crate) fn with_sources(self, sources: HashMap<IpAddr, IpAddr>) -> Self {
        Self { sources: Arc::new(sources), ..self }
    }

    /// The same, and strangers are told.
    pub(crate) fn noting(self, strangers: Arc<Strangers>) -> Self {
        Self { strangers: Some(strangers), ..self }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Box<dyn AsyncUdpSocket>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncUdpSocket for NodeSocket {
    fn create_sender(&self) -> Pin<Box<dyn UdpSender>> {
        let inner = self.inner().create_sender();
        let (default_source, ours) = (self.default_source, Ours::default());
        let (muted, sources) = (self.muted.clone(), self.sources.clone());
        Box::pin(NodeSender { inner, default_source, sources, ours, muted })
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.muted.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        let received = self.inner().poll_recv(cx, bufs, meta);
        if let (Some(strangers), Poll::Ready(Ok(count))) = (&self.strangers, &received) {
            for (buffer, meta) in bufs.iter().zip(meta.iter()).take(*count) {
                // All segments of a buffer are from one sender, so the first one tells.
                strangers.look(meta.addr, &buffer[..meta.stride.min(meta.len).min(buffer.len())]);
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner().local_addr()
    }

    fn max_receive_segments(&self) -> NonZeroUsize {
        self.inner().max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner().may_fragment()
    }
}

#[derive(Debug)]
struct NodeSender {
    inner: Pin<Box<dyn UdpSender>>,
    default_source: Option<IpAddr>,
    sources: Arc<HashMap<IpAddr, IpAddr>>,
    ours: Ours,
    muted: Arc<AtomicBool>,
}

impl UdpSender for NodeSender {
    fn poll_send(
        mut self: Pin<&mut Self>,
        transmit: &Transmit<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.muted.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        let usual =
            || self.sources.get(&transmit.destination.ip()).copied().or(self.default_source);
        let src_ip = transmit.src_ip.or_else(usual);
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
pub(crate) fn is_ours(ip: IpAddr) -> bool {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_taken_away_sends_and_receives_nothing() {
        let port = Port::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let destination = peer.local_addr().unwrap();
        let send = async |sender: &mut Pin<Box<dyn UdpSender>>, contents: &[u8]| {
            let transmit =
                Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
            std::future::poll_fn(|cx| sender.as_mut().poll_send(&transmit, cx)).await.unwrap();
        };
        let mut old = port.socket();
        let mut old_sender = old.create_sender();
        send(&mut old_sender, b"1").await;
        let mut new = port.socket();
        send(&mut old_sender, b"2").await;
        send(&mut old.create_sender(), b"3").await;
        send(&mut new.create_sender(), b"4").await;
        let mut buffer = [0; 9];
        let mut heard = || peer.recv(&mut buffer).map(|n| buffer[..n].to_vec()).unwrap();
        assert_eq!((heard(), heard()), (b"1".to_vec(), b"4".to_vec()));
        peer.send_to(b"5", new.local_addr().unwrap()).unwrap();
        let receive = async |socket: &mut NodeSocket| {
            let mut space = [0; 99];
            let mut meta = [RecvMeta::default()];
            let received = std::future::poll_fn(|cx| {
                socket.poll_recv(cx, &mut [IoSliceMut::new(&mut space)], &mut meta)
            });
            tokio::time::timeout(std::time::Duration::from_millis(100), received).await.is_ok()
        };
        assert!(!receive(&mut old).await);
        assert!(receive(&mut new).await);
    }

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
