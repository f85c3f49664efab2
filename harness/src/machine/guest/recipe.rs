//! What the guest image is made of, and the key under which the cache keeps it.
//!
//! Input: nothing but the constants below and the two scripts beside this file. Output: [`key`], which changes with any of
//! them, so that a changed recipe is built anew and an unchanged one never.

use crate::machine::debian::Packages;

/// The Debian release whose kernel and CRIU the guest runs.
pub(super) const SUITE: &str = "trixie";

/// What apt is asked for.
pub(super) fn packages() -> Packages {
    Packages { suite: SUITE, names: PACKAGES, done_without: DONE_WITHOUT, pins: &[] }
}

/// Everything that is asked for by name; apt adds what these depend on.
pub(super) const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "busybox-static",
    "coreutils",
    "criu",
    "dash",
    "dnsmasq-base",
    "findutils",
    "grep",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libc-bin",
    "linux-image-amd64",
    "mawk",
    "mount",
    "netbase",
    "nginx",
    "procps",
    "rsync",
    "sed",
    "tar",
    "tcpdump",
    "util-linux",
    "zstd",
];

/// Dependencies of the above that only matter to a system that installs packages or builds its own initramfs.
pub(super) const DONE_WITHOUT: &str = "linux-initramfs-tool, debconf (= 9), debconf-2.0, perl-base (= 9), perl:any (= 9), adduser (= 9)";

/// Left out while unpacking, as `tar --exclude` patterns: reading matter, and drivers of hardware that QEMU does not show.
pub(super) const EXCLUDED: &[&str] = &[
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/info",
    "./usr/share/locale",
    "./usr/share/bash-completion",
    "./boot/System.map*",
    "./usr/lib/modules/*/kernel/sound",
    "./usr/lib/modules/*/kernel/drivers/[!bcnv]*",
    "./usr/lib/modules/*/kernel/drivers/bluetooth",
    "./usr/lib/modules/*/kernel/drivers/comedi",
    "./usr/lib/modules/*/kernel/drivers/nfc",
    "./usr/lib/modules/*/kernel/drivers/nv*",
    "./usr/lib/modules/*/kernel/drivers/vfio",
    "./usr/lib/modules/*/kernel/drivers/video",
    "./usr/lib/modules/*/kernel/drivers/net/[efhpsu]*/*",
    "./usr/lib/modules/*/kernel/drivers/net/arcnet",
    "./usr/lib/modules/*/kernel/drivers/net/can",
    "./usr/lib/modules/*/kernel/drivers/net/wan",
    "./usr/lib/modules/*/kernel/drivers/net/wireless",
    "./usr/lib/modules/*/kernel/drivers/net/wwan",
    "./usr/lib/modules/*/kernel/fs/[bcghrux]*/*",
    "./usr/lib/modules/*/kernel/fs/jf*",
    "./usr/lib/modules/*/kernel/fs/nfs*",
    "./usr/lib/modules/*/kernel/fs/nilfs2",
    "./usr/lib/modules/*/kernel/fs/ntfs3",
    "./usr/lib/modules/*/kernel/fs/ocfs2",
    "./usr/lib/modules/*/kernel/fs/orangefs",
    "./usr/lib/modules/*/kernel/fs/smb",
    "./usr/lib/modules/*/kernel/net/bluetooth",
    "./usr/lib/modules/*/kernel/net/can",
    "./usr/lib/modules/*/kernel/net/ceph",
    "./usr/lib/modules/*/kernel/net/mac80211",
    "./usr/lib/modules/*/kernel/net/rxrpc",
    "./usr/lib/modules/*/kernel/net/sunrpc",
    "./usr/lib/modules/*/kernel/net/tipc",
    "./usr/lib/modules/*/kernel/net/wireless",
];

/// Kernel modules that the initramfs loads: enough to reach the disk and the shared folders.
pub(super) const EARLY_MODULES: &[&str] =
    &["virtio_blk", "crc32c_generic", "ext4", "9pnet_virtio", "9p"];

/// Size of the guest's disk; the file is sparse, and what a guest writes is dropped when it ends.
pub(super) const DISK_MIB: u32 = 1024;

/// Script that the initramfs starts with.
pub(super) const INITRAMFS_INIT: &str = include_str!("initramfs-init.sh");

/// Process 1 of the guest proper.
pub(super) const LIMOSA_INIT: &str = include_str!("limosa-init.sh");

/// Raised when the code that builds the image changes what comes out without a change above.
const FORMAT: &str = "2";

/// Name of this recipe: 16 hexadecimal digits.
pub(super) fn key() -> String {
    let disk = DISK_MIB.to_string();
    let lists = [PACKAGES, EXCLUDED, EARLY_MODULES];
    let single = [FORMAT, SUITE, DONE_WITHOUT, &disk, INITRAMFS_INIT, LIMOSA_INIT];
    let parts = lists.into_iter().flatten().copied().chain(single);
    format!("{:016x}", fnv1a(parts))
}

/// 64-bit FNV-1a (draft-eastlake-fnv); a separator after each part keeps neighbours apart.
fn fnv1a<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_matches_the_published_vector() {
        // FNV-1a of "a" is af63dc4c8601ec8c; the separator then multiplies once more.
        let expected = 0xaf63_dc4c_8601_ec8c_u64.wrapping_mul(0x0100_0000_01b3);
        assert_eq!(fnv1a(["a"]), expected);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(fnv1a(["ab", "c"]), fnv1a(["a", "bc"]));
        assert_eq!(key().len(), 16);
        assert_eq!(key(), key());
    }
}
