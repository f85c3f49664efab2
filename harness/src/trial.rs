//! One trial on this kernel: lab up, calibration, nodes, timeline, collection, lab gone.

use crate::{
    plan::{Action, Plan, StepPlan, TrialPlan, VariantPlan, WorkloadPlan},
    run::{
        Laboratory, Phase, TrialRecord, calibrate, manifest,
        verdict::watch::{Mark, Readings, Watch},
    },
    spec::Role,
    trial::{
        action::{Milestones, Move, Scene},
        certificate::Certificates,
        folders::Folders,
        node::Node,
        timeline::Done,
    },
};
use anyhow::{Context, Result, anyhow, bail};
use limosa_lab::lab::Expected;
use limosa_lab::{
    capture::Capture,
    journal::WorkFolder,
    lab::{Backend, Carrier, Lab, LinkReadings},
    sys::{
        criu::{Criu, DumpReport},
        machine, packet_cost,
        process::ExitState,
        sockets::Unread,
    },
};
use limosa_record::{
    clock, fault,
    node::{MigrationStatus, Scheme},
    row::{CalibrationRow, RowFile, TrialRow},
};
use serde::Serialize;
use std::{
    cell::RefCell,
    env, fs,
    future::pending,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};

pub mod action;
mod capacity;
pub mod certificate;
mod collect;
mod config;
pub mod dnsmasq;
pub mod folders;
pub mod node;
pub mod payload;
mod push;
mod saved;
mod serve;
pub mod timeline;
pub mod transfer;

/// This machine's kernel as a laboratory.
#[derive(Debug)]
pub struct Host {
    plan: Plan,
    certificates: Certificates,
    /// SHA-256 of the body, if one is downloaded.
    body_sha256: Option<String>,
    /// The program that nodes run.
    program: PathBuf,
    criu: Option<Criu>,
    /// What carries shaped links.
    links: Backend,
    /// Bodies, images and the program: large or short-lived, so not in the run directory.
    work: WorkFolder,
    /// Watches the machine for all trials.
    machine: Watch,
    /// The machine when [`Laboratory::strain`] was asked last.
    asked: Mutex<Mark>,
    interrupted: watch::Receiver<bool>,
}

/// How the middle of a trial ended.
enum Middle {
    /// The workload is over: the client ended like this.
    Over(ExitState),
    /// The trial's time was up, and these were waited for.
    TimeLimit(Vec<String>),
    /// The user does not want to wait.
    Interrupted,
}

/// All that is known of a trial when it is over.
struct Finished<'a> {
    trial: &'a TrialPlan,
    variant: &'a VariantPlan,
    folder: &'a Path,
    started_ns: i64,
    zero_ns: Option<i64>,
    calibration: Vec<CalibrationRow>,
    steps: Vec<Done>,
    /// What CRIU reported of checkpoints, those of moves included.
    dumps: Vec<DumpReport>,
    /// Servers that moved.
    moves: Vec<Move>,
    /// What steps have done beside what they were planned for.
    further: Vec<Done>,
    /// What a transfer of files took.
    transfer: Option<transfer::Report>,
    /// Whether the file that was copied arrived as it is.
    file_matches: Option<bool>,
    /// The machine during the download, or from the trial's beginning when it got no further.
    machine: Option<Readings>,
    /// What the links did meanwhile.
    links: LinkReadings,
    /// What servers that shared their work held in the end.
    servers: Vec<ServerReport>,
    /// How nodes ended.
    ends: Vec<serve::NodeEnd>,
    /// What a client that is a command has saved.
    saved: Option<saved::Saved>,
    /// What waited for nodes that ended to live on elsewhere.
    unread: Option<Unread>,
    /// `Err` holds status and reason.
    outcome: std::result::Result<(), (&'static str, String)>,
}

impl<'a> Finished<'a> {
    /// Nothing is known yet.
    fn new(trial: &'a TrialPlan, variant: &'a VariantPlan, folder: &'a Path) -> Self {
        Self {
            trial,
            variant,
            folder,
            started_ns: clock::now_ns(),
            zero_ns: None,
            calibration: Vec::new(),
            steps: Vec::new(),
            dumps: Vec::new(),
            moves: Vec::new(),
            further: Vec::new(),
            transfer: None,
            file_matches: None,
            machine: None,
            links: LinkReadings::default(),
            servers: Vec::new(),
            ends: Vec::new(),
            saved: None,
            unread: None,
            outcome: Ok(()),
        }
    }
}

