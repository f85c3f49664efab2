//! Exit codes and messages: what is the user's or the machine's to mend is never called a bug, and is
//! found before the first trial.

use crate::{
    machine::{Place, lab},
    text,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");

/// What was wrong with an answer, if anything was.
fn wrong(what: &str, output: &Output, code: i32, wanted: &str) -> Option<String> {
    let told = text(output);
    let right = output.status.code() == Some(code) && told.contains(wanted);
    (!right).then(|| format!("{what}: {} instead of {code}, `{wanted}`: {told}", output.status))
}

fn a_lab_that_is_not_there_or_cannot_be_is_the_users_mistake() {
    let place = Place::new("60s");
    let name = &*lab("exits");
    let long = "x".repeat(240);
    let run = |words: &[&str]| place.limosa(words).output().expect("start limosa");
    let mut found = Vec::new();
    let mut check = |words: &[&str], code, wanted: &str| {
        found.extend(wrong(&words.join(" "), &run(words), code, wanted));
    };
    let unknown = "there is no lab `limosa-no-such-lab`\n  hint: ";
    check(&["down", "limosa-no-such-lab"], 2, unknown);
    check(&["inspect", "limosa-no-such-lab"], 2, unknown);
    check(&["exec", "limosa-no-such-lab", "client", "--", "true"], 2, unknown);
    for bad in ["-x", ".x", "a b", "\u{fc}", &long] {
        let named = format!("--name={bad}");
        check(&["up", TOPOLOGY, &named], 2, "cannot be the name of a lab\n  hint: --name NAME");
    }
    check(&["up", TOPOLOGY, "--links", "user", "--name", name], 0, "is up");
    check(&["up", TOPOLOGY, "--name", name], 2, "already\n  hint: limosa down");
    check(&["exec", name, "clientt", "--", "true"], 2, "hint: the nodes are `client`, ");
    check(&["exec", name, "client", "--", "no-such-program"], 127, "no-such-program");
    check(&["exec", name, "client", "--", "/etc/passwd"], 126, "/etc/passwd");
    check(&["exec", name, "client", "--", "sh", "-c", "exit 9"], 9, "");
    check(&["down", name], 0, "is gone");
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(place.left(), [""; 0]);
}

fn results_that_cannot_be_written_are_the_users_mistake() {
    let place = Place::with("60s", "100KB");
    fs::write(place.path().join("file"), "x").expect("write a file");
    std::os::unix::fs::symlink("loop", place.path().join("loop")).expect("make a link");
    let mut found = Vec::new();
    for out in [&b"file"[..], b"/proc/limosa", b"/dev/null", b"loop", b"a\xff"] {
        let output = place.experiment(&["--out"]).arg(OsStr::from_bytes(out)).output();
        let what = String::from_utf8_lossy(out).into_owned();
        found.extend(wrong(&what, &output.expect("start limosa"), 2, "hint: --out FOLDER"));
    }
    let resumed = place.experiment(&["--resume"]).output().expect("start limosa");
    found.extend(wrong("--resume", &resumed, 2, "nothing to resume"));
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(place.left(), [""; 0]);
}

fn what_a_machine_lacks_is_found_before_the_first_trial() {
    let place = Place::with("60s", "100KB");
    let limosa = env!("CARGO_BIN_EXE_limosa");
    let run = "exec \"$0\" run move.yaml --on host --links user";
    let noexec = "mount -t tmpfs -o noexec limosa-test \"$TMPDIR\" && ";
    let mut found = Vec::new();
    for (what, script, wanted) in [
        ("8 files", format!("ulimit -n 8; {run}"), "this process may open 8 files\n  hint: ulimit"),
        ("60 files", format!("ulimit -n 60; {run}"), "may open 60"),
        ("noexec", format!("{noexec}{run}"), "is mounted noexec"),
    ] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, limosa]);
        let output = command.current_dir(place.path()).env("TMPDIR", place.tmp()).output();
        found.extend(wrong(what, &output.expect("start a shell"), 4, wanted));
    }
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", limosa, "run", "move.yaml", "--on", "host"]);
    let output = inside.current_dir(place.path()).env("TMPDIR", place.tmp()).output();
    let output = output.expect("start unshare");
    // Where user namespaces are switched off there is nothing to be found.
    if !text(&output).contains("unshare: ") {
        found.extend(wrong("a user namespace", &output, 4, "the first user namespace"));
    }
    let gone = "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" run ../move.yaml";
    let mut command = Command::new("sh");
    command.args(["-c", gone, limosa]).current_dir(place.path()).env("TMPDIR", place.tmp());
    let output = command.output().expect("start a shell");
    found.extend(wrong("no folder", &output, 2, "the current folder is gone"));
    let rows = place.path().join("results/move/latest/trials.csv");
    let begun = fs::read_to_string(rows).unwrap_or_default().lines().count();
    assert!(begun < 2, "a trial was begun");
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert_eq!(place.left(), [""; 0]);
}

