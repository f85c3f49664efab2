//! The files of rows that grow with each trial.
//!
//! A trial's rows are written when it ends, its own row in `trials.csv` last: when that is there, all
//! the others are. So a run that was killed is mended by dropping the rows of trials that have no row
//! in `trials.csv`, and loses nothing but the trials that were running.

use super::TrialRecord;
use crate::plan::Plan;
use limosa_record::{
    arrange::arrange,
    dir::RunDir,
    row::{self, RowFile, TrialRow},
};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
};

/// The files, open at their ends.
pub(super) struct Rows {
    run: RunDir,
    trials: RowFile,
    throughput: RowFile,
    events: RowFile,
    /// Made with the first request.
    requests: Option<RowFile>,
    /// Made with the first of several clients.
    clients: Option<RowFile>,
    order: Order,
    /// Whether a row could not be written. Then no more are: what is there stays mendable.
    broken: bool,
}

/// Each trial's place in the plan.
struct Order(HashMap<(String, u32), usize>);

impl Order {
    fn of(plan: &Plan) -> Self {
        let numbered = plan.trials.iter().enumerate();
        Self(numbered.map(|(n, t)| ((t.variant.clone(), t.repetition), n)).collect())
    }

    /// Rows of trials that are not in the plan are not ours to drop: they come last.
    fn place(&self, variant: &str, repetition: u32) -> usize {
        self.0.get(&(variant.to_owned(), repetition)).copied().unwrap_or(usize::MAX)
    }
}

impl Rows {
    /// Mends the files, if a run was cut off, and opens them; gives the rows of finished trials.
    pub(super) fn open(run: &RunDir, plan: &Plan) -> io::Result<(Self, Vec<TrialRow>)> {
        let order = Order::of(plan);
        let before = put_in_order(run, &order)?;
        let rows = Self {
            run: run.clone(),
            trials: RowFile::append(&run.trials())?,
            throughput: RowFile::append(&run.throughput())?,
            events: RowFile::append(&run.events())?,
            requests: None,
            clients: None,
            order,
            broken: false,
        };
        Ok((rows, before))
    }

    /// Writes a trial's rows.
    pub(super) fn write(&mut self, record: &TrialRecord) -> io::Result<()> {
        if self.broken {
            return Ok(());
        }
        let written = self.write_all(record);
        self.broken = written.is_err();
        written
    }

    fn write_all(&mut self, record: &TrialRecord) -> io::Result<()> {
        record.throughput.iter().try_for_each(|row| self.throughput.write(row))?;
        record.events.iter().try_for_each(|row| self.events.write(row))?;
        write_some(&mut self.requests, &self.run.requests(), &record.requests)?;
        write_some(&mut self.clients, &self.run.clients(), &record.clients)?;
        self.throughput.sync()?;
        self.events.sync()?;
        self.trials.write(&record.row)?;
        self.trials.sync()
    }

    /// Puts all rows into the plan's order.
    pub(super) fn finish(self) -> io::Result<()> {
        put_in_order(&self.run, &self.order).map(drop)
    }
}

/// Writes rows of a file that only some runs have.
fn write_some(file: &mut Option<RowFile>, path: &Path, rows: &[impl Serialize]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let file = match file {
        Some(file) => file,
        none => none.insert(RowFile::append(path)?),
    };
    rows.iter().try_for_each(|row| file.write(row))?;
    file.sync()
}

/// Gives the rows of finished trials.
fn put_in_order(run: &RunDir, order: &Order) -> io::Result<Vec<TrialRow>> {
    arrange(&run.trials(), |variant, repetition| Some(order.place(variant, repetition)))?;
    let trials: Vec<TrialRow> = row::read(&run.trials())?;
    let done: HashSet<(&str, u32)> =
        trials.iter().map(|t| (t.variant.as_str(), t.repetition)).collect();
    for file in [run.throughput(), run.events(), run.requests(), run.clients()] {
        arrange(&file, |variant, repetition| {
            let place = order.place(variant, repetition);
            done.contains(&(variant, repetition)).then_some(place)
        })?;
    }
    Ok(trials)
}
