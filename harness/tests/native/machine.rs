//! A place of its own for one limosa, and what must not be left of it.

use crate::criu;
use limosa_record::{
    dir::{RunDir, UNFINISHED},
    row::{self, TrialRow},
};
use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Once,
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A download of about two seconds from a server that moves.
const EXPERIMENT: &str = "version: 1
topology: TOPOLOGY
repetitions: 1
time_limit: LIMIT
workload:
  download: {path: /random, size: SIZE}
transport: {profile: paper-2025, idle_timeout: 4s}
capture: [client]
variants:
  move: {scheme: multipath, transport: {ladder: fast}}
timeline:
  - after: connected + 200ms
    announce: {node: server, to: server-b}
  - after: first_byte + 400ms
    checkpoint: {node: server, as: image}
  - after: image + 300ms
    restore: {from: image, on: server-b}
expect:
  client: {exited: 0}
";

const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");

/// The experiment with a trial's limit and a download's size; 4 MB take two seconds.
pub(crate) fn moving(time_limit: &str, size: &str) -> String {
    let text = EXPERIMENT.replace("TOPOLOGY", TOPOLOGY).replace("LIMIT", time_limit);
    text.replace("SIZE", size)
}

/// A folder with an experiment, where also everything temporary goes, so that other limosas on this
/// machine do not disturb.
pub(crate) struct Place {
    folder: TempDir,
    links_before: BTreeSet<String>,
}

impl Place {
    pub(crate) fn new(time_limit: &str) -> Self {
        Self::with(time_limit, "4MB")
    }

    /// With a longer or shorter download.
    pub(crate) fn with(time_limit: &str, size: &str) -> Self {
        Self::of(&moving(time_limit, size))
    }

    /// With another experiment, under the name `move`.
    pub(crate) fn of(experiment: &str) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join("tmp")).expect("a folder for temporary files");
        fs::write(folder.path().join("move.yaml"), experiment).expect("write the experiment");
        Self { folder, links_before: links() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.path().join("tmp")
    }

    /// A limosa with these arguments, still to be started.
    pub(crate) fn limosa(&self, arguments: &[&str]) -> Command {
        let mut command = limosa();
        command.args(arguments).current_dir(self.path()).env("TMPDIR", self.tmp());
        command
    }

    /// The experiment, still to be started.
    pub(crate) fn experiment(&self, more: &[&str]) -> Command {
        let on = ["run", "move.yaml", "--on", "host", "--links", crate::LINKS];
        self.limosa(&[&on[..], more].concat())
    }

    pub(crate) fn clean(&self) -> Output {
        let output = self.limosa(&["clean"]).output().expect("start limosa");
        assert!(output.status.success(), "{}", text(&output));
        output
    }

    pub(crate) fn trials(&self, experiment: &str) -> Vec<TrialRow> {
        let run = RunDir::new(self.path().join("results").join(experiment).join("latest"));
        note_doubts(&run);
        row::read(&run.trials()).expect("trials.csv")
    }

    /// What is there that should not be, a moment after the last limosa has ended.
    pub(crate) fn left(&self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            let left = self.left_now();
            // The kernel takes a moment to end what the parent's death has killed.
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn left_now(&self) -> Vec<String> {
        let mut left = self.processes();
        let here = self.path().display().to_string();
        let temporary = fs::read_dir(self.tmp()).expect("list temporary files").flatten();
        left.extend(temporary.map(|e| format!("file {}", e.path().display())));
        unfinished(self.path(), &mut left);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("list mounts");
        let labs = lab("");
        let ours = |line: &&str| line.contains(&here) || line.contains(&labs);
        left.extend(mounts.lines().filter(ours).map(|line| format!("mount {line}")));
        for entry in fs::read_dir("/var/lib/limosa/journal").into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if text.contains(&here) || text.contains(&labs) {
                left.push(format!("claim {text}"));
            }
        }
        let new = links().difference(&self.links_before).cloned().collect::<Vec<_>>();
        left.extend(new.into_iter().map(|name| format!("link {name}")));
        left
    }

    /// Whatever limosa starts has its environment: nodes, moved ones too, engines, criu. Without
    /// them and without mounts nothing holds a namespace of a lab, a link or a TAP device.
    fn processes(&self) -> Vec<String> {
        let mark = format!("TMPDIR={}", self.tmp().display());
        let all = fs::read_dir("/proc").expect("list processes").flatten();
        let marked = all.filter(|process| {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            environment.split(|b| *b == 0).any(|v| v == mark.as_bytes())
        });
        let told = marked.map(|process| {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            format!("process {} {line}", process.file_name().to_string_lossy())
        });
        told.collect()
    }
}

fn unfinished(folder: &Path, left: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            unfinished(&entry.path(), left);
        } else if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            left.push(format!("file {}", entry.path().display()));
        }
    }
}

/// Interfaces of this machine itself.
fn links() -> BTreeSet<String> {
    let list = fs::read_dir("/sys/class/net").expect("list interfaces").flatten();
    list.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// The program, to be started on a machine that has what it needs, also when that has just been made:
/// a criu that works, rsync and dnsmasq. So no test depends on those before it, and a fault meets a
/// run and not the search for a criu.
pub(crate) fn limosa() -> Command {
    static SET_UP: Once = Once::new();
    SET_UP.call_once(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("start a runtime").block_on(criu::criu());
        ::limosa::machine::setup::tools().expect("get rsync and dnsmasq");
    });
    Command::new(criu::program())
}

/// A lab's name that no other test has: each runs in a process of its own.
pub(crate) fn lab(what: &str) -> String {
    format!("limosa-test-{}-{what}", std::process::id())
}

/// What the program itself found of the machine in a run's trials is a doubt in what is compared.
pub(crate) fn note_doubts(run: &RunDir) {
    let trials: Vec<TrialRow> = row::read(&run.trials()).unwrap_or_default();
    for why in trials.into_iter().filter_map(|trial| trial.verdict_reason) {
        limosa_testkit::doubt(why);
    }
}

/// Output of both kinds together, for messages of assertions.
pub(crate) fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// A number from the environment, for tests whose length is a matter of patience.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}
