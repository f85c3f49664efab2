//! From a run directory to numbers, figures and a report.
//!
//! Input: the files that `limosa run` left, all of them, some of them or pieces of them. Output:
//! `summary.csv`, `figures/*.svg` and `report.html` beside them, and [`Analysis`] for the terminal.
//! Needs no root and nothing of the machine that ran the experiment.

mod figure;
mod input;
mod number;
mod report;
mod series;
pub mod stats;
mod summary;
pub mod wire;

pub use summary::{Excess, Reference, Variant};

use anyhow::Context;
use figure::Figure;
use input::Input;
use limosa_record::{
    dir::{RunDir, write_whole},
    row::SummaryRow,
};
use std::{fs, path::PathBuf};

/// What a run showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// One per variant, in the order of `trials.csv`.
    pub variants: Vec<Variant>,
    /// The rows of `summary.csv`.
    pub summary: Vec<SummaryRow>,
    /// What migration costs, where a run has the variants to tell.
    pub excesses: Vec<Excess>,
    /// The written figures.
    pub figures: Vec<PathBuf>,
    /// What could not be read or shown, one sentence each.
    pub warnings: Vec<String>,
}

/// Analyses a run directory and writes `summary.csv`, `figures/` and `report.html` into it.
///
/// # Errors
/// Only when these cannot be written: whatever is missing or broken in the input is a warning.
pub fn analyse(run: &RunDir) -> anyhow::Result<Analysis> {
    let mut input = Input::read(run);
    let names = input.variants();
    let summary = summary::rows(&input.trials, &names);
    let variants = summary::variants(&input, &summary);
    let excesses = summary::excesses(&input.trials, &variants);
    let figures = draw(&mut input, &names, &variants);

    write_summary(run, &summary)?;
    let folder = run.figures();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut paths = Vec::new();
    for figure in &figures {
        let path = folder.join(&figure.file);
        write_whole(&path, figure.svg.as_bytes())?;
        paths.push(path);
    }
    let warnings = input.warnings.clone();
    let analysis = Analysis { variants, summary, excesses, figures: paths, warnings };
    let page = report::page(&input, &analysis, &figures);
    write_whole(&run.report(), page.as_bytes())?;
    tracing::debug!(report = %run.report().display(), figures = figures.len(), "analysed");
    Ok(analysis)
}

/// A figure that cannot be drawn becomes a warning: the numbers are worth more than its picture.
fn draw(input: &mut Input, names: &[String], variants: &[Variant]) -> Vec<Figure> {
    let mut figures = Vec::new();
    match figure::turnaround::figure(&input.trials, variants) {
        Ok(figure) => figures.extend(figure),
        Err(e) => input.warnings.push(format!("{e:#}")),
    }
    match input.throughput.iter().filter(|r| !series::usable(r)).count() {
        0 => {}
        n => input.warnings.push(format!(
            "throughput.csv: {} left out of the figures because of impossible times or bytes",
            number::count(n, "row")
        )),
    }
    if let Some(grid) = series::Grid::of(&input.throughput) {
        let of = |name: &String| Some((name.clone(), series::Series::of(input, name, &grid)?));
        let series: Vec<_> = names.iter().filter_map(of).collect();
        match figure::throughput::figures(names, &series, &grid) {
            Ok(more) => figures.extend(more),
            Err(e) => input.warnings.push(format!("{e:#}")),
        }
    }
    figures
}

fn write_summary(run: &RunDir, rows: &[SummaryRow]) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).context("write a row of summary.csv")?;
    }
    let content = writer.into_inner().context("write summary.csv")?;
    Ok(write_whole(&run.summary(), &content)?)
}
