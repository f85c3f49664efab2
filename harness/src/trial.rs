//! One trial on this kernel: lab up, calibration, nodes, timeline, collection, lab gone.

use crate::{
    action::Scene,
    calibrate,
    certificate::{self, Certificates, SERVER_NAME},
    lab::Lab,
    leftovers,
    node::{CONTROL, Node},
    plan::{Plan, SERVER_PORT, TrialPlan, VariantPlan},
    run::{Laboratory, TrialRecord},
    source,
    spec::{Expect, Role},
    sys::{criu::Criu, process::ExitState},
    timeline::{self, Done},
};
use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::select_all;
use limosa_record::{
    clock,
    node::{ClientConfig, NodeConfig, Request, Scheme, ServerConfig, Workload},
    row::{CalibrationRow, RowFile, TrialRow},
};
use std::{
    cell::RefCell,
    fs,
    future::pending,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::{sync::watch, time::sleep};

mod collect;

/// How late a step of the timeline may start before the trial is suspect.
pub const MAX_LATENESS_MS: f64 = 20.0;

/// This machine's kernel as a laboratory.
#[derive(Debug)]
pub struct Host<'a> {
    plan: &'a Plan,
    certificates: Certificates,
    /// SHA-256 of the body.
    body_sha256: String,
    /// The program that nodes run.
    program: PathBuf,
    criu: Option<Criu>,
    /// Bodies, images and the program: large or short-lived, so not in the run directory.
    work: TempDir,
    interrupted: watch::Receiver<bool>,
}

/// How the middle of a trial ended.
enum Middle {
    /// The client ended like this.
    Client(ExitState),
    /// The trial's time was up.
    TimeLimit,
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
    image_bytes: Option<u64>,
    /// `Err` holds status and reason.
    outcome: std::result::Result<(), (&'static str, String)>,
}

impl<'a> Host<'a> {
    /// Makes what all trials of the plan share: certificates, body, a copy of this program.
    ///
    /// # Errors
    /// When files cannot be written, or when the plan needs CRIU and there is none.
    pub fn prepare(plan: &'a Plan, interrupted: watch::Receiver<bool>) -> Result<Self> {
        let work = leftovers::work_folder()?;
        let certificates = certificate::create(work.path())?;
        let www = work.path().join("www");
        fs::create_dir(&www).with_context(|| format!("make {}", www.display()))?;
        let body = www.join(plan.download.path.trim_start_matches('/'));
        let body_sha256 = source::create(&body, plan.download.size.0, plan.experiment.seed)?;
        // A copy, because CRIU must find the program again even if it is built anew meanwhile.
        let program = work.path().join("limosa-node");
        fs::copy("/proc/self/exe", &program)
            .with_context(|| format!("copy this program to {}", program.display()))?;
        let criu = plan.needs_criu().then(|| Criu::find(None)).transpose()?;
        Ok(Self { plan, certificates, body_sha256, program, criu, work, interrupted })
    }

    /// Where a trial's nodes work: the run directory of a guest is a slow file system, and each
    /// open file in it would make checkpoint and restore slower.
    fn desk(&self, trial: &TrialPlan) -> PathBuf {
        self.work.path().join(format!("{}-{}", trial.variant, trial.repetition))
    }

