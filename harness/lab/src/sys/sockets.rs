//! The sockets of a process that is about to end, held a second time.
//!
//! Input: a PID. Output: what its UDP sockets had received and it never read; and TCP connections
//! that end without a word, because they live on elsewhere. Kernel interface: pidfd_getfd(2),
//! recvmsg(2), UDP_GRO (udp(7)), TCP_REPAIR (include/uapi/linux/tcp.h).
//!
//! CRIU carries established connections along (TCP repair), not datagrams that wait.

use super::family::family;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrAny, SocketType, getsockname, sockopt},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use std::{
    collections::HashSet,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

/// Datagrams that nobody read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub packets: u64,
    /// Their payload.
    pub bytes: u64,
}

impl std::ops::AddAssign for Unread {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// The sockets of a process and its descendants.
#[derive(Debug)]
pub struct Held {
    /// Those that others than the own host can reach.
    udp: Vec<OwnedFd>,
    tcp: Vec<OwnedFd>,
}

impl Held {
    /// Holds all that there are now.
    ///
    /// # Errors
    /// When the kernel does not give them, for want of the right to trace the process.
    pub fn of(root: Pid) -> io::Result<Self> {
        let mut held = Self { udp: Vec::new(), tcp: Vec::new() };
        let mut known: HashSet<PathBuf> = HashSet::new();
        for pid in family(root) {
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            let files = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_pid()));
            for file in files.into_iter().flatten().flatten() {
                let Ok(target) = fs::read_link(file.path()) else { continue };
                let number = file.file_name().to_str().and_then(|name| name.parse().ok());
                let socket = target.as_os_str().as_encoded_bytes().starts_with(b"socket:");
                let Some(number) = number.filter(|_| socket && known.insert(target)) else {
                    continue;
                };
                match pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) {
                    Ok(fd) => held.add(fd)?,
                    // It has been closed, or its process has ended.
                    Err(Errno::BADF | Errno::SRCH) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(held)
    }

    fn add(&mut self, fd: OwnedFd) -> io::Result<()> {
        if !matches!(sockopt::socket_domain(&fd)?, AddressFamily::INET | AddressFamily::INET6) {
            return Ok(());
        }
        match sockopt::socket_type(&fd)? {
            SocketType::DGRAM if !is_local(getsockname(&fd)?) => self.udp.push(fd),
            SocketType::STREAM => self.tcp.push(fd),
            _ => {}
        }
        Ok(())
    }

    /// Has the TCP connections end without a word when the last holder lets go of them: neither
    /// FIN nor RST, and nothing left in the kernel.
    ///
    /// # Errors
    /// When the kernel refuses, for want of CAP_NET_ADMIN.
    pub fn silence(&self) -> io::Result<()> {
        // Without this, a socket that listens would be refused.
        let connected = |fd: &&OwnedFd| !sockopt::socket_acceptconn(fd).unwrap_or(true);
        for fd in self.tcp.iter().filter(connected) {
            let on: libc::c_int = 1;
            // SAFETY: the option is an int, which outlives the call.
            let done = unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::IPPROTO_TCP,
                    libc::TCP_REPAIR,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// Takes what waits in the UDP sockets. The process must not read any more.
    pub fn unread(&self) -> Unread {
        let mut all = Unread::default();
        for fd in &self.udp {
            while let Some(one) = receive(fd) {
                all += one;
            }
        }
        all
    }
}

fn is_local(address: SocketAddrAny) -> bool {
    let ip = SocketAddr::try_from(address).map(|a| a.ip());
    ip.is_ok_and(|ip| match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    })
}

/// The next entry of the receive queue: one datagram, or several of one size that the kernel has
/// put together (UDP_GRO).
fn receive(fd: &OwnedFd) -> Option<Unread> {
    let mut control = [0_u64; 32];
    // SAFETY: all zeros is an empty msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message has no buffers but `control`, which outlives the call.
    let length = unsafe {
        libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_TRUNC)
    };
    let bytes = u64::try_from(length).ok()?;
    let mut each = bytes.max(1);
    // SAFETY: the kernel has filled `control` as msg_controllen says, and the macros stay in it.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(found) = header.as_ref() {
            if (found.cmsg_level, found.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO) {
                let size = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
                each = u64::try_from(size).unwrap_or(each).max(1);
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Some(Unread { packets: bytes.div_ceil(each).max(1), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        net::UdpSocket,
        process::{Command, Stdio},
    };

    /// A process of its own with a copy of a descriptor as its standard input.
    fn holder(fd: impl Into<OwnedFd>) -> std::process::Child {
        let mut child = Command::new("sh")
            .args(["-c", "echo up; exec sleep 60"])
            .stdin(Stdio::from(fd.into()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child
    }

    fn end(mut child: std::process::Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn datagrams_that_nobody_read_are_counted_after_the_end() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let child = holder(socket);
        let held = match Held::of(Pid::from_child(&child)) {
            // Where processes may not be traced nothing can be dumped either.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return end(child),
            held => held.unwrap(),
        };
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in [1200, 0, 77] {
            sender.send_to(&vec![7; length], ("127.0.0.1", port)).unwrap();
        }
        end(child);
        assert_eq!(held.unread(), Unread { packets: 3, bytes: 1277 });
        assert_eq!(held.unread(), Unread::default());
    }
}
