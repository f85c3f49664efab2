//! What outlives a killed process, written down before it is made, so that `limosa clean` and the next
//! run find it.
//!
//! Almost everything that a run makes is held by descriptors or has a parent-death signal: namespaces
//! and all that is in them, TAP devices, nodes, criu, QEMU. What is left are folders, what is mounted
//! below them (pinned namespaces), and processes that work in them or were started from them (a
//! process that criu is just restoring, the keeper of a lab whose `limosa up` was killed). So a
//! [`Claim`] names a folder, and undoing one ends those processes, unmounts, and removes the folder.
//!
//! A claim is a file with JSON in the journal, locked (`flock(2)`) as long as its process lives: the
//! kernel drops the lock, so no PID can be mistaken for another, and a claim outlives a reboot. What
//! no claim names is never touched, whatever its name.
//!
//! Kernel interface: flock(2), proc(5), umount2(2), pidfd_send_signal(2).

use crate::{cache::Cache, private};
use anyhow::{Context, Result};
use limosa_record::{dir, fault};
use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::Duration,
};

/// Where root's claims are; those of others are in their cache.
const HOME: &str = "/var/lib/limosa/journal";

/// How long killed processes may take to let go of a folder.
const PATIENCE: Duration = Duration::from_millis(20);
const TRIES: u32 = 100;

/// What shall be gone when its process is dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    /// A folder, all below it, and the processes that work there.
    Folder(PathBuf),
    /// What was left half written in a folder that stays.
    Unfinished(PathBuf),
}

impl Entry {
    fn path(&self) -> &Path {
        let (Self::Folder(path) | Self::Unfinished(path)) = self;
        path
    }

    /// By its full path: whoever cleans up may be in another folder.
    fn absolute(self) -> Result<Self> {
        let full = |path: PathBuf| {
            std::path::absolute(&path).with_context(|| format!("find {}", path.display()))
        };
        Ok(match self {
            Self::Folder(path) => Self::Folder(full(path)?),
            Self::Unfinished(path) => Self::Unfinished(full(path)?),
        })
    }
}

/// An entry in the journal, for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    file: PathBuf,
    _lock: File,
}

/// The claims of this process.
static OWN: Mutex<BTreeMap<PathBuf, Entry>> = Mutex::new(BTreeMap::new());

impl Claim {
    /// Before a folder is made that shall not stay.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn folder(folder: &Path) -> Result<Self> {
        Self::write_in(&home()?, Entry::Folder(folder.to_owned()))
    }

    /// Before files are written into a folder that stays.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn unfinished_in(folder: &Path) -> Result<Self> {
        Self::write_in(&home()?, Entry::Unfinished(folder.to_owned()))
    }

    fn write_in(home: &Path, entry: Entry) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (pid, now_ns) = (std::process::id(), limosa_record::clock::now_ns());
        let file = home.join(format!("{pid}-{now_ns:x}-{number}.json"));
        let entry = entry.absolute()?;
        let text = serde_json::to_vec(&entry).context("write down a folder's name")?;
        let attempt = || -> io::Result<File> {
            let _alone = alone(home)?;
            fault::here("write/journal")?;
            let mut lock = File::options().write(true).create_new(true).mode(0o600).open(&file)?;
            lock.lock()?;
            lock.write_all(&text)?;
            lock.sync_data()?;
            Ok(lock)
        };
        let lock = attempt().with_context(|| format!("write {}", file.display()))?;
        own().insert(file.clone(), entry);
        Ok(Self { file, _lock: lock })
    }

    /// Lets the folder stay: somebody else looks after it now.
    pub fn release(self) {
        own().remove(&self.file);
        let _ = fs::remove_file(&self.file);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let entry = own().remove(&self.file);
        // A folder that could not be removed is left to the next one who cleans up.
        if !matches!(entry, Some(Entry::Folder(folder)) if folder.exists()) {
            let _ = fs::remove_file(&self.file);
        }
    }
}

fn own() -> std::sync::MutexGuard<'static, BTreeMap<PathBuf, Entry>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn home() -> Result<PathBuf> {
    let home = match rustix::process::geteuid().is_root() {
        true => PathBuf::from(HOME),
        false => {
            let cache = Cache::find()?.path;
            fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
            cache.join("journal")
        }
    };
    private::folder(&home).context("make the journal")?;
    Ok(home)
}

/// One process at a time makes claims or looks for dead ones.
fn alone(home: &Path) -> io::Result<File> {
    let path = home.join("lock");
    let lock = private::lock_file(&path)?;
    private::lock(&lock, &path)?;
    Ok(lock)
}

/// A folder for large or short-lived files, with a claim; dropping it removes it.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
    _claim: Claim,
}

