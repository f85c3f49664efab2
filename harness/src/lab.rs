//! A network in the kernel: one namespace per place, one per shaped link, veth pairs between them.
//!
//! A shaped link has a middle namespace with four devices: `a` and `b` are the peers of its two
//! ends, and the pair `ra`–`rb` joins two bridges, so that a packet crosses
//!
//! ```text
//! end A ── a ═bridge═ ra ── rb ═bridge═ b ── end B
//! ```
//!
//! From A to B the rate and its queue (tbf) are on `ra`, delay and loss (netem) on `b`; from B to
//! A they are on `rb` and `a`. So both stages are on different devices and none is in an
//! endpoint's namespace. All namespaces are held by descriptors: when the harness dies, the kernel
//! takes the whole lab away.

use crate::{
    plan::{
        DelayStage, InterfacePlan, LinkPlan, LossPlan, Network, PlacePlan, RateStage, ShapePlan,
        seed_of,
    },
    spec::Kind,
    sys::{
        link,
        netlink::Request,
        netns::{Netns, Role},
        offload,
        qdisc::{self, Loss, Netem, Qdisc, Tbf},
    },
};
use anyhow::{Context, Result};
use indexmap::IndexMap;
use std::{collections::HashMap, thread, time::Duration};

mod drops;
pub mod pinned;

pub use drops::LinkDrops;

/// Payload bytes of an Ethernet frame.
const MTU_BYTES: u32 = 1500;

/// How long the kernel may take until new links carry packets.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// Priority of the first rule of a multi-homed host; below the kernel's own 32766.
const FIRST_RULE: u32 = 1000;

/// A live network.
#[derive(Debug)]
pub struct Lab {
    places: IndexMap<String, Netns>,
    middles: IndexMap<String, Middle>,
    /// Number of each interface in its namespace, by place and name.
    indices: HashMap<(String, String), u32>,
    links: Vec<LinkPlan>,
    seed: u64,
}

/// The namespace in the middle of a shaped link.
#[derive(Debug)]
struct Middle {
    netns: Netns,
    a: u32,
    b: u32,
    ra: u32,
    rb: u32,
}

/// What the kernel says of one direction of a shaped link.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectionStatus {
    /// Name of the link.
    pub link: String,
    /// `a_to_b` or `b_to_a`.
    pub direction: &'static str,
    /// The rate stage as read back.
    pub rate: Option<qdisc::Status>,
    /// The delay stage as read back.
    pub delay: Option<qdisc::Status>,
}

impl Lab {
    /// Builds the network. Random losses follow from `seed`, the link and the direction.
    ///
    /// # Errors
    /// What the kernel refused; nothing is left behind.
    pub fn up(network: &Network, seed: u64) -> Result<Self> {
        let shaped = |l: &&LinkPlan| l.a_to_b.is_some() || l.b_to_a.is_some();
        let roles: Vec<Role> = network
            .places
            .values()
            .map(|p| match p.kind {
                Kind::Host => Role::Host,
                Kind::Switch => Role::Silent,
                Kind::Router => Role::Router,
            })
            .chain(network.links.iter().filter(shaped).map(|_| Role::Silent))
            .collect();
        let mut namespaces = Netns::create(&roles)?.into_iter();
        let places: IndexMap<String, Netns> =
            network.places.keys().cloned().zip(namespaces.by_ref()).collect();
        let number = |place: &str, _: &str| Ok(places[place].new_index());
        let indices = indices(network, number)?;
        let mut middles = IndexMap::new();
        for (link, netns) in network.links.iter().filter(shaped).zip(namespaces) {
            let [a, b, ra, rb] = [(); 4].map(|()| netns.new_index());
            middles.insert(link.name.clone(), Middle { netns, a, b, ra, rb });
        }
        let links = network.links.clone();
        let lab = Self { places, middles, indices, links, seed };
        lab.build(network).context("build the lab")?;
        Ok(lab)
    }

