//! How the run was made, and the command that makes it again.
//!
//! The manifest and the plan are read for what they happen to hold; nothing in them is required.

use crate::{
    input::{Input, cut, shown},
    number,
};
use maud::{Markup, html};
use serde_json::Value;

/// Lines of the manifest that are shown; the file itself holds the rest.
const MOST_LINES: usize = 60;
/// Larger files are linked, not shown.
const LARGEST_SHOWN: u64 = 150_000;
/// Larger experiments are not ours.
const LARGEST_READ: u64 = 4 << 20;

/// The words that repeat this run, in its own folder.
fn command(input: &Input) -> String {
    let mut words = vec!["limosa run experiment.yaml".to_owned()];
    let planned = input.plan.get("variants").and_then(Value::as_object);
    let repetitions = input.plan.pointer("/experiment/repetitions").and_then(Value::as_u64);
    let text = shown(&input.root.join("experiment.yaml"), LARGEST_READ).ok().flatten();
    let written: Value = serde_yaml::from_slice(&text.unwrap_or_default()).unwrap_or_default();
    // What was asked for on the command line is in the plan and not in the experiment.
    if let Some(n) =
        repetitions.filter(|n| written.get("repetitions").and_then(Value::as_u64) != Some(*n))
    {
        words.push(format!("--reps {n}"));
    }
    let all = written.get("variants").and_then(Value::as_object);
    if let Some((planned, all)) =
        planned.zip(all).filter(|(planned, all)| planned.len() < all.len())
    {
        words
            .extend(all.keys().filter(|v| planned.contains_key(*v)).map(|v| format!("--only {v}")));
    }
    if input.manifest.pointer("/machine/where").and_then(Value::as_str) == Some("guest") {
        words.push("--on guest".into());
    }
    cut(&words.join(" ")).into_owned()
}

pub(super) fn again(input: &Input) -> Markup {
    let started = match input.manifest.get("command") {
        Some(Value::String(command)) => Some(command.clone()),
        Some(Value::Array(words)) => {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            Some(cut(&words.join(" ")).into_owned())
        }
        _ => None,
    };
    html! {
        h2 { "To run it again" }
        p { "In the folder of this report; the second command only repeats the analysis." }
        pre { (command(input)) "\nlimosa report ." }
        @if let Some(command) = started { p { "This run was started by " code { (command) } "." } }
    }
}

/// Every value in a JSON value with the words that lead to it.
pub(crate) fn leaves(value: &Value, path: &str, lines: &mut Vec<(String, String)>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        _ => format!("{path} {key}"),
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(key, v)| leaves(v, &below(key), lines)),
        // A list of words is a line, as a command is.
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let words: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            lines.push((path.to_owned(), words.join(" ")));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| leaves(v, &below(&i.to_string()), lines));
        }
        Value::String(text) => lines.push((path.to_owned(), text.clone())),
        other => lines.push((path.to_owned(), other.to_string())),
    }
}

pub(super) fn machine(input: &Input) -> Markup {
    let mut lines = Vec::new();
    leaves(&input.manifest, "", &mut lines);
    let rest = lines.len().saturating_sub(MOST_LINES);
    html! {
        @if !lines.is_empty() {
            h2 { "How it was made" }
            div.scroll { table { tbody {
                @for (key, value) in lines.iter().take(MOST_LINES) {
                    tr { th { (key.replace('_', " ")) } td { (value) } }
                }
            } } }
            @if rest > 0 { p.note { (number::count(rest, "more line")) " in " a href="manifest.json" { "manifest.json" } "." } }
        }
    }
}

/// What the user wrote, and everything resolved.
pub(super) fn sources(input: &Input) -> Markup {
    let files = [
        ("experiment.yaml", "the experiment as it was written"),
        ("topology.yaml", "the topology as it was written"),
        ("reference.yaml", "the published figures"),
        ("plan.json", "the plan: everything resolved"),
    ];
    html! {
        @for (file, what) in files {
            @let path = input.root.join(file);
            @if path.exists() {
                @if let Ok(Some(bytes)) = shown(&path, LARGEST_SHOWN) {
                    details { summary { (file) ", " (what) } pre { (String::from_utf8_lossy(&bytes)) } }
                } @else {
                    p { a href=(file) { (file) } ", " (what) }
                }
            }
        }
    }
}
