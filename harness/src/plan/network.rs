//! A network's places and links, and which of them are one segment.
//!
//! Places joined by switches are one segment. Each segment has a subnet per address family: the
//! one of an address that the user gave, else the next free `10.K.0.0/16`-sized block of
//! 10.0.0.0/8 as a /24 (or /16 when it has many stations), and `fd00:0:0:K::/64`. Stations are
//! numbered from 1 in the order of the links, routers from 254 downwards. A host sends through the
//! first router of its segment; a host with several interfaces also has a table and a rule per
//! interface, so that what comes from an address leaves through its interface. Routers know the
//! shortest way to every segment.

use super::{
    addresses, routes,
    shape::{self, ShapePlan},
};
use crate::spec::{Document, Kind, Link, Links, Problem, Shape, Topology, known};
use indexmap::IndexMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Longest interface name that Linux takes.
const MAX_INTERFACE_NAME: usize = 15;

/// All places and links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Places by name.
    pub places: IndexMap<String, PlacePlan>,
    /// Links in the order of the file.
    pub links: Vec<LinkPlan>,
}

/// A place: one namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacePlan {
    /// What it does with packets.
    pub kind: Kind,
    /// Its interfaces, in the order of the links.
    pub interfaces: Vec<InterfacePlan>,
    /// Routes beside those that follow from the addresses.
    pub routes: Vec<RoutePlan>,
    /// Rules of multi-homed hosts.
    pub rules: Vec<RulePlan>,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePlan {
    /// Its name.
    pub name: String,
    /// Its Ethernet address: locally administered, numbered in the order of the links.
    #[serde(with = "mac")]
    pub mac: [u8; 6],
    /// Its addresses; none on a switch.
    pub addresses: Vec<IpNet>,
    /// Number of its segment.
    pub segment: usize,
}

/// An Ethernet address as people write it, `02:4c:00:00:00:01`.
mod mac {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mac: &[u8; 6], s: S) -> Result<S::Ok, S::Error> {
        let parts: Vec<String> = mac.iter().map(|b| format!("{b:02x}")).collect();
        s.serialize_str(&parts.join(":"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 6], D::Error> {
        let text = String::deserialize(d)?;
        let parts: Vec<u8> =
            text.split(':').filter_map(|p| u8::from_str_radix(p, 16).ok()).collect();
        parts.try_into().map_err(|_| D::Error::custom(format!("`{text}` is no Ethernet address")))
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePlan {
    /// Where to.
    pub to: IpNet,
    /// Through which router; `None` for a neighbour.
    pub via: Option<IpAddr>,
    /// Out of which interface.
    pub interface: String,
    /// Routing table.
    pub table: u32,
}

/// A rule: what comes from this address uses this table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulePlan {
    /// Source address.
    pub from: IpAddr,
    /// Routing table.
    pub table: u32,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// Its name.
    pub name: String,
    /// Place and interface of both ends.
    pub ends: [(String, String); 2],
    /// Shape from the first end to the second.
    pub a_to_b: Option<ShapePlan>,
    /// Shape from the second end to the first.
    pub b_to_a: Option<ShapePlan>,
}

impl Network {
    /// Whether any link has a shape.
    pub fn needs_shaping(&self) -> bool {
        self.links.iter().any(|l| l.a_to_b.is_some() || l.b_to_a.is_some())
    }

    /// Whether any link plays a recording, which only user-space links can.
    pub fn needs_user_links(&self) -> bool {
        let both = self.links.iter().flat_map(|l| [&l.a_to_b, &l.b_to_a]);
        both.flatten().any(|s| s.trace.is_some())
    }

    /// An interface of a place by name.
    pub fn interface(&self, place: &str, name: &str) -> Option<&InterfacePlan> {
        self.places.get(place)?.interfaces.iter().find(|i| i.name == name)
    }

    /// The interface of a place that has this address in its subnet.
    pub fn interface_near(&self, place: &str, address: IpAddr) -> Option<&InterfacePlan> {
        let interfaces = &self.places.get(place)?.interfaces;
        interfaces.iter().find(|i| i.addresses.iter().any(|net| net.contains(&address)))
    }

    /// The first address of a place, of the family that comes first.
    pub fn address(&self, place: &str) -> Option<IpAddr> {
        self.places.get(place)?.interfaces.iter().find_map(|i| i.addresses.first()).map(IpNet::addr)
    }

    /// An address of a place, one on a segment that it shares with `from` if there is any; of the
    /// family that comes first.
    pub fn address_toward(&self, place: &str, from: &str) -> Option<IpAddr> {
        let near: BTreeSet<usize> =
            self.places.get(from)?.interfaces.iter().map(|i| i.segment).collect();
        let interfaces = &self.places.get(place)?.interfaces;
        let shared = interfaces.iter().filter(|i| near.contains(&i.segment));
        let mut addresses = shared.chain(interfaces).filter_map(|i| i.addresses.first());
        addresses.next().map(IpNet::addr)
    }

    /// The interfaces of `place` through which these places are reached, each once: one on a
    /// shared segment if there is any, else the first.
    pub fn interfaces_toward<'a>(
        &self,
        place: &str,
        others: impl IntoIterator<Item = &'a str>,
    ) -> Vec<&InterfacePlan> {
        let mut found: Vec<&InterfacePlan> = Vec::new();
        let own = &self.places[place].interfaces;
        for other in others {
            let near = |i: &&InterfacePlan| {
                let theirs = self.places.get(other).into_iter().flat_map(|p| &p.interfaces);
                theirs.into_iter().any(|t| t.segment == i.segment)
            };
            let Some(chosen) = own.iter().find(near).or(own.first()) else { continue };
            if !found.iter().any(|i| i.name == chosen.name) {
                found.push(chosen);
            }
        }
        found
    }

    /// How one place reaches another: its own interface and address, and the other's address.
    pub fn route(&self, from: &str, to: &str) -> Option<(&str, IpAddr, IpAddr)> {
        let interface = *self.interfaces_toward(from, [to]).first()?;
        let to = self.address_toward(to, from)?;
        let own = interface.addresses.iter().find(|a| a.addr().is_ipv4() == to.is_ipv4())?;
        Some((&interface.name, own.addr(), to))
    }

    /// A place's other stations on its segments: own interface, their address, their MAC.
    pub fn neighbours<'a>(
        &'a self,
        place: &'a str,
    ) -> impl Iterator<Item = (&'a str, IpAddr, [u8; 6])> {
        let own = self.places.get(place).into_iter().flat_map(|p| &p.interfaces);
        own.filter(|i| !i.addresses.is_empty()).flat_map(move |mine| {
            let others = self.places.iter().filter(move |(name, _)| *name != place);
            others
                .flat_map(|(_, p)| &p.interfaces)
                .filter(|i| i.segment == mine.segment)
                .flat_map(move |i| i.addresses.iter().map(move |a| (&*mine.name, a.addr(), i.mac)))
        })
    }
}

