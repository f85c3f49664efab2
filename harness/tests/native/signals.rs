//! Ctrl-C, SIGTERM, a closed terminal: rows are kept, the machine is clean, the exit code is 130.

use super::machine::Place;
use limosa_record::fault::VARIABLE;
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Starts three repetitions and returns when the second is at its download.
fn at_work(place: &Place) -> Child {
    at_work_with(place, "")
}

/// The same with a fault, if it has a name.
fn at_work_with(place: &Place, fault: &str) -> Child {
    let log = File::create(place.path().join("log")).expect("make a log");
    let mut run = place.experiment(&["--reps", "3", "-v"]);
    if !fault.is_empty() {
        run.env(VARIABLE, fault);
    }
    let limosa = run.stdout(Stdio::null()).stderr(log).spawn().expect("start limosa");
    wait_for_the_second(place);
    limosa
}

fn wait_for_the_second(place: &Place) {
    let attempt = place.path().join("results/move/latest/trials/move/2/client.pcap");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !attempt.exists() {
        assert!(Instant::now() < deadline, "the second trial does not start");
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(300));
}

fn send(limosa: &Child, signal: Signal) {
    kill_process(Pid::from_child(limosa), signal).expect("send a signal");
}

fn log(place: &Place) -> String {
    fs::read_to_string(place.path().join("log")).unwrap_or_default()
}

/// It ends with the first trial's row and nothing left, and what is missing comes when it is resumed.
fn check(place: &Place, limosa: &mut Child) {
    let since = Instant::now();
    let status = limosa.wait().expect("wait for limosa");
    println!("over after {:.2} s", since.elapsed().as_secs_f64());
    assert_eq!(status.code(), Some(130), "{}", log(place));
    assert_eq!(place.trials("move").len(), 1, "{}", log(place));
    assert_eq!(place.left(), [""; 0], "{}", log(place));
    let resumed = place.experiment(&["--reps", "3", "--resume"]).output().expect("start limosa");
    assert!(resumed.status.success(), "{resumed:?}");
    let rows = place.trials("move");
    assert_eq!(rows.iter().map(|r| r.repetition).collect::<Vec<_>>(), [1, 2, 3]);
}

fn one_signal_ends_the_trial_and_keeps_the_rows() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new("60s");
        let mut limosa = at_work(&place);
        send(&limosa, signal);
        check(&place, &mut limosa);
    }
}

fn two_signals_at_once_end_it_at_once() {
    let place = Place::new("60s");
    // After one signal it would wait for this server.
    let mut limosa = at_work_with(&place, "server/asked/Stop:hang");
    let stopping = || log(&place).contains("interrupted");
    let report = place.path().join("results/move/latest/report.html");
    send(&limosa, Signal::INT);
    sleep(Duration::from_millis(20));
    send(&limosa, Signal::INT);
    let status = limosa.wait().expect("wait for limosa");
    assert_eq!(status.code(), Some(130), "{}", log(&place));
    assert!(!stopping() && !report.exists(), "it stayed to clear up: {}", log(&place));
    check(&place, &mut limosa);
}

fn a_closed_terminal_is_a_signal_like_the_others() {
    let place = Place::new("60s");
    let ours =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("unlock the terminal");
    let name = ptsname(&ours, Vec::new()).expect("its name");
    let theirs = || {
        let path = name.to_str().expect("a plain name");
        File::options().read(true).write(true).open(path).expect("open the terminal")
    };
    let mut run = place.experiment(&["--reps", "3"]);
    run.stdin(theirs()).stdout(theirs()).stderr(theirs());
    // SAFETY: the closure makes two system calls and does not allocate.
    unsafe {
        run.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
        });
    }
    let mut limosa = run.spawn().expect("start limosa");
    drop(run);
    wait_for_the_second(&place);
    drop(ours);
    check(&place, &mut limosa);
}

/// Whether there is a child of a limosa that is PID 1 of a namespace and still has criu's words: it is
/// being restored.
fn is_being_restored(limosa: &Child) -> bool {
    let parent = format!("PPid:\t{}\n", limosa.id());
    fs::read_dir("/proc").expect("list processes").flatten().any(|process| {
        let read = |file| fs::read_to_string(process.path().join(file)).unwrap_or_default();
        let status = read("status");
        let innermost = status.lines().find_map(|l| l.strip_prefix("NSpid:"));
        let is_first = innermost.is_some_and(|pids| pids.trim().ends_with("\t1"));
        status.contains(&parent) && is_first && read("cmdline").contains("restore-sibling")
    })
}

fn regression_a_signal_in_the_middle_of_a_restore_leaves_no_process() {
    for _ in 0..3 {
        let place = Place::new("60s");
        let log = File::create(place.path().join("log")).expect("make a log");
        let mut run = place.experiment(&[]);
        let mut limosa = run.stdout(Stdio::null()).stderr(log).spawn().expect("start limosa");
        // One that is over before it was seen has nothing to show.
        while !is_being_restored(&limosa) && limosa.try_wait().expect("look at it").is_none() {
            sleep(Duration::from_millis(1));
        }
        if limosa.try_wait().expect("look at it").is_none() {
            println!("in the middle of a restore");
            send(&limosa, Signal::TERM);
        }
        limosa.wait().expect("wait for limosa");
        assert_eq!(place.left(), [""; 0]);
    }
}

limosa_testkit::tests![
    one_signal_ends_the_trial_and_keeps_the_rows,
    two_signals_at_once_end_it_at_once,
    a_closed_terminal_is_a_signal_like_the_others,
    regression_a_signal_in_the_middle_of_a_restore_leaves_no_process,
];
