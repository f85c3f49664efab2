//! Tests that run in the guest. All of a binary share one; when it crashes, which emulated kernels
//! do at times, those that are left get another one.
//!
//! Three processes of the test binary take part: the one that the user started asks another to boot
//! the guest, which takes the guest's output to a file, and a third one in the guest runs the tests
//! and writes outcomes into a folder that both sides see.

use crate::{
    Outcome, load,
    runner::{self, Finished},
};
use limosa::machine::guest::{self, GuestCommand};
use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// The folder of the guest that this process is to boot.
const BOOT: &str = "LIMOSA_TEST_BOOT";

/// The folder of the guest that this process is in.
const SERVE: &str = "LIMOSA_TEST_SERVE";

/// How often a test is begun: a guest may crash under it.
const TRIES: u32 = 2;

/// How often news is looked for.
const TICK: Duration = Duration::from_millis(100);

/// What a guest for tests needs to know.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The program under test.
    pub limosa: PathBuf,
    /// Variables that its tests see, if they are set here.
    pub variables: Vec<&'static str>,
    /// After this time it is ended, whatever it does.
    pub time_limit: Duration,
}

fn outcome_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{}.json", name.replace("::", ".")))
}

/// Plays the part that the environment says, if it does.
pub(crate) fn part(guest: &Guest) -> Option<ExitCode> {
    if let Some(folder) = env::var_os(BOOT) {
        return Some(boot(guest, Path::new(&folder)));
    }
    let folder = env::var_os(SERVE)?;
    Some(match serve(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("run tests in the guest: {error}");
            ExitCode::FAILURE
        }
    })
}

fn boot(guest: &Guest, folder: &Path) -> ExitCode {
    let run = || -> anyhow::Result<i32> {
        let ready = limosa::machine::setup::setup(limosa::machine::setup::Consent::Given)?;
        let this = env::current_exe()?;
        let name = this.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let variables = guest.variables.iter();
        let mut env: std::collections::BTreeMap<_, _> =
            variables.filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?))).collect();
        env.insert(SERVE.into(), folder.display().to_string());
        env.insert(load::HOST.into(), folder.join("load").display().to_string());
        let command = GuestCommand {
            executables: vec![guest.limosa.clone(), this],
            program: Some(format!("/run/limosa/bin/{name}").into()),
            args: Vec::new(),
            dir: folder.to_owned(),
            env,
            shares: Vec::new(),
            cpus: 2,
            memory_mib: 3072,
            time_limit: Some(guest.time_limit),
            console: folder.join("console.log"),
        };
        guest::run(&command.share(folder), &ready)
    };
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(code) => {
            eprintln!("the tests' process in the guest ended with {code}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// In the guest.
fn serve(folder: &Path) -> io::Result<()> {
    for name in fs::read_to_string(folder.join("names"))?.lines() {
        let finished = runner::in_process(name, false, true)?;
        runner::write_whole(&outcome_file(folder, name), &finished)?;
    }
    Ok(())
}

/// Where tests of the guest wait for their outcomes.
pub(crate) struct Guests {
    /// In the order in which they are asked for.
    names: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    begun: HashMap<String, u32>,
    /// What the last guest said before it ended.
    last_words: String,
}

struct Running {
    folder: TempDir,
    booting: Child,
    /// Of the host, when the last outcome came.
    load: Option<load::Load>,
    _machine: File,
}

impl Drop for Running {
    fn drop(&mut self) {
        // QEMU ends with the process that booted it.
        let _ = self.booting.kill();
        let _ = self.booting.wait();
    }
}

impl Guests {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names, state: Mutex::default() }
    }

    /// Waits for the outcome of a test.
    pub(crate) fn finished(&self, name: &str) -> Finished {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(running) = &mut state.running {
                if let Some(finished) = running.outcome(name) {
                    if self.names.last().is_some_and(|last| last == name) {
                        state.running = None;
                    }
                    return finished;
                }
                if let Ok(None) = running.booting.try_wait() {
                    running.tell_load();
                    thread::sleep(TICK);
                    continue;
                }
                // What was written last may have come with its end.
                if let Some(finished) = running.outcome(name) {
                    return finished;
                }
                state.last_words = running.last_words();
                state.running = None;
            }
            let begun = state.begun.entry(name.to_owned()).or_default();
            *begun += 1;
            if *begun > TRIES {
                return Finished::broken(format!("the guest ended: {}", state.last_words));
            }
            let from = self.names.iter().position(|n| n == name).unwrap_or(0);
            match Running::start(&self.names[from..]) {
                Ok(running) => state.running = Some(running),
                Err(error) => return Finished::broken(format!("boot the guest: {error}")),
            }
        }
    }
}

impl Running {
    fn start(names: &[String]) -> io::Result<Self> {
        let machine = runner::lock_machine(true)?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("names"), names.join("\n"))?;
        let log = File::create(folder.path().join("log"))?;
        let mut booting = Command::new(env::current_exe()?);
        booting.env(BOOT, folder.path()).env(load::MARK, "1");
        booting.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let booting = booting.spawn()?;
        let mut running = Self { folder, booting, load: load::here(), _machine: machine };
        running.tell_load();
        Ok(running)
    }

    /// The guest does not see what else its host does.
    fn tell_load(&mut self) {
        if let Some(load) = load::here()
            && let Err(error) = runner::write_whole(&self.folder.path().join("load"), &load)
        {
            eprintln!("tell the guest the host's load: {error}");
        }
    }

    fn outcome(&mut self, name: &str) -> Option<Finished> {
        let text = fs::read(outcome_file(self.folder.path(), name)).ok()?;
        let mut finished: Finished = serde_json::from_slice(&text).ok()?;
        let now = load::here();
        let complaint = load::complaint(self.load, now);
        self.load = now;
        if let (true, Outcome::Broken(why), Some(complaint)) =
            (finished.compared, &finished.outcome, complaint)
        {
            finished.outcome = Outcome::Inconclusive(format!("{why} (but {complaint})"));
        }
        Some(finished)
    }

    fn last_words(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}