/// The second one is told, and the first one goes on; afterwards all is in the log.
fn a_run_that_is_busy_is_not_disturbed_and_has_its_log() {
    let place = Place::with("60s", "6MB");
    let mut run = place.experiment(&[]);
    let run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start limosa");
    let begun = place.path().join("results/move/latest/manifest.json");
    while !begun.exists() {
        sleep(Duration::from_millis(20));
    }
    let second = place.experiment(&["--resume"]).output().expect("start limosa");
    let found = wrong("busy", &second, 4, "another limosa is at work in ");
    let done = run.wait_with_output().expect("wait for limosa");
    assert_eq!(found, None);
    assert!(done.status.success(), "{}", text(&done));
    let log = place.path().join("results/move/latest/harness.log");
    let log = fs::read_to_string(log).expect("the log");
    assert!(log.contains("trial move 1: started") && log.contains("trial move 1: ok"), "{log}");
}

/// At moments from its start to its end: either it is up, or nothing of it is there.
fn an_up_that_is_interrupted_leaves_nothing() {
    let place = Place::new("60s");
    let name = &*lab("interrupted");
    let home = Path::new("/run/limosa/labs").join(name);
    for (n, signal) in
        [Signal::INT, Signal::TERM, Signal::HUP].into_iter().cycle().take(9).enumerate()
    {
        let mut up = place.limosa(&["up", TOPOLOGY, "--links", "user", "--name", name]);
        let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start limosa");
        sleep(Duration::from_millis(30 * n as u64));
        // It may be over already.
        let _ = kill_process(Pid::from_child(&up), signal);
        let code = up.wait().expect("wait for limosa").code();
        if home.exists() {
            // The signal came after it was up.
            assert!(code == Some(0) || code == Some(130), "{n}: {code:?}");
            let seen = place.limosa(&["inspect", name]).output().expect("start limosa");
            assert!(seen.status.success(), "{n}: it is not whole: {}", text(&seen));
            let down = place.limosa(&["down", name]).output().expect("start limosa");
            assert!(down.status.success(), "{}", text(&down));
        } else {
            // Before it listens to signals it has made nothing, and is ended by the signal itself.
            assert!(code == Some(130) || code.is_none(), "{n}: {code:?}");
        }
        assert_eq!(place.left(), [""; 0], "{n}: {signal:?}");
    }
}

/// A lab is there or it is not, whenever `down` is interrupted.
fn a_down_that_is_interrupted_is_ended_all_the_same() {
    let place = Place::new("60s");
    let name = &*lab("ending");
    for n in 0..4 {
        let up = place.limosa(&["up", TOPOLOGY, "--links", "user", "--name", name]).output();
        assert!(up.as_ref().is_ok_and(|up| up.status.success()), "{up:?}");
        let mut down = place.limosa(&["down", name]);
        let mut down = down.stdout(Stdio::null()).spawn().expect("start limosa");
        sleep(Duration::from_millis(15 * n));
        let _ = kill_process(Pid::from_child(&down), Signal::INT);
        let code = down.wait().expect("wait for limosa").code();
        if Path::new("/run/limosa/labs").join(name).exists() {
            // It had not begun: the lab is whole.
            let again = place.limosa(&["down", name]).output().expect("start limosa");
            assert!(again.status.success(), "{}", text(&again));
        }
        assert!(!Path::new("/run/limosa/labs").join(name).exists(), "{n}: {code:?}");
        assert_eq!(place.left(), [""; 0], "{n}");
    }
}

/// SIGTERM as `timeout` sends it: to the process and to its group at once. It is one request.
fn a_timeout_ends_the_trial_and_keeps_the_rows_and_the_report() {
    let place = Place::new("60s");
    let script = "exec timeout 6 \"$0\" run move.yaml --on host --links user --reps 30";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_limosa")]);
    let output = command.current_dir(place.path()).env("TMPDIR", place.tmp()).output();
    let output = output.expect("start a shell");
    assert_eq!(output.status.code(), Some(124), "{}", text(&output));
    assert!(place.path().join("results/move/latest/report.html").exists(), "{}", text(&output));
    assert_eq!(place.left(), [""; 0]);
}

limosa_testkit::tests![
    a_lab_that_is_not_there_or_cannot_be_is_the_users_mistake,
    results_that_cannot_be_written_are_the_users_mistake,
    what_a_machine_lacks_is_found_before_the_first_trial,
    a_run_that_is_busy_is_not_disturbed_and_has_its_log,
    an_up_that_is_interrupted_leaves_nothing,
    a_down_that_is_interrupted_is_ended_all_the_same,
    a_timeout_ends_the_trial_and_keeps_the_rows_and_the_report,
];
