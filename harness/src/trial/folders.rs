//! Where the files of a trial are while it runs, and where they stay.
//!
//! While it runs they are on its desk, a folder of the work folder; in the end those of its nodes are
//! copied into its folder among the results, and the desk goes. Every name of the experiment's that
//! becomes a part of a path does so here, and nothing is made, copied or removed outside of the two
//! ([`beneath`]).

use anyhow::{Context, Result};
use limosa_record::{beneath, dir::UNFINISHED, fault};
use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Folder of all images that are made, on the desk.
const IMAGES: &str = "images";

/// Folder of all images that came through the network, on the desk.
const ARRIVED: &str = "arrived";

/// Folder of CRIU's logs, among the results.
const LOGS: &str = "criu";

/// The two folders of a trial.
#[derive(Debug, Clone)]
pub struct Folders {
    work: PathBuf,
    desk: PathBuf,
    kept: PathBuf,
}

impl Folders {
    /// Those of a repetition of a variant, with its desk in `work` and its results in `kept`.
    ///
    /// # Errors
    /// When the variant's name is no part of a path.
    pub fn new(work: &Path, kept: &Path, variant: &str, repetition: u32) -> io::Result<Self> {
        let desk = beneath::child(work, &format!("{variant}-{repetition}"))?;
        Ok(Self { work: work.into(), desk, kept: kept.into() })
    }

    /// Where nodes work.
    pub fn desk(&self) -> &Path {
        &self.desk
    }

    /// Where a node works.
    ///
    /// # Errors
    /// When its name is no part of a path.
    pub fn node(&self, name: &str) -> io::Result<PathBuf> {
        beneath::child(&self.desk, name)
    }

    /// Where a node's files stay.
    ///
    /// # Errors
    /// When its name is no part of a path.
    pub fn kept(&self, name: &str) -> io::Result<PathBuf> {
        beneath::child(&self.kept, name)
    }

    /// Where images of this name are made.
    ///
    /// # Errors
    /// When the name is no part of a path, or the folder of all images cannot be made.
    pub fn images(&self, name: &str) -> io::Result<PathBuf> {
        self.of_images(IMAGES, name)
    }

    /// Where images of this name arrive.
    ///
    /// # Errors
    /// As [`Folders::images`].
    pub fn arrived(&self, name: &str) -> io::Result<PathBuf> {
        self.of_images(ARRIVED, name)
    }

    fn of_images(&self, all: &str, name: &str) -> io::Result<PathBuf> {
        let all = self.desk.join(all);
        let images = beneath::child(&all, name)?;
        beneath::create_dir_all(&self.work, &all)?;
        Ok(images)
    }

    /// The folder for CRIU's logs of these images, which is made.
    ///
    /// # Errors
    /// When the name is no part of a path, or the folder cannot be made.
    pub fn logs(&self, images: &str) -> io::Result<PathBuf> {
        let logs = beneath::child(&self.kept.join(LOGS), images)?;
        beneath::create_dir_all(&self.kept, &logs)?;
        Ok(logs)
    }

    /// The file for what is captured in a place.
    ///
    /// # Errors
    /// When its name is no part of a path.
    pub fn capture(&self, place: &str) -> io::Result<PathBuf> {
        beneath::child(&self.kept, &format!("{place}.pcap"))
    }

    /// Removes images, which are full of secrets; there may be none.
    ///
    /// # Errors
    /// When they are not on the desk, or cannot be removed.
    pub fn remove(&self, images: &Path) -> Result<()> {
        missing_is_fine(beneath::remove_dir_all(&self.desk, images)).context("clear up")
    }

    /// Copies images to where they stay, for nobody else to read.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn keep_images(&self, images: &Path, logs: &Path) -> Result<()> {
        let kept = beneath::child(logs, IMAGES)?;
        beneath::create_dir_all(&self.kept, &kept)?;
        fs::set_permissions(&kept, Permissions::from_mode(0o700))
            .with_context(|| format!("protect {}", kept.display()))?;
        beneath::copy_folder((&self.desk, images), (&self.kept, &kept), &|_| Ok(true))?;
        Ok(())
    }

    /// Copies what a node left to where it stays, but for half a file of one that was killed while it
    /// wrote. It may have left nothing.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn keep(&self, node: &str) -> Result<()> {
        let (from, to) = (self.node(node)?, self.kept(node)?);
        // The desk is the nodes' own: one that is a program may have made a link of its folder.
        if !from.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        let whole = |name: &OsStr| {
            let name = name.to_string_lossy();
            if name.starts_with(UNFINISHED) {
                return Ok(false);
            }
            fault::here(format_args!("write/{name}"))?;
            Ok(true)
        };
        beneath::copy_folder((&self.desk, &from), (&self.kept, &to), &whole)
            .with_context(|| format!("keep the files of node `{node}`"))
    }

    /// Removes the desk with all that is left on it; there may be none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self) -> Result<()> {
        missing_is_fine(beneath::remove_dir_all(&self.work, &self.desk)).context("clear up")
    }
}

fn missing_is_fine(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|e| match e.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_half_a_file_of_a_node_that_was_killed_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (work, kept) = (folder.path().join("work"), folder.path().join("kept"));
        fs::create_dir(&kept).unwrap();
        let folders = Folders::new(&work, &kept, "v", 1).unwrap();
        let from = folders.node("server").unwrap();
        fs::create_dir_all(from.join("in")).unwrap();
        for name in ["a", "in/b", "in/.unfinished-1rqKYB"] {
            fs::write(from.join(name), name).unwrap();
        }
        folders.keep("server").unwrap();
        folders.keep("nobody").unwrap();
        let to = kept.join("server");
        assert!(to.join("a").exists() && to.join("in/b").exists());
        assert_eq!(fs::read_dir(to.join("in")).unwrap().count(), 1);
        folders.clear().unwrap();
        assert!(!folders.desk().exists());
        folders.clear().unwrap();
    }

    #[test]
    fn regression_no_name_leads_out_of_a_trial() {
        let folder = tempfile::tempdir().unwrap();
        let (work, kept) = (folder.path().join("work"), folder.path().join("kept"));
        let precious = folder.path().join("precious");
        for made in [&work, &kept, &precious] {
            fs::create_dir(made).unwrap();
        }
        fs::write(precious.join("thesis.tex"), "x").unwrap();
        let folders = Folders::new(&work, &kept, "v", 1).unwrap();
        for name in [precious.to_str().unwrap(), "..", ".", "", "a/b", "../../precious"] {
            assert!(Folders::new(&work, &kept, &format!("{name}/"), 1).is_err(), "{name}");
            assert!(folders.images(name).is_err() && folders.arrived(name).is_err(), "{name}");
            assert!(folders.logs(name).is_err() && folders.node(name).is_err(), "{name}");
            assert!(folders.keep(name).is_err() && folders.kept(name).is_err(), "{name}");
        }
        assert!(folders.remove(&precious).is_err());
        assert!(folders.remove(&folders.desk().join("../../precious")).is_err());
        assert_eq!(fs::read_to_string(precious.join("thesis.tex")).unwrap(), "x");
    }
}
