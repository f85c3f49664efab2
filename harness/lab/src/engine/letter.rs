//! Messages between the harness and the engine, with descriptors.
//!
//! Input: a value and descriptors. Output: the same at the other end of a socket. Kernel interface:
//! unix(7), SOCK_SEQPACKET, SCM_RIGHTS, memfd_create(2). The value travels as JSON in a memory
//! file, because it may be larger than any socket's buffer; the packet itself is empty but for a
//! byte, and its first descriptor is that file. Long lists of numbers are memory files, too.

use anyhow::{Context, Result, ensure};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The memory file and the two ends of a link.
const MAX_DESCRIPTORS: usize = 3;

/// Both ends of a line for letters.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("make a socket pair")
}

/// A memory file with these numbers.
pub(super) fn file_of(numbers: &[u32]) -> Result<File> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
    let mut file =
        File::from(memfd_create("numbers", MemfdFlags::CLOEXEC).context("memfd_create")?);
    file.write_all(&bytes).context("write a memory file")?;
    Ok(file)
}

/// The numbers of a memory file.
pub(super) fn numbers_in(file: OwnedFd) -> Result<Vec<u32>> {
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes).context("read a memory file")?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    ensure!(rest.is_empty(), "a memory file of {} bytes holds no numbers", bytes.len());
    Ok(numbers.iter().map(|n| u32::from_ne_bytes(*n)).collect())
}

/// Sends a value with at most two descriptors.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    value: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    let mut file = File::from(memfd_create("letter", MemfdFlags::CLOEXEC).context("memfd_create")?);
    file.write_all(&serde_json::to_vec(value)?).context("write a letter")?;
    let mut all = vec![file.as_fd()];
    all.extend(descriptors);
    ensure!(all.len() <= MAX_DESCRIPTORS, "too many descriptors for a letter");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ensure!(ancillary.push(SendAncillaryMessage::ScmRights(&all)), "no space for descriptors");
    // A process that has ended must not end the other one by SIGPIPE.
    sendmsg(socket, &[IoSlice::new(b"l")], &mut ancillary, SendFlags::NOSIGNAL)
        .context("send a letter")?;
    Ok(())
}

/// Receives a value and its descriptors; nothing when the other end is closed.
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let parts = &mut [IoSliceMut::new(&mut byte)];
    let got = loop {
        match recvmsg(socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other.context("receive a letter")?,
        }
    };
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    ensure!(
        !descriptors.is_empty(),
        "a letter came without its descriptors\n  hint: is the limit of open files (`ulimit -n`) too low?"
    );
    let mut file = File::from(descriptors.remove(0));
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text).context("read a letter")?;
    Ok(Some((serde_json::from_slice(&text).context("understand a letter")?, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_any_size_arrive_with_their_descriptors() {
        let (here, there) = pair().unwrap();
        let long: Vec<u32> = (0..500_000).collect();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(here.as_fd(), &long, &[writer.as_fd()]).unwrap();
        drop(writer);
        let (got, mut descriptors) = receive::<Vec<u32>>(there.as_fd()).unwrap().unwrap();
        assert_eq!(got, long);
        File::from(descriptors.pop().unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        let numbers: Vec<u32> = vec![0, 7, u32::MAX];
        send(here.as_fd(), &(), &[file_of(&numbers).unwrap().as_fd()]).unwrap();
        let (_, mut descriptors) = receive::<()>(there.as_fd()).unwrap().unwrap();
        assert_eq!(numbers_in(descriptors.remove(0)).unwrap(), numbers);
        drop(here);
        assert!(receive::<Vec<u32>>(there.as_fd()).unwrap().is_none());
    }
}
