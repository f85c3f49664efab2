//! What is shown of strangers' files: no terminal obeys it, no spreadsheet runs it.

use super::{
    files::{HEAD, TINY},
    text,
};
use limosa_record::text::is_hidden;
use std::{fs, path::Path, process::Command};

/// Clears the screen, rings, sets the title, and turns the line round.
const EVIL: &str = "\\e[2J\\a\\e]0;title\\a\\u009b1m\\u202Etxt.exe\\u2069";

fn limosa(folder: &Path, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_limosa"))
        .args(words)
        .current_dir(folder)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn assert_seen(words: &[&str], told: &str) {
    let hidden = told.chars().find(|c| is_hidden(*c) && *c != '\n' && *c != '\t');
    assert!(hidden.is_none(), "{words:?} sends {hidden:?}: {told:?}");
}

#[test]
fn regression_no_terminal_obeys_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tiny.yaml"), TINY).unwrap();
    let files = [
        ("described.yaml", format!("description: \"{EVIL}\"\n{HEAD}"), 0),
        ("field.yaml", format!("\"{EVIL}\": 1\n{HEAD}"), 3),
        (
            "image.yaml",
            format!("{HEAD}timeline: [{{at: 1s, checkpoint: {{node: server, as: \"{EVIL}\"}}}}]\n"),
            3,
        ),
        ("node.yaml", format!("{HEAD}timeline: [{{at: 1s, kill: {{node: \"{EVIL}\"}}}}]\n"), 3),
        ("variant.yaml", HEAD.replace("  v:", &format!("  \"{EVIL}\":")), 3),
        ("path.yaml", HEAD.replace("tiny.yaml", "\u{1b}[2J.yaml"), 3),
        ("raw.yaml", HEAD.replace("quic", "qu\u{202e}ic"), 3),
        ("\u{1b}[2J\u{202e}.yaml", HEAD.to_owned(), 3),
    ];
    for (file, content, code) in &files {
        fs::write(folder.path().join(file), content).unwrap();
        for words in [&["plan", file][..], &["plan", file, "--json"], &["-v", "doctor", file]] {
            let (found, told) = limosa(folder.path(), words);
            assert_seen(words, &told);
            assert!(words[0] != "plan" || found == Some(*code), "{words:?}: {told}");
            assert!(!told.is_empty());
        }
    }
    for words in [
        &["plan", "\u{1b}[2Jno.yaml"][..],
        &["--\u{1b}[2J"],
        &["run", "described.yaml", "--only", "\u{9b}2J"],
    ] {
        assert_seen(words, &limosa(folder.path(), words).1);
    }
    let json = limosa(folder.path(), &["plan", "described.yaml", "--json"]).1;
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    let description = plan["experiment"]["description"].as_str().unwrap();
    assert!(description.starts_with("\u{1b}[2J\u{7}"), "JSON keeps the value: {description:?}");
}

#[test]
fn regression_a_strangers_run_is_shown_and_not_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    let evil = "=cmd|'/C calc'!A0\u{1b}[2J\u{202e}<img src=x onerror=alert(1)>";
    let trials = format!(
        "experiment,variant,repetition,seed,status,reason,scheme,turnaround_s,started_utc,folder\n\
         e,{evil},1,1,ok,,quic,1.5,2026-01-01T00:00:00Z,trials/x/1\n\
         e,{evil},2,1,failed,{evil},quic,,2026-01-01T00:00:00Z,trials/x/2\n"
    );
    fs::write(run.join("trials.csv"), trials).unwrap();
    fs::write(run.join("plan.json"), "{}").unwrap();
    for words in [&["report", "run"][..], &["report", "run", "--json"], &["report", "run", "run"]] {
        let (code, told) = limosa(folder.path(), words);
        assert_eq!(code, Some(0), "{told}");
        assert_seen(words, &told);
    }
    for page in ["report.html", "comparison.html"] {
        let Ok(page) = fs::read_to_string(run.join(page)) else { continue };
        assert_seen(&["page"], &page);
        assert!(!page.contains("<img src=x"), "a variant's name is markup");
    }
    let summary = fs::read_to_string(run.join("summary.csv")).unwrap();
    assert!(summary.contains("\n'=cmd|"), "{summary}");
    assert!(!summary.contains("\n=cmd"), "{summary}");
}
