//! From a run directory to numbers, figures and a report.
//!
//! Input: the files that `limosa run` left, all of them, some of them or pieces of them. Output:
//! `summary.csv`, `model.csv`, `security.csv`, `figures/*.svg`, `report.html` and `measured.md` beside them, and [`Analysis`] for the
//! terminal; of several runs also a [`Comparison`]. Needs no root and nothing of the machine that ran
//! the experiment.

mod compare;
mod figure;
mod input;
mod lane;
pub mod model;
mod number;
mod reference;
mod report;
mod security;
mod series;
pub mod stats;
mod summary;
pub mod wire;

pub use compare::{Comparison, compare};
pub use summary::{Excess, Reference, Variant};

use anyhow::Context;
use figure::Figure;
use input::Input;
use limosa_record::{
    beneath,
    dir::{RunDir, write_whole},
    row::{SummaryRow, cells},
    text,
};
use model::measured;
use serde::Serialize;
use std::path::PathBuf;

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

/// Figures of one kind.
struct Chapter {
    title: &'static str,
    figures: Vec<Figure>,
}

/// Analyses a run directory and writes `summary.csv`, `figures/`, `report.html` and `measured.md` into it.
///
/// # Errors
/// Only when these cannot be written: whatever is missing or broken in the input is a warning.
pub fn analyse(run: &RunDir) -> anyhow::Result<Analysis> {
    let mut input = Input::read(run);
    let names = input.variants();
    let summary = summary::rows(&input, &names);
    let variants = summary::variants(&input, &summary);
    let excesses = summary::difference::excesses(&input, &variants, &summary);
    let modelled = measured::compare(&input, &names);
    let chapters = draw(&mut input, &names, &variants, &summary, &modelled);

    write_rows(&run.summary(), &summary)?;
    let rows: Vec<_> = modelled.iter().flat_map(|c| c.rows.iter().cloned()).collect();
    if !rows.is_empty() {
        write_rows(&run.model_table(), &rows)?;
    }
    let secured = security::rows(&mut input);
    if !secured.is_empty() {
        write_rows(&run.security_table(), &secured)?;
    }
    let figures = write_figures(run, &chapters)?;
    let warnings = input.warnings.clone();
    let analysis = Analysis { variants, summary, excesses, figures, warnings };
    let page = report::page(&input, &analysis, &chapters, &modelled);
    write_whole(&run.report(), text::visible(&page).as_bytes())?;
    let dated = report::markdown(&input, &analysis);
    write_whole(&run.measured(), text::visible(&dated).as_bytes())?;
    tracing::debug!(report = %run.report().display(), figures = analysis.figures.len(), "analysed");
    Ok(analysis)
}

fn draw(
    input: &mut Input,
    names: &[String],
    variants: &[Variant],
    summary: &[SummaryRow],
    modelled: &[measured::Comparison],
) -> Vec<Chapter> {
    let rows = input.throughput.values().flatten();
    match rows.filter(|r| !series::usable(r)).count() {
        0 => {}
        n => input.warnings.push(format!(
            "throughput.csv: {} left out of the figures because of impossible times or bytes",
            number::count(n, "row")
        )),
    }
    let mut distributions = figure::rows::figures(input, variants);
    let mut take = |file: &str| {
        let i = distributions.iter().position(|f| f.file == file)?;
        Some(distributions.remove(i))
    };
    let turnaround = take("turnaround.svg");
    let rtt = take("rtt.svg");
    let mut response = figure::response::with_model(modelled);
    response.extend(take("response-mean.svg"));
    response.extend(figure::response::without_model(input, names, modelled));
    let chapters = [
        ("Turnaround", Vec::from_iter(turnaround)),
        ("Response times", response),
        ("Throughput", throughput(input, names)),
        ("What the client did when", figure::lanes::figures(input, names)),
        (
            "Where the time of the migration went",
            Vec::from_iter(figure::phases::figure(input, summary, names)),
        ),
        ("Stalls and delays", distributions),
        ("The idle network", Vec::from_iter(rtt)),
    ];
    let chapters = chapters.into_iter().map(|(title, figures)| Chapter { title, figures });
    chapters.filter(|c| !c.figures.is_empty()).collect()
}

fn throughput(input: &Input, names: &[String]) -> Vec<Figure> {
    let Some(grid) = series::Grid::of(input.throughput.values().flatten()) else { return vec![] };
    let of = |name: &String| {
        let whole = series::Series::of(input, name, &grid)?;
        let rows = input.throughput.get(name)?;
        let zoom = grid.around(&whole, rows).and_then(|fine| {
            let series = series::Series::of(input, name, &fine)?;
            Some((fine, series))
        });
        Some(figure::throughput::Drawn { variant: name.clone(), whole, zoom })
    };
    let drawn: Vec<_> = names.iter().filter_map(of).collect();
    figure::throughput::figures(names, &drawn, &grid)
}

fn write_figures(run: &RunDir, chapters: &[Chapter]) -> anyhow::Result<Vec<PathBuf>> {
    let folder = run.figures();
    // A link in its place could lead anywhere.
    beneath::create_dir_all(run.root(), &folder)?;
    let mut paths = Vec::new();
    for figure in chapters.iter().flat_map(|c| &c.figures) {
        paths.push(folder.join(&figure.file));
        for (name, svg, data) in figure.files() {
            write_whole(&folder.join(format!("{name}.svg")), text::visible(svg).as_bytes())?;
            write_whole(&folder.join(format!("{name}.csv")), &data.csv()?)?;
        }
    }
    Ok(paths)
}

fn write_rows(path: &std::path::Path, rows: &[impl Serialize]) -> anyhow::Result<()> {
    let written = || -> anyhow::Result<()> { Ok(write_whole(path, &cells::bytes(rows, true)?)?) };
    written().with_context(|| format!("write {}", path.display()))
}
