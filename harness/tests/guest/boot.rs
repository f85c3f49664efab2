//! Boots a real guest: output, exit codes, shared folders, Ctrl-C, and that nothing is left behind.
//!
//! Takes the image from the user's cache and builds it first if it is not there (about 20 s, needs the network); each boot
//! takes some 7 s under software emulation. A machine where setup fails cannot run this test and says so by failing.
//! The test's own process plays limosa in some cases: this binary is started again with `LIMOSA_TEST_GUEST` set.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use limosa::machine::guest::{self, GuestCommand};

/// Environment variable that makes this test binary run its value as a shell script in a guest.
const SCRIPT: &str = "LIMOSA_TEST_GUEST";

fn command(script: &str, folder: &Path) -> GuestCommand {
    GuestCommand {
        executables: vec![env!("CARGO_BIN_EXE_limosa").into()],
        program: Some("/bin/sh".into()),
        args: vec!["-c".to_owned(), script.to_owned()],
        dir: folder.to_owned(),
        env: std::iter::once(("SHARED".to_owned(), folder.display().to_string())).collect(),
        shares: Vec::new(),
        cpus: 2,
        memory_mib: 2048,
        time_limit: Some(Duration::from_secs(120)),
        console: folder.join("console.log"),
    }
    .share(folder)
}

/// The part that runs in a process of its own, so that its output, its signals and its death can be watched.
pub(crate) fn play_a_role() -> Option<ExitCode> {
    let script = std::env::var(SCRIPT).ok()?;
    let folder = std::env::current_dir().expect("current folder");
    let ready =
        limosa::machine::setup::setup(limosa::machine::setup::Consent::Given).expect("setup");
    let code = guest::run(&command(&script, &folder), &ready).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        99
    });
    Some(ExitCode::from(code as u8))
}

fn helper(script: &str, folder: &Path) -> Command {
    let mut helper = Command::new(std::env::current_exe().expect("this test"));
    helper
        .env(SCRIPT, script)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    helper
}

fn run(script: &str, folder: &Path) -> Output {
    helper(script, folder).output().expect("start the helper")
}

/// Process numbers of QEMU machines whose job is in the temporary folder `folder`.
fn machines(folder: &Path) -> usize {
    let folder = folder.display().to_string();
    std::fs::read_dir("/proc")
        .expect("list processes")
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains("qemu-system") && line.contains(&folder))
        .count()
}

fn output_exit_code_and_files_arrive() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let script = "printf 'out\\r\\n\\000\\377end'; printf 'err\\n' >&2; \
        dd if=/dev/urandom of=$SHARED/big bs=1M count=50 2>/dev/null; sha256sum < $SHARED/big > $SHARED/sum; exit 42";
    let output = run(script, folder.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(42), "{stderr}");
    assert_eq!(output.stdout, b"out\r\n\0\xffend", "{}", String::from_utf8_lossy(&output.stdout));
    assert!(stderr.contains("err\n") && !stderr.contains("out"), "{stderr}");

    let sum = Command::new("sha256sum")
        .stdin(std::fs::File::open(folder.path().join("big")).expect("the big file"))
        .output()
        .expect("sha256sum");
    let expected = std::fs::read(folder.path().join("sum")).expect("the sum");
    assert_eq!(sum.stdout, expected);
    assert!(folder.path().join("console.log").exists());
    assert_eq!(machines(folder.path()), 0);
}

fn the_guest_can_do_what_experiments_need() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let script = "set -e; criu check; ip link add name va type veth peer name vb; \
        tc qdisc add dev va root netem delay 25ms; tc qdisc add dev vb root tbf rate 100mbit burst 400kb latency 1ms; \
        ip link add name br type bridge; echo \"clock $(date +%s)\"; echo \"net $(ls /sys/class/net | wc -w)\"";
    let output = run(script, folder.path());
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let clock: f64 = stdout
        .lines()
        .find_map(|line| line.strip_prefix("clock "))
        .and_then(|text| text.parse().ok())
        .expect("the guest's clock");
    let now = std::time::UNIX_EPOCH.elapsed().expect("this clock");
    assert!((now.as_secs_f64() - clock).abs() < 5.0, "{clock}");
    assert!(stdout.contains("net 4"), "{stdout}");
}

fn ctrl_c_reaches_the_inner_command() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let script = "trap 'echo interrupted; exit 7' INT; echo started; while :; do sleep 0.1; done";
    let mut child = helper(script, folder.path()).spawn().expect("start the helper");
    let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
    wait_for_line(&mut stdout, "started");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("interrupt it");
    let status = child.wait().expect("wait for it");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("read the rest");
    assert_eq!(status.code(), Some(7), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
}

fn killing_limosa_kills_the_guest() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut child =
        helper("echo started; sleep 1000", folder.path()).spawn().expect("start the helper");
    let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
    wait_for_line(&mut stdout, "started");
    assert_eq!(machines(folder.path()), 1);
    child.kill().expect("kill it");
    child.wait().expect("wait for it");
    let deadline = Instant::now() + Duration::from_secs(5);
    while machines(folder.path()) > 0 {
        assert!(Instant::now() < deadline, "QEMU outlives limosa");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn a_program_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let ready =
        limosa::machine::setup::setup(limosa::machine::setup::Consent::Given).expect("setup");
    let mut command = command("", folder.path());
    command.program = Some("/nosuch".into());
    let error = guest::run(&command, &ready).expect_err("there is no such program");
    let text = format!("{error:#}");
    assert!(text.contains("/nosuch") && text.contains("console.log"), "{text}");
}

fn wait_for_line(stdout: &mut impl BufRead, wanted: &str) {
    let mut line = String::new();
    while stdout.read_line(&mut line).expect("read its output") > 0 {
        if line.contains(wanted) {
            return;
        }
        line.clear();
    }
    panic!("the guest never said {wanted:?}");
}

limosa_testkit::tests![
    output_exit_code_and_files_arrive[alone],
    the_guest_can_do_what_experiments_need[alone],
    ctrl_c_reaches_the_inner_command[alone],
    killing_limosa_kills_the_guest[alone],
    a_program_that_is_not_there_is_named[alone],
];
