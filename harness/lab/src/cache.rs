//! The folder where everything that a setup makes is kept (the guest's image, a CRIU), and the lock that lets one setup at a time change it.
//!
//! Input: the environment. Output: a path. Under sudo the folder is the invoking user's, and stays theirs.

use crate::sys::which::find_tool;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{
    owner::{self, Owner},
    private,
};
use anyhow::{Context, Result};
use limosa_record::beneath;

/// The cache folder and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Folder; may not exist yet.
    pub path: PathBuf,
    /// User and group to give new files to, under sudo.
    owner: Option<Owner>,
}

impl Cache {
    /// Finds the folder.
    ///
    /// # Errors
    /// When neither `XDG_CACHE_HOME` nor `HOME` is set.
    pub fn find() -> Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let passwd = if is_root && std::env::var_os("SUDO_USER").is_some() {
            fs::read_to_string("/etc/passwd").unwrap_or_default()
        } else {
            String::new()
        };
        Self::from_env(|name| std::env::var(name).ok().filter(|text| !text.is_empty()), &passwd)
    }

    fn from_env(env: impl Fn(&str) -> Option<String>, passwd: &str) -> Result<Self> {
        if let Some((home, owner)) = env("SUDO_USER").and_then(|name| account(passwd, &name)) {
            return Ok(Self { path: home.join(".cache/limosa"), owner: Some(owner) });
        }
        let base = env("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| env("HOME").map(|home| Path::new(&home).join(".cache")))
            .context("no place for what a setup makes (hint: set XDG_CACHE_HOME or HOME)")?;
        Ok(Self { path: base.join("limosa"), owner: None })
    }

    /// The script that starts a fetched program: each has a folder of its own.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let whole =
            |folder: &fs::DirEntry| !folder.file_name().to_string_lossy().starts_with(UNFINISHED);
        let folders = fs::read_dir(&self.path).ok()?.flatten().filter(whole);
        let scripts = folders.map(|folder| folder.path().join(name));
        scripts.filter(|script| !name.contains('/') && script.is_file()).min()
    }

    /// Makes the folder and waits until no other setup holds it. The lock ends with the returned file.
    pub fn lock(&self) -> Result<File> {
        self.make()?;
        let path = self.path.join("lock");
        let file = private::lock_file(&path).context("make a lock")?;
        owner::made(&path);
        private::lock(&file, &path).with_context(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    /// Makes the folder if there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> Result<()> {
        owner::make_dir_all(&self.path).with_context(|| format!("make {}", self.path.display()))
    }

    /// Gives what root has made in the folder to the user who called sudo.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn give_back(&self) -> Result<()> {
        let Some(owner) = self.owner else {
            return Ok(());
        };
        owner::give(&self.path, true, owner)
            .with_context(|| format!("give {} to user {}", self.path.display(), owner.user))
    }
}

/// Finds a program by its name or absolute path: in `PATH`, among the system's programs, or among those
/// that a set-up has fetched into the cache.
pub fn find_program(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    find_tool(program).or_else(|| Cache::find().ok()?.program(program))
}

/// Name of a build folder begins with this.
pub const UNFINISHED: &str = "building-";

/// Removes what interrupted builds left; nobody else builds while the lock is held.
pub fn remove_unfinished(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache).context("list the cache")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            beneath::remove_dir_all(cache, &entry.path()).context("remove an unfinished build")?;
        }
    }
    Ok(())
}

/// Home folder and identity of `name` in the text of /etc/passwd.
fn account(passwd: &str, name: &str) -> Option<(PathBuf, Owner)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let fields: Vec<_> = line.split(':').collect();
    let (user, group) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
    let owner = Owner { user, group };
    Some((PathBuf::from(fields.get(5)?), owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1001:Ada:/home/ada:/bin/sh\n";

    #[test]
    fn sudo_leads_to_the_invoking_user() {
        let env = |name: &str| (name == "SUDO_USER").then(|| "ada".to_owned());
        let cache = Cache::from_env(env, PASSWD).expect("the account exists");
        assert_eq!(cache.path, Path::new("/home/ada/.cache/limosa"));
        assert_eq!(cache.owner, Some(Owner { user: 1000, group: 1001 }));
    }

    #[test]
    fn xdg_goes_before_home() {
        let env = |name: &str| match name {
            "XDG_CACHE_HOME" => Some("/x".to_owned()),
            "HOME" => Some("/h".to_owned()),
            _ => None,
        };
        let cache = Cache::from_env(env, "").expect("both are set");
        assert_eq!(cache.path, Path::new("/x/limosa"));
        assert!(Cache::from_env(|_| None, "").is_err());
    }
}
