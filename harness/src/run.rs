//! A whole experiment: every trial of a plan that has no row yet, one row each, written as the
//! trial ends. How a trial is made is the business of a [`Laboratory`].

use crate::{
    plan::{Plan, TrialPlan},
    run::{progress::Progress, verdict::Verdict},
    spec::Documents,
};
use anyhow::Context;
use futures_util::{StreamExt, stream::FuturesUnordered};
use limosa_lab::{
    errors::{self, NotReady, Usage},
    journal::Claim,
    owner, private,
};
use limosa_record::{
    beneath, clock,
    dir::{RunDir, point_latest, write_whole},
    row::{ClientRow, EventRow, RequestRow, ThroughputRow, TrialRow},
};
use serde_json::Value;
use std::{
    cell::Cell,
    collections::HashSet,
    fs::{self, File, TryLockError},
    path::Path,
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval},
};

pub mod calibrate;
pub mod log;
pub mod manifest;
pub mod model_json;
mod phase;
pub mod progress;
mod rows;
mod throttle;
pub mod verdict;

pub use phase::Phase;
pub use throttle::{Jobs, Throttle};

use rows::Rows;

/// How often `--jobs auto` looks at the machine before it starts another trial.
const LOOK: Duration = Duration::from_secs(1);

/// Another trial starts only while the machine is so far from being overloaded.
const CALM: f64 = 0.5;

/// What one trial leaves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrialRecord {
    /// Its row.
    pub row: TrialRow,
    /// Its rows of throughput.
    pub throughput: Vec<ThroughputRow>,
    /// Its events.
    pub events: Vec<EventRow>,
    /// Its requests.
    pub requests: Vec<RequestRow>,
    /// Its clients, if there are several.
    pub clients: Vec<ClientRow>,
    /// Whether the machine was good enough for it.
    pub verdict: Verdict,
}

/// Tries one variant once. Whatever goes wrong becomes the row's status and reason.
pub trait Laboratory {
    /// Runs one trial; its files go into `folder`; `phase` is told what it is doing. `None` when
    /// it was interrupted, so that there is nothing to tell.
    fn trial(
        &self,
        trial: &TrialPlan,
        folder: &Path,
        phase: &dyn Fn(Phase),
    ) -> impl Future<Output = Option<TrialRecord>>;

    /// How near the machine has been to being overloaded since the last question: 1 is at a limit
    /// of the verdict.
    fn strain(&self) -> f64;
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All trials are `ok`.
    Ok,
    /// Some are not.
    SomeFailed,
    /// It was interrupted; the rows so far are kept.
    Interrupted,
}

/// As long as this lives, the run directory is this process' alone.
#[derive(Debug)]
pub struct Hold {
    _claim: Claim,
    _lock: File,
}

impl Hold {
    fn of(run: &RunDir) -> anyhow::Result<Self> {
        let what = || format!("lock {}", run.root().display());
        let lock = File::open(run.root()).with_context(what)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _claim: Claim::unfinished_in(run.root())?, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let (who, run) = (private::holder(&lock), run.root().display());
                Err(NotReady(format!(
                    "another limosa is at work in {run}: {who}\n  hint: wait for it"
                ))
                .into())
            }
            Err(TryLockError::Error(e)) => Err(e).with_context(what),
        }
    }
}

/// What the user wrote, as it was when the plan was made of it.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    /// The experiment.
    pub experiment: &'a str,
    /// The topology.
    pub topology: &'a str,
    /// The published figures that stand beside the experiment, if there are any.
    pub reference: Option<&'a [u8]>,
}

impl<'a> From<&'a Documents> for Texts<'a> {
    fn from(documents: &'a Documents) -> Self {
        Self {
            experiment: &documents.experiment.text,
            topology: &documents.topology.text,
            reference: documents.reference.as_deref(),
        }
    }
}

