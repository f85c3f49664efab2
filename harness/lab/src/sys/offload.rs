//! Switches off what merges or keeps merged packets on an interface, and reads it back.
//!
//! Input: a namespace and an interface's name. Output: what is still on. Kernel interface:
//! SIOCETHTOOL with ETHTOOL_GSSET_INFO, ETHTOOL_GSTRINGS, ETHTOOL_GFEATURES and ETHTOOL_SFEATURES
//! (linux/ethtool.h, ethtool(8)).
//!
//! A veth pair carries what its sender hands it, up to 64 KiB in one piece. QUIC hands over trains
//! of datagrams (UDP_SEGMENT, udp(7)); TCP does the same. To a queueing discipline such a train is
//! one packet: lost as a whole, delayed as a whole, and larger than a small token bucket. The
//! kernel cuts it up where a packet enters a device that does not claim to do so itself. So on each
//! end that sends towards a shaper these must be off:
//!
//! - `tx-udp-segmentation`: UDP trains. `tx-tcp-segmentation` and its variants: TCP.
//! - `tx-generic-segmentation` and the `tx-gso-*` and tunnel variants: the same for other kinds.
//! - `rx-gro*`, `rx-lro`: the receiving side must not merge again what has been cut, or a router
//!   would forward trains.
//!
//! Checksums stay with the device (`tx-checksum-*`): before Linux 6.11 the kernel refuses
//! UDP_SEGMENT with EIO on a device without them, and the sender would fall back to one system call
//! per datagram. A cut-up packet that crosses only veth and bridges needs no checksum, and netem
//! computes it before it corrupts one. Captures show those packets with wrong checksums.

use super::netns::Netns;
use anyhow::{Context, Result, bail, ensure};
use std::{io, os::fd::AsRawFd, sync::OnceLock};

/// What is still on, by the kernel's names (`ethtool -k` uses some others).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Features that cut or merge packets later than at this interface; empty means that every
    /// packet beyond it has the size it has on a wire.
    pub merging: Vec<String>,
    /// Whether senders may leave checksums to this interface.
    pub tx_checksum: bool,
}

const ETHTOOL_GLINK: u32 = 0x0a;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;

/// Switches the merging features of an interface off and returns what is then in force.
pub fn disable(netns: &Netns, name: &str) -> Result<InForce> {
    let what = || format!("switch off offloads of `{name}`");
    let names = feature_names(netns, name).with_context(what)?;
    // struct ethtool_sfeatures: command, size, then per 32 features {valid, requested}.
    let blocks = names.len().div_ceil(32);
    let mut command = vec![0; 2 + 2 * blocks];
    (command[0], command[1]) = (ETHTOOL_SFEATURES, u32::try_from(blocks)?);
    for (i, _) in names.iter().enumerate().filter(|(_, n)| merges(n)) {
        command[2 + 2 * (i / 32)] |= 1 << (i % 32);
    }
    ethtool(netns, name, &mut command).context("ETHTOOL_SFEATURES").with_context(what)?;
    read(netns, name)
}

/// What is in force on an interface.
pub fn read(netns: &Netns, name: &str) -> Result<InForce> {
    let what = || format!("read offloads of `{name}`");
    let names = feature_names(netns, name).with_context(what)?;
    // struct ethtool_gfeatures: command, size, then per 32 features {available, requested,
    // active, never_changed}.
    let blocks = names.len().div_ceil(32);
    let mut command = vec![0; 2 + 4 * blocks];
    (command[0], command[1]) = (ETHTOOL_GFEATURES, u32::try_from(blocks)?);
    ethtool(netns, name, &mut command).context("ETHTOOL_GFEATURES").with_context(what)?;
    let active = |i: usize| command[2 + 4 * (i / 32) + 2] & 1 << (i % 32) != 0;
    let on = || names.iter().enumerate().filter(|(i, _)| active(*i)).map(|(_, n)| n);
    Ok(InForce {
        merging: on().filter(|n| merges(n)).cloned().collect(),
        tx_checksum: on().any(|n| n.starts_with("tx-checksum-ip")),
    })
}

/// Asks for an interface's carrier. From Linux 6.8 on, the kernel activates a new carrier before it
/// answers.
pub(super) fn carrier(netns: &Netns, name: &str) -> Result<bool> {
    let mut command = [ETHTOOL_GLINK, 0];
    ethtool(netns, name, &mut command).with_context(|| format!("read carrier of `{name}`"))?;
    Ok(command[1] != 0)
}

/// `rx-udp-gro-forwarding` is a permission that `rx-gro` must be there for; it is off by default.
fn merges(feature: &str) -> bool {
    (feature.starts_with("tx-") && feature.contains("segmentation"))
        || ["tx-gso-", "rx-gro", "rx-lro", "rx-udp-gro"].iter().any(|p| feature.starts_with(p))
}

/// The running kernel's features in the order of their bits; the same for every interface.
fn feature_names(netns: &Netns, name: &str) -> Result<&'static [String]> {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    if let Some(names) = NAMES.get() {
        return Ok(names);
    }
    // struct ethtool_sset_info: command, reserved, mask (64 bits), lengths.
    let mut info = vec![ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
    let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
    for (word, bytes) in info[2..4].iter_mut().zip(mask.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    ethtool(netns, name, &mut info).context("ETHTOOL_GSSET_INFO")?;
    let count = info[4] as usize;
    ensure!((1..1024).contains(&count), "the kernel says that it has {count} features");
    // struct ethtool_gstrings: command, set, count, then texts of 32 bytes.
    let mut strings = vec![0; 3 + count * ETH_GSTRING_LEN / 4];
    strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, info[4]]);
    ethtool(netns, name, &mut strings).context("ETHTOOL_GSTRINGS")?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|w| w.to_ne_bytes()).collect();
    let names = bytes.chunks(ETH_GSTRING_LEN).map(|text| {
        let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
        String::from_utf8_lossy(&text[..end]).into_owned()
    });
    Ok(NAMES.get_or_init(|| names.collect()))
}

/// One SIOCETHTOOL. The command must have the layout and the sizes that its first word demands.
pub(super) fn ethtool(netns: &Netns, name: &str, command: &mut [u32]) -> Result<()> {
    // SAFETY: all zeroes is a valid ifreq, which is a C struct of integers, arrays and unions.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        bail!("`{name}` is no interface name");
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    // SAFETY: the kernel reads `request` and reads and writes `command`, whose header says how
    // long it is; both outlive the call.
    let done = unsafe { libc::ioctl(netns.control().as_raw_fd(), libc::SIOCETHTOOL, &mut request) };
    // SFEATURES returns bits about features that it could not change as asked; reading back tells.
    if done < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}