impl WorkFolder {
    /// Makes one that only this user can look into; its name begins with `limosa-` and `purpose`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(purpose: &str) -> Result<Self> {
        let now_ns = limosa_record::clock::now_ns();
        let name = format!("limosa-{purpose}-{}-{now_ns:x}", std::process::id());
        // By its full path, for programs that work elsewhere.
        let path = std::path::absolute(std::env::temp_dir().join(name)).context("find TMPDIR")?;
        let claim = Claim::folder(&path)?;
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path, _claim: claim })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // What cannot be removed now stays claimed.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Undoes what dead processes left, and says what that was.
///
/// # Errors
/// When something cannot be undone; the rest is undone all the same.
pub fn clean() -> Result<Vec<String>> {
    clean_in(&home()?)
}

/// [`clean`] before something new is made. What cannot be undone is said and does not hinder.
pub fn clean_quietly() {
    match clean() {
        Ok(done) => done.iter().for_each(|what| tracing::info!("left by a dead run: {what}")),
        Err(e) => tracing::warn!("{e:#}"),
    }
}

fn clean_in(home: &Path) -> Result<Vec<String>> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(home)?.map(|entry| Ok(entry?.path())).collect()
    };
    let what = || format!("read {}", home.display());
    let _alone = alone(home).with_context(what)?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let claims = list().with_context(what)?;
    for file in claims.iter().filter(|f| f.extension().is_some_and(|e| e == "json")) {
        match undo_if_dead(file) {
            Ok(undone) => done.extend(undone),
            Err(e) => failed.push(format!("{e:#}")),
        }
    }
    anyhow::ensure!(failed.is_empty(), "clean up: {}", failed.join("; "));
    Ok(done)
}

fn undo_if_dead(file: &Path) -> Result<Vec<String>> {
    let what = || format!("read {}", file.display());
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(file);
    let lock = match opened {
        // A link is no claim of ours.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
            return Ok(vec![format!("forgot {}, which is a link", file.display())]);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(what)?,
    };
    if lock.try_lock().is_err() {
        return Ok(Vec::new());
    }
    let done = if private::is_own(&lock).with_context(what)? {
        let text = fs::read(file).with_context(what)?;
        // One that is not whole was being written: nothing had been made yet.
        serde_json::from_slice(&text).map_or_else(|_| Ok(Vec::new()), |e| undo_there(&e, file))?
    } else {
        // Nothing is removed because a stranger says so.
        vec![format!("forgot {}, which somebody else may have written", file.display())]
    };
    fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    Ok(done)
}

/// Undoes an entry that says where it is.
fn undo_there(entry: &Entry, file: &Path) -> Result<Vec<String>> {
    let path = entry.path();
    anyhow::ensure!(
        path.is_absolute(),
        "{} claims `{}`, and nobody knows in which folder that was\n  hint: remove what is left there, and then the claim",
        file.display(),
        path.display()
    );
    undo(entry)
}

/// Undoes all that this process has claimed, because it ends without clearing up.
pub fn undo_own() {
    // A copy, so that threads that go on are not waited for.
    let claims = own().clone();
    for (file, entry) in &claims {
        if undo(entry).is_ok() {
            let _ = fs::remove_file(file);
        }
    }
}

fn undo(entry: &Entry) -> Result<Vec<String>> {
    let folder = match entry {
        Entry::Folder(folder) => folder,
        Entry::Unfinished(folder) if !folder.is_dir() => return Ok(Vec::new()),
        Entry::Unfinished(folder) => {
            let removed = dir::remove_unfinished(folder)
                .with_context(|| format!("remove unfinished files in {}", folder.display()))?;
            return Ok(removed.iter().map(|f| format!("removed {}", f.display())).collect());
        }
    };
    let mut done = Vec::new();
    for tried in 1.. {
        done.extend(kill_all_in(folder).context("end processes")?);
        for mount in mounts_below(folder).context("list mounts")? {
            unmount(&mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .with_context(|| format!("unmount {}", mount.display()))?;
            done.push(format!("unmounted {}", mount.display()));
        }
        match fs::remove_dir_all(folder) {
            Ok(()) => {
                done.push(format!("removed {}", folder.display()));
                break;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            // What was killed just now may have written one more file.
            Err(_) if tried < TRIES => sleep(PATIENCE),
            Err(e) => return Err(e).with_context(|| format!("remove {}", folder.display())),
        }
    }
    Ok(done)
}

/// Ends all processes whose program or working folder is in a folder.
fn kill_all_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut killed = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let number = process.file_name().and_then(|n| n.to_str()?.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw).filter(|p| *p != getpid()) else { continue };
        // Held before it is looked at, so that it is the one that is killed.
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let below = |link| fs::read_link(process.join(link)).is_ok_and(|p| p.starts_with(folder));
        if below("exe") || below("cwd") {
            // Fails only when it has ended meanwhile.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            killed.push(format!("ended process {pid}"));
        }
    }
    Ok(killed)
}

