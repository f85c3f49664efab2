//! An address that belongs to a node, not to a place, and moves along with it.
//!
//! It is on an interface of the place where the node is, and every other station of that segment
//! knows the interface's Ethernet address by a permanent neighbour entry. While the node is on its
//! way the address is nowhere: what is sent to it still reaches the old place, which drops it
//! without a word, so that no kernel answers for a connection that it does not have. The neighbour
//! entries change when the node lives again.

use super::Lab;
use crate::{
    network::{Kind, Network},
    sys::{
        egress,
        link::{self, Mac},
        netns::Netns,
    },
};
use anyhow::{Context, Result};
use std::{cell::RefCell, net::IpAddr};

/// Priority of the rule for the address on a host with several interfaces: before the others'.
const RULE: u32 = 999;

/// One interface on the address' segment.
#[derive(Debug)]
struct Station {
    place: String,
    netns: Netns,
    index: u32,
    mac: Mac,
    /// The routing table of this interface, on a host that has one per interface.
    table: Option<u32>,
}

/// An address and where it may be.
#[derive(Debug)]
pub struct Floating {
    address: IpAddr,
    stations: Vec<Station>,
    /// Where it is.
    home: RefCell<Option<String>>,
    /// Where the kernel is kept from sending from this address.
    blocked: RefCell<Option<String>>,
}

impl Lab {
    /// Prepares an address that is in a subnet of the network; it is nowhere yet.
    ///
    /// # Errors
    /// When a namespace cannot be opened a second time.
    pub fn floating(&self, network: &Network, address: IpAddr) -> Result<Floating> {
        let mut stations = Vec::new();
        for (place, plan) in network.places.iter().filter(|(_, p)| p.kind != Kind::Switch) {
            let Some(interface) = network.interface_near(place, address) else { continue };
            let own = |from: IpAddr| interface.addresses.iter().any(|net| net.addr() == from);
            stations.push(Station {
                place: place.clone(),
                netns: self.place(place)?.again()?,
                index: self.indices[&(place.clone(), interface.name.clone())],
                mac: interface.mac,
                table: plan.rules.iter().find(|rule| own(rule.from)).map(|rule| rule.table),
            });
        }
        Ok(Floating { address, stations, home: RefCell::default(), blocked: RefCell::default() })
    }
}

impl Floating {
    fn at(&self, place: &str) -> Result<&Station> {
        let found = self.stations.iter().find(|s| s.place == place);
        found.with_context(|| format!("{} is in no subnet of `{place}`", self.address))
    }

    /// Gives it to a place, without telling the neighbours. Where it was before must not have
    /// sockets any more that could send from it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn assign(&self, place: &str) -> Result<()> {
        let (station, home) = (self.at(place)?, self.home.borrow().clone());
        match home {
            Some(home) if home == place => return Ok(()),
            Some(home) => self.withdraw(&home)?,
            None => {}
        }
        if let Some(before) = self.blocked.take() {
            self.at(&before)?.netns.apply(egress::unblock_from(self.address))?;
        }
        // A host route: nothing but this address changes, and nobody else's source address.
        let (address, length) = (self.address, if self.address.is_ipv4() { 32 } else { 128 });
        let rule = station.table.map(|table| link::add_rule(address, table, RULE));
        let given = link::add_address(station.index, address, length);
        station.netns.apply([given].into_iter().chain(rule))?;
        self.home.replace(Some(place.to_owned()));
        Ok(())
    }

    /// Whether it is nowhere, taken from a place.
    pub fn is_withdrawn(&self) -> bool {
        self.blocked.borrow().is_some()
    }

    /// Has all neighbours send to a place.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lead(&self, place: &str) -> Result<()> {
        let mac = self.at(place)?.mac;
        self.stations
            .iter()
            .filter(|station| station.place != place)
            .try_for_each(|s| s.netns.apply([link::set_neighbour(s.index, self.address, mac)]))
    }

    /// Takes it from a place, whose sockets from then on neither send nor receive under it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn withdraw(&self, place: &str) -> Result<()> {
        let station = self.at(place)?;
        let (address, length) = (self.address, if self.address.is_ipv4() { 32 } else { 128 });
        let rule = station.table.map(|table| link::delete_rule(address, table, RULE));
        let taken = link::delete_address(station.index, address, length);
        // IPv6 also sends from addresses that are gone.
        let block = egress::block_from(address);
        station.netns.apply([block, taken].into_iter().chain(rule))?;
        self.home.take();
        self.blocked.replace(Some(place.to_owned()));
        Ok(())
    }
}
