//! Keeps a namespace from sending UDP datagrams from one port, whoever owns the socket.
//!
//! Input: the port. Output: requests for [`Netns::apply`](super::netns::Netns::apply) that set and
//! lift the block. Kernel interface: routing rules that match protocol and source port
//! (ip-rule(8), `ipproto udp sport PORT prohibit`).
//!
//! A copy of a running server holds the keys of its origin's connections. Whatever it sends on
//! them would use a packet number a second time, so it is restored behind this block and only
//! let out when those connections are gone.

use super::netlink::Request;
use netlink_packet_route::{
    AddressFamily, IpProtocol, RouteNetlinkMessage as Message,
    rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange},
};

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
