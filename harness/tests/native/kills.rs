//! The harness is killed, at chosen and at random moments: what is left is cleaned up, nothing
//! else is, and `--resume` makes the run whole.

use super::{
    machine::{Place, lab, number},
    text,
};
use limosa_record::{
    dir::RunDir,
    fault::VARIABLE,
    row::{self, EventRow, ThroughputRow},
};
use rustix::process::Pid;
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/quickstart.yaml");
const VARIANTS: [&str; 5] = [
    "quic-migrate",
    "multipath-migrate",
    "dual-path-none",
    "dual-path-migrate",
    "post-copy-migrate",
];

/// Where the harness dies in a trial with a move.
const POINTS: &[&str] = &[
    "phase/lab",
    "phase/calibration",
    "phase/nodes",
    "phase/handshake",
    "phase/download",
    "phase/after announce",
    "phase/after checkpoint",
    "phase/after restore",
    "phase/collection",
    "criu/let-go",
    "criu/let-go@2",
    "write/config.json",
    "write/throughput.csv",
    "write/throughput.csv@5",
    "write/events.csv",
    "write/trials.csv",
    "write/summary.csv",
    "write/report.html",
];

fn a_harness_that_dies_anywhere_leaves_nothing_that_clean_does_not_find() {
    // They wait for downloads most of the time.
    let wrong: Vec<String> = thread::scope(|scope| {
        let part = |points: &'static [&str]| {
            scope.spawn(move || points.iter().flat_map(|point| dies_at(point)).collect::<Vec<_>>())
        };
        let parts: Vec<_> = POINTS.chunks(POINTS.len().div_ceil(2)).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().expect("a thread of points")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong when it dies there.
fn dies_at(point: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let place = Place::new("60s");
    let mut run = place.experiment(&[]);
    let output = run.env(VARIABLE, format!("{point}:die")).output().expect("start limosa");
    if output.status.code().is_some() {
        wrong.push(format!("{point}: it did not die: {}", text(&output)));
    }
    place.clean();
    wrong.extend(place.left().into_iter().map(|left| format!("{point}: left: {left}")));
    let resumed = place.experiment(&["--resume"]).output().expect("start limosa");
    let rows = place.trials("move");
    if resumed.status.code() != Some(0) || rows.len() != 1 || rows[0].status != "ok" {
        wrong.push(format!("{point}: {} {rows:?}", text(&resumed)));
    }
    wrong.extend(place.left().into_iter().map(|left| format!("{point}: left later: {left}")));
    wrong
}

/// A criu that is at work in a place, by its process number.
fn criu_in(place: &Place) -> Option<Pid> {
    let here = place.tmp();
    let all = fs::read_dir("/proc").expect("list processes").flatten();
    let mut criu = all.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let works_here =
            fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&here));
        works_here && String::from_utf8_lossy(&line).contains("\0dump\0--tree")
    });
    criu.find_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?))
}

/// Whatever a stopped criu holds, it and its run's folder are gone after `clean`.
fn a_criu_that_is_stopped_when_its_run_dies_is_found() {
    for delay in [0, 300, 520] {
        let place = Place::with("60s", "20MB");
        let mut run = place.experiment(&[]);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start it");
        let criu = loop {
            if let Some(criu) = criu_in(&place) {
                break criu;
            }
            assert!(run.try_wait().expect("look at it").is_none(), "there was no criu");
            sleep(Duration::from_millis(2));
        };
        // criu is started half a second ahead of the dump.
        sleep(Duration::from_millis(delay));
        let stopped = rustix::process::kill_process(criu, rustix::process::Signal::STOP).is_ok();
        run.kill().and_then(|()| run.wait().map(drop)).expect("kill limosa");
        place.clean();
        assert_eq!(place.left(), [""; 0], "after {delay} ms, stopped: {stopped}");
    }
}

/// What has names like ours and is not.
struct Foreign {
    process: Child,
    folder: std::path::PathBuf,
}

impl Foreign {
    fn new(place: &Place) -> Self {
        let elsewhere = place.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("make a folder");
        let folder = elsewhere.join("limosa-run-1-2");
        fs::create_dir(&folder).expect("make a folder");
        let program = elsewhere.join("limosa-node");
        fs::copy("/bin/sleep", &program).expect("copy sleep");
        // In a network namespace of its own.
        let process = Command::new("unshare").arg("--net").arg(&program).arg("3600").spawn();
        Self { process: process.expect("start unshare"), folder }
    }

