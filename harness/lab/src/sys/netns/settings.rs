//! What a new namespace is set to, so that it does not depend on the host.
//!
//! A namespace copies some of its host's settings (all of `ipv4/conf`, TCP's congestion control and
//! buffers), and which ones depends on the host, too (`net.core.devconf_inherit_init_net`). What
//! can be set for a namespace and has an influence is set here, to the kernel's own default where
//! nothing else is said; what cannot is recorded by [`Netns::settings`].
//!
//! All new namespaces of a host are alike, so one is read, and in the others only what differs
//! from the wish is written: a thousand namespaces would take seconds otherwise, since
//! the kernel looks through the names of all namespaces for each.

use super::{Netns, Role, on_own_thread};
use anyhow::{Context, Result, bail};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::Path,
};

/// A file below /proc/sys/net and what to write to it.
pub type Sysctl = (&'static str, &'static str);

/// TCP's congestion control when nobody asks for another one, and where the kernel lacks it: every
/// kernel has the second.
const TCP_CONGESTION: [&str; 2] = ["cubic", "reno"];

/// Where sysctls of networks are.
const ROOT: &str = "/proc/sys/net";

const CONGESTION: &str = "ipv4/tcp_congestion_control";

/// What the kernel lets programs without privileges and all namespaces but the first have as their
/// congestion control, whoever they are.
const ALLOWED: &str = "ipv4/tcp_allowed_congestion_control";

/// `ipv4/conf/all` and `ipv4/conf/default`: the kernel's defaults, but no reverse path filter,
/// which drops what arrives on a host's second interface, and no source routes.
const IPV4_CONF: &[(&str, &str)] = &[
    ("accept_local", "0"),
    ("accept_redirects", "1"),
    ("accept_source_route", "0"),
    ("arp_accept", "0"),
    ("arp_announce", "0"),
    ("arp_evict_nocarrier", "1"),
    ("arp_filter", "0"),
    ("arp_ignore", "0"),
    ("arp_notify", "0"),
    ("bc_forwarding", "0"),
    ("bootp_relay", "0"),
    ("disable_policy", "0"),
    ("disable_xfrm", "0"),
    ("drop_gratuitous_arp", "0"),
    ("drop_unicast_in_l2_multicast", "0"),
    ("force_igmp_version", "0"),
    ("forwarding", "0"),
    ("igmpv2_unsolicited_report_interval", "10000"),
    ("igmpv3_unsolicited_report_interval", "1000"),
    ("ignore_routes_with_linkdown", "0"),
    ("log_martians", "0"),
    ("medium_id", "0"),
    ("promote_secondaries", "0"),
    ("proxy_arp", "0"),
    ("proxy_arp_pvlan", "0"),
    ("route_localnet", "0"),
    ("rp_filter", "0"),
    ("secure_redirects", "1"),
    ("send_redirects", "1"),
    ("shared_media", "1"),
    ("src_valid_mark", "0"),
    ("tag", "0"),
];

/// `ipv6/conf/all` and `ipv6/conf/default`: no duplicate address detection (it delays bind by up
/// to two seconds), which is done where either asks for it.
const IPV6_CONF: &[(&str, &str)] = &[
    ("accept_dad", "0"),
    ("accept_source_route", "0"),
    ("disable_ipv6", "0"),
    ("drop_unsolicited_na", "0"),
    ("force_mld_version", "0"),
    ("forwarding", "0"),
    ("ignore_routes_with_linkdown", "0"),
    ("ndisc_notify", "0"),
    ("proxy_ndp", "0"),
    ("use_optimistic", "0"),
    ("use_tempaddr", "0"),
];

/// What new interfaces have: no asking for routers and no believing them, multicast listener
/// reports repeated within milliseconds. `ipv6/conf/all` has no influence on these.
const IPV6_DEFAULT: &[(&str, &str)] = &[
    ("accept_ra", "0"),
    ("accept_redirects", "1"),
    ("addr_gen_mode", "0"),
    ("autoconf", "1"),
    ("drop_unicast_in_l2_multicast", "0"),
    ("hop_limit", "255"),
    ("mldv2_unsolicited_report_interval", "1"),
    ("ndisc_evict_nocarrier", "1"),
    ("router_solicitations", "0"),
];

