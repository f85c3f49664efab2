//! The path manager of MPTCP in a namespace (RFC 8684): which addresses the kernel tells its peers
//! of, and how many paths it takes; and what its connections have done.
//!
//! Kernel interface: generic netlink, family `mptcp_pm` (linux/mptcp_pm.h), and the counters `MPTcpExt`
//! of /proc/net/netstat.

use super::{netlink::Answers, netns::Netns};
use anyhow::{Context, Result, bail};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR};
use rtnetlink::sys::{Socket, protocols::NETLINK_GENERIC};
use std::{fs, io, net::IpAddr};

/// Whether this kernel has MPTCP is told by this file.
pub const SWITCH: &str = "/proc/sys/net/mptcp/enabled";

/// The family that knows all families (linux/genetlink.h).
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Commands of the path manager, and their attributes (linux/mptcp_pm.h).
const ADD_ADDRESS: u8 = 1;
const DELETE_ADDRESS: u8 = 2;
const SET_LIMITS: u8 = 5;
const ADDRESS: u16 = 1;
const ACCEPTED: u16 = 2;
const SUBFLOWS: u16 = 3;
const ADDRESS_FAMILY: u16 = 1;
const ADDRESS_ID: u16 = 2;
const ADDRESS_V4: u16 = 3;
const ADDRESS_V6: u16 = 4;
const ADDRESS_FLAGS: u16 = 6;
/// Peers are told of the address.
const SIGNAL: u32 = 1;
/// The value holds attributes (linux/netlink.h).
const NESTED: u16 = 1 << 15;

/// How many addresses of its peers, and how many further paths, a connection takes.
///
/// # Errors
/// When the kernel has no MPTCP or refuses.
pub fn set_limits(netns: &Netns, accepted: u32, subflows: u32) -> Result<()> {
    let attributes = [
        attribute(ACCEPTED, &accepted.to_ne_bytes()),
        attribute(SUBFLOWS, &subflows.to_ne_bytes()),
    ];
    ask(netns, SET_LIMITS, attributes.concat()).context("set the limits of MPTCP")
}

/// Tells the peers of all connections of this address (ADD_ADDR).
///
/// # Errors
/// When the kernel refuses.
pub fn announce(netns: &Netns, address: IpAddr) -> Result<()> {
    let flags = attribute(ADDRESS_FLAGS, &SIGNAL.to_ne_bytes());
    let attributes = attribute(ADDRESS | NESTED, &[of(address), flags].concat());
    ask(netns, ADD_ADDRESS, attributes).with_context(|| format!("announce {address} by MPTCP"))
}

/// Ends the first path of all connections that began at this address, and tells the peers
/// (REMOVE_ADDR).
///
/// # Errors
/// When the kernel refuses.
pub fn withdraw(netns: &Netns, address: IpAddr) -> Result<()> {
    // The address of the first path has the number 0 and is in no list.
    let id = attribute(ADDRESS_ID, &[0]);
    let attributes = attribute(ADDRESS | NESTED, &[of(address), id].concat());
    ask(netns, DELETE_ADDRESS, attributes).with_context(|| format!("withdraw {address} by MPTCP"))
}

/// A counter of the namespace, as `MPJoinAckRx`.
///
/// # Errors
/// When the kernel does not have it.
pub fn counter(netns: &Netns, name: &str) -> Result<u64> {
    let text = netns.run(|| {
        let file = "/proc/thread-self/net/netstat";
        fs::read_to_string(file).with_context(|| format!("read {file}"))
    })?;
    find_counter(&text, name).with_context(|| format!("the kernel does not count {name}"))
}

fn find_counter(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("MPTcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|n| n == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

fn of(address: IpAddr) -> Vec<u8> {
    let (family, value) = match address {
        IpAddr::V4(ip) => (libc::AF_INET, attribute(ADDRESS_V4, &ip.octets())),
        IpAddr::V6(ip) => (libc::AF_INET6, attribute(ADDRESS_V6, &ip.octets())),
    };
    [attribute(ADDRESS_FAMILY, &(family as u16).to_ne_bytes()), value].concat()
}

/// Length and kind before the value, filled up to four bytes (netlink(7)).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// struct nlmsghdr and struct genlmsghdr before the attributes.
fn message(family: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (20 + attributes.len()) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([family.to_ne_bytes(), flags.to_ne_bytes()].concat());
    // Sequence number and port, then the command and its version.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

fn ask(netns: &Netns, command: u8, attributes: Vec<u8>) -> Result<()> {
    netns.run(|| {
        let mut socket = Socket::new(NETLINK_GENERIC).context("open a netlink socket")?;
        socket.bind_auto().context("bind the netlink socket")?;
        let name = attribute(FAMILY_NAME, b"mptcp_pm\0");
        let answer = exchange(&socket, &message(CONTROL, NLM_F_REQUEST, GET_FAMILY, &name));
        let answer = answer.context("find the path manager (does this kernel have MPTCP?)")?;
        let family = family_of(&answer).context("the path manager has no number")?;
        exchange(&socket, &message(family, NLM_F_REQUEST | NLM_F_ACK, command, &attributes))?;
        Ok(())
    })
}

/// The bytes of the answer; an acknowledgement has none of interest.
fn exchange(socket: &Socket, question: &[u8]) -> Result<Vec<u8>> {
    socket.send(question, 0).context("send to netlink")?;
    let mut buffer = Vec::with_capacity(16 << 10);
    socket.recv(&mut buffer, 0).context("read netlink's answer")?;
    let Some(answer) = Answers(&buffer).next() else { bail!("netlink answered nothing") };
    let answer = answer?;
    if answer.kind == NLMSG_ERROR
        && let Some((errno, explanation)) = answer.error()?
    {
        return Err(io::Error::from_raw_os_error(errno)).context(explanation);
    }
    Ok(answer.bytes.to_vec())
}

/// The number of a family in an answer about it.
fn family_of(answer: &[u8]) -> Option<u16> {
    let mut attributes = answer.get(20..)?;
    while let [l0, l1, k0, k1, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == FAMILY_ID {
            return Some(u16::from_ne_bytes(value.get(..2)?.try_into().ok()?));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ip mptcp endpoint add 10.4.0.2 signal` sends, but for its sequence number.
    #[test]
    fn an_announcement_is_what_ip_sends() {
        let flags = attribute(ADDRESS_FLAGS, &SIGNAL.to_ne_bytes());
        let address = of([10, 4, 0, 2].into());
        let bytes = attribute(ADDRESS | NESTED, &[address, flags].concat());
        let wanted = [
            [28, 0, 1, 0x80],
            [6, 0, 1, 0],
            [2, 0, 0, 0],
            [8, 0, 3, 0],
            [10, 4, 0, 2],
            [8, 0, 6, 0],
            [1, 0, 0, 0],
        ];
        assert_eq!(bytes, wanted.concat());
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nMPTcpExt: MPJoinAckRx RmAddr\nMPTcpExt: 3 4\n";
        assert_eq!(find_counter(text, "RmAddr"), Some(4));
        assert_eq!(find_counter(text, "B"), None);
        assert_eq!(find_counter("TcpExt: A\nTcpExt: 1\n", "A"), None);
    }
}
