//! What this machine can and cannot do, found out by trying, and the fix for each.

use crate::{
    guest,
    plan::Plan,
    setup, steps,
    sys::{
        link,
        netns::{Netns, Role},
        qdisc::{self, Netem, Qdisc, Tbf},
    },
};
use rustix::process::geteuid;
use serde::Serialize;

/// One thing that a run needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub name: &'static str,
    /// Whether this machine has it.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// How to get it.
    pub fix: Option<String>,
}

/// All findings, for both ways to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// For runs on this kernel.
    pub host: Vec<Finding>,
    /// For runs in a guest.
    pub guest: Vec<Finding>,
}

/// The machine lacks something; exit code 4.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

impl Report {
    /// Whether this kernel can do it.
    pub fn host_ready(&self) -> bool {
        self.host.iter().all(|f| f.ok)
    }

    /// Whether a guest can do it without further set-up.
    pub fn guest_ready(&self) -> bool {
        self.guest.iter().all(|f| f.ok)
    }

    /// Why this kernel cannot do it, in one line.
    pub fn host_lacks(&self) -> String {
        let lacks = self.host.iter().filter(|f| !f.ok);
        lacks.map(|f| format!("{} ({})", f.name, f.detail)).collect::<Vec<_>>().join(", ")
    }
}

/// Examines the machine, for everything or for what a plan needs.
pub async fn examine(plan: Option<&Plan>) -> Report {
    let root = geteuid().is_root();
    let mut host = vec![finding(
        "root",
        root.then(|| "yes".into()).ok_or_else(|| {
            ("no, so the next findings are missing".into(), "run it with sudo".into())
        }),
    )];
    if root {
        host.extend(network(plan));
        if plan.is_none_or(Plan::needs_criu) {
            host.push(criu().await);
        }
    }
    Report { host, guest: guest_findings() }
}

/// What was seen, or what is missing with its fix.
type Seen = Result<String, (String, String)>;

fn finding(name: &'static str, seen: Seen) -> Finding {
    match seen {
        Ok(detail) => Finding { name, ok: true, detail, fix: None },
        Err((detail, fix)) => Finding { name, ok: false, detail, fix: Some(fix) },
    }
}

/// Makes a namespace and tries both qdiscs on its loopback.
fn network(plan: Option<&Plan>) -> Vec<Finding> {
    let in_guest = "or let `--on guest` take a kernel that has it";
    let netns = match Netns::create(&[Role::Host]) {
        Ok(mut made) => made.remove(0),
        Err(e) => {
            let fix = "run it outside of an unprivileged container".into();
            return vec![finding("network namespaces", Err((format!("{e:#}"), fix)))];
        }
    };
    let mut findings = vec![finding("network namespaces", Ok("can be made".into()))];
    if plan.is_none_or(Plan::needs_shaping) {
        let tbf = Tbf { rate_bps: 1_000_000, burst_bytes: 10_000, limit_bytes: 10_000 };
        for (name, wish) in
            [("sch_tbf", Qdisc::Tbf(tbf)), ("sch_netem", Qdisc::Netem(Netem::default()))]
        {
            let set = netns.apply([qdisc::set(link::LOOPBACK, &wish)]);
            let fix = format!(
                "modprobe {name} (package linux-modules-extra or kernel-modules-extra), {in_guest}"
            );
            let seen = set.map(|()| "works".into()).map_err(|e| {
                tracing::debug!("{name}: {e:#}");
                ("not in this kernel".into(), fix)
            });
            findings.push(finding(name, seen));
        }
    }
    findings
}

/// Moves a process, unless one has been moved on this kernel by this criu before.
async fn criu() -> Finding {
    let fix = "limosa setup (fetches one from Debian), or `--on guest`".to_owned();
    let seen = async { setup::criu::working(&std::env::current_exe()?).await };
    let seen = seen.await.map(|found| {
        let program = found.criu.program().display().to_string();
        format!("version {} ({program}) moves a process", found.version)
    });
    finding("criu", seen.map_err(|e| (format!("{e:#}"), fix)))
}

fn guest_findings() -> Vec<Finding> {
    let fix = || "limosa setup".to_owned();
    let qemu = steps::find_tool(guest::QEMU);
    let qemu = qemu.map(|p| p.display().to_string()).ok_or_else(|| ("not installed".into(), fix()));
    let ready = setup::ready();
    let image = match &ready {
        Some(ready) => {
            Ok(format!("built, boots under {}", setup::accelerator_name(ready.accelerator)))
        }
        None => Err(("not built yet".into(), fix())),
    };
    vec![finding("qemu", qemu), finding("guest image", image)]
}
