//! Interfaces, bridges, addresses, routes, rules and neighbours of a namespace.
//!
//! Input: numbers and names, no topology. Output: [`Request`]s for [`Netns::apply`], and lists read
//! back from the kernel. Kernel interface: rtnetlink(7), ip-link(8), ip-rule(8).
//!
//! Interfaces are numbered by us ([`Netns::new_index`]) before they exist, so a namespace with all
//! that is in it takes one batch. Both ends of a veth pair are born in their final namespaces under
//! their final names: nothing is moved, renamed or looked up.

use super::{netlink::Request, netns::Netns, offload};
use anyhow::{Context, Result, bail};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{
        BridgeStpState, InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags,
        LinkInfo, LinkMessage, State,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use rtnetlink::{LinkBridge, LinkUnspec};
use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd},
    thread,
    time::{Duration, Instant},
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The loopback interface has this number in every namespace.
pub const LOOPBACK: u32 = 1;

/// One end of a veth pair, before it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The interface's number in its namespace, from [`Netns::new_index`].
    pub index: u32,
    /// The interface's name, at most 15 bytes.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The largest IP packet in bytes.
    pub mtu_bytes: u32,
}

impl End {
    fn message(&self) -> LinkMessage {
        LinkUnspec::new_with_index(self.index)
            .name(self.name.clone())
            .address(self.mac.to_vec())
            .mtu(self.mtu_bytes)
            // The default is one queue per processor, each with its files in sysfs; a shaper's
            // lock lets only one be served at a time anyway.
            .append_extra_attribute(LinkAttribute::NumTxQueues(1))
            .append_extra_attribute(LinkAttribute::NumRxQueues(1))
            .build()
    }
}

/// A veth pair: `near` in the namespace that the request is applied to, `far` in another. The near
/// end is a port of `bridge` if one is given, and up; the far end is down: its namespace brings it
/// up, because a pair's second end cannot be up before the pair is complete.
pub fn veth<'n>(near: &End, bridge: Option<u32>, far_netns: &'n Netns, far: &End) -> Request<'n> {
    let mut peer = far.message();
    peer.attributes.push(LinkAttribute::NetNsFd(far_netns.as_fd().as_raw_fd()));
    let mut message = near.message();
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message.attributes.extend(bridge.map(LinkAttribute::Controller));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    Request::create(
        format!("create veth `{}` with peer `{}`", near.name, far.name),
        Message::NewLink(message),
    )
}

/// A tunnel of Ethernet frames in UDP (RFC 7348) between two addresses, which is down at first.
pub fn vxlan(index: u32, name: &str, from: Ipv4Addr, to: Ipv4Addr) -> Request<'static> {
    let mut message = LinkUnspec::new_with_index(index).name(name.to_owned()).build();
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vxlan),
        LinkInfo::Data(InfoData::Vxlan(vec![
            InfoVxlan::Id(1),
            InfoVxlan::Local(from),
            InfoVxlan::Group(to),
            InfoVxlan::Port(VXLAN_PORT),
        ])),
    ]));
    Request::create(format!("create tunnel `{name}`"), Message::NewLink(message))
}

/// UDP port of VXLAN.
const VXLAN_PORT: u16 = 4789;

/// A bridge that is down; once up it forwards from the first frame on and speaks no protocol of its
/// own: no spanning tree, no multicast snooping. It has no addresses in a [`Role::Silent`] namespace.
///
/// [`Role::Silent`]: super::netns::Role::Silent
pub fn bridge(index: u32, name: &str) -> Request<'static> {
    let message = LinkBridge::new(name)
        .index(index)
        .stp_state(BridgeStpState::Disabled)
        .forward_delay(0)
        .mcast_snooping(false)
        .build();
    Request::create(format!("create bridge `{name}`"), Message::NewLink(message))
}

/// Makes an interface a port of a bridge, or of none.
pub fn enslave(index: u32, bridge: Option<u32>) -> Request<'static> {
    let message = LinkUnspec::new_with_index(index).controller(bridge.unwrap_or(0)).build();
    let what = match bridge {
        Some(bridge) => format!("make interface {index} a port of bridge {bridge}"),
        None => format!("take interface {index} out of its bridge"),
    };
    Request::change(what, Message::SetLink(message))
}

/// Brings an interface up or down.
pub fn set_up(index: u32, up: bool) -> Request<'static> {
    let link = LinkUnspec::new_with_index(index);
    let message = if up { link.up() } else { link.down() }.build();
    let state = if up { "up" } else { "down" };
    Request::change(format!("set interface {index} {state}"), Message::SetLink(message))
}

/// Removes an interface and, of a veth pair, the other end. The kernel answers when both are gone.
pub fn delete(index: u32) -> Request<'static> {
    let message = LinkUnspec::new_with_index(index).build();
    Request::change(format!("delete interface {index}"), Message::DelLink(message))
}

