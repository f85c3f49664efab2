//! Runs each test in a process of its own, and tells what came out.

use crate::{
    Outcome, Test, compare,
    inside::{self, Guest, Guests},
    ledger, load,
    outcome::of_panic,
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::{
    fs::{FlockOperation, flock},
    process::{Signal, set_parent_process_death_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    env,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// The test that this process is to run.
const ONE: &str = "LIMOSA_TEST_ONE";

/// Where it writes how that came out.
const OUTCOME: &str = "LIMOSA_TEST_OUTCOME";

/// Which tests run without being asked for by `--ignored`: `fast`, none of these, which all need root,
/// a guest or time; `night`, all; without it all but those of the night.
const TIER: &str = "LIMOSA_TESTS";

/// What a test binary is about.
#[derive(Debug)]
pub struct Suite {
    name: &'static str,
    root: bool,
    threads: usize,
    guest: Option<Guest>,
}

/// How a test came out, and what is to be told with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finished {
    pub(crate) outcome: Outcome,
    /// Whether it compared measured quantities.
    pub(crate) compared: bool,
    pub(crate) seconds: f64,
    /// All that it printed.
    pub(crate) output: String,
}

impl Finished {
    pub(crate) fn broken(why: String) -> Self {
        let outcome = Outcome::Broken(why);
        Self { outcome, compared: false, seconds: 0.0, output: String::new() }
    }
}

impl Suite {
    /// A binary of this name whose tests run one after the other, as whoever started them.
    pub fn new(name: &'static str) -> Self {
        Self { name, root: false, threads: 1, guest: None }
    }

    /// Its tests need root and get it from sudo.
    #[must_use]
    pub fn root(mut self) -> Self {
        self.root = true;
        self
    }

    /// So many of its tests run beside each other, except those that are alone.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Some of its tests run in this guest.
    #[must_use]
    pub fn guest(mut self, guest: Guest) -> Self {
        self.guest = Some(guest);
        self
    }

    /// Runs those tests that the command line chooses, or the part of them that the environment says.
    pub fn run(self, tests: Vec<Test>) -> ExitCode {
        if let Ok(name) = env::var(ONE) {
            return run_one(&name, &tests);
        }
        if let Some(code) = self.guest.as_ref().and_then(inside::part) {
            return code;
        }
        let tier = env::var(TIER).unwrap_or_default();
        let mut tests = tests;
        match tier.as_str() {
            "" => {}
            "fast" => tests.iter_mut().for_each(|test| test.night = true),
            "night" => tests.iter_mut().for_each(|test| test.night = false),
            other => {
                eprintln!("error: {TIER}={other}\n  hint: it is `fast`, `night` or not set");
                return ExitCode::FAILURE;
            }
        }
        let mut args = Arguments::from_args();
        args.test_threads = args.test_threads.or(Some(self.threads));
        let reports =
            Arc::new(Reports { suite: self, captured: !args.nocapture, told: Mutex::default() });
        let conclusion = libtest_mimic::run(&args, trials(&reports, tests, &args));
        if !args.list {
            reports.tell();
        }
        conclusion.exit_code()
    }
}

/// Those that run alone come last, so that the others do not wait for them.
fn trials(reports: &Arc<Reports>, mut tests: Vec<Test>, args: &Arguments) -> Vec<Trial> {
    tests.sort_by_key(|test| test.alone);
    let chosen = |test: &&Test| {
        let trial = Trial::test(&test.name, || Ok(())).with_ignored_flag(test.night);
        test.inside && !args.is_filtered_out(&trial) && !args.is_ignored(&trial)
    };
    let names: Vec<String> = tests.iter().filter(chosen).map(|t| t.name.clone()).collect();
    let guests = Arc::new(Guests::new(names));
    let trial = |test: Test| {
        let (reports, guests) = (Arc::clone(reports), Arc::clone(&guests));
        let (name, night) = (test.name.clone(), test.night);
        Trial::ignorable_test(name, move || {
            let finished =
                if test.inside { guests.finished(&test.name) } else { reports.in_process(&test) };
            reports.report(&test.name, finished)
        })
        .with_ignored_flag(night)
    };
    tests.into_iter().map(trial).collect()
}

struct Reports {
    suite: Suite,
    captured: bool,
    told: Mutex<Vec<(String, Finished)>>,
}

impl Reports {
    fn in_process(&self, test: &Test) -> Finished {
        let root = self.suite.root && !rustix::process::geteuid().is_root();
        let done =
            lock_machine(test.alone).and_then(|_lock| in_process(&test.name, root, self.captured));
        done.unwrap_or_else(|error| Finished::broken(format!("run the test: {error}")))
    }

    fn report(&self, name: &str, finished: Finished) -> Result<Completion, Failed> {
        ledger::enter(self.suite.name, name, &finished.outcome, finished.seconds);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((name.to_owned(), finished.clone()));
        match finished.outcome {
            Outcome::Held => Ok(Completion::Completed),
            Outcome::Broken(why) if finished.output.is_empty() => Err(why.into()),
            Outcome::Broken(why) => Err(format!("{why}\nIt printed:\n{}", finished.output).into()),
            Outcome::Inconclusive(why) => {
                Ok(Completion::ignored_with(format!("inconclusive: {}", one_line(&why))))
            }
            Outcome::Skipped(why) => Ok(Completion::ignored_with(format!("skipped: {why}"))),
        }
    }

    /// What Rust's own harness does not tell: times, and whatever was neither held nor broken.
    fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        if !told.is_empty() {
            println!("times:");
        }
        for (name, finished) in told.iter() {
            println!("    {:8.2} s  {name}", finished.seconds);
        }
        for (name, finished) in told.iter() {
            match &finished.outcome {
                Outcome::Inconclusive(why) => println!("inconclusive: {name}: {}", one_line(why)),
                Outcome::Skipped(why) => println!("skipped: {name}: {why}"),
                Outcome::Held | Outcome::Broken(_) => {}
            }
        }
        println!();
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Waits until this test may run: alone, or beside others that need not be alone. Other `cargo test`s
/// and nextest's processes obey it, too.
pub(crate) fn lock_machine(alone: bool) -> io::Result<File> {
    let path = ledger::folder().join("machine.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    let how = if alone { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
    flock(&file, how)?;
    Ok(file)
}

/// Starts this program again for one test.
pub(crate) fn in_process(name: &str, sudo: bool, captured: bool) -> io::Result<Finished> {
    in_process_with(name, sudo, captured, &[])
}

/// How a test of this binary comes out with these variables: for a test of the tests.
///
/// # Errors
/// When it cannot be started.
pub fn outcome_with(name: &str, variables: &[(&str, &str)]) -> io::Result<Outcome> {
    in_process_with(name, false, true, variables).map(|finished| finished.outcome)
}

fn in_process_with(
    name: &str,
    sudo: bool,
    captured: bool,
    variables: &[(&str, &str)],
) -> io::Result<Finished> {
    let folder = tempfile::tempdir()?;
    let (file, log) = (folder.path().join("outcome.json"), folder.path().join("output"));
    let this = env::current_exe()?;
    let mut command = if sudo { Command::new("sudo") } else { Command::new(&this) };
    if sudo {
        command.args(["-n", "-E"]).arg(&this);
    }
    command.env(ONE, name).env(OUTCOME, &file).env(load::MARK, "1").stdin(Stdio::null());
    command.envs(variables.iter().copied());
    if captured {
        let output = File::create(&log)?;
        command.stdout(output.try_clone()?).stderr(output);
    }
    die_with_parent(&mut command);
    let started = Instant::now();
    let status = command.status()?;
    let seconds = started.elapsed().as_secs_f64();
    let output = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let finished = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let finished = finished.unwrap_or_else(|| {
        let hint =
            if sudo { "\n  hint: run it as root, or let sudo ask for no password" } else { "" };
        Finished::broken(format!("the test's process ended: {status}{hint}"))
    });
    Ok(Finished { output, seconds, ..finished })
}

/// A test whose runner is killed must not go on holding the machine.
pub(crate) fn die_with_parent(command: &mut Command) {
    let follow = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: the closure makes one system call and does not allocate.
    unsafe {
        command.pre_exec(follow);
    }
}

/// The other side of [`in_process`].
fn run_one(name: &str, tests: &[Test]) -> ExitCode {
    let outcome = match tests.iter().find(|test| test.name == name) {
        Some(test) if test.compared => compare(test.run),
        Some(test) => catch_unwind(AssertUnwindSafe(test.run)).unwrap_or_else(of_panic),
        None => Outcome::Broken(format!("there is no test `{name}`")),
    };
    let compared = compare::has_compared();
    let finished = Finished { outcome, compared, seconds: 0.0, output: String::new() };
    let file = env::var_os(OUTCOME).map(PathBuf::from).unwrap_or_default();
    match write_whole(&file, &finished) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// There at once or not at all.
pub(crate) fn write_whole(file: &Path, value: &impl Serialize) -> io::Result<()> {
    let partial = file.with_extension("partial");
    fs::write(&partial, serde_json::to_vec(value)?)?;
    fs::rename(partial, file)
}
