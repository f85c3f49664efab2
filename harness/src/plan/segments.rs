//! Which links are one segment: the ends of a link, and all ports of a switch.
//!
//! Switches forward every frame that they do not know to all of their ports, and speak no spanning
//! tree. A ring of switches would send the first broadcast round for ever, so it is refused.

use crate::spec::{Document, PathStep, Problem, Topology};
use limosa_lab::network::Kind;
use limosa_lab::network::Network;
use std::collections::{HashMap, VecDeque};

/// Most ports of a bridge of Linux (BR_MAX_PORTS is 1024, and port 0 is none).
const MAX_PORTS: usize = 1023;

/// Numbers segments in the order of the links. Rings of switches and switches with too many ports
/// are added to `problems`.
pub(super) fn number(
    topology: &Document<Topology>,
    network: &mut Network,
    problems: &mut Vec<Problem>,
) {
    let mut sets = Sets((0..network.places.len() + network.links.len()).collect());
    let first_link = network.places.len();
    let mut ports = vec![0_usize; network.places.len()];
    let mut trunks: HashMap<usize, Vec<usize>> = HashMap::new();
    for (l, link) in network.links.iter().enumerate() {
        let way = |field: &[PathStep]| [&["links".into(), l.into(), "ends".into()], field].concat();
        let switch = |end: &(String, String)| {
            let (index, _, place) = network.places.get_full(&end.0)?;
            (place.kind == Kind::Switch).then_some(index)
        };
        let switches = [switch(&link.ends[0]), switch(&link.ends[1])];
        for (e, switch) in switches.into_iter().enumerate() {
            let Some(switch) = switch else { continue };
            ports[switch] += 1;
            if ports[switch] == MAX_PORTS + 1 {
                let name = &link.ends[e].0;
                let message = format!("the switch `{name}` has more than {MAX_PORTS} ports");
                let hint = "Linux has no larger bridges: take several switches, joined by links";
                problems.push(topology.problem(&way(&[e.into()]), message, Some(hint.into())));
            }
        }
        if let [Some(a), Some(b)] = switches {
            if sets.root(a) == sets.root(b) {
                let ring = ring(network, &trunks, a, b);
                let message = format!("this link closes a ring of switches: {ring}");
                let hint = "frames would go round in it for ever: leave one link of it out, or make \
                            one of the switches a router";
                problems.push(topology.problem(&way(&[]), message, Some(hint.into())));
                continue;
            }
            trunks.entry(a).or_default().push(b);
            trunks.entry(b).or_default().push(a);
        }
        for switch in switches.into_iter().flatten() {
            sets.join(first_link + l, switch);
        }
    }
    let mut numbers: HashMap<usize, usize> = HashMap::new();
    let mut ends: HashMap<(String, String), usize> = HashMap::new();
    for (l, link) in network.links.iter().enumerate() {
        let next = numbers.len();
        let number = *numbers.entry(sets.root(first_link + l)).or_insert(next);
        ends.extend(link.ends.iter().map(|end| (end.clone(), number)));
    }
    for (name, place) in &mut network.places {
        for interface in &mut place.interfaces {
            let end = (name.clone(), interface.name.clone());
            interface.segment = ends.get(&end).copied().unwrap_or_default();
        }
    }
}

/// The names of the switches from one to another, and back to the first.
fn ring(network: &Network, trunks: &HashMap<usize, Vec<usize>>, from: usize, to: usize) -> String {
    let mut before: HashMap<usize, usize> = HashMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for next in trunks.get(&at).into_iter().flatten() {
            if !before.contains_key(next) {
                before.insert(*next, at);
                queue.push_back(*next);
            }
        }
    }
    let mut way = vec![from, to];
    while let Some(at) = way.last().and_then(|at| before.get(at)) {
        way.push(*at);
        if *at == from {
            break;
        }
    }
    let name = |at: &usize| network.places.get_index(*at).map_or("", |(name, _)| name);
    way.iter().map(|at| format!("`{}`", name(at))).collect::<Vec<_>>().join(" – ")
}

/// Disjoint sets (union-find): each element names another of its set, or itself.
struct Sets(Vec<usize>);

impl Sets {
    fn root(&mut self, mut of: usize) -> usize {
        while self.0[of] != of {
            self.0[of] = self.0[self.0[of]];
            of = self.0[of];
        }
        of
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a] = b;
    }
}
