//! Who reaches whom, and over which links: worked out once, from the planned addresses, routes and
//! rules alone, as the kernel will do it.
//!
//! All that depends on a way asks here: which of a server's addresses a client uses, from which of
//! its interfaces, what an idle round trip takes, and whether there is a way at all.

use super::{routes::MAIN_TABLE, subnets::is_v4};
use ipnet::IpNet;
use limosa_lab::network::Kind;
use limosa_lab::network::{InterfacePlan, LinkPlan, Network, PlacePlan, RoutePlan};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
};

/// Most routers that a packet passes: it starts with a time to live of 255, and each takes one.
const MOST_ROUTERS: usize = 254;

/// One direction of a link.
pub type Crossing<'n> = (&'n LinkPlan, bool);

/// How a place reaches another one, and is answered.
#[derive(Debug, Clone)]
pub struct Way<'n> {
    /// The interface that it sends from.
    pub interface: &'n InterfacePlan,
    /// That interface's address.
    pub from: IpAddr,
    /// The other one's address.
    pub to: IpAddr,
    /// The links there and back; `true` where one is crossed from its first end to its second.
    pub crossings: Vec<Crossing<'n>>,
}

/// Why there is no way, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoWay {
    /// In words.
    pub why: String,
    /// What to do.
    pub hint: String,
}

/// A network with what is looked up in it again and again.
#[derive(Debug)]
pub struct Reach<'n> {
    network: &'n Network,
    owners: HashMap<IpAddr, (&'n str, &'n InterfacePlan)>,
    /// The link of each interface, by place and interface; and whether its first end is here.
    cables: HashMap<(&'n str, &'n str), (&'n LinkPlan, bool)>,
    /// All of a place's links.
    around: HashMap<&'n str, Vec<(&'n LinkPlan, bool)>>,
    /// A switch's links to other switches.
    trunks: HashMap<&'n str, Vec<(&'n LinkPlan, bool)>>,
}

/// Where a link leads to from its first end, or from its second.
fn far(link: &LinkPlan, from_first: bool) -> (&str, &str) {
    let (place, interface) = &link.ends[usize::from(from_first)];
    (place, interface)
}

enum Lost {
    NoRoute,
    TooFar,
}

impl<'n> Reach<'n> {
    /// Prepares the questions to a network.
    pub fn new(network: &'n Network) -> Self {
        let mut owners = HashMap::new();
        for (name, place) in &network.places {
            for interface in &place.interfaces {
                let addresses = interface.addresses.iter().map(IpNet::addr);
                owners.extend(addresses.map(|ip| (ip, (name.as_str(), interface))));
            }
        }
        let is_switch = |end: &(String, String)| {
            network.places.get(&end.0).is_some_and(|p| p.kind == Kind::Switch)
        };
        let mut cables = HashMap::new();
        let (mut around, mut trunks) = (HashMap::new(), HashMap::new());
        for link in &network.links {
            let trunk = link.ends.iter().all(is_switch);
            for (end, first) in link.ends.iter().zip([true, false]) {
                cables.insert((end.0.as_str(), end.1.as_str()), (link, first));
                around.entry(end.0.as_str()).or_insert_with(Vec::new).push((link, first));
                if trunk {
                    trunks.entry(end.0.as_str()).or_insert_with(Vec::new).push((link, first));
                }
            }
        }
        Self { network, owners, cables, around, trunks }
    }