fn address_message(index: u32, address: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix_len;
    message.header.index = index;
    message.header.scope = match address.is_loopback() {
        true => AddressScope::Host,
        false => AddressScope::Universe,
    };
    // Without a broadcast attribute the kernel answers to none but 255.255.255.255.
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

/// Gives an interface an address, usable at once (IPv6: no duplicate address detection).
pub fn add_address(index: u32, address: IpAddr, prefix_len: u8) -> Request<'static> {
    Request::create(
        format!("add address {address}/{prefix_len} to interface {index}"),
        Message::NewAddress(address_message(index, address, prefix_len)),
    )
}

/// Takes an address from an interface.
pub fn delete_address(index: u32, address: IpAddr, prefix_len: u8) -> Request<'static> {
    Request::change(
        format!("delete address {address}/{prefix_len} from interface {index}"),
        Message::DelAddress(address_message(index, address, prefix_len)),
    )
}

/// Where packets to some prefix go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination address and prefix length; `0.0.0.0/0` or `::/0` is the default route.
    pub to: (IpAddr, u8),
    /// The next router, of the same family; none if the prefix is on the link.
    pub via: Option<IpAddr>,
    /// The interface's number.
    pub link: u32,
    /// The routing table; 254 is the main one.
    pub table: u32,
    /// The source address of packets whose socket chose none.
    pub source: Option<IpAddr>,
}

/// The routing table that is used where no rule says otherwise.
pub const MAIN_TABLE: u32 = 254;

impl Route {
    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let (prefix, length) = self.to;
        message.header.address_family = family(prefix);
        message.header.destination_prefix_length = length;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = match (self.via, prefix) {
            (None, IpAddr::V4(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        let to = (length > 0).then(|| RouteAttribute::Destination(prefix.into()));
        let via = self.via.map(|a| RouteAttribute::Gateway(a.into()));
        let source = self.source.map(|a| RouteAttribute::PrefSource(a.into()));
        message.attributes = to.into_iter().chain(via).chain(source).collect();
        message.attributes.push(RouteAttribute::Oif(self.link));
        message.attributes.push(RouteAttribute::Table(self.table));
        message
    }

    fn name(&self) -> String {
        let (prefix, length) = self.to;
        let via = self.via.map(|a| format!(" via {a}")).unwrap_or_default();
        format!(
            "route to {prefix}/{length}{via} on interface {} in table {}",
            self.link, self.table
        )
    }
}

/// Adds a route or replaces the one to the same prefix in the same table.
pub fn set_route(route: &Route) -> Request<'static> {
    Request::replace(format!("set {}", route.name()), Message::NewRoute(route.message()))
}

/// Deletes a route.
pub fn delete_route(route: &Route) -> Request<'static> {
    Request::change(format!("delete {}", route.name()), Message::DelRoute(route.message()))
}

fn rule_message(from: IpAddr, table: u32, priority: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(from);
    message.header.src_len = if from.is_ipv4() { 32 } else { 128 };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(from),
        RuleAttribute::Table(table),
        RuleAttribute::Priority(priority),
    ];
    message
}

/// Packets from this address look in this table first: what multihoming needs. Lower priorities
/// come first; the main table has 32766.
pub fn add_rule(from: IpAddr, table: u32, priority: u32) -> Request<'static> {
    Request::create(
        format!("add rule from {from} lookup {table}"),
        Message::NewRule(rule_message(from, table, priority)),
    )
}

/// Packets of sockets that are bound to an interface look in this table first.
pub fn add_bound_rule(interface: &str, v4: bool, table: u32, priority: u32) -> Request<'static> {
    let mut message = RuleMessage::default();
    message.header.family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Oifname(interface.to_owned()),
        RuleAttribute::Table(table),
        RuleAttribute::Priority(priority),
    ];
    Request::create(
        format!("add rule for what is bound to {interface} lookup {table}"),
        Message::NewRule(message),
    )
}

/// Deletes a rule that [`add_rule`] made.
pub fn delete_rule(from: IpAddr, table: u32, priority: u32) -> Request<'static> {
    Request::change(
        format!("delete rule from {from} lookup {table}"),
        Message::DelRule(rule_message(from, table, priority)),
    )
}

/// A permanent neighbour, so that no first packet waits for ARP or neighbour discovery.
pub fn set_neighbour(index: u32, address: IpAddr, mac: Mac) -> Request<'static> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    Request::replace(
        format!("set neighbour {address} on interface {index}"),
        Message::NewNeighbour(message),
    )
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An interface as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it carries packets: it and its peer are up and the kernel has acted on that.
    pub running: bool,
    /// What has passed since it was made.
    pub counters: Counters,
}

