//! Receiving with the kernel's time of arrival.
//!
//! Input: a datagram or raw socket. Output: the packet's length and when it reached the socket's
//! interface. Kernel interface: SO_TIMESTAMPNS (socket(7)), recvmsg(2), cmsg(3).
//!
//! A busy machine wakes a receiver up milliseconds late; that is no delay of the network, and a
//! measurement of the network must not see it. The time is of CLOCK_REALTIME, the clock of all
//! rows.

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

/// Asks the kernel for times of arrival on a socket.
///
/// # Errors
/// When the kernel refuses.
pub fn enable(socket: impl AsFd) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which the kernel reads during the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            ptr::from_ref(&on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()).context("set SO_TIMESTAMPNS") } else { Ok(()) }
}

/// Length and time of arrival (nanoseconds since 1970) of the next packet; nothing if the socket's
/// timeout passes without one.
///
/// # Errors
/// When the socket fails.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Option<(usize, i64)>> {
    // Control messages are laid out in units of size_t; 64 bytes hold one timespec's.
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid msghdr: no address, no parts, no control messages.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the header points to one part and to control space, both exclusively borrowed and
    // as long as it says.
    let n = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, 0) };
    let Ok(n) = usize::try_from(n) else {
        return match io::Error::last_os_error() {
            e if [Some(Errno::AGAIN), Some(Errno::INTR)].contains(&Errno::from_io_error(&e)) => {
                Ok(None)
            }
            e => Err(e).context("recvmsg"),
        };
    };
    // SAFETY: the kernel filled the header in; the first control message is inside `control`.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: the pointer is null or to a complete header inside `control`, which is aligned for it.
    let Some(header) = (unsafe { first.as_ref() }) else { bail!("a packet without its time") };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
        bail!("a packet without its time");
    }
    // SAFETY: a control message of this type carries one timespec.
    let time: libc::timespec = unsafe { ptr::read_unaligned(libc::CMSG_DATA(first).cast()) };
    Ok(Some((n, time.tv_sec * 1_000_000_000 + time.tv_nsec)))
}