/// Makes a new run directory, or finds the one to go on with, and puts the experiment's files and its
/// recordings in. No file of the user's is read here: it may have changed since the plan was made.
///
/// # Errors
/// When it cannot be written, or when `resume` finds another plan in it, or another process.
pub fn prepare(
    results: &Path,
    plan: &Plan,
    texts: Texts<'_>,
    resume: bool,
) -> anyhow::Result<(RunDir, Hold)> {
    let home = beneath::child(results, &plan.experiment.name)?;
    let plan_json = format!("{:#}\n", serde_json::to_value(plan)?);
    if resume {
        let latest = fs::canonicalize(home.join("latest")).map_err(|_| {
            let home = home.display();
            Usage(format!(
                "nothing to resume: there is no run in {home}\n  hint: leave --resume out"
            ))
        })?;
        let run = RunDir::new(latest);
        let before = fs::read_to_string(run.plan())
            .with_context(|| format!("read {}", run.plan().display()))?;
        let before = serde_json::from_str(&before)
            .with_context(|| format!("read {}", run.plan().display()))?;
        if let Some(difference) = first_difference(&before, &serde_json::to_value(plan)?) {
            let run = run.root().display().to_string();
            return Err(Changed { run, difference }.into());
        }
        let hold = Hold::of(&run)?;
        owner::made(run.root());
        return Ok((run, hold));
    }
    owner::make_dir_all(&home)
        .map_err(|e| errors::of_path("make", &home, e, "--out FOLDER, one that you may write"))?;
    let run = new_run_dir(&home)?;
    let hold = Hold::of(&run)?;
    write_whole(&run.experiment(), texts.experiment.as_bytes())?;
    write_whole(&run.topology(), texts.topology.as_bytes())?;
    if let Some(reference) = texts.reference {
        write_whole(&run.reference(), reference)?;
    }
    plan.keep_recordings(run.root())?;
    write_whole(&run.plan(), plan_json.as_bytes())?;
    point_latest(&run).with_context(|| format!("point latest at {}", run.root().display()))?;
    owner::made_link(&home.join("latest"));
    Ok((run, hold))
}

/// Two runs that start in the same second get directories of their own.
fn new_run_dir(home: &Path) -> anyhow::Result<RunDir> {
    let stamp = clock::utc_stamp(clock::now_ns());
    for n in 1.. {
        let name = if n == 1 { stamp.clone() } else { format!("{stamp}-{n}") };
        let path = home.join(name);
        match fs::create_dir(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => {
                other.map_err(|e| {
                    errors::of_path("make", &path, e, "--out FOLDER, one that you may write")
                })?;
                owner::made(&path);
                return Ok(RunDir::new(path));
            }
        }
    }
    unreachable!("numbers do not end")
}

/// `--resume` with another experiment than the run was begun with; exit code 3.
#[derive(Debug, thiserror::Error)]
#[error(
    "the experiment has changed since {run} was begun: {difference}\n  hint: run it without --resume"
)]
pub struct Changed {
    run: String,
    difference: String,
}

