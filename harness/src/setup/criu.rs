//! A criu that works on this kernel.
//!
//! Input: `LIMOSA_CRIU`, else the one that has worked here before, the distribution's criu, the one in the cache, in this
//! order. Output: the first that has really moved a process, remembered in the cache for this kernel. Debian's releases have a criu for their own kernel, so on a newer one
//! [`get`] fetches the newest from Debian into the cache; it runs with its own libraries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::{Cache, UNFINISHED, remove_unfinished};
use crate::debian::{self, LIBRARIES, LOADER, Packages};
use crate::journal::WorkFolder;
use crate::steps::{Log, step};
use crate::sys::criu::Criu;

/// Names the criu to use, whatever else there is.
pub const OVERRIDE: &str = "LIMOSA_CRIU";

/// The newest criu that Debian has.
const PACKAGES: Packages = Packages { suite: "sid", names: &["criu"], done_without: "" };

/// Reading matter, and what criu's libraries bring for other programs.
const EXCLUDED: &[&str] = &[
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/lib/x86_64-linux-gnu/gconv",
];

/// A criu that has proved itself.
#[derive(Debug, Clone)]
pub struct Working {
    /// The program.
    pub criu: Criu,
    /// Its version.
    pub version: String,
}

/// Finds a criu that works; `limosa` is a program that has the subcommand `probe`, to be moved. Needs root.
///
/// # Errors
/// Which were tried, and what is wrong with each.
pub async fn working(limosa: &Path) -> Result<Working> {
    let cache = Cache::find().ok();
    let mut wrong = Vec::new();
    for criu in candidates(cache.as_ref()) {
        match try_one(&criu, limosa, cache.as_ref()).await {
            Ok(version) => return Ok(Working { criu, version }),
            Err(e) => wrong.push(format!("{}: {e:#}", criu.program().display())),
        }
    }
    if wrong.is_empty() {
        bail!("not installed");
    }
    bail!("{}", wrong.join("; "))
}

/// Like [`working`], and fetches one when there is none.
///
/// # Errors
/// When it cannot be fetched, or does not work here either.
pub async fn get(limosa: &Path) -> Result<Working> {
    let lacks = match working(limosa).await {
        Ok(criu) => return Ok(criu),
        Err(lacks) => lacks,
    };
    ensure!(
        std::env::var_os(OVERRIDE).is_none(),
        "{OVERRIDE} names one that does not work: {lacks:#}"
    );
    let cache = Cache::find()?;
    let lock = cache.lock()?;
    super::install(super::FETCH.iter(), &cache)?;
    let fetched = step("fetching a criu for this kernel", || fetch(&cache));
    cache.give_back()?;
    drop(lock);
    fetched.with_context(|| format!("this machine's own criu cannot be used ({lacks:#})"))?;
    working(limosa).await
}

fn candidates(cache: Option<&Cache>) -> Vec<Criu> {
    if let Some(program) = std::env::var_os(OVERRIDE).filter(|text| !text.is_empty()) {
        return vec![Criu::at(program)];
    }
    let cached = cache.map(|cache| home(cache).join("criu")).filter(|program| program.is_file());
    let mut all: Vec<_> = Criu::installed().chain(cached.map(Criu::at)).collect();
    // One that has worked, before one that has to be tried and fails again at each run.
    let known = cache.map(remembered).unwrap_or_default();
    all.sort_by_key(|criu| !known.lines().any(|line| Path::new(line) == criu.program()));
    all
}

/// The situation in which a criu worked.
fn remembered(cache: &Cache) -> String {
    fs::read_to_string(memory(cache)).unwrap_or_default()
}

fn memory(cache: &Cache) -> PathBuf {
    cache.path.join("criu-works")
}

/// Returns its version when it works.
async fn try_one(criu: &Criu, limosa: &Path, cache: Option<&Cache>) -> Result<String> {
    let version = criu.version().await?.to_string();
    let situation = situation(criu.program(), &version);
    if cache.is_none_or(|cache| remembered(cache) != situation) {
        let target = (limosa, &["probe"][..]);
        let folder = WorkFolder::new("probe")?;
        let proof = criu.prove(target, limosa_nodes::probe::READY, folder.path()).await;
        proof.with_context(|| format!("version {version} does not work on this kernel"))?;
        // Where it cannot be remembered it is found out again.
        if let Some(cache) = cache {
            let _ = fs::create_dir_all(&cache.path);
            let _ = fs::write(memory(cache), situation);
            let _ = cache.give_back();
        }
    }
    Ok(version)
}

/// Everything that the answer depends on.
fn situation(program: &Path, version: &str) -> String {
    let kernel = rustix::system::uname();
    let (release, build) = (kernel.release().to_string_lossy(), kernel.version().to_string_lossy());
    format!("kernel {release} {build}\ncriu {version}\n{}\n", program.display())
}

fn home(cache: &Cache) -> PathBuf {
    cache.path.join("criu-sid")
}

/// Fetches criu and puts a script before it that runs it with its own libraries. The caller holds the cache's lock.
fn fetch(cache: &Cache) -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "there is one for x86_64 only");
    remove_unfinished(&cache.path)?;
    let log = Log::create(cache.path.join("criu.log"))?;
    let work = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(&cache.path)
        .context("make a folder for criu")?;
    let debs = debian::fetch(&PACKAGES, &work.path().join("apt"), &log)?;
    let root = work.path().join("criu");
    debian::unpack(&debs, EXCLUDED, &root, &log)?;
    // It has to become criu itself: what it restores is the child of its own parent.
    let script = format!(
        "#!/bin/sh\nroot=${{0%/*}}\nexec \"$root/{LOADER}\" --library-path \"$root/{LIBRARIES}\" \"$root/usr/sbin/criu\" \"$@\"\n"
    );
    let program = root.join("criu");
    fs::write(&program, script).context("write the script that starts criu")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let target = home(cache);
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("remove {}", target.display()))?;
    }
    fs::rename(&root, &target).with_context(|| format!("put criu at {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_for_one_kernel_program_and_version() {
        let here = situation(Path::new("/a"), "4.2.1");
        assert!(here.contains(&*rustix::system::uname().release().to_string_lossy()));
        assert_ne!(here, situation(Path::new("/a"), "4.1.1"));
        assert_ne!(here, situation(Path::new("/b"), "4.2.1"));
    }
}
