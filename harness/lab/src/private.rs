//! Folders and locks that are nobody else's, whatever the umask was when they were made.

use rustix::fs::{Mode, OFlags, fchmod, fstat, open};
use std::io::Write as _;
use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// A lock that is held for longer is waited for with a word.
const SILENCE: Duration = Duration::from_secs(1);

/// How often a lock is tried before that.
const LOOK: Duration = Duration::from_millis(20);

/// Makes a folder that only this user can look into, or checks and mends the one that is there. The
/// folder it is in may be looked into, but nobody else may change it.
///
/// # Errors
/// When it is another user's, or no folder, or cannot be made.
pub fn folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        mend(parent, 0o022)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    mend(path, 0o077)
}

/// Takes these rights from a folder that is this user's.
fn mend(path: &Path, wrong: u32) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = open(path, flags, Mode::empty()).map_err(|e| named(path, &e.into()))?;
    let found = fstat(&folder)?;
    let user = rustix::process::geteuid().as_raw();
    if found.st_uid != user {
        let why = format!("belongs to user {}, not to user {user}", found.st_uid);
        return Err(named(path, &io::Error::new(io::ErrorKind::PermissionDenied, why)));
    }
    if found.st_mode & wrong != 0 {
        fchmod(&folder, Mode::from_raw_mode(found.st_mode & 0o7777 & !wrong))?;
    }
    Ok(())
}

fn named(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

/// Whether nobody but this user can have written a file.
pub fn is_own(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    let own = found.uid() == rustix::process::geteuid().as_raw();
    Ok(own && found.mode() & 0o022 == 0 && found.is_file() && found.nlink() == 1)
}

/// Opens a lock file, and makes it if there is none.
///
/// # Errors
/// When it is no plain file, or cannot be made.
pub fn lock_file(path: &Path) -> io::Result<File> {
    let file = limosa_record::dir::append(path, 0o600).map_err(|e| named(path, &e))?;
    if file.metadata()?.mode() & 0o077 != 0 {
        fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    }
    Ok(file)
}

/// Locks a file or a folder for this process alone. Whoever has it for longer than a second is named,
/// and then waited for.
///
/// # Errors
/// When the kernel has no locks for it.
pub fn lock(file: &File, path: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if begun.elapsed() < SILENCE => sleep(LOOK),
            Err(TryLockError::WouldBlock) => {
                let (who, what) = (holder(file), path.display());
                let line = format_args!("waiting for {who}, which holds {what}");
                let _ = writeln!(io::stderr(), "{}", limosa_record::text::line(line));
                return file.lock();
            }
        }
    }
}

/// The process that holds a lock on a file, in words.
pub fn holder(file: &File) -> String {
    let found = file.metadata().map(|m| (m.dev(), m.ino()));
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let pid = found.ok().and_then(|(device, inode)| in_table(&table, device, inode));
    let Some(pid) = pid else { return "another process".into() };
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => format!("process {pid}"),
        name => format!("process {pid} ({name})"),
    }
}

/// A line is `1: FLOCK  ADVISORY  WRITE 1234 fd:01:98765 0 EOF` (proc_locks(5)).
fn in_table(table: &str, device: u64, inode: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    table.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == wanted)?;
        // A waiting one has `->` after its number.
        (words.get(1) == Some(&"FLOCK")).then(|| words[at - 1].parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn regression_a_folder_that_others_could_write_is_mended() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("limosa/journal");
        fs::create_dir_all(&path).unwrap();
        for lax in [path.parent().unwrap(), &path] {
            fs::set_permissions(lax, fs::Permissions::from_mode(0o777)).unwrap();
        }
        folder(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o755));
        let link = place.path().join("limosa/link");
        symlink(&path, &link).unwrap();
        assert!(folder(&link).is_err());
        let file = path.join("lock");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!is_own(&File::open(&file).unwrap()).unwrap());
        lock_file(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
        assert!(is_own(&File::open(&file).unwrap()).unwrap());
    }

    #[test]
    fn whoever_holds_a_lock_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (one, other) = (File::open(file.path()).unwrap(), File::open(file.path()).unwrap());
        one.lock().unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        let found = holder(&other);
        let own = format!("process {} (", std::process::id());
        // Some file systems show another device in the table than in stat(2).
        assert!(found.starts_with(&own) || found == "another process", "{found}");
        let line = "7: FLOCK  ADVISORY  WRITE 1234 fd:01:98765 0 EOF\n";
        assert_eq!(in_table(line, rustix::fs::makedev(0xfd, 1), 98765), Some(1234));
        assert_eq!(in_table(line, rustix::fs::makedev(0xfd, 1), 9876), None);
    }
}
