//! Gets Debian packages and unpacks them, without root and without running their installation scripts.
//!
//! Input: the machine's apt, a mirror and Debian's keys. Output: a folder that looks like an installed system. apt resolves,
//! fetches and checks signatures in a private state folder; nothing of the machine's own package state is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::mirror;
use crate::steps::{Log, tool};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Packages {
    /// The release, as `trixie`.
    pub suite: &'static str,
    /// Packages by name; apt adds what these depend on.
    pub names: &'static [&'static str],
    /// Dependencies that are not wanted, as the value of a `Provides` field.
    pub done_without: &'static str,
}

/// Fetches all packages into `dir` and returns their files.
///
/// # Errors
/// When no mirror or key is known, or apt cannot fetch; the error says what to do or names the log.
pub fn fetch(wish: &Packages, dir: &Path, log: &Log) -> Result<Vec<PathBuf>> {
    let suite = wish.suite;
    let mirror = mirror::find()?;
    let keyring = mirror::keyring()
        .context("Debian's signing keys are missing (hint: install debian-archive-keyring)")?;
    for folder in ["empty", "lists/partial", "archives/partial"] {
        fs::create_dir_all(dir.join(folder)).context("make the package folder")?;
    }
    let source =
        format!("deb [arch=amd64 signed-by={}] {mirror} {suite} main\n", keyring.display());
    fs::write(dir.join("sources.list"), source).context("write the package source")?;
    fs::write(dir.join("status"), status(wish)).context("write the package status")?;
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
        .with_context(|| format!("fetch the package lists of {suite} from {mirror}"))?;
    log.run(apt().args(["install", "--yes", "--download-only"]).args(wish.names))
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

/// Unpacks `packages` into `root`, without what matches the `tar` patterns `excluded`. The kernel is as large as everything else together, so it gets its own thread.
///
/// # Errors
/// When a package is damaged or the disk is full; the error names the log.
pub fn unpack(packages: &[PathBuf], excluded: &[&str], root: &Path, log: &Log) -> Result<()> {
    fs::create_dir_all(root).context("make the root folder")?;
    let is_kernel = |path: &&PathBuf| path.to_string_lossy().contains("/linux-image-");
    let (kernel, rest): (Vec<_>, Vec<_>) = packages.iter().partition(is_kernel);
    // The folders that are links (bin, lib, sbin) must exist as such before anything is put below them.
    let (base, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|path| path.to_string_lossy().contains("/base-files_"));
    let unpack_all = |paths: &[&PathBuf]| {
        paths.iter().try_for_each(|path| unpack_one(path, excluded, root, log))
    };
    unpack_all(&base)?;
    std::thread::scope(|scope| {
        let kernel = scope.spawn(|| unpack_all(&kernel));
        let rest = unpack_all(&rest);
        kernel.join().expect("unpacking does not panic").and(rest)
    })
}

fn unpack_one(package: &Path, excluded: &[&str], root: &Path, log: &Log) -> Result<()> {
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
        .args(excluded.iter().map(|pattern| format!("--exclude={pattern}")))
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

/// A package that stands for everything that is done without.
fn status(wish: &Packages) -> String {
    let provides = match wish.done_without {
        "" => String::new(),
        names => format!("Provides: {names}\n"),
    };
    format!(
        "Package: limosa-without\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: limosa\n\
         Description: stands for what is done without\n{}\n",
        provides
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
        let packages = |done_without| Packages { suite: "s", names: &[], done_without };
        assert!(status(&packages("")).ends_with("without\n\n"));
        assert!(status(&packages("x (= 1)")).ends_with("Provides: x (= 1)\n\n"));
    }
}
