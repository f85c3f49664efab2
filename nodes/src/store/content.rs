//! The bytes of an object.

use super::Version;
use crate::random::Random;
use anyhow::{Context, Result};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where the bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// In memory.
    Memory(Arc<[u8]>),
    /// Still in a file.
    File {
        /// The file.
        path: Arc<PathBuf>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

impl Content {
    /// The bytes; reads them if they are in a file.
    pub(crate) fn bytes(&self) -> io::Result<Arc<[u8]>> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File { path, offset, length } => {
                let mut bytes = vec![0; *length as usize];
                File::open(path.as_ref())?.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes.into())
            }
        }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// Cuts a file into ranges of this size.
pub(super) fn pieces(path: &Path, size: u64) -> Result<Vec<Content>> {
    anyhow::ensure!(size > 0, "ranges of no bytes");
    let metadata = std::fs::metadata(path).with_context(|| format!("open {}", path.display()))?;
    let path = Arc::new(path.to_owned());
    let piece = |n| {
        let offset = n * size;
        let length = size.min(metadata.len() - offset);
        Content::File { path: path.clone(), offset, length }
    };
    Ok((0..metadata.len().div_ceil(size)).map(piece).collect())
}

/// What an object of this catalogue contains in this version.
pub(crate) fn generate(seed: u64, id: &str, version: Version, size: u64) -> Vec<u8> {
    let mut random = Random::new(seed, &format!("{id} {version}"));
    let mut bytes = Vec::with_capacity(size as usize + 7);
    while (bytes.len() as u64) < size {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(size as usize);
    bytes
}