/// Totals since the interface was made; packets and bytes with Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received and thrown away.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets thrown away instead of sent (not those dropped by a queueing discipline).
    pub tx_dropped: u64,
}

/// All interfaces of a namespace.
pub fn list(netns: &Netns) -> Result<Vec<Link>> {
    let messages = netns.dump("list interfaces", &Message::GetLink(LinkMessage::default()))?;
    messages.into_iter().filter_map(link_of).collect()
}

fn link_of(message: Message) -> Option<Result<Link>> {
    let Message::NewLink(message) = message else { return None };
    let (mut name, mut state, mut tap) = (None, State::Unknown, false);
    let mut counters = Counters::default();
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(n) => name = Some(n),
            LinkAttribute::OperState(s) => state = s,
            LinkAttribute::LinkInfo(info) => tap = info.contains(&LinkInfo::Kind(InfoKind::Tun)),
            LinkAttribute::Stats64(s) => {
                counters = Counters {
                    rx_bytes: s.rx_bytes,
                    rx_packets: s.rx_packets,
                    rx_dropped: s.rx_dropped,
                    tx_bytes: s.tx_bytes,
                    tx_packets: s.tx_packets,
                    tx_dropped: s.tx_dropped,
                };
            }
            _ => {}
        }
    }
    let (index, flags) = (message.header.index, message.header.flags);
    let up = flags.contains(LinkFlags::Up);
    // A TAP has its carrier before it is brought up, so no work queue has to act on it.
    let running = state == State::Up
        || (tap && state == State::Unknown && flags.contains(LinkFlags::Up | LinkFlags::LowerUp));
    let name = name.with_context(|| format!("list interfaces: number {index} has no name"));
    Some(name.map(|name| Link { index, name, up, running, counters }))
}

/// Waits until interfaces carry packets and their IPv6 addresses receive, for at most `timeout`.
///
/// The kernel learns of a new carrier at once, but a work queue activates the interface and, on the
/// other side, the bridge's port; until then they drop what is sent. It serves a hundred at a time
/// and may then pause for a second, unless somebody asks for the carrier. Another work queue routes
/// a new IPv6 address to its host. On a busy machine either takes tens of milliseconds.
pub fn wait_ready(netns: &Netns, indices: &[u32], timeout: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        let mut late = list(netns)?;
        late.retain(|l| indices.contains(&l.index) && !l.running);
        let mut any_carrier = false;
        for link in &late {
            any_carrier |= offload::carrier(netns, &link.name)?;
        }
        let lacking = match late.first() {
            Some(first) => format!("interface `{}` has no carrier", first.name),
            None => match unrouted(netns, indices)? {
                Some(address) => format!("address {address} is not routed to its host"),
                None => return Ok(()),
            },
        };
        if start.elapsed() > timeout {
            bail!("wait for interfaces: {lacking} after {timeout:?}");
        }
        if !any_carrier {
            thread::sleep(Duration::from_micros(500));
        }
    }
}

/// An IPv6 address that its host does not yet accept packets for.
fn unrouted(netns: &Netns, indices: &[u32]) -> Result<Option<IpAddr>> {
    let mut get = AddressMessage::default();
    get.header.family = AddressFamily::Inet6;
    let addresses = netns.dump("list addresses", &Message::GetAddress(get))?;
    if addresses.is_empty() {
        return Ok(None);
    }
    let mut get = RouteMessage::default();
    get.header.address_family = AddressFamily::Inet6;
    let routes = netns.dump("list routes", &Message::GetRoute(get))?;
    let routed = |address: IpAddr| {
        let to = RouteAttribute::Destination(address.into());
        routes.iter().any(|m| match m {
            Message::NewRoute(r) => r.header.kind == RouteType::Local && r.attributes.contains(&to),
            _ => false,
        })
    };
    Ok(addresses.iter().find_map(|m| match m {
        Message::NewAddress(a) if indices.contains(&a.header.index) => {
            a.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(address) => (!routed(*address)).then_some(*address),
                _ => None,
            })
        }
        _ => None,
    }))
}

/// The permanent neighbours of one family in a namespace, to check that all are there.
pub fn neighbours(netns: &Netns, v6: bool) -> Result<Vec<(u32, IpAddr)>> {
    let mut get = NeighbourMessage::default();
    get.header.family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let messages = netns.dump("list neighbours", &Message::GetNeighbour(get))?;
    Ok(messages
        .into_iter()
        .filter_map(|m| match m {
            Message::NewNeighbour(n) if n.header.state == NeighbourState::Permanent => {
                let address = n.attributes.into_iter().find_map(|a| match a {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => Some(a.into()),
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => Some(a.into()),
                    _ => None,
                });
                Some((n.header.ifindex, address?))
            }
            _ => None,
        })
        .collect())
}