    /// How one place reaches another: over a segment that they share if there is any, else over
    /// the first interfaces that have a way; in the family that comes first if that has one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn way(&self, from: &str, to: &str) -> Result<Way<'n>, NoWay> {
        let v4 = self.is_v4_first(to);
        self.way_in(v4, from, to).or_else(|why| self.way_in(!v4, from, to).map_err(|_| why))
    }

    /// Whether a place's first address is of IPv4.
    pub fn is_v4_first(&self, place: &str) -> bool {
        self.network.address(place).is_some_and(|ip| ip.is_ipv4())
    }

    /// How a place reaches an address that is a node's own and in a subnet of the other place.
    ///
    /// # Errors
    /// Why there is none.
    pub fn way_near(&self, from: &str, to: &str, own: IpAddr) -> Result<Way<'n>, NoWay> {
        let near = self.network.interface_near(to, own);
        let net = near.and_then(|i| Some((i, i.addresses.iter().find(|net| net.contains(&own))?)));
        let way = net.and_then(|(target, net)| self.way_to(from, target, net.addr()));
        way.ok_or_else(|| self.why_not(own.is_ipv4(), from, to))
    }

    /// The same in one family.
    ///
    /// # Errors
    /// Why there is none.
    pub fn way_in(&self, v4: bool, from: &str, to: &str) -> Result<Way<'n>, NoWay> {
        let mine: HashSet<usize> = self.interfaces(from).iter().map(|i| i.segment).collect();
        let (shared, others): (Vec<_>, Vec<_>) =
            self.interfaces(to).iter().partition(|i| mine.contains(&i.segment));
        for target in shared.into_iter().chain(others) {
            let address = target.addresses.iter().find(|a| is_v4(a) == v4);
            if let Some(way) = address.and_then(|net| self.way_to(from, target, net.addr())) {
                return Ok(way);
            }
        }
        Err(self.why_not(v4, from, to))
    }

    /// How a place reaches this address of an interface, from an interface on its segment if there
    /// is one.
    pub fn way_to(&self, from: &str, target: &InterfacePlan, to: IpAddr) -> Option<Way<'n>> {
        let (near, far): (Vec<_>, Vec<_>) =
            self.interfaces(from).iter().partition(|i| i.segment == target.segment);
        near.into_iter().chain(far).find_map(|interface| self.way_from(from, interface, to))
    }

    /// How a place reaches an address from one of its interfaces, and is answered; nothing if not.
    pub fn way_from(
        &self,
        place: &str,
        interface: &'n InterfacePlan,
        to: IpAddr,
    ) -> Option<Way<'n>> {
        let from = interface.addresses.iter().map(IpNet::addr);
        let from = from.into_iter().find(|ip| ip.is_ipv4() == to.is_ipv4())?;
        let (target, _) = self.owners.get(&to)?;
        let mut crossings = self.trace(place, from, to).ok()?;
        crossings.extend(self.trace(target, to, from).ok()?);
        Some(Way { interface, from, to, crossings })
    }

    fn interfaces(&self, place: &str) -> &'n [InterfacePlan] {
        self.network.places.get(place).map_or(&[], |p| &p.interfaces)
    }

    /// The links that a packet crosses from a place with this source to an address.
    fn trace(&self, from: &str, source: IpAddr, to: IpAddr) -> Result<Vec<Crossing<'n>>, Lost> {
        let mut crossings = Vec::new();
        let Some((mut at, mut place)) = self.network.places.get_key_value(from) else {
            return Err(Lost::NoRoute);
        };
        for passed in 0.. {
            if place.interfaces.iter().any(|i| i.addresses.iter().any(|net| net.addr() == to)) {
                return Ok(crossings);
            }
            if passed > 0 && place.kind != Kind::Router {
                return Err(Lost::NoRoute);
            }
            if passed > MOST_ROUTERS {
                return Err(Lost::TooFar);
            }
            let (out, via) = look_up(place, source, to).ok_or(Lost::NoRoute)?;
            let next = self.owners.get(&via.unwrap_or(to));
            let (next, entry) = next.filter(|n| n.1.segment == out.segment).ok_or(Lost::NoRoute)?;
            crossings.extend(self.along(at, out, (*next, &*entry.name)).ok_or(Lost::NoRoute)?);
            (at, place) = self.network.places.get_key_value(*next).ok_or(Lost::NoRoute)?;
        }
        Err(Lost::TooFar)
    }

    /// The links between two interfaces of one segment; there is only one way through its switches.
    fn along(
        &self,
        from: &str,
        out: &InterfacePlan,
        to: (&str, &str),
    ) -> Option<Vec<Crossing<'n>>> {
        let (link, first) = *self.cables.get(&(from, &*out.name))?;
        if far(link, first) == to {
            return Some(vec![(link, first)]);
        }
        let (last, to_is_first) = *self.cables.get(&to)?;
        let (start, goal) = (far(link, first).0, far(last, to_is_first).0);
        // What leads to each switch: the link, and the switch before.
        let mut before: HashMap<&str, (Crossing<'n>, &str)> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front().filter(|at| *at != goal) {
            for (trunk, first) in self.trunks.get(at).into_iter().flatten() {
                let next = far(trunk, *first).0;
                if next != start && !before.contains_key(next) {
                    before.insert(next, ((*trunk, *first), at));
                    queue.push_back(next);
                }
            }
        }
        let mut way = vec![(last, !to_is_first)];
        let mut at = goal;
        while at != start {
            let (crossing, previous) = before.get(at)?;
            way.push(*crossing);
            at = previous;
        }
        way.push((link, first));
        way.reverse();
        Some(way)
    }

    /// Why nothing in a family gets from one place to another and back.
    fn why_not(&self, v4: bool, from: &str, to: &str) -> NoWay {
        let nothing = |why: String, hint: &str| NoWay { why, hint: hint.to_owned() };
        let unreachable = format!("`{from}` cannot reach `{to}`");
        for place in [from, to] {
            if self.interfaces(place).is_empty() {
                return nothing(
                    format!("{unreachable}: no link ends at `{place}`"),
                    "add a link to it, or take another host",
                );
            }
        }
        let Some(between) = self.fewest_hosts(from, to) else {
            return nothing(
                format!("{unreachable}: no links lead from one to the other"),
                "join the two parts of the network by a link",
            );
        };
        if let Some(host) = between.first() {
            return nothing(
                format!(
                    "{unreachable}: `{host}` is between them, and hosts do not forward packets"
                ),
                &format!("make it a router: `{host}: {{kind: router}}`"),
            );
        }
        let addresses = |place: &str| {
            let all = self.interfaces(place).iter().flat_map(|i| &i.addresses);
            all.into_iter().find(|a| is_v4(a) == v4).map(IpNet::addr)
        };
        match (addresses(from), addresses(to)) {
            (Some(source), Some(target)) => match self.trace(from, source, target) {
                Err(Lost::TooFar) => nothing(
                    format!("{unreachable}: more than {MOST_ROUTERS} routers are between them"),
                    "a packet's time to live is 255 at most: take fewer routers",
                ),
                _ => nothing(
                    format!("{unreachable} by its routes"),
                    "join their segments by a router",
                ),
            },
            _ => nothing(
                format!("{unreachable}: they have no address family in common"),
                "`families` in the topology says which addresses they get",
            ),
        }
    }

    /// The hosts between two places, on a way along links with as few of them as possible.
    fn fewest_hosts(&self, from: &str, to: &str) -> Option<Vec<&'n str>> {
        let forwards =
            |place: &str| self.network.places.get(place).is_some_and(|p| p.kind != Kind::Host);
        let start = self.network.places.get_key_value(from)?.0.as_str();
        let mut before: HashMap<&str, Option<&str>> = HashMap::from([(start, None)]);
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            if at == to {
                let chain = std::iter::successors(before[at], |at| before[at]);
                let mut hosts: Vec<_> = chain.filter(|at| *at != from && !forwards(at)).collect();
                hosts.reverse();
                return Some(hosts);
            }
            for (link, first) in self.around.get(at).into_iter().flatten() {
                let next = far(link, *first).0;
                if let std::collections::hash_map::Entry::Vacant(free) = before.entry(next) {
                    free.insert(Some(at));
                    // Hosts are gone through last.
                    if forwards(next) { queue.push_front(next) } else { queue.push_back(next) }
                }
            }
        }
        None
    }
}

