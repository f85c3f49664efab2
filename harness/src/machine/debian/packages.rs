//! Gets Debian packages and unpacks them, without root and without running their installation scripts.
//!
//! Input: the machine's apt, a mirror and Debian's keys. Output: a folder that looks like an installed system. apt resolves,
//! fetches and checks signatures in a private state folder; nothing of the machine's own package state is touched.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::mirror;
use crate::machine::steps::Log;
use limosa_lab::journal::WorkFolder;
use limosa_lab::sys::which::tool;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Packages {
    /// The release, as `trixie`.
    pub suite: &'static str,
    /// Packages by name; apt adds what these depend on.
    pub names: &'static [&'static str],
    /// Dependencies that are not wanted, as the value of a `Provides` field.
    pub done_without: &'static str,
    /// Those that have to be these very ones.
    pub pins: &'static [Pin],
}

/// One package that was tested; others of its name may behave otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Pin {
    /// Its name.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of its file, in hexadecimal digits.
    pub sha256: &'static str,
}

impl Pin {
    /// Whether a fetched file is the one; apt has checked it against the mirror's word only.
    fn check(&self, packages: &[PathBuf]) -> Result<()> {
        let Self { package, version, sha256 } = self;
        // A colon of the version is not in the file's name.
        let start = format!("{package}_{}_", version.replace(':', "%3a"));
        let of_name = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start))
        };
        let file = packages.iter().find(of_name);
        let file = file.with_context(|| format!("apt did not fetch {package} {version}"))?;
        let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        let digest = Sha256::digest(content);
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(
            found == *sha256,
            "the mirror's {package} {version} is not the one that was tested: its SHA-256 is {found}, not {sha256}"
        );
        Ok(())
    }
}

/// Package names for apt, with the versions that are wanted.
fn wanted(wish: &Packages) -> Vec<String> {
    let pin = |name: &&str| wish.pins.iter().find(|pin| pin.package == *name);
    let names = wish.names.iter();
    names
        .map(|name| pin(name).map_or((*name).to_owned(), |pin| format!("{name}={}", pin.version)))
        .collect()
}

/// Whether apt's own user can get into a folder: apt fetches and unpacks as that user, if it can.
fn can_be_entered(folder: &Path) -> bool {
    let others_may = |folder: &Path| folder.metadata().is_ok_and(|m| m.mode() & 0o001 != 0);
    folder.ancestors().filter(|f| !f.as_os_str().is_empty()).all(others_may)
}

/// A folder for apt's state that apt's own user can get into, where there is one: the cache is often in
/// a home that nobody else may enter.
fn state_folder(dir: &Path) -> Result<Option<WorkFolder>> {
    if can_be_entered(dir) || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let folder = WorkFolder::new("apt")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
        .context("open the folder of packages")?;
    Ok(can_be_entered(folder.path()).then_some(folder))
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
    fs::create_dir_all(dir.join("archives")).context("make the package folder")?;
    let elsewhere = state_folder(dir)?;
    let target = dir;
    let dir = elsewhere.as_ref().map_or(dir, WorkFolder::path);
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
    log.run(apt().args(["install", "--yes", "--download-only"]).args(wanted(wish)))
        .with_context(|| format!("fetch packages from {mirror}"))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(dir.join("archives")).context("list the fetched packages")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    if elsewhere.is_some() {
        for file in &mut files {
            let here = target.join("archives").join(file.file_name().unwrap_or_default());
            fs::copy(&file, &here).with_context(|| format!("copy {}", file.display()))?;
            *file = here;
        }
    }
    wish.pins.iter().try_for_each(|pin| pin.check(&files))?;
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
    let sandbox = if can_be_entered(dir) { "" } else { "APT::Sandbox::User \"root\";\n" };
    let dir = dir.display();
    format!(
        "{network}\
         Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\nDir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}\";\nDir::Cache::archives \"{dir}/archives\";\n\
         Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"{dir}/empty\";\n\
         Dir::Etc::sourcelist \"{dir}/sources.list\";\nDir::Etc::sourceparts \"{dir}/empty\";\n\
         Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"{dir}/empty\";\n\
         Dir::Etc::trustedparts \"{dir}/empty\";\n\
         {sandbox}APT::Architecture \"amd64\";\nAPT::Architectures \"amd64\";\n\
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
        let packages = |done_without| Packages { suite: "s", names: &[], done_without, pins: &[] };
        assert!(status(&packages("")).ends_with("without\n\n"));
        assert!(status(&packages("x (= 1)")).ends_with("Provides: x (= 1)\n\n"));
    }

    #[test]
    fn a_pinned_package_is_asked_for_by_version_and_known_by_its_content() {
        // The digest of "abc" is that of FIPS 180-2, appendix B.1.
        const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        const PINS: &[Pin] = &[Pin { package: "b", version: "1:2-3", sha256: ABC }];
        let wish = Packages { suite: "s", names: &["a", "b"], done_without: "", pins: PINS };
        assert_eq!(wanted(&wish), ["a", "b=1:2-3"]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("b_1%3a2-3_amd64.deb");
        fs::write(&file, "abc").expect("write");
        assert!(PINS[0].check(std::slice::from_ref(&file)).is_ok());
        fs::write(&file, "abd").expect("write");
        let why = PINS[0].check(&[file]).expect_err("another content").to_string();
        assert!(why.contains("is not the one that was tested"), "{why}");
        let why = PINS[0].check(&[]).expect_err("no file").to_string();
        assert!(why.contains("did not fetch b 1:2-3"), "{why}");
    }

    #[test]
    fn apts_own_user_is_taken_where_it_can_get_in() {
        assert!(can_be_entered(Path::new("/usr/share")));
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("close it");
        assert!(!can_be_entered(folder.path()), "it is this user's alone");
        assert!(settings(folder.path(), "").contains("APT::Sandbox::User \"root\";"));
        assert!(!settings(Path::new("/usr/share"), "").contains("Sandbox"));
    }
}
