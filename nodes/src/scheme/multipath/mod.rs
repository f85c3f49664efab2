//! placeholder
use crate::client::{Body, Client};
use anyhow::Result;
pub(super) async fn download(client: &Client, body: &mut Body) -> Result<()> {
    super::quic::download(client, body).await
}
