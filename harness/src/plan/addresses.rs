//! Which subnet each segment has, and which address each interface.

use super::network::{Network, stations};
use crate::spec::{Document, Family, Kind, Problem, Topology};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Gives every interface of hosts and routers an address of each family: first those that the user
/// gave, because they decide subnets and take numbers.
pub(super) fn give(
    topology: &Document<Topology>,
    network: &mut Network,
    problems: &mut Vec<Problem>,
) {
    let segments = stations(network);
    let mut taken: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut subnets: BTreeMap<(usize, bool), IpNet> = BTreeMap::new();
    for (segment, members) in &segments {
        for (place, i) in members {
            let interface = network.places[place].interfaces[*i].name.clone();
            let given = topology.value.nodes[place].interfaces.get(&interface);
            for (a, text) in given.iter().flat_map(|g| g.addresses.iter().enumerate()) {
                let way = [
                    "nodes".into(),
                    place.into(),
                    "interfaces".into(),
                    (&interface).into(),
                    "addresses".into(),
                    a.into(),
                ];
                match check_address(text, *segment, &subnets, &taken) {
                    Ok(net) => {
                        subnets.insert((*segment, is_v4(&net)), net.trunc());
                        taken.insert(net.addr(), format!("{place}.{interface}"));
                        network.places[place].interfaces[*i].addresses.push(net);
                    }
                    Err((message, hint)) => problems.push(topology.problem(&way, message, hint)),
                }
            }
        }
    }
    let mut block = 0_u16;
    for (segment, members) in &segments {
        for family in &topology.value.families {
            let v4 = *family == Family::Ipv4;
            let subnet = match subnets.get(&(*segment, v4)) {
                Some(net) => *net,
                None => loop {
                    let Some(net) = free_block(block, v4, members.len()) else {
                        let message = "the network has more segments than 10.0.0.0/8 has blocks";
                        problems.push(topology.problem(&["links".into()], message.into(), None));
                        return;
                    };
                    let overlaps = |other: &IpNet| other.contains(&net) || net.contains(other);
                    if !subnets.values().any(overlaps) {
                        break net;
                    }
                    block += 1;
                },
            };
            subnets.insert((*segment, v4), subnet);
            let (mut up, mut down) = (1_u32, 254_u32);
            for (place, i) in members {
                let interfaces = &mut network.places[place];
                let router = interfaces.kind == Kind::Router;
                let interface = &mut interfaces.interfaces[*i];
                if interface.addresses.iter().any(|a| is_v4(a) == v4) {
                    continue;
                }
                let net = loop {
                    let number = if router { &mut down } else { &mut up };
                    let ip = nth(subnet, *number);
                    *number = if router { number.wrapping_sub(1) } else { *number + 1 };
                    let Some(ip) = ip else {
                        let message = format!("{subnet} has no address left for `{place}`");
                        problems.push(topology.problem(&["links".into()], message, None));
                        return;
                    };
                    if let Entry::Vacant(free) = taken.entry(ip) {
                        free.insert(format!("{place}.{}", interface.name));
                        break IpNet::new(ip, subnet.prefix_len()).unwrap_or(subnet);
                    }
                };
                interface.addresses.push(net);
            }
        }
        block += 1;
    }
    // The first family of the file comes first on every interface.
    let v4_first = topology.value.families.first() == Some(&Family::Ipv4);
    for place in network.places.values_mut() {
        for interface in &mut place.interfaces {
            interface.addresses.sort_by_key(|a| is_v4(a) != v4_first);
        }
    }
}

fn check_address(
    text: &str,
    segment: usize,
    subnets: &BTreeMap<(usize, bool), IpNet>,
    taken: &BTreeMap<IpAddr, String>,
) -> Result<IpNet, (String, Option<String>)> {
    let net: IpNet = text.parse().map_err(|_| {
        let hint = Some("write it like `10.1.0.3/24` or `fd00::3/64`".into());
        (format!("`{text}` is not an address with a prefix length"), hint)
    })?;
    let ip = net.addr();
    if ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return Err((format!("`{ip}` is not an address of a host"), None));
    }
    if net.hosts().count() > 1 && is_v4(&net) && (ip == net.network() || ip == net.broadcast()) {
        return Err((
            format!("`{ip}` is the network or broadcast address of {}", net.trunc()),
            None,
        ));
    }
    if let Some(owner) = taken.get(&ip) {
        return Err((format!("`{ip}` is taken by `{owner}`"), None));
    }
    for ((other, _), subnet) in subnets {
        if *other == segment && is_v4(subnet) == is_v4(&net) && subnet.trunc() != net.trunc() {
            let hint = Some("nodes joined by switches share a subnet".into());
            return Err((format!("`{net}` is not in {subnet}, which this segment has"), hint));
        }
        if *other != segment && (subnet.contains(&net.trunc()) || net.trunc().contains(subnet)) {
            let hint = Some("each segment has a subnet of its own".into());
            return Err((format!("`{net}` overlaps {subnet} of another segment"), hint));
        }
    }
    Ok(net)
}

pub(super) fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

fn free_block(block: u16, v4: bool, stations: usize) -> Option<IpNet> {
    if !v4 {
        return Ipv6Net::new(Ipv6Addr::new(0xfd00, 0, 0, block, 0, 0, 0, 0), 64)
            .ok()
            .map(IpNet::V6);
    }
    let second = u8::try_from(block).ok()?;
    let prefix = if stations <= 200 { 24 } else { 16 };
    Ipv4Net::new(Ipv4Addr::new(10, second, 0, 0), prefix).ok().map(IpNet::V4)
}

/// The n-th address of a subnet, if that is a host's.
fn nth(subnet: IpNet, n: u32) -> Option<IpAddr> {
    let ip = match subnet {
        IpNet::V4(net) => {
            let ip = Ipv4Addr::from(u32::from(net.network()).checked_add(n)?);
            (ip != net.network() && ip != net.broadcast()).then_some(IpAddr::V4(ip))?
        }
        IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()) + u128::from(n)).into(),
    };
    subnet.contains(&ip).then_some(ip)
}
