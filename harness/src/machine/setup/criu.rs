//! A criu that works on this kernel.
//!
//! Input: `LIMOSA_CRIU`, else the one that has worked here before, the distribution's criu, the one in the cache, in this
//! order. Output: the first that has really moved a process, remembered in the cache for this kernel. Debian's releases have a criu for their own kernel, so on a newer one
//! [`get`] fetches the newest from Debian into the cache; it runs with its own libraries.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use limosa_record::dir::write_whole;

use super::Consent;
use super::fetched::Fetched;
use crate::machine::debian::{Packages, Pin};
use crate::machine::steps::step;
use limosa_lab::cache::Cache;
use limosa_lab::journal::WorkFolder;
use limosa_lab::owner;
use limosa_lab::sys::criu::Criu;

/// Names the criu to use, whatever else there is.
pub const OVERRIDE: &str = "LIMOSA_CRIU";

/// `newest` takes whatever criu the mirror has, unseen.
pub const VERSION: &str = "LIMOSA_CRIU_VERSION";

/// A criu for newer kernels: the one that Limosa was tested with.
const NEWEST: Fetched = Fetched {
    name: "criu",
    home: "criu-sid",
    packages: Packages { suite: "sid", names: &["criu"], done_without: "", pins: &[TESTED] },
    program: "usr/sbin/criu",
};

const TESTED: Pin = Pin {
    package: "criu",
    version: "4.2.1-1",
    sha256: "4039578de7dd6480964754c1348416f0f0658fba3eadaa918bfe43e9a5fb9b04",
};

/// Fetches the tested criu, or another one if that is asked for.
fn fetch(cache: &Cache) -> Result<()> {
    match std::env::var(VERSION).unwrap_or_default().as_str() {
        "" => NEWEST.fetch(cache, &NEWEST.packages).with_context(|| {
            format!(
                "get criu {}, the one that was tested (hint: if the mirror no longer has it, {VERSION}=newest takes the one that it has, LIMOSA_DEBIAN_MIRROR=ADDRESS another mirror, {OVERRIDE}=PROGRAM a criu of yours)",
                TESTED.version
            )
        }),
        "newest" => NEWEST.fetch(cache, &Packages { pins: &[], ..NEWEST.packages }),
        other => bail!("{VERSION}={other} (hint: it is `newest` or not set)"),
    }
}

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
    super::install(super::FETCH.iter(), Consent::Given, &cache)?;
    let fetched = step("fetching a criu for this kernel", || fetch(&cache));
    cache.give_back()?;
    drop(lock);
    fetched.with_context(|| format!("this machine's own criu cannot be used ({lacks:#})"))?;
    working(limosa).await
}

fn candidates(cache: Option<&Cache>) -> Vec<Criu> {
    if let Some(program) = std::env::var_os(OVERRIDE).filter(|text| !text.is_empty()) {
        // criu is started in a folder of its own, so a relative path would lead nowhere.
        let path = Path::new(&program);
        let is_path = path.components().count() > 1;
        let program = is_path.then(|| std::path::absolute(path).ok()).flatten();
        return vec![Criu::at(program.unwrap_or_else(|| path.to_owned()))];
    }
    let cached = cache.and_then(|cache| NEWEST.find(cache));
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
            let remembered = cache.make().and_then(|()| {
                write_whole(&memory(cache), situation.as_bytes())?;
                owner::made(&memory(cache));
                Ok(())
            });
            if let Err(e) = remembered {
                tracing::info!("{e:#}");
            }
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