/// Packets live for 255 hops, so that long chains of routers work. TCP's buffers are the kernel's
/// defaults on a machine with memory enough.
const HOST: &[Sysctl] = &[
    ("ipv4/ip_default_ttl", "255"),
    ("ipv4/ip_forward", "0"),
    ("ipv4/ip_forward_use_pmtu", "0"),
    ("ipv4/ip_local_port_range", "32768 60999"),
    ("ipv4/ip_no_pmtu_disc", "0"),
    ("ipv4/ip_nonlocal_bind", "0"),
    ("ipv4/tcp_autocorking", "1"),
    ("ipv4/tcp_dsack", "1"),
    ("ipv4/tcp_early_retrans", "3"),
    ("ipv4/tcp_ecn", "2"),
    ("ipv4/tcp_ecn_fallback", "1"),
    ("ipv4/tcp_fastopen", "1"),
    ("ipv4/tcp_frto", "2"),
    ("ipv4/tcp_mtu_probing", "0"),
    ("ipv4/tcp_no_metrics_save", "0"),
    ("ipv4/tcp_notsent_lowat", "4294967295"),
    ("ipv4/tcp_recovery", "1"),
    ("ipv4/tcp_retries1", "3"),
    ("ipv4/tcp_retries2", "15"),
    ("ipv4/tcp_rmem", "4096 131072 6291456"),
    ("ipv4/tcp_sack", "1"),
    ("ipv4/tcp_slow_start_after_idle", "1"),
    ("ipv4/tcp_syn_retries", "6"),
    ("ipv4/tcp_synack_retries", "5"),
    ("ipv4/tcp_timestamps", "1"),
    ("ipv4/tcp_window_scaling", "1"),
    ("ipv4/tcp_wmem", "4096 16384 4194304"),
    // Addresses outlive an interface that somebody sets down.
    ("ipv6/conf/all/keep_addr_on_down", "1"),
    ("mptcp/enabled", "1"),
];

/// The kernel sets `accept_redirects` when forwarding changes, so it follows.
const ROUTER: &[Sysctl] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/forwarding", "1"),
    ("ipv4/conf/default/forwarding", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];

/// A host's firewall does not look at what a switch passes on.
const SILENT: &[Sysctl] = &[
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("bridge/bridge-nf-call-arptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-iptables", "0"),
];

/// As long as this lives, new namespaces can take a congestion control that this machine has and
/// does not allow them. Most machines allow cubic; one whose own is another may not. A namespace
/// keeps what it took, so the machine's list is as before once they are made.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Locked, so that labs that are built at the same time wait for each other.
    list: File,
    before: Option<String>,
}

impl Allowance {
    /// Nothing where the list is out of reach, as in a container; then it stays as it is.
    pub(super) fn of(tcp_congestion: Option<&str>) -> Option<Self> {
        let wanted = tcp_congestion.unwrap_or(TCP_CONGESTION[0]);
        let list = File::open(Path::new(ROOT).join(ALLOWED)).ok()?;
        list.lock().ok()?;
        let before = words(&fs::read_to_string(Path::new(ROOT).join(ALLOWED)).ok()?);
        if before.split(' ').any(|name| name == wanted) {
            return Some(Self { list, before: None });
        }
        // It fails when the kernel has no such thing, which is told where it is asked for.
        fs::write(Path::new(ROOT).join(ALLOWED), format!("{before} {wanted}")).ok()?;
        Some(Self { list, before: Some(before) })
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = fs::write(Path::new(ROOT).join(ALLOWED), before)
        {
            tracing::warn!(%error, "cannot set {ALLOWED} back");
        }
        let _ = self.list.unlock();
    }
}

