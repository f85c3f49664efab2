//! The scheme `http`: a body in ranges over one kept-alive HTTP/1.1 connection (RFC 9112).
//!
//! The server may be any program that knows range requests (RFC 9110, section 14). Nothing is done
//! about a server that moves: its address moves along, and the connection with it. A connection
//! that dies is an error.

use crate::client::{Body, Client};
use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::{CONTENT_RANGE, HOST, RANGE},
};
use hyper_util::rt::TokioIo;
use limosa_record::node::Workload;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

/// Downloads the body over one connection from the first interface.
pub(super) async fn run(client: &Client, body: &mut Body) -> Result<()> {
    ensure!(client.config.workload == Workload::Download, "the scheme `http` only downloads");
    let address = client.config.connect;
    let stream = connect(client, address).await.with_context(|| format!("connect to {address}"))?;
    client.connected(address.to_string());
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Apart from the download, which takes what has arrived also when the server has closed.
    let driver = tokio::spawn(connection);
    let outcome = download(client, &mut sender, body).await;
    driver.abort();
    outcome
}

async fn connect(client: &Client, address: SocketAddr) -> std::io::Result<TcpStream> {
    let (socket, any): (_, IpAddr) = match address {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, Ipv6Addr::UNSPECIFIED.into()),
    };
    let number = client.config.interface_toward(address.ip());
    let local = client.config.local.get(number).copied().unwrap_or(any);
    socket.bind(SocketAddr::new(local, 0))?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// One range after the other, until the server has said where the end is.
async fn download(
    client: &Client,
    sender: &mut SendRequest<Empty<Bytes>>,
    body: &mut Body,
) -> Result<()> {
    let range = client.config.range_bytes.context("no size of a range")?;
    let (mut got, mut size) = (0, u64::MAX);
    while got < size {
        let last = got.saturating_add(range).min(size) - 1;
        let request = Request::get(&client.config.path)
            .header(HOST, client.config.connect.to_string())
            .header(RANGE, format!("bytes={got}-{last}"))
            .body(Empty::new())?;
        sender.ready().await?;
        let mut response = sender.send_request(request).await?;
        size = size_of(&response)?;
        let begun = got;
        while let Some(frame) = response.frame().await {
            let Ok(chunk) = frame?.into_data() else { continue };
            client.meter.count(0, chunk.len() as u64);
            got = body.add(&chunk)?;
            client.progress(got);
        }
        ensure!(got > begun, "the server sent an empty range at byte {got} of {size}");
    }
    Ok(())
}

/// The whole body's size, out of `Content-Range: bytes 0-999/12000`.
fn size_of(response: &Response<Incoming>) -> Result<u64> {
    let status = response.status();
    ensure!(
        status == StatusCode::PARTIAL_CONTENT,
        "the server answered {status}, expected 206 for a range"
    );
    let range = response.headers().get(CONTENT_RANGE).context("a range without Content-Range")?;
    let range = range.to_str().unwrap_or_default();
    let size = range.rsplit_once('/').and_then(|(_, size)| size.parse().ok());
    size.with_context(|| format!("`Content-Range: {range}` has no size"))
}
