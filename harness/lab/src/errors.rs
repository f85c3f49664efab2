//! Classes of errors that are no fault of Limosa's own. Each has an exit code; whatever has none of
//! these classes is a bug.

use std::{io, path::Path};

/// The command line asks for what is not there, or for what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The machine lacks something, or somebody else is using it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotReady(pub String);

/// What a file system answers when a path that the user gave is at fault: a folder that may not be
/// written, a file where a folder should be, a loop of links, a name that is too long.
pub fn of_path(what: &str, path: &Path, error: io::Error, hint: &str) -> anyhow::Error {
    use io::ErrorKind::{
        AlreadyExists, InvalidFilename, NotADirectory, NotFound, PermissionDenied,
        ReadOnlyFilesystem,
    };
    const LOOP: i32 = 40; // ELOOP, errno(3)
    let is_users = matches!(
        error.kind(),
        AlreadyExists
            | InvalidFilename
            | NotADirectory
            | NotFound
            | PermissionDenied
            | ReadOnlyFilesystem
    ) || error.raw_os_error() == Some(LOOP);
    match is_users {
        true => Usage(format!("{what} {}: {error}\n  hint: {hint}", path.display())).into(),
        false => anyhow::Error::new(error).context(format!("{what} {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_the_user_gave_is_no_bug_and_a_full_disk_stays_one_of_its_kind() {
        let path = Path::new("/proc/x");
        let error = of_path("make", path, io::Error::from_raw_os_error(13), "another folder");
        assert!(error.is::<Usage>() && error.to_string().ends_with("hint: another folder"));
        assert!(of_path("make", path, io::Error::from_raw_os_error(40), "").is::<Usage>());
        let full = of_path("make", path, io::Error::from_raw_os_error(28), "another folder");
        assert!(!full.is::<Usage>() && full.root_cause().is::<io::Error>());
    }
}
