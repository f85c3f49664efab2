//! Routes and rules: hosts send through the first router of each segment, routers know the shortest
//! way to every segment.

use super::subnets::is_v4;
use crate::spec::{Document, Problem, Topology};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use limosa_lab::network::Kind;
use limosa_lab::{
    neighbours::stations,
    network::{Network, PlacePlan, RoutePlan, RulePlan},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

/// The kernel's main routing table.
pub(super) const MAIN_TABLE: u32 = 254;

/// Table of a multi-homed host's first interface; the next ones follow.
const FIRST_TABLE: u32 = 100;

/// Most routes of all routers together: each takes some 200 bytes here and as many in the kernel.
const MOST_ROUTES: usize = 1_000_000;

/// The first step towards a segment: own interface, and the next router's addresses.
type Hop = (String, Vec<IpAddr>);

/// Finds all routes, or adds to `problems` that they are too many.
pub(super) fn find(
    topology: &Document<Topology>,
    network: &mut Network,
    problems: &mut Vec<Problem>,
) {
    let segments = stations(network);
    let routers = network.places.values().filter(|p| p.kind == Kind::Router).count();
    let families = topology.value.families.len().max(1);
    if routers.saturating_mul(segments.len()).saturating_mul(families) > MOST_ROUTES {
        let message = format!(
            "{routers} routers that each know the way to {} segments need more than {MOST_ROUTES} routes",
            segments.len()
        );
        let hint = Some("join places by switches, or take one family".into());
        problems.push(topology.problem(&["links".into()], message, hint));
        return;
    }
    let subnets: BTreeMap<usize, Vec<IpNet>> = segments
        .iter()
        .map(|(segment, members)| {
            let (place, i) = &members[0];
            let nets = network.places[place].interfaces[*i].addresses.iter().map(IpNet::trunc);
            (*segment, nets.collect())
        })
        .collect();
    // Routers on each segment, with their interface there.
    let is_router = |place: &str| network.places[place].kind == Kind::Router;
    let routers: BTreeMap<usize, Vec<&(String, usize)>> = segments
        .iter()
        .map(|(s, members)| (*s, members.iter().filter(|m| is_router(&m.0)).collect()))
        .collect();
    let parts = Parts::of(network, &routers);
    let mut planned: Vec<(String, Vec<RoutePlan>, Vec<RulePlan>)> = Vec::new();
    for (name, place) in &network.places {
        let mut routes = Vec::new();
        let mut rules = Vec::new();
        match place.kind {
            Kind::Switch => {}
            Kind::Host => {
                host_routes(network, place, &routers, &mut routes, &mut rules);
                parts.beyond_the_default(network, place, &routers, &subnets, &mut routes);
            }
            Kind::Router => {
                for (segment, (through, via)) in ways(network, place, &routers) {
                    for to in &subnets[&segment] {
                        let next = via.iter().find(|ip| ip.is_ipv4() == is_v4(to)).copied();
                        if let Some(next) = next {
                            let interface = through.clone();
                            let table = MAIN_TABLE;
                            routes.push(RoutePlan { to: *to, via: Some(next), interface, table });
                        }
                    }
                }
            }
        }
        planned.push((name.clone(), routes, rules));
    }
    for (name, routes, rules) in planned {
        network.places[&name].routes = routes;
        network.places[&name].rules = rules;
    }
}

fn host_routes(
    network: &Network,
    place: &PlacePlan,
    routers: &BTreeMap<usize, Vec<&(String, usize)>>,
    routes: &mut Vec<RoutePlan>,
    rules: &mut Vec<RulePlan>,
) {
    let mut has_default: BTreeSet<bool> = BTreeSet::new();
    let multi_homed = place.interfaces.len() > 1;
    for (table, interface) in (FIRST_TABLE..).zip(&place.interfaces) {
        let gateway = routers[&interface.segment].first();
        for address in &interface.addresses {
            let v4 = is_v4(address);
            let gateway = gateway.and_then(|(router, i)| {
                let theirs = &network.places[router].interfaces[*i].addresses;
                theirs.iter().find(|a| is_v4(a) == v4).map(IpNet::addr)
            });
            let to = if v4 { IpNet::V4(Ipv4Net::default()) } else { IpNet::V6(Ipv6Net::default()) };
            let name = &interface.name;
            let route = |to, via, table| RoutePlan { to, via, interface: name.clone(), table };
            if multi_homed {
                rules.push(RulePlan { from: address.addr(), table });
                routes.push(route(address.trunc(), None, table));
                routes.extend(gateway.map(|via| route(to, Some(via), table)));
            }
            if let Some(via) = gateway
                && has_default.insert(v4)
            {
                routes.push(route(to, Some(via), MAIN_TABLE));
            }
        }
    }
}

/// Which segments routers join.
struct Parts(BTreeMap<usize, usize>);

impl Parts {
    fn of(network: &Network, routers: &BTreeMap<usize, Vec<&(String, usize)>>) -> Self {
        let mut parts = BTreeMap::new();
        for start in routers.keys() {
            let mut queue = vec![*start];
            while let Some(segment) = queue.pop() {
                if parts.contains_key(&segment) {
                    continue;
                }
                parts.insert(segment, *start);
                let joined = routers[&segment].iter().map(|(router, _)| router);
                queue.extend(joined.flat_map(|r| &network.places[r].interfaces).map(|i| i.segment));
            }
        }
        Self(parts)
    }

    /// What a host's default router has no way to, but the router of another interface has.
    fn beyond_the_default(
        &self,
        network: &Network,
        place: &PlacePlan,
        routers: &BTreeMap<usize, Vec<&(String, usize)>>,
        subnets: &BTreeMap<usize, Vec<IpNet>>,
        routes: &mut Vec<RoutePlan>,
    ) {
        let own: BTreeSet<usize> = place.interfaces.iter().map(|i| i.segment).collect();
        let mut known = BTreeSet::new();
        for interface in &place.interfaces {
            let Some((router, i)) = routers[&interface.segment].first() else { continue };
            let part = self.0[&interface.segment];
            // The first one has the default route.
            if !known.insert(part) || known.len() == 1 {
                continue;
            }
            let vias = &network.places[router].interfaces[*i].addresses;
            let there = self.0.iter().filter(|(s, p)| **p == part && !own.contains(s));
            for to in there.flat_map(|(segment, _)| &subnets[segment]) {
                let via = vias.iter().find(|a| is_v4(a) == is_v4(to)).map(IpNet::addr);
                let (interface, table) = (interface.name.clone(), MAIN_TABLE);
                routes.extend(via.map(|via| RoutePlan {
                    to: *to,
                    via: Some(via),
                    interface,
                    table,
                }));
            }
        }
    }
}

/// For a router: each segment that it is not on, with the interface and the addresses of the next
/// router on a shortest way (breadth first).
fn ways(
    network: &Network,
    place: &PlacePlan,
    routers: &BTreeMap<usize, Vec<&(String, usize)>>,
) -> BTreeMap<usize, Hop> {
    let mut seen: BTreeSet<usize> = place.interfaces.iter().map(|i| i.segment).collect();
    let mut found = BTreeMap::new();
    let mut queue: VecDeque<(usize, Option<Hop>)> =
        place.interfaces.iter().map(|i| (i.segment, None)).collect();
    while let Some((segment, first_hop)) = queue.pop_front() {
        for (router, i) in routers[&segment].iter().map(|r| (&r.0, r.1)) {
            let entry = &network.places[router].interfaces[i];
            let hop = first_hop.clone().or_else(|| {
                let own = place.interfaces.iter().find(|o| o.segment == segment)?;
                let via = entry.addresses.iter().map(IpNet::addr).collect();
                Some((own.name.clone(), via))
            });
            for next in &network.places[router].interfaces {
                if seen.insert(next.segment) {
                    if let Some(hop) = &hop {
                        found.insert(next.segment, hop.clone());
                    }
                    queue.push_back((next.segment, hop.clone()));
                }
            }
        }
    }
    found
}