impl Host {
    /// Makes what all trials of the plan share: certificates, body, a copy of this program.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn prepare(
        plan: &Plan,
        links: Backend,
        criu: Option<Criu>,
        interrupted: watch::Receiver<bool>,
    ) -> Result<Self> {
        let work = WorkFolder::new("run")?;
        let certificates = certificate::create(work.path())?;
        let www = work.path().join("www");
        fs::create_dir(&www).with_context(|| format!("make {}", www.display()))?;
        let body = plan.workload.download().map(|download| {
            let body = www.join(download.path.trim_start_matches('/'));
            payload::create(&body, download.size.0, plan.experiment.seed)
        });
        let body_sha256 = body.transpose()?;
        // A copy, because CRIU must find the program again even if it is built anew meanwhile.
        let program = work.path().join("limosa-node");
        fs::copy("/proc/self/exe", &program)
            .with_context(|| format!("copy this program to {}", program.display()))?;
        let machine = Watch::start(env::var_os(manifest::INSIDE_VARIABLE).is_some())?;
        let asked = Mutex::new(machine.mark());
        let plan = plan.clone();
        Ok(Self {
            plan,
            certificates,
            body_sha256,
            program,
            criu,
            links,
            work,
            machine,
            asked,
            interrupted,
        })
    }

    /// How many trials this machine is thought to carry at the same time.
    ///
    /// # Errors
    /// When the machine's speed cannot be measured.
    pub fn capacity(&self) -> Result<usize> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let message = packet_cost::measure()?;
        let memory = machine::available_memory_bytes().unwrap_or(0);
        let capacity = capacity::capacity(&self.plan, message, processors, memory);
        tracing::info!(?message, capacity, "how many trials at a time");
        Ok(capacity)
    }

    /// A trial's folders. Its nodes do not work in the run directory, which is a slow file system in a
    /// guest: each open file in it would make checkpoint and restore slower.
    fn folders(&self, trial: &TrialPlan, kept: &Path) -> Result<Folders> {
        Ok(Folders::new(self.work.path(), kept, &trial.variant, trial.repetition)?)
    }

    /// Moves what the nodes left to where it stays.
    fn clear_desk(&self, trial: &TrialPlan, folder: &Path) -> Result<()> {
        let folders = self.folders(trial, folder)?;
        let variant = &self.plan.variants[&trial.variant];
        let mut nodes = self.plan.nodes.keys().map(String::as_str).chain(variant.copies());
        nodes.try_for_each(|name| folders.keep(name))?;
        // What is left are bodies and images: large, and full of secrets.
        folders.clear()
    }

    /// The trial until its workload is over; fills `finished` on the way.
    async fn middle(
        &self,
        finished: &mut Finished<'_>,
        begun: &mut Mark,
        phase: &dyn Fn(Phase),
    ) -> Result<Middle> {
        let (trial, variant, folder) = (finished.trial, finished.variant, finished.folder);
        phase(Phase::Lab);
        let network = self.plan.network_of(variant);
        let log = folder.join("engine.log");
        let carrier = match self.links {
            Backend::Kernel => Carrier::Kernel,
            Backend::User => Carrier::User { program: &self.program, log: &log },
        };
        let lab = Lab::up(&network, trial.seed, carrier)?;
        lab.expect(finished.variant.timeline.iter().flat_map(StepPlan::shapes))?;
        phase(Phase::Calibration);
        let place = match &self.plan.workload {
            WorkloadPlan::Push(route) => &route.from,
            _ => self.node_of(Role::Client)?.1,
        };
        finished.calibration =
            calibrate::calibrate(&network, &lab, place, &self.plan.at_places(variant))?;
        let mut rows = RowFile::append(&folder.join("calibration.csv"))?;
        finished.calibration.iter().try_for_each(|row| rows.write(row))?;
        lab.rewind()?;
        phase(Phase::Nodes);
        let mut captures = Vec::new();
        for place in &self.plan.capture {
            let file = self.folders(trial, folder)?.capture(place)?;
            captures.push(Capture::start(lab.place(place)?, &file)?);
        }
        let end = match &self.plan.workload {
            WorkloadPlan::Push(route) => self.push(route, finished, &lab, begun, phase).await?,
            _ => self.serve(finished, &lab, begun, phase).await?,
        };
        captures.into_iter().try_for_each(Capture::stop)?;
        Ok(end)
    }

    fn scene<'a>(
        &'a self,
        finished: &Finished<'_>,
        lab: &'a Lab,
        nodes: Vec<Rc<Node>>,
    ) -> Result<Scene<'a>> {
        Ok(Scene {
            lab,
            network: &self.plan.network,
            client_place: self.node_of(Role::Client).ok().map(|(_, place)| place),
            nodes: RefCell::new(nodes),
            joined: Notify::new(),
            criu: self.criu.as_ref(),
            speaks_first: finished.variant.scheme.is_some_and(Scheme::speaks_first),
            dns: None,
            folders: self.folders(finished.trial, finished.folder)?,
            dumps: RefCell::default(),
            moves: RefCell::default(),
            further: RefCell::default(),
            client: self.node_of(Role::Client).ok().map(|(name, _)| name),
            marks_bytes: finished.variant.marks_bytes(),
            milestones: Milestones::default(),
        })
    }

    /// What the machine and the links did while the workload ran.
    fn take_readings(
        &self,
        finished: &mut Finished<'_>,
        lab: &Lab,
        begun: &Mark,
        links: &LinkReadings,
        ended_well: bool,
    ) -> Result<()> {
        finished.machine = Some(Readings::between(begun, &self.machine.mark()));
        match lab.readings(&expected(&finished.variant.timeline)) {
            Ok(now) => finished.links = now.since(links),
            Err(e) if ended_well => return Err(e),
            // What ended the trial may be why the links do not answer.
            Err(_) => {}
        }
        Ok(())
    }

    async fn until_the_end(
        &self,
        finished: &mut Finished<'_>,
        scene: &Scene<'_>,
        workload: impl Future<Output = Result<ExitState>>,
        zero_ns: i64,
        phase: &dyn Fn(Phase),
    ) -> Result<Middle> {
        let planned = &finished.variant.timeline;
        let client = self.node_of(Role::Client).map_or("", |(name, _)| name);
        let steps = RefCell::new(Vec::new());
        let timeline = async {
            let report = |done: Done| {
                phase(Phase::After(done.event));
                steps.borrow_mut().push(done);
            };
            match timeline::drive(planned, zero_ns, scene, report).await {
                Ok(()) => pending().await,
                Err(e) => e,
            }
        };
        let mut interrupted = self.interrupted.clone();
        let end = tokio::select! {
            _ = interrupted.wait_for(|i| *i) => Ok(Middle::Interrupted),
            state = workload => state.map(Middle::Over),
            error = timeline => Err(serve::root_cause(scene.node(client).ok(), error).await),
            why = scene.early_end() => Err(anyhow!(why)),
            why = scene.lab.failed() => Err(anyhow!(why)),
            () = sleep(self.plan.time_limit.as_duration()) => {
                Ok(Middle::TimeLimit(self.still_awaited(scene)))
            }
        };
        finished.steps = steps.into_inner();
        if let Ok(Middle::Over(state)) = &end
            && finished.steps.len() < planned.len()
            && !state.success()
            && let Ok(client) = scene.node(client)
        {
            bail!(client.early_end(Ok(*state)));
        }
        if let (Ok(Middle::Over(_)), Some(missing)) = (&end, planned.get(finished.steps.len())) {
            let after = (clock::now_ns() - zero_ns) as f64 / 1e9;
            bail!(
                "the {} ended after {after:.1} s, before the step `{}`\n  hint: {} more, or move the step",
                if client.is_empty() { "push" } else { "client" },
                missing.action.name(),
                if client.is_empty() { "push" } else { "download" },
            );
        }
        end
    }

    fn node_of(&self, role: Role) -> Result<(&str, &str)> {
        let found = self.plan.nodes.iter().find(|(_, n)| n.role == Some(role));
        found.map(|(name, n)| (&**name, &*n.on)).with_context(|| format!("no {role:?}"))
    }
}