/// What a place does with a packet: the interface that it leaves by, and the next router if it is
/// not for a neighbour. The longest prefix wins, in the table of the source's rule first.
fn look_up(
    place: &PlacePlan,
    source: IpAddr,
    to: IpAddr,
) -> Option<(&InterfacePlan, Option<IpAddr>)> {
    let in_table = |table: u32| {
        let routes = place.routes.iter().filter(|r| r.table == table && r.to.contains(&to));
        let best = |r: &&RoutePlan| r.to.prefix_len();
        let planned = routes.max_by_key(best).map(|r| (r.to.prefix_len(), &r.interface, r.via));
        let near = (table == MAIN_TABLE).then(|| {
            let nets = place.interfaces.iter();
            let nets = nets.flat_map(|i| i.addresses.iter().map(move |net| (net, &i.name)));
            let own = nets.filter(|(net, _)| net.contains(&to));
            // The first of two equal routes is the kernel's.
            own.rev().max_by_key(|(net, _)| net.prefix_len())
        });
        let near = near.flatten().map(|(net, name)| (net.prefix_len(), name, None));
        near.into_iter().chain(planned).max_by_key(|found| found.0)
    };
    let rule = place.rules.iter().find(|rule| rule.from == source);
    let (_, name, via) =
        rule.and_then(|rule| in_table(rule.table)).or_else(|| in_table(MAIN_TABLE))?;
    Some((place.interfaces.iter().find(|i| i.name == *name)?, via))
}
