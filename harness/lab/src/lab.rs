//! A network in the kernel: one namespace per place, veth pairs for plain links, and for shaped ones
//! either a namespace with tbf and netem in the middle ([`kernel`]) or two TAP devices with the
//! engine between them ([`user`]). Names, addresses, routes and neighbours are the same.
//!
//! All namespaces are held by descriptors, and the engine lives as long as they: when the harness
//! dies, the kernel takes the whole lab away.

pub mod descriptors;
mod drops;
pub mod floating;
pub mod keeper;
mod kernel;
pub mod pinned;
mod places;
mod status;
mod user;

pub use drops::{Expected, LinkDrops, LinkReadings};
pub use status::{DirectionStatus, StageStatus};

use crate::{
    network::{Kind, LinkPlan, Network},
    shape::ShapePlan,
    sys::{
        link,
        netns::{Netns, Role},
        qdisc,
    },
};
use anyhow::{Context, Result};
use indexmap::IndexMap;
use limosa_record::random::seed_of;
use std::{collections::HashMap, future::pending, path::Path};

use self::{keeper::Kept, kernel::Middles, user::UserLinks};

/// Payload bytes of an Ethernet frame.
const MTU_BYTES: u32 = 1500;

/// The two ways to carry the packets of shaped links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's tbf and netem.
    Kernel,
    /// Limosa's engine.
    User,
}

impl Backend {
    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }
}

/// What shall carry the packets of shaped links, with what it needs.
#[derive(Debug, Clone, Copy)]
pub enum Carrier<'a> {
    /// The kernel's tbf and netem.
    Kernel,
    /// Limosa's engine.
    User {
        /// The program that has the subcommand `engine`.
        program: &'a Path,
        /// Where the engine's log goes.
        log: &'a Path,
    },
}

/// A live network.
#[derive(Debug)]
pub struct Lab {
    places: IndexMap<String, Netns>,
    /// Number of each interface in its namespace, by place and name.
    indices: HashMap<(String, String), u32>,
    links: Vec<LinkPlan>,
    shaped: Shaped,
    seed: u64,
}

/// What carries shaped links.
#[derive(Debug)]
enum Shaped {
    Kernel(Middles),
    User(UserLinks),
    /// By another process, which only tells what it does.
    Kept(Kept),
}

/// Both directions of a shaped link.
fn is_shaped(link: &LinkPlan) -> bool {
    link.a_to_b.is_some() || link.b_to_a.is_some()
}

impl Lab {
    /// Builds the network. Random losses follow from `seed`, the link and the direction.
    ///
    /// # Errors
    /// What the kernel refused; nothing is left behind.
    pub fn up(network: &Network, seed: u64, carrier: Carrier<'_>) -> Result<Self> {
        descriptors::suffice(network, carrier)?;
        let shaped = network.links.iter().filter(|l| is_shaped(l));
        let middles = match carrier {
            Carrier::Kernel => shaped.count(),
            Carrier::User { .. } => 0,
        };
        let role = |kind| match kind {
            Kind::Host => Role::Host,
            Kind::Switch => Role::Silent,
            Kind::Router => Role::Router,
        };
        let mut roles: Vec<Role> = network.places.values().map(|p| role(p.kind)).collect();
        roles.resize(roles.len() + middles, Role::Silent);
        let congestion = network.tcp_congestion.as_deref();
        let mut namespaces = Netns::create_with(&roles, congestion)?.into_iter();
        let places: IndexMap<String, Netns> =
            network.places.keys().cloned().zip(namespaces.by_ref()).collect();
        let indices = indices(network, |place, _| Ok(places[place].new_index()))?;
        let middles = Middles::number(network, namespaces);
        let links = network.links.clone();
        let shaped = Shaped::Kernel(middles);
        let mut lab = Self { places, indices, links, shaped, seed };
        lab.build(network, carrier).context("build the lab")?;
        Ok(lab)
    }

    /// Finds a network that is up, its namespaces given by the names of [`Lab::namespaces`], its
    /// shaped links held by the keeper if there is one.
    ///
    /// # Errors
    /// When a namespace or an interface is missing.
    pub fn open(
        network: &Network,
        find: impl Fn(&str) -> Result<Netns>,
        kept: Option<Kept>,
    ) -> Result<Self> {
        let mut places = IndexMap::new();
        for name in network.places.keys() {
            places.insert(name.clone(), find(&format!("{name}.netns"))?);
        }
        let indices = indices(network, |place, name| {
            index(&places[place], name).with_context(|| format!("open the node `{place}`"))
        })?;
        let shaped = match kept {
            Some(kept) => Shaped::Kept(kept),
            None => Shaped::Kernel(Middles::open(network, find)?),
        };
        Ok(Self { places, indices, links: network.links.clone(), shaped, seed: 0 })
    }

    /// All namespaces with a file name for each.
    pub fn namespaces(&self) -> impl Iterator<Item = (String, &Netns)> {
        let middles = match &self.shaped {
            Shaped::Kernel(middles) => Some(middles.namespaces()),
            Shaped::User(_) | Shaped::Kept(_) => None,
        };
        let places = self.places.iter().map(|(n, netns)| (format!("{n}.netns"), netns));
        places.chain(middles.into_iter().flatten())
    }

