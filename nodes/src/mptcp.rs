//! TCP over several paths as the kernel has it (RFC 8684): sockets, and a server of files for the
//! scheme `mptcp-tunnel`. Without TLS, as in the original.
//!
//! The kernel's path manager is not configured here: it belongs to the namespace, not to a process.

use crate::{
    control::{self, Handler, refusal},
    events::Events,
    server::Www,
};
use anyhow::{Context, Result};
use limosa_record::{
    node::{Reply, Request, ServerConfig},
    row::event,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};

/// Longest request line.
const LINE_BYTES: u64 = 4096;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// A socket of the family of this address.
fn socket(address: SocketAddr) -> Result<TcpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::MPTCP))
        .context("open an MPTCP socket (does this kernel have CONFIG_MPTCP?)")?;
    Ok(TcpSocket::from_std_stream(std::net::TcpStream::from(socket)))
}

/// A connection from one of the client's addresses.
///
/// # Errors
/// When the kernel has no MPTCP, or nobody answers.
pub(crate) async fn connect(from: Option<IpAddr>, to: SocketAddr) -> Result<TcpStream> {
    let socket = socket(to)?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0)).with_context(|| format!("bind to {from}"))?;
    }
    socket.connect(to).await.with_context(|| format!("connect to {to}"))
}

/// A server of files.
#[derive(Debug)]
struct Server {
    connections: AtomicU64,
    stop: watch::Sender<bool>,
}

/// Serves until told to stop.
pub(crate) async fn serve(config: ServerConfig) -> Result<()> {
    let events = Events::open(&config.folder)?;
    let www = Arc::new(Www::new(&config.www)?);
    let socket = socket(config.listen)?;
    socket.set_reuseaddr(true)?;
    socket.bind(config.listen).with_context(|| format!("bind {}", config.listen))?;
    let listener: TcpListener = socket.listen(BACKLOG).context("listen")?;
    let (connections, stop) = (AtomicU64::new(0), watch::Sender::new(false));
    let server = Arc::new(Server { connections, stop });
    control::start(config.control, server.clone()).await?;
    tracing::info!(listen = %config.listen, "serving over MPTCP");
    let mut stopped = server.stop.subscribe();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            accepted = listener.accept() => {
                let (stream, remote) = accepted.context("accept")?;
                events.now(event::CONNECTED, remote.to_string());
                tokio::spawn(answer(server.clone(), www.clone(), stream));
            }
        }
    }
}

async fn answer(server: Arc<Server>, www: Arc<Www>, mut stream: TcpStream) {
    server.connections.fetch_add(1, Ordering::Relaxed);
    let (receive, mut send) = stream.split();
    let mut line = String::new();
    let mut lines = BufReader::new(tokio::io::AsyncReadExt::take(receive, LINE_BYTES));
    let answered = async {
        lines.read_line(&mut line).await.context("read the request")?;
        www.answer_over(line.trim_end(), &mut send).await?;
        send.shutdown().await.context("end the answer")
    };
    if let Err(error) = answered.await {
        tracing::warn!(error = format!("{error:#}"), "request");
    }
    server.connections.fetch_sub(1, Ordering::Relaxed);
}

impl Handler for Server {
    fn handle(self: &Arc<Self>, request: Request) -> Reply {
        match request {
            Request::Status => {}
            Request::Stop => _ = self.stop.send_replace(true),
            _ => {
                return refusal("a server of the scheme `mptcp-tunnel` has no connections of QUIC");
            }
        }
        Reply { connections: self.connections.load(Ordering::Relaxed), ..Reply::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// Loopback is enough to see that both ends take the same protocol.
    #[tokio::test]
    async fn two_ends_speak_mptcp_where_the_kernel_does() {
        if !std::path::Path::new("/proc/sys/net/mptcp/enabled").exists() {
            eprintln!("could not run: this kernel has no MPTCP");
            return;
        }
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listening = socket(address).unwrap();
        listening.bind(address).unwrap();
        let listener = listening.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        let (accepted, connected) = tokio::join!(listener.accept(), connect(None, at));
        let (mut near, mut far) = (accepted.unwrap().0, connected.unwrap());
        near.write_all(b"hello").await.unwrap();
        drop(near);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"hello");
    }
}