    /// Moves what the nodes left to where it stays.
    fn clear_desk(&self, trial: &TrialPlan, folder: &Path) -> Result<()> {
        let desk = self.desk(trial);
        for name in self.plan.nodes.keys() {
            let from = desk.join(name);
            if from.is_dir() {
                copy_folder(&from, &folder.join(name))
                    .with_context(|| format!("keep the files of node `{name}`"))?;
            }
        }
        // What is left are bodies and images: large, and full of secrets.
        fs::remove_dir_all(&desk).or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e).with_context(|| format!("remove {}", desk.display())),
        })
    }

    fn config(
        &self,
        role: Role,
        trial: &TrialPlan,
        variant: &VariantPlan,
        folder: &Path,
    ) -> NodeConfig {
        let mut transport = variant.transport.clone();
        transport.seed = trial.seed;
        let wildcard: IpAddr = match variant.connect {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        match role {
            Role::Server => NodeConfig::Server(ServerConfig {
                listen: SocketAddr::new(wildcard, SERVER_PORT),
                control: CONTROL,
                folder: folder.into(),
                certificate: self.certificates.certificate.clone(),
                private_key: self.certificates.private_key.clone(),
                www: self.work.path().join("www"),
                store: None,
                transport,
            }),
            Role::Client => NodeConfig::Client(ClientConfig {
                connect: variant.connect,
                fallback: variant.fallback.clone(),
                local: match variant.scheme {
                    // The paper's QUIC never uses the second interface.
                    Scheme::Quic => variant.local.iter().take(1).copied().collect(),
                    Scheme::Multipath | Scheme::DualPath | Scheme::PostCopy => {
                        variant.local.clone()
                    }
                },
                control: CONTROL,
                folder: folder.into(),
                ca: self.certificates.ca.clone(),
                server_name: SERVER_NAME.into(),
                path: self.plan.download.path.clone(),
                save_as: self.desk(trial).join("body"),
                workload: Workload::Download,
                number: 0,
                transport,
            }),
        }
    }

    /// The trial until the client has ended; fills `finished` on the way.
    async fn middle(&self, finished: &mut Finished<'_>, phase: &dyn Fn(&str)) -> Result<Middle> {
        let (trial, variant, folder) = (finished.trial, finished.variant, finished.folder);
        phase("lab");
        let lab = Lab::up(&self.plan.network, trial.seed)?;
        phase("calibration");
        let (client_name, client_place) = self.node_of(Role::Client)?;
        finished.calibration =
            calibrate::calibrate(&self.plan.network, &lab, client_place, variant)?;
        let mut rows = RowFile::append(&folder.join("calibration.csv"))?;
        finished.calibration.iter().try_for_each(|row| rows.write(row))?;
        lab.rewind()?;
        phase("nodes");
        let mut nodes = Vec::new();
        for (name, node) in &self.plan.nodes {
            let (working, kept) = (self.desk(trial).join(name), folder.join(name));
            let config = self.config(node.role, trial, variant, &working);
            let start = Node::start(&self.program, name, &node.on, &working, &kept, &config, &lab);
            nodes.push(start.await?);
        }
        let client = nodes.iter().find(|n| n.name() == client_name).context("no client")?;
        phase("handshake");
        let zero_ns = client.ask(&lab, &Request::Start).await?.handshake_started_ns;
        let zero_ns = zero_ns.context("the client does not say when its handshake started")?;
        finished.zero_ns = Some(zero_ns);
        let scene = Scene {
            lab: &lab,
            nodes: &nodes,
            criu: self.criu.as_ref(),
            images: self.desk(trial).join("images"),
            logs: folder.join("criu"),
            dumps: RefCell::default(),
        };
        let end = self.until_the_end(finished, &scene, client, zero_ns, phase).await;
        finished.image_bytes =
            scene.dumps.borrow().iter().map(|d| d.image_bytes).reduce(|a, b| a + b);
        for node in nodes.iter().filter(|n| n.name() != client_name) {
            let state = node.stop(&lab).await?;
            if let (Some(expect), Ok(Middle::Client(_))) = (self.plan.expect.get(node.name()), &end)
            {
                check_end(node, expect, state)?;
            }
        }
        if end.is_err() || !matches!(end, Ok(Middle::Client(_))) {
            client.kill().await?;
        }
        if let (Ok(Middle::Client(state)), Some(expect)) = (&end, self.plan.expect.get(client_name))
        {
            check_end(client, expect, *state)?;
        }
        end
    }

    async fn until_the_end(
        &self,
        finished: &mut Finished<'_>,
        scene: &Scene<'_>,
        client: &Node,
        zero_ns: i64,
        phase: &dyn Fn(&str),
    ) -> Result<Middle> {
        let planned = &finished.variant.timeline;
        let steps = RefCell::new(Vec::new());
        let timeline = async {
            phase("download");
            let report = |done: Done| {
                phase(&format!("download, after {}", done.event));
                steps.borrow_mut().push(done);
            };
            match timeline::drive(planned, zero_ns, scene, report).await {
                Ok(()) => pending().await,
                Err(e) => e,
            }
        };
        let others = scene.nodes.iter().filter(|n| n.name() != client.name());
        let early = select_all(others.map(|n| {
            Box::pin(async move {
                let state = n.ended().await;
                // An end that the timeline planned is no accident.
                if n.was_killed() { pending().await } else { n.early_end(state) }
            })
        }));
        let mut interrupted = self.interrupted.clone();
        let end = tokio::select! {
            _ = interrupted.wait_for(|i| *i) => Ok(Middle::Interrupted),
            state = client.ended() => state.map(Middle::Client),
            error = timeline => Err(error),
            (why, ..) = early => Err(anyhow!(why)),
            () = sleep(self.plan.time_limit.as_duration()) => Ok(Middle::TimeLimit),
        };
        finished.steps = steps.into_inner();
        if let (Ok(Middle::Client(_)), Some(missing)) = (&end, planned.get(finished.steps.len())) {
            let after = (clock::now_ns() - zero_ns) as f64 / 1e9;
            bail!(
                "the client ended after {after:.1} s, before the step `{}`\n  hint: download more, or move the step",
                missing.action.name()
            );
        }
        end
    }

    fn node_of(&self, role: Role) -> Result<(&str, &str)> {
        let found = self.plan.nodes.iter().find(|(_, n)| n.role == role);
        found.map(|(name, n)| (&**name, &*n.on)).with_context(|| format!("no {role:?}"))
    }
}

