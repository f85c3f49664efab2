//! Builds the guest image: kernel, initramfs and disk, in one folder of the cache.
//!
//! Input: the recipe. Output: a folder named after the recipe's key. It is built under another name and renamed at the end,
//! so it is either whole or not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cpio::Archive;
use super::{kernel, modules, recipe};
use crate::machine::debian;
use crate::machine::steps::{Log, step};
use limosa_lab::cache::{Cache, UNFINISHED, remove_unfinished};
use limosa_lab::sys::which::tool;

/// A built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// The image of the present recipe, if it has been built.
    pub fn find(cache: &Cache) -> Option<Self> {
        let image = Self { dir: cache.path.join(format!("guest-{}", recipe::key())) };
        image.disk().exists().then_some(image)
    }

    /// Kernel.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("kernel")
    }

    /// Initramfs.
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    /// Root disk.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    /// Builds the image. The caller holds the cache's lock.
    ///
    /// # Errors
    /// When packages cannot be fetched, or a tool fails; the log stays in the cache.
    pub fn build(cache: &Cache) -> Result<Self> {
        ensure!(
            std::env::consts::ARCH == "x86_64",
            "the guest image exists for x86_64 only, not for {}",
            std::env::consts::ARCH
        );
        remove_unfinished(&cache.path)?;
        let log = Log::create(cache.path.join("setup.log"))?;
        let work = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&cache.path)
            .context("make a folder for the build")?;
        let root = work.path().join("root");
        let done = work.path().join("image");
        fs::create_dir_all(&done).context("make the image folder")?;
        let debs = step("fetching the guest's packages", || {
            debian::fetch(&recipe::packages(), &work.path().join("apt"), &log)
        })?;
        step(&format!("unpacking {} packages", debs.len()), || {
            debian::unpack(&debs, recipe::EXCLUDED, &root, &log)?;
            furnish(&root)
        })?;
        step("making the guest's initramfs and disk", || {
            let version = modules::prepare(&root, &log)?;
            let early = modules::with_dependencies(&root, &version, recipe::EARLY_MODULES)?;
            fs::write(done.join("initrd"), initramfs(&root, &early)?)
                .context("write the initramfs")?;
            let wrapped = root.join("boot").join(format!("vmlinuz-{version}"));
            kernel::unwrap(&root, &wrapped, &done.join("kernel"))?;
            fs::remove_file(&wrapped).context("remove the wrapped kernel")?;
            make_disk(&root, &done.join("disk.img"), &log)
        })?;
        let target = cache.path.join(format!("guest-{}", recipe::key()));
        fs::rename(&done, &target)
            .with_context(|| format!("put the image at {}", target.display()))?;
        Self::find(cache).context("the image is not where it was put")
    }
}

/// Does the little that the packages' installation scripts would have done.
fn furnish(root: &Path) -> Result<()> {
    let copy = |from: &str, to: &str| {
        fs::copy(root.join(from), root.join(to))
            .with_context(|| format!("make the guest's /{to}"))
            .map(drop)
    };
    copy("usr/share/base-passwd/passwd.master", "etc/passwd")?;
    copy("usr/share/base-passwd/group.master", "etc/group")?;
    copy("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf")?;
    let write = |path: &str, text: &str| {
        fs::write(root.join(path), text).with_context(|| format!("make the guest's /{path}"))
    };
    write("etc/hostname", "limosa-guest\n")?;
    write("etc/hosts", "127.0.0.1 localhost limosa-guest\n::1 localhost\n")?;
    write("etc/machine-id", "")?;
    write("usr/sbin/limosa-init", recipe::LIMOSA_INIT)?;
    make_executable(&root.join("usr/sbin/limosa-init"))?;
    for (link, target) in [("etc/mtab", "../proc/self/mounts"), ("usr/bin/awk", "mawk")] {
        if root.join(link).symlink_metadata().is_err() {
            std::os::unix::fs::symlink(target, root.join(link))
                .with_context(|| format!("make the guest's /{link}"))?;
        }
    }
    Ok(())
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}

fn initramfs(root: &Path, early: &[PathBuf]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "new", "modules"] {
        archive.folder(folder);
    }
    archive.file("init", recipe::INITRAMFS_INIT.as_bytes());
    let busybox = fs::read(root.join("usr/bin/busybox")).context("read the guest's busybox")?;
    archive.file("bin/busybox", &busybox);
    for (index, module) in early.iter().enumerate() {
        let content = fs::read(module).with_context(|| format!("read {}", module.display()))?;
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        // The shell lists them in this order, and the order is that of their dependencies.
        archive.file(&format!("modules/{index:02}-{name}"), &content);
    }
    Ok(archive.finish())
}

/// No journal and no checksums: the disk is only ever read, changes live as long as one guest.
fn make_disk(root: &Path, disk: &Path, log: &Log) -> Result<()> {
    log.run(
        Command::new(tool("mke2fs"))
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0"])
            .args(["-O", "^has_journal,^metadata_csum,^resize_inode"])
            .args(["-E", "root_owner=0:0,lazy_itable_init=1,nodiscard", "-d"])
            .arg(root)
            .arg(disk)
            .arg(format!("{}M", recipe::DISK_MIB)),
    )
    .context("make the guest's disk")
}
