//! Where Debian packages come from on this machine.
//!
//! Input: what the machine's own apt (or debootstrap) is configured with. Output: one base address. No address is written
//! down here: on Debian it is the mirror that apt already uses, elsewhere debootstrap's default; `LIMOSA_DEBIAN_MIRROR`
//! overrides both.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Environment variable that names a mirror.
pub(super) const OVERRIDE: &str = "LIMOSA_DEBIAN_MIRROR";

/// Format of `apt-get indextargets` that [`from_apt`] reads.
const APT_FORMAT: &str = "$(CREATED_BY)|$(ORIGIN)|$(COMPONENT)|$(RELEASE)|$(SITE)";

/// Finds the mirror.
///
/// # Errors
/// When neither apt nor debootstrap knows one.
pub(super) fn find() -> Result<String> {
    if let Some(mirror) = std::env::var(OVERRIDE).ok().filter(|text| !text.is_empty()) {
        return Ok(mirror);
    }
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", APT_FORMAT])
        .output()
        .context("run apt-get indextargets")?;
    if let Some(mirror) = from_apt(&String::from_utf8_lossy(&targets.stdout)) {
        return Ok(mirror);
    }
    for path in ["/usr/sbin/debootstrap", "/sbin/debootstrap"] {
        if let Some(mirror) =
            std::fs::read_to_string(path).ok().and_then(|script| from_debootstrap(&script))
        {
            return Ok(mirror);
        }
    }
    bail!(
        "no Debian mirror is known to this machine (hint: set {OVERRIDE} to one, or install debootstrap)"
    )
}

/// Whether apt itself knows a Debian mirror, so that debootstrap is not needed.
pub fn is_debian() -> bool {
    std::fs::read_to_string("/etc/os-release").is_ok_and(|text| os_id(&text) == Some("debian"))
}

/// Where Debian's signing keys are, if they are installed.
pub fn keyring() -> Option<&'static Path> {
    [
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "/usr/share/keyrings/debian-archive-keyring.pgp",
    ]
    .into_iter()
    .map(Path::new)
    .find(|path| path.exists())
}

fn os_id(os_release: &str) -> Option<&str> {
    os_release.lines().find_map(|line| line.strip_prefix("ID=")).map(|id| id.trim_matches('"'))
}

/// The main archive among apt's package lists. The origin is only known once lists have been fetched; without it the
/// archive is recognised by its path, which third parties do not use.
fn from_apt(targets: &str) -> Option<String> {
    let mut by_path = None;
    for line in targets.lines() {
        let mut fields = line.split('|');
        let (Some("Packages"), Some(origin), Some("main"), Some(release), Some(site)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let site = site.trim_end_matches('/');
        let is_addition =
            site.contains("security") || release.contains(['-', '/']) || !site.starts_with("http");
        if is_addition {
            continue;
        }
        if origin == "Debian" {
            return Some(site.to_owned());
        }
        if origin.is_empty() && site.ends_with("/debian") {
            by_path.get_or_insert_with(|| site.to_owned());
        }
    }
    by_path
}

fn from_debootstrap(script: &str) -> Option<String> {
    let line = script.lines().find_map(|line| line.trim().strip_prefix("DEF_MIRROR="))?;
    let mirror = line.trim_matches(['"', '\'']);
    mirror.starts_with("http").then(|| mirror.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_told_from_the_rest() {
        let targets = "DEP-11|Debian|main|bookworm|http://mirror.example/debian\n\
            Packages|Vendor|main|tool-bookworm|https://vendor.example/apt\n\
            Packages|Debian|main|bookworm-updates|http://updates.example/debian\n\
            Packages|Debian|main|bookworm-security|http://mirror.example/debian-security\n\
            Packages|Debian|main|bookworm|http://mirror.example/debian/\n";
        assert_eq!(from_apt(targets).as_deref(), Some("http://mirror.example/debian"));
    }

    #[test]
    fn without_lists_the_path_decides() {
        let targets = "Packages||main|bookworm|https://vendor.example/debian/12/prod\n\
            Packages||main|bookworm|http://mirror.example/debian\n";
        assert_eq!(from_apt(targets).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(from_apt("Packages|Ubuntu|main|noble|http://mirror.example/ubuntu\n"), None);
    }

    #[test]
    fn debootstrap_default_is_read() {
        let script = "VARIANT=\nDEF_MIRROR=\"http://mirror.example/debian\"\nX=1\n";
        assert_eq!(from_debootstrap(script).as_deref(), Some("http://mirror.example/debian"));
    }

    #[test]
    fn os_id_is_unquoted() {
        assert_eq!(os_id("NAME=\"x\"\nID=\"debian\"\n"), Some("debian"));
        assert_eq!(os_id("VERSION_ID=12\n"), None);
    }
}
