//! What a client that is a command has saved: its size and its hash. The file itself goes.

use super::{Finished, Host};
use crate::trial::payload;
use anyhow::{Context, Result, bail};
use std::{fs, io::ErrorKind, path::Path};

/// A body as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saved {
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// Whether it is what the server had.
    pub(super) matches: bool,
}

impl Host {
    /// Takes in what the client has saved; nothing when it has not, or is not asked to.
    pub(super) fn take_saved(&self, finished: &mut Finished<'_>) -> Result<()> {
        let mut commands = self.plan.commands();
        let saves = commands.find_map(|(node, command)| Some((node, command.saves.as_ref()?)));
        let Some((client, name)) = saves else { return Ok(()) };
        let folder = self.folders(finished.trial, finished.folder)?.node(client)?;
        let file = limosa_record::beneath::child(&folder, name)?;
        finished.saved = take(&file, self.body_sha256.as_deref())
            .with_context(|| format!("look at what `{client}` has saved as `{name}`"))?;
        Ok(())
    }
}

/// Reads a file and removes it.
fn take(file: &Path, sha256: Option<&str>) -> Result<Option<Saved>> {
    let metadata = match fs::symlink_metadata(file) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    if !metadata.is_file() {
        bail!("it is not a file");
    }
    let matches = sha256 == Some(&*payload::sha256(file)?);
    fs::remove_file(file)?;
    Ok(Some(Saved { bytes: metadata.len(), matches }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_held_against_what_was_sent_and_nothing_else_is_a_body() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body");
        assert_eq!(take(&file, None).unwrap(), None);
        fs::write(&file, "abc").unwrap();
        let sha256 = payload::sha256(&file).unwrap();
        assert_eq!(take(&file, Some(&sha256)).unwrap(), Some(Saved { bytes: 3, matches: true }));
        assert!(!file.exists());
        fs::write(&file, "abd").unwrap();
        assert!(!take(&file, Some(&sha256)).unwrap().unwrap().matches);
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert!(take(&file, Some(&sha256)).is_err());
    }
}
