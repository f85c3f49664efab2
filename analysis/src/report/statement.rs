//! The report's words: what was run, on what, and how to run it again.
//!
//! The manifest and the plan are read for what they happen to hold; nothing in them is required.

use crate::{Analysis, input::Input, number, summary};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeSet;

/// Lines of the manifest that are shown; the file itself holds the rest.
const MOST_LINES: usize = 60;

pub(super) fn title(input: &Input) -> String {
    let planned = text(&input.plan, "/experiment/name");
    let recorded = input.trials.iter().map(|r| r.experiment.clone()).next();
    planned.or(recorded).filter(|t| !t.is_empty()).unwrap_or_else(|| "Limosa run".into())
}

pub(super) fn statement(input: &Input, analysis: &Analysis) -> Markup {
    let description = text(&input.plan, "/experiment/description");
    let started: BTreeSet<_> =
        input.trials.iter().map(|r| &r.started_utc).filter(|t| !t.is_empty()).collect();
    html! {
        @if let Some(description) = description { p.sub { (description) } }
        p {
            (number::count(input.trials.len(), "trial")) " of "
            (number::count(analysis.variants.len(), "variant"))
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
    let sorted = |values: BTreeSet<&str>| values.into_iter().collect::<Vec<_>>().join(", ");
    let schemes: BTreeSet<_> =
        input.trials.iter().map(|r| r.scheme.as_str()).filter(|s| !s.is_empty()).collect();
    if schemes.is_empty() {
        return String::new();
    }
    let noun = if schemes.len() == 1 { "scheme" } else { "schemes" };
    let techniques: BTreeSet<_> = input
        .trials
        .iter()
        .filter_map(|r| r.technique.as_deref())
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
        input.trials.iter().filter(|r| summary::is_ok(r)).filter_map(|r| r.bytes).collect();
    match (sizes.first(), sizes.len()) {
        (Some(size), 1) => {
            format!("Each trial downloads {}. ", number::bytes(*size as f64))
        }
        _ => String::new(),
    }
}

fn outcome(input: &Input) -> String {
    let ok = input.trials.iter().filter(|r| summary::is_ok(r)).count();
    let suspect = input.trials.iter().filter(|r| summary::is_suspect(r)).count();
    let failed = input.trials.len() - ok;
    format!("{ok} ok, {failed} failed, {suspect} suspect. ")
}

fn in_words(value: Option<&Value>) -> Option<String> {
    let mut lines = Vec::new();
    leaves(value?, "", &mut lines);
    let short = lines.into_iter().filter(|(_, value)| value.chars().count() <= 80).take(12);
    let words: Vec<_> = short.map(|(key, value)| format!("{key} {value}")).collect();
    (!words.is_empty()).then(|| words.join(", ").trim().to_owned())
}

fn leaves(value: &Value, path: &str, lines: &mut Vec<(String, String)>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        _ => format!("{path} {key}"),
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(key, v)| leaves(v, &below(key), lines)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| leaves(v, &below(&i.to_string()), lines));
        }
        Value::String(text) => lines.push((path.to_owned(), text.clone())),
        other => lines.push((path.to_owned(), other.to_string())),
    }
}

pub(super) fn again(input: &Input) -> Markup {
    let command = match input.manifest.get("command") {
        Some(Value::String(command)) => Some(command.clone()),
        Some(Value::Array(words)) => {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            Some(words.join(" "))
        }
        _ => None,
    };
    html! {
        h2 { "To run it again" }
        p { "In the folder of this report; the second command only repeats the analysis." }
        pre { "limosa run experiment.yaml\nlimosa report ." }
        @if let Some(command) = command { p { "This run was started by " code { (command) } "." } }
    }
}

pub(super) fn machine(input: &Input) -> Markup {
    let mut lines = Vec::new();
    leaves(&input.manifest, "", &mut lines);
    let rest = lines.len().saturating_sub(MOST_LINES);
    html! {
        @if !lines.is_empty() {
            h2 { "Machine and versions" }
            div.scroll { table { tbody {
                @for (key, value) in lines.iter().take(MOST_LINES) {
                    tr { th { (key) } td { (value) } }
                }
            } } }
            @if rest > 0 { p.note { (number::count(rest, "more line")) " in manifest.json." } }
        }
    }
}
