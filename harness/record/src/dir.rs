//! The names of everything in a run directory, and writing files so that nobody sees half of one.

use crate::{beneath, fault};
use rustix::fs::OFlags;
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockWriteGuard, TryLockError},
    thread::sleep,
    time::Duration,
};

/// Names of files that are being written begin with this; those of killed processes are litter.
pub const UNFINISHED: &str = ".unfinished-";

/// One run: `results/<experiment>/<UTC stamp>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// A run directory that may or may not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// `manifest.json`: versions, machine, seeds, settings.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    /// `experiment.yaml`: the experiment as the user wrote it.
    pub fn experiment(&self) -> PathBuf {
        self.0.join("experiment.yaml")
    }

    /// `topology.yaml`: the topology as the user wrote it.
    pub fn topology(&self) -> PathBuf {
        self.0.join("topology.yaml")
    }

    /// `plan.json`: everything resolved.
    pub fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// `trials.csv`: one row per trial.
    pub fn trials(&self) -> PathBuf {
        self.0.join("trials.csv")
    }

    /// `throughput.csv`: one row per trial, path and interval.
    pub fn throughput(&self) -> PathBuf {
        self.0.join("throughput.csv")
    }

    /// `requests.csv`: one row per request.
    pub fn requests(&self) -> PathBuf {
        self.0.join("requests.csv")
    }

    /// `clients.csv`: one row per trial and client, where there are several.
    pub fn clients(&self) -> PathBuf {
        self.0.join("clients.csv")
    }

    /// `events.csv`: what happened when.
    pub fn events(&self) -> PathBuf {
        self.0.join("events.csv")
    }

    /// `summary.csv`: statistics per variant and metric.
    pub fn summary(&self) -> PathBuf {
        self.0.join("summary.csv")
    }

    /// `reference.yaml`: published figures to compare with, as the experiment's author wrote them.
    pub fn reference(&self) -> PathBuf {
        self.0.join("reference.yaml")
    }

    /// `model.json`: the parameters of the model of response times, per variant.
    pub fn model(&self) -> PathBuf {
        self.0.join("model.json")
    }

    /// `model.csv`: measured response times beside the model's.
    pub fn model_table(&self) -> PathBuf {
        self.0.join("model.csv")
    }

    /// `security.csv`: what attacks on the nodes achieved.
    pub fn security_table(&self) -> PathBuf {
        self.0.join("security.csv")
    }

    /// `comparison.csv`: this run beside others.
    pub fn comparison_table(&self) -> PathBuf {
        self.0.join("comparison.csv")
    }

    /// `comparison.html`: the same as a page.
    pub fn comparison(&self) -> PathBuf {
        self.0.join("comparison.html")
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// `measured.md`: the results as a dated page.
    pub fn measured(&self) -> PathBuf {
        self.0.join("measured.md")
    }

    /// `figures/`.
    pub fn figures(&self) -> PathBuf {
        self.0.join("figures")
    }

    /// `harness.log`: what the harness said.
    pub fn log(&self) -> PathBuf {
        self.0.join("harness.log")
    }

    /// `trials/<variant>/<repetition>/` for the first attempt, `…/<repetition>.2/` for the second.
    pub fn attempt(&self, variant: &str, repetition: u32, attempt: u32) -> PathBuf {
        let name =
            if attempt <= 1 { repetition.to_string() } else { format!("{repetition}.{attempt}") };
        self.0.join("trials").join(variant).join(name)
    }

    /// Makes the folder of the first attempt that does not exist yet.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new_attempt(&self, variant: &str, repetition: u32) -> io::Result<PathBuf> {
        let trials = beneath::child(&self.0.join("trials"), variant)?;
        beneath::create_dir_all(&self.0, &trials)?;
        for attempt in 1.. {
            let path = self.attempt(variant, repetition, attempt);
            match fs::create_dir(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|()| path),
            }
        }
        unreachable!("attempts are counted upwards without end")
    }
}

/// Writes a whole file or nothing: a temporary file beside it is renamed over it.
///
/// # Errors
/// When the folder cannot be written; names the file.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    write_with(path, content, 0o644)
}

/// [`write_whole`] for what nobody else may read.
///
/// # Errors
/// When the folder cannot be written; names the file.
pub fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    write_with(path, content, 0o600)
}

fn write_with(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let attempt = || {
        fault::here(format_args!("write/{}", name(path)))?;
        let _whole = WRITING.read().unwrap_or_else(PoisonError::into_inner);
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        // Else a machine that loses its power may have the new name without the content.
        file.as_file().sync_data()?;
        file.persist(path)?;
        Ok(())
    };
    attempt()
        .map_err(|e: io::Error| io::Error::new(e.kind(), format!("write {}: {e}", path.display())))
}