    /// Finds a network that is up, its namespaces given by the names of [`Lab::namespaces`].
    ///
    /// # Errors
    /// When a namespace or an interface is missing.
    pub fn open(network: &Network, find: impl Fn(&str) -> Result<Netns>) -> Result<Self> {
        let mut places = IndexMap::new();
        for name in network.places.keys() {
            places.insert(name.clone(), find(&format!("{name}.netns"))?);
        }
        let index = |netns: &Netns, wanted: &str| {
            let found = link::list(netns)?.into_iter().find(|l| l.name == wanted);
            found.map(|l| l.index).with_context(|| format!("the interface `{wanted}` is gone"))
        };
        let indices = indices(network, |place, name| index(&places[place], name))?;
        let mut middles = IndexMap::new();
        let shaped = |l: &LinkPlan| l.a_to_b.is_some() || l.b_to_a.is_some();
        for (i, link) in network.links.iter().enumerate().filter(|(_, l)| shaped(l)) {
            let netns = find(&format!("link{i}.middle.netns"))?;
            let [a, b, ra, rb] = ["a", "b", "ra", "rb"].map(|name| index(&netns, name));
            let middle = Middle { a: a?, b: b?, ra: ra?, rb: rb?, netns };
            middles.insert(link.name.clone(), middle);
        }
        Ok(Self { places, middles, indices, links: network.links.clone(), seed: 0 })
    }

    /// All namespaces with a file name for each.
    pub fn namespaces(&self) -> impl Iterator<Item = (String, &Netns)> {
        let number = |name: &str| self.links.iter().position(|l| l.name == name).unwrap_or(0);
        let middles = self.middles.iter();
        let middles =
            middles.map(move |(n, m)| (format!("link{}.middle.netns", number(n)), &m.netns));
        self.places.iter().map(|(n, netns)| (format!("{n}.netns"), netns)).chain(middles)
    }

