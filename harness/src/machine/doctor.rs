//! What this machine can and cannot do, found out by trying, and the fix for each.

pub use limosa_lab::errors::NotReady;

use crate::{
    machine::{guest, setup},
    plan::Plan,
    spec::Links,
    trial::{dnsmasq, transfer},
};
use limosa_lab::cache::find_program;
use limosa_lab::sys::which::find_tool;
use limosa_lab::{
    lab::{Backend, descriptors},
    network::Network,
    sys::{
        criu::{Criu, can_serve_pages},
        link, mptcp,
        netns::{Netns, Role},
        qdisc::{self, Netem, Qdisc, Tbf},
        tap,
    },
};
use rustix::{
    fs::{Access, StatVfsMountFlags, access, statvfs},
    process::geteuid,
};
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

/// All findings, for both ways to run, and what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// For all runs on this kernel.
    pub host: Vec<Finding>,
    /// For shaped links in this kernel.
    pub kernel_links: Vec<Finding>,
    /// For shaped links in user space.
    pub user_links: Vec<Finding>,
    /// For techniques of `migrate` other than cold on this kernel, when no plan asks for them.
    pub techniques: Vec<Finding>,
    /// For runs in a guest.
    pub guest: Vec<Finding>,
    /// What shall carry shaped links.
    #[serde(skip)]
    pub wish: Links,
    /// Whether a recording is played, which the kernel cannot.
    #[serde(skip)]
    pub plays: bool,
}

impl Report {
    /// Whether this kernel can do it.
    pub fn host_ready(&self) -> bool {
        lacking(&self.host).is_none() && self.links().is_ok()
    }

    /// Whether a guest can do it without further set-up.
    pub fn guest_ready(&self) -> bool {
        lacking(&self.guest).is_none()
    }

    /// What carries shaped links on this kernel, and why; or what it lacks.
    ///
    /// # Errors
    /// What is missing, in one line.
    pub fn links(&self) -> Result<(Backend, String), String> {
        let kernel = lacking(&self.kernel_links);
        let user = lacking(&self.user_links);
        let plays = Some("a recording is played".to_owned()).filter(|_| self.plays);
        match (self.wish, plays.or_else(|| kernel.clone()), user) {
            (Links::Kernel, ..) => match kernel {
                None => Ok((Backend::Kernel, "as asked for".into())),
                Some(lacks) => Err(lacks),
            },
            (Links::User, _, None) => Ok((Backend::User, "as asked for".into())),
            (Links::User, _, Some(lacks)) => Err(lacks),
            (Links::Auto, None, _) => Ok((Backend::Kernel, "it has netem".into())),
            (Links::Auto, Some(why), None) if self.plays => Ok((Backend::User, why)),
            (Links::Auto, Some(lacks), None) => {
                Ok((Backend::User, format!("the kernel lacks {lacks}")))
            }
            (Links::Auto, Some(kernel), Some(user)) if self.plays => {
                Err(format!("{user}, and {kernel}"))
            }
            (Links::Auto, Some(kernel), Some(user)) => Err(format!("{kernel}, {user}")),
        }
    }

    /// What a plan needs is needed of this kernel; without a plan it is good to know.
    async fn add_techniques(&mut self, criu: &Criu, plan: Option<&Plan>) {
        let wanted = if plan.is_some() { &mut self.host } else { &mut self.techniques };
        if plan.is_none_or(Plan::needs_dirty_tracking) {
            wanted.push(dirty_tracking(criu).await);
        }
        if plan.is_none_or(Plan::needs_lazy_pages) {
            wanted.push(lazy_pages(criu).await);
        }
    }