/// Resolves a topology, adding what is wrong with it to `problems`.
pub(super) fn resolve(
    topology: &Document<Topology>,
    links: Links,
    problems: &mut Vec<Problem>,
) -> Option<Network> {
    let before = problems.len();
    let mut network = places_and_links(topology, links, problems);
    if problems.len() > before {
        return None;
    }
    number_segments(&mut network);
    addresses::give(topology, &mut network, problems);
    if problems.len() > before {
        return None;
    }
    routes::find(&mut network);
    Some(network)
}

fn places_and_links(
    topology: &Document<Topology>,
    backend: Links,
    problems: &mut Vec<Problem>,
) -> Network {
    let spec = &topology.value;
    // A shape of both directions would tell its problem twice.
    let mut complain = |way: &[crate::spec::PathStep], message, hint| {
        let problem = topology.problem(way, message, hint);
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    let empty = |kind| PlacePlan { kind, interfaces: vec![], routes: vec![], rules: vec![] };
    let mut places: IndexMap<String, PlacePlan> =
        spec.nodes.iter().map(|(name, p)| (name.clone(), empty(p.kind))).collect();
    let mut links: Vec<LinkPlan> = Vec::new();
    if spec.families.is_empty() {
        complain(&["families".into()], "no address family is left".into(), None);
    }
    let mut station = 0_u32;
    for (i, link) in spec.links.iter().enumerate() {
        let at = |field: &str| vec!["links".into(), i.into(), field.into()];
        let mut ends = Vec::new();
        for (e, end) in link.ends.iter().enumerate() {
            let way = [at("ends"), vec![e.into()]].concat();
            let (name, interface) = match end.split_once('.') {
                Some((name, interface)) => (name, Some(interface)),
                None => (end.as_str(), None),
            };
            let Some(place) = places.get_mut(name) else {
                let hint = known("nodes", name, spec.nodes.keys().map(String::as_str));
                complain(&way, format!("there is no node `{name}`"), hint);
                continue;
            };
            let prefix = if place.kind == Kind::Switch { "port" } else { "eth" };
            let interface =
                interface.map_or_else(|| format!("{prefix}{}", place.interfaces.len()), Into::into);
            if let Err(why) = check_interface_name(&interface) {
                complain(&way, why, None);
                continue;
            }
            if place.interfaces.iter().any(|i| i.name == interface) {
                let hint = Some("an interface is the end of one link".into());
                complain(&way, format!("`{name}.{interface}` is in use already"), hint);
                continue;
            }
            station += 1;
            let [_, b, c, d] = station.to_be_bytes();
            let mac = [0x02, 0x4c, 0x00, b, c, d];
            let plan =
                InterfacePlan { name: interface.clone(), mac, addresses: vec![], segment: 0 };
            place.interfaces.push(plan);
            ends.push((name.to_owned(), interface));
        }
        let Ok([a, b]) = <[_; 2]>::try_from(ends) else { continue };
        let name = link.name.clone().unwrap_or_else(|| format!("{}--{}", a.0, b.0));
        if links.iter().any(|l| l.name == name) {
            let hint = Some("give one of them a `name`".into());
            complain(&at("ends"), format!("two links are called `{name}`"), hint);
        }
        if a.0 == b.0 {
            complain(&at("ends"), format!("both ends are on `{}`", a.0), None);
        }
        let shapes = link_shapes(link);
        if link.shape.is_some() && (link.a_to_b.is_some() || link.b_to_a.is_some()) {
            let hint = Some("`shape` is both directions, the others are one each".into());
            complain(&at("shape"), "`shape` excludes `a_to_b` and `b_to_a`".into(), hint);
        }
        let mut resolved = shapes.map(|(field, shape)| {
            let shape = shape?;
            let failed = |(name, why): shape::FieldError| {
                let given = shape::is_given(shape, name);
                let way = if given { [at(field), vec![name.into()]].concat() } else { at(field) };
                complain(&way, why, None);
            };
            shape::resolve(shape, &topology.traces, backend).map_err(failed).ok()
        });
        let [a_to_b, b_to_a] = [resolved[0].take(), resolved[1].take()];
        links.push(LinkPlan { name, ends: [a, b], a_to_b, b_to_a });
    }
    for (name, place) in spec.nodes.iter() {
        for interface in place.interfaces.keys() {
            if !places[name].interfaces.iter().any(|i| i.name == *interface) {
                let way = ["nodes".into(), name.into(), "interfaces".into(), interface.into()];
                let hint = Some("interfaces come into being as ends of links".into());
                complain(&way, format!("no link ends at `{name}.{interface}`"), hint);
            }
        }
    }
    Network { places, links }
}

/// Both directions, with the field they stand in. A link shaped in one direction only gets an
/// open shape in the other, since both go through the same middle.
fn link_shapes(link: &Link) -> [(&'static str, Option<&Shape>); 2] {
    const OPEN: &Shape = &Shape {
        rate: None,
        burst: None,
        latency: None,
        trace: None,
        queue: None,
        delay: None,
        jitter: None,
        jitter_reorder: false,
        loss: None,
        burst_loss: None,
        duplicate: None,
        corrupt: None,
        reorder: None,
    };
    if let Some(shape) = &link.shape {
        return [("shape", Some(shape)), ("shape", Some(shape))];
    }
    let any = link.a_to_b.is_some() || link.b_to_a.is_some();
    let open = any.then_some(OPEN);
    [("a_to_b", link.a_to_b.as_ref().or(open)), ("b_to_a", link.b_to_a.as_ref().or(open))]
}

fn check_interface_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > MAX_INTERFACE_NAME || !name.chars().all(plain) {
        return Err(format!(
            "`{name}` cannot be an interface: letters, digits, `-` and `_`, {MAX_INTERFACE_NAME} at most"
        ));
    }
    if name == "lo" {
        return Err("`lo` is every node's loopback".into());
    }
    Ok(())
}

/// Numbers segments in the order of the links: ends of a link, and all ports of a switch, are in
/// the same one.
fn number_segments(network: &mut Network) {
    let ends: Vec<[(String, String); 2]> = network.links.iter().map(|l| l.ends.clone()).collect();
    let mut number: Vec<usize> = (0..ends.len()).collect();
    // Links that meet in a switch are one segment; repeat until nothing changes.
    loop {
        let mut changed = false;
        for place in network.places.iter().filter(|(_, p)| p.kind == Kind::Switch).map(|p| p.0) {
            let here = |l: &usize| ends[*l].iter().any(|e| e.0 == *place);
            let at: Vec<usize> = (0..ends.len()).filter(here).collect();
            let Some(least) = at.iter().map(|l| number[*l]).min() else { continue };
            for link in at {
                changed |= std::mem::replace(&mut number[link], least) != least;
            }
        }
        if !changed {
            break;
        }
    }
    let order: BTreeSet<usize> = number.iter().copied().collect();
    let dense: BTreeMap<usize, usize> =
        order.into_iter().enumerate().map(|(i, n)| (n, i)).collect();
    for (link, pair) in ends.iter().enumerate() {
        for (place, interface) in pair {
            let interfaces = &mut network.places[place].interfaces;
            if let Some(i) = interfaces.iter_mut().find(|i| i.name == *interface) {
                i.segment = dense[&number[link]];
            }
        }
    }
}

/// Stations of a segment: place and number of the interface, in the order of MACs, that is, links.
pub(super) fn stations(network: &Network) -> BTreeMap<usize, Vec<(String, usize)>> {
    let mut all: Vec<([u8; 6], usize, String, usize)> = Vec::new();
    for (name, place) in network.places.iter().filter(|(_, p)| p.kind != Kind::Switch) {
        for (i, interface) in place.interfaces.iter().enumerate() {
            all.push((interface.mac, interface.segment, name.clone(), i));
        }
    }
    all.sort();
    let mut segments: BTreeMap<usize, Vec<(String, usize)>> = BTreeMap::new();
    for (_, segment, name, i) in all {
        segments.entry(segment).or_default().push((name, i));
    }
    segments
}