    fn is_untouched(&mut self) -> bool {
        self.folder.is_dir() && self.process.try_wait().expect("look at it").is_none()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn quickstart(place: &Place, more: &[&str]) -> Command {
    let run = ["run", QUICKSTART, "--on", "host", "--links", "user", "--jobs", "5"];
    let mut command = place.limosa(&[&run[..], more].concat());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The rows of a whole quickstart: each planned trial once and in order, and none of another.
fn check_rows(place: &Place) -> Result<(), String> {
    let trials = place.trials("quickstart");
    let there: Vec<_> = trials.iter().map(|t| (&*t.variant, t.repetition, &*t.status)).collect();
    let wanted: Vec<_> = VARIANTS.iter().map(|v| (*v, 1, "ok")).collect();
    if there != wanted {
        return Err(format!("{there:?}"));
    }
    let run = RunDir::new(place.path().join("results/quickstart/latest"));
    let throughput: Vec<ThroughputRow> = row::read(&run.throughput()).map_err(|e| e.to_string())?;
    let twice: BTreeSet<_> =
        throughput.iter().map(|r| (&r.variant, &r.path, r.t_s.to_bits())).collect();
    let events: Vec<EventRow> = row::read(&run.events()).map_err(|e| e.to_string())?;
    let starts = events.iter().filter(|e| e.event == "handshake_started").count();
    match (twice.len() == throughput.len(), starts) {
        (true, 5) => Ok(()),
        (whole, starts) => Err(format!("throughput rows once: {whole}, handshakes: {starts}")),
    }
}

/// `LIMOSA_KILLS` says how often, `LIMOSA_KILL_SEED` from which moment on the sequence goes.
fn a_run_that_is_killed_at_a_random_moment_is_cleaned_up_and_resumed() {
    let (kills, seed) = (number("LIMOSA_KILLS", 2), number("LIMOSA_KILL_SEED", 1));
    let place = Place::new("60s");
    let started = Instant::now();
    assert!(quickstart(&place, &[]).status().expect("start limosa").success());
    let whole = started.elapsed();
    println!("an undisturbed run takes {:.1} s", whole.as_secs_f64());
    check_rows(&place).expect("an undisturbed run");
    let (mut wrong, mut resumed) = (Vec::new(), 0);
    for n in 0..kills {
        // The golden ratio's multiples are spread evenly over the run's time.
        let share = ((seed + n) as f64 * 0.618_033_988_749_895).fract();
        let moment = whole.mul_f64(share);
        let place = Place::new("60s");
        let mut foreign = Foreign::new(&place);
        let mut limosa = quickstart(&place, &[]).spawn().expect("start limosa");
        sleep(moment);
        limosa.kill().expect("kill limosa");
        limosa.wait().expect("wait for limosa");
        let told = text(&place.clean());
        let mut note = |what: String| wrong.push(format!("{:.3} s: {what}", moment.as_secs_f64()));
        place.left().into_iter().for_each(|left| note(format!("left: {left}; {told}")));
        if !foreign.is_untouched() {
            note("what only has our names was touched".into());
        }
        let begun = place.path().join("results/quickstart/latest/plan.json").exists();
        resumed += u64::from(begun);
        let more: &[&str] = if begun { &["--resume"] } else { &[] };
        let again = quickstart(&place, more).status().expect("start limosa");
        if let Err(why) = check_rows(&place) {
            note(format!("{again}, rows after it was resumed: {why}"));
        }
        place.left().into_iter().for_each(|left| note(format!("left in the end: {left}")));
        println!(
            "{n}: killed after {:.3} s; {}",
            moment.as_secs_f64(),
            told.trim().replace('\n', ", ")
        );
    }
    println!("{kills} kills, {resumed} runs resumed, {} things wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A keeper that is killed takes its lab's links along; the rest is for `clean`.
fn a_lab_whose_keeper_was_killed_is_cleaned_up() {
    let name = &*lab("keeper");
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/nakano-2025.yaml");
    let place = Place::new("60s");
    let up = place.limosa(&["up", topology, "--links", "user", "--name", name]).output();
    let up = up.expect("start limosa");
    assert!(up.status.success(), "{}", text(&up));
    let home = Path::new("/run/limosa/labs").join(name);
    place.clean();
    assert!(home.exists(), "a lab that is kept is no litter");
    let keeper = fs::read_dir("/proc").expect("list processes").flatten().find(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("keep\0{}", home.display()))
    });
    let pid = keeper.and_then(|k| k.file_name().to_str()?.parse().ok());
    let pid = pid.and_then(Pid::from_raw).expect("the keeper");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill the keeper");
    while rustix::process::test_kill_process(pid).is_ok() {
        sleep(Duration::from_millis(10));
    }
    place.clean();
    assert!(!home.exists());
    assert_eq!(place.left(), [""; 0]);
}

limosa_testkit::tests![
    a_harness_that_dies_anywhere_leaves_nothing_that_clean_does_not_find,
    a_criu_that_is_stopped_when_its_run_dies_is_found,
    a_run_that_is_killed_at_a_random_moment_is_cleaned_up_and_resumed,
    a_lab_whose_keeper_was_killed_is_cleaned_up,
];
