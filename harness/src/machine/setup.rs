//! `limosa setup`: gets what a fresh machine lacks.
//!
//! Input: the machine. Output: distribution packages installed, the guest image, the accelerator decided and a criu that works
//! here in the cache, one line per step on standard error. Idempotent, and quick when everything is there; nothing of the machine is changed beyond
//! installed packages.

use std::io::{self, IsTerminal, Write};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{
    machine::{
        debian,
        guest::{self, Accelerator, Image, QEMU, Ready},
        steps::{Log, step},
    },
    trial::{dnsmasq, transfer},
};
use limosa_lab::{cache::Cache, sys::which::find_tool};

/// One thing that has to be there, and the Debian package that brings it.
struct Need {
    what: &'static str,
    package: &'static str,
    is_there: fn() -> bool,
}

/// What making a disk and booting the guest takes.
const BOOT: &[Need] = &[
    Need { what: QEMU, package: "qemu-system-x86", is_there: || find_tool(QEMU).is_some() },
    Need { what: "mke2fs", package: "e2fsprogs", is_there: || find_tool("mke2fs").is_some() },
];

/// What experiments start on this kernel.
const TOOLS: &[Need] = &[
    Need {
        what: "rsync",
        package: "rsync",
        is_there: || find_tool(transfer::rsync::PROGRAM).is_some(),
    },
    // The program alone: the package `dnsmasq` would start a service.
    Need {
        what: "dnsmasq",
        package: "dnsmasq-base",
        is_there: || find_tool(dnsmasq::PROGRAM).is_some(),
    },
];

/// What fetching and unpacking Debian's packages takes.
const FETCH: &[Need] = &[
    Need { what: "tar", package: "tar", is_there: || find_tool("tar").is_some() },
    Need { what: "dpkg-deb", package: "dpkg", is_there: || find_tool("dpkg-deb").is_some() },
    Need {
        what: "Debian's signing keys",
        package: "debian-archive-keyring",
        is_there: || debian::keyring().is_some(),
    },
    Need {
        what: "the address of a Debian mirror (debootstrap knows one)",
        package: "debootstrap",
        is_there: || {
            debian::is_debian()
                || find_tool("debootstrap").is_some()
                || std::env::var_os("LIMOSA_DEBIAN_MIRROR").is_some()
        },
    },
];

pub mod criu;
mod fetched;
pub mod programs;

/// Whether packages of the distribution may be installed on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Whoever started this has asked for it.
    Given,
    /// A person at a terminal is asked; without one nothing is installed.
    Ask,
}

/// Makes everything ready that a guest needs and returns it.
///
/// # Errors
/// When packages may not be installed, or cannot be installed or fetched; the error says what to install by hand, or names the
/// log.
pub fn setup(consent: Consent) -> Result<Ready> {
    let cache = Cache::find()?;
    let lock = cache.lock()?;
    install(BOOT.iter().chain(FETCH), consent, &cache)?;
    let image = match Image::find(&cache) {
        Some(image) => image,
        None => Image::build(&cache)?,
    };
    let accelerator = match guest::known_accelerator(&cache) {
        Some(accelerator) => accelerator,
        None => guest::decide_accelerator(&cache, &image)?,
    };
    cache.give_back()?;
    drop(lock);
    Ok(Ready { image, accelerator })
}

/// Installs the programs that experiments start on this kernel; the guest's image has its own.
///
/// # Errors
/// When packages cannot be installed; the error says what to install by hand.
pub fn tools() -> Result<()> {
    let cache = Cache::find()?;
    let lock = cache.lock()?;
    install(TOOLS.iter(), Consent::Given, &cache)?;
    cache.give_back()?;
    drop(lock);
    Ok(())
}

/// What [`setup`] would return if it had nothing to do; changes nothing and takes no time.
#[must_use]
pub fn ready() -> Option<Ready> {
    let cache = Cache::find().ok()?;
    find_tool(QEMU)?;
    Some(Ready { image: Image::find(&cache)?, accelerator: guest::known_accelerator(&cache)? })
}

/// The accelerator by name, for reports.
#[must_use]
pub fn accelerator_name(accelerator: Accelerator) -> String {
    accelerator.to_string()
}

/// Installs what is missing of `needs`.
fn install<'n>(
    needs: impl Iterator<Item = &'n Need>,
    consent: Consent,
    cache: &Cache,
) -> Result<()> {
    let missing: Vec<_> = needs.filter(|need| !(need.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    let what: Vec<_> = missing.iter().map(|need| need.what).collect();
    let (what, list) = (what.join(", "), packages.join(" "));
    if find_tool("apt-get").is_none() {
        bail!(
            "this machine lacks {what} (hint: install what brings them; on Debian these are apt {list})"
        );
    }
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && find_tool("sudo").is_none() {
        bail!("this machine lacks {what} (hint: as root, apt-get install {list})");
    }
    if consent == Consent::Ask {
        ask(&list, &what, io::stdin().is_terminal() && io::stderr().is_terminal())?;
    }
    let log = Log::create(cache.path.join("apt.log"))?;
    let apt = |args: &[&str]| {
        let mut command = if is_root {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            sudo
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args).args([
            "-qq",
            "-o",
            "DPkg::Lock::Timeout=120",
        ]);
        command
    };
    let with = if is_root { "" } else { " with sudo" };
    step(&format!("installing {list}{with}"), || {
        let mut args = vec!["install", "--yes", "--no-install-recommends"];
        args.extend(&packages);
        if log.run(&mut apt(&args)).is_ok() {
            return Ok(());
        }
        // Most often the package lists are missing or out of date.
        log.run(&mut apt(&["update"]))?;
        log.run(&mut apt(&args))
    })
    .with_context(|| format!("install {list}, for {what}"))?;
    if let Some(need) = missing.iter().find(|need| !(need.is_there)()) {
        bail!("{} is still missing after installing {}", need.what, need.package);
    }
    Ok(())
}

/// Asks whether packages may be installed, if there is somebody to ask.
fn ask(list: &str, what: &str, is_terminal: bool) -> Result<()> {
    let refused = || {
        format!(
            "this machine lacks {what}, and nothing is installed unasked\n  hint: limosa setup, or --yes (installs {list})"
        )
    };
    if !is_terminal {
        bail!(refused());
    }
    let _ = write!(io::stderr(), "this machine lacks {what}. Install {list}? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("read the answer")?;
    if !["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        bail!(refused());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_installed_when_nobody_can_be_asked() {
        let why = ask("qemu-system-x86", "QEMU", false).expect_err("nobody is there").to_string();
        assert!(why.contains("hint: limosa setup, or --yes (installs qemu-system-x86)"), "{why}");
    }

    #[test]
    fn nothing_is_needed_twice() {
        let needs = || BOOT.iter().chain(FETCH).chain(TOOLS);
        let mut packages: Vec<_> = needs().map(|need| need.package).collect();
        packages.sort_unstable();
        packages.dedup();
        assert_eq!(packages.len(), needs().count());
    }
}
