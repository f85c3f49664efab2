//! What carrying packets costs. The bars for the numbers are those of an idle machine and optimised
//! code: `limosa bench` compares; this only asks that the measurement measures.

use anyhow::{Result, ensure};
use limosa_lab::engine::measure::measure;
use limosa_testkit::{Outcome, compare};
use std::path::Path;

fn figures_are_those_of_a_working_link() -> Outcome {
    compare(|| -> Result<()> {
        let folder = tempfile::tempdir()?;
        let program = Path::new(env!("CARGO_BIN_EXE_limosa"));
        let figures = measure(program, &folder.path().join("engine.log"))?;
        println!("{figures:#?}");
        ensure!((0..5_000_000).contains(&figures.rtt_error_ns), "{figures:?}");
        ensure!(figures.rate_error_ratio.abs() < 0.05, "{figures:?}");
        ensure!(figures.packets_per_second > 1000.0, "{figures:?}");
        Ok(())
    })
}

limosa_testkit::tests![figures_are_those_of_a_working_link[alone]];