fn check_end(node: &Node, expect: &Expect, state: ExitState) -> Result<()> {
    let (good, wish) = match (expect.exited, expect.signaled) {
        (Some(code), _) => (state == ExitState::Exited(code), format!("{{exited: {code}}}")),
        (_, Some(signal)) => {
            (state == ExitState::Signaled(signal), format!("{{signaled: {signal}}}"))
        }
        (None, None) => (true, String::new()),
    };
    if good {
        return Ok(());
    }
    let name = node.name();
    bail!(node.told(format!("node `{name}` {state}, expected `{name}: {wish}`")))
}

impl Laboratory for Host<'_> {
    async fn trial(
        &self,
        trial: &TrialPlan,
        folder: &Path,
        phase: &dyn Fn(&str),
    ) -> Option<TrialRecord> {
        let variant = &self.plan.variants[&trial.variant];
        let mut finished = Finished {
            trial,
            variant,
            folder,
            started_ns: clock::now_ns(),
            zero_ns: None,
            calibration: Vec::new(),
            steps: Vec::new(),
            image_bytes: None,
            outcome: Ok(()),
        };
        let phase = &|name: &str| {
            tracing::info!(variant = trial.variant, repetition = trial.repetition, "{name}");
            phase(name);
        };
        let middle = self.middle(&mut finished, phase).await;
        phase("collection");
        let cleared = self.clear_desk(trial, folder);
        match middle.and_then(|middle| cleared.map(|()| middle)) {
            Ok(Middle::Client(_)) => {}
            Ok(Middle::Interrupted) => return None,
            Ok(Middle::TimeLimit) => {
                let why = format!("not over after {}", self.plan.time_limit);
                finished.outcome = Err(("timeout", why));
            }
            Err(e) => finished.outcome = Err(("failed", format!("{e:#}"))),
        }
        Some(collect::record(self.plan, &finished, &self.body_sha256))
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The row of a trial before anything is known of it.
fn empty_row(plan: &Plan, finished: &Finished<'_>) -> TrialRow {
    let moves = finished.variant.timeline.iter().any(|s| s.action.name() == "restore");
    let scheme = serde_json::to_value(finished.variant.scheme).unwrap_or_default();
    TrialRow {
        experiment: plan.experiment.name.clone(),
        variant: finished.trial.variant.clone(),
        repetition: finished.trial.repetition,
        seed: finished.trial.seed,
        scheme: scheme.as_str().unwrap_or_default().into(),
        technique: moves.then(|| "fixed".into()),
        started_utc: clock::utc(finished.started_ns),
        ..TrialRow::default()
    }
}