/// Where two plans differ first: `variants.quic.timeline: was there, is not`.
fn first_difference(before: &Value, now: &Value) -> Option<String> {
    let inner = |key: String, a: Option<&Value>, b: Option<&Value>| match (a, b) {
        (Some(a), Some(b)) => first_difference(a, b).map(|d| match d.strip_prefix(": ") {
            Some(leaf) => format!("{key}: {leaf}"),
            None => format!("{key}.{d}"),
        }),
        (Some(_), None) => Some(format!("{key}: was there, is not")),
        (None, _) => Some(format!("{key}: was not there, is")),
    };
    match (before, now) {
        (a, b) if a == b => None,
        (Value::Object(a), Value::Object(b)) => {
            let added = b.keys().filter(|key| !a.contains_key(*key));
            let mut keys = a.keys().chain(added);
            keys.find_map(|key| inner(key.clone(), a.get(key), b.get(key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|i| inner(i.to_string(), a.get(i), b.get(i)))
        }
        (a, b) => Some(format!(": was {a}, is {b}")),
    }
}

/// Runs all trials of the plan that have no row yet, several at a time as `throttle` says. Rows are
/// written as trials end, and get the plan's order in the end. One trial at a time is in its
/// preparation.
///
/// # Errors
/// When the run directory cannot be read or written; no new trials start then, and those that run
/// come to their end.
pub async fn run(
    plan: &Plan,
    run: &RunDir,
    laboratory: &impl Laboratory,
    mut throttle: Throttle,
    progress: &Progress,
    interrupted: watch::Receiver<bool>,
) -> anyhow::Result<Ending> {
    let (mut rows, before) = Rows::open(run, plan)?;
    let done: HashSet<(&str, u32)> =
        before.iter().map(|r| (r.variant.as_str(), r.repetition)).collect();
    let mut todo = plan
        .trials
        .iter()
        .filter(|t| !done.contains(&(t.variant.as_str(), t.repetition)))
        .enumerate()
        .peekable();
    progress.begin(plan.trials.len(), before.len());
    let mut failed = before.iter().any(|r| r.status != "ok");
    let (preparing, prepared) = (Cell::new(None), Notify::new());
    let one = async |number: usize, trial, era| -> anyhow::Result<_> {
        let tell = |phase: Phase| {
            if preparing.get() == Some(number) && !phase.is_setup() {
                preparing.set(None);
                prepared.notify_one();
            }
        };
        let record = attempt(trial, run, laboratory, progress, &tell).await?;
        Ok((era, record))
    };
    let mut running = FuturesUnordered::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut calm = true;
    let (mut cut_off, mut broken) = (false, None);
    loop {
        let stop = cut_off || broken.is_some() || *interrupted.borrow();
        let may_start = !stop
            && preparing.get().is_none()
            && running.len() < throttle.allowed()
            && (calm || running.is_empty());
        if may_start && let Some((number, trial)) = todo.next() {
            preparing.set(Some(number));
            // The next start waits for what this one does to the machine.
            calm = !throttle.is_automatic();
            running.push(one(number, trial, throttle.era()));
            continue;
        }
        if running.is_empty() {
            break;
        }
        // In this order, so that the same trials give the same decisions.
        tokio::select! { biased;
            Some(ended) = running.next() => {
                let (era, record) = match ended {
                    Ok((era, Some(record))) => (era, record),
                    Ok((_, None)) => {
                        cut_off = true;
                        continue;
                    }
                    Err(e) => {
                        broken.get_or_insert(e);
                        continue;
                    }
                };
                throttle.saw(era, &record.verdict);
                failed |= record.row.status != "ok";
                if let Err(e) = rows.write(&record) {
                    broken.get_or_insert(e.into());
                    continue;
                }
                progress.finished(&record.row);
            }
            () = prepared.notified() => {}
            _ = looks.tick(), if throttle.is_automatic() && todo.peek().is_some() => {
                calm = preparing.get().is_none() && laboratory.strain() < CALM;
            }
        }
    }
    if let Some(e) = broken {
        return Err(e);
    }
    rows.finish()?;
    if cut_off || *interrupted.borrow() {
        return Ok(Ending::Interrupted);
    }
    Ok(if failed { Ending::SomeFailed } else { Ending::Ok })
}

/// One trial with a folder of its own; `None` when it was interrupted.
async fn attempt(
    trial: &TrialPlan,
    run: &RunDir,
    laboratory: &impl Laboratory,
    progress: &Progress,
    phase: &dyn Fn(Phase),
) -> anyhow::Result<Option<TrialRecord>> {
    let folder = run.new_attempt(&trial.variant, trial.repetition)?;
    let bar = progress.trial(trial);
    let tell = |now: Phase| {
        bar.phase(now);
        phase(now);
    };
    let mut record = laboratory.trial(trial, &folder, &tell).await;
    // A trial that failed early never got beyond its preparation.
    phase(Phase::Collection);
    if let Some(record) = &mut record {
        let below = folder.strip_prefix(run.root()).unwrap_or(&folder);
        record.row.folder = below.display().to_string();
    }
    Ok(record)
}

#[cfg(test)]
mod tests;