    fn build(&self, network: &Network) -> Result<()> {
        let mut bridges = HashMap::new();
        for (name, _) in network.places.iter().filter(|(_, p)| p.kind == Kind::Switch) {
            let index = self.places[name].new_index();
            bridges.insert(name.as_str(), index);
            self.places[name].apply([link::bridge(index, "br0")])?;
        }
        for plan in &network.links {
            match self.middles.get(&plan.name) {
                Some(middle) => self.build_shaped(network, &bridges, plan, middle)?,
                None => self.build_plain(network, &bridges, plan)?,
            }
        }
        // The kernel configures namespaces side by side, so a lab of hundreds takes all processors.
        let places: Vec<_> = network.places.iter().collect();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let parts = places.chunks(places.len().div_ceil(threads).max(1));
            let workers: Vec<_> = parts
                .map(|part| {
                    scope.spawn(move || {
                        part.iter()
                            .try_for_each(|(name, place)| self.configure(network, name, place))
                    })
                })
                .collect();
            let join = |w: thread::ScopedJoinHandle<'_, Result<()>>| {
                w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().try_for_each(join)
        })
    }

    /// Everything inside a place, until its links carry packets.
    fn configure(&self, network: &Network, name: &str, place: &PlacePlan) -> Result<()> {
        let netns = &self.places[name];
        netns.apply(self.configuration(network, name, place))?;
        for interface in &place.interfaces {
            offload::disable(netns, &interface.name)?;
        }
        let index = |i: &InterfacePlan| self.indices[&(name.to_owned(), i.name.clone())];
        let own: Vec<u32> = place.interfaces.iter().map(index).collect();
        link::wait_ready(netns, &own, READY_LIMIT)
    }

    /// Gives all links their first shape again, which starts their sequences of random numbers
    /// anew: packets that came before, for calibration, then leave no trace in a trial.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rewind(&self) -> Result<()> {
        let shaped = self.links.iter().filter(|l| self.middles.contains_key(&l.name));
        for plan in shaped {
            self.reshape(&plan.name, plan.a_to_b.as_ref(), plan.b_to_a.as_ref())?;
        }
        Ok(())
    }

    fn end<'n>(
        &'n self,
        network: &'n Network,
        end: &'n (String, String),
    ) -> (&'n Netns, link::End) {
        let plan = network.interface(&end.0, &end.1);
        let mac = plan.map(|i| i.mac).unwrap_or_default();
        let (index, name) = (self.indices[end], end.1.clone());
        (&self.places[&end.0], link::End { index, name, mac, mtu_bytes: MTU_BYTES })
    }

    fn build_plain(
        &self,
        network: &Network,
        bridges: &HashMap<&str, u32>,
        plan: &LinkPlan,
    ) -> Result<()> {
        // The near end may be a bridge's port at once, so a switch goes first.
        let mut ends = [&plan.ends[0], &plan.ends[1]];
        if !bridges.contains_key(&*ends[0].0) {
            ends.reverse();
        }
        let (near_netns, near) = self.end(network, ends[0]);
        let (far_netns, far) = self.end(network, ends[1]);
        let port_of = bridges.get(&*ends[0].0).copied();
        near_netns.apply([link::veth(&near, port_of, far_netns, &far)])?;
        if let Some(bridge) = bridges.get(&*ends[1].0) {
            far_netns.apply([link::enslave(far.index, Some(*bridge))])?;
        }
        far_netns.apply([link::set_up(far.index, true)])
    }

    fn build_shaped(
        &self,
        network: &Network,
        bridges: &HashMap<&str, u32>,
        plan: &LinkPlan,
        middle: &Middle,
    ) -> Result<()> {
        let netns = &middle.netns;
        let inner = |index, name: &str, last| link::End {
            index,
            name: name.into(),
            mac: [0x02, 0x4c, 0xff, 0, 0, last],
            mtu_bytes: MTU_BYTES,
        };
        let (bridge_a, bridge_b) = (netns.new_index(), netns.new_index());
        let (a_netns, a_end) = self.end(network, &plan.ends[0]);
        let (b_netns, b_end) = self.end(network, &plan.ends[1]);
        netns.apply([
            link::bridge(bridge_a, "bra"),
            link::bridge(bridge_b, "brb"),
            link::veth(&inner(middle.a, "a", 1), Some(bridge_a), a_netns, &a_end),
            link::veth(&inner(middle.b, "b", 2), Some(bridge_b), b_netns, &b_end),
            link::veth(
                &inner(middle.ra, "ra", 3),
                Some(bridge_a),
                netns,
                &inner(middle.rb, "rb", 4),
            ),
            link::enslave(middle.rb, Some(bridge_b)),
            link::set_up(middle.rb, true),
        ])?;
        for (end, far, far_netns) in
            [(&plan.ends[0], &a_end, a_netns), (&plan.ends[1], &b_end, b_netns)]
        {
            if let Some(bridge) = bridges.get(&*end.0) {
                far_netns.apply([link::enslave(far.index, Some(*bridge))])?;
            }
            far_netns.apply([link::set_up(far.index, true)])?;
        }
        for device in ["a", "b", "ra", "rb"] {
            offload::disable(netns, device)?;
        }
        self.reshape(&plan.name, plan.a_to_b.as_ref(), plan.b_to_a.as_ref())
    }

    /// Everything about a place's own interfaces: addresses, routes, rules, neighbours.
    fn configuration<'n>(
        &self,
        network: &'n Network,
        name: &'n str,
        place: &PlacePlan,
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
        for (interface, address, mac) in network.neighbours(name) {
            requests.push(link::set_neighbour(index(interface), address, mac));
        }
        requests
    }

    /// The namespace of a place.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn place(&self, name: &str) -> Result<&Netns> {
        self.places.get(name).with_context(|| format!("the lab has no node `{name}`"))
    }

    /// Changes the shape of a shaped link in place; a direction without a new shape stays.
    ///
    /// # Errors
    /// When the kernel refuses, for example because it has no netem.
    pub fn reshape(
        &self,
        link: &str,
        a_to_b: Option<&ShapePlan>,
        b_to_a: Option<&ShapePlan>,
    ) -> Result<()> {
        let middle = self.middles.get(link).with_context(|| format!("`{link}` is not shaped"))?;
        let directions =
            [("a_to_b", a_to_b, middle.ra, middle.b), ("b_to_a", b_to_a, middle.rb, middle.a)];
        for (direction, shape, rate_device, delay_device) in directions {
            let Some(shape) = shape else { continue };
            let seed = seed_of(&[&self.seed.to_le_bytes(), link.as_bytes(), direction.as_bytes()]);
            let rate = Qdisc::Tbf(tbf(shape.rate));
            let delay = Qdisc::Netem(netem(&shape.delay, seed));
            let requests = [qdisc::set(rate_device, &rate), qdisc::set(delay_device, &delay)];
            middle.netns.apply(requests).with_context(|| format!("shape link `{link}`"))?;
        }
        Ok(())
    }

    /// Cuts a link or mends it.
    ///
    /// # Errors
    /// When there is no such link or the kernel refuses.
    pub fn set_link(&self, link: &str, up: bool) -> Result<()> {
        let plan = self.links.iter().find(|l| l.name == link);
        let plan = plan.with_context(|| format!("the lab has no link `{link}`"))?;
        // A shaped link is cut in its middle, so that the ends' addresses and routes stay.
        match self.middles.get(link) {
            Some(middle) => middle.netns.apply([link::set_up(middle.ra, up)]),
            None => {
                let end = &plan.ends[0];
                self.place(&end.0)?.apply([link::set_up(self.indices[end], up)])
            }
        }
    }

    /// Both stages of both directions of every shaped link, as the kernel holds them now.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn shapes(&self) -> Result<Vec<DirectionStatus>> {
        let mut all = Vec::new();
        for (name, middle) in &self.middles {
            let stages = qdisc::list(&middle.netns)?;
            let on = |device: u32| stages.iter().find(|s| s.link == device).copied();
            for (direction, rate, delay) in
                [("a_to_b", middle.ra, middle.b), ("b_to_a", middle.rb, middle.a)]
            {
                let link = name.clone();
                all.push(DirectionStatus { link, direction, rate: on(rate), delay: on(delay) });
            }
        }
        Ok(all)
    }
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

