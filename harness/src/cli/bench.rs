//! `limosa bench`: prints what this machine can do.

use super::dispatch::{become_root, runtime};
use crate::{
    cli::args::exit,
    machine::bench::{self, Row},
};
use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

/// `limosa bench`
pub(super) fn bench(only: Option<&str>, json: bool) -> Result<u8> {
    become_root()?;
    let rows = runtime()?.block_on(bench::measure(only, |next| tell!("measuring {next}")))?;
    if json {
        say_json!(&json!({ "figures": rows }));
    } else {
        say!("{}", table(&rows));
        for row in rows.iter().filter(|row| row.missing.is_some()) {
            say!("{}: {}", row.what, row.missing.as_deref().unwrap_or_default());
        }
    }
    Ok(exit::OK)
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["", "now", "README"]);
    for row in rows {
        let text = |value: Option<f64>| value.map_or("–".into(), |v| bench::text(row.key, v));
        table.add_row([row.what.to_owned(), text(row.value), text(row.noted)]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
