//! Reads files that others may have put in the place of ours.
//!
//! Output: the bytes of a plain file of a size that makes sense, or why not. The path is looked up once,
//! so that what was judged is what is read, and nothing is waited for: neither a pipe's other end nor
//! a file of the kernel that has nothing to say yet.

use rustix::fs::{Mode, OFlags};
use std::{fs::File, io, io::Read, path::Path};

/// The bytes of a plain file of at most `most` bytes.
///
/// # Errors
/// That it cannot be opened or read, or is none, as a lowercase fragment with the kind of error.
pub fn plain_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let about = file.metadata()?;
    if about.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder, not a file"));
    }
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no plain file"));
    }
    let mut bytes = Vec::new();
    if about.len() <= most {
        // Some files of the kernel say that they are empty and are not.
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    match about.len().max(bytes.len() as u64) {
        length if length > most => {
            let message = format!("is larger than {} MiB", most >> 20);
            Err(io::Error::new(io::ErrorKind::FileTooLarge, message))
        }
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_plain_files_of_a_sensible_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "12345").unwrap();
        assert_eq!(plain_file(&at("a"), 5).unwrap(), b"12345");
        assert_eq!(plain_file(&at("a"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(plain_file(&at("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(plain_file(folder.path(), 4).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), mode).unwrap();
        for path in [&at("pipe"), Path::new("/dev/zero")] {
            assert_eq!(plain_file(path, 1 << 20).unwrap_err().to_string(), "is no plain file");
        }
        // It says that it has no bytes.
        assert!(!plain_file(Path::new("/proc/self/status"), 1 << 20).unwrap().is_empty());
        assert!(plain_file(Path::new("/proc/self/status"), 10).is_err());
    }
}
