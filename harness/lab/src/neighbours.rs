//! Which stations of a segment know each other's Ethernet addresses from the start, so that no
//! packet waits for ARP or neighbour discovery.
//!
//! In a segment of ordinary size everybody knows everybody. The entries are the square of the
//! stations, and a thousand hosts would spend a gigabyte and most of their time on them. So in a
//! large one those know each other that will talk: routers and everybody, and all places that the
//! network names as talkers. Others find each other by ARP, once.

use crate::network::{Kind, Network};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

/// Stations of the largest segment in which everybody knows everybody.
pub const MOST_ACQUAINTED: usize = 128;

/// What a place knows of another station: its own interface, their address, their MAC.
pub type Neighbour<'n> = (&'n str, IpAddr, [u8; 6]);

impl Network {
    /// The permanent neighbours of each place that has any.
    pub fn neighbours(&self) -> HashMap<&str, Vec<Neighbour<'_>>> {
        let mut known: HashMap<&str, Vec<Neighbour<'_>>> = HashMap::new();
        for members in stations(self).values() {
            let of = |(place, i): &(String, usize)| {
                let (name, plan) = self.places.get_key_value(place)?;
                let talks = plan.kind == Kind::Router;
                Some((name.as_str(), plan.interfaces.get(*i)?, talks, self.talks(name)))
            };
            let all: Vec<_> = members.iter().filter_map(of).collect();
            let small = all.len() <= MOST_ACQUAINTED;
            // In a large segment most know only the few that talk to many.
            let few: Vec<_> =
                all.iter().filter(|(_, _, router, party)| *router || *party).collect();
            for (place, mine, router, party) in &all {
                let others: Box<dyn Iterator<Item = _>> = match small || *router {
                    true => Box::new(all.iter()),
                    false => Box::new(few.iter().copied().filter(|o| o.2 || *party)),
                };
                let others = others.filter(|other| other.0 != *place);
                let entries = others.flat_map(|(_, theirs, ..)| {
                    theirs.addresses.iter().map(|net| (&*mine.name, net.addr(), theirs.mac))
                });
                known.entry(place).or_default().extend(entries);
            }
        }
        known
    }

    fn talks(&self, place: &str) -> bool {
        self.talkers.contains(place)
    }
}

/// Stations of a segment: place and number of the interface, in the order of MACs, that is, links.
pub fn stations(network: &Network) -> BTreeMap<usize, Vec<(String, usize)>> {
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