/// What a timeline does to the links by intent.
fn expected(timeline: &[StepPlan]) -> Expected {
    let cut = timeline.iter().any(|s| match &s.action {
        Action::LinkDown { .. } | Action::Relocate(_) => true,
        Action::Attack(attack) => attack.cut.is_some(),
        _ => false,
    });
    let shapes = timeline.iter().filter_map(|step| match &step.action {
        Action::Shape { link, a_to_b, b_to_a } => {
            Some((link.clone(), a_to_b.clone(), b_to_a.clone()))
        }
        _ => None,
    });
    Expected { cut, shapes: shapes.collect() }
}

/// What a server held when the client had ended.
#[derive(Debug, Clone)]
struct ServerReport {
    name: String,
    migration: Option<MigrationStatus>,
}

/// Each trial has a thread of its own, so that what waits for the kernel in one of them does not
/// make steps of the others late.
impl Laboratory for Arc<Host> {
    async fn trial(
        &self,
        trial: &TrialPlan,
        folder: &Path,
        phase: &dyn Fn(Phase),
    ) -> Option<TrialRecord> {
        let (host, trial, folder) = (Self::clone(self), trial.clone(), folder.to_owned());
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut work = spawn_blocking(move || {
            // Nobody listens any more when the whole run is given up.
            host.try_once(&trial, &folder, &|phase| tell.send(phase).unwrap_or_default())
        });
        loop {
            tokio::select! {
                Some(now) = told.recv() => phase(now),
                record = &mut work => {
                    return record.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
                }
            }
        }
    }

