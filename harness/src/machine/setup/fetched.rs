//! A program of Debian in the cache, which runs with its own libraries.
//!
//! Input: which packages, and which program of them. Output: a folder in the cache with a script that starts it. Nothing is
//! installed on the machine: no service starts, and nothing of the machine's own packages is touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::machine::debian::{self, LIBRARIES, LOADER, Packages};
use crate::machine::steps::Log;
use limosa_lab::cache::{Cache, UNFINISHED, remove_unfinished};

/// Reading matter, and what programs' libraries bring for other programs.
const EXCLUDED: &[&str] = &[
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/lib/x86_64-linux-gnu/gconv",
];

/// What is fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Name of the script, and of the log.
    pub(super) name: &'static str,
    /// Name of the folder in the cache.
    pub(super) home: &'static str,
    /// What brings it.
    pub(super) packages: Packages,
    /// Where it is in them, below the root.
    pub(super) program: &'static str,
}

impl Fetched {
    /// The script, if it has been fetched.
    pub(super) fn find(&self, cache: &Cache) -> Option<PathBuf> {
        Some(cache.path.join(self.home).join(self.name)).filter(|script| script.is_file())
    }

    /// Fetches it, and takes the place of what was fetched before. The caller holds the cache's lock.
    ///
    /// # Errors
    /// When the packages cannot be fetched or unpacked; the error names the log.
    pub(super) fn fetch(&self, cache: &Cache, packages: &Packages) -> Result<()> {
        let Self { name, home, packages: _, program } = self;
        ensure!(std::env::consts::ARCH == "x86_64", "there is one for x86_64 only");
        remove_unfinished(&cache.path)?;
        let log = Log::create(cache.path.join(format!("{name}.log")))?;
        let work = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&cache.path)
            .with_context(|| format!("make a folder for {name}"))?;
        let debs = debian::fetch(packages, &work.path().join("apt"), &log)?;
        let root = work.path().join("root");
        debian::unpack(&debs, EXCLUDED, &root, &log)?;
        // It has to become the program itself, whose process is the child of the script's parent.
        let script = format!(
            "#!/bin/sh\nroot=${{0%/*}}\nexec \"$root/{LOADER}\" --library-path \"$root/{LIBRARIES}\" \"$root/{program}\" \"$@\"\n"
        );
        let start = root.join(name);
        fs::write(&start, script)
            .with_context(|| format!("write the script that starts {name}"))?;
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
        let target = cache.path.join(home);
        if target.exists() {
            limosa_record::beneath::remove_dir_all(&cache.path, &target)?;
        }
        fs::rename(&root, &target).with_context(|| format!("put {name} at {}", target.display()))
    }
}
