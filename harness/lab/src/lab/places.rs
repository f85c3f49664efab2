//! The places of a lab: their switches, interfaces, addresses, routes and neighbours; and the plain
//! links between them.

use super::{Carrier, Lab, MTU_BYTES, Shaped, is_shaped, user::UserLinks};
use crate::{
    neighbours::Neighbour,
    network::{InterfacePlan, Kind, LinkPlan, Network, PlacePlan},
    sys::{link, netlink::Request, netns::Netns, offload},
};
use anyhow::Result;
use std::{
    collections::{BTreeSet, HashMap},
    thread,
    time::Duration,
};

/// How long the kernel may take until new links carry packets.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// Priority of the first rule of a multi-homed host; below the kernel's own 32766.
const FIRST_RULE: u32 = 1000;

/// The same of rules for what is bound to an interface.
const FIRST_BOUND_RULE: u32 = 2000;

/// Numbers of the switches' bridges, by place.
pub(super) type Bridges<'n> = HashMap<&'n str, u32>;

/// One end of a link, with the bridge that it is a port of.
#[derive(Debug)]
pub(super) struct Place<'n> {
    pub(super) netns: &'n Netns,
    pub(super) end: link::End,
    pub(super) bridge: Option<u32>,
}

impl Place<'_> {
    /// Makes the interface a bridge's port where it is one, and sets it up.
    pub(super) fn connect(&self) -> Result<()> {
        if let Some(bridge) = self.bridge {
            self.netns.apply([link::enslave(self.end.index, Some(bridge))])?;
        }
        self.netns.apply([link::set_up(self.end.index, true)])
    }
}

impl Lab {
    pub(super) fn build(&mut self, network: &Network, carrier: Carrier<'_>) -> Result<()> {
        let mut bridges = Bridges::new();
        for (name, _) in network.places.iter().filter(|(_, p)| p.kind == Kind::Switch) {
            let index = self.places[name].new_index();
            bridges.insert(name.as_str(), index);
            self.places[name].apply([link::bridge(index, "br0")])?;
        }
        for plan in network.links.iter().filter(|l| !is_shaped(l)) {
            build_plain(&self.ends(network, &bridges, plan))?;
        }
        let mut pairs = Vec::new();
        for plan in network.links.iter().filter(|l| is_shaped(l)) {
            pairs.push((plan, self.ends(network, &bridges, plan)));
        }
        let user = match (&self.shaped, carrier) {
            (_, Carrier::User { program, log }) => {
                Some(UserLinks::build(pairs, program, log, self.seed)?)
            }
            (Shaped::Kernel(middles), _) => {
                pairs.iter().try_for_each(|(plan, ends)| middles.build(&plan.name, ends))?;
                None
            }
            _ => None,
        };
        match user {
            Some(links) => self.shaped = Shaped::User(links),
            None => self.rewind()?,
        }
        // Trains of packets are one packet to a queueing discipline, but not to the engine.
        let cut_up = matches!(self.shaped, Shaped::Kernel(_));
        let lab = &*self;
        let neighbours = network.neighbours();
        let neighbours = &neighbours;
        // The kernel configures namespaces side by side, so a lab of hundreds takes all processors.
        let places: Vec<_> = network.places.iter().collect();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let parts = places.chunks(places.len().div_ceil(threads).max(1));
            let workers: Vec<_> = parts
                .map(|part| {
                    scope.spawn(move || {
                        part.iter().try_for_each(|(name, place)| {
                            lab.configure(name, place, neighbours, cut_up)
                        })
                    })
                })
                .collect();
            let join = |w: thread::ScopedJoinHandle<'_, Result<()>>| {
                w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().try_for_each(join)
        })?;
        // Only now, so that what hosts say of themselves (IPv6) does not go to all others.
        for (name, index) in &bridges {
            self.places[*name].apply([link::set_up(*index, true)])?;
        }
        self.places.iter().try_for_each(|(name, netns)| {
            let place = &network.places[name];
            link::wait_ready(netns, &self.own(name, place), READY_LIMIT)
        })
    }

    /// Everything inside a place, until its links carry packets.
    fn configure(
        &self,
        name: &str,
        place: &PlacePlan,
        neighbours: &HashMap<&str, Vec<Neighbour<'_>>>,
        cut_up: bool,
    ) -> Result<()> {
        let netns = &self.places[name];
        let known = neighbours.get(name).map_or(&[][..], |known| known);
        netns.apply(self.configuration(name, place, known))?;
        for interface in place.interfaces.iter().filter(|_| cut_up) {
            offload::disable(netns, &interface.name)?;
        }
        Ok(())
    }

    /// Numbers of a place's interfaces.
    fn own(&self, name: &str, place: &PlacePlan) -> Vec<u32> {
        let index = |i: &InterfacePlan| self.indices[&(name.to_owned(), i.name.clone())];
        place.interfaces.iter().map(index).collect()
    }

    fn ends<'n>(
        &'n self,
        network: &Network,
        bridges: &Bridges<'_>,
        plan: &LinkPlan,
    ) -> [Place<'n>; 2] {
        [&plan.ends[0], &plan.ends[1]].map(|end| {
            let mac = network.interface(&end.0, &end.1).map(|i| i.mac).unwrap_or_default();
            let (index, name) = (self.indices[end], end.1.clone());
            Place {
                netns: &self.places[&end.0],
                end: link::End { index, name, mac, mtu_bytes: MTU_BYTES },
                bridge: bridges.get(&*end.0).copied(),
            }
        })
    }

    /// Everything about a place's own interfaces: addresses, routes, rules, neighbours.
    fn configuration<'n>(
        &self,
        name: &str,
        place: &PlacePlan,
        neighbours: &[Neighbour<'_>],
    ) -> Vec<Request<'n>> {
        let index = |interface: &str| self.indices[&(name.to_owned(), interface.to_owned())];
        let mut requests = vec![link::set_up(link::LOOPBACK, true)];
        for InterfacePlan { name, addresses, .. } in &place.interfaces {
            for net in addresses {
                requests.push(link::add_address(index(name), net.addr(), net.prefix_len()));
            }
        }
        for route in &place.routes {
            requests.push(link::set_route(&link::Route {
                to: (route.to.addr(), route.to.prefix_len()),
                via: route.via,
                link: index(&route.interface),
                table: route.table,
                source: None,
            }));
        }
        for (priority, rule) in (FIRST_RULE..).zip(&place.rules) {
            requests.push(link::add_rule(rule.from, rule.table, priority));
        }
        // What is bound to an interface (`ping -I eth1`) uses its table, too.
        let routed = place.routes.iter().filter(|route| route.table != link::MAIN_TABLE);
        let bound: BTreeSet<_> =
            routed.map(|r| (&r.interface, r.to.addr().is_ipv4(), r.table)).collect();
        for (priority, (interface, v4, table)) in (FIRST_BOUND_RULE..).zip(bound) {
            requests.push(link::add_bound_rule(interface, v4, table, priority));
        }
        for (interface, address, mac) in neighbours {
            requests.push(link::set_neighbour(index(interface), *address, *mac));
        }
        requests
    }
}

/// A veth pair. Its near end may be a bridge's port at once, so a switch goes first.
fn build_plain([a, b]: &[Place<'_>; 2]) -> Result<()> {
    let (near, far) = if a.bridge.is_some() { (a, b) } else { (b, a) };
    near.netns.apply([link::veth(&near.end, near.bridge, far.netns, &far.end)])?;
    far.connect()
}
