//! Network namespaces without names: held by a descriptor, gone with the last one.
//!
//! Input: what each namespace is for. Output: a [`Netns`] that other modules configure through its
//! netlink socket and that children enter with setns(2). Kernel interface: network_namespaces(7),
//! unshare(2), setns(2), sysctl files under /proc/sys/net.
//!
//! A namespace belongs to a thread, and threads of an async runtime run anybody's code: only
//! short-lived threads of our own ever enter one. A socket stays in the namespace where it was
//! made, so that after creation nothing but new sockets and sysctls needs such a thread.
//! Nothing is ever written to /run/netns; [`Netns::pin`] makes a namespace outlive the process.

mod settings;

pub use settings::{Sysctl, settings_here};

use self::settings::{Allowance, set_here};
use super::netlink::{Netlink, Request};
use anyhow::{Context, Result};
use limosa_record::fault;
use netlink_packet_route::RouteNetlinkMessage;
use rustix::{
    mount::{UnmountFlags, mount_bind, unmount},
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use std::{
    collections::HashMap,
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

/// What a namespace is for, which decides its sysctls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends and receives, and never forwards.
    Host,
    /// A host that also forwards IPv4 and IPv6 and does not correct its senders by redirects.
    Router,
    /// Only passes frames on: no IPv6 of its own, because each packet that it would send through
    /// a shaper costs queue space and a random number there.
    Silent,
}

/// Interfaces made here are numbered from 100, above the devices that the kernel adds by itself
/// (`lo`, and `tunl0`, `sit0` … where those modules are loaded).
const FIRST_INDEX: u32 = 100;

/// A live network namespace.
pub struct Netns {
    fd: OwnedFd,
    netlink: Mutex<Netlink>,
    control: OwnedFd,
    next_index: AtomicU32,
}

impl Netns {
    /// Makes one namespace per role, loopback still down, with the usual TCP.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn create(roles: &[Role]) -> Result<Vec<Self>> {
        Self::create_with(roles, None)
    }

    /// Makes one namespace per role, with a congestion control for its TCP or with the usual one.
    ///
    /// # Errors
    /// What the kernel refused; it may have no such congestion control.
    pub fn create_with(roles: &[Role], tcp_congestion: Option<&str>) -> Result<Vec<Self>> {
        let _allowance = Allowance::of(tcp_congestion);
        let mut needs = HashMap::new();
        for role in roles {
            if !needs.contains_key(role) {
                needs.insert(*role, role.needs(tcp_congestion)?);
            }
        }
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let parts = roles.chunks(roles.len().div_ceil(threads).max(1));
        thread::scope(|scope| {
            let make = |part: &'_ [Role]| -> Result<Vec<Self>> {
                part.iter().map(|role| Self::create_here(&needs[role])).collect()
            };
            let workers: Vec<_> = parts.map(|part| scope.spawn(move || make(part))).collect();
            let mut all = Vec::with_capacity(roles.len());
            for worker in workers {
                let made = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                all.extend(made?);
            }
            Ok(all)
        })
    }

    /// Moves the calling thread into a new namespace and opens what belongs to it.
    fn create_here(settings: &[(String, String)]) -> Result<Self> {
        fault::here("netns").context("unshare(CLONE_NEWNET)")?;
        // SAFETY: NEWNET does not touch the descriptor table; the thread is ours and short-lived.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("unshare(CLONE_NEWNET)")?;
        let fd = File::open("/proc/thread-self/ns/net").context("open /proc/thread-self/ns/net")?;
        set_here(settings.iter().map(|(name, value)| (&**name, &**value)))?;
        Self::from_here(fd.into(), FIRST_INDEX)
    }

    fn from_here(fd: OwnedFd, next_index: u32) -> Result<Self> {
        let control =
            socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                .context("open a control socket")?;
        let netlink = Mutex::new(Netlink::open()?);
        Ok(Self { fd, netlink, control, next_index: AtomicU32::new(next_index) })
    }

    /// Opens a namespace by a file: a pinned one, or /proc/PID/ns/net.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("open namespace `{}`", path.display());
        let fd: OwnedFd = File::open(path).with_context(what)?.into();
        let netns = on_own_thread(|| {
            enter(fd.as_fd())?;
            Self::from_here(fd, FIRST_INDEX)
        })
        .with_context(what)?;
        let highest = super::link::list(&netns).with_context(what)?.into_iter().map(|l| l.index);
        netns.next_index.fetch_max(highest.max().unwrap_or(0) + 1, Ordering::Relaxed);
        Ok(netns)
    }

    /// Bind-mounts the namespace on a file, which is made if missing, so that it outlives this
    /// process. See [`unpin`].
    pub fn pin(&self, path: &Path) -> Result<()> {
        let what = || format!("pin namespace to `{}`", path.display());
        File::create(path).with_context(what)?;
        let source = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        mount_bind(source, path).with_context(what)
    }

    /// The same namespace, held a second time.
    pub fn again(&self) -> Result<Self> {
        Self::open(Path::new(&format!("/proc/self/fd/{}", self.fd.as_raw_fd())))
    }

    /// Moves the calling thread into the namespace for good, before it executes another program.
    pub fn enter_this_thread(&self) -> Result<()> {
        enter(self.as_fd())
    }

    /// Runs something on a thread inside the namespace and waits for it.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_own_thread(|| {
            enter(self.as_fd())?;
            f()
        })
    }

    /// Writes sysctls of this namespace.
    pub fn set(&self, settings: &[Sysctl]) -> Result<()> {
        self.run(|| set_here(settings.iter().copied()))
    }

    /// Has the kernel do all of the requests, in order and in as few system calls as possible.
    pub fn apply<'n>(&self, requests: impl IntoIterator<Item = Request<'n>>) -> Result<()> {
        let requests: Vec<_> = requests.into_iter().collect();
        self.netlink().apply(&requests)
    }

    /// A number for a new interface, unique in this namespace and known before the interface is
    /// made, so that everything about it can be asked for in the same batch.
    pub fn new_index(&self) -> u32 {
        self.next_index.fetch_add(1, Ordering::Relaxed)
    }

    /// An rtnetlink handle for what the other modules here do not offer. Call it inside a tokio
    /// runtime: the connection behind it is a task there and ends with the handle.
    pub fn rtnetlink(&self) -> Result<rtnetlink::Handle> {
        let runtime = tokio::runtime::Handle::try_current().context("open an rtnetlink handle")?;
        let (connection, handle) = self.run(|| {
            let _guard = runtime.enter();
            let (connection, handle, _) =
                rtnetlink::new_connection().context("open an rtnetlink connection")?;
            Ok((connection, handle))
        })?;
        runtime.spawn(connection);
        Ok(handle)
    }

    pub(super) fn dump(
        &self,
        what: &str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        self.netlink().dump(what, message)
    }

    /// A datagram socket of this namespace for ioctl(2) on its interfaces.
    pub(super) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    fn netlink(&self) -> std::sync::MutexGuard<'_, Netlink> {
        // A panic elsewhere leaves at worst an unread answer, which the next call skips.
        self.netlink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For a child's setns(2) between fork and exec.
impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for Netns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netns").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// Undoes [`Netns::pin`] and removes the file. A file that is no mount is removed too: the process
/// may have died between making and mounting it.
pub fn unpin(path: &Path) -> Result<()> {
    let what = || format!("unpin namespace `{}`", path.display());
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(e) => return Err(e).with_context(what),
    }
    std::fs::remove_file(path).with_context(what)
}

fn enter(fd: BorrowedFd<'_>) -> Result<()> {
    move_into_link_name_space(fd, Some(LinkNameSpaceType::Network)).context("setns(CLONE_NEWNET)")
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, f)
            .context("start a thread")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