    /// Why this kernel cannot do it, in one line.
    pub fn host_lacks(&self) -> String {
        let lacks = [lacking(&self.host), self.links().err()];
        lacks.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn lacking(findings: &[Finding]) -> Option<String> {
    let lacks = findings.iter().filter(|f| !f.ok);
    let lacks: Vec<_> = lacks.map(|f| format!("{} ({})", f.name, f.detail)).collect();
    (!lacks.is_empty()).then(|| lacks.join(", "))
}

/// Examines the machine, for everything or for what a plan needs.
pub async fn examine(plan: Option<&Plan>) -> Report {
    let mut report = machine(
        plan.map_or(Links::Auto, |p| p.links),
        plan.is_none_or(Plan::needs_shaping),
        plan.is_some_and(Plan::needs_user_links),
        plan.and_then(|p| p.network.tcp_congestion.as_deref()),
    );
    if geteuid().is_root() && plan.is_none_or(Plan::needs_criu) {
        let (finding, criu) = criu().await;
        report.host.push(finding);
        if let Some(criu) = criu {
            report.add_techniques(&criu, plan).await;
        }
    }
    if plan.is_none_or(Plan::needs_rsync) {
        report.host.push(tool("rsync", transfer::rsync::PROGRAM));
    }
    if plan.is_none_or(Plan::needs_dnsmasq) {
        report.host.push(tool("dnsmasq", dnsmasq::PROGRAM));
    }
    if plan.is_none_or(Plan::needs_mptcp) {
        report.host.push(mptcp());
    }
    for (_, command) in plan.iter().flat_map(|plan| plan.commands()) {
        report.host.push(program(&command.program));
    }
    report.guest = guest_findings();
    report
}

/// Examines only what a lab needs of this kernel.
pub fn examine_for(network: &Network, wish: Links) -> Report {
    let congestion = network.tcp_congestion.as_deref();
    machine(wish, network.needs_shaping(), network.needs_user_links(), congestion)
}

/// Makes a namespace and tries in it what links are made of.
fn machine(wish: Links, shapes: bool, plays: bool, congestion: Option<&str>) -> Report {
    let root = geteuid()
        .is_root()
        .then(|| "yes".into())
        .ok_or_else(|| ("no, so the next findings are missing".into(), "run it with sudo".into()));
    let ready = root.is_ok();
    let (kernel_links, user_links, techniques, guest) = Default::default();
    let host = vec![finding("root", root)];
    let mut report = Report { host, kernel_links, user_links, techniques, guest, wish, plays };
    if !ready {
        return report;
    }
    report.host.extend([privileges(), files(), temporary_folder()]);
    let made = Netns::create_with(&[Role::Host; 2], congestion);
    let seen = made.as_ref().map(|_| "can be made".into());
    report.host.push(finding(
        "network namespaces",
        seen.map_err(|e| (format!("{e:#}"), "run it outside of an unprivileged container".into())),
    ));
    if let (Ok(made), true) = (&made, shapes) {
        report.kernel_links = disciplines(made);
        report.user_links = made.first().map(tap_device).into_iter().collect();
    }
    report
}

/// Root in a user namespace of its own may make namespaces, and then not what is in them.
fn privileges() -> Finding {
    // user_namespaces(7): in the first one all numbers are mapped to themselves.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let seen = whole.then(|| "root of this machine".to_owned());
    let fix = || ("root of a user namespace only".into(), "run it outside of it".to_owned());
    finding("the first user namespace", seen.ok_or_else(fix))
}

/// As many as the smallest experiment takes.
fn files() -> Finding {
    let fix = |why| (why, format!("ulimit -Hn {}", descriptors::LEAST));
    finding("open files", descriptors::enough_for_anything().map_err(fix))
}

/// Each run starts a copy of this program from there.
fn temporary_folder() -> Finding {
    let folder = std::env::temp_dir();
    let name = folder.display().to_string();
    let fix = "TMPDIR=FOLDER, a folder where programs may be started";
    let seen = match statvfs(&folder) {
        Ok(mount) if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) => {
            Err(format!("{name} is mounted noexec: no program may be started there"))
        }
        Ok(_) if access(&folder, Access::WRITE_OK).is_err() => {
            Err(format!("{name} may not be written"))
        }
        Ok(_) => Ok(format!("{name} can hold programs")),
        Err(error) => Err(format!("{name}: {error}")),
    };
    finding("folder of temporary files", seen.map_err(|why| (why, fix.into())))
}

/// What was seen, or what is missing with its fix.
type Seen = Result<String, (String, String)>;

fn finding(name: &'static str, seen: Seen) -> Finding {
    match seen {
        Ok(detail) => Finding { name, ok: true, detail, fix: None },
        Err((detail, fix)) => Finding { name, ok: false, detail, fix: Some(fix) },
    }
}

/// Tries both qdiscs, each on the loopback of a namespace of its own: one does not take the place of
/// another kind.
fn disciplines(namespaces: &[Netns]) -> Vec<Finding> {
    let tbf = Tbf { rate_bps: 1_000_000, burst_bytes: 10_000, limit_bytes: 10_000 };
    let wishes = [("sch_tbf", Qdisc::Tbf(tbf)), ("sch_netem", Qdisc::Netem(Netem::default()))];
    let mut findings = Vec::new();
    for ((name, wish), netns) in wishes.into_iter().zip(namespaces) {
        let set = netns.apply([qdisc::set(link::LOOPBACK, &wish)]);
        let fix = format!(
            "modprobe {name} (package linux-modules-extra or kernel-modules-extra), or `--links user`"
        );
        let seen = set.map(|()| "works".into()).map_err(|e| {
            tracing::debug!("{name}: {e:#}");
            ("not in this kernel".into(), fix)
        });
        findings.push(finding(name, seen));
    }
    findings
}

fn tap_device(netns: &Netns) -> Finding {
    let end = link::End {
        index: netns.new_index(),
        name: "t".into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu_bytes: 1500,
    };
    let seen = tap::create(netns, &end).map(|_| "can be made".into());
    let fix =
        "modprobe tun, and /dev/net/tun must be there (in a container: --device /dev/net/tun)";
    finding("TAP devices", seen.map_err(|e| (format!("{e:#}"), fix.into())))
}

/// Moves a process, unless one has been moved on this kernel by this criu before.
async fn criu() -> (Finding, Option<Criu>) {
    let fix = "limosa setup (fetches one from Debian), or `--on guest`".to_owned();
    let found = async { setup::criu::working(&std::env::current_exe()?).await }.await;
    let seen = found.as_ref().map(|found| {
        let program = found.criu.program().display().to_string();
        format!("version {} ({program}) moves a process", found.version)
    });
    let finding = finding("criu", seen.map_err(|e| (format!("{e:#}"), fix)));
    (finding, found.ok().map(|found| found.criu))
}

/// For pre-copy and hybrid.
async fn dirty_tracking(criu: &Criu) -> Finding {
    let seen = match criu.feature("mem_dirty_track").await {
        Ok(true) => Ok("pages that change are noted".to_owned()),
        Ok(false) => Err("not in this kernel (CONFIG_MEM_SOFT_DIRTY)".to_owned()),
        Err(e) => Err(format!("{e:#}")),
    };
    finding("soft-dirty pages", seen.map_err(|why| (why, "`--on guest`".into())))
}

/// For post-copy and hybrid.
async fn lazy_pages(criu: &Criu) -> Finding {
    let seen = match criu.feature("uffd-noncoop").await {
        Ok(true) => can_serve_pages().map(|()| "pages can come later".to_owned()).map_err(|_| {
            let why = "criu may not make pipes that are large enough (CAP_SYS_RESOURCE)";
            (why.to_owned(), "sysctl -w fs.pipe-max-size=4194304, or `--on guest`".into())
        }),
        Ok(false) => {
            Err(("not in this kernel (CONFIG_USERFAULTFD)".into(), "`--on guest`".to_owned()))
        }
        Err(e) => Err((format!("{e:#}"), "`--on guest`".into())),
    };
    finding("lazy pages", seen)
}

/// A program that `limosa setup` installs.
fn tool(name: &'static str, program: &str) -> Finding {
    let seen = find_tool(program).map(|p| p.display().to_string());
    finding(name, seen.ok_or_else(|| ("not installed".into(), "limosa setup".into())))
}

fn mptcp() -> Finding {
    let seen = std::path::Path::new(mptcp::SWITCH).exists().then(|| "in this kernel".into());
    let fix =
        || ("not in this kernel".into(), "a kernel with CONFIG_MPTCP, or `--on guest`".into());
    finding("MPTCP", seen.ok_or_else(fix))
}

fn program(name: &str) -> Finding {
    let seen = find_program(name).map(|p| p.display().to_string());
    let lacks = || (format!("`{name}` is not there"), setup::programs::how_to_get(name));
    finding("program", seen.ok_or_else(lacks))
}

fn guest_findings() -> Vec<Finding> {
    let fix = || "limosa setup".to_owned();
    let qemu = find_tool(guest::QEMU);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_prefer_the_kernel_and_say_why_not() {
        let there = || vec![finding("x", Ok("works".into()))];
        let lacks = |name| vec![finding(name, Err(("none".into(), "get it".into())))];
        let report = |kernel_links, user_links, wish, plays| Report {
            host: vec![],
            kernel_links,
            user_links,
            techniques: vec![],
            guest: vec![],
            wish,
            plays,
        };
        let text = |r: Report| match r.links() {
            Ok((backend, why)) => format!("{}: {why}", backend.name()),
            Err(why) => why,
        };
        let auto = Links::Auto;
        assert_eq!(text(report(there(), there(), auto, false)), "kernel: it has netem");
        let why = text(report(lacks("netem"), there(), auto, false));
        assert_eq!(why, "user: the kernel lacks netem (none)");
        let why = text(report(there(), there(), auto, true));
        assert_eq!(why, "user: a recording is played");
        let why = text(report(lacks("netem"), lacks("TAP"), auto, false));
        assert_eq!(why, "netem (none), TAP (none)");
        let why = text(report(lacks("netem"), there(), Links::Kernel, false));
        assert_eq!(why, "netem (none)");
        let why = text(report(there(), lacks("TAP"), Links::User, false));
        assert_eq!(why, "TAP (none)");
    }
}
