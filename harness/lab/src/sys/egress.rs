//! Keeps a namespace from sending UDP datagrams from one port, or anything from one address, whoever
//! owns the socket.
//!
//! Input: the port or the address. Output: requests for [`Netns::apply`](super::netns::Netns::apply) that set and
//! lift the block. Kernel interface: routing rules that match protocol and source port
//! (ip-rule(8), `ipproto udp sport PORT prohibit`), or the source address (`from ADDRESS prohibit`).
//!
//! A copy of a running server holds the keys of its origin's connections. Whatever it sends on
//! them would use a packet number a second time, so it is restored behind this block and only
//! let out when those connections are gone.

use super::netlink::Request;
use netlink_packet_route::{
    AddressFamily, IpProtocol, RouteNetlinkMessage as Message,
    rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange},
};
use std::net::IpAddr;

/// Before all other rules but the kernel's own for local addresses.
const PRIORITY: u32 = 1;

/// From now on such datagrams are refused with EACCES, on both address families.
pub fn block(port: u16) -> [Request<'static>; 2] {
    [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
        let what = format!("keep UDP port {port} from sending ({family:?})");
        Request::create(what, Message::NewRule(rule(family, port)))
    })
}

/// Undoes [`block`].
pub fn unblock(port: u16) -> [Request<'static>; 2] {
    [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
        let what = format!("let UDP port {port} send ({family:?})");
        Request::change(what, Message::DelRule(rule(family, port)))
    })
}

/// From now on nothing is sent from this address (EACCES); the sockets do not mind and try again.
pub fn block_from(address: IpAddr) -> Request<'static> {
    let what = format!("keep {address} from sending");
    Request::create(what, Message::NewRule(rule_from(address)))
}

/// Undoes [`block_from`].
pub fn unblock_from(address: IpAddr) -> [Request<'static>; 1] {
    let what = format!("let {address} send");
    [Request::change(what, Message::DelRule(rule_from(address)))]
}

fn rule_from(address: IpAddr) -> RuleMessage {
    let mut message = RuleMessage::default();
    (message.header.family, message.header.src_len) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.action = RuleAction::Prohibit;
    message.attributes = vec![RuleAttribute::Priority(PRIORITY), RuleAttribute::Source(address)];
    message
}

fn rule(family: AddressFamily, port: u16) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::Prohibit;
    message.attributes = vec![
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::IpProtocol(IpProtocol::Udp),
        RuleAttribute::SourcePortRange(RulePortRange { start: port, end: port }),
    ];
    message
}
