//! Whose the files are that root makes: under sudo they are for the user who called it.
//!
//! Input: what was made ([`make_dir_all`], [`made`]). Output: at the end, however the program ends, it is
//! the user's ([`give_back`]). Everything goes by descriptors, no link is followed, and what is not
//! root's own, or has another name elsewhere (a hard link), stays as it is: somebody else may write to
//! the same folders meanwhile.

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, openat,
};
use std::{
    env,
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
}

impl Owner {
    /// The user who called sudo, when this is root by it.
    pub fn of_sudo() -> Option<Self> {
        let id = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
        let is_root = rustix::process::geteuid().is_root();
        is_root.then_some(Self { user: id("SUDO_UID")?, group: id("SUDO_GID")? })
    }
}

/// Something that was made, and whether all below it was, too.
type Made = (PathBuf, bool);

/// What this process has made and not given yet.
static MADE: Mutex<Vec<Made>> = Mutex::new(Vec::new());

fn note(path: &Path, all: bool) {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    // By its full path, because it is given when the program may be elsewhere.
    made.push((std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), all));
}

/// Everything at `path` and below it is this run's.
pub fn made(path: &Path) {
    note(path, true);
}

/// A link at `path` is this run's.
pub fn made_link(path: &Path) {
    note(path, false);
}

/// Makes a folder and all on the way to it, and notes which of these are new.
///
/// # Errors
/// When one cannot be made.
pub fn make_dir_all(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir_all(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => note(path, false),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Gives the user who called sudo what this process has made. What cannot be given stays root's.
pub fn give_back() {
    let made = std::mem::take(&mut *MADE.lock().unwrap_or_else(PoisonError::into_inner));
    let Some(owner) = Owner::of_sudo() else { return };
    // What was made last lies deepest.
    for (path, all) in made.iter().rev() {
        if let Err(e) = give(path, *all, owner) {
            tracing::info!("{} stays root's: {e}", path.display());
        }
    }
}

/// Gives `path`, and if `all` is set everything below it, to a user.
///
/// # Errors
/// When it cannot be opened or the kernel refuses.
pub fn give(path: &Path, all: bool, owner: Owner) -> io::Result<()> {
    give_entry(CWD, path.as_os_str(), all, None, owner)
}

fn give_entry(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    all: bool,
    device: Option<u64>,
    owner: Owner,
) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = openat(folder, name, OFlags::PATH | flags, Mode::empty())?;
    let found = fstat(&entry)?;
    let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    if device.is_some_and(|device| device != found.st_dev) {
        return Ok(());
    }
    if is_folder && all {
        // From the descriptor, so that it is the same folder.
        let inside =
            openat(&entry, ".", OFlags::RDONLY | OFlags::DIRECTORY | flags, Mode::empty())?;
        for inner in Dir::read_from(&inside)? {
            let inner = inner?;
            let name = OsStr::from_bytes(inner.file_name().to_bytes());
            if name != "." && name != ".." {
                give_entry(inside.as_fd(), name, all, Some(found.st_dev), owner)?;
            }
        }
    }
    if is_ours(&found, is_folder) {
        let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
        chownat(&entry, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// Root has made it, and it is not also somewhere else.
fn is_ours(found: &Stat, is_folder: bool) -> bool {
    found.st_uid == 0 && (is_folder || found.st_nlink == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_there_are_not_noted() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("a/b");
        make_dir_all(&deep).unwrap();
        make_dir_all(&deep).unwrap();
        let made = MADE.lock().unwrap();
        let ours: Vec<_> = made.iter().filter(|(p, _)| p.starts_with(place.path())).collect();
        assert_eq!(ours.len(), 2, "{ours:?}");
    }
}
