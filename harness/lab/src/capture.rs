//! Everything that crosses a namespace's interfaces, as a pcap file.
//!
//! Input: a namespace. Output: a pcap file (nanoseconds, Ethernet) with the kernel's time of each
//! frame; every tool that reads captures reads it. Kernel interface: packet(7).
//!
//! Segments that offloading has joined are cut apart, as they are on a wire; checksums that the
//! sender left to its interface stay open.
//!
//! A frame that is forwarded appears twice, on its way in and on its way out; in a host's
//! namespace each appears once.

use crate::{
    engine,
    sys::{netns::Netns, stamped},
};
use anyhow::{Context, Result, ensure};
use limosa_record::{clock::now_ns, dir::name, fault};
use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, socket_with,
    sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout},
};
use std::{
    fs::File,
    io::{BufWriter, Write},
    num::NonZeroU32,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Frames of this size are kept whole: segments that offloading has joined, too.
const SNAP_BYTES: usize = 128 * 1024;

/// What the kernel holds while the writer is busy.
const BUFFER_BYTES: usize = 32 << 20;

/// How long the end of a capture may go unnoticed.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A capture that is going on; [`Capture::stop`] ends it.
#[derive(Debug)]
pub struct Capture {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<Result<u32>>>,
}

impl Capture {
    /// Writes what crosses the namespace's interfaces from now on.
    ///
    /// # Errors
    /// When the socket cannot be opened or the file not be made.
    pub fn start(netns: &Netns, path: &Path) -> Result<Self> {
        let what = || format!("capture to {}", path.display());
        let all = NonZeroU32::new(u32::from((libc::ETH_P_ALL as u16).to_be()));
        let socket = netns
            .run(|| {
                let protocol = all.map(Protocol::from_raw);
                let flags = SocketFlags::CLOEXEC;
                let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol)
                    .context("open a packet socket")?;
                set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)
                    .context("set SO_RCVBUFFORCE")?;
                set_socket_timeout(&socket, Timeout::Recv, Some(LOOK_UP))
                    .context("set SO_RCVTIMEO")?;
                stamped::enable(&socket)?;
                with_offload_headers(&socket)?;
                Ok(socket)
            })
            .with_context(what)?;
        fault::here(format_args!("write/{}", name(path))).with_context(what)?;
        let mut file = BufWriter::new(limosa_record::dir::create(path).with_context(what)?);
        file.write_all(&file_header()).with_context(what)?;
        let stop = Arc::new(AtomicBool::new(false));
        let worker = thread::Builder::new()
            .name("capture".into())
            .spawn({
                let stop = stop.clone();
                move || record(&socket, file, &stop)
            })
            .with_context(what)?;
        Ok(Self { path: path.to_owned(), stop, worker: Some(worker) })
    }

    /// Ends the capture when everything that has arrived is in the file.
    ///
    /// # Errors
    /// When the file could not be written, or when frames were lost because it was too slow.
    pub fn stop(mut self) -> Result<()> {
        let lost = self.join()?;
        ensure!(lost == 0, "the capture {} lacks {lost} frames", self.path.display());
        Ok(())
    }

    fn join(&mut self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(worker) = self.worker.take() else { return Ok(0) };
        let lost = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        lost.with_context(|| format!("capture to {}", self.path.display()))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::warn!("{error:#}");
        }
    }
}

fn record(socket: &OwnedFd, mut file: BufWriter<File>, stop: &AtomicBool) -> Result<u32> {
    let mut frame = vec![0; SNAP_BYTES];
    let mut end_ns = None;
    loop {
        // Asked before the read: what had arrived by then is read before the end.
        if stop.load(Ordering::Relaxed) {
            end_ns.get_or_insert_with(now_ns);
        }
        match stamped::receive(socket, &mut frame)? {
            Some((_, time_ns)) if end_ns.is_some_and(|end_ns| time_ns > end_ns) => break,
            Some((length, time_ns)) => {
                for segment in engine::segments(&frame[..length]) {
                    file.write_all(&frame_header(time_ns, segment.len())?)?;
                    file.write_all(&segment)?;
                }
            }
            None if end_ns.is_some() => break,
            None => {}
        }
    }
    file.flush()?;
    lost(socket)
}

/// Has the kernel say of each frame what offloading it waits for (PACKET_VNET_HDR).
fn with_offload_headers(socket: &OwnedFd) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which the kernel reads during the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VNET_HDR,
            std::ptr::from_ref(&on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    ensure!(done == 0, "set PACKET_VNET_HDR: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Frames that found no room (PACKET_STATISTICS).
fn lost(socket: &OwnedFd) -> Result<u32> {
    // struct tpacket_stats: packets, drops.
    let mut stats = [0_u32; 2];
    let mut length = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into the array, which is as long as that.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    ensure!(done == 0, "read PACKET_STATISTICS: {}", std::io::Error::last_os_error());
    Ok(stats[1])
}

/// The head of a pcap file with nanoseconds: magic, version 2.4, zone, accuracy, longest frame,
/// Ethernet.
fn file_header() -> Vec<u8> {
    let mut header = 0xa1b2_3c4d_u32.to_ne_bytes().to_vec();
    header.extend(2_u16.to_ne_bytes());
    header.extend(4_u16.to_ne_bytes());
    header.extend([0; 8]);
    header.extend((SNAP_BYTES as u32).to_ne_bytes());
    header.extend(1_u32.to_ne_bytes());
    header
}

/// Seconds, nanoseconds, bytes kept, bytes on the wire.
fn frame_header(time_ns: i64, length: usize) -> Result<Vec<u8>> {
    let length = u32::try_from(length)?;
    let parts = [
        u32::try_from(time_ns.div_euclid(1_000_000_000))?,
        u32::try_from(time_ns.rem_euclid(1_000_000_000))?,
        length,
        length,
    ];
    Ok(parts.iter().flat_map(|part| part.to_ne_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_pcap() {
        assert_eq!(file_header().len(), 24);
        let header = frame_header(1_500_000_001, 60).unwrap();
        assert_eq!(header[..4], 1_u32.to_ne_bytes());
        assert_eq!(header[4..8], 500_000_001_u32.to_ne_bytes());
        assert_eq!(header[12..], 60_u32.to_ne_bytes());
    }
}
