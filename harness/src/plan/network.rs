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
    addresses, routes, segments,
    shape::{self},
};
use crate::spec::{Document, Link, Links, Problem, Shape, Topology, known};
use indexmap::IndexMap;
use limosa_lab::network::Kind;
use limosa_lab::network::*;
use std::collections::{BTreeSet, HashSet};

/// Longest interface name that Linux takes.
const MAX_INTERFACE_NAME: usize = 15;

/// Names that every namespace has, or has once a module is loaded: loopback, folders of sysctls,
/// a switch's bridge, and what tunnels fall back on.
const RESERVED: [&str; 15] = [
    "lo", ".", "..", "all", "default", "br0", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0",
    "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0",
];

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
    segments::number(topology, &mut network, problems);
    if problems.len() > before {
        return None;
    }
    addresses::give(topology, &mut network, problems);
    if problems.len() > before {
        return None;
    }
    routes::find(topology, &mut network, problems);
    (problems.len() == before).then_some(network)
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
    let (mut in_use, mut named) = (HashSet::new(), HashSet::new());
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
            if !in_use.insert((name.to_owned(), interface.clone())) {
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
        if !named.insert(name.clone()) {
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
        let delay = |shape: Option<&Shape>| shape.and_then(|s| s.delay).unwrap_or_default();
        let delays = [delay(shapes[0].1), delay(shapes[1].1)];
        let mut resolved = [0, 1].map(|side| {
            let (field, shape) = shapes[side];
            let shape = shape?;
            let failed = |wrong: shape::FieldError| {
                let given = shape::is_given(shape, wrong.field);
                let way = at(field);
                let way = if given { [way, vec![wrong.field.into()]].concat() } else { way };
                complain(&way, wrong.why, wrong.hint);
            };
            shape::resolve(shape, delays[1 - side], &topology.traces, backend).map_err(failed).ok()
        });
        let [a_to_b, b_to_a] = [resolved[0].take(), resolved[1].take()];
        links.push(LinkPlan { name, ends: [a, b], a_to_b, b_to_a });
    }
    for (name, place) in spec.nodes.iter() {
        for interface in place.interfaces.keys() {
            if !in_use.contains(&(name.clone(), interface.clone())) {
                let way = ["nodes".into(), name.into(), "interfaces".into(), interface.into()];
                let hint = Some("interfaces come into being as ends of links".into());
                complain(&way, format!("no link ends at `{name}.{interface}`"), hint);
            }
        }
    }
    let tcp_congestion = spec.tcp_congestion.clone();
    if let Some(why) = tcp_congestion.as_deref().and_then(wrong_congestion) {
        complain(&["tcp_congestion".into()], why, Some("write it like `bbr` or `cubic`".into()));
    }
    Network { places, links, tcp_congestion, talkers: BTreeSet::new() }
}

/// Why a word cannot be the name of a congestion control (at most 15 bytes, TCP_CA_NAME_MAX).
pub(super) fn wrong_congestion(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let right = (1..16).contains(&name.len()) && name.chars().all(plain);
    (!right).then(|| format!("`{}` names no congestion control", name.escape_debug()))
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
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts || name.len() > MAX_INTERFACE_NAME || !name.chars().all(plain) {
        return Err(format!(
            "`{name}` cannot be an interface: letters, digits, `-`, `_` and `.`, {MAX_INTERFACE_NAME} at most, and a letter or digit first"
        ));
    }
    if RESERVED.contains(&name) {
        return Err(format!("`{name}` is a name that the kernel has for itself"));
    }
    Ok(())
}
