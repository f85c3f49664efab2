//! Rows that should be there and are not: of a run that was cut off, and of trials in the other tables.

use super::{Input, Trial};
use crate::number;
use std::collections::HashSet;

/// One sentence for each kind of row that is missing.
pub(super) fn of(input: &Input) -> Vec<String> {
    let mut told = Vec::new();
    let there = input.trials.len();
    if let Some(planned) = input.planned().filter(|planned| *planned > there && there > 0) {
        told.push(format!(
            "trials.csv: {} of {} {} no row: the run was cut off, or goes on still",
            planned - there,
            number::count(planned, "planned trial"),
            if planned - there == 1 { "has" } else { "have" }
        ));
    }
    // A table that is not there at all has been told already, and trials without a client have none.
    type Key<'a> = (&'a str, u32);
    let throughput: HashSet<Key<'_>> =
        input.throughput.values().flatten().map(|r| (&*r.variant, r.repetition)).collect();
    let events: HashSet<Key<'_>> =
        input.events.keys().map(|(variant, repetition)| (&**variant, *repetition)).collect();
    let requests: HashSet<Key<'_>> =
        input.requests.iter().map(|r| (&*r.variant, r.repetition)).collect();
    let asked: HashSet<&str> = input.requests.iter().map(|r| &*r.variant).collect();
    let tables =
        [("throughput.csv", throughput), ("events.csv", events), ("requests.csv", requests)];
    let served = || input.trials.iter().filter(|t| t.is_ok() && !t.row.scheme.is_empty());
    for (table, known) in tables.iter().filter(|(_, known)| !known.is_empty()) {
        let lacks = |t: &&Trial| {
            // Downloads are no requests.
            let expected = *table != "requests.csv" || asked.contains(&*t.row.variant);
            expected && !known.contains(&(&*t.row.variant, t.row.repetition))
        };
        let lacking: Vec<_> = served().filter(lacks).collect();
        if let Some(first) = lacking.first() {
            told.push(format!(
                "{table}: no row of {} that ended ok, the first being {} {}",
                number::count(lacking.len(), "trial"),
                first.row.variant,
                first.row.repetition
            ));
        }
    }
    told
}
