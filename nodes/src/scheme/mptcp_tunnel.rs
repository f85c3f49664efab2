//! The scheme `mptcp-tunnel` (Le et al., as Nakano et al. 2025 describe it): a download over the
//! kernel's MPTCP, whose server moves with its whole machine.
//!
//! Nothing of the move is done here. The old host sends on what is for the old address, so the
//! first path never ends; the kernels say ADD_ADDR, MP_JOIN and REMOVE_ADDR to each other. The
//! harness moves the machine and configures the path managers.

use crate::{
    client::{Body, Client},
    mptcp,
};
use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Downloads over one connection from the first interface.
pub(super) async fn run(client: &Client, body: &mut Body) -> Result<()> {
    let (from, to) = (client.config.local.first().copied(), client.config.connect);
    let mut stream = mptcp::connect(from, to).await?;
    client.connected(to.to_string());
    stream.write_all(client.request_line().as_bytes()).await.context("send the request")?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = stream.read(&mut buffer).await.context("receive the body")?;
        if length == 0 {
            return Ok(());
        }
        client.meter.count(0, length as u64);
        client.progress(body.add(&buffer[..length])?);
    }
}
