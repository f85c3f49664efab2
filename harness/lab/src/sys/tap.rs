//! TAP devices: interfaces whose other side is a file descriptor.
//!
//! Input: a namespace and an [`End`]. Output: the descriptor; the interface, down, lives as long as
//! it. Kernel interface: /dev/net/tun (tuntap.rst), TUNSETIFF and its companions, rtnetlink(7).
//!
//! Each read and write is one frame behind a `virtio_net_hdr` of [`HEADER_BYTES`]. The kernel hands
//! trains of segments (TCP, and UDP since Linux 6.2) over in one piece and leaves checksums open,
//! and it takes both back, so that a system call carries up to 64 KiB. Never switch these features
//! off on a TAP ([`offload::disable`](super::offload::disable)): who reads cuts trains up itself.

use super::{link::End, netlink::Request, netns::Netns, qdisc};
use anyhow::{Context, Result, ensure};
use limosa_record::fault;
use netlink_packet_route::{RouteNetlinkMessage as Message, link::LinkAttribute};
use rtnetlink::LinkUnspec;
use std::{
    fs::OpenOptions,
    io, mem,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    ptr,
};

/// Length of the header before each frame: `struct virtio_net_hdr` (linux/virtio_net.h), in the
/// machine's own byte order.
pub const HEADER_BYTES: usize = 10;

/// Frames or trains that wait for a reader who is late; the default of 1000 is 12 ms of a
/// 1 Gbit/s link. What comes beyond is counted in the interface's `tx_dropped`.
const QUEUE_FRAMES: u32 = 4096;

/// Makes a TAP device in a namespace. The descriptor does not block and is closed by exec.
///
/// # Errors
/// When there is no /dev/net/tun, or the kernel refuses: no root, or a name or number is taken.
pub fn create(netns: &Netns, end: &End) -> Result<OwnedFd> {
    let what = || format!("create TAP `{}`", end.name);
    // A descriptor belongs to the namespace in which it was opened.
    fault::here("tap").with_context(what)?;
    let tap = netns.run(|| open(end)).with_context(what)?;
    let message = LinkUnspec::new_with_index(end.index)
        .address(end.mac.to_vec())
        .mtu(end.mtu_bytes)
        .append_extra_attribute(LinkAttribute::TxQueueLen(QUEUE_FRAMES))
        .build();
    // Else it would be whatever the host has as its default.
    let queue = qdisc::set_plain(end.index, "pfifo_fast");
    netns.apply([Request::change(what(), Message::SetLink(message)), queue])?;
    Ok(tap)
}

fn open(end: &End) -> Result<OwnedFd> {
    let tap: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .context("open /dev/net/tun\n  hint: `modprobe tun` on the host")?
        .into();
    let index = libc::c_int::try_from(end.index)?;
    // SAFETY: the kernel reads one int, which outlives the call.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFINDEX, ptr::from_ref(&index)) })
        .context("TUNSETIFINDEX")?;
    // SAFETY: all zeroes is a valid ifreq, which is a C struct of integers, arrays and unions.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let room = request.ifr_name.len();
    ensure!((1..room).contains(&end.name.len()), "`{}` is no interface name", end.name);
    for (to, from) in request.ifr_name.iter_mut().zip(end.name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags)?;
    // SAFETY: the kernel reads and writes one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
        .context("TUNSETIFF")?;
    let header = libc::c_int::try_from(HEADER_BYTES)?;
    // SAFETY: the kernel reads one int, which outlives the call.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ, ptr::from_ref(&header)) })
        .context("TUNSETVNETHDRSZ")?;
    let base = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let offload = |features: libc::c_uint| {
        // SAFETY: this request's argument is a plain number.
        let done = unsafe {
            libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(features))
        };
        check(done)
    };
    // Before Linux 6.2 there is no UDP here: the kernel then cuts those trains up itself.
    offload(base | libc::TUN_F_USO4 | libc::TUN_F_USO6)
        .or_else(|_| offload(base))
        .context("TUNSETOFFLOAD")?;
    Ok(tap)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