    fn strain(&self) -> f64 {
        let now = self.machine.mark();
        let mut before = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let strain = Readings::between(&before, &now).strain();
        *before = now;
        strain
    }
}

/// How long a thread may still take when its trial is over.
const LEFT_OVER: Duration = Duration::from_secs(2);

impl Host {
    /// One trial from the first to the last, on this thread.
    fn try_once(
        &self,
        trial: &TrialPlan,
        folder: &Path,
        phase: &dyn Fn(Phase),
    ) -> Option<TrialRecord> {
        let mut finished = Finished::new(trial, &self.plan.variants[&trial.variant], folder);
        let phase = &|now: Phase| {
            tracing::info!(variant = trial.variant, repetition = trial.repetition, "{now}");
            // Here it can only hang or die.
            let _ = fault::here(format_args!("phase/{now}"));
            phase(now);
        };
        let mut begun = self.machine.mark();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let middle = runtime.context("start a runtime").and_then(|runtime| {
            let middle = runtime.block_on(self.middle(&mut finished, &mut begun, phase));
            // A thread that hangs, in a file system perhaps, must not hold the run.
            runtime.shutdown_timeout(LEFT_OVER);
            middle
        });
        phase(Phase::Collection);
        let machine =
            finished.machine.get_or_insert_with(|| Readings::between(&begun, &self.machine.mark()));
        let written = machine.write(folder);
        let saved = self.take_saved(&mut finished);
        let cleared = written.and(saved).and_then(|()| self.clear_desk(trial, folder));
        match middle.and_then(|middle| cleared.map(|()| middle)) {
            Ok(Middle::Over(_)) => {}
            Ok(Middle::Interrupted) => return None,
            // What goes wrong while everything is being ended says nothing about the trial.
            Err(_) if *self.interrupted.borrow() => return None,
            Ok(Middle::TimeLimit(awaited)) => {
                let awaited = awaited.iter().map(|name| format!(": node `{name}` has not ended"));
                let awaited: String = awaited.collect();
                let why = format!("not over after {}{awaited}", self.plan.time_limit);
                finished.outcome = Err(("timeout", why));
            }
            Err(e) => finished.outcome = Err(("failed", format!("{e:#}"))),
        }
        if let Some((why, _)) = finished.moves.iter().find_map(|m| m.aborted.as_ref()) {
            let then = match &finished.outcome {
                Ok(()) => String::new(),
                Err((status, reason)) => format!("\n  then it {status}: {reason}"),
            };
            finished.outcome = Err(("aborted", format!("{why}{then}")));
        }
        let mut record = collect::record(&self.plan, &finished, self.body_sha256.as_deref());
        record.row.links = self.links.name().into();
        Some(record)
    }
}

/// A value as it is written in files.
fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().into()
}

/// The row of a trial before anything is known of it.
fn empty_row(plan: &Plan, finished: &Finished<'_>) -> TrialRow {
    let technique = finished.variant.timeline.iter().find_map(|s| match &s.action {
        Action::Restore { copy: Some(_), .. } => Some("copy".into()),
        Action::Restore { copy: None, .. } => Some("fixed".into()),
        Action::Migrate(m) => Some(word(m.technique)),
        Action::Relocate(_) => Some("fixed".into()),
        _ => None,
    });
    TrialRow {
        experiment: plan.experiment.name.clone(),
        variant: finished.trial.variant.clone(),
        repetition: finished.trial.repetition,
        seed: finished.trial.seed,
        scheme: word(finished.variant.scheme),
        technique,
        started_utc: clock::utc(finished.started_ns),
        ..TrialRow::default()
    }
}

#[cfg(test)]
mod properties;
