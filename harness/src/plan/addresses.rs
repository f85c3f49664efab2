//! Which subnet each segment has, and which address each interface.

use super::subnets::{Numbers, Subnets, is_v4, parse};
use crate::spec::{Document, Family, PathStep, Problem, Topology};
use limosa_lab::network::Kind;
use limosa_lab::{neighbours::stations, network::Network};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// Gives every interface of hosts and routers an address of each family: first those that the user
/// gave, because they decide subnets and take numbers.
pub(super) fn give(
    topology: &Document<Topology>,
    network: &mut Network,
    problems: &mut Vec<Problem>,
) {
    let segments = stations(network);
    let mut taken: HashMap<IpAddr, (String, String)> = HashMap::new();
    let mut subnets = Subnets::default();
    for (segment, members) in &segments {
        for (place, i) in members {
            let interface = network.places[place].interfaces[*i].name.clone();
            let given = topology.value.nodes[place].interfaces.get(&interface);
            for (a, text) in given.iter().flat_map(|g| g.addresses.iter().enumerate()) {
                let checked = parse(text).and_then(|net| {
                    if let Some((place, interface)) = taken.get(&net.addr()) {
                        let message = format!("`{}` is taken by `{place}.{interface}`", net.addr());
                        return Err((message, None));
                    }
                    subnets.check(&net, *segment).map(|()| net)
                });
                match checked {
                    Ok(net) => {
                        subnets.add(*segment, net);
                        taken.insert(net.addr(), (place.clone(), interface.clone()));
                        network.places[place].interfaces[*i].addresses.push(net);
                    }
                    Err((message, hint)) => {
                        let way = way_to(place, &interface, a);
                        problems.push(topology.problem(&way, message, hint));
                    }
                }
            }
        }
    }
    let taken: HashSet<IpAddr> = taken.into_keys().collect();
    for (segment, members) in &segments {
        for family in &topology.value.families {
            let v4 = *family == Family::Ipv4;
            let free = subnets.of(*segment, v4);
            let Some(subnet) = free.or_else(|| subnets.take_free(*segment, v4, members.len()))
            else {
                problems.push(no_block(topology, network, &members[0]));
                return;
            };
            let mut numbers = Numbers::of(subnet);
            let mut new = HashSet::new();
            for (place, i) in members {
                let interfaces = &mut network.places[place];
                let router = interfaces.kind == Kind::Router;
                let interface = &mut interfaces.interfaces[*i];
                if interface.addresses.iter().any(|a| is_v4(a) == v4) {
                    continue;
                }
                let is_free = |ip: IpAddr| !taken.contains(&ip) && !new.contains(&ip);
                let Some(net) = numbers.next(router, is_free) else {
                    let message = format!(
                        "{subnet} has no address left for `{place}.{}`: {} stations share it",
                        interface.name,
                        members.len()
                    );
                    let hint = Some("give the segment's addresses a shorter prefix length".into());
                    let way = link_end(network, place, *i);
                    problems.push(topology.problem(&way, message, hint));
                    return;
                };
                new.insert(net.addr());
                interface.addresses.push(net);
            }
        }
        subnets.advance();
    }
    // The first family of the file comes first on every interface.
    let v4_first = topology.value.families.first() == Some(&Family::Ipv4);
    for place in network.places.values_mut() {
        for interface in &mut place.interfaces {
            interface.addresses.sort_by_key(|a| is_v4(a) != v4_first);
        }
    }
}

/// Where the user wrote an address.
fn way_to(place: &str, interface: &str, address: usize) -> [PathStep; 6] {
    let steps = ["nodes", place, "interfaces", interface, "addresses"].map(PathStep::from);
    let [a, b, c, d, e] = steps;
    [a, b, c, d, e, address.into()]
}

/// The end of a link that an interface of a place is.
fn link_end(network: &Network, place: &str, interface: usize) -> Vec<PathStep> {
    let name = &network.places[place].interfaces[interface].name;
    let mut ends = network
        .links
        .iter()
        .enumerate()
        .flat_map(|(l, link)| link.ends.iter().enumerate().map(move |(e, end)| (l, e, end)));
    let found = ends.find(|(_, _, end)| end.0 == place && end.1 == *name);
    found.map_or(vec!["links".into()], |(l, e, _)| {
        vec!["links".into(), l.into(), "ends".into(), e.into()]
    })
}

fn no_block(topology: &Document<Topology>, network: &Network, first: &(String, usize)) -> Problem {
    let mut widest: Vec<_> = topology
        .value
        .nodes
        .iter()
        .flat_map(|(place, node)| node.interfaces.iter().map(move |(name, i)| (place, name, i)))
        .flat_map(|(place, name, i)| i.addresses.iter().map(move |text| (place, name, text)))
        .filter_map(|(place, name, text)| Some((parse(text).ok()?, place, name)))
        .collect();
    widest.sort_by_key(|(net, ..)| net.prefix_len());
    let message = "no private subnet of IPv4 is left for this segment".to_owned();
    let hint = match widest.first() {
        Some((net, place, name)) if is_v4(net) && net.prefix_len() < 16 => {
            format!("`{place}.{name}` takes all of {}: give it a longer prefix length", net.trunc())
        }
        _ => "take `families: [ipv6]`, or fewer segments".to_owned(),
    };
    topology.problem(&link_end(network, &first.0, first.1), message, Some(hint))
}