impl Role {
    /// All that a namespace of this role is set to, in the order of writing.
    fn wishes(self, tcp_congestion: &str) -> Vec<(String, String)> {
        let own = |list: &[Sysctl]| -> Vec<(String, String)> {
            list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        if self == Self::Silent {
            return own(SILENT);
        }
        // Writing ip_forward sets others, so it comes first.
        let mut all = own(HOST);
        for (family, conf) in [("ipv4", IPV4_CONF), ("ipv6", IPV6_CONF)] {
            for which in ["all", "default"] {
                let name = |field: &str| format!("{family}/conf/{which}/{field}");
                all.extend(conf.iter().map(|(field, value)| (name(field), (*value).into())));
            }
        }
        let default =
            |(field, value): &Sysctl| (format!("ipv6/conf/default/{field}"), (*value).to_owned());
        all.extend(IPV6_DEFAULT.iter().map(default));
        all.push((CONGESTION.into(), tcp_congestion.into()));
        if self == Self::Router {
            let further = own(ROUTER);
            all.retain(|(name, _)| !further.iter().any(|(other, _)| other == name));
            all.extend(further);
        }
        all
    }

    /// What has to be written into a new namespace of this role on this host: what it does not
    /// have by itself. A setting that the kernel does not know is none.
    ///
    /// # Errors
    /// When no namespace can be made.
    pub(super) fn needs(self, tcp_congestion: Option<&str>) -> Result<Vec<(String, String)>> {
        on_own_thread(|| {
            // SAFETY: NEWNET does not touch the descriptor table; the thread is ours and short-lived.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("unshare(CLONE_NEWNET)")?;
            let now = |name: &str| fs::read_to_string(Path::new(ROOT).join(name));
            let inherited = words(&now(CONGESTION).unwrap_or_default());
            let [usual, other] = TCP_CONGESTION;
            let found = set_here([(CONGESTION, tcp_congestion.unwrap_or(usual))]);
            let congestion = match (tcp_congestion, found) {
                (Some(asked), found) => found.map(|()| asked)?,
                (None, Ok(())) => usual,
                (None, Err(_)) => other,
            };
            let differs = |(name, value): &(String, String)| match name.as_str() {
                CONGESTION => inherited != *value,
                name => now(name).is_ok_and(|now| words(&now) != words(value)),
            };
            Ok(self.wishes(congestion).into_iter().filter(differs).collect())
        })
    }
}

/// Numbers and names without the tabs between them.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes sysctls of the calling thread's namespace.
pub(super) fn set_here<'s>(settings: impl IntoIterator<Item = (&'s str, &'s str)>) -> Result<()> {
    for (name, value) in settings {
        let path = Path::new(ROOT).join(name);
        match fs::write(&path, value) {
            Ok(()) => {}
            // A kernel that was started without IPv6 has none of its settings and needs none.
            Err(e) if e.kind() == io::ErrorKind::NotFound && name != CONGESTION => {}
            Err(e) if name == CONGESTION => bail!("{}", no_congestion_control(value, &e)),
            Err(e) => {
                return Err(e).with_context(|| format!("write `{value}` to {}", path.display()));
            }
        }
    }
    Ok(())
}

fn no_congestion_control(wanted: &str, why: &io::Error) -> String {
    let known = fs::read_to_string(Path::new(ROOT).join("ipv4/tcp_available_congestion_control"));
    let known = words(&known.unwrap_or_default());
    format!(
        "this kernel has no TCP congestion control `{wanted}` ({why})\n  hint: `modprobe tcp_{wanted}`, or one of {known}"
    )
}

impl Netns {
    /// All settings of the namespace below /proc/sys/net, by name (`net.ipv4.ip_forward`), but
    /// those of single interfaces and what changes by itself.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn settings(&self) -> Result<BTreeMap<String, String>> {
        self.run(|| Ok(settings_here()))
    }
}

/// The same for the calling thread's namespace.
pub fn settings_here() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(Path::new(ROOT), "net", &mut found);
    found
}

fn collect(folder: &Path, name: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        let of_interface = name.ends_with(".conf") || name.ends_with(".neigh");
        if of_interface && file != "all" && file != "default" {
            continue;
        }
        let name = format!("{name}.{file}");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), &name, found);
        } else if !name.ends_with("_key")
            && !name.ends_with("_secret")
            && !name.ends_with("_count")
            && let Ok(value) = fs::read_to_string(entry.path())
        {
            found.insert(name, words(&value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_asks_for_nothing_twice() {
        for role in [Role::Host, Role::Router, Role::Silent] {
            let wishes = role.wishes("reno");
            let mut names: Vec<_> = wishes.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), wishes.len(), "{role:?}");
            let congestion = wishes.iter().find(|(name, _)| name == CONGESTION);
            assert_eq!(congestion.is_some(), role != Role::Silent);
        }
    }

    #[test]
    fn secrets_and_single_interfaces_are_not_recorded() {
        let found = settings_here();
        assert!(found.contains_key("net.ipv4.ip_forward"));
        assert!(found.keys().all(|name| !name.contains(".conf.lo.") && !name.ends_with("_key")));
    }
}
