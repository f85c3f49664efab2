//! Takes the kernel out of its self-extracting wrapper, so that the slow emulated processor need not: a third of the boot time.
//!
//! Input: a bzImage. Output: the ELF file in it, which QEMU starts through its PVH entry. Format: the Linux/x86 boot protocol,
//! fields setup_sects, payload_offset and payload_length.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::machine::debian;

/// Start of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Writes the kernel in `wrapped` to `target`; what cannot be unwrapped is taken as it is, and boots too.
pub(super) fn unwrap(root: &Path, wrapped: &Path, target: &Path) -> Result<()> {
    let image = fs::read(wrapped).with_context(|| format!("read {}", wrapped.display()))?;
    let unwrapped = payload(&image).is_some_and(|payload| extract(root, payload, target).is_ok());
    if !unwrapped {
        fs::write(target, image).with_context(|| format!("write {}", target.display()))?;
    }
    Ok(())
}

/// The compressed kernel and its size when decompressed.
struct Payload<'a> {
    bytes: &'a [u8],
    size: u32,
}

fn payload(image: &[u8]) -> Option<Payload<'_>> {
    let field = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?))
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup_sectors = usize::from(*image.get(0x1f1)?);
    let start = (setup_sectors + 1) * 512 + usize::try_from(field(0x248)?).ok()?;
    let end = start + usize::try_from(field(0x24c)?).ok()?;
    // The build appends the decompressed size to every format but gzip.
    let size = field(end.checked_sub(4)?)?;
    let bytes = image.get(start..end - 4)?;
    bytes.starts_with(ZSTD).then_some(Payload { bytes, size })
}

fn extract(root: &Path, payload: Payload<'_>, target: &Path) -> Result<()> {
    let compressed = target.with_extension("zst");
    fs::write(&compressed, payload.bytes).context("write the compressed kernel")?;
    let status = debian::program(root, "usr/bin/zstd")
        .args(["-q", "-d", "-c"])
        .stdin(File::open(&compressed)?)
        .stdout(File::create(target)?)
        .stderr(Stdio::null())
        .status()
        .context("decompress the kernel")?;
    fs::remove_file(&compressed)?;
    let size = target.metadata()?.len();
    ensure!(status.success() && size == u64::from(payload.size), "the kernel does not decompress");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(magic: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x1f1] = 1;
        image[0x248] = 16;
        image[0x24c] = 12;
        image.extend_from_slice(&[7; 16]);
        image.extend_from_slice(magic);
        image.extend_from_slice(&[1, 2, 3, 4]);
        image.extend_from_slice(&99_u32.to_le_bytes());
        image
    }

    #[test]
    fn the_payload_is_found_by_the_header() {
        let image = image(ZSTD);
        let payload = payload(&image).expect("a zstd payload");
        assert_eq!(payload.size, 99);
        assert_eq!(&payload.bytes[4..], [1, 2, 3, 4]);
    }

    #[test]
    fn other_formats_are_left_alone() {
        assert!(payload(&image(b"1234")).is_none());
        assert!(payload(b"short").is_none());
    }
}