/// Held while a file is written.
static WRITING: RwLock<()> = RwLock::new(());

/// Waits until what is just being written is whole, and lets nothing else be written while the result
/// lives: for a process that is about to end. A disk that does not answer is not waited for.
pub fn hold_writes() -> Option<RwLockWriteGuard<'static, ()>> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match WRITING.try_write() {
            Ok(held) => return Some(held),
            Err(TryLockError::Poisoned(held)) => return Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(10)),
        }
    }
    None
}

/// Makes a file or empties the one that is there, which has to be a plain one without another name:
/// no link is followed, so that nobody who may write in its folder has something else written to.
///
/// # Errors
/// When it cannot be made or is something else; names the file.
pub fn create(path: &Path) -> io::Result<File> {
    let made = open_own(fs::OpenOptions::new().write(true).create(true), path, 0o666);
    let emptied = made.and_then(|file| file.set_len(0).map(|()| file));
    emptied.map_err(|e| io::Error::new(e.kind(), format!("make {}: {e}", path.display())))
}

/// Opens a file for appending, or makes it with `mode`; otherwise like [`create`].
///
/// # Errors
/// When it cannot be opened or is something else; does not name the file.
pub fn append(path: &Path, mode: u32) -> io::Result<File> {
    open_own(fs::OpenOptions::new().append(true).create(true), path, mode)
}

fn open_own(options: &mut fs::OpenOptions, path: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.mode(mode).custom_flags(flags.bits().cast_signed()).open(path);
    let file = file.map_err(|e| match e.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
            io::Error::new(io::ErrorKind::InvalidInput, "is a link, which is not followed")
        }
        _ => e,
    })?;
    beneath::check_own(&file)?;
    Ok(file)
}

/// The last part of a path, for messages and points of faults.
pub fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Removes what killed processes left of [`write_whole`] and [`point_latest`], in a folder and below.
/// Only for a folder that nobody writes to.
///
/// # Errors
/// When the folder cannot be listed or changed.
pub fn remove_unfinished(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed.extend(remove_unfinished(&entry.path())?);
        } else if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

/// Points `<folder of the run>/latest` at the run.
///
/// # Errors
/// When the link cannot be made.
pub fn point_latest(run: &RunDir) -> io::Result<()> {
    let (Some(parent), Some(name)) = (run.0.parent(), run.0.file_name()) else { return Ok(()) };
    fault::here("write/latest")?;
    // Inside the run, where it is found when this process is killed now.
    let next = run.0.join(format!("{UNFINISHED}latest"));
    let _ = fs::remove_file(&next);
    symlink(name, &next)?;
    fs::rename(&next, parent.join("latest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::new(folder.path());
        let first = run.new_attempt("quic", 1).unwrap();
        let second = run.new_attempt("quic", 1).unwrap();
        assert!(first.ends_with("trials/quic/1") && second.ends_with("trials/quic/1.2"));
    }

    #[test]
    fn regression_no_link_is_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "kept").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        fs::hard_link(at("victim"), at("twin")).unwrap();
        for name in ["link", "twin"] {
            assert!(create(&at(name)).is_err() && append(&at(name), 0o644).is_err(), "{name}");
        }
        write_whole(&at("link"), b"new").unwrap();
        assert!(at("link").symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "kept");
        create(&at("own")).unwrap().write_all(b"1").unwrap();
        append(&at("own"), 0o644).unwrap().write_all(b"2").unwrap();
        assert_eq!(fs::read_to_string(at("own")).unwrap(), "12");
        assert_eq!(fs::read(at("own")).unwrap().len(), 2);
        create(&at("own")).unwrap();
        assert_eq!(fs::read(at("own")).unwrap().len(), 0);
    }

    #[test]
    fn regression_attempts_do_not_follow_a_link() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), folder.path().join("trials")).unwrap();
        let run = RunDir::new(folder.path());
        assert!(run.new_attempt("quic", 1).is_err() && run.new_attempt("../quic", 1).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_unfinished_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("trials/quic/1");
        fs::create_dir_all(&deep).unwrap();
        write_whole(&deep.join("kept"), b"x").unwrap();
        fs::write(deep.join(format!("{UNFINISHED}1")), b"x").unwrap();
        let removed = remove_unfinished(folder.path()).unwrap();
        assert_eq!(removed, [deep.join(format!("{UNFINISHED}1"))]);
        assert!(deep.join("kept").exists() && !removed[0].exists());
    }

    #[test]
    fn latest_moves_on() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let run = RunDir::new(folder.path().join(name));
            fs::create_dir(run.root()).unwrap();
            point_latest(&run).unwrap();
            assert_eq!(fs::read_link(folder.path().join("latest")).unwrap(), Path::new(name));
        }
    }
}
