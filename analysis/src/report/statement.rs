//! The report's first words: what was run, on what, and how it went.
//!
//! The manifest and the plan are read for what they happen to hold; nothing in them is required.

use super::leaves;
use crate::{
    Analysis,
    input::{Input, cut},
    number,
};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn title(input: &Input) -> String {
    let planned = text(&input.plan, "/experiment/name");
    let recorded = input.trials.iter().map(|t| t.row.experiment.clone()).next();
    planned.or(recorded).filter(|t| !t.is_empty()).unwrap_or_else(|| "Limosa run".into())
}

pub(super) fn statement(input: &Input, analysis: &Analysis) -> Markup {
    let description = text(&input.plan, "/experiment/description");
    let started: BTreeSet<_> =
        input.trials.iter().map(|t| &t.row.started_utc).filter(|t| !t.is_empty()).collect();
    html! {
        @if let Some(description) = description { p.sub { (description) } }
        p {
            (trials(input)) " of " (number::count(analysis.variants.len(), "variant"))
            @if let Some(topology) = topology(input) { " in the topology " (topology) }
            ". " (schemes(input)) (workload(input)) (outcome(input))
            @if let (Some(first), Some(last)) = (started.first(), started.last()) {
                @if first == last { "Started at " (first) " (UTC). " }
                @else { "The first trial started at " (first) ", the last one at " (last) " (UTC). " }
            }
            @if let Some(machine) = in_words(input.manifest.get("machine")) {
                "Machine: " (machine) "."
            }
        }
    }
}

/// How many there are, and of how many if some are missing.
pub(super) fn trials(input: &Input) -> String {
    let there = input.trials.len();
    match input.planned().filter(|planned| *planned > there) {
        Some(planned) => format!("{there} of {}", number::count(planned, "trial")),
        None => number::count(there, "trial"),
    }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

fn topology(input: &Input) -> Option<String> {
    let (plan, manifest) = (&input.plan, &input.manifest);
    let places = [
        (plan, "/topology/name"),
        (plan, "/topology"),
        (plan, "/experiment/topology"),
        (manifest, "/topology/name"),
        (manifest, "/topology"),
    ];
    places.into_iter().find_map(|(value, pointer)| text(value, pointer))
}

fn schemes(input: &Input) -> String {
    let sorted = |values: BTreeSet<&str>| {
        let words: Vec<_> = values.into_iter().collect();
        cut(&words.join(", ")).into_owned()
    };
    let schemes: BTreeSet<_> =
        input.trials.iter().map(|t| t.row.scheme.as_str()).filter(|s| !s.is_empty()).collect();
    if schemes.is_empty() {
        return String::new();
    }
    let noun = if schemes.len() == 1 { "scheme" } else { "schemes" };
    let techniques: BTreeSet<_> = input
        .trials
        .iter()
        .filter_map(|t| t.row.technique.as_deref())
        .filter(|t| !t.is_empty())
        .collect();
    let moved = match techniques.is_empty() {
        true => String::new(),
        false => format!("; the process moved by: {}", sorted(techniques)),
    };
    format!("Migration {noun}: {}{moved}. ", sorted(schemes))
}

fn workload(input: &Input) -> String {
    let sizes: BTreeSet<_> =
        input.trials.iter().filter(|t| t.is_ok()).filter_map(|t| t.row.bytes).collect();
    match (sizes.first(), sizes.len()) {
        (Some(size), 1) => {
            format!("Each trial downloads {}. ", number::bytes(*size as f64))
        }
        _ => String::new(),
    }
}

fn outcome(input: &Input) -> String {
    let ok = input.trials.iter().filter(|t| t.is_ok()).count();
    let suspect = input.trials.iter().filter(|t| t.is_suspect()).count();
    let failed = input.trials.len() - ok;
    format!("{ok} ok, {failed} failed, {suspect} suspect. ")
}

/// The machine as a sentence; whatever it has that is not known here follows as it is called.
pub(super) fn in_words(value: Option<&Value>) -> Option<String> {
    let mut lines = Vec::new();
    leaves(value?, "", &mut lines);
    let word = |(key, value): (String, String)| {
        let bytes = || value.parse().map_or_else(|_| value.clone(), number::bytes);
        match key.as_str() {
            "where" if value == "guest" => "a QEMU guest".into(),
            "where" => format!("the {value}"),
            "kernel" | "architecture" | "distribution" => value,
            "processors" => format!("{value} processors"),
            "memory_bytes" => format!("{} of memory", bytes()),
            "criu" => format!("CRIU {value}"),
            _ => format!("{} {value}", key.replace('_', " ")),
        }
    };
    let short = lines.into_iter().filter(|(_, value)| value.chars().count() <= 80).take(12);
    let words: Vec<_> = short.map(word).collect();
    (!words.is_empty()).then(|| words.join(", ").trim().to_owned())
}
