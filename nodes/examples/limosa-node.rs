//! Runs one node by hand: `limosa-node CONFIG.json`.

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let file = std::env::args_os().nth(1).context("usage: limosa-node CONFIG.json")?;
    limosa_nodes::run(file.as_ref())
}
