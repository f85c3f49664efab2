//! A lab that stays when the process ends: its namespaces are pinned below `/run/limosa/labs`, and
//! links in user space are held by a [keeper](super::keeper).

use super::{Backend, Carrier, Lab, descriptors, keeper::Kept};
use crate::{
    errors::Usage,
    journal::Claim,
    network::Network,
    private,
    sys::netns::{Netns, unpin},
};
use anyhow::{Context, Result};
use limosa_record::{beneath, dir::write_whole};
use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

const LABS: &str = "/run/limosa/labs";

/// The path of a lab's socket may not be longer than 108 bytes (unix(7)).
const LONGEST_NAME: usize = 64;

/// A lab with a name.
#[derive(Debug)]
pub struct PinnedLab {
    /// The network in the kernel.
    pub lab: Lab,
    /// What it was built from.
    pub network: Network,
}

/// A lab's name becomes a folder.
fn folder(name: &str) -> Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    if !first || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        return Err(Usage(format!(
            "`{name}` cannot be the name of a lab\n  hint: --name NAME, with at most {LONGEST_NAME} letters, digits, `-`, `_` and `.`, and a letter or digit first"
        ))
        .into());
    }
    Ok(beneath::child(Path::new(LABS), name)?)
}

impl PinnedLab {
    /// Builds a network and pins it.
    ///
    /// # Errors
    /// When there is one of this name, or the kernel refuses; then nothing is left.
    pub fn create(name: &str, network: &Network, backend: Backend) -> Result<Self> {
        let home = folder(name)?;
        // Here and not by the keeper, whose errors come as text.
        descriptors::check(network, backend, 1)?;
        private::folder(Path::new(LABS)).context("make the folder of all labs")?;
        let claim = claim(name, &home)?;
        let build = || -> Result<Lab> {
            let text = serde_json::to_vec_pretty(network)?;
            write_whole(&home.join("network.json"), &text)?;
            network.keep_recordings(&home)?;
            if backend == Backend::User {
                return open(network, &home, Some(Kept::start(&home)?));
            }
            let lab = Lab::up(network, 0, Carrier::Kernel)?;
            for (file, netns) in lab.namespaces() {
                netns.pin(&home.join(file))?;
            }
            Ok(lab)
        };
        match build() {
            Ok(lab) => {
                // From here on it is meant to stay; in user space it is its keeper's.
                claim.release();
                Ok(Self { lab, network: network.clone() })
            }
            Err(e) => {
                Self::remove(name)?;
                Err(e)
            }
        }
    }

    /// Opens one that is up.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn open(name: &str) -> Result<Self> {
        let home = folder(name)?;
        let network = network(name, &home)?;
        let lab = open(&network, &home, Kept::find(&home));
        let hint = || format!("the lab is not whole any more\n  hint: limosa down {name}");
        Ok(Self { lab: lab.with_context(hint)?, network })
    }

    /// The namespace of one place of a lab that is up, whatever has become of the others.
    ///
    /// # Errors
    /// When there is no such lab, or no such place in it.
    pub fn place(name: &str, place: &str) -> Result<Netns> {
        let home = folder(name)?;
        let network = network(name, &home)?;
        if !network.places.contains_key(place) {
            let all: Vec<_> = network.places.keys().map(|p| format!("`{p}`")).collect();
            let all = all.join(", ");
            return Err(Usage(format!(
                "the lab `{name}` has no node `{place}`\n  hint: the nodes are {all}"
            ))
            .into());
        }
        let hint = || format!("the lab is not whole any more\n  hint: limosa down {name}");
        Netns::open(&home.join(format!("{place}.netns"))).with_context(hint)
    }

    /// Removes one.
    ///
    /// # Errors
    /// When there is none of this name, or a namespace cannot be unpinned.
    pub fn remove(name: &str) -> Result<()> {
        let home = folder(name)?;
        if !home.is_dir() {
            return Err(unknown(name).into());
        }
        // One that is begun is ended, by whoever cleans up when this process cannot.
        let _claim = Claim::folder(&home)?;
        if let Some(kept) = Kept::find(&home)
            && let Err(e) = kept.end()
        {
            tracing::info!("{e:#}");
        }
        for entry in fs::read_dir(&home).with_context(|| format!("list {}", home.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "netns") {
                unpin(&path)?;
            }
        }
        Ok(beneath::remove_dir_all(Path::new(LABS), &home)?)
    }
}

/// What a lab was made of.
fn network(name: &str, home: &Path) -> Result<Network> {
    let file = home.join("network.json");
    let Ok(text) = fs::read(&file) else { return Err(unknown(name).into()) };
    serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
}

/// Makes the folder of a new lab, which goes when this process dies before the lab is up.
fn claim(name: &str, home: &Path) -> Result<Claim> {
    // Alone, so that nobody ever claims a lab that is another's.
    let alone =
        fs::File::open(LABS).and_then(|labs| private::lock(&labs, Path::new(LABS)).map(|()| labs));
    let _alone = alone.with_context(|| format!("lock {LABS}"))?;
    if home.exists() {
        return Err(
            Usage(format!("there is a lab `{name}` already\n  hint: limosa down {name}")).into()
        );
    }
    let claim = Claim::folder(home)?;
    DirBuilder::new()
        .mode(0o700)
        .create(home)
        .with_context(|| format!("make {}", home.display()))?;
    Ok(claim)
}

fn open(network: &Network, home: &Path, kept: Option<Kept>) -> Result<Lab> {
    Lab::open(network, |file| Netns::open(&home.join(file)), kept)
}

fn unknown(name: &str) -> Usage {
    let labs = fs::read_dir(LABS).into_iter().flatten().flatten();
    let labs: Vec<_> = labs.map(|e| format!("`{}`", e.file_name().to_string_lossy())).collect();
    let hint = if labs.is_empty() {
        "limosa up TOPOLOGY makes one".to_owned()
    } else {
        format!("there are {}", labs.join(", "))
    };
    Usage(format!("there is no lab `{name}`\n  hint: {hint}"))
}
