//! Gets the guest's packages and unpacks them, without root and without running their installation scripts.
//!
//! Input: the machine's apt, a mirror and Debian's keys. Output: a folder that looks like an installed system. apt resolves,
//! fetches and checks signatures in a private state folder; nothing of the machine's own package state is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::recipe::{DONE_WITHOUT, EXCLUDED, PACKAGES, SUITE};
use super::steps::Log;
use super::{mirror, tool};

/// Fetches all packages into `dir` and returns their files.
pub(super) fn fetch(dir: &Path, log: &Log) -> Result<Vec<PathBuf>> {
    let mirror = mirror::find()?;
    let keyring = mirror::keyring()
        .context("Debian's signing keys are missing (hint: install debian-archive-keyring)")?;
    for folder in ["empty", "lists/partial", "archives/partial"] {
        fs::create_dir_all(dir.join(folder)).context("make the package folder")?;
    }
    let source =
        format!("deb [arch=amd64 signed-by={}] {mirror} {SUITE} main\n", keyring.display());
    fs::write(dir.join("sources.list"), source).context("write the package source")?;
    fs::write(dir.join("status"), status()).context("write the package status")?;
    let network = Command::new("apt-config").arg("dump").output();
    let network = network.map(|dump| network_settings(&String::from_utf8_lossy(&dump.stdout)));
    let settings = settings(dir, &network.unwrap_or_default());
    fs::write(dir.join("apt.conf"), settings).context("write apt's settings")?;

    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("APT_CONFIG", dir.join("apt.conf"))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .arg("-qq");
        apt
    };
    log.run(apt().arg("update"))
        .with_context(|| format!("fetch the package lists of {SUITE} from {mirror}"))?;
    log.run(apt().args(["install", "--yes", "--download-only"]).args(PACKAGES))
        .with_context(|| format!("fetch packages from {mirror}"))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(dir.join("archives")).context("list the fetched packages")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "apt fetched no package (log: {})", log.path().display());
    files.sort();
    Ok(files)
}

/// Unpacks `packages` into `root`. The kernel is as large as everything else together, so it gets its own thread.
pub(super) fn unpack(packages: &[PathBuf], root: &Path, log: &Log) -> Result<()> {
    fs::create_dir_all(root).context("make the root folder")?;
    let is_kernel = |path: &&PathBuf| path.to_string_lossy().contains("/linux-image-");
    let (kernel, rest): (Vec<_>, Vec<_>) = packages.iter().partition(is_kernel);
    // The folders that are links (bin, lib, sbin) must exist as such before anything is put below them.
    let (base, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|path| path.to_string_lossy().contains("/base-files_"));
    let unpack_all =
        |paths: &[&PathBuf]| paths.iter().try_for_each(|path| unpack_one(path, root, log));
    unpack_all(&base)?;
    std::thread::scope(|scope| {
        let kernel = scope.spawn(|| unpack_all(&kernel));
        let rest = unpack_all(&rest);
        kernel.join().expect("unpacking does not panic").and(rest)
    })
}

fn unpack_one(package: &Path, root: &Path, log: &Log) -> Result<()> {
    let mut source = Command::new(tool("dpkg-deb"))
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.output()?)
        .spawn()
        .context("run dpkg-deb")?;
    let archive = source.stdout.take().context("no output of dpkg-deb")?;
    let target = Command::new(tool("tar"))
        .args(["-x", "--numeric-owner", "--keep-directory-symlink"])
        .args(EXCLUDED.iter().map(|pattern| format!("--exclude={pattern}")))
        .arg("-C")
        .arg(root)
        .stdin(archive)
        .stdout(Stdio::null())
        .stderr(log.output()?)
        .status()
        .context("run tar")?;
    let source = source.wait().context("wait for dpkg-deb")?;
    ensure!(
        source.success() && target.success(),
        "{} cannot be unpacked: {} (log: {})",
        package.display(),
        log.last_line(),
        log.path().display()
    );
    Ok(())
}

/// A package that stands for everything the guest does without.
fn status() -> String {
    format!(
        "Package: limosa-guest\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: limosa\n\
         Description: stands for what the guest does without\nProvides: {DONE_WITHOUT}\n\n"
    )
}

/// How the machine reaches the network (proxies, certificates, time-outs), out of `apt-config dump`.
fn network_settings(dump: &str) -> String {
    let prefixes = [
        "Acquire::http",
        "Acquire::Retries",
        "Acquire::Check-",
        "Acquire::Force",
        "Acquire::proxy",
    ];
    dump.lines()
        .filter(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn settings(dir: &Path, network: &str) -> String {
    let dir = dir.display();
    format!(
        "{network}\
         Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\nDir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}\";\nDir::Cache::archives \"{dir}/archives\";\n\
         Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"{dir}/empty\";\n\
         Dir::Etc::sourcelist \"{dir}/sources.list\";\nDir::Etc::sourceparts \"{dir}/empty\";\n\
         Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"{dir}/empty\";\n\
         Dir::Etc::trustedparts \"{dir}/empty\";\n\
         APT::Sandbox::User \"root\";\nAPT::Architecture \"amd64\";\nAPT::Architectures \"amd64\";\n\
         APT::Install-Recommends \"false\";\nAPT::Keep-Downloaded-Packages \"true\";\n\
         Acquire::Languages \"none\";\nAcquire::PDiffs \"false\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_settings_are_taken_over() {
        let dump = "APT::Update::Post-Invoke:: \"rm\";\nAcquire::http::Proxy \"http://p:1/\";\nDir \"/\";\n";
        assert_eq!(network_settings(dump), "Acquire::http::Proxy \"http://p:1/\";\n");
    }

    #[test]
    fn apt_is_kept_away_from_the_machine() {
        let text = settings(Path::new("/b"), "");
        assert!(text.contains("Dir::State::status \"/b/status\";"));
        assert!(text.contains("Dir::Etc::parts \"/b/empty\";"));
        assert!(status().ends_with("\n\n"));
    }
}
