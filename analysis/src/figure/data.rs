//! The numbers of a figure as a table, written beside it, so that nobody has to measure its lines.
//!
//! Output: CSV. A number has as many digits as it needs to be the very one that was drawn.

use anyhow::Context;
use limosa_record::text;

/// A table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Data {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A number as a cell.
pub(crate) fn cell(value: f64) -> String {
    value.to_string()
}

/// A number that may be missing.
pub(crate) fn optional(value: Option<f64>) -> String {
    value.map_or_else(String::new, cell)
}

impl Data {
    pub(crate) fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The whole file; names of strangers are no formulas in it.
    pub(crate) fn csv(&self) -> anyhow::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in std::iter::once(&self.header).chain(&self.rows) {
            writer.write_record(row.iter().map(|cell| text::cell(cell).into_owned()))?;
        }
        writer.into_inner().context("finish the table")
    }
}
