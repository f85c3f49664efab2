//! The command line as a user meets it, without root: exit codes, and where messages go.

use assert_cmd::Command;
use std::{fs, path::PathBuf};

fn limosa() -> Command {
    let mut command = Command::cargo_bin("limosa").unwrap();
    command.current_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_plan_goes_to_stdout_and_needs_no_root() {
    let output = limosa().args(["plan", "experiments/nakano-2025.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    insta::assert_snapshot!(text(&output.stdout));
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    for (words, code) in [(["plan", "experiments/quickstart.yaml"], 0), (["plan", "README.md"], 3)]
    {
        let [(_, stdout), (_, stderr)] = [std::io::pipe().unwrap(), std::io::pipe().unwrap()];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_limosa"));
        command.current_dir("..").args(words).stdout(stdout).stderr(stderr);
        assert_eq!(command.status().unwrap().code(), Some(code), "{words:?}");
    }
}

#[test]
fn a_plan_as_json_can_be_read_again() {
    let output = limosa().args(["plan", "experiments/quickstart.yaml", "--json"]).output().unwrap();
    let plan: limosa::plan::Plan = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan.trials.len(), 5);
}

#[test]
fn a_wrong_file_is_exit_code_3_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.yaml");
    fs::write(&file, "version: 1\nnonsense: 2\n").unwrap();
    for command in ["plan", "run", "doctor"] {
        let output = limosa().arg(command).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        let told = text(&output.stderr);
        assert!(
            told.starts_with("error: ") && told.contains("x.yaml:2:1: unknown field"),
            "{told}"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_command_is_shown_by_plan_and_refused_by_run_unless_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let proof = folder.path().join("proof");
    let file = folder.path().join("x.yaml");
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/rack.yaml");
    let experiment = format!(
        "version: 1
topology: {topology}
repetitions: 1
nodes:
  server: {{on: server-a, role: server}}
  client: {{on: client, role: client}}
  other: {{on: server-b, command: [touch, {}, it is done]}}
workload: {{download: {{path: /random, size: 1MB}}}}
variants: {{one: {{scheme: quic}}}}
",
        proof.display()
    );
    fs::write(&file, experiment).unwrap();
    let planned = limosa().arg("plan").arg(&file).output().unwrap();
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned.stderr));
    let line = format!("node other on server-b: touch {} 'it is done'", proof.display());
    assert!(text(&planned.stdout).contains(&line), "{}", text(&planned.stdout));
    for more in [&["--on", "host"][..], &["--on", "guest"], &["--resume"]] {
        let run = limosa().arg("run").arg(&file).args(more).current_dir(&folder).output().unwrap();
        let told = text(&run.stderr);
        assert_eq!(run.status.code(), Some(3), "{told}");
        assert!(told.contains("x.yaml:7:"), "{told}");
        assert!(
            told.contains("the node `other` would start the program `touch` as root"),
            "{told}"
        );
        assert!(told.contains("hint: ") && told.contains("`--allow-commands`"), "{told}");
    }
    assert!(!proof.exists() && !folder.path().join("results").exists());
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for words in [
        &["fly"][..],
        &["run"],
        &["run", "experiments/quickstart.yaml", "--reps", "0"],
        &["run", "experiments/quickstart.yaml", "--only", "nobody"],
    ] {
        let output = limosa().args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_report_of_something_else_says_what_a_run_directory_is() {
    let output = limosa().args(["report", "topologies"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let told = text(&output.stderr);
    assert!(told.contains("topologies: is no run directory") && told.contains("hint: "), "{told}");
    let output = limosa().args(["report", "nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("nowhere: there is no such folder"));
}

#[test]
fn two_runs_are_compared_without_root() {
    let folder = tempfile::tempdir().unwrap();
    let runs = ["before", "after"].map(|name| folder.path().join(name));
    for (run, turnaround) in runs.iter().zip(["1.5", "2.5"]) {
        fs::create_dir(run).unwrap();
        let header =
            "experiment,variant,repetition,seed,status,scheme,turnaround_s,started_utc,folder\n";
        // Five are the fewest that have an interval.
        let rows = (1..=5).map(|n| format!("e,quic,{n},1,ok,quic,{turnaround},,\n"));
        let text = header.to_owned() + &rows.collect::<String>();
        fs::write(run.join("trials.csv"), text).unwrap();
    }
    let output = limosa().arg("report").args(&runs).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains("+1.000 to +1.000") && told.contains("differs"), "{told}");
    assert!(runs[1].join("comparison.html").exists() && runs[0].join("report.html").exists());

    let output = limosa().args(["report", "--json"]).args(&runs).output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows[0]["difference"], 1.0);
}

#[test]
fn the_help_names_every_command() {
    let output = limosa().arg("--help").output().unwrap();
    insta::assert_snapshot!(text(&output.stdout));
}
