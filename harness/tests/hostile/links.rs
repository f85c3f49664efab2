//! Links, pipes, devices and files of root's in the places that Limosa reads and writes: it follows none,
//! waits for none and quotes none.

use super::{
    files::{HEAD, TINY},
    text,
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

fn limosa(folder: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.arg("60").arg(env!("CARGO_BIN_EXE_limosa")).args(words).current_dir(folder);
    let output = command.output().unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn regression_what_is_no_plain_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("tiny.yaml"), TINY).unwrap();
    let pipe = at("pipe.yaml");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    for file in ["pipe.yaml", "/dev/zero", "/proc/kmsg", "."] {
        let (code, told) = limosa(folder.path(), &["plan", file]);
        assert_eq!(code, Some(3), "{file}: {told}");
        assert!(told.contains("plain file") || told.contains("not a file"), "{told}");
    }
    for wrong in ["pipe.yaml", "/proc/kmsg", "/dev/zero"] {
        fs::write(at("x.yaml"), HEAD.replace("tiny.yaml", wrong)).unwrap();
        let (code, told) = limosa(folder.path(), &["plan", "x.yaml"]);
        assert_eq!(code, Some(3), "topology {wrong}: {told}");
        let shape = format!("{{trace: \"{wrong}\"}}");
        let net = TINY.replace(
            "ends: [client.eth0, sw]",
            &format!("{{ends: [client.eth0, sw], shape: {shape}}}"),
        );
        fs::write(at("traced.yaml"), net).unwrap();
        fs::write(at("y.yaml"), HEAD.replace("tiny.yaml", "traced.yaml")).unwrap();
        let (code, told) = limosa(folder.path(), &["plan", "y.yaml"]);
        assert_eq!(code, Some(3), "trace {wrong}: {told}");
        assert!(told.contains("plain file"), "{told}");
    }
    for table in ["trials.csv", "plan.json", "reference.yaml"] {
        let run = at("run");
        fs::create_dir(&run).unwrap();
        symlink("/proc/kmsg", run.join(table)).unwrap();
        let (code, told) = limosa(folder.path(), &["report", "run"]);
        assert!(matches!(code, Some(0 | 1 | 3)), "{table}: {told}");
        fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn regression_a_report_writes_through_no_link() {
    let folder = tempfile::tempdir().unwrap();
    let (run, outside) = (folder.path().join("run"), folder.path().join("outside"));
    fs::create_dir(&run).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("turnaround.svg"), "kept").unwrap();
    symlink(&outside, run.join("figures")).unwrap();
    let trials = "experiment,variant,repetition,seed,status,reason,scheme,turnaround_s,started_utc,folder\n\
         e,v,1,1,ok,,quic,1.5,2026-01-01T00:00:00Z,trials/v/1\n";
    fs::write(run.join("trials.csv"), trials).unwrap();
    let (code, told) = limosa(folder.path(), &["report", "run"]);
    assert_ne!(code, Some(0), "{told}");
    assert!(told.contains("a link is on the way"), "{told}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("turnaround.svg")).unwrap(), "kept");
}

#[test]
fn regression_files_that_only_root_may_read_are_not_quoted() {
    // Everybody else cannot read them in the first place.
    let quoted = !rustix::process::geteuid().is_root();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let secret = "root:$y$j9T$hush-hush:20228:0:99999:7:::";
    fs::write(at("shadow"), format!("{secret}\n")).unwrap();
    fs::set_permissions(at("shadow"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at("x.yaml"), HEAD.replace("tiny.yaml", "./shadow")).unwrap();
    let net = TINY
        .replace("ends: [client.eth0, sw]", "{ends: [client.eth0, sw], shape: {trace: shadow}}");
    fs::write(at("traced.yaml"), net).unwrap();
    fs::write(at("y.yaml"), HEAD.replace("tiny.yaml", "traced.yaml")).unwrap();
    for file in ["x.yaml", "y.yaml", "shadow"] {
        let (code, told) = limosa(folder.path(), &["plan", file]);
        assert_eq!(code, Some(3), "{told}");
        assert!(quoted || !told.contains("hush-hush"), "{told}");
        assert!(quoted || told.contains("only root may read the file"), "{told}");
    }
    let run = at("run");
    fs::create_dir(&run).unwrap();
    for file in ["reference.yaml", "model.json", "plan.json", "manifest.json", "experiment.yaml"] {
        symlink(at("shadow"), run.join(file)).unwrap();
    }
    fs::write(run.join("trials.csv"), "experiment,variant,repetition\n").unwrap();
    let (_, told) = limosa(folder.path(), &["report", "run"]);
    let page = fs::read_to_string(run.join("report.html")).unwrap_or_default();
    assert!(quoted || !(told + &page).contains("hush-hush"));
}
