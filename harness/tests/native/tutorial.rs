//! The commands of the tutorial do what it says.

use crate::{machine, text};
use limosa_lab::sys::which::find_tool;
use limosa_record::{
    dir::RunDir,
    row::{self, RowFile, TrialRow},
};
use limosa_testkit::skip;
use std::{
    env, fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

const TUTORIAL: &str = include_str!("../../../TUTORIAL.md");

/// All blocks whose language begins like this, as one text.
fn blocks(language: &str) -> String {
    let mut parts = TUTORIAL.split("\n```");
    let mut found = String::new();
    // Every second part is a block; its first line names the language.
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        let (first, code) = block.split_once('\n').unwrap_or((block, ""));
        if first.split(' ').next() == Some(language) {
            found += code;
            found.push('\n');
        }
    }
    found
}

fn bash(folder: &Path, script: &str) -> Output {
    let bin = folder.join("bin");
    fs::create_dir(&bin).expect("make a folder for the program");
    symlink(machine::limosa().get_program(), bin.join("limosa")).expect("link the program");
    let path = format!("{}:{}", bin.display(), env::var("PATH").unwrap_or_default());
    // A part that fails leaves no lab.
    let end = "trap 'limosa down edge >/dev/null 2>&1 || true' EXIT";
    let script = format!("set -euxo pipefail\n{end}\n{script}");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("PATH", path).current_dir(folder);
    command.output().expect("start bash")
}

fn its_commands_work() {
    if find_tool("ping").is_none() {
        skip("there is no ping here");
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = bash(folder.path(), &blocks("sh"));
    assert!(output.status.success(), "{}", text(&output));
    let run = RunDir::new(folder.path().join("my/results/move/latest"));
    let trials: Vec<TrialRow> = row::read(&run.trials()).expect("trials.csv");
    assert_eq!(trials.len(), 4);
    assert!(trials.iter().all(|t| t.status == "ok" && t.downtime_s.is_some()), "{trials:?}");
    assert!(run.report().is_file());
}

fn its_plot_is_drawn() {
    let python = Command::new("python3").args(["-c", "import pandas, matplotlib"]).output();
    if !python.is_ok_and(|o| o.status.success()) {
        skip("python3 has no pandas and matplotlib here");
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = RunDir::new(folder.path().join("results/move/latest"));
    fs::create_dir_all(run.root()).expect("make a run directory");
    let mut rows = RowFile::append(&run.trials()).expect("begin trials.csv");
    for (variant, time) in [("plain", 7.0), ("multi", 4.0)] {
        let (turnaround_s, downtime_s, stall_s) = (Some(time), Some(1.1), Some(1.2));
        let variant = variant.to_owned();
        rows.write(&TrialRow { variant, turnaround_s, downtime_s, stall_s, ..TrialRow::default() })
            .expect("write a row");
    }
    let script = format!("python3 - <<'END'\n{}END\ntest -s move.png", blocks("python"));
    let output = bash(folder.path(), &script);
    assert!(output.status.success(), "{}", text(&output));
}

limosa_testkit::tests![its_commands_work, its_plot_is_drawn];
