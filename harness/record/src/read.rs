//! Reading files that somebody else named: plain files of a size, and nothing that waits, never ends,
//! or is the kernel's.

use rustix::fs::{FsWord, OFlags, statfs};
use std::{
    env,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// File systems whose files are the kernel's: proc, sysfs, debugfs, tracefs, securityfs, cgroup,
/// cgroup2, configfs, bpf, efivarfs. Some look plain and never end, some change what is read.
const KERNELS: [FsWord; 10] = [
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x0027_e0eb,
    0x6367_7270,
    0x6265_6570,
    0xcafe_4a11,
    0xde5e_81e4,
];

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether only root may read it, so that messages may not quote it.
    pub private: bool,
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, is larger, or is no plain file.
pub fn content(path: &Path, limit: u64) -> io::Result<Content> {
    let (file, found) = open(path)?;
    let mut bytes = Vec::new();
    if found.len() <= limit {
        // It may grow meanwhile.
        file.take(limit + 1).read_to_end(&mut bytes)?;
    }
    if found.len() > limit || bytes.len() as u64 > limit {
        let why = match limit >> 20 {
            0 => format!("is larger than {limit} bytes"),
            mib => format!("is larger than {mib} MiB"),
        };
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(Content { bytes, private: is_private(&found) })
}

/// The bytes of a file of at most `limit` bytes.
///
/// # Errors
/// As [`content`].
pub fn plain_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    Ok(content(path, limit)?.bytes)
}

/// Opens a plain file for reading.
///
/// # Errors
/// When it cannot be opened or is no plain file.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // Looked at first, because opening a device may do something, and then again, because it may be
    // another by now; that one is not waited for.
    check(&fs::metadata(path)?)?;
    if KERNELS.contains(&statfs(path)?.f_type) {
        return Err(not_plain("is one of the kernel's, no plain file"));
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    check(&found)?;
    Ok((file, found))
}

fn check(found: &Metadata) -> io::Result<()> {
    match found.file_type() {
        kind if kind.is_dir() => {
            Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder, not a file"))
        }
        kind if !kind.is_file() => Err(not_plain("is no plain file")),
        _ => Ok(()),
    }
}

fn not_plain(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Whether this process may read a file only because it is root: what is in it is not for the user
/// who called sudo, nor for others who see the messages.
pub fn is_private(found: &Metadata) -> bool {
    let caller = env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    rustix::process::geteuid().is_root() && found.mode() & 0o004 == 0 && caller != Some(found.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        let why = |path: &Path| content(path, 100).unwrap_err().to_string();
        assert_eq!(why(&pipe), "is no plain file");
        assert_eq!(why(Path::new("/dev/zero")), "is no plain file");
        assert_eq!(why(folder.path()), "is a folder, not a file");
        assert_eq!(why(Path::new("/proc/self/status")), "is one of the kernel's, no plain file");
        assert_eq!(why(Path::new("/proc/kmsg")), "is one of the kernel's, no plain file");
    }

    #[test]
    fn a_file_has_at_most_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, [7; 100]).unwrap();
        assert_eq!(content(&path, 100).unwrap().bytes, [7; 100]);
        assert_eq!(content(&path, 99).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
