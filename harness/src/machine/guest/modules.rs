//! The guest's kernel modules: unpacked once here, so that the slow emulated processor need not do it at every boot.
//!
//! Input: the unpacked root. Output: plain `.ko` files, `modules.dep`, and the load order of the few that come first. The
//! programs used are the guest's own, so that the machine needs neither xz nor kmod.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::machine::{debian, steps::Log};

/// Folder of modules, below the root.
const MODULES: &str = "usr/lib/modules";

/// Decompresses the modules and indexes them; returns the kernel's version.
pub(super) fn prepare(root: &Path, log: &Log) -> Result<String> {
    let version = fs::read_dir(root.join(MODULES))
        .context("list the guest's kernels")?
        .next()
        .context("the guest has no kernel")??
        .file_name()
        .to_string_lossy()
        .into_owned();
    let mut compressed = Vec::new();
    collect(&root.join(MODULES).join(&version), &mut compressed)?;
    std::thread::scope(|scope| {
        let (first, second) = compressed.split_at(compressed.len() / 2);
        let second = scope.spawn(|| decompress(root, second, log));
        let first = decompress(root, first, log);
        second.join().expect("decompressing does not panic").and(first)
    })?;
    for file in &compressed {
        drop_signature(&file.with_extension(""))?;
    }
    log.run(debian::program(root, "usr/sbin/depmod").arg("-b").arg(root).arg(&version))
        .context("index the guest's modules")?;
    Ok(version)
}

/// Files of `modules` and of all they need, each after what it needs.
pub(super) fn with_dependencies(
    root: &Path,
    version: &str,
    modules: &[&str],
) -> Result<Vec<PathBuf>> {
    let dir = root.join(MODULES).join(version);
    let path = dir.join("modules.dep");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let order = order(&text, modules)?;
    Ok(order.iter().map(|file| dir.join(file)).collect())
}

/// Cuts off the signature: checking it costs the emulated processor more than loading the module, and what is loaded
/// comes from packages whose signatures apt has checked.
fn drop_signature(file: &Path) -> Result<()> {
    let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let length = unsigned_length(&content);
    if length < content.len() {
        fs::write(file, &content[..length]).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Length without the signature, whose layout is `struct module_signature` and a marker (include/linux/module_signature.h).
fn unsigned_length(content: &[u8]) -> usize {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    let unsigned = || {
        let info = content.strip_suffix(MARKER)?;
        let length = u32::from_be_bytes(info.get(info.len().checked_sub(4)?..)?.try_into().ok()?);
        info.len().checked_sub(12 + usize::try_from(length).ok()?)
    };
    unsigned().unwrap_or(content.len())
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), found)?;
        } else if entry.file_name().to_string_lossy().ends_with(".ko.xz") {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn decompress(root: &Path, files: &[PathBuf], log: &Log) -> Result<()> {
    for group in files.chunks(200) {
        log.run(Command::new(root.join("usr/bin/busybox")).arg("unxz").args(group))
            .context("decompress the guest's modules")?;
    }
    Ok(())
}

fn order<'a>(modules_dep: &'a str, wanted: &[&str]) -> Result<Vec<&'a str>> {
    let mut by_name = BTreeMap::new();
    for line in modules_dep.lines() {
        if let Some((file, needs)) = line.split_once(':') {
            let name = file.rsplit('/').next().unwrap_or(file);
            let name = name.split('.').next().unwrap_or(name);
            by_name.insert(name, (file, needs));
        }
    }
    let mut files = Vec::new();
    for name in wanted {
        let (file, needs) = by_name
            .get(name)
            .with_context(|| format!("the guest's kernel has no module {name}"))?;
        // modules.dep lists what is needed in reverse order of loading.
        for file in needs.split_whitespace().rev().chain([*file]) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "fs/ext4.ko: lib/crc16.ko fs/jbd2.ko\nfs/9p.ko: net/9pnet.ko fs/netfs.ko\n\
        net/9pnet_virtio.ko: net/9pnet.ko fs/netfs.ko\n";

    #[test]
    fn needed_modules_come_first_and_once() {
        let files = order(DEP, &["9pnet_virtio", "9p"]).expect("both are listed");
        assert_eq!(files, ["fs/netfs.ko", "net/9pnet.ko", "net/9pnet_virtio.ko", "fs/9p.ko"]);
    }

    #[test]
    fn the_signature_is_cut_off() {
        let mut module = b"code".to_vec();
        module.extend_from_slice(b"sig");
        module.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        module.extend_from_slice(b"~Module signature appended~\n");
        assert_eq!(unsigned_length(&module), 4);
        assert_eq!(unsigned_length(b"code"), 4);
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = order(DEP, &["nosuch"]).expect_err("it is not listed");
        assert!(error.to_string().contains("nosuch"));
    }
}
