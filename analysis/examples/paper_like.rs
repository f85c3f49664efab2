//! Writes a made-up run directory and analyses it, to look at the report without running anything.
//!
//! Usage: `cargo run -p limosa-analysis --example paper_like -- FOLDER [REPETITIONS]`; with `responses`
//! in the place of the repetitions a run of requests beside the model.

#[expect(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/paper_like/mod.rs"]
mod paper_like;

use anyhow::Context;
use limosa_record::dir::RunDir;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("usage: paper_like FOLDER [REPETITIONS]")?;
    let run = RunDir::new(folder);
    match arguments.next() {
        Some(word) if word == "responses" => paper_like::responses::write(&run)?,
        n => paper_like::write(&run, n.map_or(Ok(20), |n| n.parse())?)?,
    }
    let analysis = limosa_analysis::analyse(&run)?;
    for warning in analysis.warnings {
        println!("warning: {warning}");
    }
    println!("{}", run.report().display());
    Ok(())
}