/// Without a rate limit the stage stays, wide open, so that it can be narrowed during a run.
fn tbf(rate: Option<RateStage>) -> Tbf {
    let open =
        RateStage { rate_bps: 100_000_000_000, burst_bytes: 64 << 20, limit_bytes: 256 << 20 };
    let RateStage { rate_bps, burst_bytes, limit_bytes } = rate.unwrap_or(open);
    Tbf { rate_bps, burst_bytes, limit_bytes }
}

fn netem(delay: &DelayStage, seed: u64) -> Netem {
    Netem {
        delay_ns: delay.delay_ns,
        jitter_ns: delay.jitter_ns,
        jitter_reorders: delay.jitter_reorders,
        loss: match delay.loss {
            LossPlan::Random { ratio } => Loss::Random { ratio },
            LossPlan::GilbertElliott {
                to_bad_ratio,
                to_good_ratio,
                bad_loss_ratio,
                good_loss_ratio,
            } => Loss::GilbertElliott {
                to_bad_ratio,
                to_good_ratio,
                bad_loss_ratio,
                good_loss_ratio,
            },
        },
        duplicate_ratio: delay.duplicate_ratio,
        corrupt_ratio: delay.corrupt_ratio,
        reorder_ratio: delay.reorder_ratio,
        reorder_gap: 0,
        limit_packets: delay.limit_packets,
        seed: Some(seed),
    }
}