    /// The namespace of a place.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn place(&self, name: &str) -> Result<&Netns> {
        self.places.get(name).with_context(|| format!("the lab has no node `{name}`"))
    }

    /// The number of an interface in the namespace of its place.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn index(&self, place: &str, interface: &str) -> Result<u32> {
        let found = self.indices.get(&(place.to_owned(), interface.to_owned()));
        found.copied().with_context(|| format!("`{place}` has no interface `{interface}`"))
    }

    /// Gives all links their first shape again, which starts their sequences of random numbers
    /// anew: packets that came before, for calibration, then leave no trace in a trial.
    ///
    /// # Errors
    /// When the kernel or the engine refuses.
    pub fn rewind(&self) -> Result<()> {
        for plan in self.links.iter().filter(|l| is_shaped(l)) {
            self.reshape(&plan.name, plan.a_to_b.as_ref(), plan.b_to_a.as_ref())?;
        }
        Ok(())
    }

    /// Changes the shape of a shaped link in place; a direction without a new shape stays.
    ///
    /// # Errors
    /// When the kernel or the engine refuses, for example because there is no netem.
    pub fn reshape(
        &self,
        link: &str,
        a_to_b: Option<&ShapePlan>,
        b_to_a: Option<&ShapePlan>,
    ) -> Result<()> {
        let seeded = |direction: &str| {
            seed_of(&[&self.seed.to_le_bytes(), link.as_bytes(), direction.as_bytes()])
        };
        let a_to_b = a_to_b.map(|shape| (shape, seeded("a_to_b")));
        let b_to_a = b_to_a.map(|shape| (shape, seeded("b_to_a")));
        match &self.shaped {
            Shaped::Kernel(middles) => middles.reshape(link, [a_to_b, b_to_a]),
            Shaped::User(links) => links.reshape(link, [a_to_b, b_to_a]),
            Shaped::Kept(kept) => kept.refuse(),
        }
    }

    /// Makes ready what a later [`Lab::reshape`] to these shapes would take time for.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn expect<'a>(&self, shapes: impl IntoIterator<Item = &'a ShapePlan>) -> Result<()> {
        match &self.shaped {
            Shaped::User(links) => shapes.into_iter().try_for_each(|s| links.engine().teach(s)),
            Shaped::Kernel(_) | Shaped::Kept(_) => Ok(()),
        }
    }

    /// Cuts a link or mends it.
    ///
    /// # Errors
    /// When there is no such link, or the kernel or the engine refuses.
    pub fn set_link(&self, link: &str, up: bool) -> Result<()> {
        let plan = self.links.iter().find(|l| l.name == link);
        let plan = plan.with_context(|| format!("the lab has no link `{link}`"))?;
        if !is_shaped(plan) {
            // Both ends drop what they would send. An interface that is set down would lose its
            // routes, its permanent neighbours and its IPv6 addresses for good.
            let kind = if up { "noqueue" } else { "blackhole" };
            return plan.ends.iter().try_for_each(|end| {
                self.place(&end.0)?.apply([qdisc::set_plain(self.indices[end], kind)])
            });
        }
        // A shaped link is cut in its middle, so that the ends' addresses and routes stay.
        match &self.shaped {
            Shaped::Kernel(middles) => middles.set_up(link, up),
            Shaped::User(links) => links.set_up(link, up),
            Shaped::Kept(kept) => kept.refuse(),
        }
    }

    /// Both stages of both directions of every shaped link, as they are now.
    ///
    /// # Errors
    /// When the kernel or the engine cannot be asked.
    pub fn shapes(&self) -> Result<Vec<DirectionStatus>> {
        match &self.shaped {
            Shaped::Kernel(middles) => middles.shapes(),
            Shaped::User(links) => links.shapes(),
            Shaped::Kept(kept) => kept.shapes(),
        }
    }

    /// Waits until something that carries the lab has failed by itself, and says what.
    pub async fn failed(&self) -> String {
        match &self.shaped {
            Shaped::User(links) => links.ended().await,
            Shaped::Kernel(_) | Shaped::Kept(_) => pending().await,
        }
    }

    /// The engine, where the links are in user space.
    pub fn engine(&self) -> Option<&crate::engine::Engine> {
        match &self.shaped {
            Shaped::User(links) => Some(links.engine()),
            Shaped::Kernel(_) | Shaped::Kept(_) => None,
        }
    }
}

/// The number of an interface by its name.
fn index(netns: &Netns, wanted: &str) -> Result<u32> {
    let found = link::list(netns)?.into_iter().find(|l| l.name == wanted);
    found.map(|l| l.index).with_context(|| format!("the interface `{wanted}` is gone"))
}

/// The number of each interface, by place and name.
fn indices(
    network: &Network,
    number: impl Fn(&str, &str) -> Result<u32>,
) -> Result<HashMap<(String, String), u32>> {
    let mut indices = HashMap::new();
    for (place, plan) in &network.places {
        for interface in &plan.interfaces {
            let index = number(place, &interface.name)?;
            indices.insert((place.clone(), interface.name.clone()), index);
        }
    }
    Ok(indices)
}