/// The innermost first.
fn mounts_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    // The fifth field is the place, in which proc(5) writes a space as \040.
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    let places = places.map(|place| PathBuf::from(place.replace("\\040", " ")));
    let mut below: Vec<_> = places.filter(|place| place.starts_with(folder)).collect();
    below.reverse();
    Ok(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A claim of a process that is dead: nobody holds its lock.
    fn dead(home: &Path, name: &str, entry: &Entry) {
        fs::write(home.join(name), serde_json::to_vec(entry).unwrap()).unwrap();
    }

    #[test]
    fn regression_a_claim_of_a_stranger_is_forgotten_and_a_relative_one_is_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let place = tempfile::tempdir().unwrap();
        let (home, precious) = (place.path().join("journal"), place.path().join("precious"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&precious).unwrap();
        dead(&home, "1-1.json", &Entry::Folder(precious.clone()));
        fs::set_permissions(home.join("1-1.json"), fs::Permissions::from_mode(0o666)).unwrap();
        dead(place.path(), "elsewhere", &Entry::Folder(precious.clone()));
        symlink(place.path().join("elsewhere"), home.join("1-2.json")).unwrap();
        fs::hard_link(place.path().join("elsewhere"), home.join("1-3.json")).unwrap();
        let done = clean_in(&home).unwrap();
        assert_eq!(done.len(), 3, "{done:?}");
        assert!(done.iter().all(|d| d.starts_with("forgot ")), "{done:?}");
        assert!(precious.exists());
        dead(&home, "1-4.json", &Entry::Folder("precious".into()));
        let error = clean_in(&home).unwrap_err().to_string();
        assert!(error.contains("claims `precious`"), "{error}");
        assert!(home.join("1-4.json").exists());
    }

    #[test]
    fn regression_a_claim_has_its_full_path() {
        let home = tempfile::tempdir().unwrap();
        let claim = Claim::write_in(home.path(), Entry::Unfinished("results/x".into())).unwrap();
        let written = fs::read(&claim.file).unwrap();
        let Entry::Unfinished(path) = serde_json::from_slice(&written).unwrap() else { panic!() };
        assert_eq!(path, std::env::current_dir().unwrap().join("results/x"));
    }

    #[test]
    fn only_what_the_dead_have_claimed_goes() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let home = at("journal");
        fs::create_dir(&home).unwrap();
        for name in ["limosa-run-1", "limosa-run-2", "limosa-run-3", "results"] {
            fs::create_dir_all(at(name).join("deep")).unwrap();
            fs::write(at(name).join("deep/.unfinished-1"), "x").unwrap();
            fs::write(at(name).join("deep/kept"), "x").unwrap();
        }
        let living = Claim::write_in(&home, Entry::Folder(at("limosa-run-1"))).unwrap();
        dead(&home, "4194305-0.json", &Entry::Folder(at("limosa-run-2")));
        dead(&home, "4194305-1.json", &Entry::Unfinished(at("results")));
        fs::write(home.join("4194305-2.json"), "{\"Fold").unwrap();
        let sleeper = || {
            let sleeper = Command::new("sleep").arg("600").current_dir(at("limosa-run-2")).spawn();
            sleeper.unwrap()
        };
        let (mut ours, mut foreign) = (sleeper(), Command::new("sleep").arg("60").spawn().unwrap());
        let done = clean_in(&home).unwrap();
        assert!(done.contains(&format!("removed {}", at("limosa-run-2").display())), "{done:?}");
        assert!(!at("limosa-run-2").exists());
        assert!(at("limosa-run-1/deep/.unfinished-1").exists(), "its process lives");
        assert!(at("limosa-run-3/deep/.unfinished-1").exists(), "a name alone is no claim");
        assert!(at("results/deep/kept").exists() && !at("results/deep/.unfinished-1").exists());
        assert!(!ours.wait().unwrap().success(), "it worked in the folder");
        assert!(foreign.try_wait().unwrap().is_none(), "it did not");
        foreign.kill().unwrap();
        foreign.wait().unwrap();
        assert_eq!(fs::read_dir(&home).unwrap().count(), 2, "the lock and the living claim");
        assert!(clean_in(&home).unwrap().is_empty());
        drop(living);
        assert!(home.join("lock").exists() && at("limosa-run-1").exists());
    }

    #[test]
    fn a_claim_ends_with_its_folder_and_not_before() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("x");
        let claim = Claim::write_in(place.path(), Entry::Folder(folder.clone())).unwrap();
        let file = claim.file.clone();
        fs::create_dir(&folder).unwrap();
        drop(claim);
        assert!(file.exists(), "the folder is still there");
        // Another test's child that is not yet another program may hold the lock, too, for a moment.
        let mut done = clean_in(place.path()).unwrap();
        while done.is_empty() {
            sleep(PATIENCE);
            done = clean_in(place.path()).unwrap();
        }
        assert_eq!(done, [format!("removed {}", folder.display())]);
        assert!(!file.exists() && !folder.exists());
    }

    #[test]
    fn a_work_folder_goes_with_its_owner() {
        let folder = WorkFolder::new("test").unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("x"), "x").unwrap();
        let mut inside = Command::new("true");
        assert!(inside.current_dir(&path).stdout(Stdio::null()).status().unwrap().success());
        drop(folder);
        assert!(!path.exists());
    }
}
