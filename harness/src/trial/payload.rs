//! The body that clients download: seeded random bytes in a file, and their SHA-256.

use anyhow::Context;
use limosa_record::{dir::name, fault, random::SplitMix64};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
};

const CHUNK_BYTES: usize = 1 << 20;

/// Writes `bytes` bytes of the [`SplitMix64`] sequence that starts at `seed`, and returns their SHA-256 in hexadecimal.
///
/// # Errors
/// When the file cannot be written, a full disk for example.
pub fn create(path: &Path, bytes: u64, seed: u64) -> anyhow::Result<String> {
    let attempt = || -> std::io::Result<String> {
        fault::here(format_args!("write/{}", name(path)))?;
        let mut file = File::create(path)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        let (mut random, mut left) = (SplitMix64(seed), bytes);
        while left > 0 {
            for word in chunk.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes());
            }
            let length = usize::try_from(left).map_or(CHUNK_BYTES, |l| l.min(CHUNK_BYTES));
            file.write_all(&chunk[..length])?;
            hash.update(&chunk[..length]);
            left -= length as u64;
        }
        file.flush()?;
        Ok(hex(&hash.finalize()))
    };
    attempt().with_context(|| format!("write the body {}", path.display()))
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let n = file.read(&mut chunk).with_context(|| format!("read {}", path.display()))?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&chunk[..n]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_body() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, seed| {
            let path = folder.path().join(name);
            let hash = create(&path, 3_000_001, seed).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 3_000_001);
            assert_eq!(sha256(&path).unwrap(), hash);
            hash
        };
        assert_eq!(make("a", 7), make("b", 7));
        assert_ne!(make("c", 7), make("d", 8));
    }
}
